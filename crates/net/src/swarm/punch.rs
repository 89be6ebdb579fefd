//! Punches holes (DCUtR) where two devices have met at a relay. The library's behaviour tells and dials whatever it hears
//! of; this wrapping tells only addresses of ours that are right for strangers, and to nobody who has only called us: the
//! owner says who has proven himself. It dials only public addresses and not many, and adds what the library lacks:
//! connection reversal, for a side whose NAT maps each flow anew while the other lets everybody in.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use handfast_proto::addr::{Address, Class, Transport, classify};
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::NewExternalAddrCandidate;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandlerEvent};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, dcutr};
use tokio::time::Instant;

use super::ids;

/// Addresses of a peer that are dialled at once: as many as the library tells.
const MAX_ADDRESSES: usize = 20;

/// Upgrades that may begin at once, and how soon one more may: each is up to three tries at whatever addresses a peer
/// names, so it must not pay to make us knock somewhere.
const BURST: u32 = 12;
const REFILL: Duration = Duration::from_secs(5);

/// Upgrades that one connection may ask of us at once, and how soon one more: the library on the other end tries three times,
/// and the owner there again every ten minutes. More would let the library's maps grow, which it clears only when an upgrade
/// succeeds.
const MAX_ASKED: u32 = 6;
const ASK_AGAIN: Duration = Duration::from_secs(120);

/// DCUtR with its limits.
pub(crate) struct Behaviour {
    dcutr: dcutr::Behaviour,
    /// Dials of the library that have not ended.
    dials: BTreeMap<ConnectionId, Dial>,
    reversals: VecDeque<DialOpts>,
    /// The connections through relays that stand.
    meetings: BTreeMap<ConnectionId, Meeting>,
    to_handlers: VecDeque<(PeerId, ConnectionId, Message)>,
    budget: Budget,
    waker: Option<Waker>,
}

type Inner = THandler<dcutr::Behaviour>;
type Message = ToHandler<THandlerInEvent<dcutr::Behaviour>, Inner>;

/// A dial of the library.
struct Dial {
    peer: PeerId,
    /// In the role of the listener: at the end that was called through the relay.
    listens: bool,
}

/// A connection through a relay.
struct Meeting {
    peer: PeerId,
    end: End,
    /// Its other end has proven himself.
    is_open: bool,
}

enum End {
    Called { local: Multiaddr, remote: Multiaddr },
    Calling { address: Multiaddr, role: Endpoint, port: PortUse },
}

/// Why a dial was refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not addresses that a stranger may make us dial")]
struct Refused;

impl Behaviour {
    pub(crate) fn new(own: PeerId) -> Behaviour {
        Behaviour {
            dcutr: dcutr::Behaviour::new(own),
            dials: BTreeMap::new(),
            reversals: VecDeque::new(),
            meetings: BTreeMap::new(),
            to_handlers: VecDeque::new(),
            budget: Budget::new(BURST, REFILL, Instant::now()),
            waker: None,
        }
    }

