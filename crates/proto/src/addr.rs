//! Network addresses as the protocol knows them: a literal IP address, a port, a transport. Their multiaddr forms,
//! their classes, and the policy that says which audience may see which class (requirements, section 2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::id::Tid;
use crate::wire::{Malformed, Reader};

/// How a connection to an address starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// QUIC version 1 over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

/// A literal transport address. Port 0 and host names cannot be dialled or published and are refused by the parsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The IP address.
    pub ip: IpAddr,
    /// The UDP or TCP port.
    pub port: u16,
    /// How to speak there.
    pub transport: Transport,
}

/// A way to a device through a relay: the relay's address and transport key (circuit v2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Where the relay is.
    pub relay: Address,
    /// The relay's transport key.
    pub relay_tid: Tid,
}

// Multiaddr protocol codes (multiformats table), as the unsigned varints that stand on the wire.
const IP4: u64 = 0x04;
const TCP: u64 = 0x06;
const IP6: u64 = 0x29;
const UDP: u64 = 0x0111;
const CIRCUIT: u64 = 0x0122;
const P2P: u64 = 0x01a5;
const QUIC_V1: u64 = 0x01cd;

/// A peer id is the identity multihash of the protobuf-encoded Ed25519 key: these six bytes, then the key.
const PEER_ID_HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl Address {
    /// The binary multiaddr.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        match self.ip {
            IpAddr::V4(ip) => {
                put_varint(&mut out, IP4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                put_varint(&mut out, IP6);
                out.extend_from_slice(&ip.octets());
            }
        }
        put_varint(
            &mut out,
            match self.transport {
                Transport::Quic => UDP,
                Transport::Tcp => TCP,
            },
        );
        out.extend_from_slice(&self.port.to_be_bytes());
        if self.transport == Transport::Quic {
            put_varint(&mut out, QUIC_V1);
        }
        out
    }

    /// Reads a binary multiaddr of exactly `/ip4|ip6/…/udp/…/quic-v1` or `/ip4|ip6/…/tcp/…`; anything else, a port 0
    /// or a byte left over is [`Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Address, Malformed> {
        let mut reader = Reader::new(bytes);
        let address = Address::read(&mut reader)?;
        reader.end()?;
        Ok(address)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Address, Malformed> {
        let ip = match take_varint(reader)? {
            IP4 => IpAddr::from(reader.array::<4>()?),
            IP6 => IpAddr::from(reader.array::<16>()?),
            _ => return Err(Malformed),
        };
        let transport = match take_varint(reader)? {
            UDP => Transport::Quic,
            TCP => Transport::Tcp,
            _ => return Err(Malformed),
        };
        let port = reader.u16()?;
        if transport == Transport::Quic && take_varint(reader)? != QUIC_V1 {
            return Err(Malformed);
        }
        if port == 0 {
            return Err(Malformed);
        }
        Ok(Address { ip, port, transport })
    }
}

impl RelayAddress {
    /// The binary multiaddr `<relay>/p2p/<relay id>/p2p-circuit`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.relay.to_bytes();
        put_varint(&mut out, P2P);
        put_varint(&mut out, (PEER_ID_HEAD.len() + 32) as u64);
        out.extend_from_slice(&PEER_ID_HEAD);
        out.extend_from_slice(&self.relay_tid.0);
        put_varint(&mut out, CIRCUIT);
        out
    }

    /// Reads what [`RelayAddress::to_bytes`] writes and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Result<RelayAddress, Malformed> {
        let mut reader = Reader::new(bytes);
        let relay = Address::read(&mut reader)?;
        if take_varint(&mut reader)? != P2P || take_varint(&mut reader)? != 38 || reader.array()? != PEER_ID_HEAD {
            return Err(Malformed);
        }
        let relay_tid = Tid(reader.array()?);
        if take_varint(&mut reader)? != CIRCUIT {
            return Err(Malformed);
        }
        reader.end()?;
        Ok(RelayAddress { relay, relay_tid })
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a canonical varint of at most two bytes: enough for every code and length we know.
fn take_varint(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let low = reader.u8()?;
    if low & 0x80 == 0 {
        return Ok(u64::from(low));
    }
    let high = reader.u8()?;
    if high == 0 || high & 0x80 != 0 {
        return Err(Malformed);
    }
    Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
}

