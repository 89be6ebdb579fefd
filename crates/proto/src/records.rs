//! The records a DHT node stores for others (sections 5 and 12): validated ones only, each for a bounded time, and no
//! source of them able to push out those of others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;
use crate::wire::record::{MAX_TTL, Record, Topic};

/// How much a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    /// Records in all.
    pub total: usize,
    /// Records that one [`Source`] put here.
    pub per_source: usize,
}

impl RecordLimits {
    /// A device: 0.8 MB.
    pub const DEVICE: RecordLimits = RecordLimits { total: 1_024, per_source: 256 };
    /// A node: 51 MB. A source's 256 are codes of as many people behind one network in a quarter of an hour.
    pub const NODE: RecordLimits = RecordLimits { total: 65_536, per_source: 256 };
}

/// Where a record came from, as far as it counts: the /24 of an IPv4 address or the /56 of an IPv6 address, the least
/// that somebody who wants many sources can get hold of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    v6: bool,
    prefix: [u8; 7],
}

impl Source {
    /// The source that `ip` belongs to.
    pub fn of(ip: IpAddr) -> Source {
        let mut prefix = [0; 7];
        match ip {
            IpAddr::V4(ip) => prefix[..3].copy_from_slice(&ip.octets()[..3]),
            IpAddr::V6(ip) => prefix.copy_from_slice(&ip.octets()[..7]),
        }
        Source { v6: ip.is_ipv6(), prefix }
    }
}

/// What a store did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounters {
    /// Records stored: new topics and newer publications.
    pub stored: u64,
    /// Identical records that were put again, which changes nothing.
    pub repeated: u64,
    /// Puts refused because the bytes are no valid record of their key.
    pub refused_invalid: u64,
    /// Puts refused because a newer publication is stored.
    pub refused_old: u64,
    /// Puts refused because other bytes are stored under the same number.
    pub refused_conflict: u64,
    /// Puts refused because their source holds all it may.
    pub refused_source_full: u64,
    /// Records removed to make room.
    pub evicted: u64,
    /// Records removed because their time was over.
    pub expired: u64,
}

impl RecordCounters {
    /// Puts refused for whatever reason.
    pub fn refused(&self) -> u64 {
        self.refused_invalid + self.refused_old + self.refused_conflict + self.refused_source_full
    }
}

/// What became of a put that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The topic is new here.
    New,
    /// It replaced an older publication.
    Newer,
    /// The same bytes were here already; their time runs on.
    Repeated,
}

/// Why a put was refused. The publisher is at fault, or somebody who repeats what a publisher said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Length, key, life or signature is wrong.
    #[error("not a valid record of its key")]
    Invalid,
    /// A higher number is stored.
    #[error("a newer publication is stored")]
    Old,
    /// Other bytes are stored under the same number.
    #[error("another record with the same number is stored")]
    Conflict,
    /// The source holds as many records as one source may.
    #[error("the source has stored all it may")]
    SourceFull,
}

struct Entry {
    record: Record,
    expires: Time,
    source: Source,
}

/// Records of others, by topic.
pub struct RecordStore {
    limits: RecordLimits,
    records: BTreeMap<Topic, Entry>,
    /// Soonest to expire first.
    by_expiry: BTreeSet<(Time, Topic)>,
    by_source: BTreeMap<Source, BTreeSet<(Time, Topic)>>,
    /// The source that holds most comes last; among equals the one whose soonest record expires first.
    ranking: BTreeSet<(usize, Reverse<Time>, Source)>,
    counters: RecordCounters,
}

impl RecordStore {
    /// An empty store.
    pub fn new(limits: RecordLimits) -> RecordStore {
        RecordStore {
            limits,
            records: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            by_source: BTreeMap::new(),
            ranking: BTreeSet::new(),
            counters: RecordCounters::default(),
        }
    }

