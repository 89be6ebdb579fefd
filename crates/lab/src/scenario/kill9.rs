//! `kill -9` of either side at random moments of a pairing (acceptance line 7, requirement B22).
//!
//! What must never be: a device that lists the other as paired while that one does not know it, and nothing mends it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::agreement::{Knows, Outcome, REPAIR_LIMIT, agree};
use super::pairing::{join, offer};
use super::{Options, world::World};
use crate::report::Report;
use crate::rng::Rng;
use crate::stats::Summary;

/// Moments are drawn from the start of `pair join` to this much later; a pairing takes about half of it.
const WINDOW: Duration = Duration::from_millis(800);

/// How long a command may take that runs the killed device itself: a joiner's search for 30 s, and its end.
const COMMAND_LIMIT: Duration = Duration::from_secs(45);

/// Kills either side in turn at `runs` random moments, restarts it and looks at both.
///
/// # Errors
/// When the lab cannot be made. A device that does not come back or cannot read its store is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let mut rng = Rng::new(options.seed);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let (mut repairs, mut broken, mut one_sided) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..options.runs {
        let window = u64::try_from(WINDOW.as_micros())?;
        let moment = Duration::from_micros(rng.below(window));
        let victim = if run.is_multiple_of(2) { "initiator" } else { "joiner" };
        match once(&world, run, moment, options.gap) {
            Ok(outcome) => {
                let state = format!("{victim} killed: {:?} / {:?}", outcome.alice, outcome.bob);
                if outcome.alice.max(outcome.bob) == Knows::Paired {
                    if outcome.alice == outcome.bob {
                        repairs.push(outcome.took);
                    } else {
                        one_sided.push(format!("run {run} at {moment:?}: {state}"));
                    }
                }
                *counts.entry(state).or_default() += 1;
            }
            Err(error) => broken.push(format!("run {run}, {victim} killed at {moment:?}: {error:#}")),
        }
    }
    let mut report = Report::new("kill -9 at random moments", &["initiator / joiner afterwards", "moments"]);
    for (state, count) in &counts {
        report.row(vec![state.clone(), count.to_string()]);
    }
    let seen = format!("{} of {} {}", one_sided.len(), options.runs, one_sided.join("; "));
    report.check(
        &format!("never paired on one side only, {REPAIR_LIMIT:?} after the restart"),
        one_sided.is_empty(),
        seen,
    );
    let seen = format!("{} of {} {}", broken.len(), options.runs, broken.join("; "));
    report.check("every device starts again and can read its store", broken.is_empty(), seen);
    report.fact("agreement_ms_after_restart", Summary::of(&repairs));
    report.fact("seed", options.seed);
    report.fact("states", &counts);
    Ok(report)
}

fn once(world: &World, run: usize, moment: Duration, gap: Duration) -> Result<Outcome> {
    let (mut alice, mut bob) = world.warm_pair(run)?;
    let ids = (alice.status()?.id, bob.status()?.id);
    let offer = offer(&alice, &["--yes"])?;
    std::thread::sleep(gap);
    let mut joining = join(&bob, &offer.words, &["--yes"])?;
    std::thread::sleep(moment.saturating_sub(joining.started().elapsed()));
    let victim = if run.is_multiple_of(2) { &mut alice } else { &mut bob };
    victim.kill9();
    if let Err(error) = victim.start_daemon() {
        // A command that was just starting finds no daemon and runs the device itself, with the right to.
        ensure!(format!("{error:#}").contains("running already"), "the killed device: {error:#}");
        ensure!(joining.wait(COMMAND_LIMIT)?.is_some(), "the command that took over still runs");
        victim.start_daemon().context("the killed device, after the command that took over")?;
    }
    let outcome = agree((&alice, &ids.0), (&bob, &ids.1))?;
    alice.stop()?;
    bob.stop()?;
    Ok(outcome)
}
