//! Our own addresses: what the listeners and other people say, folded into what we believe and publish.
//!
//! An address that one node claims to see may be a lie; it is published only when two nodes agree, after the addresses
//! we listen on, and never counts as more than `listed`.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::{Address, Class, LoopbackPolicy, Scope, Transport, classify, may_dial, scope};
use crate::id::Tid;

/// Observers that must agree before an observed address is published.
const AGREEING_OBSERVERS: usize = 2;
/// Observed addresses remembered; behind a NAT that maps every flow anew they would grow without end.
const MAX_OBSERVED: usize = 16;

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// We listen on it.
    Listener,
    /// Others see us there.
    Observed,
}

impl Source {
    /// The name used in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Source::Listener => "listener",
            Source::Observed => "observed",
        }
    }
}

/// How sure we are that an address reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// The system or a peer names it.
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
    observed: BTreeMap<Address, BTreeSet<Tid>>,
}

impl OwnAddresses {
    /// Nothing is known yet.
    pub fn new(loopback: LoopbackPolicy) -> OwnAddresses {
        OwnAddresses { loopback, listeners: BTreeSet::new(), observed: BTreeMap::new() }
    }

    /// We listen on an address now.
    pub fn listening(&mut self, address: Address) {
        self.listeners.insert(address);
    }

    /// We no longer listen on an address. What others saw before may not hold any more.
    pub fn listener_gone(&mut self, address: &Address) {
        self.listeners.remove(address);
        self.observed.clear();
    }

    /// A node says that it sees us at an address. Only QUIC tells something: its listening socket is the one that dials,
    /// while the port of an outgoing TCP connection is nobody's listener.
    pub fn observed(&mut self, address: Address, by: Tid) {
        let useful = address.transport == Transport::Quic && classify(address.ip) == Class::Public;
        if !useful || self.listeners.contains(&address) {
            return;
        }
        if self.observed.len() >= MAX_OBSERVED && !self.observed.contains_key(&address) {
            self.observed.clear();
        }
        let by_whom = self.observed.entry(address).or_default();
        if by_whom.len() < AGREEING_OBSERVERS {
            by_whom.insert(by);
        }
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
            evidence: Evidence::Listed,
        };
        let agreed = self.observed.iter().filter(|(_, by)| by.len() >= AGREEING_OBSERVERS);
        let listeners = self.listeners.iter().map(|a| listed(*a, Source::Listener));
        listeners.chain(agreed.map(|(a, _)| listed(*a, Source::Observed))).collect()
    }

    /// What may be dialled by who holds a code or a pairing: for adverts and QR hints.
    pub fn publishable(&self) -> Vec<Address> {
        self.all().iter().map(|o| o.address).filter(|a| may_dial(a, self.loopback)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn b14_an_observed_address_is_published_when_two_nodes_agree_and_not_before() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        own.listening(addr("/ip4/192.168.1.5/udp/4000/quic-v1"));
        own.listening(addr("/ip4/127.0.0.1/udp/4000/quic-v1"));
        let seen = addr("/ip4/5.1.2.3/udp/61000/quic-v1");
        own.observed(seen, Tid([1; 32]));
        own.observed(seen, Tid([1; 32]));
        assert_eq!(own.publishable().len(), 1);
        own.observed(seen, Tid([2; 32]));
        assert_eq!(own.publishable(), [addr("/ip4/192.168.1.5/udp/4000/quic-v1"), seen]);
        own.listener_gone(&addr("/ip4/192.168.1.5/udp/4000/quic-v1"));
        assert!(own.publishable().is_empty());
    }

    #[test]
    fn a_liar_can_neither_fill_the_list_nor_plant_private_addresses() {
        let mut own = OwnAddresses::new(LoopbackPolicy::Refuse);
        for port in 1..2000 {
            own.observed(Address { port, ..addr("/ip4/5.1.2.3/udp/1/quic-v1") }, Tid([1; 32]));
        }
        assert!(own.observed.len() <= MAX_OBSERVED);
        for n in 0..2 {
            own.observed(addr("/ip4/10.0.0.1/udp/5/quic-v1"), Tid([n; 32]));
            own.observed(addr("/ip4/5.1.2.3/tcp/5"), Tid([n; 32]));
        }
        assert!(own.publishable().is_empty());
    }
}
