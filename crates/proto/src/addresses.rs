//! Our own addresses: what the listeners and other people say, folded into what we believe and publish.
//!
//! An address that one node claims to see may be a lie; it is published only when two nodes of different networks agree,
//! after the addresses we listen on. So does one at which a router says that it lets others in, which goes before those if
//! somebody outside sees us at the router's address, and after all else if not. A node that has called us at an address
//! ([`crate::reach`]) makes it `peer_confirmed`; one that has tried in vain puts it last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{Address, Class, LoopbackPolicy, Scope, Transport, classify, may_dial, scope};
use crate::id::ConnId;
use crate::lan::FamilyPorts;
use crate::lan::io::InterfaceKind;
use crate::records::Source as Network;
use crate::time::Time;

/// Networks whose nodes must agree before an observed address is published. A network is what counts as one source of
/// records as well, a /24 or a /56: keys cost nothing and addresses beside one's own little, while a wider prefix would make
/// one of nodes that have nothing to do with each other.
const AGREEING_NETWORKS: usize = 2;
/// Claims remembered of one network, and of all: behind a NAT that maps every flow anew they would grow without end. The
/// oldest goes first, so that nobody can make us forget what others say.
const MAX_CLAIMS_OF_NETWORK: usize = 4;
/// See [`MAX_CLAIMS_OF_NETWORK`].
const MAX_CLAIMS: usize = 64;
/// Observed addresses of a transport that are used, those that most networks agree on: a NAT has one for each family. Two
/// networks of liars get no more than these places of an advert.
const MAX_OBSERVED: usize = 2;

/// How long a claim counts after the connection that it came over has ended: nodes restart and connections break, and what
/// we publish should not change with each.
const CLAIM_LINGERS: Duration = Duration::from_secs(300);

/// Who sees us where.
struct Claim {
    network: Network,
    address: Address,
    /// The connections over which it was said that stand.
    conns: BTreeSet<ConnId>,
    /// Since when there is none.
    gone: Option<Time>,
    /// We have moved since: it ends with the last of its connections.
    stale: bool,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// We listen on it.
    Listener,
    /// A router says that it lets others in to us there.
    PortMapping,
    /// Others see us there.
    Observed,
    /// A relay at which we have a place leads from there to us. [`OwnAddresses`] holds none of them.
    Relay,
}

impl Source {
    /// The name used in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Source::Listener => "listener",
            Source::PortMapping => "port_mapping",
            Source::Observed => "observed",
            Source::Relay => "relay",
        }
    }
}

/// How sure we are that an address reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The system, a router or a peer names it.
    Listed,
    /// We called ourselves there, which proves little: the call need not have left the machine.
    SelfCheck,
    /// Somebody else came in on it.
    PeerConfirmed,
}

impl Evidence {
    /// The name used in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Evidence::Listed => "listed",
            Evidence::SelfCheck => "self_check",
            Evidence::PeerConfirmed => "peer_confirmed",
        }
    }
}

/// One address of ours and what we know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub address: Address,
    /// Who may be told.
    pub scope: Scope,
    /// Where it comes from.
    pub source: Source,
    /// How sure we are.
    pub evidence: Evidence,
}

/// The fold of everything said about our addresses.
pub struct OwnAddresses {
    loopback: LoopbackPolicy,
    listeners: BTreeSet<Address>,
    /// Who sees us where, oldest first; each pair once.
    claims: VecDeque<Claim>,
    /// Where routers say that they let others in to us.
    mapped: BTreeSet<Address>,
    /// The public addresses that STUN servers see us at.
    public: BTreeSet<IpAddr>,
    kinds: BTreeMap<IpAddr, InterfaceKind>,
    evidence: BTreeMap<IpAddr, Evidence>,
    /// Addresses at which a call to ourselves did not come back: offered last, not hidden.
    doubtful: BTreeSet<IpAddr>,
    /// Addresses under which devices nearby say they see us.
    seen: BTreeSet<IpAddr>,
    /// Where a node has reached us, and where one has tried in vain.
    reachable: BTreeSet<Address>,
    unreachable: BTreeSet<Address>,
}

