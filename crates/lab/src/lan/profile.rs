//! The local networks by name: what hangs on what in each, and what gets through.

use anyhow::Result;

use super::probe::{Both, Reach};
use super::wiring::{Nic, Wiring};
use super::{LanLab, rules};

/// A kind of local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One switch, a gateway that has the default route, IPv4 and IPv6.
    Lan,
    /// The same without a gateway: nobody has a default route.
    LanOffline,
    /// The switch drops multicast and broadcast but for the resolution of addresses, as many access points do.
    LanNomcast,
    /// Multicast and broadcast that alice sends are dropped.
    LanNomcastOnewayA,
    /// Multicast and broadcast that bob sends are dropped.
    LanNomcastOnewayB,
    /// No IPv4: unique local addresses and link-local ones.
    LanV6,
    /// Alice has two cards in the network, a bridge of containers that bob has as well and with the same address, a
    /// network with her host alone, and a VPN that owns the default route.
    LanMultiNic,
    /// Bob's only neighbour, and his gateway, is alice.
    Hotspot,
    /// Two networks and a router between them that translates nothing.
    Routed,
    /// Alice's firewall lets nothing in but answers.
    FirewallA,
    /// Bob's firewall lets nothing in but answers.
    FirewallB,
    /// The switch lets alice and bob reach the gateway, and not each other.
    ClientIsolation,
    /// A network of 65,536 addresses whose switch drops multicast and broadcast.
    LanWide,
}

/// The addresses a network gives: `a` in `192.168.77.a`.
struct Numbers {
    v4: &'static str,
    prefix: u8,
    v6: &'static str,
}

/// The room that most profiles share.
const ROOM: Numbers = Numbers { v4: "192.168.77.", prefix: 24, v6: "fd68:6600:77::" };
/// The room next door, behind a router.
const NEXT_ROOM: Numbers = Numbers { v4: "192.168.78.", prefix: 24, v6: "fd68:6600:78::" };
/// What a telephone gives its guests.
const HOTSPOT: Numbers = Numbers { v4: "192.168.43.", prefix: 24, v6: "fd68:6600:43::" };
/// What the telephone itself is given.
const CELL: Numbers = Numbers { v4: "10.20.30.", prefix: 24, v6: "fd68:6600:30::" };

/// Host numbers.
const GATEWAY: u8 = 1;
const ALICE: u8 = 11;
const BOB: u8 = 12;
const ALICE_AGAIN: u8 = 21;
const MALLORY: u8 = 66;

impl Numbers {
    fn of(&self, host: u8) -> Vec<String> {
        vec![self.v4(host), self.v6(host)]
    }

    fn v4(&self, host: u8) -> String {
        format!("{}{host}/{}", self.v4, self.prefix)
    }

    fn v6(&self, host: u8) -> String {
        format!("{}{host}/64", self.v6)
    }