impl fmt::Display for Address {
    /// The multiaddr text, such as `/ip4/5.1.7.2/udp/4001/quic-v1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "/ip4/{ip}")?,
            IpAddr::V6(ip) => write!(f, "/ip6/{ip}")?,
        }
        match self.transport {
            Transport::Quic => write!(f, "/udp/{}/quic-v1", self.port),
            Transport::Tcp => write!(f, "/tcp/{}", self.port),
        }
    }
}

/// Why a multiaddr text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form /ip4/ADDRESS/udp/PORT/quic-v1 or /ip4/ADDRESS/tcp/PORT (or /ip6/…): {0}")]
pub struct BadAddress(pub String);

impl FromStr for Address {
    type Err = BadAddress;

    /// Reads the multiaddr text. Port 0 is allowed here, since it means "any" to whoever listens.
    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let parts: Vec<&str> = text.strip_prefix('/').ok_or_else(bad)?.split('/').collect();
        let ip: IpAddr = match (parts.first(), parts.get(1)) {
            (Some(&"ip4"), Some(ip)) => IpAddr::V4(ip.parse().map_err(|_| bad())?),
            (Some(&"ip6"), Some(ip)) => IpAddr::V6(ip.parse().map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        let port = parts.get(3).and_then(|p| p.parse().ok()).ok_or_else(bad)?;
        let transport = match (parts.get(2), parts.get(4), parts.len()) {
            (Some(&"udp"), Some(&"quic-v1"), 5) => Transport::Quic,
            (Some(&"tcp"), None, 4) => Transport::Tcp,
            _ => return Err(bad()),
        };
        Ok(Address { ip, port, transport })
    }
}

/// What kind of network an IP address belongs to. Decided on parsed addresses, never on text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Unspecified, multicast, broadcast, reserved, metadata service, NAT64 or IPv4-mapped IPv6: never an address of a device.
    Unusable,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// RFC 1918 and unique local (`fc00::/7`) addresses.
    Private,
    /// `100.64.0.0/10`: a carrier's NAT or an overlay.
    Shared,
    /// Everything routable, documentation ranges included (test internets use them).
    Public,
}

/// Which list an address may stand in (decision D2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Goes to the internet list.
    Internet,
    /// LAN list, QR hints and the sealed part of a record.
    Lan,
    /// Kept to ourselves.
    None,
}

/// The class of `ip`.
pub fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    let [a, b, ..] = ip.octets();
    match (a, b) {
        // This network, multicast, class E and broadcast; the metadata service of clouds is link-local but named apart.
        (0 | 224..=255, _) => Class::Unusable,
        _ if ip == Ipv4Addr::new(169, 254, 169, 254) => Class::Unusable,
        (127, _) => Class::Loopback,
        (169, 254) => Class::LinkLocal,
        (10, _) | (172, 16..=31) | (192, 168) => Class::Private,
        (100, 64..=127) => Class::Shared,
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    let s = ip.segments();
    let metadata = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);
    let nat64 = s[0] == 0x0064 && s[1] == 0xff9b;
    if ip.is_loopback() {
        Class::Loopback
    } else if ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some() || nat64 || ip == metadata {
        Class::Unusable
    } else if s[0] & 0xffc0 == 0xfe80 {
        Class::LinkLocal
    } else if s[0] & 0xfe00 == 0xfc00 {
        Class::Private
    } else {
        Class::Public
    }
}

/// Who may be told an address of this class.
pub fn scope(class: Class) -> Scope {
    match class {
        Class::Unusable | Class::Loopback | Class::LinkLocal => Scope::None,
        Class::Private | Class::Shared => Scope::Lan,
        Class::Public => Scope::Internet,
    }
}

/// Whether loopback addresses may be published (sealed) and dialled: only on a device whose own configuration names a
/// loopback listen address, for tests on one machine (protocol, end of section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopbackPolicy {
    /// Never.
    Refuse,
    /// The exception for tests on one machine.
    Allow,
}

/// Whether `address`, taken from a sealed record or a QR text, may be dialled (protocol, section 12).
pub fn may_dial(address: &Address, loopback: LoopbackPolicy) -> bool {
    if address.port == 0 {
        return false;
    }
    match classify(address.ip) {
        Class::Unusable | Class::LinkLocal => false,
        Class::Loopback => loopback == LoopbackPolicy::Allow,
        Class::Private | Class::Shared | Class::Public => true,
    }
}