impl OwnAddresses {
    /// Nothing is known yet.
    pub fn new(loopback: LoopbackPolicy) -> OwnAddresses {
        OwnAddresses {
            loopback,
            listeners: BTreeSet::new(),
            claims: VecDeque::new(),
            mapped: BTreeSet::new(),
            public: BTreeSet::new(),
            kinds: BTreeMap::new(),
            evidence: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            seen: BTreeSet::new(),
            reachable: BTreeSet::new(),
            unreachable: BTreeSet::new(),
        }
    }

    /// We listen on an address now.
    pub fn listening(&mut self, address: Address) {
        self.listeners.insert(address);
    }

    /// We no longer listen on an address. What others saw before may not hold any more.
    pub fn listener_gone(&mut self, address: &Address) {
        self.listeners.remove(address);
        self.doubt_claims();
    }

    /// We are elsewhere: what others saw before does not hold any more, unless they still see us.
    pub fn moved(&mut self) {
        self.doubt_claims();
        self.public.clear();
        self.set_checked([], []);
    }

    /// What was said over connections that are gone is forgotten; those whose way is gone will be soon.
    fn doubt_claims(&mut self) {
        self.claims.retain(|claim| claim.gone.is_none());
        self.claims.iter_mut().for_each(|claim| claim.stale = true);
    }

    /// Where a node has reached us from outside, and where one has tried in vain.
    pub fn set_checked(
        &mut self,
        reachable: impl IntoIterator<Item = Address>,
        unreachable: impl IntoIterator<Item = Address>,
    ) {
        self.reachable = reachable.into_iter().collect();
        self.unreachable = unreachable.into_iter().collect();
    }

    /// The public addresses that may be ours, best first: those to be checked from outside.
    pub fn candidates(&self) -> Vec<Address> {
        let own = self.listeners.iter().chain(&self.mapped).copied().chain(self.agreed());
        let mut candidates: Vec<Address> = own.filter(|address| classify(address.ip) == Class::Public).collect();
        candidates.dedup();
        candidates
    }

    /// Where routers let others in to us now; true if that has changed.
    pub fn set_mapped(&mut self, mapped: BTreeSet<Address>) -> bool {
        let has_changed = self.mapped != mapped;
        self.mapped = mapped;
        has_changed
    }

    /// The addresses that STUN servers see us at now; true if that has changed.
    pub fn set_public(&mut self, public: BTreeSet<IpAddr>) -> bool {
        let has_changed = self.public != public;
        self.public = public;
        has_changed
    }

    /// The node at `by` says over a connection that it sees us at an address. Over QUIC the listening socket is the one
    /// that dials; over TCP the driver tells only of dials that left from the port of the listener.
    pub fn observed(&mut self, address: Address, by: IpAddr, conn: ConnId) {
        if classify(address.ip) != Class::Public || self.listeners.contains(&address) {
            return;
        }
        let network = Network::of(by.to_canonical());
        let known = self.claims.iter().position(|claim| (claim.network, claim.address) == (network, address));
        if let Some(mut claim) = known.and_then(|at| self.claims.remove(at)) {
            claim.conns.insert(conn);
            self.claims.push_back(Claim { gone: None, ..claim });
            return;
        }
        let of_network = |claim: &Claim| claim.network == network;
        if self.claims.iter().filter(|claim| of_network(claim)).count() >= MAX_CLAIMS_OF_NETWORK
            && let Some(oldest) = self.claims.iter().position(of_network)
        {
            self.claims.remove(oldest);
        } else if self.claims.len() >= MAX_CLAIMS {
            self.claims.pop_front();
        }
        self.claims.push_back(Claim { network, address, conns: BTreeSet::from([conn]), gone: None, stale: false });
    }

    /// A connection is gone: what was said over it counts for a while longer.
    pub fn disconnected(&mut self, conn: ConnId, now: Time) {
        for claim in &mut self.claims {
            if claim.conns.remove(&conn) && claim.conns.is_empty() {
                claim.gone = Some(now);
            }
        }
        self.claims.retain(|claim| !claim.stale || claim.gone.is_none());
    }