    /// The gateway, as a next hop.
    fn gateway(&self) -> Vec<String> {
        vec![format!("{}{GATEWAY}", self.v4), format!("{}{GATEWAY}", self.v6)]
    }
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Lan,
        Self::LanOffline,
        Self::LanNomcast,
        Self::LanNomcastOnewayA,
        Self::LanNomcastOnewayB,
        Self::LanV6,
        Self::LanMultiNic,
        Self::Hotspot,
        Self::Routed,
        Self::FirewallA,
        Self::FirewallB,
        Self::ClientIsolation,
        Self::LanWide,
    ];

    /// Its name in commands and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::LanOffline => "lan-offline",
            Self::LanNomcast => "lan-nomcast",
            Self::LanNomcastOnewayA => "lan-nomcast-oneway-a",
            Self::LanNomcastOnewayB => "lan-nomcast-oneway-b",
            Self::LanV6 => "lan-v6",
            Self::LanMultiNic => "lan-multi-nic",
            Self::Hotspot => "hotspot",
            Self::Routed => "routed",
            Self::FirewallA => "firewall-a",
            Self::FirewallB => "firewall-b",
            Self::ClientIsolation => "client-isolation",
            Self::LanWide => "lan-wide",
        }
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The interface by which a host meets the other device.
    #[must_use]
    pub fn shared_interface(self, host: &str) -> &'static str {
        if self == Self::Hotspot && host == "alice" { "wlan0" } else { "eth0" }
    }

    /// What gets through between alice and bob, first the way from alice to bob.
    #[must_use]
    pub const fn reach(self) -> Reach {
        const ALL: Both = [true, true];
        const NONE: Both = [false, false];
        const OPEN: Reach = Reach {
            ping4: ALL,
            ping6: ALL,
            tcp: ALL,
            multicast4: ALL,
            multicast6: ALL,
            broadcast: ALL,
            default_route: ALL,
        };
        const fn announcements(which: Both) -> Reach {
            Reach { multicast4: which, multicast6: which, broadcast: which, ..OPEN }
        }
        match self {
            Self::Lan | Self::LanMultiNic | Self::Hotspot => OPEN,
            Self::LanOffline => Reach { default_route: NONE, ..OPEN },
            Self::LanNomcast | Self::LanWide | Self::Routed => announcements(NONE),
            Self::LanNomcastOnewayA => announcements([false, true]),
            Self::LanNomcastOnewayB => announcements([true, false]),
            Self::LanV6 => Reach { ping4: NONE, multicast4: NONE, broadcast: NONE, ..OPEN },
            Self::FirewallA => Reach { tcp: [true, false], ..announcements([true, false]) },
            Self::FirewallB => Reach { tcp: [false, true], ..announcements([false, true]) },
            Self::ClientIsolation => Reach { ping4: NONE, ping6: NONE, tcp: NONE, ..announcements(NONE) },
        }
    }

    pub(super) fn wire(self) -> Result<LanLab> {
        let mut wiring = Wiring::new()?;
        match self {
            Self::Lan
            | Self::LanNomcast
            | Self::LanNomcastOnewayA
            | Self::LanNomcastOnewayB
            | Self::FirewallA
            | Self::FirewallB
            | Self::ClientIsolation => room(&mut wiring, &ROOM, true)?,
            Self::LanOffline => room(&mut wiring, &ROOM, false)?,
            Self::LanV6 => room_without_ipv4(&mut wiring)?,
            Self::LanMultiNic => {
                room(&mut wiring, &ROOM, true)?;
                many_interfaces(&mut wiring)?;
            }
            Self::Hotspot => hotspot(&mut wiring)?,
            Self::Routed => routed(&mut wiring)?,
            Self::LanWide => wide(&mut wiring)?,
        }
        match self {
            Self::LanNomcast | Self::LanWide => wiring.switch_rules(&rules::no_announcements(&[]))?,
            Self::LanNomcastOnewayA => wiring.switch_rules(&rules::no_announcements(&["alice-eth0"]))?,
            Self::LanNomcastOnewayB => wiring.switch_rules(&rules::no_announcements(&["bob-eth0"]))?,
            Self::FirewallA => wiring.host_rules("alice", rules::INBOUND_DROP)?,
            Self::FirewallB => wiring.host_rules("bob", rules::INBOUND_DROP)?,
            Self::ClientIsolation => wiring.isolate(&["alice-eth0", "bob-eth0"])?,
            Self::Hotspot => wiring.host_rules("alice", rules::MASQUERADE)?,
            Self::Lan | Self::LanOffline | Self::LanV6 | Self::LanMultiNic | Self::Routed => {}
        }
        let Wiring { hosts, switch, dir, .. } = wiring;
        Ok(LanLab { profile: self, hosts, switch, dir })
    }
}

/// Alice, bob and mallory on the switch, and a gateway if it is asked for.
fn room(wiring: &mut Wiring, numbers: &Numbers, gateway: bool) -> Result<()> {
    for (host, number) in [("alice", ALICE), ("bob", BOB), ("mallory", MALLORY)] {
        wiring.host(host)?;
        wiring.plug(host, "eth0", &numbers.of(number))?;
    }
    if gateway {
        wiring.router("gateway")?;
        wiring.plug("gateway", "eth0", &numbers.of(GATEWAY))?;
        for host in ["alice", "bob", "mallory"] {
            wiring.default_route(host, &numbers.gateway())?;
        }
    }
    Ok(())
}

