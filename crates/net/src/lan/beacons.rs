//! The beacon sockets: one per family for this host, one per interface and family for the group; and what is told of
//! datagrams that could not be sent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use handfast_proto::lan::io::{Destination, Interface, InterfaceKind, Transmit};
use tokio::time::Instant;

use super::socket::{Family, Read, Socket};

/// Most interfaces on which the groups are joined, cards first: a host of many containers has many bridges.
const MAX_JOINED: usize = 32;

/// Datagrams read in one turn of the task, all sockets together; the others wait, and the system drops what is too much.
const READ_BUDGET: usize = 64;

/// Time in which one kind of failure of one interface is told once.
const FAILURE_EVERY: Duration = Duration::from_secs(1);

/// Kinds of failures that are remembered, more than there are interfaces times three.
const MAX_FAILURES: usize = 512;

/// The sockets, while open; and nothing while not.
#[derive(Default)]
pub(super) struct Beacons {
    open: bool,
    hosts: BTreeMap<Family, Socket>,
    groups: BTreeMap<(u32, Family), Socket>,
    /// Which socket is read first: the next one each turn, so that a flood on one does not silence the others.
    turn: usize,
    failures: BTreeMap<(u32, Way), Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Group,
    Broadcast,
    Unicast,
}

impl Beacons {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Opens the sockets that `interfaces` calls for and closes the others. What fails is tried again at the next call;
    /// its reasons are returned.
    pub(super) fn open(&mut self, interfaces: &[Interface]) -> Vec<String> {
        self.open = true;
        let mut errors = Vec::new();
        for family in [Family::V4, Family::V6] {
            if let Err(error) = have(&mut self.hosts, family, || Socket::host(family)) {
                errors.push(format!("beacons, {}: {error}", name(family)));
            }
        }
        let wanted = wanted(interfaces);
        self.groups.retain(|key, _| wanted.contains_key(key));
        for ((index, family), interface) in wanted {
            if let Err(error) = have(&mut self.groups, (index, family), || Socket::group(family, index)) {
                errors.push(format!("beacons on {interface}, {}: {error}", name(family)));
            }
        }
        errors
    }

    /// Leaves every group and closes every socket.
    pub(super) fn close(&mut self) {
        *self = Beacons::default();
    }

    /// Sends, or says why not.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let family = family_of(transmit.source);
        match self.hosts.get(&family) {
            Some(socket) => socket.send(transmit),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "the beacon socket is not open")),
        }
    }

    /// Whether a failure of this kind is worth telling: the first in a second.
    pub(super) fn tells_failure(&mut self, interface: u32, to: Destination, now: Instant) -> bool {
        let way = match to {
            Destination::Group => Way::Group,
            Destination::Broadcast(_) => Way::Broadcast,
            Destination::Unicast(_) => Way::Unicast,
        };
        self.failures.retain(|_, told| now.duration_since(*told) < FAILURE_EVERY);
        if self.failures.len() >= MAX_FAILURES || self.failures.contains_key(&(interface, way)) {
            return false;
        }
        self.failures.insert((interface, way), now);
        true
    }

    /// Some datagrams, as soon as there are any.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Read>> {
        let sockets: Vec<&Socket> = self.hosts.values().chain(self.groups.values()).collect();
        let mut batch = Vec::new();
        let mut left = READ_BUDGET;
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % sockets.len().max(1);
        let (behind, before) = sockets.split_at(first);
        for socket in before.iter().chain(behind) {
            while left > 0 {
                let Poll::Ready(read) = socket.poll_read(cx) else {
                    break;
                };
                left -= 1;
                batch.extend(read);
            }
        }
        if left < READ_BUDGET { Poll::Ready(batch) } else { Poll::Pending }
    }
}

/// Opens a socket unless it is there.
fn have<K: Ord>(
    sockets: &mut BTreeMap<K, Socket>,
    key: K,
    open: impl FnOnce() -> io::Result<Socket>,
) -> io::Result<()> {
    if let Entry::Vacant(place) = sockets.entry(key) {
        place.insert(open()?);
    }
    Ok(())
}

/// The interfaces and families whose groups are joined: those that are up and have an address.
fn wanted(interfaces: &[Interface]) -> BTreeMap<(u32, Family), &str> {
    let mut usable: Vec<&Interface> =
        interfaces.iter().filter(|i| i.up && i.kind != InterfaceKind::Loopback && !i.addresses.is_empty()).collect();
    usable.sort_by_key(|i| (i.kind, i.index));
    usable.truncate(MAX_JOINED);
    let mut wanted = BTreeMap::new();
    for interface in usable {
        let families: BTreeSet<Family> = interface.addresses.iter().map(|a| family_of(a.ip)).collect();
        wanted.extend(families.into_iter().map(|family| ((interface.index, family), interface.name.as_str())));
    }
    wanted
}

fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use handfast_proto::addr::InterfaceAddress;

    use super::*;

    #[test]
    fn a_kind_of_failure_is_told_once_a_second_for_each_interface() {
        let mut beacons = Beacons::default();
        let start = Instant::now();
        let host = |n| Destination::Unicast(IpAddr::from([10, 0, 0, n]));
        assert!(beacons.tells_failure(1, host(1), start));
        assert!(!beacons.tells_failure(1, host(2), start));
        assert!(beacons.tells_failure(2, host(1), start));
        assert!(beacons.tells_failure(1, Destination::Group, start));
        assert!(!beacons.tells_failure(1, host(1), start + FAILURE_EVERY / 2));
        assert!(beacons.tells_failure(1, host(1), start + FAILURE_EVERY));
        let told = (0..10_000).filter(|n| beacons.tells_failure(*n, host(1), start + FAILURE_EVERY)).count();
        assert!(told < MAX_FAILURES && beacons.failures.len() == MAX_FAILURES, "{told}");
    }

    #[test]
    fn groups_are_joined_on_what_is_up_and_leads_anywhere_cards_first_and_not_on_all_of_very_many() {
        let interface = |index: u32, kind, up, addresses: &[&str]| Interface {
            index,
            name: format!("if{index}"),
            kind,
            up,
            multicast: false,
            addresses: addresses
                .iter()
                .map(|ip| InterfaceAddress { ip: ip.parse().expect("an address"), prefix_len: 24 })
                .collect(),
            broadcast: None,
        };
        let mut all = vec![
            interface(1, InterfaceKind::Loopback, true, &["127.0.0.1"]),
            interface(2, InterfaceKind::Network, false, &["10.0.2.1"]),
            interface(3, InterfaceKind::Network, true, &[]),
        ];
        all.extend((100..200).map(|n| interface(n, InterfaceKind::Bridge, true, &["172.17.0.1"])));
        all.push(interface(200, InterfaceKind::Network, true, &["10.0.2.2", "10.0.3.2", "fe80::2"]));
        let joined = wanted(&all);
        let keys: Vec<_> = joined.keys().copied().collect();
        let mut expected: Vec<_> = (100..131).map(|n| (n, Family::V4)).collect();
        expected.extend([(200, Family::V4), (200, Family::V6)]);
        assert_eq!(keys, expected);
    }
}