    /// When [`OwnAddresses::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.claims.iter().filter_map(|claim| claim.gone).min().map(|gone| gone + CLAIM_LINGERS)
    }

    /// Forgets what nobody says any more; true if something was.
    pub fn handle_timeout(&mut self, now: Time) -> bool {
        let before = self.claims.len();
        self.claims.retain(|claim| claim.gone.is_none_or(|gone| gone + CLAIM_LINGERS > now));
        self.claims.len() != before
    }

    /// The observed addresses that are believed, those that most agree on first.
    fn agreed(&self) -> Vec<Address> {
        let mut networks: BTreeMap<Address, usize> = BTreeMap::new();
        for claim in &self.claims {
            *networks.entry(claim.address).or_default() += 1;
        }
        let is_known = |address: &Address| self.listeners.contains(address) || self.mapped.contains(address);
        networks.retain(|address, n| *n >= AGREEING_NETWORKS && !is_known(address));
        let mut agreed: Vec<(Address, usize)> = networks.into_iter().collect();
        agreed.sort_by_key(|(_, n)| Reverse(*n));
        let of = |transport| {
            let list = agreed.iter().map(|(address, _)| *address);
            list.filter(move |address| address.transport == transport).take(MAX_OBSERVED)
        };
        of(Transport::Quic).chain(of(Transport::Tcp)).collect()
    }

    /// The addresses we listen on, wildcard listeners resolved by the driver.
    pub fn listeners(&self) -> Vec<Address> {
        self.listeners.iter().copied().collect()
    }

    /// Everything we know, best first.
    pub fn all(&self) -> Vec<OwnAddress> {
        let listed = |address: Address, source| OwnAddress {
            address,
            scope: scope(classify(address.ip)),
            source,
            evidence: self.evidence_of(&address),
        };
        let listeners = self.listeners.iter().map(|a| listed(*a, Source::Listener));
        let mapped = self.mapped.difference(&self.listeners).map(|a| listed(*a, Source::PortMapping));
        // A NAT that lets nobody in over TCP is no place to be called at, and no hole is punched by the record alone.
        let is_useful = |a: &Address| a.transport == Transport::Quic || self.reachable.contains(a);
        let observed = self.agreed().into_iter().filter(is_useful).map(|a| listed(a, Source::Observed));
        listeners.chain(mapped).chain(observed).collect()
    }

    /// What may be published in sealed form, best first: where others got in, where we reached ourselves, what the system
    /// lists; cards before bridges and tunnels; what failed when we called it, and what a router alone says, last.
    pub fn publishable(&self) -> Vec<Address> {
        let mut list = self.all();
        list.retain(|own| may_dial(&own.address, self.loopback));
        list.sort_by_key(|own| self.rank(own));
        list.into_iter().map(|own| own.address).collect()
    }

    /// What a QR text may name: the addresses of the local network, in the same order.
    pub fn hints(&self) -> Vec<Address> {
        let loopback_is_meant = self.loopback == LoopbackPolicy::Allow;
        let is_near = |a: &Address| scope(classify(a.ip)) == Scope::Lan || loopback_is_meant;
        self.publishable().into_iter().filter(is_near).collect()
    }

    fn rank(&self, own: &OwnAddress) -> (bool, Source, Option<InterfaceKind>, Reverse<Evidence>) {
        let ip = own.address.ip;
        let is_borne_out = self.is_seen_at(ip) || self.reachable.contains(&own.address);
        let is_doubtful = self.doubtful.contains(&ip)
            || self.unreachable.contains(&own.address)
            || (own.source == Source::PortMapping && !is_borne_out);
        (is_doubtful, own.source, self.kinds.get(&ip).copied(), Reverse(own.evidence))
    }

    /// Whether somebody outside sees us at this address, at whatever port. One suffices: it is the router's word that it
    /// bears out, and alone it plants nothing.
    fn is_seen_at(&self, ip: IpAddr) -> bool {
        self.public.contains(&ip) || self.claims.iter().any(|claim| claim.address.ip == ip)
    }

    /// Whether a node has reached us there.
    pub fn is_reachable(&self, address: &Address) -> bool {
        self.reachable.contains(address)
    }

    /// How sure we are of an address with its port.
    pub fn evidence_of(&self, address: &Address) -> Evidence {
        if self.is_reachable(address) { Evidence::PeerConfirmed } else { self.evidence(address.ip) }
    }

    /// How sure we are of an address.
    pub fn evidence(&self, ip: IpAddr) -> Evidence {
        self.evidence.get(&ip).copied().unwrap_or(Evidence::Listed)
    }

    /// The ports that we listen on.
    pub fn ports(&self) -> FamilyPorts {
        let port = |v4: bool, transport| {
            let is_meant = |a: &&Address| a.ip.is_ipv4() == v4 && a.transport == transport;
            self.listeners.iter().find(is_meant).map_or(0, |a| a.port)
        };
        let both = |v4| (port(v4, Transport::Tcp), port(v4, Transport::Quic));
        FamilyPorts { v4: both(true), v6: both(false) }
    }

    /// The addresses of this machine, with what kind of interface each is on. What is known of others is forgotten.
    pub fn set_kinds(&mut self, kinds: BTreeMap<IpAddr, InterfaceKind>) {
        self.evidence.retain(|ip, _| kinds.contains_key(ip));
        self.doubtful.retain(|ip| kinds.contains_key(ip));
        self.seen.retain(|ip| kinds.contains_key(ip));
        self.kinds = kinds;
    }

    /// An address has evidence; true if it had less before.
    pub fn confirm(&mut self, ip: IpAddr, evidence: Evidence) -> bool {
        if !self.kinds.contains_key(&ip) {
            return false;
        }
        self.doubtful.remove(&ip);
        let held = self.evidence.entry(ip).or_insert(Evidence::Listed);
        let is_more = evidence > *held;
        *held = evidence.max(*held);
        is_more
    }

    /// A call to ourselves did not come back. Whatever others have shown stands.
    pub fn self_check_failed(&mut self, ip: IpAddr) {
        if self.kinds.contains_key(&ip) && self.evidence.get(&ip) != Some(&Evidence::PeerConfirmed) {
            self.evidence.remove(&ip);
            self.doubtful.insert(ip);
        }
    }

    /// A device nearby sees us under this address, which is one of ours.
    pub fn seen_as(&mut self, ip: IpAddr) {
        if self.kinds.contains_key(&ip) {
            self.seen.insert(ip);
        }
    }

    /// Addresses under which devices nearby see us.
    pub fn seen(&self) -> impl Iterator<Item = IpAddr> {
        self.seen.iter().copied()
    }

    /// Addresses that have exactly this evidence.
    pub fn with_evidence(&self, evidence: Evidence) -> impl Iterator<Item = IpAddr> {
        self.evidence.iter().filter(move |(_, e)| **e == evidence).map(|(ip, _)| *ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId(1);

    fn addr(text: &str) -> Address {
        text.parse().expect("an address")
    }

    fn host(n: u8) -> IpAddr {
        IpAddr::from([5, 9, n, 1])
    }

    #[test]
    fn b14_an_observed_address_is_published_when_two_networks_agree_and_not_before() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        own.listening(addr("/ip4/192.168.1.5/udp/4000/quic-v1"));
        own.listening(addr("/ip4/127.0.0.1/udp/4000/quic-v1"));
        let seen = addr("/ip4/5.1.2.3/udp/61000/quic-v1");
        for neighbour in 0..=255 {
            own.observed(seen, IpAddr::from([5, 9, 1, neighbour]), CONN);
        }
        assert_eq!(own.publishable().len(), 1, "one network, however many nodes it has");
        own.observed(seen, host(2), CONN);
        assert_eq!(own.publishable(), [addr("/ip4/192.168.1.5/udp/4000/quic-v1"), seen]);
        own.listener_gone(&addr("/ip4/192.168.1.5/udp/4000/quic-v1"));
        own.disconnected(CONN, Time::ZERO);
        assert!(own.publishable().is_empty());
    }

    #[test]
    fn b14_two_networks_of_liars_neither_hide_what_is_ours_nor_fill_an_advert() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        let ours = [
            addr("/ip4/192.168.1.5/udp/4000/quic-v1"),
            addr("/ip4/192.168.1.5/tcp/4000"),
            addr("/ip4/10.0.0.5/udp/4000/quic-v1"),
            addr("/ip4/10.0.0.5/tcp/4000"),
        ];
        for address in ours {
            own.listening(address);
        }
        own.set_kinds(BTreeMap::from([(ours[0].ip, InterfaceKind::Bridge), (ours[2].ip, InterfaceKind::Network)]));
        let seen = addr("/ip4/5.1.2.3/udp/61000/quic-v1");
        for honest in 1..=3 {
            own.observed(seen, host(honest), CONN);
        }
        for port in 1..2_000 {
            for liar in [100, 101] {
                own.observed(Address { port, ..addr("/ip4/5.66.66.66/udp/1/quic-v1") }, host(liar), CONN);
            }
        }
        let publishable = own.publishable();
        assert_eq!(publishable.len(), ours.len() + MAX_OBSERVED);
        assert!(publishable[..ours.len()].iter().all(|a| ours.contains(a)), "ours come first: {publishable:?}");
        assert_eq!(publishable[ours.len()], seen, "what most networks agree on comes next");
        let advert = crate::addr::for_advert(&publishable, LoopbackPolicy::Refuse, 6);
        assert!(ours.iter().all(|a| advert.contains(a)));
    }

    #[test]
    fn a21_a28_what_others_reached_comes_first_and_what_failed_comes_last_and_is_not_hidden() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let (bridge, lan, other) = ("/ip4/172.17.0.1/tcp/7", "/ip4/192.168.1.5/tcp/7", "/ip4/10.0.0.5/tcp/7");
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        for text in [bridge, lan, other] {
            own.listening(addr(text));
        }
        let kinds = [
            ("172.17.0.1", InterfaceKind::Bridge),
            ("192.168.1.5", InterfaceKind::Network),
            ("10.0.0.5", InterfaceKind::Network),
        ];
        own.set_kinds(kinds.iter().map(|(text, kind)| (ip(text), *kind)).collect());
        assert!(own.confirm(ip("172.17.0.1"), Evidence::SelfCheck));
        assert!(own.confirm(ip("192.168.1.5"), Evidence::PeerConfirmed));
        assert!(!own.confirm(ip("192.168.1.5"), Evidence::SelfCheck), "less than before is no news");
        assert!(!own.confirm(ip("8.8.8.8"), Evidence::PeerConfirmed), "not an address of ours");
        assert_eq!(own.hints(), [addr(lan), addr(other), addr(bridge)]);
        own.self_check_failed(ip("10.0.0.5"));
        own.self_check_failed(ip("192.168.1.5"));
        assert_eq!(own.hints(), [addr(lan), addr(bridge), addr(other)]);
        own.set_kinds(BTreeMap::from([(ip("192.168.1.6"), InterfaceKind::Network)]));
        assert_eq!(own.with_evidence(Evidence::PeerConfirmed).count(), 0, "evidence ends with the address");
    }

    #[test]
    fn b28_a_mapped_address_comes_after_our_own_and_last_as_long_as_nobody_outside_sees_us_there() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        let (ours, mapped) = (addr("/ip4/192.168.1.5/udp/4000/quic-v1"), addr("/ip4/5.1.2.3/udp/4000/quic-v1"));
        let seen = addr("/ip4/5.1.2.4/udp/61000/quic-v1");
        own.listening(ours);
        (1..=2).for_each(|n| own.observed(seen, host(n), CONN));
        assert!(own.set_mapped(BTreeSet::from([mapped])) && !own.set_mapped(BTreeSet::from([mapped])));
        assert_eq!(own.publishable(), [ours, seen, mapped], "a router alone says so");
        own.observed(Address { port: 7, ..mapped }, host(3), CONN);
        assert_eq!(own.publishable(), [ours, mapped, seen]);
        own.moved();
        own.disconnected(CONN, Time::ZERO);
        assert!(own.set_public(BTreeSet::from([mapped.ip])));
        (1..=2).for_each(|n| own.observed(mapped, host(n), CONN));
        let all: Vec<_> = own.all().into_iter().map(|own| (own.address, own.source.name(), own.evidence)).collect();
        assert_eq!(all[1..], [(mapped, "port_mapping", Evidence::Listed)], "named once");
        assert!(!own.hints().contains(&mapped));
        assert!(own.set_mapped(BTreeSet::new()));
        assert_eq!(own.publishable(), [ours, mapped], "as others see it");
    }

    #[test]
    fn b27_what_a_node_has_reached_is_confirmed_and_what_it_has_not_comes_last() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        let (ours, mapped) = (addr("/ip4/192.168.1.5/udp/4000/quic-v1"), addr("/ip4/5.1.2.3/udp/4000/quic-v1"));
        let (seen, tcp) = (addr("/ip4/5.1.2.4/udp/61000/quic-v1"), addr("/ip4/5.1.2.4/tcp/61000"));
        own.listening(ours);
        own.set_mapped(BTreeSet::from([mapped]));
        (1..=2).for_each(|n| own.observed(seen, host(n), CONN));
        (1..=2).for_each(|n| own.observed(tcp, host(n), CONN));
        assert_eq!(own.candidates(), [mapped, seen, tcp]);
        assert_eq!(own.publishable(), [ours, seen, mapped], "over TCP nobody may be let in");
        own.set_checked([mapped, tcp], [seen]);
        assert_eq!(own.publishable(), [ours, mapped, tcp, seen]);
        let evidence = |own: &OwnAddresses, of| own.all().iter().find(|a| a.address == of).map(|a| a.evidence);
        assert_eq!(evidence(&own, mapped), Some(Evidence::PeerConfirmed));
        assert_eq!(evidence(&own, seen), Some(Evidence::Listed));
        own.moved();
        assert_eq!(evidence(&own, mapped), Some(Evidence::Listed));
    }

    #[test]
    fn b27_a_claim_outlives_its_connection_for_five_minutes_unless_somebody_makes_it_again() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        let seen = addr("/ip4/5.1.2.3/udp/61000/quic-v1");
        own.observed(seen, host(1), ConnId(1));
        own.observed(seen, host(2), ConnId(2));
        assert_eq!(own.poll_timeout(), None);
        let at = |secs| Time::at(Duration::from_secs(secs));
        own.disconnected(ConnId(1), at(10));
        own.observed(seen, host(2), ConnId(3));
        own.disconnected(ConnId(2), at(20));
        assert_eq!(own.poll_timeout(), Some(at(310)));
        assert!(!own.handle_timeout(at(309)));
        assert_eq!(own.publishable(), [seen]);
        assert!(own.handle_timeout(at(310)));
        assert!(own.publishable().is_empty() && own.poll_timeout().is_none());
    }

    #[test]
    fn b14_after_a_move_only_connections_that_go_on_still_count() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        let seen = addr("/ip4/5.1.2.3/udp/61000/quic-v1");
        (1..=3).for_each(|n| own.observed(seen, host(n), ConnId(n.into())));
        own.disconnected(ConnId(3), Time::ZERO);
        own.moved();
        assert_eq!(own.publishable(), [seen], "two still see us there");
        own.disconnected(ConnId(1), Time::ZERO);
        assert!(own.publishable().is_empty() && own.poll_timeout().is_none());
    }

    #[test]
    fn d2_a_qr_text_names_no_public_address() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        own.listening(addr("/ip4/5.1.2.3/tcp/7"));
        own.listening(addr("/ip4/192.168.1.5/tcp/7"));
        own.listening(addr("/ip4/127.0.0.1/tcp/7"));
        assert_eq!(own.hints(), [addr("/ip4/192.168.1.5/tcp/7")]);
        assert_eq!(own.publishable().len(), 2);
    }

    #[test]
    fn a_liar_can_neither_fill_the_list_nor_plant_private_addresses() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        for port in 1..2000 {
            own.observed(Address { port, ..addr("/ip4/5.1.2.3/udp/1/quic-v1") }, host(1), CONN);
            own.observed(Address { port, ..addr("/ip4/5.1.2.3/udp/1/quic-v1") }, host((port % 200) as u8), CONN);
            assert!(own.claims.len() <= MAX_CLAIMS);
        }
        own.claims.clear();
        for n in 0..2 {
            own.observed(addr("/ip4/10.0.0.1/udp/5/quic-v1"), host(n), CONN);
            own.observed(addr("/ip4/5.1.2.3/tcp/5"), host(n), CONN);
        }
        assert!(own.publishable().is_empty());
    }
}
