//! The relays through which we can be reached: reservations at our bootstrap nodes, while the owner wants them.
//!
//! Trap 13: libp2p's relay client panics when the answer of a relay meets a listener that was removed meanwhile. So none
//! is ever removed: what a relay has given stays until the connection to it ends, and is only no longer told.
//! A relay says itself when its reservation ends, and the client's timer overflows when that is far off; so only nodes
//! that are named in the configuration are asked.

use std::time::Duration;

use handfast_proto::addr::{Address, RelayAddress};
use handfast_proto::id::Tid;
use handfast_proto::wire::advert::MAX_RELAYS;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::ids;

/// First and longest wait before a relay that refused is asked again.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// A node that offers to relay, and what it has given.
struct Relay {
    tid: Tid,
    /// Our connections to it with its address on each, in the order in which they came.
    connections: Vec<(ConnectionId, Address)>,
    state: State,
    failures: u32,
}

enum State {
    /// To be asked at this time.
    Idle(Instant),
    Asked(ListenerId),
    Given(ListenerId, Address),
}

/// The reservations.
#[derive(Default)]
pub(crate) struct Reservations {
    wanted: bool,
    /// In the order in which they were met: those that answered first are the nearest.
    relays: Vec<(PeerId, Relay)>,
    told: Vec<RelayAddress>,
}

/// Whom to ask.
pub(crate) struct Ask {
    pub(crate) peer: PeerId,
    /// Where to listen for that.
    pub(crate) circuit: Multiaddr,
}

impl Reservations {
    pub(crate) fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// A bootstrap node offers to relay on this connection.
    pub(crate) fn offered(&mut self, peer: PeerId, tid: Tid, connection: ConnectionId, address: Address, now: Instant) {
        let known = self.relays.iter_mut().find(|(known, _)| *known == peer);
        match known {
            Some((_, relay)) if relay.connections.iter().any(|(id, _)| *id == connection) => {}
            Some((_, relay)) => {
                relay.connections.push((connection, address));
                // Over the connection before, which may be dying, it could not be asked.
                if let State::Idle(at) = &mut relay.state {
                    *at = now.min(*at);
                }
            }
            None => {
                let relay =
                    Relay { tid, connections: vec![(connection, address)], state: State::Idle(now), failures: 0 };
                self.relays.push((peer, relay));
            }
        }
    }

    /// A connection is gone. What it carried is told by its listener.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        for (_, relay) in &mut self.relays {
            relay.connections.retain(|(id, _)| *id != connection);
        }
        let is_needed = |relay: &Relay| !relay.connections.is_empty() || !matches!(relay.state, State::Idle(_));
        self.relays.retain(|(_, relay)| is_needed(relay));
    }

    /// The relays to ask now.
    pub(crate) fn due(&self, now: Instant) -> Vec<Ask> {
        let engaged = self.relays.iter().filter(|(_, r)| !matches!(r.state, State::Idle(_))).count();
        let room = if self.wanted { MAX_RELAYS.saturating_sub(engaged) } else { 0 };
        let ask = |(peer, relay): &(PeerId, Relay)| {
            let (_, address) = relay.connections.first()?;
            let via = RelayAddress { relay: *address, relay_tid: relay.tid };
            matches!(relay.state, State::Idle(at) if at <= now)
                .then(|| Ask { peer: *peer, circuit: ids::circuit_of(&via, None) })
        };
        self.relays.iter().filter_map(ask).take(room).collect()
    }

    /// When [`Reservations::due`] may have something, if time alone brings it.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.relays.iter().filter_map(|(_, relay)| match relay.state {
            State::Idle(at) if self.wanted && !relay.connections.is_empty() => Some(at),
            State::Idle(_) | State::Asked(_) | State::Given(..) => None,
        });
        let engaged = self.relays.iter().filter(|(_, r)| !matches!(r.state, State::Idle(_))).count();
        if engaged < MAX_RELAYS { waiting.min() } else { None }
    }

    /// A relay was asked; its answer comes under this name.
    pub(crate) fn asked(&mut self, peer: &PeerId, listener: ListenerId) {
        if let Some((_, relay)) = self.relays.iter_mut().find(|(known, _)| known == peer) {
            relay.state = State::Asked(listener);
        }
    }

    /// A relay could not even be asked.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some((_, relay)) = self.relays.iter_mut().find(|(known, _)| known == peer) {
            relay.fail(now);
        }
    }

    /// A relay has agreed.
    pub(crate) fn given(&mut self, listener: ListenerId) {
        for (_, relay) in &mut self.relays {
            if matches!(relay.state, State::Asked(id) if id == listener)
                && let Some((_, address)) = relay.connections.first()
            {
                relay.state = State::Given(listener, *address);
                relay.failures = 0;
            }
        }
    }

    /// A relay has refused, or the connection to it is gone.
    pub(crate) fn ended(&mut self, listener: ListenerId, now: Instant) {
        for (_, relay) in &mut self.relays {
            match relay.state {
                State::Asked(id) if id == listener => relay.fail(now),
                // Its connection ended: over another one it is asked at once.
                State::Given(id, _) if id == listener => relay.state = State::Idle(now),
                State::Idle(_) | State::Asked(_) | State::Given(..) => {}
            }
        }
        self.relays.retain(|(_, relay)| !relay.connections.is_empty());
    }

    /// The relays that lead to us, if that has changed since it was asked last.
    pub(crate) fn news(&mut self) -> Option<Vec<RelayAddress>> {
        let given = self.relays.iter().filter_map(|(_, relay)| match relay.state {
            State::Given(_, address) if self.wanted => Some(RelayAddress { relay: address, relay_tid: relay.tid }),
            State::Idle(_) | State::Asked(_) | State::Given(..) => None,
        });
        let given: Vec<RelayAddress> = given.collect();
        if given == self.told {
            return None;
        }
        self.told.clone_from(&given);
        Some(given)
    }
}

