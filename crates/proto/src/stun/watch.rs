//! When to find out what stands between us and the internet, and what is known of it.
//!
//! At the start, after the addresses of this machine have changed, soon again where nothing came of it, and every half an
//! hour. Each family has a NAT of its own, or none.

use std::net::IpAddr;
use std::time::Duration;

use super::behaviour::Behaviour;
use crate::time::Time;

/// A device that has just started, or changed its network, has better things to do at first: addresses come one by one.
const SETTLE: Duration = Duration::from_secs(1);

/// The pause after the first time that nothing came of it; it doubles up to the second one, after which everything is
/// looked at again: a router can be exchanged and the addresses behind it stay.
const RETRY_MIN: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(1_800);

/// What was known is shown on while so many looks in a row come to nothing: a packet is easily lost.
const KEEP: u32 = 3;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Says when a family is to be looked at. Its owner does so with a [`super::behaviour::Discovery`] and reports the result.
pub struct Watch {
    /// There is somebody to ask.
    enabled: bool,
    addresses: Vec<IpAddr>,
    /// How often the addresses have changed: what was found before is of another network.
    change: u64,
    v4: State,
    v6: State,
}

#[derive(Default)]
struct State {
    due: Option<Time>,
    running: bool,
    /// Looks in a row that did not tell the mapping.
    vain: u32,
    found: Behaviour,
}

/// One look, to be reported under what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// At which family.
    pub family: Family,
    change: u64,
}

impl Watch {
    /// Nothing is known; `enabled`: there are servers to ask, and nobody forbids it.
    pub fn new(enabled: bool) -> Watch {
        Watch { enabled, addresses: Vec::new(), change: 0, v4: State::default(), v6: State::default() }
    }

