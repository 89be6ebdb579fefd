//! A device changes its network again and again while it is paired with another, which stays behind its NAT; some of the
//! changes happen in the middle of a pairing with a third device (acceptance line 6).
//!
//! Both sides ping each other ten times a second all the time. A change is over, in either direction, with the answer to
//! the first ping that was sent after the new network was up.

mod mid_pairing;
mod pings;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::mid_pairing::{Begun, Ended};
use self::pings::Pings;
use super::pairing::pair;
use super::{Options, world::World};
use crate::device::Device;
use crate::moving::{Change, MovingHost};
use crate::nat::Nat;
use crate::report::Report;
use crate::rng::Rng;
use crate::stats::Summary;
use crate::topology::Lab;

/// Moves in the middle of a pairing, unless it is said otherwise.
pub const MID_PAIRING: usize = 10;

/// How long a device that has just started gets to enter the DHT and to reserve at relays.
const WARM_UP: Duration = Duration::from_secs(4);

/// How long the first answer after a move is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// 95 of 100 are there by then.
const P95_LIMIT: Duration = Duration::from_secs(5);

/// How long the device stays somewhere at least, and how much longer at most.
const STAY: Duration = Duration::from_secs(2);
const STAY_MORE_MS: u64 = 3_000;

/// A move in the middle of a pairing comes at most this long after the two are connected.
const INTO_PAIRING_MS: u64 = 300;

/// How long one way took to be answered.
type Taken = fn(&Moved) -> Option<Duration>;

/// A move, and what came of it.
struct Moved {
    change: Change,
    /// From the network being up until the first answer, from the moving device and to it.
    from: Option<Duration>,
    to: Option<Duration>,
    /// By which path each first answer came.
    first: Vec<String>,
    /// The paths in use when the device moved on.
    last: Vec<String>,
    pairing: Option<Result<Ended, String>>,
}

/// Moves `options.runs` times, `mid_pairing` of these during a pairing.
///
/// # Errors
/// When the lab cannot be made or the first pairing fails.
pub fn run(options: &Options, mid_pairing: usize) -> Result<Report> {
    let mut builder = MovingHost::routers(Lab::empty());
    for stays in ["bob", "carol"] {
        builder = builder.behind(Nat::PortRestricted, stays);
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let mut moving = MovingHost::new(&world.lab, "alice")?;
    let mut alice = Device::new(moving.host(), "alice")?.bootstrap(world.dht.bootstrap());
    let mut bob = world.device("bob", "bob")?;
    alice.start_daemon()?;
    bob.start_daemon()?;
    std::thread::sleep(WARM_UP);
    pair(&alice, &bob, options.gap)?;
    let (id, other) = (alice.status()?.id, bob.status()?.id);
    let ways = [Pings::start(&alice, &other)?, Pings::start(&bob, &id)?];
    let start = Instant::now();
    for pings in &ways {
        pings.first_after(start, start + ANSWER_LIMIT).context("no ping before the first move")?;
    }
    let moves = Moves { world: &world, alice: &alice, ways: &ways, gap: options.gap };
    let all = moves.run(&mut moving, options.runs, mid_pairing, options.seed)?;
    let mut report = report(options, &all);
    for (pings, way) in ways.iter().zip(["from", "to"]) {
        report.note(format!("pings {way} the moving device: {}", pings.summary()));
    }
    drop(ways);
    // What was once told to be paired stays so, and the first pair as well.
    let paired = all.iter().filter(|moved| matches!(&moved.pairing, Some(Ok(ended)) if ended.is_paired())).count() + 1;
    let (listed, by_other) = (alice.devices()?.len(), bob.devices()?.len());
    report.check(
        "no pairing is lost",
        (listed, by_other) == (paired, 1),
        format!("{listed} of {paired}, {by_other} of 1"),
    );
    let running = [alice.is_running(), bob.is_running()];
    report.check("both daemons are those that were started", running == [true; 2], format!("running: {running:?}"));
    Ok(report)
}

/// What the moves have in common.
struct Moves<'a> {
    world: &'a World,
    alice: &'a Device,
    /// From the moving device, and to it.
    ways: &'a [Pings; 2],
    gap: Duration,
}