fn room_without_ipv4(wiring: &mut Wiring) -> Result<()> {
    for (host, number) in [("alice", ALICE), ("bob", BOB), ("mallory", MALLORY), ("gateway", GATEWAY)] {
        wiring.router_or_host(host)?;
        wiring.plug(host, "eth0", &[ROOM.v6(number)])?;
    }
    for host in ["alice", "bob", "mallory"] {
        wiring.default_route(host, &[format!("{}{GATEWAY}", ROOM.v6)])?;
    }
    Ok(())
}

/// What alice has besides her card in the room, and bob's bridge of containers.
fn many_interfaces(wiring: &mut Wiring) -> Result<()> {
    wiring.plug("alice", "eth1", &ROOM.of(ALICE_AGAIN))?;
    wiring.host("nowhere")?;
    for host in ["alice", "bob"] {
        wiring.container_bridge(host, "docker0", "172.17.0.1/16", "nowhere")?;
    }
    let alone = Nic { host: "alice", interface: "vboxnet0", addresses: &["192.168.56.1/24".to_owned()] };
    wiring.cable(&alone, &Nic { host: "nowhere", interface: "vbox", addresses: &[] })?;
    // The VPN's other end is the gateway; whatever is sent far goes there inside packets of the room.
    let (ours, theirs) = (format!("{}{ALICE}", ROOM.v4), format!("{}{GATEWAY}", ROOM.v4));
    wiring.tunnel("alice", "vpn0", (&ours, &theirs), "10.8.0.2/24")?;
    wiring.tunnel("gateway", "vpn0", (&theirs, &ours), "10.8.0.1/24")?;
    wiring.no_default_route("alice")?;
    wiring.default_route("alice", &["10.8.0.1".to_owned()])
}

/// Alice is the telephone: behind her is her operator, before her is bob.
fn hotspot(wiring: &mut Wiring) -> Result<()> {
    wiring.router("alice")?;
    wiring.host("bob")?;
    wiring.router("operator")?;
    let guests = Nic { host: "alice", interface: "wlan0", addresses: &HOTSPOT.of(GATEWAY) };
    wiring.cable(&guests, &Nic { host: "bob", interface: "eth0", addresses: &HOTSPOT.of(BOB) })?;
    let uplink = Nic { host: "alice", interface: "wwan0", addresses: &CELL.of(ALICE) };
    wiring.cable(&uplink, &Nic { host: "operator", interface: "eth0", addresses: &CELL.of(GATEWAY) })?;
    wiring.default_route("alice", &CELL.gateway())?;
    wiring.default_route("bob", &HOTSPOT.gateway())
}

fn routed(wiring: &mut Wiring) -> Result<()> {
    wiring.host("alice")?;
    wiring.host("bob")?;
    wiring.router("gateway")?;
    for (host, numbers, number, port) in [("alice", &ROOM, ALICE, "eth0"), ("bob", &NEXT_ROOM, BOB, "eth1")] {
        let here = Nic { host, interface: "eth0", addresses: &numbers.of(number) };
        wiring.cable(&here, &Nic { host: "gateway", interface: port, addresses: &numbers.of(GATEWAY) })?;
        wiring.default_route(host, &numbers.gateway())?;
    }
    Ok(())
}

/// Alice and bob are far from each other in the network: no neighbouring addresses lead from one to the other.
fn wide(wiring: &mut Wiring) -> Result<()> {
    for (host, v4, number) in [
        ("alice", "10.77.3.11/16", ALICE),
        ("bob", "10.77.201.12/16", BOB),
        ("mallory", "10.77.99.66/16", MALLORY),
        ("gateway", "10.77.0.1/16", GATEWAY),
    ] {
        wiring.router_or_host(host)?;
        wiring.plug(host, "eth0", &[v4.to_owned(), ROOM.v6(number)])?;
    }
    for host in ["alice", "bob", "mallory"] {
        wiring.default_route(host, &["10.77.0.1".to_owned(), format!("{}{GATEWAY}", ROOM.v6)])?;
    }
    Ok(())
}