    /// We may be reached at this address: told to whoever meets us at a relay, if it is public.
    pub(crate) fn reached_at(&mut self, address: &Address) {
        if is_public(address) {
            let addr = &ids::multiaddr_of(address);
            self.dcutr.on_swarm_event(FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }));
        }
    }

    /// The peer at the other end of a connection through a relay may learn where we are, and make us dial it.
    pub(crate) fn trust(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(meeting) = self.meetings.get_mut(&connection) {
            meeting.is_open = true;
        }
        self.tell(peer, connection, ToHandler::Open);
    }

    /// One more upgrade. The library begins one only with a connection, so its part of this one is made anew, which also
    /// tells the addresses at which we are seen by now.
    pub(crate) fn again(&mut self, connection: ConnectionId) {
        let Some(Meeting { peer, end, is_open: true }) = self.meetings.get(&connection) else { return };
        let peer = *peer;
        if self.is_punching(peer) {
            return;
        }
        let anew = match end {
            End::Called { local, remote } => {
                self.dcutr.handle_established_inbound_connection(connection, peer, local, remote)
            }
            End::Calling { address, role, port } => {
                self.dcutr.handle_established_outbound_connection(connection, peer, address, *role, *port)
            }
        };
        if let Ok(inner) = anew {
            self.tell(peer, connection, ToHandler::Anew(Box::new(inner)));
        }
    }

    /// Whether a dial in the listener's role is under way. The library does not survive two of one connection that both
    /// succeed.
    fn is_punching(&self, peer: PeerId) -> bool {
        self.dials.values().any(|dial| dial.peer == peer && dial.listens)
    }

    fn tell(&mut self, peer: PeerId, connection: ConnectionId, message: Message) {
        self.to_handlers.push_back((peer, connection, message));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The peer may not be able to reach us, however it tries; we may be able to reach it.
    fn reverse(&mut self, peer: PeerId, addresses: &[Address]) {
        for transport in [Transport::Quic, Transport::Tcp] {
            let addresses: Vec<Multiaddr> =
                addresses.iter().filter(|a| a.transport == transport).map(ids::multiaddr_of).collect();
            if !addresses.is_empty() {
                self.reversals.push_back(reversal(peer, transport, addresses));
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the port that dials keep is taken by the punching dial")]
fn reversal(peer: PeerId, transport: Transport, addresses: Vec<Multiaddr>) -> DialOpts {
    let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
    match transport {
        Transport::Quic => opts.build(),
        Transport::Tcp => opts.allocate_new_port().build(),
    }
}

fn is_public(address: &Address) -> bool {
    address.port != 0 && classify(address.ip) == Class::Public
}

/// The addresses, if all of them may be dialled.
fn allowed(addresses: &[Multiaddr]) -> Option<Vec<Address>> {
    let addresses: Option<Vec<Address>> =
        addresses.iter().map(|address| ids::address_of(address).filter(is_public)).collect();
    addresses.filter(|addresses| addresses.len() <= MAX_ADDRESSES)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Quiet<Inner>;
    type ToSwarm = dcutr::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if ids::is_circuit(local) {
            let end = End::Called { local: local.clone(), remote: remote.clone() };
            self.meetings.insert(id, Meeting { peer, end, is_open: false });
        }
        self.dcutr.handle_established_inbound_connection(id, peer, local, remote).map(Quiet::closed)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = self.dials.get(&id).map(|dial| dial.peer) else { return Ok(Vec::new()) };
        let addresses = allowed(addresses).ok_or_else(|| ConnectionDenied::new(Refused))?;
        // The other side dials as usual, which is its own reversal.
        if role == Endpoint::Listener {
            if self.is_punching(peer) {
                return Err(ConnectionDenied::new(Refused));
            }
            self.dials.insert(id, Dial { peer, listens: true });
            self.reverse(peer, &addresses);
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dials.remove(&id);
        if ids::is_circuit(address) {
            let end = End::Calling { address: address.clone(), role, port };
            self.meetings.insert(id, Meeting { peer, end, is_open: true });
        }
        // Whom we call we know.
        self.dcutr.handle_established_outbound_connection(id, peer, address, role, port).map(Quiet::open)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::DialFailure(failure) = &event {
            self.dials.remove(&failure.connection_id);
            self.meetings.remove(&failure.connection_id);
        } else if let FromSwarm::ListenFailure(failure) = &event {
            self.meetings.remove(&failure.connection_id);
        } else if let FromSwarm::ConnectionClosed(closed) = &event {
            self.meetings.remove(&closed.connection_id);
        }
        // What others in the stack take for an address of ours is not what we would tell: see `reached_at`.
        if !matches!(event, FromSwarm::NewExternalAddrCandidate(_)) {
            self.dcutr.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.dcutr.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(opts) = self.reversals.pop_front() {
            return Poll::Ready(ToSwarm::Dial { opts });
        }
        if let Some((peer_id, connection, event)) = self.to_handlers.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
        }
        while let Poll::Ready(event) = self.dcutr.poll(cx) {
            if let ToSwarm::Dial { opts } = &event {
                let (id, peer) = (opts.connection_id(), opts.get_peer_id());
                let Some(peer) = peer.filter(|_| self.budget.take(Instant::now())) else {
                    let (error, connection_id) = (&DialError::Aborted, id);
                    let failure = DialFailure { peer_id: peer, error, connection_id };
                    self.dcutr.on_swarm_event(FromSwarm::DialFailure(failure));
                    continue;
                };
                self.dials.insert(id, Dial { peer, listens: false });
            }
            return Poll::Ready(event.map_in(ToHandler::Inner));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Upgrades that may begin now.
struct Budget {
    burst: u32,
    refill: Duration,
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(burst: u32, refill: Duration, now: Instant) -> Budget {
        Budget { burst, refill, left: burst, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.since + self.refill <= now {
            self.since += self.refill;
            if self.left >= self.burst {
                self.since = now;
                break;
            }
            self.left += 1;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

/// What the behaviour says to one connection.
pub(crate) enum ToHandler<In, H> {
    /// The peer has proven himself.
    Open,
    /// The library's part of it in the place of the one before.
    Anew(Box<H>),
    Inner(In),
}

impl<In, H> fmt::Debug for ToHandler<In, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ToHandler::Open => "Open",
            ToHandler::Anew(_) => "Anew",
            ToHandler::Inner(_) => "Inner",
        })
    }
}

/// A handler that says nothing before the peer has proven himself, and keeps no connection alive: the library's holds each
/// one through a relay until it has tried three times, which on most never happens.
pub(crate) struct Quiet<H> {
    inner: H,
    open: bool,
    asked: Budget,
}

impl<H> Quiet<H> {
    fn open(inner: H) -> Quiet<H> {
        Quiet { inner, open: true, asked: Budget::new(MAX_ASKED, ASK_AGAIN, Instant::now()) }
    }

    fn closed(inner: H) -> Quiet<H> {
        Quiet { open: false, ..Quiet::open(inner) }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Quiet<H> {
    type FromBehaviour = ToHandler<H::FromBehaviour, H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<H::InboundProtocol, H::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        false
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToHandler::Open => self.open = true,
            ToHandler::Anew(inner) => self.inner = *inner,
            ToHandler::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, H::InboundProtocol, H::OutboundProtocol, H::InboundOpenInfo, H::OutboundOpenInfo>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(_) = event
            && !self.asked.take(Instant::now())
        {
            return;
        }
        self.inner.on_connection_event(event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>> {
        if self.open { self.inner.poll(cx) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        self.inner.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use libp2p::core::upgrade::{DeniedUpgrade, InboundUpgrade, UpgradeInfo};
    use libp2p::swarm::Stream;
    use libp2p::swarm::handler::FullyNegotiatedInbound;

    use super::*;

    /// A protocol whose streams are nothing.
    struct Nothing;

    impl UpgradeInfo for Nothing {
        type Info = &'static str;
        type InfoIter = std::iter::Empty<&'static str>;

        fn protocol_info(&self) -> Self::InfoIter {
            std::iter::empty()
        }
    }

    impl InboundUpgrade<Stream> for Nothing {
        type Output = ();
        type Error = Infallible;
        type Future = std::future::Ready<Result<(), Infallible>>;

        fn upgrade_inbound(self, _: Stream, _: &'static str) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }

    /// Counts the streams that it is given.
    #[derive(Debug)]
    struct Counts(usize);

    impl ConnectionHandler for Counts {
        type FromBehaviour = Infallible;
        type ToBehaviour = Infallible;
        type InboundProtocol = Nothing;
        type OutboundProtocol = DeniedUpgrade;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<Nothing> {
            SubstreamProtocol::new(Nothing, ())
        }

        fn on_behaviour_event(&mut self, never: Infallible) {
            match never {}
        }

        fn on_connection_event(&mut self, _: ConnectionEvent<'_, Nothing, DeniedUpgrade>) {
            self.0 += 1;
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Infallible>> {
            Poll::Pending
        }
    }

    #[test]
    fn the_library_is_asked_for_few_upgrades_of_one_connection_however_many_the_peer_asks_for() {
        let mut handler = Quiet::open(Counts(0));
        for _ in 0..1_000 {
            let asked = FullyNegotiatedInbound { protocol: (), info: () };
            handler.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(asked));
        }
        assert_eq!(handler.inner.0, MAX_ASKED as usize);
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("a multiaddr")).collect()
    }

    #[test]
    fn a_stranger_makes_us_dial_few_public_literal_addresses_and_nothing_else() {
        let public = "/ip4/5.1.7.2/udp/4001/quic-v1";
        assert_eq!(allowed(&addresses(&[public])).map(|list| list.len()), Some(1));
        for bad in [
            "/ip4/10.0.0.1/tcp/80",
            "/ip4/127.0.0.1/tcp/80",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/100.64.0.1/tcp/80",
            "/ip6/fe80::1/tcp/80",
            "/dns4/a.example/tcp/80",
            "/ip4/5.1.7.2/tcp/80/ws",
        ] {
            assert!(allowed(&addresses(&[public, bad])).is_none(), "{bad}");
        }
        assert!(allowed(&vec![addresses(&[public])[0].clone(); MAX_ADDRESSES + 1]).is_none());
    }

    #[test]
    fn nobody_who_has_only_called_is_told_anything_and_whom_we_have_called_is() {
        let (peer, relay) = (PeerId::random(), PeerId::random());
        let circuit = format!("/ip4/5.1.7.2/udp/4001/quic-v1/p2p/{relay}/p2p-circuit");
        let circuit: Multiaddr = circuit.parse().expect("a multiaddr");
        let mut punch = Behaviour::new(PeerId::random());
        let id = ConnectionId::new_unchecked(1);
        let waker = std::task::Waker::noop();
        let mut cx = Context::from_waker(waker);
        let from = Multiaddr::empty().with(libp2p::multiaddr::Protocol::P2p(peer));
        let handler = punch.handle_established_inbound_connection(id, peer, &circuit, &from);
        let mut handler = handler.expect("let in");
        assert!(handler.poll(&mut cx).is_pending());
        punch.trust(peer, id);
        let Poll::Ready(ToSwarm::NotifyHandler { event, .. }) = punch.poll(&mut cx) else { panic!("it is told") };
        handler.on_behaviour_event(event);
        assert!(handler.poll(&mut cx).is_ready(), "it asks for a stream");
        assert!(!handler.connection_keep_alive());
    }

    #[test]
    fn a_dozen_upgrades_begin_at_once_and_then_one_every_five_seconds() {
        let start = Instant::now();
        let mut budget = Budget::new(BURST, REFILL, start);
        let taken = |budget: &mut Budget, at| (0..100).filter(|_| budget.take(at)).count();
        assert_eq!(taken(&mut budget, start), 12);
        assert_eq!(taken(&mut budget, start + REFILL - Duration::from_millis(1)), 0);
        assert_eq!(taken(&mut budget, start + REFILL), 1);
        assert_eq!(taken(&mut budget, start + REFILL * 1_000), 12);
    }

    #[test]
    fn one_more_upgrade_begins_only_with_who_is_proven_and_not_beside_another() {
        let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
        let circuit: Multiaddr =
            format!("/ip4/5.1.7.2/udp/4001/quic-v1/p2p/{}/p2p-circuit", PeerId::random()).parse().expect("a multiaddr");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut punch = Behaviour::new(PeerId::random());
        let handler = punch.handle_established_inbound_connection(id, peer, &circuit, &Multiaddr::empty());
        let mut handler = handler.expect("let in");
        punch.again(id);
        assert!(punch.poll(&mut cx).is_pending(), "nothing is proven");
        punch.trust(peer, id);
        let begins = |punch: &mut Behaviour, handler: &mut Quiet<Inner>, cx: &mut Context<'_>| {
            while let Poll::Ready(ToSwarm::NotifyHandler { event, .. }) = punch.poll(cx) {
                handler.on_behaviour_event(event);
            }
            handler.poll(cx).is_ready()
        };
        assert!(begins(&mut punch, &mut handler, &mut cx), "the library's own");
        assert!(!begins(&mut punch, &mut handler, &mut cx));
        for _ in 0..3 {
            punch.again(id);
            assert!(begins(&mut punch, &mut handler, &mut cx), "once more");
            assert!(!begins(&mut punch, &mut handler, &mut cx));
        }
        // While one is being dialled, another one neither begins nor is dialled.
        let told = addresses(&["/ip4/5.1.7.2/udp/4001/quic-v1"]);
        let dials = [2, 3].map(ConnectionId::new_unchecked);
        for (dial, allowed) in dials.into_iter().zip([true, false]) {
            punch.dials.insert(dial, Dial { peer, listens: false });
            let refused = punch.handle_pending_outbound_connection(dial, None, &told, Endpoint::Listener).is_err();
            assert_eq!(!refused, allowed);
        }
        punch.reversals.clear();
        punch.again(id);
        assert!(!begins(&mut punch, &mut handler, &mut cx));
    }

    #[test]
    fn only_a_dial_of_the_library_in_the_listeners_role_is_reversed() {
        let mut punch = Behaviour::new(PeerId::random());
        let (own, other) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let peer = PeerId::random();
        punch.dials.insert(own, Dial { peer, listens: false });
        let told = addresses(&["/ip4/5.1.7.2/udp/4001/quic-v1", "/ip4/5.1.7.2/tcp/4001"]);
        for (id, role, reversals) in
            [(other, Endpoint::Listener, 0), (own, Endpoint::Dialer, 0), (own, Endpoint::Listener, 2)]
        {
            assert!(punch.handle_pending_outbound_connection(id, None, &told, role).is_ok());
            assert_eq!(punch.reversals.len(), reversals);
        }
        let private = addresses(&["/ip4/10.0.0.1/tcp/80"]);
        assert!(punch.handle_pending_outbound_connection(own, None, &private, Endpoint::Dialer).is_err());
        assert!(punch.handle_pending_outbound_connection(other, None, &private, Endpoint::Dialer).is_ok());
    }
}