/// The addresses for a sealed advert, best first and at most `max`: public before private before shared, QUIC before
/// TCP, IPv6 and IPv4 in the given order; never unspecified, link-local or port 0, loopback only by the exception.
pub fn for_advert(own: &[Address], loopback: LoopbackPolicy, max: usize) -> Vec<Address> {
    let rank = |a: &Address| {
        let class = match classify(a.ip) {
            Class::Public => 0,
            Class::Private => 1,
            Class::Loopback => 2,
            Class::Shared => 3,
            Class::LinkLocal | Class::Unusable => 4,
        };
        (class, a.transport)
    };
    let mut list: Vec<Address> = own.iter().copied().filter(|a| may_dial(a, loopback)).collect();
    list.sort_by_key(rank);
    list.dedup();
    list.truncate(max);
    list
}

/// The relays of `all` that an advert may name and that may be dialled, in the given order and at most `max`: a relay's
/// address is one like any other, and the same policy holds for it.
pub fn dialable_relays(all: &[RelayAddress], loopback: LoopbackPolicy, max: usize) -> Vec<RelayAddress> {
    let mut list: Vec<RelayAddress> = Vec::new();
    for relay in all {
        if list.len() < max && may_dial(&relay.relay, loopback) && !list.contains(relay) {
            list.push(*relay);
        }
    }
    list
}

/// The relays of `all` to try next: those that have not stalled, or all again if each has.
pub(crate) fn other_relays(all: &[RelayAddress], stalled: &mut Vec<Address>) -> Vec<RelayAddress> {
    stalled.retain(|address| all.iter().any(|r| r.relay == *address));
    let others: Vec<RelayAddress> = all.iter().copied().filter(|r| !stalled.contains(&r.relay)).collect();
    if others.is_empty() {
        stalled.clear();
        return all.to_vec();
    }
    others
}

/// The address prefix that limits count by: an IPv4 address, or the /56 of an IPv6 address, which is what one
/// subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber([u8; 7]);

impl Subscriber {
    /// The subscriber that `ip` belongs to; an IPv4 address in IPv6 form is the same as in its own.
    pub fn of(ip: IpAddr) -> Subscriber {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                // No IPv6 /56 in use starts with 0xff ff ff: that is multicast.
                Subscriber([0xff, 0xff, 0xff, a, b, c, d])
            }
            IpAddr::V6(ip) => {
                let mut prefix = [0; 7];
                prefix.copy_from_slice(&ip.octets()[..7]);
                Subscriber(prefix)
            }
        }
    }
}

/// An address of one of our interfaces with the length of its prefix, as the system lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address.
    pub ip: IpAddr,
    /// Leading bits that the on-link prefix fixes.
    pub prefix_len: u8,
}

/// How a link runs, as shown to people (`interface.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The peer's address is on-link.
    Lan,
    /// Any other connection without a relay.
    Direct,
    /// Through a relay.
    Relay,
}

impl Path {
    /// The name used in events.
    pub fn name(self) -> &'static str {
        match self {
            Path::Lan => "lan",
            Path::Direct => "direct",
            Path::Relay => "relay",
        }
    }

    /// The peer's own address, given the one that its connection runs over: none through a relay, whose address that is
    /// then. Only an own address is remembered, dialled again, or compared with other addresses of the peer.
    pub fn own_address(self, address: Address) -> Option<Address> {
        match self {
            Path::Lan | Path::Direct => Some(address),
            Path::Relay => None,
        }
    }

    /// The path of a direct connection to `peer`, given our interfaces.
    pub fn of(peer: IpAddr, interfaces: &[InterfaceAddress]) -> Path {
        let local =
            matches!(classify(peer), Class::Loopback | Class::LinkLocal) || interfaces.iter().any(|i| on_link(i, peer));
        if local { Path::Lan } else { Path::Direct }
    }
}

