//! Attack 23, and what of 25 concerns beacons: a beacon that is not what it must be moves nobody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use handfast_proto::wire::beacon::{BEACON_LEN, HOP_LIMIT, PORT};

use super::super::super::Options;
use super::Case;
use super::forge::{CODE, FROM_JOINER, NEARBY, Told, beacon};
use super::stage::{ANSWER, Shown, Stage};
use super::tls::{Server, Visit};
use crate::capture::Captured;
use crate::scenario::attack::forge::CodeSecrets;

/// Nobody's neighbour.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// A neighbour that says nothing.
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 200));

/// The longest payload of a UDP datagram over IPv4.
const OVERSIZED: usize = 65_507;

pub(super) const CASES: &[Case] = &[
    ("-", "a right beacon of somebody who has the code is answered", answered),
    ("23", "a MAC made without the code", |stage, _| unmoved(stage, wrong_mac)),
    ("23", "a right MAC, and time to live 254", |stage, _| unmoved(stage, hop_limit)),
    ("23", "a right MAC, from beyond the network", |stage, _| unmoved(stage, off_link)),
    ("23, 25", "a right MAC over a third host's address", |stage, _| unmoved(stage, third_host)),
    ("23", "111 and 113 bytes", |stage, _| unmoved(stage, lengths)),
    ("23", "64 kB", |stage, _| unmoved(stage, oversized)),
    ("23", "kind 2 to one host, and to the group", |stage, _| unmoved(stage, nearby)),
    ("23", "reserved bits, other kinds, other versions", |stage, _| unmoved(stage, reserved)),
    ("23", "bob's own beacon, replayed by another host", replayed),
];

/// What the others must not bring about.
fn answered(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let server = Server::start(stage.mallory.host.namespace(), true)?;
    let told = stage.told(server.port()?, server.spki);
    let right = beacon(CODE, FROM_JOINER, &told, Some(&shown.secrets.lan))?;
    let mut visit = None;
    let captured = stage.watch(|| {
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &right)?;
        visit = Some(server.visit(ANSWER)?);
        Ok(())
    })?;
    ensure!(matches!(visit, Some(Visit::Said(_))), "alice called and {visit:?}");
    let moved = stage.turned_to(&captured);
    ensure!(moved.contains(&stage.mallory.ip), "alice turned to {moved:?}");
    let (came, went) = udp_bytes(stage, &captured);
    // Whoever stands in her system's table of neighbours gets one beacon in 20 s, asked or not.
    ensure!(went <= came + BEACON_LEN, "alice sent {went} bytes of UDP to somebody who had sent {came}");
    Ok(format!("alice called back, and answered {came} bytes of UDP with {went}"))
}

/// Bytes of UDP that mallory sent to alice or to the group, and that alice sent to mallory alone, by which beacons are
/// meant: what is dialled afterwards has a budget of its own.
fn udp_bytes(stage: &Stage, captured: &Captured) -> (usize, usize) {
    let (mut came, mut went) = (0, 0);
    for packet in &captured.packets {
        let Some(datagram) = packet.datagram().filter(|datagram| datagram.ends.to.port() == PORT) else { continue };
        if packet.is_sent() && datagram.ends.to.ip() == stage.mallory.ip {
            went += datagram.payload.len();
        } else if !packet.is_sent() && datagram.ends.from.ip() == stage.mallory.ip {
            came += datagram.payload.len();
        }
    }
    (came, went)
}

/// Plays something that must move nobody, and then pairs.
fn unmoved(stage: &Stage, attack: fn(&Stage, &Shown) -> Result<()>) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let captured = stage.watch(|| attack(stage, &shown))?;
    let moved = stage.turned_to(&captured);
    ensure!(moved.is_empty(), "alice turned to {moved:?}");
    let took = stage.still_pairs(shown)?;
    Ok(format!("nobody was turned to; then paired in {} ms", took.as_millis()))
}

fn wrong_mac(stage: &Stage, _: &Shown) -> Result<()> {
    let stranger = CodeSecrets::wrong()?;
    let told = stage.told(40_003, [7; 32]);
    for key in [None, Some(&stranger.lan)] {
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &beacon(CODE, FROM_JOINER, &told, key)?)?;
    }
    Ok(())
}

