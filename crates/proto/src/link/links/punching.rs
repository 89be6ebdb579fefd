//! Trying again to make a direct connection of a link that has stayed on a relay. What was in the way may have gone: a
//! mapping of a NAT, a port that a router maps by now, a network.

use std::time::Duration;

use crate::addr::Path;
use crate::id::{ConnId, PairingId};
use crate::limits;
use crate::link::Output;
use crate::link::links::Links;
use crate::secret::Rng;
use crate::time::{Now, Time};

/// When a link that is on a relay is to be punched through again; the first time the network does it by itself.
#[derive(Default)]
pub(super) struct Punching {
    tries: usize,
    next: Option<Time>,
    last: Option<Time>,
}

impl Punching {
    /// How the link runs has changed, or may have.
    pub(super) fn settle(&mut self, is_relayed: bool, now: Time, rng: &mut Rng) {
        if !is_relayed {
            *self = Punching::default();
        } else if self.next.is_none() {
            self.plan(now, rng);
        }
    }

    /// One of the two networks has changed: the pauses begin anew with a try at once, or nearly so.
    fn hurry(&mut self, now: Time) {
        if self.next.is_some() {
            self.tries = 0;
            self.next = Some(self.last.map_or(now, |last| now.max(last + limits::PUNCH_AGAIN[0])));
        }
    }

    fn tried(&mut self, now: Time, rng: &mut Rng) {
        self.tries += 1;
        self.last = Some(now);
        self.plan(now, rng);
    }

    /// With 25 % of jitter either way: two that try at the same moment would only disturb each other.
    fn plan(&mut self, now: Time, rng: &mut Rng) {
        let pause = limits::PUNCH_AGAIN[self.tries.min(limits::PUNCH_AGAIN.len() - 1)];
        let jitter = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
        self.next = Some(now + pause.mul_f64(0.75) + Duration::from_millis(rng.below(jitter)));
    }
}

impl Links {
    /// Tries again where it is due.
    pub(super) fn punch_due(&mut self, now: Now) {
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= now.time);
        let due = self.peers.iter().filter(|(_, e)| is_due(e.punching.next)).map(|(id, _)| *id);
        let due: Vec<(PairingId, Option<ConnId>)> = due.map(|id| (id, self.relayed_link(id))).collect();
        for (id, conn) in due {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.punching.tried(now.time, &mut self.rng);
            }
            self.out.extend(conn.map(Output::PunchAgain));
        }
    }

    /// Our network has changed, or is known better.
    pub(super) fn punch_soon(&mut self, now: Now) {
        self.peers.values_mut().for_each(|entry| entry.punching.hurry(now.time));
    }

    /// When the next try is due.
    pub(super) fn punches_due(&self) -> Option<Time> {
        self.peers.values().filter_map(|entry| entry.punching.next).min()
    }

    fn relayed_link(&self, id: PairingId) -> Option<ConnId> {
        self.best(id).filter(|(_, c)| c.path == Path::Relay).map(|(conn, _)| conn)
    }
}
