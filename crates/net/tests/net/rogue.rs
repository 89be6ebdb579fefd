//! A peer that opens streams and writes whatever it likes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncWriteExt as _, StreamExt as _};
use handfast_proto::addr::Address;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::identity::Keypair;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, Stream,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol, SwarmBuilder, tcp, tls, yamux};

/// What to write on one stream.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) protocol: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether to write the bytes again and again until the stream breaks.
    pub(crate) endless: bool,
}

impl Script {
    pub(crate) fn once(bytes: &[u8]) -> Script {
        Script { protocol: "/handfast/pair/1", bytes: bytes.to_vec(), endless: false }
    }
}

/// Dials, opens one stream for each script, and keeps all it got open until the test ends.
pub(crate) fn run(seed: u8, address: Address, scripts: Vec<Script>) {
    let mut bytes = [seed; 32];
    let key = Keypair::ed25519_from_bytes(&mut bytes).expect("a seed");
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .expect("TLS")
        .with_quic()
        .with_behaviour(|_| Rogue { scripts })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    let target: Multiaddr = address.to_string().parse().expect("a multiaddr");
    swarm.dial(target).expect("a dial");
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

struct Rogue {
    scripts: Vec<Script>,
}

impl NetworkBehaviour for Rogue {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { to_open: VecDeque::new(), open: Vec::new() })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { to_open: self.scripts.clone().into(), open: Vec::new() })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

struct Handler {
    to_open: VecDeque<Script>,
    open: Vec<Stream>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = Script;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<DeniedUpgrade> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, DeniedUpgrade, Script>) {
        if let ConnectionEvent::FullyNegotiatedOutbound(outbound) = event {
            self.open.push(outbound.protocol);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Script, (), Infallible>> {
        match self.to_open.pop_front() {
            Some(script) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(script, ()).with_timeout(Duration::from_secs(60)),
            }),
            None => Poll::Pending,
        }
    }
}

impl UpgradeInfo for Script {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 1];

    fn protocol_info(&self) -> Self::InfoIter {
        [StreamProtocol::new(self.protocol)]
    }
}

impl OutboundUpgrade<Stream> for Script {
    type Output = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn upgrade_outbound(self, mut stream: Stream, _: StreamProtocol) -> Self::Future {
        Box::pin(async move {
            loop {
                stream.write_all(&self.bytes).await?;
                stream.flush().await?;
                if !self.endless {
                    return Ok(stream);
                }
            }
        })
    }
}
