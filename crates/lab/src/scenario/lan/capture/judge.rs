//! What a day's captures are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use handfast_proto::addr::{Class, classify};
use handfast_proto::code::qr::QrText;
use handfast_proto::wire::beacon::{BEACON_LEN, Beacon, HOP_LIMIT, PORT};

use super::{Hidden, Party};
use crate::lan::Profile;
use crate::lan::sightings::{Sighting, sent};
use crate::pcap::Packet;
use crate::report::Report;

/// Datagrams of a sweep in any one second (protocol, section 6.2), and what the peers that were heard get besides.
const SWEEP_PER_SECOND: usize = 200;
const DIRECT_PER_SECOND: usize = 10;

/// Bytes in a row that two windows have in common only if one copies the other.
const SHARED_RUN: usize = 8;

/// Where a beacon may differ from window to window: everything but layout, address and ports.
const FREE: [std::ops::Range<usize>; 2] = [8..40, 64..BEACON_LEN];

/// Two sightings of one datagram are not further apart.
const SAME: Duration = Duration::from_millis(50);

/// What was looked at in one capture, to be shown beside the verdict.
struct Counts {
    beacons: usize,
    asked: usize,
    fastest: usize,
    windows: usize,
}

pub(super) fn all(profile: Profile, parties: &[Party; 2], hidden: &Hidden, report: &mut Report) {
    let mut errors = Vec::new();
    for party in parties {
        let (counts, wrong) = one(profile, party, hidden);
        errors.extend(wrong.iter().map(|error| format!("{}: {error}", party.host)));
        let numbers = [party.captured.packets.len(), counts.beacons, counts.windows, counts.asked, counts.fastest];
        let cells = numbers.map(|number| number.to_string());
        let verdict = if wrong.is_empty() { "sound" } else { "not sound" };
        let names = [profile.name().to_owned(), party.host.to_owned()];
        report.row([&names[..], &cells, &[verdict.to_owned()]].concat());
    }
    let [initiator, _] = parties;
    errors.extend(hidden.texts.iter().filter_map(|text| Some(format!("{:#}", qr_is_sound(text, initiator).err()?))));
    let seen = if errors.is_empty() { format!("{} needles", hidden.count()) } else { errors.join("; ") };
    report.check(&format!("{}: {WHAT}", profile.name()), errors.is_empty(), seen);
}

/// What is held against each profile.
const WHAT: &str = "beacons are whole, from where they say, with real ports, and share nothing between windows; whoever is \
    asked one by one is in an own network, at most 200 a second; nothing leaves the link; no name, identity, word, key or \
    lookup id is seen; QR texts name real ports and addresses";

fn one(profile: Profile, party: &Party, hidden: &Hidden) -> (Counts, Vec<String>) {
    let packets = &party.captured.packets;
    let seen = sent(packets);
    let asked = asked_one_by_one(&seen, packets);
    let windows: BTreeSet<_> = seen.iter().filter_map(|sighting| Some(sighting.beacon.as_ref()?.nid)).collect();
    let fastest = fastest_second(&asked);
    let results = [
        (party.captured.lost == 0).then_some(()).context("the capture lost packets"),
        beacons_are_sound(&seen),
        ports_are_real(party, &seen),
        windows_share_nothing(&seen),
        sources_are_theirs(party, &seen),
        asked_at_home(party, &asked),
        nothing_leaves(profile, party),
        nothing_named(party, hidden),
    ];
    let counts = Counts { beacons: seen.len(), asked: asked.len(), fastest, windows: windows.len() };
    (counts, results.into_iter().filter_map(|result| Some(format!("{:#}", result.err()?))).collect())
}

