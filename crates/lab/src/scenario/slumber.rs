//! A paired device is stopped for longer than anybody waits for it, and continued: it is answered at once in both directions.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::pairing::pair;
use super::{Options, world::World};
use crate::nat::Nat;
use crate::report::Report;
use crate::stats::Summary;
use crate::topology::Lab;

/// How long a device that has just started gets to enter the DHT and to reserve at relays.
const WARM_UP: Duration = Duration::from_secs(4);

/// Five times what it takes to give a silent device up.
const STOPPED: Duration = Duration::from_secs(40);

/// How long the answer may take from then on.
const LIMIT: Duration = Duration::from_secs(5);

/// How long it is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Pairs two devices behind NATs and stops one of them `runs` times.
///
/// # Errors
/// When the lab cannot be made, the pairing fails, or the device cannot be stopped.
pub fn run(options: &Options) -> Result<Report> {
    let mut builder = Lab::empty().behind(Nat::PortRestricted, "alice").behind(Nat::Symmetric, "bob");
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let (mut alice, mut bob) = (world.device("alice", "alice")?, world.device("bob", "bob")?);
    alice.start_daemon()?;
    bob.start_daemon()?;
    std::thread::sleep(WARM_UP);
    pair(&alice, &bob, options.gap)?;
    let (id, other) = (alice.status()?.id, bob.status()?.id);
    let mut report = Report::of_times("ping after a device was stopped for 40 s, from the moment that it goes on");
    for (way, from, to) in [("to it", &bob, &id), ("from it", &alice, &other)] {
        let (mut times, mut errors) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            alice.daemon()?.freeze()?;
            std::thread::sleep(STOPPED);
            alice.daemon()?.thaw()?;
            let since = Instant::now();
            match from.ping(to, ANSWER_LIMIT) {
                Ok(_) => times.push(since.elapsed()),
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        report.times(way, Summary::of(&times));
        let slowest = times.iter().max().copied().unwrap_or_default();
        let holds = errors.is_empty() && (!options.limits || slowest <= LIMIT);
        let seen = format!("{} of {}, at most {slowest:?} {}", times.len(), options.runs, errors.join("; "));
        report.check(&format!("{way}: answered within {LIMIT:?}"), holds, seen);
    }
    Ok(report)
}
