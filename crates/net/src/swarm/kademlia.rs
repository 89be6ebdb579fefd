//! Kademlia with what it lacks: traps 2 (the mode is explicit) and 5 (the source of each put reaches the store, and
//! refused ones do not make a connection deaf), an address policy for what strangers tell it to dial, and dials that
//! wait a moment when connected nodes may answer.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use handfast_proto::addr::Class;
use handfast_proto::records::Source;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::kad;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol};
use tokio::time::{Instant, Sleep, sleep_until};

use super::ids;
use super::records::Records;
use crate::api::Role;

/// The protocol of our DHT.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/handfast/kad/1");

/// Kademlia's k: how many nodes store a record, and how many entries a bucket has.
pub(crate) const K: usize = 20;

/// Nodes a query waits for at once: all that may store the record, so that dead ones among them hold nothing up.
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(K).expect("20 is not 0");

/// Time for a query; the owner's jobs are bounded by the same.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for one request to a node.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a lookup asks only nodes we are connected to before it dials further ones. One round trip across the world
/// is 0.3 s, across a continent 0.1 s: mostly they have answered by then, and twenty handshakes are saved.
const HEAD_START: Duration = Duration::from_millis(150);

/// Time between two dials of background work, so that it never competes with a pairing.
const BACKGROUND_GAP: Duration = Duration::from_millis(200);

/// Dials that wait at most; more are dropped, and the query moves on when the peer's time is over.
const MAX_WAITING_DIALS: usize = 256;

/// Addresses of one peer that are dialled: QUIC and TCP on two families, and as many more.
const MAX_ADDRESSES: usize = 8;

/// Time between two refreshes of the routing table. Those of a device matter less, since nobody else asks it and the nodes
/// that it is connected to know better; and each costs it twenty connections.
const REFRESH: Duration = Duration::from_secs(300);
const REFRESH_OF_DEVICE: Duration = Duration::from_secs(1_800);

/// Refused puts after which a connection is closed. The stack never wakes the task of a stream on which it refused, so
/// that the stream stays; with 32 of them a connection takes no request any more, and its owner is not told. Whoever is
/// honest connects anew. The rest is for requests that are under way.
const MAX_REFUSED: usize = 24;

/// How soon dials of queries go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once: a record is being published, or nobody is connected who could answer.
    AtOnce,
    /// After those who are connected had time to answer a lookup.
    HeadStart,
    /// One after the other: only the routing table is being refreshed.
    Background,
}

/// Kademlia and the wrapping it needs.
pub(crate) struct Behaviour {
    kad: kad::Behaviour<Records>,
    allowed: AllowedClasses,
    sources: HashMap<ConnectionId, Source>,
    /// How many puts were refused on a connection.
    refused: HashMap<ConnectionId, usize>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    pace: Pace,
    waiting: VecDeque<(Instant, KadToSwarm)>,
    timer: Option<Pin<Box<Sleep>>>,
}

type KadToSwarm = ToSwarm<kad::Event, THandlerInEvent<kad::Behaviour<Records>>>;

