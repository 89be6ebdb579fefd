//! Pairings by words between devices behind every two kinds of NAT: by which path they begin, which they end on, and how
//! fast (requirements B12, B14, B28 and C14, acceptance line 1).
//!
//! What a pair must come to is computed from what its two networks do, not listed. Where no direct path can be asked for,
//! the relay has to be there at once; if such a pair becomes direct all the same, that is counted.

mod best;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::pairing::{Ending, Offer, became_direct, join, offer};
use super::published::{self, Published};
use super::{Options, world::World};
use crate::device::Device;
use crate::nat::Nat;
use crate::peer::Peer;
use crate::process::Running;
use crate::report::Report;
use crate::topology::Lab;

/// What is in front of the initiator, and of the joiner.
pub type Pair = (Nat, Nat);

/// Pairs whose devices run at the same time. They pair one after the other, so that each is timed alone. Each kind of NAT
/// has two devices of each role at most among them, as [`pairs`] orders them: others behind one's NAT are another matter.
const BATCH: usize = 2 * Nat::ALL.len();

/// Where somebody reads what is published.
const READER: &str = "reader";

/// A joiner that cannot reach its initiator has said so by then.
const JOIN_LIMIT: Duration = Duration::from_secs(40);

/// How long the devices get to enter the DHT and to hear how others see them.
const WARM_UP: Duration = Duration::from_secs(4);

/// How long after the joiners the initiators are waited for. Those that nobody has reached are told to stop.
const INITIATOR_LIMIT: Duration = Duration::from_secs(5);

/// How long after the pairing a relayed link is watched for becoming direct.
const DIRECT_LIMIT: Duration = Duration::from_secs(8);

/// How long the pings of a pair that is connected may take.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// A pairing through a relay is done by then.
const RELAY_LIMIT: Duration = Duration::from_secs(3);

/// Every pair of an initiator behind one of these and a joiner behind one of those (any if none is named); with
/// `unordered` no two kinds twice.
#[must_use]
pub fn pairs(initiators: &[String], joiners: &[String], unordered: bool) -> Vec<Pair> {
    let is_named = |names: &[String], nat: Nat| names.is_empty() || names.iter().any(|name| name == nat.name());
    let kinds = Nat::ALL.len();
    let mut pairs: Vec<Pair> = Vec::new();
    for (step, index) in (0..kinds).flat_map(|step| (0..kinds).map(move |index| (step, index))) {
        let (initiator, joiner) = (Nat::ALL[index], Nat::ALL[(index + step) % kinds]);
        let is_meant = is_named(initiators, initiator) && is_named(joiners, joiner);
        if is_meant && !(unordered && pairs.contains(&(joiner, initiator))) {
            pairs.push((initiator, joiner));
        }
    }
    pairs
}

/// Plays these pairs, none of them twice, `options.runs` times with new devices. If they take turns (`by_turns`), the
/// joiner of one run is the initiator of the next.
///
/// # Errors
/// When the lab cannot be made, or a device does not start. A pair that does not come to what it must is a failed check.
pub fn run(options: &Options, pairs: &[Pair], by_turns: bool) -> Result<Report> {
    let mut builder = Lab::empty();
    for nat in Nat::ALL {
        builder = builder.behind(nat, &of_initiator(nat)).behind(nat, &of_joiner(nat));
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder.host(READER), options, None)?;
    let reader = Peer::device(&world.lab.host(READER)?, &world.dht.bootstrap())?;
    reader.wait_for_nodes(1)?;
    let mut ends = Vec::new();
    for run in 0..options.runs {
        for batch in pairs.chunks(BATCH) {
            let is_swapped = by_turns && run % 2 == 1;
            let plays = batch.iter().map(|(one, other)| Play {
                cell: if by_turns { (*one.min(other), *one.max(other)) } else { (*one, *other) },
                pair: if is_swapped { (*other, *one) } else { (*one, *other) },
                run,
            });
            ends.extend(play(&world, &reader, &plays.collect::<Vec<_>>(), options.gap)?);
        }
    }
    Ok(table::report(options, by_turns, &ends))
}

/// One pairing that is to be.
#[derive(Clone, Copy)]
struct Play {
    /// Where it stands in the matrix.
    cell: Pair,
    pair: Pair,
    run: usize,
}

impl Play {
    /// The names of the two devices, which are told apart by their peer.
    fn names(&self) -> (String, String) {
        let ((initiator, joiner), run) = (self.pair, self.run);
        (format!("to-{}-{run}", joiner.name()), format!("from-{}-{run}", initiator.name()))
    }
}

/// A device of a pair, and the events that it tells.
struct Side {
    device: Device,
    events: Running,
}

impl Side {
    fn start(mut device: Device) -> Result<Side> {
        device.start_daemon()?;
        let events = device.spawn(&["events"], None)?;
        Ok(Side { device, events })
    }

    /// When its link became direct, if it did until `deadline`.
    fn became_direct(&self, deadline: Instant) -> Option<Instant> {
        became_direct(&self.events, deadline)
    }
}

/// How a pair ended.
struct End {
    cell: Pair,
    pair: Pair,
    /// What the initiator had published before.
    published: Result<Published, String>,
    result: Result<Paired, String>,
}

struct Paired {
    /// The path on which the joiner reached the initiator.
    first: String,
    /// From the joiner's command until it had stored the initiator.
    took: Duration,
    /// From there until one of the two said that the link is direct.
    direct: Option<Duration>,
    /// The path of a ping from either side.
    last: Result<String, String>,
}

