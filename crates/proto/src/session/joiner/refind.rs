//! Looking the initiator up again when the connection to it is lost in the middle of a handshake: it may have moved to
//! another network, and its record says where it is now. Of the keys of the code only those of the record are kept for it.

use std::time::Duration;

use crate::addr::{Address, LoopbackPolicy, RelayAddress, dialable_relays, may_dial};
use crate::id::{JobId, Tid};
use crate::limits;
use crate::session::{Context, Job, earlier};
use crate::time::Time;
use crate::wire::advert::{Advert, AdvertState, MAX_RELAYS};
use crate::wire::record::{Record, RecordKeys};

/// Looks for one initiator, whose transport key is known.
pub(super) struct Refind {
    keys: RecordKeys,
    newest: u64,
    running: Option<JobId>,
    /// When it is looked up next, while it is lost.
    next: Option<Time>,
    pause: Duration,
}

impl Refind {
    /// The newest record that is known has this number.
    pub(super) fn new(keys: RecordKeys, newest: u64) -> Refind {
        Refind { keys, newest, running: None, next: None, pause: limits::REFIND_MIN }
    }

    /// The connection is lost: the first look-up is due.
    pub(super) fn start(&mut self, now: Time) {
        (self.next, self.pause) = (Some(now), limits::REFIND_MIN);
    }

    /// It is there again.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>) {
        self.next = None;
        if let Some(job) = self.running.take() {
            cx.cancel(job);
        }
    }

    /// Starts a look-up if one is due; one at a time.
    pub(super) fn run(&mut self, cx: &mut Context<'_>) {
        if self.running.is_none() && self.next.is_some_and(|at| at <= cx.now.time) {
            self.running = Some(cx.job(Job::LookUp(self.keys.topic())));
            self.next = Some(cx.now.time + self.pause);
            self.pause = (self.pause * 2).min(limits::REFIND_MAX);
        }
    }

    /// When the next look-up is due; one that runs ends by itself.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next.filter(|_| self.running.is_none())
    }

    /// A look-up has ended.
    pub(super) fn looked_up(&mut self, id: JobId) {
        self.running.take_if(|job| *job == id);
    }

    /// Where a newer record says that the device of this key is.
    pub(super) fn found(
        &mut self,
        id: JobId,
        record: &Record,
        tid: Tid,
        loopback: LoopbackPolicy,
    ) -> Option<(Vec<Address>, Vec<RelayAddress>)> {
        if self.running != Some(id) || record.seq() <= self.newest {
            return None;
        }
        let advert = Advert::of_code(&self.keys.open(record).ok()?).ok()?;
        self.newest = record.seq();
        if advert.state != AdvertState::Open || advert.tid != tid {
            return None;
        }
        let addresses = advert.addresses.iter().copied().filter(|a| may_dial(a, loopback)).collect();
        Some((addresses, dialable_relays(&advert.relays, loopback, MAX_RELAYS)))
    }
}

/// The earlier of a wait and the next look-up.
pub(super) fn or_look_up(at: Option<Time>, refind: Option<&Refind>) -> Option<Time> {
    earlier(at, refind.and_then(Refind::deadline))
}
