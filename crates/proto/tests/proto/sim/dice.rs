//! The only source of chance of a world: one number in, the same run out.

use std::collections::VecDeque;
use std::time::Duration;

/// A small generator (SplitMix64). Not for keys; those come from the crate's own one, seeded from this.
pub(crate) struct Dice {
    state: u64,
    /// What falls first, whatever the state is.
    script: VecDeque<u8>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { state: seed ^ 0x6861_6e64_6661_7374, script: VecDeque::new() }
    }

    /// Dice that fall as these bytes say, as long as there are any: whoever changes a byte changes one event.
    pub(crate) fn scripted(script: &[u8]) -> Dice {
        Dice { script: script.iter().copied().collect(), ..Dice::new(0) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        match bound {
            0 => 0,
            _ => self.scripted_below(bound).unwrap_or_else(|| self.next() % bound),
        }
    }

    /// From as few bytes of the script as hold such a number.
    fn scripted_below(&mut self, bound: u64) -> Option<u64> {
        let mut number = u64::from(self.script.pop_front()?);
        let mut reach: u64 = 256;
        while reach < bound {
            number = number << 8 | u64::from(self.script.pop_front().unwrap_or(0));
            reach = reach.saturating_mul(256);
        }
        Some(number % bound)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// An index of something of this length.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A duration from `low` up to, not including, `high`.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let spread = high.saturating_sub(low).as_micros() as u64;
        low + Duration::from_micros(self.below(spread))
    }

    /// Milliseconds from `low` up to, not including, `high`.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Duration {
        self.between(Duration::from_millis(low), Duration::from_millis(high))
    }

    /// 32 bytes for a key of somebody in the world.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        out
    }
}