impl Moves<'_> {
    fn run(&self, moving: &mut MovingHost, count: usize, mid_pairing: usize, seed: u64) -> Result<Vec<Moved>> {
        let mut rng = Rng::new(seed);
        let during = rng.choose(count, mid_pairing);
        let (mut all, mut used, mut pairings) = (Vec::new(), BTreeMap::<Change, usize>::new(), 0);
        for number in 0..count {
            let stay = STAY + Duration::from_millis(rng.below(STAY_MORE_MS));
            let change = draw(moving, &used, &mut rng);
            *used.entry(change).or_default() += 1;
            let moved = if during.contains(&number) {
                pairings += 1;
                let into = Duration::from_millis(rng.below(INTO_PAIRING_MS));
                self.during_pairing(moving, change, pairings, into)?
            } else {
                let up = moving.change(change)?;
                self.watch(change, up)
            };
            std::thread::sleep(stay);
            let last = self.ways.iter().filter_map(Pings::path).collect();
            all.push(Moved { last, ..moved });
        }
        Ok(all)
    }

    /// A move while a third device pairs, which joins in one round and shows the code in the next.
    fn during_pairing(&self, moving: &mut MovingHost, change: Change, number: usize, into: Duration) -> Result<Moved> {
        let mut carol = self.world.device("carol", &format!("carol-{number}"))?;
        carol.start_daemon()?;
        std::thread::sleep(WARM_UP);
        let (initiator, joiner) = if number % 2 == 1 { (self.alice, &carol) } else { (&carol, self.alice) };
        let begun = Begun::new(initiator, joiner, self.gap);
        std::thread::sleep(into);
        let up = moving.change(change)?;
        let ended = begun.and_then(|begun| begun.end(up));
        let moved = self.watch(change, up);
        carol.stop()?;
        Ok(Moved { pairing: Some(ended.map_err(|error| format!("{error:#}"))), ..moved })
    }

    fn watch(&self, change: Change, up: Instant) -> Moved {
        let [from, to] = self.ways.each_ref().map(|pings| pings.first_after(up, up + ANSWER_LIMIT));
        let first = [&from, &to].into_iter().flatten().map(|trip| trip.path.clone()).collect();
        let took = |trip: Option<pings::Trip>| trip.map(|trip| trip.answered.saturating_duration_since(up));
        Moved { change, from: took(from), to: took(to), first, last: Vec::new(), pairing: None }
    }
}

/// One of the changes that can happen here and happened least often so far.
fn draw(moving: &MovingHost, used: &BTreeMap<Change, usize>, rng: &mut Rng) -> Change {
    let times = |change: &Change| used.get(change).copied().unwrap_or_default();
    let possible: Vec<Change> = Change::ALL.into_iter().filter(|change| moving.can(*change)).collect();
    let least = possible.iter().map(times).min().unwrap_or_default();
    let rarest: Vec<Change> = possible.into_iter().filter(|change| times(change) == least).collect();
    let index = usize::try_from(rng.below(rarest.len() as u64)).unwrap_or_default();
    rarest.get(index).copied().unwrap_or(Change::Address)
}

fn report(options: &Options, all: &[Moved]) -> Report {
    let mut report =
        Report::of_times("a device moves: from the new network being up to the first answer, 25 ms one way");
    let ways: [(&str, Taken); 2] = [("from it", |moved| moved.from), ("to it", |moved| moved.to)];
    let kinds = Change::ALL.into_iter().map(|kind| (kind.name(), Some(kind))).chain([("all", None)]);
    for (name, kind) in kinds {
        for (way, time) in ways {
            let of_kind = all.iter().filter(|moved| kind.is_none_or(|kind| kind == moved.change));
            let times = Summary::of(&of_kind.filter_map(time).collect::<Vec<_>>());
            report.times(&format!("{name}, {way}"), times);
            if let Some(summary) = times.filter(|_| kind.is_none() && options.limits) {
                let holds = summary.p95_ms <= P95_LIMIT.as_secs_f64() * 1e3;
                report.check(&format!("p95 {way} at most {P95_LIMIT:?}"), holds, format!("{:.0} ms", summary.p95_ms));
            }
        }
    }
    let silent = |(number, moved): (usize, &Moved)| {
        let missing = [("from it", moved.from), ("to it", moved.to)].into_iter().filter(|(_, time)| time.is_none());
        let missing: Vec<&str> = missing.map(|(way, _)| way).collect();
        (!missing.is_empty()).then(|| format!("move {number} ({}): none {}", moved.change.name(), missing.join(", ")))
    };
    let silent: Vec<String> = all.iter().enumerate().filter_map(silent).collect();
    let seen = format!("{} of {} moves {}", all.len() - silent.len(), options.runs, silent.join("; "));
    report.check(&format!("pings both ways are answered within {ANSWER_LIMIT:?}"), silent.is_empty(), seen);
    for (number, moved) in all.iter().enumerate() {
        if let Some(pairing) = &moved.pairing {
            let what = format!("move {number} ({}) during a pairing: the sides agree", moved.change.name());
            match pairing {
                Ok(ended) => report.check(&what, ended.is_good(), ended.to_string()),
                Err(error) => report.check(&what, false, error.clone()),
            }
        }
    }
    for (when, paths) in
        [("the first answers", paths(all, |moved| &moved.first)), ("the last ones", paths(all, |moved| &moved.last))]
    {
        report.note(format!("paths of {when} at a place: {paths}"));
    }
    report.fact("seed", options.seed);
    report
}

/// How often each path was taken.
fn paths(all: &[Moved], of: impl Fn(&Moved) -> &Vec<String>) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for path in all.iter().flat_map(of) {
        *counts.entry(path).or_default() += 1;
    }
    counts.iter().map(|(path, count)| format!("{path} {count}")).collect::<Vec<_>>().join(", ")
}
