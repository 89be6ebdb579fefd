//! What the driver does with each event of the swarm: connections and listeners.

use std::net::IpAddr;

use handfast_proto::addr::{Address, Class, Transport, classify};
use libp2p::core::ConnectedPoint;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionError, ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::behaviour::Event;
use super::dials::{Failed, Over};
use super::driver::Driver;
use super::ids;
use crate::api::{DisconnectCause, NetEvent, Role, StreamFailure};
use crate::routes;

impl Driver {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<Event>) {
        match event {
            SwarmEvent::Behaviour(Event::Kademlia(event)) => self.on_kademlia(*event),
            SwarmEvent::Behaviour(Event::Identify(event)) => self.on_identify(*event),
            SwarmEvent::Behaviour(Event::Silent(silent)) => {
                if let Some(conn) = self.conns.of_swarm_mut(silent.0) {
                    (conn.closing, conn.silent) = (true, true);
                    self.swarm.close_connection(silent.0);
                }
            }
            SwarmEvent::Behaviour(Event::Streams(event)) => self.on_stream(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, endpoint)
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.on_closed(peer_id, connection_id, cause.as_ref())
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.attempt_failed(connection_id, &error)
            }
            SwarmEvent::Behaviour(Event::Hop(event)) => self.on_hop(&event),
            SwarmEvent::Behaviour(Event::Reach(event)) => self.on_reach(event),
            // What comes of an upgrade is a connection like any other.
            SwarmEvent::Behaviour(Event::Punch(event)) => {
                tracing::debug!(peer = %event.remote_peer_id, ok = event.result.is_ok(), "an upgrade ended");
            }
            SwarmEvent::NewListenAddr { listener_id, address } if ids::is_circuit(&address) => {
                self.reservations.given(listener_id);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listener_gone(&address),
            SwarmEvent::ListenerClosed { listener_id, addresses, .. } => {
                self.reservations.ended(listener_id, Instant::now());
                for address in &addresses {
                    self.on_listener_gone(address);
                }
            }
            SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::IncomingConnectionError { .. }
            | SwarmEvent::ListenerError { .. }
            | SwarmEvent::Dialing { .. }
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. }
            | _ => {}
        }
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: ConnectedPoint) {
        let address = match &endpoint {
            ConnectedPoint::Dialer { address, .. } => ids::address_of(address).or_else(|| ids::relay_of(address)),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                ids::address_of(send_back_addr).or_else(|| ids::relay_of(local_addr))
            }
        };
        let (Some(tid), Some(address)) = (ids::tid_of(&peer), address) else {
            self.swarm.close_connection(connection);
            return;
        };
        let dialled = endpoint.is_dialer();
        let (local, relayed) = (local_of(&endpoint), endpoint.is_relayed());
        tracing::debug!(%address, ?tid, dialled, relayed, "connected");
        let came_in = (!dialled && !relayed).then_some(address.transport);
        let way = if self.role == Role::Device { routes::way_to(address.ip) } else { None };
        let conn = self.conns.add(connection, peer, tid, address, endpoint, way);
        self.out.push(NetEvent::Connected { conn, tid, address, relayed, dialled, local });
        for over in self.dials.connected(connection, &peer, conn, relayed) {
            self.dial_over(over);
        }
        // A node that calls a device back is there for a moment, and not at an address where it listens.
        if self.anchors.is_seed(&peer) && (dialled || self.role != Role::Device) {
            self.on_node(peer, connection);
        }
        self.reach_connected(peer, connection, came_in);
    }

    pub(super) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, cause: Option<&ConnectionError>) {
        self.anchors.disconnected(peer, connection, Instant::now());
        self.reservations.disconnected(connection);
        let Some(conn) = self.conns.remove(connection) else {
            return;
        };
        tracing::debug!(address = %conn.address, tid = ?conn.tid, ?cause, "disconnected");
        self.streams.gone(conn.id);
        for id in self.streams.unanswerable(conn.id) {
            self.out.push(NetEvent::StreamFailed { id, cause: StreamFailure::NoConnection });
        }
        let cause = if conn.silent { DisconnectCause::TimedOut } else { disconnect_cause(cause) };
        self.departing.insert(conn.id, (conn.tid, cause));
        self.stream_left(conn.id);
    }

    /// Dials; that the swarm refuses to is a failure like another.
    pub(super) fn attempt(&mut self, opts: DialOpts) {
        let attempt = opts.connection_id();
        if let Err(error) = self.swarm.dial(opts) {
            self.attempt_failed(attempt, &error);
        }
    }

    pub(super) fn attempt_failed(&mut self, attempt: ConnectionId, error: &DialError) {
        tracing::debug!(%attempt, %error, "a dial failed");
        self.anchors.dial_failed(attempt, Instant::now(), &mut self.rng);
        self.reach_failed(attempt);
        match self.dials.attempt_failed(attempt, error) {
            Failed::Nothing => {}
            Failed::Over(over) => self.dial_over(over),
            Failed::Go(attempts) => attempts.into_iter().for_each(|opts| self.attempt(opts)),
        }
    }

    pub(super) fn dial_over(&mut self, over: Over) {
        for attempt in over.give_up {
            self.swarm.behaviour_mut().guard.give_up(attempt);
        }
        let id = over.id;
        self.out.push(match over.result {
            Ok(conn) => NetEvent::Dialled { id, conn },
            Err(failure) => NetEvent::DialFailed { id, failure },
        });
    }

    pub(super) fn on_listening(&mut self, address: &Multiaddr) {
        let Some(address) = ids::address_of(address) else {
            return;
        };
        if !self.listening.contains(&address) {
            self.listening.push(address);
            self.anchors.network_changed(Instant::now());
            tracing::debug!(%address, "listening");
            self.swarm.behaviour_mut().punch.reached_at(&address);
            self.out.push(NetEvent::Listening { address });
            self.tell_interfaces();
            let named = self.named.iter().any(|a| a.ip == address.ip && a.transport == address.transport);
            if matches!(self.role, Role::Node { .. }) && (named || classify(address.ip) == Class::Public) {
                self.announce(address);
            }
        }
    }

    pub(super) fn on_listener_gone(&mut self, address: &Multiaddr) {
        let Some(address) = ids::address_of(address) else {
            return;
        };
        if self.listening.contains(&address) {
            self.listening.retain(|known| *known != address);
            self.out.push(NetEvent::ListenerGone { address });
            self.tell_interfaces();
            if self.announced.contains(&address) && !self.is_external(&address) {
                self.announced.retain(|known| *known != address);
                self.swarm.remove_external_address(&ids::multiaddr_of(&address));
                self.tell_peers();
            }
        }
    }

    pub(super) fn is_external(&self, address: &Address) -> bool {
        match &self.role {
            Role::Device => false,
            Role::Node { external } => external.contains(address),
        }
    }

    pub(super) fn announce(&mut self, address: Address) {
        if !self.announced.contains(&address) {
            self.announced.push(address);
            self.swarm.add_external_address(ids::multiaddr_of(&address));
            self.tell_peers();
        }
    }

    pub(super) fn tell_peers(&mut self) {
        let peers: Vec<PeerId> = self.conns.iter().map(|conn| conn.peer).collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }
}

/// Where a connection came in over TCP; over QUIC the socket knows no more than that it listens on all addresses.
fn local_of(endpoint: &ConnectedPoint) -> Option<IpAddr> {
    let ConnectedPoint::Listener { local_addr, .. } = endpoint else { return None };
    let local = ids::address_of(local_addr).filter(|a| a.transport == Transport::Tcp)?;
    Some(local.ip.to_canonical())
}

fn disconnect_cause(cause: Option<&ConnectionError>) -> DisconnectCause {
    match cause {
        None | Some(ConnectionError::KeepAliveTimeout) => DisconnectCause::Closed,
        Some(ConnectionError::IO(error)) => {
            // The transports box their errors: only the text says what it was.
            let text = error.to_string().to_lowercase();
            if text.contains("timed out") {
                DisconnectCause::TimedOut
            } else if ["closed", "reset", "pipe", "eof"].iter().any(|sign| text.contains(sign)) {
                DisconnectCause::Closed
            } else {
                DisconnectCause::Broken
            }
        }
    }
}