impl Relay {
    fn fail(&mut self, now: Instant) {
        let wait = (FIRST_RETRY * 2u32.saturating_pow(self.failures.min(6))).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Idle(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Stage {
        reservations: Reservations,
        now: Instant,
        asked: BTreeMap<PeerId, ListenerId>,
    }

    fn tid(n: u8) -> Tid {
        Tid([n; 32])
    }

    fn address(n: u8) -> Address {
        format!("/ip4/5.1.0.{n}/udp/4001/quic-v1").parse().expect("an address")
    }

    impl Stage {
        fn new(relays: u8) -> Stage {
            let mut stage =
                Stage { reservations: Reservations::default(), now: Instant::now(), asked: BTreeMap::new() };
            stage.reservations.set_wanted(true);
            (1..=relays).for_each(|n| stage.offer(n, u64::from(n)));
            stage
        }

        fn offer(&mut self, n: u8, connection: u64) {
            let connection = ConnectionId::new_unchecked(usize::try_from(connection).expect("small"));
            let Stage { reservations, now, .. } = self;
            reservations.offered(ids::peer_of(&tid(n)), tid(n), connection, address(n), *now);
        }

        fn ask(&mut self) -> Vec<PeerId> {
            let due = self.reservations.due(self.now);
            for ask in &due {
                let listener = ListenerId::next();
                self.asked.insert(ask.peer, listener);
                self.reservations.asked(&ask.peer, listener);
            }
            due.into_iter().map(|ask| ask.peer).collect()
        }

        fn listener(&self, n: u8) -> ListenerId {
            self.asked[&ids::peer_of(&tid(n))]
        }
    }

    #[test]
    fn the_two_that_came_first_are_asked_and_a_third_when_one_refuses() {
        let mut stage = Stage::new(3);
        assert_eq!(stage.ask(), [ids::peer_of(&tid(1)), ids::peer_of(&tid(2))]);
        stage.reservations.given(stage.listener(1));
        assert_eq!(stage.reservations.news().map(|relays| relays.len()), Some(1));
        stage.reservations.ended(stage.listener(2), stage.now);
        assert_eq!(stage.ask(), [ids::peer_of(&tid(3))]);
        stage.reservations.given(stage.listener(3));
        let told: Vec<Tid> = stage.reservations.news().expect("news").iter().map(|relay| relay.relay_tid).collect();
        assert_eq!(told, [tid(1), tid(3)]);
        assert!(stage.reservations.news().is_none(), "told once");
    }

    #[test]
    fn a_relay_that_refuses_is_asked_again_later_each_time() {
        let mut stage = Stage::new(1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert_eq!(stage.ask().len(), 1);
            stage.reservations.ended(stage.listener(1), stage.now);
            let next = stage.reservations.next_due().expect("it is asked again");
            waits.push((next - stage.now).as_secs());
            stage.now = next;
        }
        assert_eq!((waits[0], waits[7]), (2, 120), "{waits:?}");
    }

    #[test]
    fn what_was_given_is_kept_while_nobody_wants_it_and_told_again() {
        let mut stage = Stage::new(1);
        stage.ask();
        stage.reservations.given(stage.listener(1));
        assert!(stage.reservations.news().is_some());
        stage.reservations.set_wanted(false);
        assert_eq!(stage.reservations.news(), Some(Vec::new()));
        stage.reservations.set_wanted(true);
        assert!(stage.ask().is_empty(), "it is there still");
        assert_eq!(stage.reservations.news().map(|relays| relays.len()), Some(1));
    }

    #[test]
    fn over_another_connection_it_is_asked_at_once_and_without_one_forgotten() {
        let mut stage = Stage::new(1);
        stage.offer(1, 10);
        stage.ask();
        stage.reservations.given(stage.listener(1));
        stage.reservations.disconnected(ConnectionId::new_unchecked(1));
        stage.reservations.ended(stage.listener(1), stage.now);
        assert_eq!(stage.reservations.news(), None, "none was told yet");
        assert_eq!(stage.ask().len(), 1);
        stage.reservations.given(stage.listener(1));
        stage.reservations.disconnected(ConnectionId::new_unchecked(10));
        stage.reservations.ended(stage.listener(1), stage.now);
        assert!(stage.ask().is_empty());
        assert!(stage.reservations.relays.is_empty());
    }
}