fn beacons_are_sound(seen: &[Sighting<'_>]) -> Result<()> {
    ensure!(!seen.is_empty(), "no beacon was sent");
    let mut nonces: BTreeMap<_, &Sighting<'_>> = BTreeMap::new();
    for sighting in seen {
        let datagram = &sighting.datagram;
        let ends = datagram.ends;
        ensure!(datagram.payload.len() == BEACON_LEN, "{} bytes to {}", datagram.payload.len(), ends.to);
        ensure!(datagram.hop_limit == HOP_LIMIT, "hop limit {} to {}", datagram.hop_limit, ends.to);
        ensure!(ends.from.port() == PORT, "sent from port {}", ends.from.port());
        let Some(beacon) = &sighting.beacon else { bail!("no beacon, sent to {}", ends.to) };
        ensure!(beacon.address == ends.from.ip(), "{} is sent from {} to {}", beacon.address, ends.from, ends.to);
        let class = classify(beacon.address);
        ensure!(!matches!(class, Class::Unusable | Class::Loopback), "it names {}", beacon.address);
        let ports = beacon.ports;
        ensure!(ports.tcp != 0 && ports.quic != 0, "it names {ports:?}");
        ensure!(
            (ports.confirm == 0) == (beacon.spki == [0; 32]),
            "confirmation at {} with a key or not",
            ports.confirm
        );
        let first = nonces.entry(beacon.nonce).or_insert(sighting);
        // A bridge and its port show one and the same datagram.
        let is_same = first.datagram == *datagram && sighting.at.saturating_sub(first.at) < SAME;
        // To every host of a sweep goes the same one.
        ensure!(is_same || !(first.is_announced() || sighting.is_announced()), "a nonce is used twice");
    }
    Ok(())
}

/// Compares the ports of each window with what the system said while it was open.
fn ports_are_real(party: &Party, seen: &[Sighting<'_>]) -> Result<()> {
    let mut spans: BTreeMap<_, (Duration, Duration, &Beacon)> = BTreeMap::new();
    for sighting in seen {
        let Some(beacon) = &sighting.beacon else { continue };
        let span = spans.entry(beacon.nid).or_insert((sighting.at, sighting.at, beacon));
        span.1 = sighting.at;
    }
    let mut checked = 0;
    for (first, last, beacon) in spans.values() {
        for (at, listeners) in party.samples.iter().filter(|(at, _)| first < at && at < last) {
            let ports = beacon.ports;
            for (protocol, port) in [("tcp", ports.tcp), ("udp", ports.quic), ("tcp", ports.confirm)] {
                let is_open = port == 0 || listeners.contains(&(protocol.to_owned(), port));
                ensure!(is_open, "{protocol} port {port} is announced, and not open at {at:?}: {listeners:?}");
            }
            ensure!(ports.confirm != 0, "a window without a confirmation listener");
            checked += 1;
        }
    }
    ensure!(checked > 0, "no window was open when the system was asked");
    Ok(())
}

fn windows_share_nothing(seen: &[Sighting<'_>]) -> Result<()> {
    let mut runs: BTreeMap<&[u8], _> = BTreeMap::new();
    let mut windows = BTreeSet::new();
    for sighting in seen {
        let Some(beacon) = &sighting.beacon else { continue };
        windows.insert(beacon.nid);
        for range in FREE {
            let free = sighting.datagram.payload.get(range).unwrap_or_default();
            for run in free.windows(SHARED_RUN).filter(|run| run.iter().any(|byte| *byte != 0)) {
                let of = *runs.entry(run).or_insert(beacon.nid);
                ensure!(of == beacon.nid, "windows {:02x?} and {:02x?} share {run:02x?}", of.0, beacon.nid.0);
            }
        }
    }
    ensure!(windows.len() > 1, "only {} windows were seen", windows.len());
    Ok(())
}

/// A host that was asked alone, and when first.
type Asked = (IpAddr, Duration);

/// Hosts that got a beacon of their own, or were looked for to get one: where nobody has an address, the question for its
/// hardware address is all that is seen.
fn asked_one_by_one(seen: &[Sighting<'_>], packets: &[Packet]) -> Vec<Asked> {
    let mut first: BTreeMap<IpAddr, Duration> = BTreeMap::new();
    let beacons = seen.iter().filter(|s| !s.is_announced()).map(|s| (s.datagram.ends.to.ip(), s.at));
    let questions = packets.iter().filter(|p| p.is_sent()).filter_map(|p| Some((p.arp_target()?.into(), p.at)));
    for (ip, at) in beacons.chain(questions) {
        let known = first.entry(ip).or_insert(at);
        *known = at.min(*known);
    }
    let mut asked: Vec<Asked> = first.into_iter().collect();
    asked.sort_by_key(|(_, at)| *at);
    asked
}

fn fastest_second(asked: &[Asked]) -> usize {
    let within = |first: usize| {
        let end = asked[first].1 + Duration::from_secs(1);
        asked[first..].iter().take_while(|(_, at)| *at < end).count()
    };
    (0..asked.len()).map(within).max().unwrap_or(0)
}

fn sources_are_theirs(party: &Party, seen: &[Sighting<'_>]) -> Result<()> {
    for sighting in seen {
        let ends = sighting.datagram.ends;
        let network = party.own.iter().find(|own| own.ip == ends.from.ip());
        let network = network.with_context(|| format!("{} is no address of {}", ends.from.ip(), party.host))?;
        let near = sighting.is_announced() || network.contains(ends.to.ip());
        ensure!(near, "{} sends a beacon to {}", ends.from.ip(), ends.to.ip());
    }
    Ok(())
}

fn asked_at_home(party: &Party, asked: &[Asked]) -> Result<()> {
    for (ip, _) in asked {
        ensure!(party.own.iter().any(|own| own.contains(*ip)), "{ip} is asked, which is in no own network");
    }
    let fastest = fastest_second(asked);
    ensure!(fastest <= SWEEP_PER_SECOND + DIRECT_PER_SECOND, "{fastest} hosts are asked in one second");
    Ok(())
}

/// No bootstrap node, no relay, no name server: without a QR text that names an address elsewhere, a device has no reason
/// to speak to anybody beyond its networks.
fn nothing_leaves(profile: Profile, party: &Party) -> Result<()> {
    let forwards = profile == Profile::Hotspot && party.host == "alice";
    for packet in party.captured.packets.iter().filter(|packet| packet.is_sent()) {
        let Some(ends) = packet.ends() else { continue };
        let to = ends.to.ip();
        let is_near = to.is_loopback() || is_group(to) || party.own.iter().any(|own| own.contains(to));
        // A QR text leads wherever it says, and whoever was led to us is answered.
        let is_led =
            ends.to.port() != PORT && (party.hinted.contains(&to) || is_answer(packet, &party.captured.packets));
        ensure!(is_near || is_led || forwards, "{} sent to {}", ends.from, ends.to);
    }
    Ok(())
}

/// Does the packet go to somebody who has written first?
fn is_answer(packet: &Packet, all: &[Packet]) -> bool {
    let Some(ends) = packet.ends() else { return false };
    all.iter()
        .take_while(|other| *other != packet)
        .any(|other| !other.is_sent() && other.ends().is_some_and(|came| came.from.ip() == ends.to.ip()))
}

fn is_group(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

fn nothing_named(party: &Party, hidden: &Hidden) -> Result<()> {
    for needles in &hidden.needles {
        let found = party.captured.search(needles);
        if let Some(first) = found.first() {
            bail!("{} findings, the first: {} in {}", found.len(), first.needle, first.place);
        }
    }
    Ok(())
}

fn qr_is_sound(text: &str, initiator: &Party) -> Result<()> {
    let qr = QrText::parse(text).context("a QR text")?;
    ensure!(!qr.hints.is_empty() && qr.port != 0, "port {} and no address", qr.port);
    for hint in &qr.hints {
        let class = classify(*hint);
        let means_something = !matches!(class, Class::Unusable | Class::Loopback | Class::LinkLocal);
        ensure!(means_something, "it names {hint}");
        ensure!(initiator.own.iter().any(|own| own.ip == *hint), "{hint} is no address of the initiator");
    }
    let is_open = initiator.samples.iter().any(|(_, open)| open.contains(&("tcp".to_owned(), qr.port)));
    ensure!(is_open, "nobody listens at port {}", qr.port);
    Ok(())
}
