//! Keeps the record of one code in the DHT: published, refreshed, and buried twice.

use std::time::Duration;

use crate::id::JobId;
use crate::keys::CodeKeys;
use crate::limits;
use crate::session::{Context, Job, earlier};
use crate::time::Time;
use crate::wire::advert::{Advert, AdvertState};
use crate::wire::record::MAX_TTL;

/// First wait before publishing is tried again after no node stored the record.
const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// Keeps the record of a code in the DHT: published, refreshed, and buried twice.
pub(super) struct Advertiser {
    /// Whether there is a DHT to put anything into.
    enabled: bool,
    seq: u64,
    next: Option<Time>,
    running: Option<JobId>,
    again: bool,
    backoff: Duration,
    content: Content,
    /// When to say that no node has taken the first record.
    unheard: Option<Time>,
}

/// What the record says.
enum Content {
    Open,
    Over { state: AdvertState, left: u8 },
}

impl Advertiser {
    /// The first record is due at once, if there is a DHT at all.
    pub(super) fn new(now: Time, dht: bool) -> Advertiser {
        let backoff = BACKOFF_MIN;
        Advertiser {
            enabled: dht,
            seq: 0,
            next: Some(now),
            running: None,
            again: false,
            backoff,
            content: Content::Open,
            unheard: dht.then(|| now + limits::NO_NODE_YET),
        }
    }

    /// Whether it must be said now that no node has taken the record; once.
    pub(super) fn is_unheard(&mut self, now: Time) -> bool {
        self.unheard.take_if(|at| *at <= now).is_some()
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        earlier(self.next(), self.unheard)
    }

    fn next(&self) -> Option<Time> {
        if self.running.is_some() || !self.enabled { None } else { self.next }
    }

    /// The content changed: publish anew.
    pub(super) fn due(&mut self, now: Time) {
        self.again = self.running.is_some();
        self.next = Some(now);
    }

    /// The code is over: from now on the record says so.
    pub(super) fn close(&mut self, state: AdvertState, now: Time) {
        self.content = Content::Over { state, left: 2 };
        self.running = None;
        self.unheard = None;
        self.next = Some(now);
    }

    /// Whether `id` was ours and brought the record to at least one node.
    pub(super) fn published(&mut self, id: JobId, stored_on: usize, now: Time) -> bool {
        if self.running != Some(id) {
            return false;
        }
        self.running = None;
        if stored_on == 0 {
            self.next = Some(now + self.backoff);
            self.backoff = (self.backoff * 2).min(limits::PUBLISH_BACKOFF_MAX);
            return false;
        }
        self.backoff = BACKOFF_MIN;
        self.unheard = None;
        self.next = match &mut self.content {
            Content::Open if self.again => Some(now),
            Content::Open => Some(now + limits::REPUBLISH),
            Content::Over { left, .. } => {
                *left = left.saturating_sub(1);
                (*left > 0).then(|| now + limits::TOMBSTONE_REPEAT)
            }
        };
        self.again = false;
        true
    }

    /// Publishes if it is due.
    pub(super) fn run(
        &mut self,
        keys: &CodeKeys,
        life: Duration,
        advert: impl Fn(&Context<'_>) -> Advert,
        cx: &mut Context<'_>,
    ) {
        if self.next().is_none_or(|at| cx.now.time < at) {
            return;
        }
        let (advert, ttl) = match &self.content {
            // A node keeps the record a minute longer than the code lives, so that clocks of nodes need not be exact.
            Content::Open => (advert(cx), u16::try_from(life.as_secs().saturating_add(60)).unwrap_or(u16::MAX)),
            // A code that no node ever held needs no tombstone.
            Content::Over { .. } if self.seq == 0 => {
                self.next = None;
                return;
            }
            Content::Over { state, .. } => (Advert::tombstone(*state), MAX_TTL),
        };
        self.seq += 1;
        let plain = advert.to_bytes(cx.rng.bytes());
        let record = keys.record().seal(&plain, self.seq, ttl, cx.rng);
        self.running = Some(cx.job(Job::Publish(record)));
    }
}
