//! Pairings by words between devices behind every two kinds of NAT: by which path they begin, which they end on, and how
//! fast (requirements B12, B14, B28 and C14).
//!
//! What a pair must come to is computed from what its two networks do, not listed. Where no direct path can be asked for,
//! the relay has to be there at once; if such a pair becomes direct all the same, that is counted.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::stun::behaviour::{Filtering, Mapping};

use super::pairing::{Ending, Offer, became_direct, join, offer};
use super::published::{self, Published};
use super::{Options, world::World};
use crate::device::Device;
use crate::nat::Nat;
use crate::peer::Peer;
use crate::process::Running;
use crate::report::Report;
use crate::stats::Summary;
use crate::topology::Lab;

/// What is in front of the initiator, and of the joiner.
pub type Pair = (Nat, Nat);

/// Pairs whose devices run at the same time. They pair one after the other, so that each is timed alone.
const BATCH: usize = Nat::ALL.len();

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

/// What a pair must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Best {
    /// A direct path, at once or after a relay.
    Direct,
    /// The relay at once; this is why there need not be more.
    Relay(&'static str),
}

const NO_HOLES: &str = "without UDP no hole can be counted on";
const NO_TCP_PORT: &str = "the TCP port of a NAT is not observed yet";
const ONLY_443: &str = "at port 443 there are only nodes";
const NO_ONE_PORT: &str = "a NAT shows another port to each peer";

/// Every pair of an initiator behind one of these (any if none is named) and a joiner behind anything; with `unordered`
/// no two kinds twice.
#[must_use]
pub fn pairs(initiators: &[String], unordered: bool) -> Vec<Pair> {
    let is_named = |nat: Nat| initiators.is_empty() || initiators.iter().any(|name| name == nat.name());
    let mut pairs: Vec<Pair> = Vec::new();
    for initiator in Nat::ALL.into_iter().filter(|nat| is_named(*nat)) {
        for joiner in Nat::ALL {
            if !unordered || !pairs.contains(&(joiner, initiator)) {
                pairs.push((initiator, joiner));
            }
        }
    }
    pairs
}

/// Plays these pairs, none of them twice.
///
/// # Errors
/// When the lab cannot be made, or a device does not start. A pair that does not come to what it must is a failed check.
pub fn run(options: &Options, pairs: &[Pair]) -> Result<Report> {
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
    for batch in pairs.chunks(BATCH) {
        ends.extend(play(&world, &reader, batch, options.gap)?);
    }
    Ok(report(options, &ends))
}

/// What a pair must come to, from what its two networks do.
fn best((one, other): Pair) -> Best {
    if [one, other].contains(&Nat::Only443) {
        return Best::Relay(ONLY_443);
    }
    for (host, guest) in [(one, other), (other, one)] {
        if host.kind().is_some_and(|kind| kind.filtering == Filtering::EndpointIndependent) {
            // Whoever lets everybody in is reached by everybody who can speak to it.
            let without_udp = guest.kind().is_none() && host.translates();
            return if without_udp { Best::Relay(NO_TCP_PORT) } else { Best::Direct };
        }
    }
    let has_one_port = |mapping| matches!(mapping, Mapping::None | Mapping::EndpointIndependent);
    match (one.kind(), other.kind()) {
        (Some(one), Some(other)) if has_one_port(one.mapping) && has_one_port(other.mapping) => Best::Direct,
        (Some(_), Some(_)) => Best::Relay(NO_ONE_PORT),
        (None, _) | (_, None) => Best::Relay(NO_HOLES),
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

/// How a pair went, as far as the medians tell it apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Direct,
    Upgraded,
    Relayed,
}

impl Class {
    const ALL: [(Class, &str); 3] = [
        (Class::Direct, "direct at once"),
        (Class::Upgraded, "relay, then direct"),
        (Class::Relayed, "relay to the end"),
    ];
}

impl Paired {
    fn ends_on(&self, path: &str) -> bool {
        self.last.as_deref() == Ok(path)
    }

    fn class(&self) -> Class {
        match (self.first.as_str(), self.ends_on("direct")) {
            ("direct", _) => Class::Direct,
            (_, true) => Class::Upgraded,
            (_, false) => Class::Relayed,
        }
    }

    /// Is this what the pair must come to? A path that changed was told of, and times count if `limits` says so.
    fn is(&self, best: Best, limits: bool) -> bool {
        let is_told = self.first == "direct" || self.direct.is_some() == self.ends_on("direct");
        let is_known = self.ends_on("direct") || self.ends_on("relay");
        let in_time = !limits || self.first == "direct" || self.took <= RELAY_LIMIT;
        let is_good = match best {
            Best::Direct => self.ends_on("direct"),
            Best::Relay(_) => self.first == "relay" || self.ends_on("direct"),
        };
        is_told && is_known && in_time && is_good
    }
}

impl std::fmt::Display for Paired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ms", self.first, self.took.as_millis())?;
        if let Some(direct) = self.direct {
            write!(f, ", direct +{} ms", direct.as_millis())?;
        }
        match &self.last {
            Ok(last) if *last == self.first || self.direct.is_some() => Ok(()),
            Ok(last) => write!(f, ", at last {last}"),
            Err(error) => write!(f, ", ping: {error}"),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.result {
            Ok(paired) => paired.fmt(f),
            Err(why) => f.write_str(why),
        }
    }
}

