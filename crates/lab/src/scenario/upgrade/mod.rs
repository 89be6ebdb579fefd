//! Two devices behind port-restricted NATs meet through a relay and become direct: how fast, and what that does to
//! requests that are under way (acceptance line 2).
//!
//! So that the change happens in the middle of the requests, the way between the two NATs is closed for UDP until some of
//! them have been answered.

mod requests;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::requests::{Request, Requests};
use super::pairing::{Pairing, became_direct, finish, join, offer};
use super::{Options, world::World};
use crate::device::Device;
use crate::nat::Nat;
use crate::process::Running;
use crate::report::Report;
use crate::stats::Summary;
use crate::topology::Lab;

/// Pairs that run at the same time; they pair one after the other.
const BATCH: usize = 5;

/// How long devices that have just started get to enter the DHT and to reserve at relays.
const WARM_UP: Duration = Duration::from_secs(4);

/// An event that one command has told has been told to all by then.
const TOLD_LIMIT: Duration = Duration::from_secs(5);

/// How long a link is watched for becoming direct.
const DIRECT_LIMIT: Duration = Duration::from_secs(10);

/// The first byte through the relay, and the direct path after it, in the median.
const FIRST_BYTE_MEDIAN: Duration = Duration::from_secs(1);
const DIRECT_MEDIAN: Duration = Duration::from_millis(1_500);

/// One of so many requests is answered before the direct way opens.
const BEFORE: usize = 20;

/// How long the requests may take until the way opens, and altogether.
const REQUESTS_LIMIT: Duration = Duration::from_secs(300);

/// Of those without an answer so many are told one by one.
const LOST_SHOWN: usize = 5;

/// How often they are counted.
const POLL: Duration = Duration::from_millis(10);

/// Pairs `options.runs` times, then once more with `count` requests.
///
/// # Errors
/// When the lab cannot be made, or a device does not start or pair.
pub fn run(options: &Options, count: usize) -> Result<Report> {
    let mut builder = Lab::empty().behind(Nat::PortRestricted, "alice").behind(Nat::PortRestricted, "bob");
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let mut report = Report::of_times("from a relay to a direct path, port-restricted NATs, 25 ms one way");
    let mut times = Vec::new();
    let runs: Vec<usize> = (0..options.runs).collect();
    for batch in runs.chunks(BATCH) {
        times.extend(play(&world, batch, options.gap)?);
    }
    report_paths(&mut report, options, &times);
    let (alice, bob) = (Side::start(&world, "alice", options.runs)?, Side::start(&world, "bob", options.runs)?);
    std::thread::sleep(WARM_UP);
    report_requests(&mut report, count, &ask(&world, &alice, &bob, options.gap, count)?);
    Ok(report)
}

/// A device, and the events that it tells.
struct Side {
    device: Device,
    events: Running,
}

impl Side {
    fn start(world: &World, host: &str, run: usize) -> Result<Side> {
        let mut device = world.device(host, &format!("{host}-{run}"))?;
        device.start_daemon()?;
        let events = device.spawn(&["events"], None)?;
        Ok(Side { device, events })
    }

    /// When its link with anybody became direct, if it did until `deadline`.
    fn became_direct(&self, deadline: Instant) -> Option<Instant> {
        became_direct(&self.events, deadline)
    }
}

/// A pairing, and what became of its path.
struct Paired {
    /// The path on which the joiner reached the initiator.
    first: String,
    /// From the joiner's command until it had stored the initiator.
    first_byte: Duration,
    /// From the joiner being connected until one side said that the link is direct.
    direct: Option<Duration>,
}