    /// Takes what `source` wants stored under `key`. What costs least is checked first, the signature last.
    ///
    /// A record lives its ttl, at most 900 s, from the first receipt of its number: putting it again does not extend
    /// its life. A newer publication stays on the account of the source that first used the topic, since it takes no
    /// new room. In a full store the soonest to expire of the source that holds most makes room.
    pub fn put(&mut self, key: &[u8], value: &[u8], source: Source, now: Time) -> Result<Stored, Refusal> {
        let topic = match <[u8; 32]>::try_from(key) {
            Ok(key) => Topic(key),
            Err(_) => return Err(self.refuse(Refusal::Invalid)),
        };
        self.drop_if_expired(topic, now);
        match self.records.get(&topic) {
            Some(entry) if entry.record.as_bytes() == value => {
                self.counters.repeated += 1;
                return Ok(Stored::Repeated);
            }
            Some(_) => {}
            None if self.held_by(source) >= self.limits.per_source => {
                return Err(self.refuse(Refusal::SourceFull));
            }
            None => {}
        }
        let Ok(record) = Record::validate(key, value) else {
            return Err(self.refuse(Refusal::Invalid));
        };
        let expires = now + record.ttl().min(Duration::from_secs(u64::from(MAX_TTL)));
        let outcome = match self.records.get(&topic) {
            Some(entry) if entry.record.seq() > record.seq() => {
                return Err(self.refuse(Refusal::Old));
            }
            Some(entry) if entry.record.seq() == record.seq() => {
                return Err(self.refuse(Refusal::Conflict));
            }
            Some(entry) => {
                let source = entry.source;
                self.remove(topic);
                self.insert(topic, record, expires, source);
                Stored::Newer
            }
            None => {
                self.sweep(now);
                if self.records.len() >= self.limits.total {
                    self.evict();
                }
                self.insert(topic, record, expires, source);
                Stored::New
            }
        };
        self.counters.stored += 1;
        Ok(outcome)
    }

    /// Removes what has expired; to be called every half minute, so that memory follows use.
    pub fn sweep(&mut self, now: Time) {
        while let Some((expires, topic)) = self.by_expiry.first().copied() {
            if expires > now {
                break;
            }
            self.remove(topic);
            self.counters.expired += 1;
        }
    }

    /// The record of `topic`, unless its time is over.
    pub fn get(&self, topic: &Topic, now: Time) -> Option<&Record> {
        self.records.get(topic).filter(|entry| entry.expires > now).map(|entry| &entry.record)
    }

    /// How many records take room now, those included that expired since the last sweep.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What the store has done so far.
    pub fn counters(&self) -> RecordCounters {
        self.counters
    }

    fn refuse(&mut self, refusal: Refusal) -> Refusal {
        let counter = match refusal {
            Refusal::Invalid => &mut self.counters.refused_invalid,
            Refusal::Old => &mut self.counters.refused_old,
            Refusal::Conflict => &mut self.counters.refused_conflict,
            Refusal::SourceFull => &mut self.counters.refused_source_full,
        };
        *counter += 1;
        refusal
    }