/// Pairs that are played together: all are warm and show their codes, then one joiner after the other comes, and at last
/// the links are watched.
fn play(world: &World, reader: &Peer, pairs: &[Pair], gap: Duration) -> Result<Vec<End>> {
    let mut sides = Vec::new();
    for (initiator, joiner) in pairs {
        let of_initiator = world.device(&of_initiator(*initiator), &to(*joiner))?;
        let of_joiner = world.device(&of_joiner(*joiner), &from(*initiator))?;
        sides.push((Side::start(of_initiator)?, Side::start(of_joiner)?));
    }
    std::thread::sleep(WARM_UP);
    let offers: Vec<Offer> = sides.iter().map(|(side, _)| offer(&side.device, &["--yes"])).collect::<Result<_>>()?;
    std::thread::sleep(gap);
    let published: Vec<Result<Published, String>> = pairs
        .iter()
        .zip(&offers)
        .map(|((initiator, _), offer)| {
            let host = world.lab.host(&of_initiator(*initiator))?;
            published::check(world, reader, &host, offer)
        })
        .map(|result| result.map_err(|error| format!("{error:#}")))
        .collect();
    let mut pairings = Vec::new();
    for ((_, joiner), offer) in sides.iter().zip(offers) {
        pairings.push(pair(&joiner.device, offer)?);
    }
    let ends = pairs.iter().zip(&sides).zip(pairings).zip(published);
    Ok(ends
        .map(|(((pair, sides), result), published)| {
            let result = result.map(|begun| begun.watch(*pair, sides));
            End { pair: *pair, published, result }
        })
        .collect())
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
    fn watch(self, (of_initiator, of_joiner): Pair, (initiator, joiner): &(Side, Side)) -> Paired {
        let direct = (self.first == "relay").then(|| {
            let deadline = self.paired + DIRECT_LIMIT;
            [joiner, initiator].into_iter().filter_map(|side| side.became_direct(deadline)).min()
        });
        let last = (|| {
            let there = joiner.device.path_of_ping(&to(of_joiner), PING_LIMIT).context("from the joiner")?;
            let back = initiator.device.path_of_ping(&from(of_initiator), PING_LIMIT).context("from the initiator")?;
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

/// The matrix, what each pair must come to, why not more, and the medians.
fn report(options: &Options, ends: &[End]) -> Report {
    let has_joiner = |nat: &Nat| ends.iter().any(|end| end.pair.1 == *nat);
    let joiners: Vec<Nat> = Nat::ALL.into_iter().filter(has_joiner).collect();
    let columns: Vec<&str> = ["initiator behind"].into_iter().chain(joiners.iter().map(|nat| nat.name())).collect();
    let mut report = Report::new("pairings by words, by what is in front of the joiner, 25 ms one way", &columns);
    for initiator in Nat::ALL.into_iter().filter(|nat| ends.iter().any(|end| end.pair.0 == *nat)) {
        let cell = |joiner: &Nat| ends.iter().find(|end| end.pair == (initiator, *joiner)).map(End::to_string);
        let cells = joiners.iter().map(|joiner| cell(joiner).unwrap_or_default());
        report.row([initiator.name().to_owned()].into_iter().chain(cells).collect());
    }
    for end in ends {
        let ((initiator, joiner), best) = (end.pair, best(end.pair));
        let wanted = if best == Best::Direct { "direct" } else { "by the relay at once" };
        let holds = end.result.as_ref().is_ok_and(|paired| paired.is(best, options.limits));
        let names = format!("{} and {}", initiator.name(), joiner.name());
        report.check(&format!("{names}: {wanted}"), holds, end.to_string());
        let (is_sound, seen) = match &end.published {
            Ok(published) => (true, published.to_string()),
            Err(wrong) => (false, wrong.clone()),
        };
        report.check(&format!("{names}: record and QR name only what may be right for their readers"), is_sound, seen);
    }
    note_reasons(&mut report, ends);
    note_medians(&mut report, ends);
    report
}

/// Where the relay is enough, and why.
fn note_reasons(report: &mut Report, ends: &[End]) {
    for why in [NO_ONE_PORT, NO_HOLES, NO_TCP_PORT, ONLY_443] {
        let of_reason: Vec<&End> = ends.iter().filter(|end| best(end.pair) == Best::Relay(why)).collect();
        if of_reason.is_empty() {
            continue;
        }
        let is_direct = |end: &&&End| end.result.as_ref().is_ok_and(|paired| paired.ends_on("direct"));
        let (direct, all) = (of_reason.iter().filter(is_direct).count(), of_reason.len());
        let name = |End { pair: (one, other), .. }: &&End| format!("{} and {}", one.name(), other.name());
        let names: Vec<String> = of_reason.iter().map(name).collect();
        report.note(format!("relay is enough, {direct} of {all} direct all the same: {why}: {}", names.join(", ")));
    }
}

/// The times of each class of paths.
fn note_medians(report: &mut Report, ends: &[End]) {
    let paired: Vec<&Paired> = ends.iter().filter_map(|end| end.result.as_ref().ok()).collect();
    let mut note = |name: &str, times: &[Duration]| {
        let Some(summary) = Summary::of(times) else { return };
        let Summary { count, min_ms: min, median_ms: median, p95_ms: p95, max_ms: max, .. } = summary;
        report.note(format!("{name}: {count}, median {median:.0} ms, p95 {p95:.0} ms ({min:.0} to {max:.0} ms)"));
        report.fact(name, summary);
    };
    for (class, name) in Class::ALL {
        let of_class: Vec<Duration> = paired.iter().filter(|p| p.class() == class).map(|p| p.took).collect();
        note(&format!("paired, {name}"), &of_class);
    }
    let direct: Vec<Duration> = paired.iter().filter_map(|paired| paired.direct).collect();
    note("from paired to direct", &direct);
}

/// The hosts of one kind, and the devices on them, which are told apart by their peer.
fn of_initiator(nat: Nat) -> String {
    format!("{}-i", nat.name())
}

fn of_joiner(nat: Nat) -> String {
    format!("{}-j", nat.name())
}

fn to(joiner: Nat) -> String {
    format!("to-{}", joiner.name())
}

fn from(initiator: Nat) -> String {
    format!("from-{}", initiator.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_played_once_in_both_orders_or_in_one() {
        let kinds = Nat::ALL.len();
        assert_eq!(pairs(&[], false).len(), kinds * kinds);
        assert_eq!(pairs(&[], true).len(), kinds * (kinds + 1) / 2);
        assert_eq!(pairs(&["open".to_owned()], false).len(), kinds);
    }

    #[test]
    fn what_a_pair_must_come_to_does_not_depend_on_who_shows_the_code() {
        for (one, other) in pairs(&[], false) {
            assert_eq!(best((one, other)), best((other, one)), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_direct_path_is_asked_for_where_the_two_networks_allow_one() {
        let direct = pairs(&[], true).into_iter().filter(|pair| best(*pair) == Best::Direct).count();
        // Open with all eight, full cone with six more, and any two of firewall, address- and port-restricted, carrier.
        assert_eq!(direct, 8 + 6 + 10);
        assert_eq!(best((Nat::NoUdp, Nat::Open)), Best::Direct);
        assert_eq!(best((Nat::FullCone, Nat::NoUdp)), Best::Relay(NO_TCP_PORT));
        assert_eq!(best((Nat::Firewall, Nat::NoUdp)), Best::Relay(NO_HOLES));
        assert_eq!(best((Nat::Open, Nat::Only443)), Best::Relay(ONLY_443));
        assert_eq!(best((Nat::Symmetric, Nat::AddressRestricted)), Best::Relay(NO_ONE_PORT));
        assert_eq!(best((Nat::FullCone, Nat::Symmetric)), Best::Direct);
    }
}
