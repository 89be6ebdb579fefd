//! What the driver does about relays: those that lead to us, and what we are as one.

use handfast_proto::id::ConnId;
use libp2p::{PeerId, relay};
use tokio::time::Instant;

use super::driver::Driver;
use crate::api::NetEvent;

impl Driver {
    /// The peer of a connection may learn where we are.
    pub(super) fn punch(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get(conn).filter(|conn| conn.relayed && !conn.closing) {
            let (peer, connection) = (found.peer, found.swarm_id);
            self.swarm.behaviour_mut().punch.trust(peer, connection);
        }
    }

    /// Once more.
    pub(super) fn punch_again(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get(conn).filter(|conn| conn.relayed && !conn.closing) {
            let connection = found.swarm_id;
            self.swarm.behaviour_mut().punch.again(connection);
        }
    }

    /// Whether the owner wants to be reached through relays.
    pub(super) fn reserve(&mut self, wanted: bool) {
        self.reservations.set_wanted(wanted);
    }

    /// Asks the relays whose turn it is, and tells which lead to us.
    pub(super) fn ask_relays(&mut self, now: Instant) {
        for ask in self.reservations.due(now) {
            match self.swarm.listen_on(ask.circuit) {
                Ok(listener) => self.reservations.asked(&ask.peer, listener),
                Err(error) => {
                    tracing::debug!(%error, "a relay could not be asked");
                    self.reservations.failed(&ask.peer, now);
                }
            }
        }
        if let Some(relays) = self.reservations.news() {
            tracing::debug!(relays = relays.len(), "relays lead to us");
            self.out.push(NetEvent::Relays(relays));
        }
    }

    /// Counts what we have done as a relay.
    pub(super) fn on_hop(&mut self, event: &relay::Event) {
        let conns = &self.conns;
        self.hop.on_event(event, |peer: &PeerId| conns.iter().any(|conn| conn.peer == *peer));
    }
}
