//! What happened in a world, as text or as one number that is equal for equal runs.

use std::io::Write as _;
use std::time::Duration;

/// Whether steps are told at all, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Nothing,
    Hash,
    Lines,
}

pub(crate) struct Trace {
    tell: Tell,
    hash: u64,
    steps: u64,
}

impl Trace {
    pub(crate) fn new(tell: Tell) -> Trace {
        Trace { tell, hash: 0xcbf2_9ce4_8422_2325, steps: 0 }
    }

    pub(crate) fn note(&mut self, now: Duration, line: impl FnOnce() -> String) {
        match self.tell {
            Tell::Nothing => {}
            Tell::Hash => {
                self.steps += 1;
                for byte in now.as_nanos().to_le_bytes().iter().chain(line().as_bytes()) {
                    self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            Tell::Lines => {
                // A test's own output: nothing depends on it.
                let _ = writeln!(std::io::stderr(), "{:>12.6} {}", now.as_secs_f64(), line());
            }
        }
    }

    /// The hash (FNV-1a) of everything told, and how many steps that was.
    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.hash, self.steps)
    }
}
