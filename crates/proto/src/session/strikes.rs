//! Who spoiled comparisons lately (section 7.3): three aborts of one peer within ten minutes refuse it for ten minutes.
//!
//! Each try of an attacker costs a person's attention and succeeds with a chance of 2^-42; this bounds how often somebody
//! can be bothered. It counts aborts of either kind, a "they differ" of our person and a stream that the peer closed or
//! broke while a comparison was open, and whoever was told to compare and did not go on, of which nobody saw anything;
//! what a person turned down unasked is no abort.
//!
//! An id costs nothing: whoever takes a new one for each try is stopped by its address, after twice as many.

use std::net::IpAddr;

use crate::limits;
use crate::time::Time;
use crate::wire::beacon::Nid;

/// Peers remembered, so that only an attacker with many addresses makes one be forgotten: the one that struck longest ago.
const MAX_STRIKERS: usize = 64;

/// A peer in a post-shared window: what it calls itself, and the address it was observed at. Another device behind the
/// same address has another nid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Striker {
    /// Its notifier id.
    pub nid: Nid,
    /// Where its connection came from or went to.
    pub address: IpAddr,
}

/// The strikes of all peers.
#[derive(Default)]
pub struct Strikes {
    /// Oldest last strike first.
    known: Vec<Known>,
}

struct Known {
    who: Striker,
    /// The moments that still count, oldest first; never more than [`limits::MAX_STRIKES`].
    at: Vec<Time>,
}

impl Strikes {
    /// Nobody has struck.
    pub fn new() -> Strikes {
        Strikes::default()
    }

    /// A comparison with this peer was aborted.
    pub fn strike(&mut self, who: Striker, now: Time) {
        self.forget(now);
        let mut known = match self.known.iter().position(|k| k.who == who) {
            Some(index) => self.known.remove(index),
            None => Known { who, at: Vec::new() },
        };
        if known.at.len() == limits::MAX_STRIKES {
            known.at.remove(0);
        }
        known.at.push(now);
        if self.known.len() == MAX_STRIKERS {
            self.known.remove(0);
        }
        self.known.push(known);
    }

    /// Whether this peer is not to be dealt with now.
    pub fn refuses(&self, who: &Striker, now: Time) -> bool {
        let of_address = self.known.iter().filter(|k| k.who.address == who.address);
        let mut all: Vec<Time> = of_address.clone().flat_map(|k| k.at.iter().copied()).collect();
        all.sort_unstable();
        let recent = &all[all.len().saturating_sub(limits::MAX_STRIKES_OF_ADDRESS)..];
        spoils(recent, limits::MAX_STRIKES_OF_ADDRESS, now)
            || of_address.into_iter().any(|k| k.who == *who && spoils(&k.at, limits::MAX_STRIKES, now))
    }

    fn forget(&mut self, now: Time) {
        let counts = limits::STRIKE_WINDOW.max(limits::STRIKE_REFUSAL);
        for known in &mut self.known {
            known.at.retain(|at| now.since(*at) < counts);
        }
        self.known.retain(|k| !k.at.is_empty());
    }
}

/// Whether so many strikes, oldest first, fell within the window, and the last of them not too long ago.
fn spoils(at: &[Time], most: usize, now: Time) -> bool {
    at.len() >= most
        && at.first().zip(at.last()).is_some_and(|(first, last)| {
            last.since(*first) < limits::STRIKE_WINDOW && now.since(*last) < limits::STRIKE_REFUSAL
        })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn peer(n: u8) -> Striker {
        Striker { nid: Nid([n; 16]), address: IpAddr::V4(Ipv4Addr::new(192, 168, 1, n)) }
    }

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    #[test]
    fn attack_33_the_third_strike_within_ten_minutes_refuses_that_peer_for_ten_minutes_and_no_other() {
        let mut strikes = Strikes::new();
        strikes.strike(peer(1), at(0));
        strikes.strike(peer(1), at(300));
        assert!(!strikes.refuses(&peer(1), at(300)));
        strikes.strike(peer(1), at(599));
        assert!(strikes.refuses(&peer(1), at(599)));
        assert!(strikes.refuses(&peer(1), at(1_198)));
        assert!(!strikes.refuses(&peer(1), at(1_199)));
        assert!(!strikes.refuses(&peer(2), at(599)));
        let same_address = Striker { nid: Nid([9; 16]), ..peer(1) };
        assert!(!strikes.refuses(&same_address, at(599)), "another device behind the same address");
    }

    #[test]
    fn attack_33_whoever_takes_a_new_id_for_each_try_is_refused_by_its_address_after_six() {
        let mut strikes = Strikes::new();
        let there = |n: u8| Striker { nid: Nid([n; 16]), ..peer(1) };
        for n in 0..6 {
            assert!(!strikes.refuses(&there(n), at(n.into())));
            strikes.strike(there(n), at(n.into()));
        }
        assert!(strikes.refuses(&there(99), at(6)), "an id that never struck");
        assert!(!strikes.refuses(&peer(2), at(6)));
        assert!(!strikes.refuses(&there(99), at(605)));
    }

    #[test]
    fn three_strikes_over_more_than_ten_minutes_refuse_nobody_and_the_window_slides() {
        let mut strikes = Strikes::new();
        for seconds in [0, 400, 600] {
            strikes.strike(peer(1), at(seconds));
        }
        assert!(!strikes.refuses(&peer(1), at(600)));
        strikes.strike(peer(1), at(900));
        assert!(strikes.refuses(&peer(1), at(900)), "400, 600 and 900");
    }

    #[test]
    fn a_refused_peer_starts_again_with_none_and_memory_is_bounded() {
        let mut strikes = Strikes::new();
        for _ in 0..3 {
            strikes.strike(peer(1), at(0));
        }
        strikes.strike(peer(1), at(601));
        assert!(!strikes.refuses(&peer(1), at(601)));
        for n in 0..=u8::MAX {
            strikes.strike(peer(n), at(602));
        }
        assert_eq!(strikes.known.len(), MAX_STRIKERS);
    }
}
