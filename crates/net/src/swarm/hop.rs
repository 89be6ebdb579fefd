//! What a node gives as a relay (circuit v2), within limits of ours. The library's own end a circuit after two minutes or
//! 128 KiB (trap 8). Trap 14: its server panics when a reservation times out while its renewal is being answered, so
//! reservations last as long as the connection that they were made on.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use handfast_proto::addr::Subscriber;
use libp2p::relay::{self, RateLimiter};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::ids;
use crate::rate::Rate;

/// Peers that can be reached through us. One costs a connection that it keeps anyway, and an entry; it is a quarter of
/// the connections that a node takes.
const MAX_RESERVATIONS: usize = 1_024;

/// Reservations of one peer beyond its first: one that has come back over a new network, while the old connection has
/// not been missed yet.
const MAX_RESERVATIONS_PER_PEER: usize = 3;

/// No reservation ends before its connection does (trap 14).
const RESERVATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Connections that run through us. Each may hold 2 × 8 KiB under way, and two streams.
const MAX_CIRCUITS: usize = 1_024;

/// Those that one peer has asked for, beyond its first: a device talks to a few others at a time.
const MAX_CIRCUITS_PER_PEER: usize = 15;

/// How long one lives: those who talk longer open another one, which others may be waiting for.
const CIRCUIT_DURATION: Duration = Duration::from_secs(3600);

/// Bytes of one, both directions together: pairings, messages and modest files.
const CIRCUIT_BYTES: u64 = 64 * 1024 * 1024;

/// Reservations, and circuits, that one peer may ask for at once, and how soon it may ask for one more.
const BURST_PER_PEER: NonZeroU32 = NonZeroU32::new(30).expect("30 is not 0");
const REFILL_PER_PEER: Duration = Duration::from_secs(2);

/// Reservations that may be asked for from one subscriber's addresses in a second: keys cost nothing, so a limit for a
/// peer alone holds nobody back. Many devices may share one address.
const PER_SUBSCRIBER: u8 = 8;

/// Circuits that may be asked for from one subscriber's addresses at once, and how soon one more may: in the hour that
/// one lives at most, 488, so that nobody holds half of them.
const CIRCUITS_PER_SUBSCRIBER: u32 = 128;
const CIRCUIT_REFILL: Duration = Duration::from_secs(10);

/// Subscribers whose circuits are counted. Those that have used nothing up are forgotten; more at once are refused.
const MAX_SUBSCRIBERS: usize = 4_096;

/// The relay of a node; a device is none.
pub(crate) type Behaviour = Toggle<relay::Behaviour>;

/// The relay, where we are one.
pub(crate) fn behaviour(own: PeerId, is_node: bool) -> Behaviour {
    let relay = is_node.then(|| relay::Behaviour::new(own, config()));
    Toggle::from(relay)
}

fn config() -> relay::Config {
    relay::Config {
        max_reservations: MAX_RESERVATIONS,
        max_reservations_per_peer: MAX_RESERVATIONS_PER_PEER,
        reservation_duration: RESERVATION,
        reservation_rate_limiters: vec![per_subscriber()],
        max_circuits: MAX_CIRCUITS,
        max_circuits_per_peer: MAX_CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT_DURATION,
        max_circuit_bytes: CIRCUIT_BYTES,
        circuit_src_rate_limiters: vec![circuits_per_subscriber()],
    }
    .reservation_rate_per_peer(BURST_PER_PEER, REFILL_PER_PEER)
    .circuit_src_per_peer(BURST_PER_PEER, REFILL_PER_PEER)
}

fn per_subscriber() -> Box<dyn RateLimiter> {
    let mut rate = Rate::new(PER_SUBSCRIBER, Instant::now());
    Box::new(move |_: PeerId, address: &Multiaddr, now: std::time::Instant| {
        let source = ids::address_of(address).map(|address| Subscriber::of(address.ip));
        source.is_some_and(|source| rate.admit(source, Instant::from_std(now)))
    })
}

fn circuits_per_subscriber() -> Box<dyn RateLimiter> {
    let mut buckets = Buckets::default();
    Box::new(move |_: PeerId, address: &Multiaddr, now: std::time::Instant| {
        ids::address_of(address).is_some_and(|address| buckets.take(Subscriber::of(address.ip), now))
    })
}

/// Token buckets. Each subscriber's is as full as the time says at which it will be full again.
#[derive(Default)]
struct Buckets(BTreeMap<Subscriber, std::time::Instant>);

impl Buckets {
    fn take(&mut self, subscriber: Subscriber, now: std::time::Instant) -> bool {
        if self.0.len() >= MAX_SUBSCRIBERS {
            self.0.retain(|_, full_at| *full_at > now);
        }
        let full_at = self.0.get(&subscriber).map_or(now, |at| (*at).max(now)) + CIRCUIT_REFILL;
        let has_room = self.0.contains_key(&subscriber) || self.0.len() < MAX_SUBSCRIBERS;
        let admitted = has_room && full_at.duration_since(now) <= CIRCUIT_REFILL * CIRCUITS_PER_SUBSCRIBER;
        if admitted {
            self.0.insert(subscriber, full_at);
        }
        admitted
    }
}

/// What the relay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reservations: usize,
    pub(crate) circuits: usize,
    pub(crate) circuits_total: u64,
    pub(crate) denied: u64,
}

/// Counts what the relay tells.
#[derive(Default)]
pub(crate) struct Hop {
    reserved: BTreeSet<PeerId>,
    /// How many run from whom to whom: the library tells the end of some twice.
    circuits: BTreeMap<(PeerId, PeerId), usize>,
    circuits_total: u64,
    denied: u64,
}

