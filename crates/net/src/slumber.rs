//! Whether this machine, or this program, has slept: the others may have given it up meanwhile, and its own timers, which
//! run by a clock that sleeps as well, know nothing of it.
//!
//! Nothing here wakes up on a schedule. The system tells when the machine resumes (it cancels a timer that is bound to the
//! wall clock, which it sets then) and when the program is continued; the clocks are also compared whenever the driver is
//! awake anyway.

use std::future::pending;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

/// A shorter sleep loses no connection.
const SLEEP: Duration = Duration::from_secs(2);

/// How often a program that is stopped and continued again and again looks around.
const CONTINUED: Duration = Duration::from_secs(10);

/// When the timer that is to be cancelled would fire: in a century or two, as seconds since 1970.
const NEVER: i64 = 8_000_000_000;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// Since the machine was started, the time that it slept included.
    since_boot: Duration,
    /// The same without it.
    awake: Duration,
}

/// Notices sleep.
pub(crate) struct Slumber {
    before: Option<Reading>,
    clock_set: Option<AsyncFd<Timer>>,
    continued: Option<Signals>,
    was_continued: bool,
    /// When it was last told that we have slept.
    told: Option<Duration>,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Slumber {
    /// Watches a device; a node has others that come back to it.
    pub(crate) fn start(watches: bool) -> Slumber {
        let started = watches.then(|| (timer(), signal(SignalKind::from_raw(Signal::SIGCONT as i32))));
        let (clock_set, continued) = started.map_or((None, None), |(timer, continued)| {
            let told = |error: &std::io::Error| tracing::warn!(%error, "sleep is noticed late");
            (timer.inspect_err(told).ok(), continued.inspect_err(told).ok())
        });
        Slumber { before: watches.then(read).flatten(), clock_set, continued, was_continued: false, told: None }
    }

    /// Waits until [`Slumber::is_over`] may have news. Safe to drop before it is ready.
    pub(crate) async fn ended(&mut self) {
        let Slumber { clock_set, continued, was_continued, .. } = self;
        tokio::select! {
            () = cancelled(clock_set.as_ref()) => {}
            () = next(continued) => *was_continued = true,
        }
    }

    /// Whether we have slept since it was asked last.
    pub(crate) fn is_over(&mut self) -> bool {
        let was_continued = std::mem::take(&mut self.was_continued);
        let Some(before) = self.before else { return false };
        let Some(now) = read() else { return false };
        self.before = Some(now);
        let is_over = has_slept(before, now, self.told, was_continued);
        if is_over {
            self.told = Some(now.awake);
        }
        is_over
    }
}

/// Whether somebody has slept in between: the machine, whose one clock then goes on alone, or the program, of which only its
/// end is known and not for how long.
fn has_slept(before: Reading, now: Reading, told: Option<Duration>, was_continued: bool) -> bool {
    let (total, awake) = (now.since_boot.saturating_sub(before.since_boot), now.awake.saturating_sub(before.awake));
    let is_news = told.is_none_or(|at| now.awake.saturating_sub(at) >= CONTINUED);
    total.saturating_sub(awake) > SLEEP || (was_continued && is_news)
}

fn read() -> Option<Reading> {
    let time = |clock| clock_gettime(clock).ok().map(Duration::from);
    // In this order: what passes between the two readings must not look like sleep.
    let since_boot = time(ClockId::CLOCK_BOOTTIME)?;
    Some(Reading { since_boot, awake: time(ClockId::CLOCK_MONOTONIC)? })
}

#[expect(deprecated, reason = "what replaces it is unsafe; nobody else closes a descriptor that we own")]
fn timer() -> std::io::Result<AsyncFd<Timer>> {
    let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags)?;
    AsyncFd::new(Timer(timer))
}

/// Waits until the wall clock has been set.
async fn cancelled(timer: Option<&AsyncFd<Timer>>) {
    let Some(timer) = timer else { return pending().await };
    loop {
        let Ok(mut ready) = timer.readable().await else { return pending().await };
        ready.clear_ready();
        if timer.get_ref().0.wait().is_ok() {
            return;
        }
    }
}

async fn next(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => match signals.recv().await {
            Some(()) => {}
            None => pending().await,
        },
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(since_boot: u64, awake: u64) -> Reading {
        Reading { since_boot: Duration::from_millis(since_boot), awake: Duration::from_millis(awake) }
    }

    #[test]
    fn a_machine_has_slept_when_one_clock_has_gone_on_alone() {
        for (now, expected) in [
            (reading(100_000, 60_000), true),
            (reading(62_001, 60_000), true),
            (reading(62_000, 60_000), false),
            // However long nothing was done.
            (reading(9_050_000, 9_050_000), false),
            // It was slept before.
            (reading(50_500, 50_500), false),
        ] {
            assert_eq!(has_slept(reading(50_000, 50_000), now, None, false), expected, "{now:?}");
        }
        assert!(!has_slept(reading(90_000, 50_000), reading(100_000, 60_000), None, false), "that was before");
    }

    #[test]
    fn a_program_has_slept_when_it_is_continued_and_again_after_ten_seconds() {
        let (before, now) = (reading(50_000, 50_000), reading(90_000, 90_000));
        assert!(has_slept(before, now, None, true));
        assert!(!has_slept(before, now, None, false), "it was idle");
        for (told, expected) in [(80_000, true), (80_001, false)] {
            assert_eq!(has_slept(before, now, Some(Duration::from_millis(told)), true), expected);
        }
    }

    #[test]
    fn clocks_that_are_read_one_after_the_other_are_no_sleep() {
        let readings: Vec<Reading> = (0..1_000).map(|_| read().expect("clocks")).collect();
        assert!(readings.windows(2).all(|two| !has_slept(two[0], two[1], None, false)));
    }

    #[tokio::test]
    async fn one_that_is_continued_is_woken_and_nobody_else_is() {
        let mut slumber = Slumber::start(true);
        assert!(!slumber.is_over());
        let waits = tokio::time::timeout(Duration::from_millis(50), slumber.ended()).await;
        assert!(waits.is_err(), "nothing wakes it");
        nix::sys::signal::raise(Signal::SIGCONT).expect("a signal to ourselves");
        slumber.ended().await;
        assert!(slumber.is_over());
        assert!(!slumber.is_over(), "told once");
    }
}
