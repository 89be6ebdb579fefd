//! Punches holes (DCUtR) where two devices have met at a relay. The library's behaviour tells and dials whatever it hears
//! of; this wrapping tells only addresses of ours that are right for strangers, and to nobody who has only called us: the
//! owner says who has proven himself. It dials only public addresses and not many, and adds what the library lacks:
//! connection reversal, for a side whose NAT maps each flow anew while the other lets everybody in.

use std::collections::{BTreeMap, VecDeque};
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

/// Upgrades that one connection may ask of us: the library on the other end tries three times. More would let its maps
/// grow, which it clears only when an upgrade succeeds.
const MAX_ASKED: usize = 6;

/// DCUtR with its limits.
pub(crate) struct Behaviour {
    dcutr: dcutr::Behaviour,
    /// Dials of the library that have not ended.
    dials: BTreeMap<ConnectionId, PeerId>,
    reversals: VecDeque<DialOpts>,
    trusted: VecDeque<(PeerId, ConnectionId)>,
    budget: Budget,
    waker: Option<Waker>,
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
            trusted: VecDeque::new(),
            budget: Budget::new(Instant::now()),
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
        self.trusted.push_back((peer, connection));
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
    type ConnectionHandler = Quiet<THandler<dcutr::Behaviour>>;
    type ToSwarm = dcutr::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dcutr.handle_established_inbound_connection(id, peer, local, remote).map(Quiet::closed)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = self.dials.get(&id).copied() else { return Ok(Vec::new()) };
        let addresses = allowed(addresses).ok_or_else(|| ConnectionDenied::new(Refused))?;
        // The other side dials as usual, which is its own reversal.
        if role == Endpoint::Listener {
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
        // Whom we call we know.
        self.dcutr.handle_established_outbound_connection(id, peer, address, role, port).map(Quiet::open)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::DialFailure(failure) = &event {
            self.dials.remove(&failure.connection_id);
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
        if let Some((peer_id, connection)) = self.trusted.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: ToHandler::Open });
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
                self.dials.insert(id, peer);
            }
            return Poll::Ready(event.map_in(ToHandler::Inner));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Upgrades that may begin now.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(now: Instant) -> Budget {
        Budget { left: BURST, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.since + REFILL <= now {
            self.since += REFILL;
            if self.left >= BURST {
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
#[derive(Debug)]
pub(crate) enum ToHandler<In> {
    /// The peer has proven himself.
    Open,
    Inner(In),
}

/// A handler that says nothing before the peer has proven himself, and keeps no connection alive: the library's holds each
/// one through a relay until it has tried three times, which on most never happens.
pub(crate) struct Quiet<H> {
    inner: H,
    open: bool,
    asked: usize,
}

impl<H> Quiet<H> {
    fn open(inner: H) -> Quiet<H> {
        Quiet { inner, open: true, asked: 0 }
    }

    fn closed(inner: H) -> Quiet<H> {
        Quiet { inner, open: false, asked: 0 }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Quiet<H> {
    type FromBehaviour = ToHandler<H::FromBehaviour>;
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
            ToHandler::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, H::InboundProtocol, H::OutboundProtocol, H::InboundOpenInfo, H::OutboundOpenInfo>,
    ) {
        if let ConnectionEvent::FullyNegotiatedInbound(_) = event {
            self.asked += 1;
            if self.asked > MAX_ASKED {
                return;
            }
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
    use super::*;

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
        let mut budget = Budget::new(start);
        let taken = |budget: &mut Budget, at| (0..100).filter(|_| budget.take(at)).count();
        assert_eq!(taken(&mut budget, start), 12);
        assert_eq!(taken(&mut budget, start + REFILL - Duration::from_millis(1)), 0);
        assert_eq!(taken(&mut budget, start + REFILL), 1);
        assert_eq!(taken(&mut budget, start + REFILL * 1_000), 12);
    }

    #[test]
    fn only_a_dial_of_the_library_in_the_listeners_role_is_reversed() {
        let mut punch = Behaviour::new(PeerId::random());
        let (own, other) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        punch.dials.insert(own, PeerId::random());
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
