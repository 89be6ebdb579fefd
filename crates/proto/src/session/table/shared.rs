//! What the sessions of a device have in common, and what each of them gets of it while it takes an input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{JobId, PairingId};
use crate::secret::Rng;
use crate::session::{Config, Context, Output, Strikes};
use crate::time::Now;

/// Everything in the table that is not one session's.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) out: VecDeque<Output>,
    pub(super) owners: BTreeMap<JobId, u64>,
    pub(super) strikes: Strikes,
    /// Pairings that exist or existed.
    pub(super) held: BTreeSet<PairingId>,
    next_job: u64,
}

impl Shared {
    pub(super) fn new(config: Config, rng: Rng) -> Shared {
        Shared {
            config,
            rng,
            out: VecDeque::new(),
            owners: BTreeMap::new(),
            strikes: Strikes::new(),
            held: BTreeSet::new(),
            next_job: 0,
        }
    }

    /// What the session of this key works with.
    pub(super) fn context(&mut self, owner: u64, others_compare: bool, now: Now) -> Context<'_> {
        Context {
            now,
            config: &self.config,
            rng: &mut self.rng,
            out: &mut self.out,
            next_job: &mut self.next_job,
            owners: &mut self.owners,
            owner,
            strikes: &mut self.strikes,
            held: &self.held,
            others_compare,
        }
    }
}