/// Whether `peer` is in the network of an address of ours.
pub fn on_link(interface: &InterfaceAddress, peer: IpAddr) -> bool {
    fn same(a: &[u8], b: &[u8], bits: u8) -> bool {
        (0..usize::from(bits)).all(|i| {
            let mask = 0x80 >> (i % 8);
            a.get(i / 8).map(|x| x & mask) == b.get(i / 8).map(|x| x & mask)
        })
    }
    match (interface.ip, peer) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets(), interface.prefix_len),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets(), interface.prefix_len),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a24_b29_the_address_policy_as_one_table() {
        use Class::*;
        let table = [
            ("0.0.0.0", Unusable, Scope::None),
            ("255.255.255.255", Unusable, Scope::None),
            ("224.0.0.254", Unusable, Scope::None),
            ("169.254.169.254", Unusable, Scope::None),
            ("127.0.0.1", Loopback, Scope::None),
            ("127.9.9.9", Loopback, Scope::None),
            ("169.254.3.4", LinkLocal, Scope::None),
            ("10.0.0.1", Private, Scope::Lan),
            ("172.15.0.1", Public, Scope::Internet),
            ("172.16.0.1", Private, Scope::Lan),
            ("172.31.255.1", Private, Scope::Lan),
            ("172.32.0.1", Public, Scope::Internet),
            ("192.168.1.1", Private, Scope::Lan),
            ("100.63.0.1", Public, Scope::Internet),
            ("100.64.0.1", Shared, Scope::Lan),
            ("100.127.0.1", Shared, Scope::Lan),
            ("100.128.0.1", Public, Scope::Internet),
            ("203.0.113.7", Public, Scope::Internet),
            ("5.1.2.3", Public, Scope::Internet),
            ("::", Unusable, Scope::None),
            ("::1", Loopback, Scope::None),
            ("::1f", Public, Scope::Internet),
            ("::ffff:127.0.0.1", Unusable, Scope::None),
            ("64:ff9b::1.2.3.4", Unusable, Scope::None),
            ("fd00:ec2::254", Unusable, Scope::None),
            ("ff02::1", Unusable, Scope::None),
            ("fe80::1", LinkLocal, Scope::None),
            ("fc00::1", Private, Scope::Lan),
            ("fd12::1", Private, Scope::Lan),
            ("2001:db8::1", Public, Scope::Internet),
        ];
        for (text, class, expected) in table {
            assert_eq!(classify(ip(text)), class, "{text}");
            assert_eq!(scope(classify(ip(text))), expected, "{text}");
        }
    }

    #[test]
    fn addresses_survive_text_and_bytes_and_nothing_else_is_taken() {
        for text in ["/ip4/5.1.7.2/udp/4001/quic-v1", "/ip4/5.1.7.2/tcp/4001", "/ip6/2a0a::7/udp/65535/quic-v1"] {
            let address: Address = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
            let bytes = address.to_bytes();
            assert!(bytes.len() <= 48);
            assert_eq!(Address::from_bytes(&bytes), Ok(address));
            for cut in 0..bytes.len() {
                assert_eq!(Address::from_bytes(&bytes[..cut]), Err(Malformed), "cut at {cut}");
            }
            let mut long = bytes;
            long.push(0);
            assert_eq!(Address::from_bytes(&long), Err(Malformed));
        }
        for text in
            ["/dns4/a.example/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4", "1.2.3.4:5", "/ip4/1.2.3.4/tcp/70000"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_multiaddr_bytes_are_those_of_the_multiformats_table() {
        let address: Address = "/ip4/1.2.3.4/udp/4001/quic-v1".parse().expect("an address");
        assert_eq!(address.to_bytes(), [4, 1, 2, 3, 4, 0x91, 0x02, 0x0f, 0xa1, 0xcd, 0x03]);
        let relay = RelayAddress { relay: address, relay_tid: Tid([9; 32]) };
        let bytes = relay.to_bytes();
        assert!(bytes.len() <= 96);
        assert_eq!(RelayAddress::from_bytes(&bytes), Ok(relay));
    }

    #[test]
    fn b13_an_advert_never_lists_a_placeholder() {
        let own: Vec<Address> = [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.2/tcp/7",
            "/ip4/5.1.1.1/tcp/7",
            "/ip4/5.1.1.1/udp/7/quic-v1",
            "/ip4/5.1.1.1/udp/0/quic-v1",
            "/ip6/fe80::1/tcp/7",
        ]
        .iter()
        .map(|t| t.parse().expect("an address"))
        .collect();
        let listed: Vec<String> = for_advert(&own, LoopbackPolicy::Refuse, 6).iter().map(Address::to_string).collect();
        assert_eq!(listed, ["/ip4/5.1.1.1/udp/7/quic-v1", "/ip4/5.1.1.1/tcp/7", "/ip4/10.0.0.2/tcp/7"]);
        assert_eq!(for_advert(&own, LoopbackPolicy::Allow, 6).len(), 4);
    }

    #[test]
    fn the_path_is_lan_only_inside_a_prefix_of_ours() {
        let interfaces = [InterfaceAddress { ip: ip("192.168.4.7"), prefix_len: 22 }];
        assert_eq!(Path::of(ip("192.168.7.1"), &interfaces), Path::Lan);
        assert_eq!(Path::of(ip("192.168.8.1"), &interfaces), Path::Direct);
        assert_eq!(Path::of(ip("2a0a::1"), &interfaces), Path::Direct);
    }
}
