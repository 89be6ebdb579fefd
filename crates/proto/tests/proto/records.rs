//! The life of a record: published, refreshed and buried by whoever shows the code, and kept by a node that a hundred
//! thousand others want to push it out of.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::Code;
use handfast_proto::keys::CodeKeys;
use handfast_proto::limits;
use handfast_proto::records::{RecordLimits, RecordStore, Source, Stored};
use handfast_proto::secret::Secret;
use handfast_proto::session::{Consent, Job, JobResult};
use handfast_proto::time::Time;
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::record::{Record, RecordKeys};

use crate::bench::{Bench, rng};
use crate::path::TTL;
use crate::sim::world::World;

/// A publication: when, number, life, and what it says.
type Published = (u64, u64, u64, AdvertState);

/// Lets time pass second by second and takes every publication on the way.
fn publications(bench: &mut Bench, code: &Code, seconds: u64) -> Vec<Published> {
    let keys = CodeKeys::derive(code);
    let mut seen = Vec::new();
    for _ in 0..=seconds {
        while let Some(at) = bench.jobs.iter().position(|(_, job)| matches!(job, Job::Publish(_))) {
            let (id, job) = bench.jobs.remove(at);
            let Job::Publish(record) = job else { unreachable!("it was just looked at") };
            let plain = keys.record().open(&record).expect("the code's own record");
            let advert = Advert::of_code(&plain).expect("an advert");
            seen.push((bench.now.as_secs(), record.seq(), record.ttl().as_secs(), advert.state));
            bench.job_done(id, JobResult::Published { stored_on: 3 });
        }
        bench.wait(Duration::from_secs(1));
    }
    seen
}

/// A bench that leaves publications to the test.
fn publisher(ttl: u64) -> (Bench, handfast_proto::id::SessionId, Code) {
    let mut bench = Bench::new(1);
    bench.dht_is_gone = true;
    let (session, code) = bench.code(ttl);
    (bench, session, code)
}

#[test]
fn a_record_is_refreshed_with_the_next_number_until_its_code_expires_and_then_buried_twice() {
    let (mut bench, _, code) = publisher(300);
    let expected = [
        (0, 1, 360, AdvertState::Open),
        (120, 2, 240, AdvertState::Open),
        (240, 3, 120, AdvertState::Open),
        (300, 4, 900, AdvertState::Expired),
        (330, 5, 900, AdvertState::Expired),
    ];
    assert_eq!(publications(&mut bench, &code, 1_000), expected);
    assert_eq!(limits::REPUBLISH, Duration::from_secs(120));
}

#[test]
fn a_cancelled_code_is_buried_twice_and_published_no_more() {
    let (mut bench, session, code) = publisher(600);
    assert_eq!(publications(&mut bench, &code, 9), [(0, 1, 660, AdvertState::Open)]);
    assert!(bench.cancel(&session));
    let expected = [(10, 2, 900, AdvertState::Cancelled), (40, 3, 900, AdvertState::Cancelled)];
    assert_eq!(publications(&mut bench, &code, 1_000), expected);
}

#[test]
fn after_success_the_record_alone_says_that_the_code_is_used() {
    let mut world = World::of(3);
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.join(1, &code, Consent::Ask);
    world.ending(1).0.expect("paired");
    world.run_for(Duration::from_secs(2));
    world.crash(0);
    world.join(2, &code, Consent::Ask);
    assert_eq!(world.ending(2).0, Err(Cause::CodeUsed));
}