/// Pairs that are played together: all are warm and show their codes, then one joiner after the other comes, and at last
/// the links are watched.
fn play(world: &World, reader: &Peer, plays: &[Play], gap: Duration) -> Result<Vec<End>> {
    let mut sides = Vec::new();
    for play in plays {
        let ((initiator, joiner), (of_initiator, of_joiner)) = (hosts(play.pair), play.names());
        let start = |host: &str, name: &str| Side::start(world.device(host, name)?);
        sides.push((start(&initiator, &of_initiator)?, start(&joiner, &of_joiner)?));
    }
    std::thread::sleep(WARM_UP);
    let offers: Vec<Offer> = sides.iter().map(|(side, _)| offer(&side.device, &["--yes"])).collect::<Result<_>>()?;
    std::thread::sleep(gap);
    let published: Vec<Result<Published, String>> = plays
        .iter()
        .zip(&offers)
        .map(|(play, offer)| published::check(world, reader, &world.lab.host(&hosts(play.pair).0)?, offer))
        .map(|result| result.map_err(|error| format!("{error:#}")))
        .collect();
    let mut pairings = Vec::new();
    for ((_, joiner), offer) in sides.iter().zip(offers) {
        pairings.push(pair(&joiner.device, offer)?);
    }
    let mut ends = Vec::new();
    for (((play, sides), result), published) in plays.iter().zip(&sides).zip(pairings).zip(published) {
        let result = result.map(|begun| begun.watch(play, sides));
        ends.push(End { cell: play.cell, pair: play.pair, published, result });
    }
    stop(sides)?;
    Ok(ends)
}

/// Ends all devices at once. Those that have had ports mapped give them back.
fn stop(sides: Vec<(Side, Side)>) -> Result<()> {
    std::thread::scope(|scope| {
        let stops = sides.into_iter().flat_map(|(one, other)| [one, other]);
        let stops: Vec<_> = stops.map(|mut side| scope.spawn(move || side.device.stop())).collect();
        stops.into_iter().try_for_each(|stop| match stop.join() {
            Ok(stopped) => stopped.map(drop),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// A pairing that is done, before its link was watched.
struct Begun {
    first: String,
    started: Instant,
    paired: Instant,
}

/// One pairing; the inner error is how it ended otherwise.
fn pair(joiner: &Device, offer: Offer) -> Result<Result<Begun, String>> {
    let joining = join(joiner, &offer.words, &["--yes"])?;
    let started = joining.started();
    // Why it did not come is told by how the command ends.
    let paired = joining.wait_event("paired", JOIN_LIMIT).ok();
    let connected = joining.event("connected");
    if offer.process.wait_event("paired", if paired.is_some() { INITIATOR_LIMIT } else { Duration::ZERO }).is_err() {
        offer.process.interrupt()?;
    }
    let of_joiner = joining.finish(JOIN_LIMIT)?;
    let of_initiator = offer.process.finish(JOIN_LIMIT)?;
    let Some((paired, connected)) = paired.zip(connected).filter(|_| of_initiator.status.success()) else {
        let (joiner, initiator) = (Ending::of(&of_joiner), Ending::of(&of_initiator));
        let took = of_joiner.elapsed.as_secs_f64();
        let whose = if joiner.exit == Some(0) { format!("initiator {initiator}") } else { joiner.to_string() };
        return Ok(Err(format!("{whose} {took:.1} s")));
    };
    Ok(Ok(Begun { first: connected.text("path")?.to_owned(), started, paired: paired.at }))
}

impl Begun {
    /// Watches the link until it is direct or has had its time, then pings both ways.
    fn watch(self, play: &Play, (initiator, joiner): &(Side, Side)) -> Paired {
        let (to_joiner, to_initiator) = play.names();
        let direct = (self.first == "relay").then(|| {
            let deadline = self.paired + DIRECT_LIMIT;
            [joiner, initiator].into_iter().filter_map(|side| side.became_direct(deadline)).min()
        });
        let last = (|| {
            let there = joiner.device.path_of_ping(&to_joiner, PING_LIMIT).context("from the joiner")?;
            let back = initiator.device.path_of_ping(&to_initiator, PING_LIMIT).context("from the initiator")?;
            ensure!(there == back, "{there} from the joiner, {back} from the initiator");
            Ok(there)
        })();
        Paired {
            first: self.first,
            took: self.paired.saturating_duration_since(self.started),
            direct: direct.flatten().map(|at| at.saturating_duration_since(self.paired)),
            last: last.map_err(|error| format!("{error:#}")),
        }
    }
}

/// The hosts of the two.
fn hosts((initiator, joiner): Pair) -> (String, String) {
    (of_initiator(initiator), of_joiner(joiner))
}

fn of_initiator(nat: Nat) -> String {
    format!("{}-i", nat.name())
}

fn of_joiner(nat: Nat) -> String {
    format!("{}-j", nat.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_played_once_in_both_orders_or_in_one() {
        let kinds = Nat::ALL.len();
        assert_eq!(pairs(&[], &[], false).len(), kinds * kinds);
        assert_eq!(pairs(&[], &[], true).len(), kinds * (kinds + 1) / 2);
        let open = ["open".to_owned()];
        assert_eq!((pairs(&open, &[], true).len(), pairs(&open, &open, false)), (kinds, vec![(Nat::Open, Nat::Open)]));
    }

    #[test]
    fn no_kind_has_more_than_two_devices_of_a_role_at_a_time() {
        for unordered in [false, true] {
            for batch in pairs(&[], &[], unordered).chunks(BATCH) {
                for nat in Nat::ALL {
                    assert!(batch.iter().filter(|(initiator, _)| *initiator == nat).count() <= 2);
                    assert!(batch.iter().filter(|(_, joiner)| *joiner == nat).count() <= 2);
                }
            }
        }
    }
}
