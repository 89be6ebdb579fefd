//! Which connections are let stand: limits on those that others open, and none of a dial that was given up.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use handfast_proto::addr::Subscriber;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};

use super::ids;

/// How many connections others may open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) established: usize,
    /// From one subscriber.
    pub(crate) per_subscriber: usize,
    /// Handshakes that run.
    pub(crate) pending: usize,
    /// Handshakes that run with one subscriber. libp2p ends none of them before its timeout, so a host that opens
    /// connections and stays silent holds its places for seconds: far fewer than there are, and as many as an honest
    /// host with a full race of dials needs.
    pub(crate) pending_per_subscriber: usize,
}

impl Limits {
    /// A device: eight pairings and 256 paired devices do not come at once. A machine with IPv4 and IPv6 is two
    /// subscribers: it can hold half of the places, and as many are left for others.
    pub(crate) const DEVICE: Limits =
        Limits { established: 128, per_subscriber: 32, pending: 64, pending_per_subscriber: 8 };
    /// A node: what fits in a few hundred MB with the buffers of QUIC. Many devices may share one address.
    pub(crate) const NODE: Limits =
        Limits { established: 4_096, per_subscriber: 64, pending: 512, pending_per_subscriber: 32 };
}

/// Admits or refuses connections.
pub(crate) struct Behaviour {
    limits: Limits,
    pending: BTreeMap<ConnectionId, Subscriber>,
    inbound: BTreeMap<ConnectionId, Subscriber>,
    held_by: BTreeMap<Subscriber, usize>,
    given_up: BTreeSet<ConnectionId>,
    refused: u64,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Refused {
    #[error("too many connections are open")]
    Full,
    #[error("too many connections from that address are open")]
    SubscriberFull,
    #[error("too many connections from that address have not said who opens them")]
    SubscriberSilent,
    #[error("the dial was given up")]
    GivenUp,
    #[error("the address has no IP address")]
    NoAddress,
}

impl Behaviour {
    pub(crate) fn new(limits: Limits) -> Behaviour {
        Behaviour {
            limits,
            pending: BTreeMap::new(),
            inbound: BTreeMap::new(),
            held_by: BTreeMap::new(),
            given_up: BTreeSet::new(),
            refused: 0,
        }
    }

    /// The connection of this dial is not wanted any more. libp2p cannot abort a single dial, so it runs to its end
    /// and is refused there; the transport's timeout bounds it.
    pub(crate) fn give_up(&mut self, attempt: ConnectionId) {
        self.given_up.insert(attempt);
    }

    /// Connections of others that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Connections that others opened.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.len()
    }

    fn refuse<T>(&mut self, why: Refused) -> Result<T, ConnectionDenied> {
        self.refused += 1;
        tracing::debug!(%why, "a connection was refused");
        Err(ConnectionDenied::new(why))
    }
}

/// Who opens a connection: whoever comes through a relay counts as the relay, which knows of no address.
fn subscriber_of(local: &Multiaddr, remote: &Multiaddr) -> Option<Subscriber> {
    ids::address_of(remote).or_else(|| ids::relay_of(local)).map(|a| Subscriber::of(a.ip))
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(subscriber) = subscriber_of(local, remote) else {
            return self.refuse(Refused::NoAddress);
        };
        let held = self.held_by.get(&subscriber).copied().unwrap_or(0);
        if held >= self.limits.per_subscriber {
            return self.refuse(Refused::SubscriberFull);
        }
        if self.pending.values().filter(|other| **other == subscriber).count() >= self.limits.pending_per_subscriber {
            return self.refuse(Refused::SubscriberSilent);
        }
        if self.pending.len() >= self.limits.pending || self.inbound.len() >= self.limits.established {
            return self.refuse(Refused::Full);
        }
        self.pending.insert(id, subscriber);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        let Some(subscriber) = subscriber_of(local, remote) else {
            return self.refuse(Refused::NoAddress);
        };
        let held = self.held_by.get(&subscriber).copied().unwrap_or(0);
        if held >= self.limits.per_subscriber {
            return self.refuse(Refused::SubscriberFull);
        }
        if self.inbound.len() >= self.limits.established {
            return self.refuse(Refused::Full);
        }
        // Counted here and not at ConnectionEstablished: that comes only after the next event may have been decided.
        self.inbound.insert(id, subscriber);
        *self.held_by.entry(subscriber).or_default() += 1;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.given_up.remove(&id) {
            return Err(ConnectionDenied::new(Refused::GivenUp));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // The failures of both directions and the end of a connection; nothing else frees a place.
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.forget_inbound(closed.connection_id);
        } else if let FromSwarm::ListenFailure(failure) = event {
            self.pending.remove(&failure.connection_id);
            self.forget_inbound(failure.connection_id);
        } else if let FromSwarm::DialFailure(failure) = event {
            self.given_up.remove(&failure.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

impl Behaviour {
    fn forget_inbound(&mut self, id: ConnectionId) {
        if let Some(subscriber) = self.inbound.remove(&id)
            && let Some(held) = self.held_by.get_mut(&subscriber)
        {
            *held -= 1;
            if *held == 0 {
                self.held_by.remove(&subscriber);
            }
        }
    }
}
