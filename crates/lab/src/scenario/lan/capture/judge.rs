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

/// UDP ports of what the lab's own VPN carries.
const TUNNEL_PORT: u16 = 4789;

pub(super) fn all(profile: Profile, parties: &[Party; 2], hidden: &Hidden, report: &mut Report) {
    let name = profile.name();
    for party in parties {
        let packets = &party.captured.packets;
        let seen = sent(packets);
        let sweep = unicast(&seen);
        let checked = ports_are_real(party, &seen);
        let windows: BTreeSet<_> = seen.iter().filter_map(|s| Some(s.beacon.as_ref()?.nid)).collect();
        report.row(vec![
            name.to_owned(),
            party.host.to_owned(),
            packets.len().to_string(),
            seen.len().to_string(),
            sweep.len().to_string(),
            fastest_second(&sweep).to_string(),
            windows.len().to_string(),
            checked.as_ref().map_or_else(|_| "-".to_owned(), |count| count.to_string()),
        ]);
        let mut check = |what: &str, result: Result<String>| {
            let what = format!("{name}, {}: {what}", party.host);
            match result {
                Ok(seen) => report.check(&what, true, seen),
                Err(error) => report.check(&what, false, format!("{error:#}")),
            }
        };
        let lost = party.captured.lost;
        check("the capture is complete", (lost == 0).then(|| "nothing lost".to_owned()).context("packets were lost"));
        check(
            "beacons are whole, from where they say, and name no address that means nothing",
            beacons_are_sound(&seen),
        );
        check("their ports are those of the system", checked.map(|count| format!("{count} windows")));
        check("two windows have nothing in common", windows_share_nothing(&seen));
        check("beacons sent to one host stay in the own networks, at most 200/s", sweep_stays_home(party, &sweep));
        check("nothing is sent off the link", nothing_leaves(profile, party));
        check("no name, identity, word, key or lookup id", nothing_named(party, hidden));
    }
    for text in &hidden.texts {
        let what = format!("{name}: QR texts name the system's port and addresses that mean something");
        match qr_is_sound(text, &parties[0]) {
            Ok(seen) => report.check(&what, true, seen),
            Err(error) => report.check(&what, false, format!("{error:#}")),
        }
    }
}

fn beacons_are_sound(seen: &[Sighting<'_>]) -> Result<String> {
    ensure!(!seen.is_empty(), "no beacon was sent");
    let mut nonces = BTreeSet::new();
    for sighting in seen {
        let datagram = &sighting.datagram;
        let ends = datagram.ends;
        ensure!(datagram.payload.len() == BEACON_LEN, "{} bytes to {}", datagram.payload.len(), ends.to);
        ensure!(datagram.hop_limit == HOP_LIMIT, "hop limit {} to {}", datagram.hop_limit, ends.to);
        ensure!(ends.from.port() == PORT, "sent from port {}", ends.from.port());
        let Some(beacon) = &sighting.beacon else { bail!("no beacon, sent to {}", ends.to) };
        ensure!(beacon.address == ends.from.ip(), "{} is sent from {}", beacon.address, ends.from);
        let class = classify(beacon.address);
        ensure!(!matches!(class, Class::Unusable | Class::Loopback), "it names {}", beacon.address);
        let ports = beacon.ports;
        ensure!(ports.tcp != 0 && ports.quic != 0, "it names {ports:?}");
        ensure!(
            (ports.confirm == 0) == (beacon.spki == [0; 32]),
            "confirmation at {} with a key or not",
            ports.confirm
        );
        // One beacon is not sent twice: even to several destinations each is made anew.
        ensure!(nonces.insert(beacon.nonce) || !sighting.is_announced(), "a nonce is used twice");
    }
    Ok(format!("{} beacons", seen.len()))
}

/// Compares the ports of each window with what the system said while it was open; gives how many windows that was.
fn ports_are_real(party: &Party, seen: &[Sighting<'_>]) -> Result<usize> {
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
    Ok(checked)
}

fn windows_share_nothing(seen: &[Sighting<'_>]) -> Result<String> {
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
    Ok(format!("{} windows", windows.len()))
}

fn unicast<'a, 'b>(seen: &'b [Sighting<'a>]) -> Vec<&'b Sighting<'a>> {
    seen.iter().filter(|sighting| !sighting.is_announced()).collect()
}

fn fastest_second(sweep: &[&Sighting<'_>]) -> usize {
    let mut most = 0;
    for (first, sighting) in sweep.iter().enumerate() {
        let end = sighting.at + Duration::from_secs(1);
        most = most.max(sweep[first..].iter().take_while(|later| later.at < end).count());
    }
    most
}

fn sweep_stays_home(party: &Party, sweep: &[&Sighting<'_>]) -> Result<String> {
    for sighting in sweep {
        let ends = sighting.datagram.ends;
        let network = party.own.iter().find(|own| own.ip == ends.from.ip());
        let network = network.with_context(|| format!("{} is no address of {}", ends.from.ip(), party.host))?;
        ensure!(network.contains(ends.to.ip()), "{} asks {}", ends.from.ip(), ends.to.ip());
    }
    let fastest = fastest_second(sweep);
    ensure!(fastest <= SWEEP_PER_SECOND + DIRECT_PER_SECOND, "{fastest} in one second");
    Ok(format!("{} datagrams, at most {fastest} in one second", sweep.len()))
}

/// No bootstrap node, no relay, no name server: without a QR text that names an address elsewhere, a device has no reason
/// to speak to anybody beyond its networks.
fn nothing_leaves(profile: Profile, party: &Party) -> Result<String> {
    let forwards = profile == Profile::Hotspot && party.host == "alice";
    let mut sent = 0;
    for packet in party.captured.packets.iter().filter(|packet| packet.is_sent()) {
        let Some(ends) = packet.ends() else { continue };
        sent += 1;
        let to = ends.to.ip();
        let is_near = party.own.iter().any(|own| own.contains(to) || own.ip == to);
        let is_own = to.is_loopback() || party.own.iter().any(|own| own.ip == to);
        let answers = party.hinted.contains(&to) || party.own.iter().any(|own| party.hinted.contains(&own.ip));
        let is_led = profile == Profile::Routed && (answers || is_answer(packet, &party.captured.packets));
        let fine = is_near || is_own || is_group(to) || is_led || forwards || ends.to.port() == TUNNEL_PORT;
        ensure!(fine, "{} sent to {}", ends.from, ends.to);
    }
    Ok(format!("{sent} packets"))
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

fn nothing_named(party: &Party, hidden: &Hidden) -> Result<String> {
    let mut count = 0;
    for needles in &hidden.needles {
        count += needles.len();
        let found = party.captured.search(needles);
        if let Some(first) = found.first() {
            bail!("{} findings, the first: {} in {}", found.len(), first.needle, first.place);
        }
    }
    Ok(format!("none of {count} needles"))
}

fn qr_is_sound(text: &str, initiator: &Party) -> Result<String> {
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
    Ok(format!("port {}, {} addresses", qr.port, qr.hints.len()))
}
