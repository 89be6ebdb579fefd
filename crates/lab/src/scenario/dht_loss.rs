//! Half of the DHT dies between the code's appearing and its being entered (acceptance line 2, last sentence).

use anyhow::Result;

use super::pairing::{Pairing, check_mutual, check_runs, finish, join, offer, report_times};
use super::{Options, world::World};
use crate::report::Report;
use crate::rng::Rng;
use crate::serve::BOOTSTRAP_NODES;

/// Pairs `runs` times; each time another random half of the nodes is killed. Every second time all those are among them
/// by which the devices entered the DHT.
///
/// # Errors
/// When the lab cannot be made or the nodes do not come back; a failed pairing is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let mut world = World::new(options)?;
    let mut rng = Rng::new(options.seed);
    let mut report = Report::of_times("pairings by words, half of the DHT nodes killed after the code was shown");
    let (mut pairings, mut errors) = (Vec::new(), Vec::new());
    for run in 0..options.runs {
        let mut victims = rng.choose(options.nodes, options.nodes);
        if run % 2 == 1 {
            victims.sort_by_key(|node| *node >= BOOTSTRAP_NODES);
        }
        victims.truncate(options.nodes / 2);
        match once(&mut world, run, options, &victims) {
            Ok(pairing) => pairings.push(pairing),
            Err(error) => errors.push(format!("run {run} without nodes {victims:?}: {error:#}")),
        }
        world.dht.restart_dead()?;
    }
    report_times(&mut report, &pairings);
    check_runs(&mut report, options.runs, &pairings, &errors);
    report.fact("nodes", options.nodes);
    report.fact("seed", options.seed);
    Ok(report)
}

fn once(world: &mut World, run: usize, options: &Options, victims: &[usize]) -> Result<Pairing> {
    let (mut alice, mut bob) = world.warm_pair(run)?;
    let offer = offer(&alice, &["--yes"])?;
    std::thread::sleep(options.gap);
    world.dht.kill9(victims);
    let pairing = finish(offer, |words| join(&bob, words, &["--yes"]))?;
    check_mutual(&alice, &bob)?;
    alice.stop()?;
    bob.stop()?;
    Ok(pairing)
}
