//! A small seeded random generator (SplitMix64): lost frames and kill moments must be replayable from a printed seed.

/// A generator; the same seed gives the same numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound` (0 for a bound of 0); the bias of the remainder is far below what a test can see.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// Is an event that happens `per_million` times in a million drawn?
    pub const fn happens(&mut self, per_million: u32) -> bool {
        per_million != 0 && self.below(1_000_000) < per_million as u64
    }

    /// `count` different numbers of `0..total`, in random order (fewer when there are not so many).
    pub fn choose(&mut self, total: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..total).collect();
        for last in (1..total).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            all.swap(last, other);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn the_same_seed_gives_the_same_choice_and_no_number_twice() {
        let first = Rng::new(7).choose(20, 10);
        assert_eq!(first, Rng::new(7).choose(20, 10));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 10);
        assert!(sorted.iter().all(|number| *number < 20));
    }

    #[test]
    fn an_event_of_a_tenth_happens_about_every_tenth_time() {
        let mut rng = Rng::new(1);
        let count = (0..100_000).filter(|_| rng.happens(100_000)).count();
        assert!((9_500..10_500).contains(&count), "{count}");
    }
}