    fn held_by(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, BTreeSet::len)
    }

    fn drop_if_expired(&mut self, topic: Topic, now: Time) {
        if self.records.get(&topic).is_some_and(|e| e.expires <= now) {
            self.remove(topic);
            self.counters.expired += 1;
        }
    }

    fn evict(&mut self) {
        let victim = self
            .ranking
            .last()
            .and_then(|(_, _, source)| self.by_source.get(source))
            .and_then(|held| held.first().copied());
        if let Some((_, topic)) = victim {
            self.remove(topic);
            self.counters.evicted += 1;
        }
    }

    fn insert(&mut self, topic: Topic, record: Record, expires: Time, source: Source) {
        self.unrank(source);
        self.by_source.entry(source).or_default().insert((expires, topic));
        self.rank(source);
        self.by_expiry.insert((expires, topic));
        self.records.insert(topic, Entry { record, expires, source });
    }

    fn remove(&mut self, topic: Topic) {
        let Some(entry) = self.records.remove(&topic) else {
            return;
        };
        self.by_expiry.remove(&(entry.expires, topic));
        self.unrank(entry.source);
        if let Some(held) = self.by_source.get_mut(&entry.source) {
            held.remove(&(entry.expires, topic));
            if held.is_empty() {
                self.by_source.remove(&entry.source);
            }
        }
        self.rank(entry.source);
    }

    fn rank(&mut self, source: Source) {
        if let Some(rank) = self.rank_of(source) {
            self.ranking.insert(rank);
        }
    }

    fn unrank(&mut self, source: Source) {
        if let Some(rank) = self.rank_of(source) {
            self.ranking.remove(&rank);
        }
    }

    fn rank_of(&self, source: Source) -> Option<(usize, Reverse<Time>, Source)> {
        let held = self.by_source.get(&source)?;
        let (soonest, _) = held.first()?;
        Some((held.len(), Reverse(*soonest), source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Rng, Secret};
    use crate::wire::record::{RECORD_LEN, RecordKeys};

    const LIMITS: RecordLimits = RecordLimits { total: 8, per_source: 4 };

    fn record(name: u16, seq: u64, ttl: u16) -> Record {
        sealed(name, seq, ttl, 0)
    }

    fn sealed(name: u16, seq: u64, ttl: u16, draw: u8) -> Record {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&name.to_be_bytes());
        let keys = RecordKeys::new(&Secret::new(seed), Secret::new([1; 32]));
        keys.seal(b"advert", seq, ttl, &mut Rng::from_seed(Secret::new([draw; 32])))
    }

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn source(n: u8) -> Source {
        Source::of(IpAddr::from([5, 1, n, 9]))
    }

    fn put(store: &mut RecordStore, r: &Record, from: Source, now: u64) -> Result<Stored, Refusal> {
        store.put(&r.topic().0, r.as_bytes(), from, at(now))
    }

    #[test]
    fn a17_what_is_no_valid_record_of_its_key_is_refused() {
        let mut store = RecordStore::new(LIMITS);
        let good = record(1, 3, 60);
        let key = good.topic().0;
        let bytes = good.as_bytes();
        let changed = |at: usize| {
            let mut out = *bytes;
            out[at] ^= 1;
            out
        };
        let mut long = bytes.to_vec();
        long.push(0);
        let mut ttl_zero = *bytes;
        ttl_zero[40..42].copy_from_slice(&0u16.to_be_bytes());
        let mut ttl_long = *bytes;
        ttl_long[40..42].copy_from_slice(&901u16.to_be_bytes());
        let cases: [(&str, &[u8], &[u8]); 10] = [
            ("empty", &key, &[]),
            ("short", &key, &bytes[..RECORD_LEN - 1]),
            ("long", &key, &long),
            ("short key", &key[..31], bytes),
            ("another key", &record(2, 3, 60).topic().0, bytes),
            ("another pk_r", &key, &changed(0)),
            ("another seq", &key, &changed(39)),
            ("ttl 0", &key, &ttl_zero),
            ("ttl 901", &key, &ttl_long),
            ("another byte in the seal", &key, &changed(783)),
        ];
        for (what, key, value) in cases {
            assert_eq!(store.put(key, value, source(1), at(0)), Err(Refusal::Invalid), "{what}");
        }
        assert!(store.is_empty());
        assert_eq!(store.counters().refused_invalid, 10);
    }

    #[test]
    fn a17_a_lower_number_and_another_record_of_the_same_number_are_refused() {
        let mut store = RecordStore::new(LIMITS);
        assert_eq!(put(&mut store, &record(1, 5, 60), source(1), 0), Ok(Stored::New));
        assert_eq!(put(&mut store, &record(1, 4, 60), source(1), 1), Err(Refusal::Old));
        assert_eq!(put(&mut store, &sealed(1, 5, 60, 9), source(1), 1), Err(Refusal::Conflict));
        assert_eq!(put(&mut store, &record(1, 6, 60), source(1), 2), Ok(Stored::Newer));
        assert_eq!(store.get(&record(1, 6, 60).topic(), at(3)).map(Record::seq), Some(6));
        assert_eq!(store.len(), 1);
        let counters = store.counters();
        assert_eq!((counters.stored, counters.refused_old, counters.refused_conflict), (2, 1, 1));
    }

    #[test]
    fn a20_putting_a_record_again_does_not_extend_its_life() {
        let mut store = RecordStore::new(LIMITS);
        let r = record(1, 1, 60);
        assert_eq!(put(&mut store, &r, source(1), 0), Ok(Stored::New));
        for now in [30, 59] {
            assert_eq!(put(&mut store, &r, source(2), now), Ok(Stored::Repeated));
        }
        assert!(store.get(&r.topic(), at(59)).is_some());
        assert!(store.get(&r.topic(), at(60)).is_none(), "before any sweep");
        // Put anew after its death it starts over, as the protocol accepts (attack 19).
        assert_eq!(put(&mut store, &r, source(1), 61), Ok(Stored::New));
        assert_eq!(store.counters().expired, 1);
    }

    #[test]
    fn a_newer_publication_lives_from_its_own_receipt() {
        let mut store = RecordStore::new(LIMITS);
        put(&mut store, &record(1, 1, 60), source(1), 0).expect("stored");
        put(&mut store, &record(1, 2, 60), source(1), 50).expect("stored");
        store.sweep(at(100));
        assert_eq!(store.len(), 1);
        store.sweep(at(110));
        assert!(store.is_empty());
    }

    #[test]
    fn a21_one_source_is_capped_and_nobody_else_pays() {
        let mut store = RecordStore::new(LIMITS);
        put(&mut store, &record(100, 1, 60), source(2), 0).expect("stored");
        for name in 0..4 {
            put(&mut store, &record(name, 1, 900), source(1), 0).expect("stored");
        }
        assert_eq!(put(&mut store, &record(50, 1, 900), source(1), 1), Err(Refusal::SourceFull));
        assert_eq!(put(&mut store, &record(3, 2, 900), source(1), 1), Ok(Stored::Newer), "a refresh takes no new room");
        assert!(store.get(&record(100, 1, 60).topic(), at(1)).is_some());
        assert_eq!(store.len(), 5);
    }

    #[test]
    fn a21_a_full_store_evicts_the_soonest_to_expire_of_the_source_that_holds_most() {
        let mut store = RecordStore::new(LIMITS);
        let lone = record(100, 1, 5);
        put(&mut store, &lone, source(9), 0).expect("stored");
        for name in 0..4 {
            put(&mut store, &record(name, 1, 100 - name), source(1), 0).expect("stored");
        }
        for name in 10..13 {
            put(&mut store, &record(name, 1, 50), source(2), 0).expect("stored");
        }
        assert_eq!(store.len(), 8);
        put(&mut store, &record(200, 1, 60), source(3), 1).expect("stored");
        assert_eq!(store.len(), 8);
        assert_eq!(store.counters().evicted, 1);
        assert!(store.get(&lone.topic(), at(1)).is_some());
        assert!(store.get(&record(3, 1, 97).topic(), at(1)).is_none());
        assert!(store.get(&record(2, 1, 98).topic(), at(1)).is_some());
    }

    #[test]
    fn a_full_store_with_dead_records_evicts_nobody() {
        let mut store = RecordStore::new(LIMITS);
        for n in 0..8 {
            put(&mut store, &record(n.into(), 1, 10), source(n), 0).expect("stored");
        }
        put(&mut store, &record(9, 1, 10), source(9), 10).expect("stored");
        assert_eq!(store.len(), 1);
        assert_eq!((store.counters().evicted, store.counters().expired), (0, 8));
    }

    #[test]
    fn among_sources_that_hold_equally_many_the_soonest_to_expire_goes() {
        let mut store = RecordStore::new(LIMITS);
        for n in 0..8 {
            put(&mut store, &record(n.into(), 1, 100 - u16::from(n)), source(n), 0).expect("stored");
        }
        put(&mut store, &record(20, 1, 10), source(20), 1).expect("stored");
        assert!(store.get(&record(7, 1, 93).topic(), at(1)).is_none());
        assert_eq!(store.len(), 8);
    }

    #[test]
    fn the_indexes_agree_after_any_sequence_of_puts_and_sweeps() {
        let mut store = RecordStore::new(LIMITS);
        let mut rng = Rng::from_seed(Secret::new([3; 32]));
        let pool: Vec<Record> = (0..24).map(|n| record(n % 12, u64::from(n / 12) + 1, 5 + n)).collect();
        for now in 0..600 {
            let r = &pool[rng.below(24) as usize];
            let _ = put(&mut store, r, source(rng.below(5) as u8), now);
            if rng.below(7) == 0 {
                store.sweep(at(now));
            }
            assert!(store.len() <= LIMITS.total);
            assert_eq!(store.by_expiry.len(), store.records.len());
            assert_eq!(store.ranking.len(), store.by_source.len());
            let held: usize = store.by_source.values().map(BTreeSet::len).sum();
            assert_eq!(held, store.records.len());
            for (source, held) in &store.by_source {
                assert!(!held.is_empty() && held.len() <= LIMITS.per_source);
                assert!(store.ranking.contains(&store.rank_of(*source).expect("ranked")));
            }
        }
    }

    #[test]
    fn a_source_is_a_24_or_a_56() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("5.1.2.3"), of("5.1.2.200"));
        assert_ne!(of("5.1.2.3"), of("5.1.3.3"));
        assert_eq!(of("2a0a:1:2:3::1"), of("2a0a:1:2:ff::9"));
        assert_ne!(of("2a0a:1:2:3::1"), of("2a0a:1:2:103::1"));
        assert_ne!(of("0.0.0.0"), of("::"));
    }
}