/// Some pairings, whose links are watched together.
fn play(world: &World, runs: &[usize], gap: Duration) -> Result<Vec<Paired>> {
    let start = |run: &usize| Ok((Side::start(world, "alice", *run)?, Side::start(world, "bob", *run)?));
    let sides: Vec<(Side, Side)> = runs.iter().map(start).collect::<Result<_>>()?;
    std::thread::sleep(WARM_UP);
    let connections = sides.iter().map(|(alice, bob)| pair(alice, bob, gap)).collect::<Result<Vec<_>>>()?;
    let mut paired = Vec::new();
    for ((alice, bob), (first, pairing, connected)) in sides.iter().zip(connections) {
        let deadline = connected + DIRECT_LIMIT;
        let direct = [alice, bob].into_iter().filter_map(|side| side.became_direct(deadline)).min();
        let direct = direct.map(|at| at.saturating_duration_since(connected));
        paired.push(Paired { first, first_byte: pairing.joiner, direct });
    }
    Ok(paired)
}

/// Pairs them; gives the path of the joiner's first connection and when it was there as well.
fn pair(initiator: &Side, joiner: &Side, gap: Duration) -> Result<(String, Pairing, Instant)> {
    let offer = offer(&initiator.device, &["--yes"])?;
    std::thread::sleep(gap);
    let pairing = finish(offer, |words| join(&joiner.device, words, &["--yes"]))?;
    let connected = joiner.events.wait_event("connected", TOLD_LIMIT)?;
    Ok((connected.text("path")?.to_owned(), pairing, connected.at))
}

fn report_paths(report: &mut Report, options: &Options, times: &[Paired]) {
    let relayed: Vec<&Paired> = times.iter().filter(|paired| paired.first == "relay").collect();
    let first_bytes = Summary::of(&relayed.iter().map(|paired| paired.first_byte).collect::<Vec<_>>());
    let direct = Summary::of(&relayed.iter().filter_map(|paired| paired.direct).collect::<Vec<_>>());
    report.times("join to paired through the relay", first_bytes);
    report.times("connected by the relay to direct", direct);
    let upgraded = times.iter().filter(|paired| paired.direct.is_some()).count();
    report.check("every link becomes direct", upgraded == times.len(), format!("{upgraded} of {}", times.len()));
    let seen = format!("{} of {}", relayed.len(), times.len());
    report.check("pairings that begin through the relay", !relayed.is_empty(), seen);
    if options.limits {
        for (what, times, limit) in [
            ("the first byte through the relay", first_bytes, FIRST_BYTE_MEDIAN),
            ("direct after the relay", direct, DIRECT_MEDIAN),
        ] {
            let median = times.map_or(f64::INFINITY, |times| times.median_ms);
            let holds = median <= limit.as_secs_f64() * 1e3;
            report.check(&format!("{what}: median at most {limit:?}"), holds, format!("{median:.0} ms"));
        }
    }
}

/// What became of the requests.
struct Asked {
    requests: Vec<Request>,
    /// When each side was told that its link is direct.
    changed: [Option<Instant>; 2],
    /// From the way being open until the first of them.
    took: Option<Duration>,
    /// How often each side told of a change to a direct path.
    told: [usize; 2],
}

/// Pairs the two while no hole can be punched, begins the requests, then opens the way.
fn ask(world: &World, alice: &Side, bob: &Side, gap: Duration, count: usize) -> Result<Asked> {
    let closed = Closed::new(world)?;
    let (first, ..) = pair(alice, bob, gap)?;
    ensure!(first == "relay", "the two met by {first} although no hole can be punched");
    let ids = [alice.device.status()?.id, bob.device.status()?.id];
    let (requests, start) = (Requests::new(count), Instant::now());
    let sides = [(&alice.device, ids[1].as_str()), (&bob.device, ids[0].as_str())];
    let opened = requests.run(sides, || {
        while requests.ended() < count / BEFORE {
            ensure!(start.elapsed() < REQUESTS_LIMIT, "{} of {count} requests in {REQUESTS_LIMIT:?}", requests.ended());
            std::thread::sleep(POLL);
        }
        closed.open()
    })?;
    let changes = [alice, bob].map(|side| changes(&side.events));
    let changed = changes.each_ref().map(|changes| changes.first().copied());
    let took = changed.iter().flatten().min().map(|at| at.saturating_duration_since(opened));
    Ok(Asked { requests: requests.into_done(), changed, took, told: changes.map(|changes| changes.len()) })
}

