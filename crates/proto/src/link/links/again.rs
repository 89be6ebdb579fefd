//! A link through a relay whose peer can be called by now: what lets others in to a device, a port that its router has mapped
//! or a way in that somebody outside has found, may come a moment too late for the holes that are punched when the two meet.

use std::time::Duration;

use crate::addr::Path;
use crate::id::{JobId, PairingId};
use crate::link::Job;
use crate::link::links::{Links, Work};
use crate::time::{Now, Time};
use crate::wire::record::Record;

/// How long after a link has begun to run through a relay it is looked where the peer says that it is. A router has
/// answered in a few seconds; later looks are for what takes its time. After the last the relay stays.
const LOOKS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(15), Duration::from_secs(60)];

/// The looks of one link.
#[derive(Default)]
pub(super) struct Again {
    /// Since when it runs through a relay, if it does.
    since: Option<Time>,
    done: usize,
}

impl Again {
    /// Its path may have changed.
    pub(super) fn runs(&mut self, path: Option<Path>, now: Time) {
        if path != Some(Path::Relay) {
            *self = Again::default();
        } else if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.since.zip(LOOKS.get(self.done)).map(|(since, after)| since + *after)
    }
}

impl Links {
    /// Looks where peers are that are up through a relay alone.
    pub(super) fn look_again(&mut self, now: Now) {
        if !self.config.dht {
            return;
        }
        let is_due = |again: &Again| again.due().is_some_and(|at| at <= now.time);
        let due: Vec<PairingId> = self.peers.iter().filter(|(_, e)| is_due(&e.again)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            entry.again.done += 1;
            let period = entry.presence.peer_periods(now.unix, entry.peer.clock_offset).into_iter().next();
            let Some((period, topic)) = period.map(|period| (period, entry.presence.peer_topic(period))) else {
                continue;
            };
            if self.queries.take(1) {
                self.job(Job::LookUp(topic), Work::LookAgain(id, period));
            }
        }
    }

    /// Such a look has found a record. One that says nothing new is a miss, like a forged one.
    pub(super) fn found_again(&mut self, id: JobId, record: &Record) {
        let Some(Work::LookAgain(pairing_id, period)) = self.jobs.get(&id) else { return };
        let (pairing_id, period) = (*pairing_id, *period);
        let is_relayed = self.path(pairing_id).is_some_and(|(path, _)| path == Path::Relay);
        let Some(entry) = self.peers.get_mut(&pairing_id).filter(|_| is_relayed) else { return };
        let Ok(advert) = entry.presence.open(record, period) else { return };
        let learned = entry.seek.learn(&advert, record.seq(), self.config.loopback);
        if let Some(target) = learned.filter(|target| !target.addresses.is_empty()) {
            let dial = Job::Dial { tid: Some(target.tid), addresses: target.addresses, relays: Vec::new() };
            // What comes of it is a direct connection beside the relayed one, like a punched hole.
            self.job(dial, Work::Forget);
        }
    }
}