    /// These are the addresses of this machine now. Only those count that can lead out; a family without one is not
    /// looked at.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>, now: Time) {
        let mut addresses: Vec<IpAddr> = addresses.into_iter().filter(|ip| leads_out(*ip)).collect();
        addresses.sort();
        addresses.dedup();
        if addresses == self.addresses {
            return;
        }
        self.addresses = addresses;
        self.moved(now);
    }

    /// What was found may not hold any more, whether the addresses are the same or not: another router, say.
    pub fn moved(&mut self, now: Time) {
        self.change += 1;
        for family in [Family::V4, Family::V6] {
            let has_one = self.addresses.iter().any(|ip| ip.is_ipv4() == (family == Family::V4));
            let state = self.state(family);
            *state = State { due: has_one.then_some(now + SETTLE), running: state.running, ..State::default() };
        }
    }

    /// The next look that is due. At most one at a time at each family.
    pub fn poll_look(&mut self, now: Time) -> Option<Look> {
        let (enabled, change) = (self.enabled, self.change);
        [Family::V4, Family::V6].into_iter().find_map(|family| {
            let state = self.state(family);
            let is_due = enabled && !state.running && state.due.is_some_and(|due| due <= now);
            is_due.then(|| {
                (state.running, state.due) = (true, None);
                Look { family, change }
            })
        })
    }

    /// When the next look is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let states = [&self.v4, &self.v6].into_iter().filter(|state| self.enabled && !state.running);
        states.filter_map(|state| state.due).min()
    }

    /// What came of a look.
    pub fn looked(&mut self, look: Look, found: Behaviour, now: Time) {
        let is_old = look.change != self.change;
        let state = self.state(look.family);
        state.running = false;
        if is_old {
            return;
        }
        let pause = match found.mapping {
            Some(_) => RETRY_MAX,
            None => (RETRY_MIN * 2u32.saturating_pow(state.vain)).min(RETRY_MAX),
        };
        state.vain = if found.mapping.is_some() { 0 } else { state.vain.saturating_add(1) };
        state.due = Some(now + pause);
        if found.mapping.is_some() || found.contradiction || state.found.mapping.is_none() || state.vain >= KEEP {
            state.found = found;
        }
    }

    /// What is known: of IPv4, where NATs are, and if nobody was seen there, of IPv6.
    pub fn behaviour(&self) -> &Behaviour {
        if self.v4.found.answered > 0 || self.v6.found.answered == 0 { &self.v4.found } else { &self.v6.found }
    }

    fn state(&mut self, family: Family) -> &mut State {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// Behind a loopback or a link-local address there is no internet.
fn leads_out(ip: IpAddr) -> bool {
    use crate::addr::{Class, classify};
    !matches!(classify(ip), Class::Loopback | Class::LinkLocal | Class::Unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::behaviour::Mapping;

    const V4: [&str; 1] = ["192.168.1.5"];

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn ips(ips: &[&str]) -> Vec<IpAddr> {
        ips.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn cone() -> Behaviour {
        Behaviour { mapping: Some(Mapping::EndpointIndependent), answered: 2, ..Behaviour::default() }
    }

    #[test]
    fn each_family_is_looked_at_once_a_second_after_the_start() {
        let mut watch = Watch::new(true);
        assert_eq!(watch.poll_timeout(), None);
        watch.set_addresses(ips(&["192.168.1.5", "2a0a:4840:1::2", "127.0.0.1", "fe80::1"]), at(0));
        assert_eq!((watch.poll_look(at(0)), watch.poll_timeout()), (None, Some(at(1))));
        let (first, second) = (watch.poll_look(at(1)).expect("due"), watch.poll_look(at(1)).expect("due"));
        assert_eq!((first.family, second.family), (Family::V4, Family::V6));
        assert_eq!((watch.poll_look(at(9)), watch.poll_timeout()), (None, None), "they run");
        watch.looked(first, cone(), at(2));
        watch.looked(second, cone(), at(2));
        assert_eq!((watch.poll_look(at(1_801)), watch.poll_timeout()), (None, Some(at(1_802))));
        assert_eq!(watch.behaviour(), &cone());
        let again = watch.poll_look(at(1_802)).expect("due");
        assert_eq!(watch.behaviour(), &cone(), "until there is news");
        watch.looked(again, Behaviour { mapping: Some(Mapping::None), ..cone() }, at(1_803));
        assert_eq!(watch.behaviour().mapping, Some(Mapping::None));
    }

    #[test]
    fn what_was_known_outlives_looks_that_come_to_nothing_but_no_contradiction() {
        let nothing = Behaviour::default();
        let quarrel = Behaviour { contradiction: true, answered: 2, ..Behaviour::default() };
        for (later, kept) in [(&nothing, 2), (&quarrel, 0)] {
            let mut watch = Watch::new(true);
            watch.set_addresses(ips(&V4), at(0));
            let look = watch.poll_look(at(1)).expect("due");
            watch.looked(look, cone(), at(1));
            for n in 0..4 {
                let now = watch.poll_timeout().expect("again");
                let look = watch.poll_look(now).expect("due");
                watch.looked(look, later.clone(), now);
                assert_eq!(watch.behaviour() == &cone(), n < kept, "{n}");
            }
        }
    }

    #[test]
    fn the_same_addresses_again_and_those_that_lead_nowhere_change_nothing() {
        let mut watch = Watch::new(true);
        watch.set_addresses(ips(&["127.0.0.1", "fe80::1"]), at(0));
        assert_eq!(watch.poll_timeout(), None);
        watch.set_addresses(ips(&V4), at(0));
        let look = watch.poll_look(at(1)).expect("due");
        watch.looked(look, cone(), at(1));
        watch.set_addresses(ips(&["fe80::1", "192.168.1.5"]), at(50));
        assert_eq!((watch.poll_timeout(), watch.behaviour()), (Some(at(1_801)), &cone()));
    }

    #[test]
    fn after_a_change_what_was_found_is_forgotten_and_what_is_being_found_as_well() {
        let mut watch = Watch::new(true);
        watch.set_addresses(ips(&V4), at(0));
        let old = watch.poll_look(at(1)).expect("due");
        watch.set_addresses(ips(&["10.0.0.7"]), at(2));
        assert_eq!(watch.poll_look(at(3)), None, "one at a time");
        watch.looked(old, cone(), at(4));
        assert_eq!(watch.behaviour(), &Behaviour::default());
        let new = watch.poll_look(at(4)).expect("due");
        watch.looked(new, cone(), at(5));
        assert_eq!(watch.behaviour(), &cone());
        watch.set_addresses(ips(&[]), at(6));
        assert_eq!((watch.behaviour(), watch.poll_timeout()), (&Behaviour::default(), None));
    }

    #[test]
    fn where_nobody_answers_or_nothing_follows_it_is_tried_again_ever_later() {
        for answered in [0, 1] {
            let mut watch = Watch::new(true);
            watch.set_addresses(ips(&V4), at(0));
            let mut pauses = Vec::new();
            let mut now = at(1);
            for _ in 0..50 {
                let look = watch.poll_look(now).expect("due");
                watch.looked(look, Behaviour { answered, ..Behaviour::default() }, now);
                let next = watch.poll_timeout().expect("again");
                pauses.push(next.since(now).as_secs());
                now = next;
            }
            assert_eq!(pauses[..8], [30, 60, 120, 240, 480, 960, 1_800, 1_800]);
            assert_eq!(pauses[49], 1_800);
        }
    }

    #[test]
    fn without_a_server_nobody_is_asked() {
        let mut watch = Watch::new(false);
        watch.set_addresses(ips(&V4), at(0));
        assert_eq!((watch.poll_look(at(10)), watch.poll_timeout()), (None, None));
    }
}
