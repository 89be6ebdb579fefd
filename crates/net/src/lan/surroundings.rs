//! This machine's place in its networks: every interface with every address, and where the default routes lead.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use handfast_proto::addr::InterfaceAddress;
use handfast_proto::lan::io::{Interface, Surroundings};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::kind::{Traits, kind_of};

/// Most interfaces that are reported: hosts of containers have many.
const MAX_INTERFACES: usize = 128;

/// Most addresses of one interface that are reported.
const MAX_ADDRESSES: usize = 32;

/// Most errors that are reported; they name at most the interfaces.
pub(super) const MAX_ERRORS: usize = 32;

/// Far destinations for which the system is asked what source address it would choose; nothing is sent to them. The
/// addresses of a root name server: nobody has them in a network of his own.
const FAR: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), 53),
    SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)), 53),
];

/// What the system says at this moment. Whatever cannot be read is an error in the list and hides nothing else.
pub(super) fn read() -> Surroundings {
    let mut errors = Vec::new();
    let mut interfaces: Vec<Interface> = match getifaddrs() {
        Ok(entries) => collect(entries.map(Entry::from), index_of, &mut errors),
        Err(error) => {
            errors.push(format!("the interfaces cannot be listed: {error}"));
            Vec::new()
        }
    };
    interfaces.sort_by_key(|i| i.index);
    if interfaces.len() > MAX_INTERFACES {
        errors.push(format!("{} interfaces: only the first {MAX_INTERFACES} are looked at", interfaces.len()));
        interfaces.truncate(MAX_INTERFACES);
    }
    errors.truncate(MAX_ERRORS);
    Surroundings { interfaces, outbound: FAR.into_iter().filter_map(outbound).collect(), errors }
}

fn index_of(name: &str) -> Result<u32, String> {
    if_nametoindex(name).map_err(|error| error.to_string())
}

