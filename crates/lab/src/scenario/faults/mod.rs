//! Pairings by words between two networks while something goes wrong: they succeed, or end with the right cause on the
//! right side, in time, and never with one side paired (requirements B15, B32, B34, B35).

mod attempt;
mod kind;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};

use self::attempt::{Lane, Seen};
use self::kind::{Fault, Frames, Kind, Transport};
use super::{Options, world::World};
use crate::report::Report;
use crate::rng::Rng;
use crate::stats::Summary;
use crate::topology::Lab;

/// Pairings side by side, each between two hosts of its own: they mostly wait. (Not while nodes die, which are there for
/// all.)
const LANES: usize = 4;

/// The kinds of faults by name.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    Kind::ALL.map(Kind::name).to_vec()
}

/// Plays the kinds of `only` (all if it names none), `runs` pairings each.
///
/// # Errors
/// When the lab cannot be made or the nodes do not come back; a pairing that ends otherwise than it must is a failed check.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let mut builder = Lab::empty();
    for lane in 0..LANES {
        builder = builder.host(&format!("alice-{lane}")).host(&format!("bob-{lane}"));
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let mut world = World::of(builder, options, None)?;
    let lanes = (0..LANES).map(|lane| lane_of(&world, lane, options)).collect::<Result<Vec<Lane>>>()?;
    let mut rng = Rng::new(options.seed);
    let frames = frames_of_a_pairing(&lanes[0])?;
    let faults: Vec<(Kind, usize, Fault)> = Kind::ALL
        .into_iter()
        .filter(|kind| only.is_empty() || only.iter().any(|name| name == kind.name()))
        .flat_map(|kind| {
            let faults = kind.faults(options.runs, frames, &mut rng);
            faults.into_iter().enumerate().map(move |(run, fault)| (kind, run, fault))
        })
        .collect();
    let (alone, together): (Vec<_>, Vec<_>) = faults.into_iter().partition(|(kind, ..)| *kind == Kind::DhtDying);

    let mut played = side_by_side(&lanes, &together);
    for (kind, run, fault) in alone {
        let mut victims = rng.choose(options.nodes, options.nodes / 2);
        victims.sort_unstable();
        let dht = &mut world.dht;
        let seen = lanes[0].play(fault, &format!("{}-{run}", kind.name()), &mut || dht.kill9(&victims));
        played.push((kind, fault, seen));
        world.dht.restart_dead()?;
    }

    let columns = ["fault", "runs", "right", "paired", "ended otherwise", "median ms", "max ms", "limit s"];
    let mut report = Report::new("pairings by words under faults, between two networks", &columns);
    for kind in Kind::ALL {
        let of_kind: Vec<_> = played.iter().filter(|(of, ..)| *of == kind).collect();
        if !of_kind.is_empty() {
            row(kind, &of_kind, &mut report);
        }
    }
    report.note(format!(
        "frames between the two in a pairing without a fault: {} by QUIC, {} by TCP",
        frames.quic, frames.tcp
    ));
    report.fact("nodes", options.nodes);
    report.fact("seed", options.seed);
    Ok(report)
}

type Played = (Kind, Fault, Result<Seen>);

fn lane_of(world: &World, lane: usize, options: &Options) -> Result<Lane> {
    let host = |name: &str| world.lab.host(&format!("{name}-{lane}"));
    Ok(Lane { alice: host("alice")?, bob: host("bob")?, bootstrap: world.dht.bootstrap(), gap: options.gap })
}

/// Counts them in pairings in which nothing is lost.
fn frames_of_a_pairing(lane: &Lane) -> Result<Frames> {
    let count = |transport, name: &str| -> Result<u64> {
        let seen = lane.play(Fault::FrameLost { transport, at: u64::MAX }, name, &mut || ())?;
        anyhow::ensure!(seen.is_paired, "without a fault: {}", seen.ended);
        Ok(seen.frames)
    };
    let quic = count(Transport::Quic, "quic").context("counting frames by QUIC")?;
    Ok(Frames { quic, tcp: count(Transport::Tcp, "tcp").context("counting frames by TCP")? })
}

fn side_by_side(lanes: &[Lane], faults: &[(Kind, usize, Fault)]) -> Vec<Played> {
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                while let Some((kind, run, fault)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = lane.play(*fault, &format!("{}-{run}", kind.name()), &mut || ());
                    played.lock().unwrap_or_else(PoisonError::into_inner).push((*kind, *fault, seen));
                }
            });
        }
    });
    played.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn row(kind: Kind, played: &[&Played], report: &mut Report) {
    let (mut right, mut paired, mut missed) = (0, 0, 0);
    let (mut others, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    let mut times = Vec::new();
    for (_, fault, seen) in played {
        match seen {
            Ok(seen) => {
                times.push(seen.took);
                missed += usize::from(!seen.struck);
                if seen.ended == "paired" {
                    paired += 1;
                } else {
                    *others.entry(seen.ended.clone()).or_default() += 1;
                }
                match &seen.wrong {
                    None => right += 1,
                    Some(what) => wrong.push(format!("{fault:?}: {what}, {}", seen.ended)),
                }
            }
            Err(error) => wrong.push(format!("{fault:?}: {error:#}")),
        }
    }
    let summary = Summary::of(&times);
    let ms = |of: fn(&Summary) -> f64| summary.as_ref().map_or_else(|| "-".to_owned(), |s| format!("{:.0}", of(s)));
    let otherwise: Vec<String> = others.iter().map(|(ended, count)| format!("{count} x {ended}")).collect();
    let mut limits: Vec<u64> = played.iter().map(|(_, fault, _)| fault.expected().limit.as_secs()).collect();
    limits.sort_unstable();
    limits.dedup();
    report.row(vec![
        kind.what().to_owned(),
        played.len().to_string(),
        right.to_string(),
        paired.to_string(),
        if otherwise.is_empty() { "-".to_owned() } else { otherwise.join("; ") },
        ms(|s| s.median_ms),
        ms(|s| s.max_ms),
        limits.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    ]);
    let seen = format!("{right} of {} {}", played.len(), wrong.join("; "));
    report.check(&format!("{}: paired, or the right cause in time", kind.what()), wrong.is_empty(), seen);
    if missed > 0 {
        report.note(format!("{}: {missed} pairings were over before it struck", kind.what()));
    }
}
