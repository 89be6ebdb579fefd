//! Fault by fault: is the cause that is told the right one, and does its hint lead to a pairing (requirements B36, C18)?
//!
//! Every fault is made for real. What its hint says is then carried out, and the two devices pair, by the same code where
//! that can be.

mod bench;
mod disk;
mod home;
mod local;
mod network;
mod sessions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use handfast_proto::cause::Cause;

use self::bench::{Bench, Case, Cases, Expected, Followed};
use super::{Options, world::World};
use crate::report::Report;
use crate::topology::Lab;

/// Faults side by side, each between hosts of its own: they mostly wait.
const LANES: usize = 8;

/// So many runs of a fault of 100 must be right.
const RIGHT_OF_100: usize = 95;

/// A group of faults: between two networks by the devices of a lane, or in a local network of its own.
#[derive(Clone, Copy)]
enum Group {
    Far(fn(&mut Bench) -> Result<()>),
    Near(fn(Duration, &mut Cases) -> Result<()>),
}

const GROUPS: [(&str, Group); 25] = [
    ("codes-that-cannot-be-right", Group::Far(Bench::codes_that_cannot_be_right)),
    ("other-version", Group::Far(Bench::other_version)),
    ("codes-nobody-shows", Group::Far(Bench::codes_nobody_shows)),
    ("no-bootstrap", Group::Far(Bench::no_bootstrap)),
    ("codes-that-are-over", Group::Far(Bench::codes_that_are_over)),
    ("used", Group::Far(Bench::used)),
    ("somebody-says-no", Group::Far(Bench::somebody_says_no)),
    ("cancelled", Group::Far(Bench::cancelled)),
    ("differing-emoji", Group::Far(Bench::differing_emoji)),
    ("initiator-gone", Group::Far(Bench::initiator_gone)),
    ("joiner-cut-off", Group::Far(Bench::joiner_cut_off)),
    ("joiner-without-address", Group::Far(Bench::joiner_without_address)),
    ("firewall", Group::Far(Bench::firewall)),
    ("no-udp", Group::Far(Bench::no_udp)),
    ("wrong-clock", Group::Far(Bench::wrong_clock)),
    ("local-firewalls", Group::Near(local::firewalls)),
    ("isolation", Group::Near(local::isolation)),
    ("no-multicast", Group::Near(local::no_multicast)),
    ("other-subnet", Group::Near(local::other_subnet)),
    ("vpn", Group::Near(local::vpn)),
    ("old-qr", Group::Near(local::old_qr)),
    ("disk-full", Group::Far(Bench::disk_full)),
    ("no-first-start", Group::Far(Bench::no_first_start)),
    ("damaged", Group::Far(Bench::damaged)),
    ("not-running", Group::Far(Bench::not_running)),
];

/// Groups that only a full run plays: two minutes of silence.
const SLOW: [(&str, Group); 1] = [("silence", Group::Far(Bench::silence))];

/// The group that kills the nodes, which are there for all: when the others are over.
const NODES: &str = "nodes";

/// The groups of faults by name.
#[must_use]
pub fn groups() -> Vec<&'static str> {
    GROUPS.iter().chain(&SLOW).map(|(name, _)| *name).chain([NODES]).collect()
}

/// Makes every fault of the groups of `only` (all if it names none) `runs` times; with 1 those are left out that take
/// minutes, unless they are named.
///
/// # Errors
/// When the lab cannot be made or a device does not start; a fault with another cause than expected is a failed check.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let mut builder = Lab::empty();
    for lane in 0..LANES {
        for name in ["alice", "bob", "carol"] {
            builder = builder.host(&format!("{name}-{lane}"));
        }
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let mut world = World::of(builder, options, None)?;
    let is_named = |name: &str| only.iter().any(|group| group == name);
    let wanted: Vec<(&'static str, Group)> = GROUPS
        .iter()
        .filter(|(name, _)| only.is_empty() || is_named(name))
        .chain(SLOW.iter().filter(|(name, _)| is_named(name) || only.is_empty() && options.runs > 1))
        .copied()
        .collect();
    let jobs: Vec<(&'static str, Group)> = (0..options.runs).flat_map(|_| wanted.iter().copied()).collect();
    let next = AtomicUsize::new(0);
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (world, jobs, next) = (&world, &jobs, &next);
                scope.spawn(move || lane_of(world, lane, jobs, next, options))
            })
            .collect();
        for lane in lanes {
            let cases = lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            played.lock().unwrap_or_else(PoisonError::into_inner).push(cases);
        }
    });
    let played: Vec<Vec<Case>> =
        played.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect::<Result<_>>()?;
    let mut cases: Vec<Case> = played.into_iter().flatten().collect();

    let mut bench = Bench::new(&world, 0, options.seed, options.gap)?;
    for _ in 0..if only.is_empty() || is_named(NODES) { options.runs } else { 0 } {
        if let Err(error) = sessions::dht_gone(&mut world, &mut bench) {
            bench.cases.broken(NODES, error);
        }
    }
    cases.append(&mut bench.cases.0);
    Ok(table(cases, options))
}