#[test]
fn the_record_of_a_device_that_is_gone_dies_by_itself_and_is_a_miss_from_then_on() {
    let mut world = World::of(2);
    let (_, code) = world.generate(0, Duration::from_secs(300), Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.crash(0);
    let topic = CodeKeys::derive(&code).topic();
    let holders = |world: &World| {
        let now = Time::at(world.now);
        world.nodes.iter().filter(|node| node.store.get(&topic, now).is_some()).count()
    };
    world.run_for(Duration::from_secs(358));
    assert!(holders(&world) > 0, "it lives a minute longer than the code");
    world.run_for(Duration::from_secs(2));
    assert_eq!(holders(&world), 0);
    world.join(1, &code, Consent::Ask);
    assert_eq!(world.ending(1).0, Err(Cause::NotFound));
}

/// Puts of others, in all.
const HOSTILE: u32 = 100_000;

/// Records that they have: they put each again and again, whenever it is gone.
const POOL: usize = 2_000;

/// A small store, so that it is full most of the time.
const LIMITS: RecordLimits = RecordLimits { total: 1_024, per_source: 16 };

/// Honest records, each of a source of its own, refreshed as often as one is here while so many others come.
const HONEST: u8 = 8;
const REFRESH: u32 = 5_000;

#[test]
fn a21_of_a_hundred_thousand_hostile_puts_none_pushes_out_an_honest_record_and_each_is_counted() {
    let mut draw = rng(1);
    let pool: Vec<Record> = (0..POOL)
        .map(|n| {
            // A third are other numbers and other bytes of topics that are there already.
            let topic = n % (POOL * 2 / 3);
            let mut seed = [9; 32];
            seed[..8].copy_from_slice(&topic.to_be_bytes());
            let keys = RecordKeys::new(&Secret::new(seed), Secret::new([1; 32]));
            let seq = if topic == n { 3 } else { [2, 3, 4][n % 3] };
            keys.seal(b"hostile", seq, 30 + u16::try_from(n % 300).expect("small"), &mut draw)
        })
        .collect();
    let honest: Vec<RecordKeys> =
        (0..HONEST).map(|n| RecordKeys::new(&Secret::new([100 + n; 32]), Secret::new([1; 32]))).collect();
    let mut store = RecordStore::new(LIMITS);
    let (mut puts, mut seq) = (0_u64, 0);
    for n in 0..HOSTILE {
        let now = Time::at(Duration::from_millis(u64::from(n) * 20));
        if n % REFRESH == 0 {
            seq += 1;
            for (keys, home) in honest.iter().zip(1..) {
                let record = keys.seal(b"honest", seq, 400, &mut draw);
                let source = Source::of(IpAddr::V4(Ipv4Addr::new(5, 1, home, 1)));
                let stored = store.put(&keys.topic().0, record.as_bytes(), source, now);
                assert!(matches!(stored, Ok(Stored::New | Stored::Newer)), "{stored:?}");
                puts += 1;
            }
        }
        // From few networks, then from many.
        let networks = if n < HOSTILE / 2 { 4 } else { 600 };
        let network = u16::try_from(draw.below(networks)).expect("few");
        let [high, low] = network.to_be_bytes();
        let source = Source::of(IpAddr::V4(Ipv4Addr::new(23, high, low, 1)));
        let record = &pool[usize::try_from(draw.below(POOL as u64)).expect("an index")];
        let mut bytes = record.as_bytes().to_vec();
        match draw.below(8) {
            0 => bytes[783] ^= 1,
            1 => bytes.push(0),
            _ => {}
        }
        // What becomes of it is counted.
        let _ = store.put(&record.topic().0, &bytes, source, now);
        puts += 1;
        assert!(store.len() <= LIMITS.total);
        for keys in &honest {
            assert_eq!(store.get(&keys.topic(), now).map(Record::seq), Some(seq), "after {n} puts");
        }
    }
    let counters = store.counters();
    assert_eq!(counters.stored + counters.repeated + counters.refused(), puts);
    for (what, count) in [
        ("stored", counters.stored),
        ("repeated", counters.repeated),
        ("invalid", counters.refused_invalid),
        ("old", counters.refused_old),
        ("conflict", counters.refused_conflict),
        ("source full", counters.refused_source_full),
        ("evicted", counters.evicted),
        ("expired", counters.expired),
    ] {
        assert!(count > 500, "{what}: {count} of {counters:?}");
    }
    store.sweep(Time::at(Duration::from_secs(10_000)));
    assert!(store.is_empty());
}
