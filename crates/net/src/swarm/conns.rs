//! The connections that stand, under names of ours.

use std::collections::BTreeMap;

use handfast_proto::addr::Address;
use handfast_proto::id::{ConnId, Tid};
use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;

use crate::routes::Way;

/// A connection.
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) swarm_id: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) tid: Tid,
    /// Where it is; of a connection through a relay, where the relay is.
    pub(crate) address: Address,
    /// Whether it runs through a relay.
    pub(crate) relayed: bool,
    pub(crate) endpoint: ConnectedPoint,
    /// Which way its packets left when it came to stand; not looked at on a node, which does not roam.
    pub(crate) way: Option<Way>,
    /// Whether the owner wants it kept.
    pub(crate) held: bool,
    /// Whether it is to be closed, or is being closed.
    pub(crate) closing: bool,
    /// Whether that is because the peer has fallen silent.
    pub(crate) silent: bool,
}

/// The connections.
#[derive(Default)]
pub(crate) struct Conns {
    next: u64,
    by_id: BTreeMap<ConnId, Conn>,
    by_swarm: BTreeMap<ConnectionId, ConnId>,
}

impl Conns {
    /// Takes a new connection in.
    pub(crate) fn add(
        &mut self,
        swarm_id: ConnectionId,
        peer: PeerId,
        tid: Tid,
        address: Address,
        endpoint: ConnectedPoint,
        way: Option<Way>,
    ) -> ConnId {
        let relayed = endpoint.is_relayed();
        self.next += 1;
        let id = ConnId(self.next);
        self.by_swarm.insert(swarm_id, id);
        self.by_id.insert(
            id,
            Conn {
                id,
                swarm_id,
                peer,
                tid,
                address,
                relayed,
                endpoint,
                way,
                held: false,
                closing: false,
                silent: false,
            },
        );
        id
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, swarm_id: ConnectionId) -> Option<Conn> {
        let id = self.by_swarm.remove(&swarm_id)?;
        self.by_id.remove(&id)
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn of_swarm(&self, swarm_id: ConnectionId) -> Option<&Conn> {
        self.by_id.get(self.by_swarm.get(&swarm_id)?)
    }

    pub(crate) fn of_swarm_mut(&mut self, swarm_id: ConnectionId) -> Option<&mut Conn> {
        self.by_id.get_mut(self.by_swarm.get(&swarm_id)?)
    }

    /// The newest connection to a peer that is not being closed: a direct one, or else one through a relay.
    pub(crate) fn alive_to(&self, tid: &Tid) -> Option<&Conn> {
        let alive = self.by_id.values().filter(|conn| conn.tid == *tid && !conn.closing);
        alive.max_by_key(|conn| (!conn.relayed, conn.id))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.by_id.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}
