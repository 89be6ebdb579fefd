//! Where the attacks are played: alice shows codes, bob enters them, mallory is in the same room.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::wire::beacon::{Beacon, PORT};

use super::forge::{Caller, Told};
use crate::capture::{Capture, Captured};
use crate::device::Device;
use crate::host::Host;
use crate::lan::frame::{Forged, Injector, Mac, group_mac, parse_mac};
use crate::lan::observe::{self, OwnAddress};
use crate::lan::{LanLab, Profile, sightings};
use crate::scenario::attack::forge::CodeSecrets;
use crate::scenario::pairing::{Offer, check_mutual, finish, join, offer};
use crate::secrets::entropy_of;

/// How long a victim is watched after an attack: what it answers, it answers at once.
pub(super) const WATCH: Duration = Duration::from_millis(1_200);

/// How long something may take that must happen.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long the first beacons of a window take, and on a busy machine at most.
pub(super) const FIRST_BEACONS: Duration = Duration::from_millis(700);
const FIRST_BEACONS_LIMIT: Duration = Duration::from_secs(10);

/// Host numbers of mallory's further addresses.
const MORE_ADDRESSES: std::ops::Range<u8> = 70..95;

/// The groups that beacons are sent to.
const GROUP4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 254));
const GROUP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4846));

/// Two victims and the attacker.
pub(super) struct Stage {
    pub(super) lab: LanLab,
    pub(super) alice: Device,
    pub(super) bob: Device,
    pub(super) mallory: Mallory,
    /// Alice's address.
    pub(super) victim: IpAddr,
    /// All addresses of alice.
    own: Vec<OwnAddress>,
    played: usize,
}

/// The attacker's host.
pub(super) struct Mallory {
    pub(super) host: Host,
    pub(super) ip: IpAddr,
    /// More addresses of hers, for calls: one source is let in twice, and then once in five seconds.
    more: Vec<IpAddr>,
    /// All her addresses: those that her system gave itself as well.
    own: Vec<IpAddr>,
    used: AtomicUsize,
    mac: Mac,
    victim_mac: Mac,
    injector: Injector,
}

/// A code that alice shows, and all that follows from it for whoever has seen it.
pub(super) struct Shown {
    pub(super) offer: Offer,
    pub(super) secrets: CodeSecrets,
    /// What alice's window says of itself.
    pub(super) beacon: Beacon,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let lab = LanLab::build(Profile::Lan)?;
        let (host, victim) = (lab.host("mallory")?, lab.address("alice")?);
        let mac_of = |host: &Host| -> Result<Mac> {
            let own: Vec<OwnAddress> = observe::addresses(host.namespace())?;
            parse_mac(&own.iter().find(|own| own.interface == "eth0").context("a card")?.mac)
        };
        let more = MORE_ADDRESSES.map(|number| format!("192.168.77.{number}"));
        for address in more.clone() {
            host.namespace().ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        }
        let all = observe::addresses(host.namespace())?;
        let mallory = Mallory {
            own: all.iter().map(|own| own.ip).collect(),
            ip: lab.address("mallory")?,
            more: more.map(|address| Ok(address.parse()?)).collect::<Result<_>>()?,
            used: AtomicUsize::new(0),
            mac: mac_of(&host)?,
            victim_mac: mac_of(&lab.host("alice")?)?,
            injector: Injector::open(host.namespace(), "eth0")?,
            host,
        };
        let (alice, bob) = devices(&lab, 0)?;
        let own = observe::addresses(lab.host("alice")?.namespace())?;
        Ok(Self { alice, bob, mallory, victim, lab, own, played: 0 })
    }

    /// Two devices that know nobody: what an earlier attack has taught the last ones must not answer for this one.
    pub(super) fn fresh(&mut self) -> Result<()> {
        self.played += 1;
        (self.alice, self.bob) = devices(&self.lab, self.played)?;
        self.alice.start_daemon()?;
        self.bob.start_daemon()?;
        Ok(())
    }

    /// Neither victim holds anybody but the other.
    pub(super) fn check_stores(&mut self) -> Result<()> {
        if !self.alice.is_running() || !self.bob.is_running() {
            // Whoever was killed as part of an attack was looked at there.
            return Ok(());
        }
        for (device, other) in [(&self.alice, &self.bob), (&self.bob, &self.alice)] {
            let honest = other.status()?.id;
            let strangers: Vec<_> = device.devices()?.into_iter().filter(|listed| listed.id != honest).collect();
            ensure!(strangers.is_empty(), "{} holds {strangers:?}", device.host().name());
        }
        Ok(())
    }

    /// Lets alice show a code, and waits for the beacons of its window.
    pub(super) fn offer(&self, extra: &[&str]) -> Result<Shown> {
        let capture = self.capture("window")?;
        let offer = offer(&self.alice, extra)?;
        std::thread::sleep(FIRST_BEACONS);
        let mut beacon = sightings::latest(&capture.stop()?.packets, self.victim);
        let start = Instant::now();
        while beacon.is_err() && start.elapsed() < FIRST_BEACONS_LIMIT {
            let capture = self.capture("window")?;
            std::thread::sleep(FIRST_BEACONS);
            beacon = sightings::latest(&capture.stop()?.packets, self.victim);
        }
        let beacon = beacon?;
        let secrets = CodeSecrets::of(&entropy_of(&offer.words)?)?;
        Ok(Shown { offer, secrets, beacon })
    }

    /// A capture of everything alice sends and receives.
    pub(super) fn capture(&self, name: &str) -> Result<Capture> {
        Capture::start(self.alice.host().namespace(), "any", &self.lab.dir().join(format!("{name}.pcap")))
    }

    /// What alice sends and receives while `attack` is played and a moment longer.
    pub(super) fn watch(&self, attack: impl FnOnce() -> Result<()>) -> Result<Captured> {
        let capture = self.capture("watch")?;
        attack()?;
        std::thread::sleep(WATCH);
        let captured = capture.stop()?;
        ensure!(captured.lost == 0, "the capture lost {} packets", captured.lost);
        Ok(captured)
    }

    /// Everybody to whom alice turned by herself.
    pub(super) fn turned_to(&self, captured: &Captured) -> BTreeSet<IpAddr> {
        turned_to(captured, &self.own)
    }

    /// Bob enters the shown code, and the two get paired as if there had been no attack.
    pub(super) fn still_pairs(&self, shown: Shown) -> Result<Duration> {
        let start = Instant::now();
        finish(shown.offer, |words| join(&self.bob, words, &["--yes"])).context("the honest pairing")?;
        check_mutual(&self.alice, &self.bob)?;
        Ok(start.elapsed())
    }

    /// A connection to alice's confirmation listener, from an address that has not called for a while.
    pub(super) fn call(&self, shown: &Shown) -> Result<Caller> {
        let to = SocketAddr::new(self.victim, shown.beacon.ports.confirm);
        Caller::connect(self.mallory.host.namespace(), self.mallory.next_address(), to)
    }

    /// What mallory says of herself in a beacon or a call: the truth, with the ports given.
    pub(super) fn told(&self, confirm: u16, spki: [u8; 32]) -> Told {
        Told { address: self.mallory.ip, tcp: 40_001, quic: 40_002, confirm, spki }
    }
}

