//! The beacon sockets: one per family for this host, one per interface and family for the group; and what is told of
//! datagrams that could not be sent.

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
            if !self.hosts.contains_key(&family) {
                match Socket::host(family) {
                    Ok(socket) => {
                        self.hosts.insert(family, socket);
                    }
                    Err(error) => errors.push(format!("beacons, {}: {error}", name(family))),
                }
            }
        }
        let wanted = wanted(interfaces);
        self.groups.retain(|key, _| wanted.contains_key(key));
        for ((index, family), interface) in wanted {
            if !self.groups.contains_key(&(index, family)) {
                match Socket::group(family, index) {
                    Ok(socket) => {
                        self.groups.insert((index, family), socket);
                    }
                    Err(error) => errors.push(format!("beacons on {interface}, {}: {error}", name(family))),
                }
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
