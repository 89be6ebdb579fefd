//! What is heard: which datagrams are believed, and what follows from them.

use std::net::IpAddr;

use crate::lan::io::{Addressed, Datagram, Destination};
use crate::lan::window::Peer;
use crate::lan::{Event, Lan, WindowId, dialable, nearby_device, place};
use crate::session::Role;
use crate::time::Time;
use crate::wire::beacon::{BeaconKind, HOP_LIMIT, ReceivedBeacon};

impl Lan {
    pub(super) fn received(&mut self, datagram: &Datagram, now: Time) {
        let source = datagram.source.ip().to_canonical();
        if datagram.hop_limit != HOP_LIMIT {
            return;
        }
        let Some(facing) = place::reached_by(&self.surroundings, datagram.interface, source) else { return };
        let own = place::sources(facing).find(|ip| ip.is_ipv4() == source.is_ipv4());
        let (Some(own), Ok(received)) = (own, ReceivedBeacon::parse(&datagram.bytes)) else { return };
        // The address inside is what the MAC covers: a beacon that is sent again from elsewhere betrays itself.
        if received.beacon().address != source || self.windows.values().any(|w| w.nid == received.beacon().nid) {
            return;
        }
        match received.beacon().kind {
            BeaconKind::Code { from_joiner } => {
                let theirs = if from_joiner { Role::Joiner } else { Role::Initiator };
                self.code_beacon(&received, theirs, datagram.interface, own, now);
            }
            BeaconKind::Nearby if datagram.addressed == Addressed::Group => {
                self.nearby_beacon(&received, datagram.interface, own, now);
            }
            BeaconKind::Nearby | BeaconKind::Presence => {}
        }
    }

    /// At most one window has the code; which one is found by a MAC each, and told to nobody.
    fn code_beacon(&mut self, received: &ReceivedBeacon, theirs: Role, interface: u32, own: IpAddr, now: Time) {
        let is_for = |w: &super::window::Window| {
            w.role().is_some_and(|role| role != theirs) && w.keys().is_some_and(|keys| received.is_by(keys))
        };
        let Some(id) = self.windows.iter().find(|(_, w)| is_for(w)).map(|(id, _)| *id) else { return };
        let peer = peer(received, interface, own, now);
        if theirs == Role::Joiner {
            // To the group for everybody's timing, and to the joiner alone in case the group's does not reach it. Its MAC
            // covers its address, so this answers nobody who did not ask, with no more than it sent.
            for to in [Destination::Group, Destination::Unicast(peer.ip)] {
                self.send_beacon(id, interface, own, to, now);
            }
        }
        if self.windows.get(&id).is_some_and(|w| !w.is_over) {
            self.met(id, peer);
        }
    }

    fn nearby_beacon(&mut self, received: &ReceivedBeacon, interface: u32, own: IpAddr, now: Time) {
        let ids: Vec<WindowId> = self.windows.iter().filter(|(_, w)| w.keys().is_none()).map(|(id, _)| *id).collect();
        for id in ids {
            self.met(id, peer(received, interface, own, now));
        }
    }

    /// Remembers a peer, and tells of it if that is news.
    pub(super) fn met(&mut self, id: WindowId, peer: Peer) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        let Some(index) = window.heard(peer) else { return };
        let peer = &window.peers[index];
        let event = if window.keys().is_some() {
            Event::Heard { window: id, addresses: dialable(peer) }
        } else {
            Event::Ready { window: id, device: nearby_device(peer, &self.surroundings) }
        };
        self.event(event);
    }
}

fn peer(received: &ReceivedBeacon, interface: u32, own: IpAddr, now: Time) -> Peer {
    let beacon = received.beacon();
    Peer {
        nid: beacon.nid,
        ip: beacon.address,
        own,
        interface,
        met_on: vec![interface],
        alive: now,
        beacons: true,
        ports: beacon.ports,
        spki: beacon.spki,
        due: true,
        called: None,
        answered: false,
        name: None,
    }
}