/// The source address for `far`. Connecting a UDP socket asks the routes and sends nothing.
fn outbound(far: SocketAddr) -> Option<IpAddr> {
    let any = if far.is_ipv4() { SocketAddr::from(([0, 0, 0, 0], 0)) } else { SocketAddr::from(([0; 16], 0)) };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// One line of the system's list: an interface with one of its addresses, or with none.
struct Entry {
    name: String,
    flags: InterfaceFlags,
    address: Option<IpAddr>,
    mask: Option<IpAddr>,
    broadcast: Option<IpAddr>,
}

impl From<nix::ifaddrs::InterfaceAddress> for Entry {
    fn from(entry: nix::ifaddrs::InterfaceAddress) -> Entry {
        let ip = |address: Option<SockaddrStorage>| -> Option<IpAddr> {
            let address = address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        };
        Entry {
            flags: entry.flags,
            address: ip(entry.address),
            mask: ip(entry.netmask),
            broadcast: ip(entry.broadcast),
            name: entry.interface_name,
        }
    }
}

fn collect(
    entries: impl Iterator<Item = Entry>,
    index_of: impl Fn(&str) -> Result<u32, String>,
    errors: &mut Vec<String>,
) -> Vec<Interface> {
    let mut found: BTreeMap<String, Option<Interface>> = BTreeMap::new();
    for entry in entries {
        // An alias has a name of its own and is an address of its interface.
        let name = entry.name.split(':').next().unwrap_or_default();
        let interface = found.entry(name.to_owned()).or_insert_with(|| match index_of(name) {
            Ok(index) => Some(start(index, name, entry.flags)),
            Err(error) => {
                errors.push(format!("interface {name}: {error}"));
                None
            }
        });
        let (Some(interface), Some(ip)) = (interface, entry.address) else {
            continue;
        };
        let prefix_len = match entry.mask.map(prefix_of) {
            Some(Some(len)) => len,
            // An address without a mask stands for itself.
            None => bits(ip),
            Some(None) => {
                errors.push(format!("interface {name}: the mask of one address is no prefix"));
                bits(ip)
            }
        };
        if interface.addresses.len() < MAX_ADDRESSES {
            interface.addresses.push(InterfaceAddress { ip, prefix_len: prefix_len.min(bits(ip)) });
        }
        if let (None, IpAddr::V4(_), Some(IpAddr::V4(broadcast))) = (interface.broadcast, ip, entry.broadcast) {
            interface.broadcast = Some(broadcast).filter(|b| IpAddr::V4(*b) != ip && !b.is_unspecified());
        }
    }
    found.into_values().flatten().collect()
}

fn start(index: u32, name: &str, flags: InterfaceFlags) -> Interface {
    let traits = Traits {
        loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        point_to_point: flags.contains(InterfaceFlags::IFF_POINTOPOINT),
        ..Traits::default()
    };
    Interface {
        index,
        name: name.to_owned(),
        kind: kind_of(name, &traits.read(name)),
        up: flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
        multicast: flags.contains(InterfaceFlags::IFF_MULTICAST),
        addresses: Vec::new(),
        broadcast: None,
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The length of the prefix that a mask stands for; none if it has holes.
fn prefix_of(mask: IpAddr) -> Option<u8> {
    let (ones, set) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
    };
    (ones == set).then(|| u8::try_from(ones).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use handfast_proto::lan::io::InterfaceKind;

    use super::*;

    fn entry(name: &str, address: Option<&str>, mask: Option<&str>) -> Entry {
        let ip = |text: &str| text.parse().expect("an address");
        Entry {
            name: name.to_owned(),
            flags: InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST,
            address: address.map(ip),
            mask: mask.map(ip),
            broadcast: address.filter(|a| a.contains('.')).map(|_| ip("192.168.1.255")),
        }
    }

    #[test]
    fn a23_a53_every_address_of_every_interface_is_listed() {
        let mut errors = Vec::new();
        let entries = [
            entry("eth9", None, None),
            entry("eth9", Some("192.168.1.7"), Some("255.255.255.0")),
            entry("eth9:1", Some("192.168.1.8"), Some("255.255.255.0")),
            entry("eth9", Some("fe80::7"), Some("ffff:ffff:ffff:ffff::")),
            entry("down9", None, None),
            entry("far9", Some("10.8.0.2"), None),
        ];
        let list = collect(entries.into_iter(), |name| Ok(name.len() as u32), &mut errors);
        let shown: Vec<_> = list
            .iter()
            .map(|i| {
                let addresses: Vec<_> = i.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
                (i.name.as_str(), addresses.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("down9", String::new()),
                ("eth9", "192.168.1.7/24 192.168.1.8/24 fe80::7/64".to_owned()),
                ("far9", "10.8.0.2/32".to_owned())
            ]
        );
        assert_eq!(list[1].broadcast, Some(Ipv4Addr::new(192, 168, 1, 255)));
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn a54_one_bad_interface_is_an_error_entry_and_hides_no_other() {
        let mut errors = Vec::new();
        let entries = [
            entry("bad9", Some("10.0.0.1"), Some("255.0.0.0")),
            entry("bad9", Some("10.0.0.2"), Some("255.0.0.0")),
            entry("odd9", Some("10.1.0.1"), Some("255.0.255.0")),
            entry("good9", Some("192.168.1.7"), Some("255.255.255.0")),
        ];
        let index = |name: &str| if name == "bad9" { Err("no such device".to_owned()) } else { Ok(1) };
        let list = collect(entries.into_iter(), index, &mut errors);
        let names: Vec<_> = list.iter().map(|i| (i.name.as_str(), i.addresses.len())).collect();
        assert_eq!(names, [("good9", 1), ("odd9", 1)]);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("bad9") && errors[1].contains("odd9"), "{errors:?}");
    }

    #[test]
    fn loopback_is_listed_as_what_it_is() {
        let surroundings = read();
        let lo = surroundings.interfaces.iter().find(|i| i.kind == InterfaceKind::Loopback).expect("loopback");
        assert!(lo.index > 0);
        if lo.up {
            let own = InterfaceAddress { ip: Ipv4Addr::LOCALHOST.into(), prefix_len: 8 };
            assert!(lo.addresses.contains(&own), "{lo:?}");
        }
        assert!(surroundings.outbound.iter().all(|ip| !ip.is_loopback() && !ip.is_unspecified()));
    }
}
