//! Asks connections at once whether anybody is at their other end. libp2p's ping has a schedule of its own, and QUIC's timers
//! sleep with the machine.
//!
//! The question is a stream for libp2p's ping. A peer that does not speak it says so, which is an answer as good as another.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream,
    StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol, ping};
use tokio::time::{Sleep, sleep};

use super::liveness::Silent;

/// Time for the answer: several round trips across the world.
const LIMIT: Duration = Duration::from_secs(2);

/// What libp2p's ping sends.
const QUESTION: [u8; 32] = [0; 32];

/// Asks, and tells the connections on which no answer comes.
#[derive(Default)]
pub(crate) struct Behaviour {
    queue: VecDeque<ToSwarm<Silent, Ask>>,
    waker: Option<Waker>,
}

/// Ask now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask;

/// Nobody has answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered;

impl Behaviour {
    pub(crate) fn ask(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: Ask });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Silent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, id: ConnectionId, _: THandlerOutEvent<Self>) {
        self.queue.push_back(ToSwarm::GenerateEvent(Silent(id)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.queue.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One connection.
#[derive(Default)]
pub(crate) struct Handler {
    /// A stream is to be asked for.
    is_due: bool,
    limit: Option<Pin<Box<Sleep>>>,
    answer: Option<BoxFuture<'static, ()>>,
    waker: Option<Waker>,
}

impl Handler {
    fn answered(&mut self) {
        (self.limit, self.answer) = (None, None);
    }
}

/// Any end of it is an answer; where the connection broke, that is told otherwise.
async fn ask(mut stream: Stream) {
    if stream.write_all(&QUESTION).await.is_ok() && stream.flush().await.is_ok() {
        let _ = stream.read(&mut [0]).await;
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Ask;
    type ToBehaviour = Unanswered;
    type InboundProtocol = DeniedUpgrade;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(DeniedUpgrade, ())
    }

    fn on_behaviour_event(&mut self, Ask: Self::FromBehaviour) {
        if self.limit.is_none() {
            self.is_due = true;
            self.limit = Some(Box::pin(sleep(LIMIT)));
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else can be an answer")]
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.answer = Some(ask(protocol).boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                error: StreamUpgradeError::NegotiationFailed,
                ..
            }) => {
                self.answered();
            }
            _ => return,
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if std::mem::take(&mut self.is_due) {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(ping::PROTOCOL_NAME), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if self.answer.as_mut().is_some_and(|answer| answer.poll_unpin(cx).is_ready()) {
            self.answered();
        }
        if self.limit.as_mut().is_some_and(|limit| limit.poll_unpin(cx).is_ready()) {
            self.answered();
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Unanswered));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
