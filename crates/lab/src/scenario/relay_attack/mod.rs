//! A relay under attack goes on serving others, in bounded memory, and its metrics tell of it.
//!
//! One node; two devices that can only meet through it, at addresses of their own; an attacker at a third. The attacker
//! floods the relay with reservations, asks for more circuits than anybody needs, lets those run full that it gets, and
//! sends frames that are too long or none at all. The devices pair during the flood, while the rest stands, and after it.

mod attacker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::attacker::{Attacker, PUSHED_MAX};
use super::pairing::{Pairing, pair};
use super::{Options, world::World};
use crate::device::Device;
use crate::nat::Nat;
use crate::procfs::Sample;
use crate::report::Report;
use crate::serve::ServeNodes;
use crate::topology::Lab;

/// Keys that ask for a reservation.
const KEYS: usize = 1_000;

/// The devices pair when so many of them have had their answer.
const UNDER_WAY: usize = 100;

/// Circuits that one key asks for.
const CIRCUITS: usize = 100;

/// What a node lets one peer have of them, and one address of connections: nobody gets more reservations.
const CIRCUITS_OF_PEER: usize = 16;
const CONNECTIONS_OF_ADDRESS: usize = 64;

/// Honest pairs, one after the other.
const PAIRS: usize = 3;

/// What all honest devices together have at most of reservations, and of circuits.
const HONEST: usize = 8;

/// What a circuit takes of a sender whose receiver never reads: the windows of both connections.
const UNREAD_MAX: usize = 2 << 20;

/// Resident memory of the node at any time, in KiB.
const RESIDENT_MAX: u64 = 150 * 1024;

/// How long devices get to enter the DHT and to reserve.
const WARM_UP: Duration = Duration::from_secs(4);

/// How long the first answers to a flood may take.
const FIRST_ANSWERS: Duration = Duration::from_secs(20);

/// How long an honest pairing may take while the node is attacked, if times count.
const PAIRING_LIMIT: Duration = Duration::from_secs(10);

/// How long the pings of a pair that is connected may take.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// How often the node is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// When whoever had something from the relay is gone, it knows so by then.
const FALL_LIMIT: Duration = Duration::from_secs(20);

/// The whole scenario.
const LIMIT: Duration = Duration::from_secs(120);

/// The metrics of a relay.
const RESERVED: &str = "handfast_relay_reservations";
const RUNNING: &str = "handfast_relay_circuits";
const RELAYED: &str = "handfast_relay_circuits_opened_total";
const DENIED: &str = "handfast_relay_denied_total";

/// Attacks the relay and judges it.
///
/// # Errors
/// When the lab cannot be made, a device does not start, or the node does not tell its metrics. An honest pair that does
/// not pair is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let start = Instant::now();
    let builder = Lab::empty().host("node-0").host("attacker");
    let builder = builder.behind(Nat::Symmetric, "alice").behind(Nat::NoUdp, "bob");
    let world = World::of(builder, options, None)?;
    let mut report = Report::new("a relay under attack, 25 ms one way", &["what", "seen"]);
    let over = AtomicBool::new(false);
    let (played, peaks) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&world.dht, &over));
        let played = play(&world, options, &mut report);
        over.store(true, Ordering::Relaxed);
        (played, watching.join())
    });
    played?;
    let peaks = peaks.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    peaks.judge(&mut report);
    let took = start.elapsed();
    report.check("the whole of it", took <= LIMIT, format!("{:.0} s", took.as_secs_f64()));
    Ok(report)
}

/// The most that the node had of each at any look.
#[derive(Default)]
struct Peaks {
    resident_kib: u64,
    reservations: f64,
    circuits: f64,
}

impl Peaks {
    fn judge(&self, report: &mut Report) {
        let Peaks { resident_kib, reservations, circuits } = *self;
        let seen = format!("{:.1} MB", resident_kib as f64 * 1.024e-3);
        say(report, "resident memory of the node, at most", seen.clone());
        report.check("memory of the node is bounded", resident_kib < RESIDENT_MAX, seen);
        let most = (CONNECTIONS_OF_ADDRESS + HONEST) as f64;
        report.check("one address does not hold all reservations", reservations <= most, format!("{reservations}"));
        let most = (CIRCUITS_OF_PEER + HONEST) as f64;
        report.check("one peer does not hold all circuits", circuits <= most, format!("{circuits}"));
        say(report, "reservations and circuits at once, at most", format!("{reservations}, {circuits}"));
    }
}

