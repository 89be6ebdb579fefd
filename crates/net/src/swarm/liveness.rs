//! Finds connections whose other end is gone. QUIC does that by itself (keep-alive and idle timeout), so libp2p's ping
//! runs on those alone that use TCP or a relay, which lives on when the other end does not.

use std::task::{Context, Poll};
use std::time::Duration;

use either::Either;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{PeerId, ping};

use super::ids;

/// Nobody answers on this connection.
pub(crate) struct Silent(pub(crate) ConnectionId);

/// Pings where QUIC does not, and tells the connections on which no answer comes.
pub(crate) struct Behaviour {
    ping: ping::Behaviour,
}

impl Behaviour {
    /// libp2p keeps the first failure of a ping to itself and tells only the second in a row, so a lost peer is noticed
    /// after two intervals and two timeouts: nine eighths of `silence`.
    pub(crate) fn new(silence: Duration) -> Behaviour {
        Behaviour {
            ping: ping::Behaviour::new(ping::Config::new().with_interval(silence / 4).with_timeout(silence * 5 / 16)),
        }
    }
}

fn looks_after_itself(address: &Multiaddr) -> bool {
    ids::address_of(address).is_some_and(|a| a.transport == handfast_proto::addr::Transport::Quic)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Either<THandler<ping::Behaviour>, dummy::ConnectionHandler>;
    type ToSwarm = Silent;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if looks_after_itself(remote) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.ping.handle_established_inbound_connection(id, peer, local, remote).map(Either::Left)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if looks_after_itself(address) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.ping.handle_established_outbound_connection(id, peer, address, role, port).map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.ping.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.ping.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(event) = self.ping.poll(cx) {
            if let ToSwarm::GenerateEvent(ping::Event {
                connection,
                result: Err(ping::Failure::Timeout | ping::Failure::Other { .. }),
                ..
            }) = event
            {
                return Poll::Ready(ToSwarm::GenerateEvent(Silent(connection)));
            }
        }
        Poll::Pending
    }
}
