//! The nodes of the DHT we stay connected to, so that a lookup or publication starts without a handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use handfast_proto::addr::{Address, classify};
use handfast_proto::secret::Rng;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::resolve::Resolved;
use super::{ids, kademlia};
use crate::api::MAX_BOOTSTRAP;
use crate::bootstrap::{Bootstrap, Family, Host};

/// Nodes to stay connected to: two may vanish at once. A node of the DHT stays connected to as many of its bootstrap
/// nodes besides: one that restarts knows nobody until others come back to it, and newcomers begin there.
const ANCHORS: usize = 3;

/// Places at which one node may be configured: two transports, by address and by name, on two families.
const MAX_PLACES: usize = 8;

/// Addresses of a name that are used.
const MAX_RESOLVED: usize = 4;

/// First and longest wait before the next dial of a node that cannot be reached.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Waits that double from the first to the last, each with up to a quarter of jitter, so that a node that comes back
/// is not called by everybody at once.
struct Backoff {
    failures: u32,
    next: Instant,
}

impl Backoff {
    fn new(now: Instant) -> Backoff {
        Backoff { failures: 0, next: now }
    }

    fn failed(&mut self, now: Instant, rng: &mut Rng) {
        let doubled = FIRST_RETRY * 2u32.saturating_pow(self.failures.min(6));
        let wait = doubled.min(LAST_RETRY);
        let jitter = rng.below(wait.as_millis() as u64 / 4);
        self.next = now + wait + Duration::from_millis(jitter);
        self.failures = self.failures.saturating_add(1);
    }
}

enum SeedState {
    /// To be called at the time of the back-off.
    Idle,
    /// So many of its names are still being resolved.
    Resolving(usize),
    /// It is being called.
    Dialling(ConnectionId),
    Connected,
}

/// A bootstrap node with all the places at which it was configured.
struct Seed {
    peer: PeerId,
    places: Vec<Bootstrap>,
    /// The literal addresses, and those that the names led to last.
    addresses: Vec<Address>,
    state: SeedState,
    backoff: Backoff,
}

/// A name to look up, answered by [`Anchors::resolved`].
pub(crate) struct Resolve {
    pub(crate) seed: usize,
    pub(crate) place: usize,
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// What the driver is to do.
pub(crate) enum Action {
    Resolve(Resolve),
    Dial(DialOpts),
    /// Look for further nodes.
    Explore,
    /// Keep this connection alive, or no longer.
    Hold(PeerId, ConnectionId, bool),
}

/// Bootstrap nodes, the nodes we are connected to, and those of them we hold.
pub(crate) struct Anchors {
    /// Whether we are a node of the DHT ourselves.
    serves: bool,
    seeds: Vec<Seed>,
    nodes: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    held: BTreeMap<PeerId, ConnectionId>,
    explore: Backoff,
}

impl Anchors {
    pub(crate) fn new(bootstrap: Vec<Bootstrap>, own: &PeerId, serves: bool, now: Instant) -> Anchors {
        let mut seeds: Vec<Seed> = Vec::new();
        // A node may stand in its own list, when all nodes share one.
        for place in bootstrap.into_iter().filter(|place| ids::peer_of(&place.tid) != *own) {
            let peer = ids::peer_of(&place.tid);
            let literal = literal(&place);
            match seeds.iter().position(|seed| seed.peer == peer) {
                Some(known) if seeds[known].places.len() < MAX_PLACES => {
                    seeds[known].addresses.extend(literal);
                    seeds[known].places.push(place);
                }
                None if seeds.len() < MAX_BOOTSTRAP => seeds.push(Seed {
                    peer,
                    addresses: literal.into_iter().collect(),
                    places: vec![place],
                    state: SeedState::Idle,
                    backoff: Backoff::new(now),
                }),
                Some(_) | None => {}
            }
        }
        let explore = Backoff::new(now + FIRST_RETRY);
        Anchors { serves, seeds, nodes: BTreeMap::new(), held: BTreeMap::new(), explore }
    }

    /// Puts the bootstrap nodes with literal addresses into the routing table, so that the first query can go out.
    pub(crate) fn enter(&self, kad: &mut kademlia::Behaviour) {
        for seed in &self.seeds {
            enter(seed, kad);
        }
    }

    /// Nodes of the DHT we are connected to.
    pub(crate) fn connected(&self) -> BTreeSet<PeerId> {
        self.nodes.keys().copied().collect()
    }

    /// How many nodes of the DHT we are connected to.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is or was anybody to call.
    pub(crate) fn knows_nobody(&self) -> bool {
        self.seeds.is_empty() && self.nodes.is_empty()
    }

    /// Whether a peer is a configured bootstrap node.
    pub(crate) fn is_seed(&self, peer: &PeerId) -> bool {
        self.seeds.iter().any(|seed| seed.peer == *peer)
    }