/// When the path changed from a relay to a direct one.
fn changes(events: &Running) -> Vec<Instant> {
    let all = events.events();
    let to_direct = all.iter().filter(|event| event.is("path_changed") && event.json["to"] == "direct");
    to_direct.map(|event| event.at).collect()
}

/// The way between the two NATs is closed for UDP.
struct Closed<'a>(&'a World);

impl<'a> Closed<'a> {
    fn new(world: &'a World) -> Result<Closed<'a>> {
        let (alice, bob) = (world.lab.host("alice")?.ipv4(), world.lab.host("bob")?.ipv4());
        world.lab.backbone().nft(&format!(
            "table ip closed {{
                chain passing {{
                    type filter hook forward priority filter;
                    ip saddr {alice} ip daddr {bob} meta l4proto udp drop
                    ip saddr {bob} ip daddr {alice} meta l4proto udp drop
                }}
            }}"
        ))?;
        Ok(Closed(world))
    }

    fn open(self) -> Result<Instant> {
        self.0.lab.backbone().nft("delete table ip closed")?;
        Ok(Instant::now())
    }
}

/// Why a request was not answered, and when.
fn lost(request: &Request, changed: Option<Instant>) -> Option<String> {
    let cause = request.result.as_ref().err()?;
    let took = request.ended.saturating_duration_since(request.asked).as_millis();
    let when = changed.map_or_else(
        || "without any change".to_owned(),
        |at| match request.asked.checked_duration_since(at) {
            Some(after) => format!("{} ms after the change", after.as_millis()),
            None => format!("{} ms before the change", at.saturating_duration_since(request.asked).as_millis()),
        },
    );
    Some(format!("{cause} after {took} ms, sent {when}"))
}

fn report_requests(report: &mut Report, count: usize, asked: &Asked) {
    let Asked { requests, changed, took, told } = asked;
    let answered = requests.iter().filter(|request| request.result.is_ok()).count();
    let lost: Vec<String> = requests.iter().filter_map(|request| lost(request, changed[request.side])).collect();
    let shown = lost.iter().take(LOST_SHOWN).cloned().collect::<Vec<_>>().join("; ");
    let seen = format!("{answered} of {count} {shown}");
    report.check("every request is answered, once", answered == count && requests.len() == count, seen);
    // Each side by its own knowledge: when it asked, and when it was told of the change.
    let (mut before, mut during, mut after) = ([0; 2], [0; 2], [0; 2]);
    let (mut relayed_late, mut direct_early) = (0, 0);
    for request in requests {
        let side = request.side;
        let is_direct = request.result.as_ref().is_ok_and(|pong| pong.path != "relay");
        match changed[side] {
            Some(at) if request.asked > at => {
                after[side] += 1;
                relayed_late += usize::from(request.result.is_ok() && !is_direct);
            }
            Some(at) if request.ended > at => during[side] += 1,
            Some(_) | None => {
                before[side] += 1;
                direct_early += usize::from(is_direct);
            }
        }
    }
    let all = |counts: [usize; 2]| format!("{} ({} and {})", counts[0] + counts[1], counts[0], counts[1]);
    let (b, d, a) = (all(before), all(during), all(after));
    report.note(format!("requests answered before the change {b}, under way during it {d}, sent after it {a}"));
    let took = took.map_or_else(|| "never".to_owned(), |took| format!("{:.0} ms", took.as_secs_f64() * 1e3));
    report.note(format!("from the way being open to the change: {took}"));
    let is_midway = before.iter().chain(&during).chain(&after).all(|count| *count > 0);
    report.check(
        "the path changes once on each side while requests are under way",
        is_midway && *told == [1, 1],
        format!("{told:?}"),
    );
    let seen = format!("{relayed_late} by the relay after it, {direct_early} direct before it");
    report.check(
        "requests go by the relay before the change and directly after it",
        relayed_late + direct_early == 0,
        seen,
    );
}