impl Mallory {
    /// Is it one of her addresses?
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip)
    }

    fn next_address(&self) -> IpAddr {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        self.more.get(used % self.more.len().max(1)).copied().unwrap_or(self.ip)
    }

    /// A frame of a datagram to the port of beacons: to alice alone, or to the group.
    pub(super) fn frame(&self, from: IpAddr, to: Option<IpAddr>, hop_limit: u8, payload: &[u8]) -> Result<Vec<u8>> {
        let group = if from.is_ipv4() { GROUP4 } else { GROUP6 };
        let to_mac = if to.is_some() { self.victim_mac } else { group_mac(group) };
        let (from, to) = (SocketAddr::new(from, PORT), SocketAddr::new(to.unwrap_or(group), PORT));
        Forged { mac: self.mac, to_mac, from, to, hop_limit, payload }.frame()
    }

    /// Sends a frame.
    pub(super) fn inject(&self, frame: &[u8]) -> bool {
        self.injector.send(frame)
    }

    /// Sends a datagram to the port of beacons, both to alice alone and to the group.
    pub(super) fn say(&self, victim: IpAddr, from: IpAddr, hop_limit: u8, payload: &[u8]) -> Result<()> {
        for to in [Some(victim), None] {
            ensure!(self.inject(&self.frame(from, to, hop_limit, payload)?), "a frame was not sent");
        }
        Ok(())
    }
}

fn devices(lab: &LanLab, number: usize) -> Result<(Device, Device)> {
    let device = |host: &str| Device::new(&lab.host(host)?, &format!("{host}-{number}"));
    Ok((device("alice")?.without_port_mapping(), device("bob")?.without_port_mapping()))
}

/// Everybody to whom a host turned by itself: the first packet of a TCP connection, a datagram to one host, or the
/// question for a hardware address.
fn turned_to(captured: &Captured, own: &[OwnAddress]) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for packet in captured.packets.iter().filter(|packet| packet.is_sent()) {
        all.extend(packet.arp_target().map(IpAddr::from));
        all.extend(packet.neighbour_target().map(IpAddr::from));
        let is_start = packet.is_tcp_start() || packet.datagram().is_some();
        all.extend(packet.ends().filter(|_| is_start).map(|ends| ends.to.ip()));
    }
    let is_own = |ip: IpAddr| ip.is_loopback() || own.iter().any(|address| address.ip == ip);
    all.retain(|ip| !ip.is_multicast() && !is_own(*ip) && !is_broadcast(*ip));
    all
}

/// Every network of the lab is a /24, or its broadcast address ends in the same way.
fn is_broadcast(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[3] == 255)
}
