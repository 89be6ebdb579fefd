//! Where this machine stands in its networks: from which addresses it sends, who is on the same link, which hosts of a
//! small network may be asked one by one.

use std::net::{IpAddr, Ipv4Addr};

use crate::addr::{Class, InterfaceAddress, classify, on_link};
use crate::lan::io::{Interface, InterfaceKind, Surroundings};

/// Interfaces that are used; a machine with more is a router, and its first ones serve.
pub const MAX_INTERFACES: usize = 16;
/// Addresses of one interface that beacons are sent from.
pub const MAX_SOURCES: usize = 4;
/// The largest network whose hosts are asked one by one: 254 of them, little more than a second.
pub const SWEEP_PREFIX: u8 = 24;
/// Networks that are swept.
pub const MAX_SWEPT: usize = 4;

/// Whether an interface leads to other machines now.
pub fn is_usable(interface: &Interface) -> bool {
    interface.up && interface.kind != InterfaceKind::Loopback
}

/// The interfaces that are used, those that lead into the room first.
pub fn usable(surroundings: &Surroundings) -> Vec<&Interface> {
    let mut list: Vec<&Interface> = surroundings.interfaces.iter().filter(|i| is_usable(i)).collect();
    list.sort_by_key(|i| (i.kind, i.index));
    list.truncate(MAX_INTERFACES);
    list
}

/// The addresses of an interface that beacons are sent from: those at which we can be dialled. IPv6 link-local ones are
/// not among them, since a multiaddress of libp2p cannot name their interface.
pub fn sources(interface: &Interface) -> impl Iterator<Item = IpAddr> {
    interface.addresses.iter().map(|a| a.ip).filter(|ip| is_source(*ip)).take(MAX_SOURCES)
}

fn is_source(ip: IpAddr) -> bool {
    match classify(ip) {
        Class::Private | Class::Shared | Class::Public => true,
        Class::LinkLocal => ip.is_ipv4(),
        Class::Loopback | Class::Unusable => false,
    }
}

/// The interface of this number, if `peer` is in one of its networks.
pub fn reached_by(surroundings: &Surroundings, index: u32, peer: IpAddr) -> Option<&Interface> {
    let interface = surroundings.interfaces.iter().find(|i| i.index == index)?;
    interface.addresses.iter().any(|a| on_link(a, peer)).then_some(interface)
}

/// Whether `ip` is an address of this machine.
pub fn is_own(surroundings: &Surroundings, ip: IpAddr) -> bool {
    surroundings.interfaces.iter().any(|i| i.addresses.iter().any(|a| a.ip == ip))
}

/// The address of ours that is on one link with `peer`, and its interface.
pub fn facing(surroundings: &Surroundings, peer: IpAddr) -> Option<(&Interface, IpAddr)> {
    usable(surroundings)
        .into_iter()
        .find_map(|i| i.addresses.iter().find(|a| is_source(a.ip) && on_link(a, peer)).map(|a| (i, a.ip)))
}

/// Every other host of the small IPv4 networks we are in, with the interface and address to ask from. Nothing in it lies
/// outside a prefix of ours.
pub fn sweep(surroundings: &Surroundings) -> Vec<(u32, IpAddr, Ipv4Addr)> {
    let mut out = Vec::new();
    let networks = usable(surroundings)
        .into_iter()
        .filter(|i| i.kind == InterfaceKind::Network)
        .flat_map(|i| i.addresses.iter().map(move |a| (i.index, a)))
        .filter_map(|(index, a)| small_network(a).map(|(own, first, count)| (index, own, first, count)));
    for (index, own, first, count) in networks.take(MAX_SWEPT) {
        for n in 0..count {
            let host = Ipv4Addr::from_bits(first + n);
            if host != own {
                out.push((index, IpAddr::V4(own), host));
            }
        }
    }
    out
}

/// Own address, first host and number of hosts of a network that is small enough.
fn small_network(address: &InterfaceAddress) -> Option<(Ipv4Addr, u32, u32)> {
    let IpAddr::V4(own) = address.ip else { return None };
    if !is_source(address.ip) || !(SWEEP_PREFIX..=30).contains(&address.prefix_len) {
        return None;
    }
    let size = 1u32 << (32 - u32::from(address.prefix_len));
    let network = own.to_bits() & !(size - 1);
    Some((own, network + 1, size - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, kind: InterfaceKind, addresses: &[(&str, u8)]) -> Interface {
        Interface {
            index,
            name: format!("if{index}"),
            kind,
            up: true,
            multicast: true,
            addresses: addresses
                .iter()
                .map(|(ip, prefix_len)| InterfaceAddress {
                    ip: ip.parse().expect("an address"),
                    prefix_len: *prefix_len,
                })
                .collect(),
            broadcast: None,
        }
    }

    fn place(interfaces: Vec<Interface>) -> Surroundings {
        Surroundings { interfaces, ..Surroundings::default() }
    }

    #[test]
    fn a_sweep_stays_inside_small_networks_of_ours_and_asks_nobody_twice() {
        let place = place(vec![
            interface(1, InterfaceKind::Network, &[("192.168.7.9", 24), ("10.1.2.3", 16), ("fd00::9", 64)]),
            interface(2, InterfaceKind::Network, &[("192.168.8.6", 29)]),
            interface(3, InterfaceKind::Tunnel, &[("10.9.0.2", 24)]),
        ]);
        let hosts = sweep(&place);
        assert_eq!(hosts.len(), 253 + 5);
        let distinct: std::collections::BTreeSet<Ipv4Addr> = hosts.iter().map(|(_, _, h)| *h).collect();
        assert_eq!(distinct.len(), hosts.len());
        for (index, own, host) in hosts {
            assert!(reached_by(&place, index, host.into()).is_some(), "{host}");
            assert!(!is_own(&place, host.into()) && own != IpAddr::V4(host));
        }
    }

    #[test]
    fn nothing_is_sent_from_loopback_or_an_address_that_cannot_be_dialled() {
        let mixed = interface(
            1,
            InterfaceKind::Network,
            &[("127.0.0.1", 8), ("fe80::1", 64), ("169.254.1.1", 16), ("192.168.1.5", 24), ("fd00::5", 64)],
        );
        let from: Vec<String> = sources(&mixed).map(|ip| ip.to_string()).collect();
        assert_eq!(from, ["169.254.1.1", "192.168.1.5", "fd00::5"]);
        let mut down = mixed.clone();
        down.up = false;
        let place = place(vec![down, interface(2, InterfaceKind::Loopback, &[("127.0.0.1", 8)])]);
        assert!(usable(&place).is_empty() && sweep(&place).is_empty());
    }

    #[test]
    fn a28_interfaces_into_the_room_come_before_bridges_and_tunnels() {
        let place = place(vec![
            interface(1, InterfaceKind::Tunnel, &[("10.8.0.2", 24)]),
            interface(2, InterfaceKind::Bridge, &[("172.17.0.1", 16)]),
            interface(3, InterfaceKind::Network, &[("192.168.1.5", 24)]),
        ]);
        let order: Vec<u32> = usable(&place).iter().map(|i| i.index).collect();
        assert_eq!(order, [3, 2, 1]);
        let peer = "192.168.1.9".parse().expect("an address");
        assert_eq!(facing(&place, peer).map(|(i, ip)| (i.index, ip.to_string())), Some((3, "192.168.1.5".to_owned())));
        assert_eq!(facing(&place, "8.8.8.8".parse().expect("an address")), None);
    }
}
