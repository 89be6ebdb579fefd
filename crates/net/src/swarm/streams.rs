//! Our streams on connections: a behaviour and handler of our own, because libp2p's stream behaviour tells only the
//! peer of a stream, and the rights of a peer belong to one connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Ready, ready};
use handfast_proto::id::JobId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol as Name};

use crate::api::{StreamFailure, StreamProtocol};

/// Streams a peer may have open on one connection: a pairing, a hello and a few pings run side by side at most.
const MAX_INBOUND_PER_CONNECTION: usize = 8;

/// Time to open a stream; it needs no answer of the peer, only room in its limit of streams.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Held by an inbound stream as long as it lives, to count them.
pub(crate) type Permit = Arc<()>;

/// What happened to a stream.
pub(crate) enum Event {
    /// A peer opened one.
    Inbound { connection: ConnectionId, protocol: StreamProtocol, stream: Stream, permit: Permit },
    /// One that we asked for is open, or not.
    Outbound { job: JobId, result: Result<Stream, StreamFailure> },
}

/// Opens and accepts streams.
pub(crate) struct Behaviour {
    /// Whether connections that others opened are kept until they leave: on a node, so that devices stay connected.
    hold_inbound: bool,
    queue: VecDeque<ToSwarm<Event, ToHandler>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(hold_inbound: bool) -> Behaviour {
        Behaviour { hold_inbound, queue: VecDeque::new(), waker: None }
    }

    /// Asks for a stream on exactly this connection.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId, job: JobId, protocol: StreamProtocol) {
        self.notify(peer, connection, ToHandler::Open { job, protocol });
    }

    /// Keeps a connection alive without streams, or no longer.
    pub(crate) fn hold(&mut self, peer: PeerId, connection: ConnectionId, hold: bool) {
        self.notify(peer, connection, ToHandler::Hold(hold));
    }

    /// Makes a connection look whether it is idle now. The end of a stream outside of the handler does not wake it, so
    /// without this an idle connection could live on unnoticed.
    pub(crate) fn stream_ended(&mut self, peer: PeerId, connection: ConnectionId) {
        self.notify(peer, connection, ToHandler::StreamEnded);
    }

    fn notify(&mut self, peer_id: PeerId, connection: ConnectionId, event: ToHandler) {
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.hold_inbound))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(false))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.queue.push_back(ToSwarm::GenerateEvent(match event {
            FromHandler::Inbound { protocol, stream, permit } => {
                Event::Inbound { connection, protocol, stream, permit }
            }
            FromHandler::Outbound { job, result } => Event::Outbound { job, result },
        }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.queue.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What the behaviour asks of one connection.
#[derive(Debug)]
pub(crate) enum ToHandler {
    Open { job: JobId, protocol: StreamProtocol },
    Hold(bool),
    StreamEnded,
}

/// What one connection tells.
#[derive(Debug)]
pub(crate) enum FromHandler {
    Inbound { protocol: StreamProtocol, stream: Stream, permit: Permit },
    Outbound { job: JobId, result: Result<Stream, StreamFailure> },
}

/// The streams of one connection.
pub(crate) struct Handler {
    held: bool,
    inbound: Permit,
    queue: VecDeque<HandlerEvent>,
}

type HandlerEvent = ConnectionHandlerEvent<Offer, JobId, FromHandler>;

impl Handler {
    fn new(held: bool) -> Handler {
        Handler { held, inbound: Arc::new(()), queue: VecDeque::new() }
    }

    fn tell(&mut self, event: FromHandler) {
        self.queue.push_back(ConnectionHandlerEvent::NotifyBehaviour(event));
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = JobId;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(None), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.held
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        match event {
            ToHandler::Open { job, protocol } => {
                self.queue.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(Offer(Some(protocol)), job).with_timeout(OPEN_TIMEOUT),
                });
            }
            ToHandler::Hold(hold) => self.held = hold,
            ToHandler::StreamEnded => {}
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), JobId>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(inbound) => {
                let (protocol, stream) = inbound.protocol;
                // One count is the handler's own. A stream beyond the limit is dropped, which resets it.
                if Arc::strong_count(&self.inbound) <= MAX_INBOUND_PER_CONNECTION {
                    let permit = Arc::clone(&self.inbound);
                    self.tell(FromHandler::Inbound { protocol, stream, permit });
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(outbound) => {
                let (_, stream) = outbound.protocol;
                self.tell(FromHandler::Outbound { job: outbound.info, result: Ok(stream) });
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let failure = match error {
                    StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => StreamFailure::TimedOut,
                    StreamUpgradeError::NegotiationFailed => StreamFailure::Unsupported,
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.tell(FromHandler::Outbound { job: info, result: Err(failure) });
            }
            ConnectionEvent::AddressChange(_)
            | ConnectionEvent::ListenUpgradeError(_)
            | ConnectionEvent::LocalProtocolsChange(_)
            | ConnectionEvent::RemoteProtocolsChange(_)
            | _ => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<HandlerEvent> {
        // Everything is queued from callbacks, after which the connection polls again.
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Negotiates one protocol (outbound) or any of ours (inbound) and hands the bare stream over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer(Option<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = Name;
    type InfoIter = Vec<Name>;

    fn protocol_info(&self) -> Vec<Name> {
        match self.0 {
            Some(protocol) => vec![Name::new(protocol.name())],
            None => StreamProtocol::ALL.iter().map(|protocol| Name::new(protocol.name())).collect(),
        }
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: Name) -> Self::Future {
        ready(Ok((protocol_of(&name), stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: Name) -> Self::Future {
        ready(Ok((protocol_of(&name), stream)))
    }
}

fn protocol_of(name: &Name) -> StreamProtocol {
    StreamProtocol::ALL
        .into_iter()
        .find(|protocol| protocol.name() == name.as_ref())
        .expect("only names that were offered are negotiated")
}
