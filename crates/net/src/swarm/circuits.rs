//! The client side of relays: libp2p's, which tells the swarm of our circuits as if they were addresses of ours. Identify
//! would tell them to everybody who connects; they are for those who find them in a record.

use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, relay};

/// The relay client, which keeps our circuits to itself. What it has to tell is told by its listeners.
pub(crate) struct Behaviour(relay::client::Behaviour);

impl Behaviour {
    pub(crate) fn new(client: relay::client::Behaviour) -> Behaviour {
        Behaviour(client)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<relay::client::Behaviour>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.0.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.0.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        while let Poll::Ready(event) = self.0.poll(cx) {
            if let Some(event) = without_addresses(event) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all but three kinds go on as they are")]
fn without_addresses<In>(event: ToSwarm<relay::client::Event, In>) -> Option<ToSwarm<Infallible, In>> {
    match event {
        ToSwarm::GenerateEvent(_) | ToSwarm::ExternalAddrConfirmed(_) | ToSwarm::ExternalAddrExpired(_) => None,
        ToSwarm::Dial { opts } => Some(ToSwarm::Dial { opts }),
        ToSwarm::NotifyHandler { peer_id, handler, event } => Some(ToSwarm::NotifyHandler { peer_id, handler, event }),
        ToSwarm::CloseConnection { peer_id, connection } => Some(ToSwarm::CloseConnection { peer_id, connection }),
        // It asks for nothing else.
        _ => None,
    }
}
