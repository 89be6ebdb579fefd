//! How much of one source is taken: counted without a table that somebody could fill.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Counters. A source is counted in one of them, chosen by a hash whose key nobody else knows: there is no entry to
/// push out, and whoever sends from many invented addresses can silence only whom they happen to share a counter with.
const COUNTERS: usize = 4_096;

/// Time the counters stand for.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts what comes from each source in the running second.
pub(crate) struct Rate {
    per_second: u8,
    key: RandomState,
    counters: Box<[u8; COUNTERS]>,
    since: Instant,
}

impl Rate {
    /// So many of one source in a second.
    pub(crate) fn new(per_second: u8, now: Instant) -> Rate {
        Rate { per_second, key: RandomState::new(), counters: Box::new([0; COUNTERS]), since: now }
    }

    /// Counts one; `false` if it is one too many.
    pub(crate) fn admit(&mut self, source: impl Hash, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            self.counters.fill(0);
            self.since = now;
        }
        let at = usize::try_from(self.key.hash_one(source) % COUNTERS as u64).expect("less than the counters");
        let counter = &mut self.counters[at];
        let admitted = *counter < self.per_second;
        *counter += u8::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn fifty_a_second_are_told_of_one_source_and_others_are_not_held_up() {
        let start = Instant::now();
        let mut rate = Rate::new(50, start);
        let (loud, quiet) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)));
        let told = |rate: &mut Rate, at| (0..10_000).filter(|_| rate.admit(loud, at)).count();
        assert_eq!(told(&mut rate, start), 50);
        assert_eq!(told(&mut rate, start + WINDOW - Duration::from_millis(1)), 0);
        // One in 4,096 runs, the two share a counter: another key then.
        while rate.key.hash_one(loud) % COUNTERS as u64 == rate.key.hash_one(quiet) % COUNTERS as u64 {
            rate = Rate::new(50, start);
            told(&mut rate, start);
        }
        assert!(rate.admit(quiet, start));
        assert_eq!(told(&mut rate, start + WINDOW), 50);
    }
}
