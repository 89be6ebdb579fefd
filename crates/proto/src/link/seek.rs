//! The search for one paired device: remembered addresses and presence records, tried together, again and again with
//! growing pauses, sooner while somebody waits.

use std::time::Duration;

use crate::addr::{Address, LoopbackPolicy, RelayAddress, dialable_relays, may_dial, other_relays};
use crate::id::{JobId, Tid};
use crate::limits;
use crate::secret::Rng;
use crate::time::Time;
use crate::wire::advert::{Advert, MAX_RELAYS};

/// First pause while somebody waits: a peer that has just started is in the DHT a few round trips later.
const WANTED_MIN: Duration = Duration::from_millis(500);
/// Longest pause while somebody waits.
const WANTED_MAX: Duration = Duration::from_secs(3);

/// One search. It decides when and where to try; the links hand out the jobs.
#[derive(Default)]
pub(super) struct Seek {
    rounds: u32,
    next: Option<Time>,
    wanted_until: Option<Time>,
    look_ups: Vec<(JobId, u32)>,
    dials: Vec<JobId>,
    newest: u64,
    target: Option<Target>,
    /// The relays that have connected us to it and carried nothing.
    stalled: Vec<Address>,
}

/// Where a peer is in this run of its program.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) tid: Tid,
    pub(super) addresses: Vec<Address>,
    /// The relays that lead to it.
    pub(super) relays: Vec<RelayAddress>,
}

impl Seek {
    /// Starts a round now.
    pub(super) fn start(&mut self, now: Time) {
        self.next = Some(now);
    }

    /// Starts over: what failed before failed elsewhere.
    pub(super) fn restart(&mut self, now: Time) {
        self.rounds = 0;
        self.start(now);
    }

    /// Somebody waits until `until`: pauses stay short, and a round starts now.
    pub(super) fn want(&mut self, now: Time, until: Time) {
        self.wanted_until = Some(self.wanted_until.map_or(until, |u| u.max(until)));
        self.rounds = 0;
        if !self.is_running() {
            self.next = Some(now);
        }
    }

    /// Whether a round is due.
    pub(super) fn is_due(&self, now: Time) -> bool {
        !self.is_running() && self.next.is_some_and(|at| at <= now)
    }

    /// A round begins: the next one follows after a pause that grows, with 25 % of jitter either way.
    pub(super) fn begin(&mut self, now: Time, rng: &mut Rng) {
        let (first, longest) = match self.wanted_until {
            Some(until) if now < until => (WANTED_MIN, WANTED_MAX),
            Some(_) | None => (limits::SEEK_MIN, limits::SEEK_MAX),
        };
        let pause = (first * 2u32.saturating_pow(self.rounds.min(16))).min(longest);
        let jitter = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
        self.next = Some(now + pause.mul_f64(0.75) + Duration::from_millis(rng.below(jitter)));
        self.rounds = self.rounds.saturating_add(1);
    }

    /// How many of the periods to ask about in the round that has begun: the likeliest first, all of them later.
    pub(super) fn breadth(&self) -> usize {
        if self.rounds <= 1 { 1 } else { usize::MAX }
    }

    /// Whether what a newer record says may be dialled beside what is under way.
    pub(super) fn may_dial(&self) -> bool {
        self.dials.len() < limits::DIALS_OF_CANDIDATE
    }

    /// Whether a dial is under way; another one would only repeat it.
    pub(super) fn is_dialling(&self) -> bool {
        !self.dials.is_empty()
    }

    pub(super) fn next(&self) -> Option<Time> {
        if self.is_running() { None } else { self.next }
    }

    pub(super) fn add_look_up(&mut self, job: JobId, period: u32) {
        self.look_ups.push((job, period));
    }

    pub(super) fn add_dial(&mut self, job: JobId) {
        self.dials.push(job);
    }

    /// The period that a running look-up asks about.
    pub(super) fn look_up_period(&self, job: JobId) -> Option<u32> {
        self.look_ups.iter().find(|(id, _)| *id == job).map(|(_, period)| *period)
    }

    /// A job of this search ended. False if it was none.
    pub(super) fn end_job(&mut self, job: JobId) -> bool {
        let before = self.look_ups.len() + self.dials.len();
        self.look_ups.retain(|(id, _)| *id != job);
        self.dials.retain(|id| *id != job);
        before != self.look_ups.len() + self.dials.len()
    }

    /// What to dial according to this record, if it is newer than what was known.
    pub(super) fn learn(&mut self, advert: &Advert, seq: u64, loopback: LoopbackPolicy) -> Option<Target> {
        if seq <= self.newest {
            return None;
        }
        self.newest = seq;
        let addresses: Vec<Address> = advert.addresses.iter().copied().filter(|a| may_dial(a, loopback)).collect();
        let relays = dialable_relays(&advert.relays, loopback, MAX_RELAYS);
        if addresses.is_empty() && relays.is_empty() {
            return None;
        }
        self.target = Some(Target { tid: advert.tid, addresses, relays });
        self.next_target()
    }

    /// Where the newest record says the peer is.
    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// What of it is dialled next.
    pub(super) fn next_target(&mut self) -> Option<Target> {
        let Target { tid, addresses, relays } = self.target.clone()?;
        Some(Target { tid, addresses, relays: other_relays(&relays, &mut self.stalled) })
    }

    /// Whether another relay leads to the peer than this one, and has not stalled.
    pub(super) fn has_other_relay(&self, relay: Address) -> bool {
        let relays = self.target.iter().flat_map(|target| &target.relays);
        relays.into_iter().any(|r| r.relay != relay && !self.stalled.contains(&r.relay))
    }

    /// A relay has connected us and carries nothing: what is dialled next, besides another one.
    pub(super) fn stalled(&mut self, relay: Address) -> Option<Target> {
        self.stalled.push(relay);
        self.next_target()
    }

    /// Sets a target that is known otherwise: the other side of a handshake. It is tried alone first.
    pub(super) fn set_target(&mut self, target: Target) {
        self.target = Some(target);
        self.rounds = 0;
    }

    /// Whether the next round should ask the DHT as well: not when the peer was there a moment ago.
    pub(super) fn asks_dht(&self) -> bool {
        self.target.is_none() || self.rounds > 0
    }

    /// Nobody answers at the target: the next round tries the remembered addresses, and the next record is new again.
    pub(super) fn forget_target(&mut self) {
        if self.dials.is_empty() {
            self.target = None;
            self.newest = 0;
        }
    }

    /// Ends the search; what still runs is returned to be cancelled.
    pub(super) fn stop(&mut self) -> Vec<JobId> {
        self.next = None;
        self.rounds = 0;
        self.wanted_until = None;
        let look_ups = self.look_ups.drain(..).map(|(id, _)| id);
        look_ups.chain(self.dials.drain(..)).collect()
    }

    fn is_running(&self) -> bool {
        !self.look_ups.is_empty()
    }
}