    /// What is to be done now.
    pub(crate) fn due(&mut self, now: Instant, rng: &mut Rng) -> Vec<Action> {
        let mut actions = self.rehold();
        if self.explore.next <= now && self.nodes.len() < ANCHORS {
            self.explore.failed(now, rng);
            actions.push(Action::Explore);
        }
        let mut wanted = self.wanted();
        for (index, seed) in self.seeds.iter_mut().enumerate() {
            if wanted == 0 {
                break;
            }
            if !matches!(seed.state, SeedState::Idle) || seed.backoff.next > now {
                continue;
            }
            wanted -= 1;
            let names = names_of(seed);
            if names.is_empty() {
                actions.push(Action::Dial(call(seed)));
                continue;
            }
            seed.state = SeedState::Resolving(names.len());
            for (place, name, port) in names {
                actions.push(Action::Resolve(Resolve { seed: index, place, name, port }));
            }
        }
        actions
    }

    /// A name was looked up; the answer is empty when that failed. Gives the call to make once all names of the node
    /// are answered.
    pub(crate) fn resolved(
        &mut self,
        answer: &Resolved,
        now: Instant,
        rng: &mut Rng,
        kad: &mut kademlia::Behaviour,
    ) -> Option<DialOpts> {
        let seed = self.seeds.get_mut(answer.seed)?;
        let place = seed.places.get(answer.place)?;
        let family = match &place.host {
            Host::Name { family, .. } => *family,
            Host::Ip(_) => Family::Any,
        };
        let (port, transport) = (place.port, place.transport);
        let found = answer.addresses.iter().map(SocketAddr::ip).filter(|ip| family.admits(*ip)).take(MAX_RESOLVED);
        seed.addresses.extend(found.map(|ip| Address { ip, port, transport }));
        let SeedState::Resolving(left) = seed.state else {
            return None;
        };
        if left > 1 {
            seed.state = SeedState::Resolving(left - 1);
            return None;
        }
        seed.state = SeedState::Idle;
        if seed.addresses.is_empty() {
            seed.backoff.failed(now, rng);
            return None;
        }
        enter(seed, kad);
        Some(call(seed))
    }

    /// We listen at a new address: whoever could not be reached before is called at once.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        for seed in &mut self.seeds {
            seed.backoff = Backoff::new(now);
        }
        self.explore = Backoff::new(now + FIRST_RETRY);
    }

    /// A dial failed; ours are called again later.
    pub(crate) fn dial_failed(&mut self, attempt: ConnectionId, now: Instant, rng: &mut Rng) {
        for seed in &mut self.seeds {
            if matches!(seed.state, SeedState::Dialling(id) if id == attempt) {
                seed.state = SeedState::Idle;
                seed.backoff.failed(now, rng);
            }
        }
    }

    /// A connection to a node of the DHT stands. Tells whether the node is newly connected.
    pub(crate) fn connected_to(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) -> bool {
        for seed in self.seeds.iter_mut().filter(|seed| seed.peer == peer) {
            seed.state = SeedState::Connected;
            seed.backoff = Backoff::new(now);
        }
        let connections = self.nodes.entry(peer).or_default();
        connections.insert(connection);
        connections.len() == 1
    }

    /// A connection is gone. Tells whether it was the last one to a node of the DHT.
    pub(crate) fn disconnected(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) -> bool {
        if self.held.get(&peer) == Some(&connection) {
            self.held.remove(&peer);
        }
        let Some(connections) = self.nodes.get_mut(&peer) else {
            return false;
        };
        connections.remove(&connection);
        if !connections.is_empty() {
            return false;
        }
        self.nodes.remove(&peer);
        for seed in self.seeds.iter_mut().filter(|seed| seed.peer == peer) {
            seed.state = SeedState::Idle;
        }
        self.explore = Backoff::new(now);
        true
    }

    /// When something is due next, if we want more nodes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let wanted = self.wanted();
        let seeds = self
            .seeds
            .iter()
            .filter(|seed| wanted > 0 && matches!(seed.state, SeedState::Idle))
            .map(|seed| seed.backoff.next);
        let explore = (self.nodes.len() < ANCHORS).then_some(self.explore.next);
        seeds.chain(explore).min()
    }

    /// How many more nodes to call, those aside that are being called.
    fn wanted(&self) -> usize {
        let calling =
            self.seeds.iter().filter(|s| matches!(s.state, SeedState::Dialling(_) | SeedState::Resolving(_))).count();
        let connected = if self.serves {
            self.seeds.iter().filter(|seed| matches!(seed.state, SeedState::Connected)).count()
        } else {
            self.nodes.len()
        };
        ANCHORS.saturating_sub(connected + calling)
    }

    /// Whether a connection is held for the DHT.
    pub(crate) fn holds(&self, connection: ConnectionId) -> bool {
        self.held.values().any(|held| *held == connection)
    }

    fn rehold(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (peer, connections) in &self.nodes {
            let may = self.held.len() < ANCHORS || (self.serves && self.is_seed(peer));
            if may
                && let Some(connection) = connections.first()
                && !self.held.contains_key(peer)
            {
                self.held.insert(*peer, *connection);
                actions.push(Action::Hold(*peer, *connection, true));
            }
        }
        actions
    }
}

fn literal(place: &Bootstrap) -> Option<Address> {
    match place.host {
        Host::Ip(ip) => Some(Address { ip, port: place.port, transport: place.transport }),
        Host::Name { .. } => None,
    }
}

