//! `ping`: round trips to a paired device over its authenticated channel.

use std::time::Duration;

use handfast::{Cause, EVENT_VERSION, Error, Event, EventKind};

use super::Context;
use crate::args::Ping;
use crate::daemon::{Access, PingReply};
use crate::render::clean;
use crate::signals::{INTERRUPTED, Signals};

/// How long a device is looked for that is not connected.
const FIND: Duration = Duration::from_secs(20);

/// A search that takes longer is told.
const SILENCE: Duration = Duration::from_secs(1);

/// Between two pings.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Ping) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let access = Access::running_or_own(&context.instance, &args.network).await?;
    super::say_if_options_are_late(context, &args.network, &access);
    let done = tokio::select! {
        done = pings(context, args, &access) => done,
        () = signals.next() => Ok(INTERRUPTED),
    };
    access.end().await;
    done
}

async fn pings(context: &Context, args: &Ping, access: &Access) -> Result<u8, Error> {
    let mut times = Vec::new();
    let mut lost = None;
    for n in 1..=args.count {
        if n > 1 {
            tokio::time::sleep(PAUSE).await;
        }
        match ping(context, args, access).await {
            Ok(trip) => {
                times.push(trip.rtt_ms);
                show(context, n, trip);
            }
            // A lost one may be followed by one that comes back; a device that is not there stays away.
            Err(error) if error.cause == Cause::TimedOut && n < args.count => {
                if !context.out.is_json() {
                    context.out.talk(&format!("{n}: no answer"));
                }
                lost = Some(error);
            }
            Err(error) if times.is_empty() => return Err(error),
            Err(error) => lost = Some(error),
        }
        if lost.as_ref().is_some_and(|error| error.cause != Cause::TimedOut) {
            break;
        }
    }
    match lost {
        Some(error) if times.is_empty() => Err(error),
        _ => {
            if !context.out.is_json() {
                context.out.text(&summary(args.count, &times));
            }
            Ok(0)
        }
    }
}

/// One ping; a person is told what it waits for.
async fn ping(context: &Context, args: &Ping, access: &Access) -> Result<PingReply, Error> {
    let trip = access.client.ping(&args.device, FIND);
    tokio::pin!(trip);
    if let Ok(trip) = tokio::time::timeout(SILENCE, &mut trip).await {
        return trip;
    }
    if !context.out.is_json() {
        // If the device list does not tell, the ping itself will say why.
        let connected = access.client.device(&args.device).await.is_ok_and(|device| device.connected);
        context.out.talk(&waiting(&args.device, connected));
    }
    trip.await
}

fn waiting(device: &str, connected: bool) -> String {
    let name = clean(device);
    if connected {
        format!("Connected; waiting for an answer of {name}.")
    } else {
        format!("Looking for {name}, for up to {} s.", FIND.as_secs())
    }
}

fn show(context: &Context, n: u32, trip: PingReply) {
    let PingReply { device, rtt_ms, path, address } = trip;
    if context.out.is_json() {
        // Three digits of a millisecond: what is behind them is the scheduler's.
        let rtt_ms = (rtt_ms * 1e3).round() / 1e3;
        let kind = EventKind::Pong { device, n, rtt_ms, path, address };
        context.out.json_line(&Event { v: EVENT_VERSION, seq: u64::from(n), time: handfast::now_rfc3339(), kind });
    } else {
        let (name, path, address) = (clean(&device.name), clean(&path), clean(&address));
        context.out.text(&format!("{n}: {name} answers in {rtt_ms:.1} ms, {path}, {address}"));
    }
}

fn summary(sent: u32, times: &[f64]) -> String {
    let min = times.iter().copied().fold(f64::INFINITY, f64::min);
    let max = times.iter().copied().fold(0.0, f64::max);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    format!("{} of {sent} answered; {min:.1} ms at best, {mean:.1} ms on average, {max:.1} ms at worst", times.len())
}

#[cfg(test)]
mod tests {
    use super::{summary, waiting};

    #[test]
    fn who_is_connected_is_not_looked_for() {
        assert_eq!(waiting("bob", true), "Connected; waiting for an answer of bob.");
        assert_eq!(waiting("bob\r", false), "Looking for bob\u{fffd}, for up to 20 s.");
    }

    #[test]
    fn the_summary_counts_and_measures() {
        assert_eq!(summary(4, &[1.0, 2.0, 6.0]), "3 of 4 answered; 1.0 ms at best, 3.0 ms on average, 6.0 ms at worst");
    }
}