impl Hop {
    /// Takes an event of the relay; `is_connected` tells whether a peer still is.
    #[expect(deprecated, reason = "the list of its events is complete only with those")]
    pub(crate) fn on_event(&mut self, event: &relay::Event, is_connected: impl Fn(&PeerId) -> bool) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => {
                self.reserved.insert(*src_peer_id);
            }
            // Told for each connection that ends, whether it had a reservation or not.
            relay::Event::ReservationClosed { src_peer_id } if !is_connected(src_peer_id) => {
                self.reserved.remove(src_peer_id);
            }
            relay::Event::ReservationTimedOut { src_peer_id } => {
                self.reserved.remove(src_peer_id);
            }
            relay::Event::ReservationReqDenied { .. } | relay::Event::CircuitReqDenied { .. } => self.denied += 1,
            relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id } => {
                *self.circuits.entry((*src_peer_id, *dst_peer_id)).or_default() += 1;
                self.circuits_total += 1;
            }
            relay::Event::CircuitClosed { src_peer_id, dst_peer_id, .. } => {
                let ends = (*src_peer_id, *dst_peer_id);
                let left = self.circuits.remove(&ends).unwrap_or(0).saturating_sub(1);
                if left > 0 {
                    self.circuits.insert(ends, left);
                }
            }
            relay::Event::ReservationClosed { .. }
            | relay::Event::StatusChanged { .. }
            | relay::Event::ReservationReqAcceptFailed { .. }
            | relay::Event::ReservationReqDenyFailed { .. }
            | relay::Event::CircuitReqDenyFailed { .. }
            | relay::Event::CircuitReqOutboundConnectFailed { .. }
            | relay::Event::CircuitReqAcceptFailed { .. } => {}
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            reservations: self.reserved.len(),
            circuits: self.circuits.values().sum(),
            circuits_total: self.circuits_total,
            denied: self.denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_14_no_reservation_ends_while_its_connection_may_stand() {
        assert!(config().reservation_duration >= Duration::from_secs(365 * 24 * 3600));
    }

    #[test]
    fn a_peer_is_counted_once_and_until_its_last_connection_ends() {
        let (peer, mut hop) = (PeerId::random(), Hop::default());
        let accepted = relay::Event::ReservationReqAccepted { src_peer_id: peer, renewed: false };
        let closed = relay::Event::ReservationClosed { src_peer_id: peer };
        hop.on_event(&accepted, |_| true);
        hop.on_event(&accepted, |_| true);
        hop.on_event(&closed, |_| true);
        assert_eq!(hop.counts().reservations, 1);
        hop.on_event(&closed, |_| false);
        assert_eq!(hop.counts(), Counts::default());
    }

    #[test]
    fn a_circuit_whose_end_is_told_twice_ends_once() {
        let (src_peer_id, dst_peer_id) = (PeerId::random(), PeerId::random());
        let mut hop = Hop::default();
        let other = relay::Event::CircuitReqAccepted { src_peer_id: dst_peer_id, dst_peer_id: src_peer_id };
        hop.on_event(&other, |_| true);
        hop.on_event(&relay::Event::CircuitReqAccepted { src_peer_id, dst_peer_id }, |_| true);
        for _ in 0..2 {
            hop.on_event(&relay::Event::CircuitClosed { src_peer_id, dst_peer_id, error: None }, |_| true);
        }
        assert_eq!((hop.counts().circuits, hop.counts().circuits_total), (1, 2));
    }

    #[test]
    fn one_subscriber_gets_less_than_half_of_the_circuits_in_the_hour_that_one_lives() {
        let start = std::time::Instant::now();
        let mut buckets = Buckets::default();
        let subscriber = Subscriber::of([5, 1, 2, 3].into());
        let taken = |buckets: &mut Buckets, at| (0..1_000).filter(|_| buckets.take(subscriber, at)).count();
        assert_eq!(taken(&mut buckets, start), 128);
        let hour: usize = (1..=360).map(|n| taken(&mut buckets, start + CIRCUIT_REFILL * n)).sum();
        assert_eq!(hour, 360);
        assert!(128 + hour < MAX_CIRCUITS / 2);
        // A crowd fills the table, and is forgotten again.
        for n in 0..u32::try_from(MAX_SUBSCRIBERS * 2).expect("few") {
            buckets
                .take(Subscriber::of(std::net::Ipv4Addr::from(0x0600_0000 + n).into()), start + CIRCUIT_REFILL * 360);
            assert!(buckets.0.len() <= MAX_SUBSCRIBERS);
        }
        assert!(buckets.take(Subscriber::of([7, 1, 1, 1].into()), start + CIRCUIT_REFILL * 400));
    }

    #[test]
    fn one_subscriber_asks_eight_times_a_second_under_however_many_keys_and_addresses() {
        let mut limiter = per_subscriber();
        let now = std::time::Instant::now();
        let mut ask = |text: String| {
            let address: Multiaddr = text.parse().expect("a multiaddr");
            limiter.try_next(PeerId::random(), &address, now)
        };
        let admitted = (0..500).filter(|n| ask(format!("/ip6/2a0a:1:2:3::{n:x}/tcp/{}", 1_000 + n))).count();
        assert_eq!(admitted, usize::from(PER_SUBSCRIBER));
        assert!(!ask("/dns4/a.example/tcp/1".to_owned()), "whoever has no address has no place");
    }
}