fn lane_of(
    world: &World,
    lane: usize,
    jobs: &[(&'static str, Group)],
    next: &AtomicUsize,
    options: &Options,
) -> Result<Vec<Case>> {
    let mut bench = Bench::new(world, lane, options.seed + lane as u64, options.gap)?;
    while let Some((name, group)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        match group {
            Group::Far(play) => bench.play(name, *play)?,
            Group::Near(play) => {
                if let Err(error) = play(options.gap, &mut bench.cases) {
                    bench.cases.broken(name, error);
                }
            }
        }
    }
    bench.alice.stop()?;
    bench.bob.stop()?;
    Ok(bench.cases.0)
}

/// One row a fault, in the order of the exit codes.
fn table(cases: Vec<Case>, options: &Options) -> Report {
    let columns = ["fault", "exit, cause", "right", "slowest s", "what was done then", "paired"];
    let mut report = Report::new("faults, their causes, and what their hints lead to", &columns);
    let mut faults = BTreeMap::<(i32, &'static str), Vec<Case>>::new();
    for case in cases {
        faults.entry((case.expected.0, case.name)).or_default().push(case);
    }
    report.note(format!("{} faults", faults.len()));
    for ((_, name), cases) in faults {
        row(name, &cases, &mut report);
    }
    report.fact("nodes", options.nodes);
    report.fact("seed", options.seed);
    report
}

fn row(name: &str, cases: &[Case], report: &mut Report) {
    let Some(Case { expected: Expected(exit, causes), limit, .. }) = cases.first() else { return };
    let right = cases.iter().filter(|case| case.is_right()).count();
    let slowest = cases.iter().filter_map(|case| case.ended.as_ref().ok()).map(|(_, took)| *took).max();
    let (mut done, mut paired, mut remedy, mut stuck) = (0, 0, "-", Vec::new());
    for case in cases {
        if let Followed::Done(what, ended) = &case.followed {
            (done, remedy) = (done + 1, *what);
            match ended {
                Ok(()) => paired += 1,
                Err(error) => stuck.push(format!("{error:#}")),
            }
        }
    }
    let named = match cases.iter().find_map(|case| case.ended.as_ref().ok()?.0.cause.clone()) {
        Some(cause) => format!("{exit} `{cause}`"),
        None if *exit == 0 => "0 (pairs)".to_owned(),
        None => format!("{exit} {}", causes.join("|")),
    };
    report.row(vec![
        name.to_owned(),
        named,
        format!("{right} of {}", cases.len()),
        slowest.map_or_else(|| "-".to_owned(), |took| format!("{:.1}", took.as_secs_f64())),
        remedy.to_owned(),
        if done == 0 { "-".to_owned() } else { format!("{paired} of {done}") },
    ]);
    let wrong = cases.iter().filter(|case| !case.is_right()).map(|case| match &case.ended {
        Ok((ending, took)) => format!("{ending} after {took:.1?}"),
        Err(error) => format!("{error:#}"),
    });
    let seen: Vec<String> = wrong.chain(stuck).collect();
    let exits = causes.iter().all(|name| {
        let known = Cause::ALL.iter().find(|cause| cause.name() == *name);
        known.is_some_and(|cause| i32::from(cause.exit()) == *exit || *exit == 130)
    });
    let holds = exits && right * 100 >= cases.len() * RIGHT_OF_100 && paired == done;
    let what = format!("{name}: {exit} {} in {limit:?}, and its hint helps", causes.join("|"));
    report.check(&what, holds, format!("{right} of {} {}", cases.len(), seen.join("; ")));
}