/// The names of a seed to look up, each with its place and port. What they led to before is forgotten: names move.
fn names_of(seed: &mut Seed) -> Vec<(usize, String, u16)> {
    seed.addresses = seed.places.iter().filter_map(literal).collect();
    let mut names = Vec::new();
    for (index, place) in seed.places.iter().enumerate() {
        if let Host::Name { name, .. } = &place.host {
            names.push((index, name.clone(), place.port));
        }
    }
    names
}

fn multiaddrs(seed: &Seed) -> Vec<Multiaddr> {
    seed.addresses.iter().map(ids::multiaddr_of).collect()
}

fn call(seed: &mut Seed) -> DialOpts {
    let opts = DialOpts::peer_id(seed.peer).addresses(multiaddrs(seed)).build();
    seed.state = SeedState::Dialling(opts.connection_id());
    opts
}

fn enter(seed: &Seed, kad: &mut kademlia::Behaviour) {
    for address in &seed.addresses {
        kad.allow(classify(address.ip));
    }
    kad.add_node(&seed.peer, &multiaddrs(seed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use handfast_proto::addr::Transport;
    use handfast_proto::id::Tid;
    use handfast_proto::secret::Secret;

    fn seeds(n: u8) -> Vec<Bootstrap> {
        (1..=n)
            .map(|i| Bootstrap {
                host: Host::Ip(IpAddr::from([5, 1, 1, i])),
                port: 4001,
                transport: Transport::Quic,
                tid: Tid([i; 32]),
            })
            .collect()
    }

    fn dials(actions: &[Action]) -> Vec<PeerId> {
        actions
            .iter()
            .filter_map(|action| match action {
                Action::Dial(opts) => opts.get_peer_id(),
                Action::Resolve(_) | Action::Explore | Action::Hold(..) => None,
            })
            .collect()
    }

    #[test]
    fn three_are_called_at_once_and_a_lost_one_later_each_time() {
        let mut rng = Rng::from_seed(Secret::new([1; 32]));
        let start = Instant::now();
        let own = ids::peer_of(&Tid([1; 32]));
        let mut anchors = Anchors::new(seeds(5), &own, false, start);
        let actions = anchors.due(start, &mut rng);
        assert_eq!(dials(&actions).len(), 3);
        assert!(!dials(&actions).contains(&own));
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let attempts: Vec<ConnectionId> = anchors
                .seeds
                .iter()
                .filter_map(|s| match s.state {
                    SeedState::Dialling(id) => Some(id),
                    SeedState::Idle | SeedState::Resolving(_) | SeedState::Connected => None,
                })
                .collect();
            for attempt in attempts {
                anchors.dial_failed(attempt, now, &mut rng);
            }
            let next = anchors.seeds.iter().map(|s| s.backoff.next).max().expect("four seeds");
            waits.push((next - now).as_secs());
            now = next;
            let _ = anchors.due(now, &mut rng);
        }
        assert!(waits.iter().all(|w| *w <= 75), "{waits:?}");
        assert!(waits.last().is_some_and(|w| *w >= 16), "{waits:?}");
    }

    #[test]
    fn three_connected_nodes_are_held_and_no_more_are_called() {
        let mut rng = Rng::from_seed(Secret::new([1; 32]));
        let now = Instant::now();
        let mut anchors = Anchors::new(seeds(5), &PeerId::random(), false, now);
        let mut connections = Vec::new();
        for action in anchors.due(now, &mut rng) {
            if let Action::Dial(opts) = action {
                let peer = opts.get_peer_id().expect("a named peer");
                assert!(anchors.connected_to(peer, opts.connection_id(), now));
                connections.push((peer, opts.connection_id()));
            }
        }
        let held = anchors.due(now, &mut rng);
        assert_eq!(held.len(), 3);
        assert!(held.iter().all(|a| matches!(a, Action::Hold(_, _, true))));
        assert_eq!(anchors.next_due(), None);
        let (peer, connection) = connections[0];
        assert!(anchors.disconnected(peer, connection, now));
        assert_eq!(dials(&anchors.due(now, &mut rng)).len(), 1);
    }

    #[test]
    fn a_node_that_serves_comes_back_to_its_bootstrap_nodes_though_it_knows_others() {
        let mut rng = Rng::from_seed(Secret::new([1; 32]));
        let now = Instant::now();
        let mut anchors = Anchors::new(seeds(2), &PeerId::random(), true, now);
        for _ in 0..ANCHORS {
            anchors.connected_to(PeerId::random(), ConnectionId::new_unchecked(anchors.nodes.len()), now);
        }
        let actions = anchors.due(now, &mut rng);
        assert_eq!(dials(&actions).len(), 2, "both are called");
        let peer = dials(&actions)[0];
        let connection = ConnectionId::new_unchecked(100);
        anchors.connected_to(peer, connection, now);
        assert!(matches!(anchors.due(now, &mut rng)[..], [Action::Hold(held, _, true)] if held == peer));
        assert!(anchors.disconnected(peer, connection, now));
        assert_eq!(dials(&anchors.due(now, &mut rng)), [peer], "it has restarted, say");
    }
}