fn right(stage: &Stage, shown: &Shown, address: IpAddr) -> Result<Vec<u8>> {
    let told = Told { address, ..stage.told(40_003, [7; 32]) };
    beacon(CODE, FROM_JOINER, &told, Some(&shown.secrets.lan))
}

fn hop_limit(stage: &Stage, shown: &Shown) -> Result<()> {
    for hop_limit in [HOP_LIMIT - 1, 64, 1] {
        let bytes = right(stage, shown, stage.mallory.ip)?;
        stage.mallory.say(stage.victim, stage.mallory.ip, hop_limit, &bytes)?;
    }
    Ok(())
}

fn off_link(stage: &Stage, shown: &Shown) -> Result<()> {
    stage.mallory.say(stage.victim, FAR, HOP_LIMIT, &right(stage, shown, FAR)?)
}

/// The address inside is not that of the sender: as somebody would write it who wants alice to dial another.
fn third_host(stage: &Stage, shown: &Shown) -> Result<()> {
    for address in [THIRD, FAR, IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))] {
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &right(stage, shown, address)?)?;
    }
    Ok(())
}

fn lengths(stage: &Stage, shown: &Shown) -> Result<()> {
    let bytes = right(stage, shown, stage.mallory.ip)?;
    let longer = [bytes.as_slice(), &[0]].concat();
    for payload in [&bytes[..111], &bytes[..1], &[], &longer] {
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, payload)?;
    }
    Ok(())
}

/// In fragments, as no frame is so long; its first bytes are a right beacon.
fn oversized(stage: &Stage, shown: &Shown) -> Result<()> {
    let mut bytes = right(stage, shown, stage.mallory.ip)?;
    bytes.resize(OVERSIZED, 0);
    let from = SocketAddr::new(stage.mallory.ip, PORT);
    let socket = stage.mallory.host.namespace().enter(|| UdpSocket::bind(from))??;
    socket.set_ttl(HOP_LIMIT.into())?;
    for _ in 0..5 {
        socket.send_to(&bytes, SocketAddr::new(stage.victim, PORT))?;
    }
    Ok(())
}

fn nearby(stage: &Stage, shown: &Shown) -> Result<()> {
    let told = stage.told(40_003, [7; 32]);
    let mut open = beacon(NEARBY, 0, &told, None)?;
    open[96..].fill(0);
    let sealed = beacon(NEARBY, 0, &told, Some(&shown.secrets.lan))?;
    for bytes in [open, sealed] {
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &bytes)?;
    }
    Ok(())
}

fn reserved(stage: &Stage, shown: &Shown) -> Result<()> {
    let told = stage.told(40_003, [7; 32]);
    for (kind, flags) in [(CODE, 2), (CODE, 0x81), (0, 1), (3, 1), (4, 0), (0xff, 0xff)] {
        let bytes = beacon(kind, flags, &told, Some(&shown.secrets.lan))?;
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &bytes)?;
    }
    // Another version or name, with a MAC that is right for the first.
    let bytes = beacon(CODE, FROM_JOINER, &told, Some(&shown.secrets.lan))?;
    for (at, value) in [(4, 0), (4, 2), (0, b'h'), (7, 1), (63, 1)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &changed)?;
    }
    Ok(())
}

/// What a real joiner said, word for word, from mallory's address.
fn replayed(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let bob = stage.lab.address("bob")?;
    // Bob's beacon as his device would make it for this code; his pairing itself would end the window.
    let told = Told { address: bob, ..stage.told(40_003, [7; 32]) };
    let recorded = beacon(CODE, FROM_JOINER, &told, Some(&shown.secrets.lan))?;
    let captured = stage.watch(|| {
        for _ in 0..20 {
            stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &recorded)?;
        }
        Ok(())
    })?;
    let moved = stage.turned_to(&captured);
    ensure!(moved.is_empty(), "alice turned to {moved:?}");
    let took = stage.still_pairs(shown)?;
    Ok(format!("nobody was turned to; then paired in {} ms", took.as_millis()))
}
