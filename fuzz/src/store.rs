//! The records that a node stores for others, beside a model of them that is a plain list.

use std::net::{IpAddr, Ipv4Addr};

use handfast_proto::records::{RecordLimits, RecordStore, Refusal, Source, Stored};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::time::Time;
use handfast_proto::wire::record::{Record, RecordKeys};

use crate::input::Input;

/// Few, so that a short case reaches them.
const LIMITS: RecordLimits = RecordLimits { total: 4, per_source: 2 };
/// Operations of one case: each costs a signature.
const MAX_STEPS: usize = 40;

/// What the model holds: the record, when it ends, on whose account.
type Held = (Record, Time, u8);

/// Puts, reads and sweeps in any order at any time.
pub(crate) fn record_store(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut store = RecordStore::new(LIMITS);
    let mut model: Vec<Held> = Vec::new();
    let mut now = Time::ZERO;
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => now = now + input.millis() * 16,
            1 => store.sweep(now),
            2 => {
                let mut value = record(input.byte() % 6, 1, 900, 0).as_bytes().to_vec();
                let changed = input.change(&mut value);
                let topic: [u8; 32] = record(0, 1, 900, 0).topic().0;
                assert!(!changed || store.put(&topic, &value, source(0), now).is_err(), "a changed record was stored");
            }
            _ => {
                let (who, seq, ttl) = (input.byte() % 6, u64::from(input.byte() % 4), u16::from(input.byte()) * 4);
                let (from, salt) = (input.byte() % 4, input.byte() % 2);
                let record = record(who, seq, ttl, salt);
                let result = store.put(&record.topic().0, record.as_bytes(), source(from), now);
                check_put(&mut model, record, from, now, result);
            }
        }
        check(&store, &mut model, now);
    }
}

fn record(who: u8, seq: u64, ttl: u16, salt: u8) -> Record {
    let keys = RecordKeys::new(&Secret::new([who + 1; 32]), Secret::new([2; 32]));
    keys.seal(&[salt], seq, ttl, &mut Rng::from_seed(Secret::new([salt; 32])))
}

fn source(n: u8) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::new(5, 1, n, 1)))
}

fn check_put(model: &mut Vec<Held>, record: Record, from: u8, now: Time, result: Result<Stored, Refusal>) {
    let known = model.iter().position(|(held, end, _)| held.topic() == record.topic() && *end > now);
    let held = known.map(|at| model[at].0.clone());
    let end = now + record.ttl();
    match (result, held) {
        (Ok(Stored::Repeated), Some(held)) => assert!(held == record),
        (Ok(Stored::Newer), Some(held)) => {
            assert!(record.seq() > held.seq());
            let account = known.map_or(from, |at| model[at].2);
            model.retain(|(held, ..)| held.topic() != record.topic());
            model.push((record, end, account));
        }
        (Ok(Stored::New), None) => {
            model.retain(|(held, ..)| held.topic() != record.topic());
            model.push((record, end, from));
        }
        (Err(Refusal::Old), Some(held)) => assert!(record.seq() < held.seq()),
        (Err(Refusal::Conflict), Some(held)) => assert!(record.seq() == held.seq() && record != held),
        (Err(Refusal::SourceFull), None) => {
            let held = model.iter().filter(|(.., account)| *account == from).count();
            assert!(held >= LIMITS.per_source, "{held} of this source");
        }
        (result, held) => panic!("{result:?} with {held:?} stored"),
    }
}

fn check(store: &RecordStore, model: &mut Vec<Held>, now: Time) {
    assert!(store.len() <= LIMITS.total);
    // What made room, or whose time is over, is gone; nothing else is.
    model.retain(|(record, end, _)| *end <= now || store.get(&record.topic(), now) == Some(record));
    let alive = model.iter().filter(|(_, end, _)| *end > now).count();
    assert!(alive <= store.len(), "{alive} alive of {}", store.len());
    for who in 0..6 {
        let topic = record(who, 1, 1, 0).topic();
        let held = model.iter().find(|(record, end, _)| record.topic() == topic && *end > now);
        assert_eq!(store.get(&topic, now), held.map(|(record, ..)| record));
    }
    let evicted = store.counters().evicted;
    assert!(evicted == 0 || store.counters().stored > LIMITS.total as u64);
    for account in 0..4 {
        let held = model.iter().filter(|(_, end, from)| *from == account && *end > now).count();
        assert!(held <= LIMITS.per_source, "{held} of source {account}");
    }
}
