//! Looking for peers that are not connected, and giving up pending pairings whose time is over.

use crate::id::{JobId, PairingId};
use crate::limits;
use crate::link::links::{Links, Work};
use crate::link::seek::Target;
use crate::link::{Event, Job, Output, StoreChange, Tombstone};
use crate::session::Role;
use crate::time::Now;
use crate::wire::record::Record;

impl Links {
    pub(super) fn seek_all(&mut self, now: Now) {
        self.queries.refill(now.time);
        let due: Vec<PairingId> = self
            .peers
            .iter()
            .filter(|(id, e)| e.seek.is_due(now.time) && !self.is_up(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.seek(id, now);
        }
    }

    pub(super) fn seek(&mut self, id: PairingId, now: Now) {
        // The answer to a dial would be the connection on which that runs.
        let is_met = self.hellos.values().any(|h| h.opened_by_us && h.step.pairing_id() == Some(id));
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let ask_dht = self.config.dht && entry.seek.asks_dht();
        entry.seek.begin(now.time, &mut self.rng);
        let periods = entry.presence.peer_periods(now.unix, entry.peer.clock_offset);
        let topics: Vec<_> =
            periods.iter().take(entry.seek.breadth()).map(|p| (*p, entry.presence.peer_topic(*p))).collect();
        let remembered = entry.peer.addresses.clone();
        let dial = if entry.seek.is_dialling() || (is_met && entry.seek.target().is_some()) {
            None
        } else {
            let anywhere = Job::Dial { tid: None, addresses: remembered.clone(), relays: Vec::new() };
            entry.seek.next_target().map(dial).or_else(|| (!remembered.is_empty()).then_some(anywhere))
        };
        if let Some(dial) = dial {
            let job = self.job(dial, Work::Dial(id));
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.seek.add_dial(job);
            }
        }
        if !ask_dht || !self.queries.take(topics.len()) {
            return;
        }
        for (period, topic) in topics {
            let job = self.job(Job::LookUp(topic), Work::LookUp(id));
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.seek.add_look_up(job, period);
            }
        }
    }

    pub(super) fn handle_found(&mut self, id: JobId, record: &Record) {
        let Some(Work::LookUp(pairing_id)) = self.jobs.get(&id) else { return };
        let pairing_id = *pairing_id;
        if self.is_up(pairing_id) {
            return;
        }
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        let Some(period) = entry.seek.look_up_period(id) else { return };
        // A forged, foreign or old record is a miss.
        let Ok(advert) = entry.presence.open(record, period) else { return };
        let learned = entry.seek.learn(&advert, record.seq(), self.config.loopback);
        self.dial(pairing_id, learned);
    }

    /// Dials a peer where it has just been learned to be, beside what is under way.
    pub(super) fn dial(&mut self, id: PairingId, target: Option<Target>) {
        let may_dial = self.peers.get(&id).is_some_and(|entry| entry.seek.may_dial());
        if let Some(target) = target.filter(|_| may_dial) {
            let job = self.job(dial(target), Work::Dial(id));
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.seek.add_dial(job);
            }
        }
    }

    pub(super) fn expire_pending(&mut self, now: Now) {
        // What a hello is about to finish, or a write on its way has finished, is left alone.
        let in_hello = |id: PairingId| self.hellos.values().any(|h| h.step.pairing_id() == Some(id));
        let committing = |id: PairingId| self.jobs.values().any(|w| matches!(w, Work::Commit(c, _) if *c == id));
        let expired: Vec<PairingId> = self
            .peers
            .iter()
            .filter(|(_, e)| e.is_pending() && e.pending_until <= now.time)
            .map(|(id, _)| *id)
            .filter(|id| !self.is_up(*id) && !in_hello(*id) && !committing(*id))
            .collect();
        for pairing_id in expired {
            let tombstone = self.peers.get(&pairing_id).filter(|e| e.peer.role == Role::Joiner).map(|e| {
                let tag = e.bond.tag_key().clone();
                Box::new(Tombstone { pairing_id, peer: e.peer.key, tag, seq: 1 })
            });
            self.remove(pairing_id);
            // The peer is told nothing that a crash could take back.
            let work = Work::Expire(tombstone.clone());
            self.job(Job::Store(StoreChange::Expired { pairing_id, tombstone }), work);
            self.out.push_back(Output::Event(Event::Gone { pairing_id, by_them: false }));
        }
    }

    /// From now on the peer of this pairing is told that it is over.
    pub(super) fn bury(&mut self, tombstone: Tombstone) {
        self.tombstones.push(tombstone);
        if self.tombstones.len() > limits::MAX_TOMBSTONES {
            self.tombstones.remove(0);
        }
    }
}

/// Addresses and relays in one job: the network gives the addresses a head start.
fn dial(Target { tid, addresses, relays }: Target) -> Job {
    Job::Dial { tid: Some(tid), addresses, relays }
}