/// Looks at the node until it is over.
fn watch(dht: &ServeNodes, over: &AtomicBool) -> Result<Peaks> {
    let (pid, mut peaks) = (dht.process(0)?.pid(), Peaks::default());
    while !over.load(Ordering::Relaxed) {
        peaks.resident_kib = peaks.resident_kib.max(Sample::of(pid)?.resident_kib);
        peaks.reservations = peaks.reservations.max(dht.metric(0, RESERVED)?);
        peaks.circuits = peaks.circuits.max(dht.metric(0, RUNNING)?);
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(peaks)
}

fn play(world: &World, options: &Options, report: &mut Report) -> Result<()> {
    let attacker = Attacker::new(&world.lab.host("attacker")?, &world.dht.bootstrap())?;
    let first = Pair::start(world, "first")?;
    let target = attacker.reserve()?;

    let flood = attacker.flood(KEYS);
    let begun = Instant::now();
    while flood.done() < UNDER_WAY {
        ensure!(begun.elapsed() < FIRST_ANSWERS, "{} answers in {FIRST_ANSWERS:?}", flood.done());
        std::thread::sleep(LOOK_AGAIN);
    }
    first.meets("during the flood", options, report)?;
    let answered = flood.done();
    report.check("the flood was not over", answered < KEYS, format!("{answered} of {KEYS} answered"));
    let reservations = attacker.end_of(flood)?;
    say(report, "reservations under 1,000 keys", reservations.answers.to_string());

    let mut circuits = attacker.circuits(target, CIRCUITS)?;
    say(report, "circuits for one peer, of 100", circuits.answers.to_string());
    let granted = circuits.answers.granted;
    report.check("a peer gets some circuits, not all", (1..=CIRCUITS_OF_PEER).contains(&granted), granted.to_string());
    let taken = attacker.fill(&mut circuits)?;
    let most = taken.iter().copied().max().unwrap_or_default();
    say(report, "bytes that a circuit takes whose receiver never reads", format!("at most {most} of {PUSHED_MAX}"));
    report.check("a circuit that nobody reads runs full", most < UNREAD_MAX, format!("{most} bytes"));

    let garbage = attacker.garbage(options.seed);
    Pair::start(world, "second")?.meets("while circuits are full and garbage comes", options, report)?;
    let fed = attacker.end_of_garbage(garbage)?;
    let seen = format!("{} of {} streams ended by the node", fed.ended, fed.frames);
    say(report, "giant frames and lengths without an end", seen.clone());
    report.check("garbage ends its stream", fed.frames > 0 && fed.ended == fed.frames, seen);

    let denied = reservations.answers.denied + circuits.answers.denied;
    drop((circuits, reservations, attacker));
    Pair::start(world, "third")?.meets("after the attack", options, report)?;
    for (what, metric, seen) in [("denied", DENIED, denied), ("relayed", RELAYED, granted + PAIRS)] {
        let told = world.dht.metric(0, metric)?;
        let holds = seen > 0 && told >= seen as f64;
        report.check(&format!("the metrics tell of what was {what}"), holds, format!("{told}, of it seen {seen}"));
    }
    let (after, left) = fall(&world.dht)?;
    let seen = format!("{left} after {:.1} s", after.as_secs_f64());
    report.check("when all are gone the relay holds nothing for anybody", left == 0.0, seen);
    Ok(())
}

/// Waits until the relay holds nothing; gives how long that took, and what is left.
fn fall(dht: &ServeNodes) -> Result<(Duration, f64)> {
    let start = Instant::now();
    loop {
        let left = dht.metric(0, RESERVED)? + dht.metric(0, RUNNING)?;
        if left == 0.0 || start.elapsed() > FALL_LIMIT {
            return Ok((start.elapsed(), left));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Two honest devices that can only meet through the relay, on their way to each other.
struct Pair {
    alice: Device,
    bob: Device,
    names: [String; 2],
}

impl Pair {
    fn start(world: &World, name: &str) -> Result<Pair> {
        let names = ["alice", "bob"].map(|host| format!("{host}-{name}"));
        let (mut alice, mut bob) = (world.device("alice", &names[0])?, world.device("bob", &names[1])?);
        alice.start_daemon()?;
        bob.start_daemon()?;
        std::thread::sleep(WARM_UP);
        Ok(Pair { alice, bob, names })
    }

    /// Pairs them, lets them ping each other, and stops them.
    fn meets(mut self, when: &str, options: &Options, report: &mut Report) -> Result<()> {
        let seen = match self.meet(options.gap) {
            Ok(pairing) if options.limits && pairing.both() > PAIRING_LIMIT => {
                Err(format!("paired after {:?}", pairing.both()))
            }
            Ok(pairing) => Ok(format!("{} in {} ms", pairing.path, pairing.both().as_millis())),
            Err(error) => Err(format!("{error:#}")),
        };
        let text = seen.clone().unwrap_or_else(|error| error);
        report.check(&format!("an honest pair pairs through the relay {when}"), seen.is_ok(), text.clone());
        say(report, &format!("an honest pair {when}"), text);
        self.alice.stop()?;
        self.bob.stop()?;
        Ok(())
    }

    fn meet(&self, gap: Duration) -> Result<Pairing> {
        let pairing = pair(&self.alice, &self.bob, gap)?;
        ensure!(pairing.path == "relay", "paired by {}", pairing.path);
        for (device, other) in [(&self.alice, &self.names[1]), (&self.bob, &self.names[0])] {
            let path = device.path_of_ping(other, PING_LIMIT)?;
            ensure!(path == "relay", "a ping to {other} by {path}");
        }
        Ok(pairing)
    }
}

fn say(report: &mut Report, what: &str, seen: String) {
    report.row(vec![what.to_owned(), seen]);
}
