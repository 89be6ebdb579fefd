//! Our own presence records: one a pairing and period, published, refreshed, retried.

use crate::addr::{dialable_relays, for_advert};
use crate::id::PairingId;
use crate::limits;
use crate::link::Job;
use crate::link::links::{Entry, Links, PARALLEL_PUBLISHES, PUBLISH_RETRY, Work};
use crate::time::{Now, UnixTime};
use crate::wire::advert::{Advert, AdvertState, MAX_ADDRESSES, MAX_RELAYS};

impl Links {
    pub(super) fn publish_all(&mut self, now: Now) {
        for entry in self.peers.values_mut() {
            entry.publish_at = Some(now.time);
        }
        self.publish_due(now);
    }

    pub(super) fn publish_due(&mut self, now: Now) {
        if !self.config.dht {
            return;
        }
        let mut running: usize = self.peers.values().map(|e| e.publishing).sum();
        let due = |e: &Entry| e.publishing == 0 && e.publish_at.is_some_and(|at| at <= now.time);
        let ids: Vec<PairingId> = self.peers.iter().filter(|(_, e)| due(e)).map(|(id, _)| *id).collect();
        let advert = Advert {
            state: AdvertState::Open,
            not_after: UnixTime(0),
            tid: self.config.tid,
            addresses: for_advert(&self.addresses, self.config.loopback, MAX_ADDRESSES),
            relays: dialable_relays(&self.relays, self.config.loopback, MAX_RELAYS),
        };
        for id in ids {
            if running >= PARALLEL_PUBLISHES {
                return;
            }
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            entry.publish_at = None;
            let periods = entry.presence.own_periods(now.unix, entry.peer.clock_offset);
            let mut records = Vec::new();
            for period in periods {
                self.published += 1;
                let seq = u64::from(self.config.start) << 32 | u64::from(self.published);
                records.push(entry.presence.seal(&advert, period, seq, &self.config.identity, &mut self.rng));
            }
            entry.publishing = records.len();
            running += records.len();
            for record in records {
                self.job(Job::Publish(record), Work::Publish(id));
            }
        }
    }

    pub(super) fn handle_published(&mut self, pairing_id: PairingId, stored_on: usize, now: Now) {
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        entry.publishing = entry.publishing.saturating_sub(1);
        let next = if stored_on == 0 {
            let pause = entry.publish_backoff;
            entry.publish_backoff = (pause * 2).min(limits::PRESENCE_EVERY / 10);
            now.time + pause
        } else {
            entry.publish_backoff = PUBLISH_RETRY;
            now.time + limits::PRESENCE_EVERY
        };
        entry.publish_at = Some(entry.publish_at.map_or(next, |at| at.min(next)));
    }
}
