//! Pairings without daemons: two plain commands, process start and joining the DHT included (acceptance line 2).

use std::time::Duration;

use anyhow::Result;

use super::pairing::{Pairing, check_limits, check_mutual, check_runs, pair_cold, report_times};
use super::{Options, world::World};
use crate::report::Report;

/// Fourteen round trips of 50 ms.
const MEDIAN_LIMIT: Duration = Duration::from_millis(700);

/// What a second lookup or a lost packet may cost on top.
const P95_LIMIT: Duration = Duration::from_millis(1500);

/// Pairs `runs` times, each time two new devices that start with the command.
///
/// # Errors
/// When the lab cannot be made; a failed pairing is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let mut report = Report::of_times("pairings by words, two plain commands, 25 ms one way");
    let (mut pairings, mut errors) = (Vec::new(), Vec::new());
    for run in 0..options.runs {
        match once(&world, run, options.gap) {
            Ok(pairing) => pairings.push(pairing),
            Err(error) => errors.push(format!("run {run}: {error:#}")),
        }
    }
    report_times(&mut report, &pairings);
    check_runs(&mut report, options.runs, &pairings, &errors);
    if options.limits {
        check_limits(&mut report, &pairings, MEDIAN_LIMIT, P95_LIMIT);
    }
    report.fact("nodes", options.nodes);
    report.fact("gap_ms", options.gap.as_millis());
    Ok(report)
}

fn once(world: &World, run: usize, gap: Duration) -> Result<Pairing> {
    // The commands take no name, so the check afterwards must not give one either.
    let mut alice = world.device("alice", &format!("alice-{run}"))?.unnamed();
    let mut bob = world.device("bob", &format!("bob-{run}"))?.unnamed();
    let pairing = pair_cold(&alice, &bob, gap)?;
    alice.start_daemon()?;
    bob.start_daemon()?;
    check_mutual(&alice, &bob)?;
    alice.stop()?;
    bob.stop()?;
    Ok(pairing)
}
