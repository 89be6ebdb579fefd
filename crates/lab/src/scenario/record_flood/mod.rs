//! A node under a flood of records keeps those of honest devices, in bounded memory, and its metrics say what came.
//!
//! One node; an attacker that has hundreds of networks and puts records of every kind; two honest devices whose records
//! are put before, put anew all the time, and looked for all the time; two more that pair by words meanwhile.

mod attacker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use handfast_proto::records::RecordLimits;
use handfast_proto::wire::record::{MAX_TTL, Record, RecordKeys};

use self::attacker::{Attacker, Flood, Kind};
use super::pairing::pair;
use super::{Options, world::World};
use crate::device::Device;
use crate::peer::Peer;
use crate::procfs::Sample;
use crate::report::Report;
use crate::serve::ServeNodes;
use crate::topology::Lab;

/// Delay of the access links: many connections are made one after another.
const DELAY: Duration = Duration::from_micros(500);

/// Records of an honest device, and how long until they are put anew. (A device does so every two minutes.)
const HONEST: usize = 8;
const REFRESH: Duration = Duration::from_secs(1);

/// What honest devices put at most, in all of it, besides those records: two pairings and four presences.
const PAIRINGS_PUT: f64 = 100.0;

/// Resident memory of the node with a full store, in KiB: 30 MB without, 85 MB for 65,536 records with all that finds
/// them, and as much as connections may need.
const RESIDENT_MAX: u64 = 160 * 1024;

/// How often the node is looked at, and when it has counted the last put.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const COUNTED: Duration = Duration::from_secs(10);

/// A node sweeps every 30 s.
const SWEPT: Duration = Duration::from_secs(35);

/// Between the words and their entry: the flood must not be over by then.
const GAP: Duration = Duration::from_millis(200);

/// How long devices get to enter the DHT.
const WARM_UP: Duration = Duration::from_secs(2);

/// Floods a node and judges it.
///
/// # Errors
/// When the lab cannot be made, a device does not start, or the attacker is not served.
pub fn run(options: &Options, puts: usize) -> Result<Report> {
    let names = ["node-0", "attacker", "alice", "bob", "publisher", "seeker"];
    let builder = names.into_iter().fold(Lab::empty(), |builder, name| builder.host(name)).delay(DELAY);
    let world = World::of(builder, options, None)?;
    let mut report = Report::new("a node under a flood of records", &["what", "seen"]);
    let over = AtomicBool::new(false);
    let (played, looks) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&world.dht, &over));
        let played = play(&world, options, puts, &mut report);
        over.store(true, Ordering::Relaxed);
        (played, watching.join())
    });
    played?;
    judge_memory(&looks.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?, &mut report);
    Ok(report)
}

/// The node at one moment.
struct Look {
    resident_kib: u64,
    records: f64,
}