impl Behaviour {
    pub(crate) fn new(local: PeerId, role: &Role, records: Records) -> Behaviour {
        let mut config = kad::Config::new(PROTOCOL);
        let refresh = match role {
            Role::Device => REFRESH_OF_DEVICE,
            Role::Node { .. } => REFRESH,
        };
        config
            .set_query_timeout(QUERY_TIMEOUT)
            .set_substreams_timeout(REQUEST_TIMEOUT)
            .set_parallelism(PARALLELISM)
            // Our store validates and refuses by itself, so that only what is stored is answered "stored"; filtering
            // outside of the store would answer so before anything was checked. (A refusal is told by silence until
            // the request times out: the stack closes the stream but does not wake its task.)
            .set_record_filtering(kad::StoreInserts::Unfiltered)
            .set_record_ttl(None)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None)
            .set_caching(kad::Caching::Disabled)
            .set_periodic_bootstrap_interval(Some(refresh));
        let mut kad = kad::Behaviour::with_config(local, records, config);
        kad.set_mode(Some(match role {
            Role::Device => kad::Mode::Client,
            Role::Node { .. } => kad::Mode::Server,
        }));
        Behaviour {
            kad,
            allowed: AllowedClasses::default(),
            sources: HashMap::new(),
            refused: HashMap::new(),
            closing: VecDeque::new(),
            pace: Pace::AtOnce,
            waiting: VecDeque::new(),
            timer: None,
        }
    }

    /// The behaviour inside, for queries.
    pub(crate) fn kad(&mut self) -> &mut kad::Behaviour<Records> {
        &mut self.kad
    }

    /// The record store.
    pub(crate) fn records(&mut self) -> &Records {
        self.kad.store_mut()
    }

    /// Removes expired records.
    pub(crate) fn sweep(&mut self) {
        self.kad.store_mut().sweep();
    }

    /// Allows nodes at addresses of this class, because the configuration names one.
    pub(crate) fn allow(&mut self, class: Class) {
        self.allowed.add(class);
    }

    /// Puts a node into the routing table at those of its addresses that the policy allows.
    pub(crate) fn add_node<'a>(&mut self, peer: &PeerId, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        let allowed = self.allowed;
        for address in addresses.into_iter().filter(|a| allowed.admits(a)).take(MAX_ADDRESSES) {
            self.kad.add_address(peer, address.clone());
        }
    }

    /// Sets how soon dials go out; those that wait go by the new pace.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        if self.pace == pace {
            return;
        }
        self.pace = pace;
        let latest = match pace {
            Pace::AtOnce => Instant::now(),
            Pace::HeadStart => Instant::now() + HEAD_START,
            Pace::Background => return,
        };
        for (due, _) in &mut self.waiting {
            *due = latest.min(*due);
        }
    }

    fn due(&self) -> Instant {
        let now = Instant::now();
        match self.pace {
            Pace::AtOnce => now,
            Pace::HeadStart => now + HEAD_START,
            Pace::Background => self.waiting.back().map_or(now, |(last, _)| (*last).max(now) + BACKGROUND_GAP),
        }
    }

    /// The next dial whose time has come. A dial that no query waits for any more is dropped.
    fn next_due(&mut self, cx: &mut Context<'_>) -> Option<KadToSwarm> {
        loop {
            let (due, _) = self.waiting.front()?;
            let due = *due;
            if due <= Instant::now() {
                let (_, dial) = self.waiting.pop_front()?;
                if self.kad.iter_queries().next().is_some() {
                    return Some(dial);
                }
                continue;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
    }
}

/// Which classes of addresses may be nodes: public ones, and those that the configuration names. A stranger must not
/// make us dial into our own network.
#[derive(Clone, Copy, Debug, Default)]
struct AllowedClasses {
    private: bool,
    shared: bool,
    loopback: bool,
}

impl AllowedClasses {
    fn add(&mut self, class: Class) {
        match class {
            Class::Private => self.private = true,
            Class::Shared => self.shared = true,
            Class::Loopback => self.loopback = true,
            Class::Public | Class::LinkLocal | Class::Unusable => {}
        }
    }

    fn admits(&self, address: &Multiaddr) -> bool {
        let Some(address) = ids::address_of(address) else {
            return false;
        };
        address.port != 0
            && match handfast_proto::addr::classify(address.ip) {
                Class::Public => true,
                Class::Private => self.private,
                Class::Shared => self.shared,
                Class::Loopback => self.loopback,
                Class::LinkLocal | Class::Unusable => false,
            }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<kad::Behaviour<Records>>;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if let Some(address) = ids::address_of(remote) {
            self.sources.insert(id, Source::of(address.ip.to_canonical()));
        }
        self.kad.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let allowed = self.allowed;
        let mut found = self.kad.handle_pending_outbound_connection(id, peer, addresses, role)?;
        found.retain(|address| allowed.admits(address));
        found.truncate(MAX_ADDRESSES);
        Ok(found)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if let Some(address) = ids::address_of(address) {
            self.sources.insert(id, Source::of(address.ip.to_canonical()));
        }
        self.kad.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event {
            self.sources.remove(&closed.connection_id);
            self.refused.remove(&closed.connection_id);
        } else if let FromSwarm::ListenFailure(failure) = &event {
            self.sources.remove(&failure.connection_id);
        } else if let FromSwarm::DialFailure(failure) = &event {
            self.sources.remove(&failure.connection_id);
        }
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        let source = self.sources.get(&id).copied();
        self.kad.store_mut().set_source(source);
        self.kad.on_connection_handler_event(peer, id, event);
        self.kad.store_mut().set_source(None);
        if self.kad.store_mut().take_refused() {
            let refused = self.refused.entry(id).or_default();
            *refused += 1;
            if *refused == MAX_REFUSED {
                self.closing.push_back((peer, id));
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<kad::Event, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        while let Poll::Ready(event) = self.kad.poll(cx) {
            if matches!(event, ToSwarm::Dial { .. }) {
                if self.waiting.len() < MAX_WAITING_DIALS {
                    let due = self.due();
                    self.waiting.push_back((due, event));
                }
                continue;
            }
            return Poll::Ready(event);
        }
        match self.next_due(cx) {
            Some(dial) => Poll::Ready(dial),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a22_strangers_cannot_make_us_dial_into_networks_that_nobody_configured() {
        let address = |text: &str| text.parse::<Multiaddr>().expect("a multiaddr");
        let mut allowed = AllowedClasses::default();
        assert!(allowed.admits(&address("/ip4/5.1.1.1/udp/4001/quic-v1")));
        assert!(allowed.admits(&address("/ip6/2a0a::1/tcp/4001")));
        let never = [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/169.254.7.7/tcp/80",
            "/ip4/224.0.0.1/udp/1/quic-v1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/dns4/a.example/tcp/1",
            "/ip4/5.1.1.1/udp/1",
            "/ip4/5.1.1.1/tcp/0",
        ];
        let configured = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/fd00::1/tcp/1", "/ip4/100.64.0.1/tcp/1"];
        for text in never.iter().chain(&configured) {
            assert!(!allowed.admits(&address(text)), "{text}");
        }
        for class in [Class::Loopback, Class::Private, Class::Shared, Class::LinkLocal, Class::Unusable] {
            allowed.add(class);
        }
        for text in configured {
            assert!(allowed.admits(&address(text)), "{text}");
        }
        for text in never {
            assert!(!allowed.admits(&address(text)), "{text}");
        }
    }
}