/// Looks at the node until it is over.
fn watch(dht: &ServeNodes, over: &AtomicBool) -> Result<Vec<Look>> {
    let (pid, mut looks) = (dht.process(0)?.pid(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let records = dht.metric(0, "handfast_records")?;
        looks.push(Look { resident_kib: Sample::of(pid)?.resident_kib, records });
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(looks)
}

fn judge_memory(looks: &[Look], report: &mut Report) {
    let mb = |look: &Look| format!("{:.0} MB with {} records", look.resident_kib as f64 * 1.024e-3, look.records);
    let step = looks.len().div_ceil(8).max(1);
    let course: Vec<String> = looks.iter().step_by(step).chain(looks.last()).map(mb).collect();
    say(report, "resident memory over time", course.join(", "));
    let most = looks.iter().max_by_key(|look| look.resident_kib);
    let holds = most.is_some_and(|most| most.resident_kib < RESIDENT_MAX);
    check(report, "memory of the node is bounded", holds, most.map(mb).unwrap_or_default());
    let records = looks.iter().map(|look| look.records).fold(0.0, f64::max);
    let holds = records <= RecordLimits::NODE.total as f64;
    check(report, "a node holds no more records than it may", holds, format!("{records}"));
}

fn play(world: &World, options: &Options, puts: usize, report: &mut Report) -> Result<()> {
    let mut honest = Honest::new(world)?;
    honest.publish()?;
    let replaced = honest.records[0].clone();
    honest.publish()?;
    let host = world.lab.host("attacker")?;
    let overheard = [replaced, honest.records[0].clone()];
    let attacker = Attacker::new(&world.lab, &host, &world.dht.bootstrap(), overheard)?;
    let pairs = [Pair::start(world, "first")?, Pair::start(world, "second")?];
    let prepared = attacker.prepare()?;

    let (start, flood) = (Instant::now(), attacker.flood(puts, options.seed));
    let [first, second] = &pairs;
    let (met, kept) = std::thread::scope(|scope| {
        let pairing = scope.spawn(|| first.meets(&flood));
        let kept = honest.keep_up(&flood);
        (pairing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), kept)
    });
    check(report, "an honest pair pairs by words during the flood", met.is_ok(), told(met));
    let seen = format!("{} looked for in {} rounds; {}", kept.looked, kept.rounds, kept.missed.join(", "));
    check(report, "honest records are stored anew and found during the flood", kept.missed.is_empty(), seen);
    let sent = attacker.end_of(flood)?;
    let total: usize = sent.iter().map(|(_, count)| count).sum();
    let took = start.elapsed();
    check(report, "hostile puts", total >= puts, format!("{total} in {:.0} s", took.as_secs_f64()));
    honest.look(report, "after the flood every honest record is found")?;
    let seen = second.meet();
    check(report, "an honest pair pairs by words after the flood", seen.is_ok(), told(seen));
    judge_metrics(world, &sent, prepared, honest.puts, report)?;
    for pair in pairs {
        pair.stop()?;
    }
    Ok(())
}

/// The node's numbers must be those of what was sent, but for what honest devices put meanwhile, all of which is valid.
fn judge_metrics(
    world: &World,
    sent: &[(Kind, usize)],
    prepared: usize,
    honest: usize,
    report: &mut Report,
) -> Result<()> {
    let count = |is: fn(Kind) -> bool| sent.iter().filter(|(kind, _)| is(*kind)).map(|(_, n)| *n).sum::<usize>() as f64;
    let metric = |name: &str| world.dht.metric(0, &format!("handfast_{name}_total"));
    let start = Instant::now();
    let invalid = count(Kind::is_invalid);
    while metric("puts_refused_invalid")? < invalid && start.elapsed() < COUNTED {
        std::thread::sleep(LOOK_AGAIN);
    }
    for (what, name, expected) in [
        ("invalid", "puts_refused_invalid", invalid),
        ("older", "puts_refused_old", count(|kind| kind == Kind::Older)),
        ("contradicting", "puts_refused_conflict", count(|kind| kind == Kind::Conflict)),
        ("repeated", "puts_repeated", count(|kind| matches!(kind, Kind::Replayed | Kind::Published))),
    ] {
        let seen = metric(name)?;
        check(report, &format!("metrics: {what}"), seen == expected, format!("{seen} of {expected} sent"));
    }
    // What is over is counted when the node sweeps, which a small flood does not last for.
    while metric("puts_expired")? < Attacker::short() as f64 && start.elapsed() < SWEPT {
        std::thread::sleep(LOOK_AGAIN);
    }
    let (stored, full) = (metric("puts_stored")?, metric("puts_refused_source_full")?);
    // Once it is full, a network's records may be evicted, and there is room for new ones of it.
    let valid = count(|kind| matches!(kind, Kind::Valid | Kind::SourceFull)) + prepared as f64;
    let (least, most) = (valid + honest as f64, valid + honest as f64 + PAIRINGS_PUT);
    let seen = format!("{stored} stored and {full} refused, {valid} sent, {honest} and pairings of honest devices");
    check(
        report,
        "metrics: valid ones are stored, or their source is full",
        stored + full >= least && stored + full <= most,
        seen,
    );
    let (evicted, expired) = (metric("puts_evicted")?, metric("puts_expired")?);
    let held = world.dht.metric(0, "handfast_records")?;
    let replaced = stored - held - evicted - expired;
    let holds = (0.0..=honest as f64 + PAIRINGS_PUT).contains(&replaced);
    let seen = format!("{stored} stored = {held} held + {evicted} evicted + {expired} expired + {replaced} replaced");
    check(report, "metrics: what was stored is held, evicted, expired or replaced", holds, seen);
    let seen = format!("{expired}, of {} that were soon over", Attacker::short());
    check(report, "metrics: what was over is gone", expired >= Attacker::short() as f64, seen);
    Ok(())
}

/// A device with records that are put anew as devices do, and one that looks for them.
struct Honest {
    publisher: Peer,
    seeker: Peer,
    keys: Vec<RecordKeys>,
    /// The newest of each.
    records: Vec<Record>,
    seq: u64,
    puts: usize,
}

/// What honest devices saw during the flood.
struct Kept {
    rounds: usize,
    looked: usize,
    missed: Vec<String>,
}

impl Honest {
    fn new(world: &World) -> Result<Honest> {
        let device = |name: &str| Peer::device(&world.lab.host(name)?, &world.dht.bootstrap());
        let (publisher, seeker) = (device("publisher")?, device("seeker")?);
        publisher.wait_for_nodes(1)?;
        seeker.wait_for_nodes(1)?;
        let secret = handfast_net::entropy::secret;
        let keys = (0..HONEST).map(|_| Ok(RecordKeys::new(&secret()?, secret()?))).collect::<Result<_>>()?;
        Ok(Honest { publisher, seeker, keys, records: Vec::new(), seq: 0, puts: 0 })
    }

    /// Puts all records with the next number; each must be stored.
    fn publish(&mut self) -> Result<()> {
        self.seq += 1;
        let mut rng = handfast_net::entropy::rng()?;
        self.records = self.keys.iter().map(|keys| keys.seal(b"honest", self.seq, MAX_TTL, &mut rng)).collect();
        let stored = self.publisher.put_all(&self.records)?;
        self.puts += self.records.len();
        anyhow::ensure!(stored.iter().all(|nodes| *nodes == 1), "not stored: {stored:?}");
        Ok(())
    }

    /// Those that are not found as they were put last.
    fn missing(&self) -> Result<usize> {
        let mut missing = 0;
        for record in &self.records {
            missing += usize::from(self.seeker.get(record.topic())?.0 != [record.clone()]);
        }
        Ok(missing)
    }

    fn keep_up(&mut self, flood: &Flood) -> Kept {
        let mut kept = Kept { rounds: 0, looked: 0, missed: Vec::new() };
        while !flood.is_over() {
            let round = self.publish().and_then(|()| self.missing());
            kept.rounds += 1;
            kept.looked += HONEST;
            match round {
                Ok(0) => {}
                Ok(missing) => kept.missed.push(format!("{missing} missing")),
                Err(error) => kept.missed.push(format!("{error:#}")),
            }
            std::thread::sleep(REFRESH);
        }
        kept
    }

    fn look(&self, report: &mut Report, what: &str) -> Result<()> {
        let missing = self.missing()?;
        check(report, what, missing == 0, format!("{} of {HONEST}", HONEST - missing));
        Ok(())
    }
}

/// Two honest devices on their way to each other.
struct Pair {
    alice: Device,
    bob: Device,
}

impl Pair {
    fn start(world: &World, name: &str) -> Result<Pair> {
        let device = |host: &str| world.device(host, &format!("{host}-{name}"));
        let (mut alice, mut bob) = (device("alice")?, device("bob")?);
        alice.start_daemon()?;
        bob.start_daemon()?;
        std::thread::sleep(WARM_UP);
        Ok(Pair { alice, bob })
    }

    fn meet(&self) -> Result<String> {
        let pairing = pair(&self.alice, &self.bob, GAP)?;
        Ok(format!("{} in {} ms", pairing.path, pairing.both().as_millis()))
    }

    /// As [`Pair::meet`], when the flood has begun; it must not be over by then.
    fn meets(&self, flood: &Flood) -> Result<String> {
        while flood.sent() == 0 && !flood.is_over() {
            std::thread::sleep(LOOK_AGAIN);
        }
        let met = self.meet()?;
        anyhow::ensure!(!flood.is_over(), "{met}, but the flood was over");
        Ok(format!("{met}, after {} hostile puts", flood.sent()))
    }

    fn stop(mut self) -> Result<()> {
        self.alice.stop()?;
        self.bob.stop().context("the joiner")?;
        Ok(())
    }
}

fn told(seen: Result<String>) -> String {
    seen.unwrap_or_else(|error| format!("{error:#}"))
}

fn say(report: &mut Report, what: &str, seen: String) {
    report.row(vec![what.to_owned(), seen]);
}

fn check(report: &mut Report, what: &str, holds: bool, seen: String) {
    say(report, what, seen.clone());
    report.check(what, holds, seen);
}
