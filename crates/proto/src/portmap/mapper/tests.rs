//! The mapper in virtual time, with routers of every kind.

use proptest::prelude::*;

use super::*;
use crate::secret::{Rng, Secret};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 5);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(5, 1, 2, 3);
const UPLINK: Uplink = Uplink { gateway: ROUTER, source: OURS };
const HOUR: u64 = 3_600;

fn at(seconds: u64) -> Time {
    Time::at(Duration::from_secs(seconds))
}

fn listeners() -> Vec<Address> {
    let texts = ["/ip4/192.168.1.5/udp/4001/quic-v1", "/ip4/192.168.1.5/tcp/4002", "/ip4/127.0.0.1/tcp/4002"];
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn rng() -> Rng {
    Rng::from_seed(Secret::new([7; 32]))
}

fn mapper(left: Vec<Mapping>) -> Mapper {
    let mut mapper = Mapper::new(true, left, rng());
    mapper.set_surroundings(&[UPLINK], &listeners(), at(0));
    mapper.set_wanted(true, at(0));
    mapper
}

fn granted(job: Job, lease: u32) -> Outcome {
    Outcome::Mapped(Granted { outside: SocketAddrV4::new(PUBLIC, job.mapping.outside_port), lease })
}

/// Runs until `until` with a router that answers at once; every job with its time. Fails if a job was not written down
/// before, or if the mapper wants to be asked again without end.
fn run(mapper: &mut Mapper, from: Time, until: Time, mut router: impl FnMut(Job) -> Outcome) -> Vec<(Time, Job)> {
    let (mut now, mut jobs) = (from, Vec::new());
    for _ in 0..10_000 {
        mapper.handle_timeout(now);
        if let Some(keep) = mapper.poll_keep() {
            assert!(keep.len() <= MAX_KEPT);
            mapper.kept(keep);
        }
        if let Some(job) = mapper.poll_job(now) {
            assert!(mapper.durable.contains(&job.mapping), "written down before");
            jobs.push((now, job));
            let outcome = router(job);
            mapper.done(job, outcome, now);
            continue;
        }
        match mapper.poll_timeout() {
            Some(next) if next <= until => now = next.max(now),
            _ => return jobs,
        }
    }
    panic!("it does not come to rest: {:?}", &jobs[jobs.len().saturating_sub(5)..]);
}

fn no_answer(_: Job) -> Outcome {
    Outcome::Failed(Refusal::Silent)
}

/// Speaks one method, for as long as it is asked for.
fn speaks(method: Method) -> impl FnMut(Job) -> Outcome {
    move |job| match job.task {
        _ if job.mapping.method != method => Outcome::Failed(Refusal::Silent),
        Task::Map { lease } => granted(job, lease),
        Task::Unmap => Outcome::Removed,
    }
}

#[test]
fn a_second_after_the_start_both_ports_are_mapped_by_what_the_router_speaks() {
    for (method, asked) in [(Method::Pcp, 2), (Method::NatPmp, 3), (Method::Upnp, 4)] {
        let mut mapper = mapper(Vec::new());
        assert!(run(&mut mapper, at(0), Time::at(Duration::from_millis(999)), no_answer).is_empty());
        let jobs = run(&mut mapper, at(1), at(2), speaks(method));
        assert_eq!(jobs.len(), asked, "the second port profits of what the first has found");
        let outside: Vec<String> = mapper.outside().map(|a| a.to_string()).collect();
        assert_eq!(outside, ["/ip4/5.1.2.3/udp/4001/quic-v1", "/ip4/5.1.2.3/tcp/4002"]);
    }
}

#[test]
fn it_is_renewed_at_half_the_lease_and_gone_when_the_router_is_deaf_until_its_end() {
    let mut mapper = mapper(Vec::new());
    let short = |job: Job| granted(job, 120);
    let jobs = run(&mut mapper, at(0), at(301), short);
    let times: Vec<u64> = jobs.iter().map(|(now, _)| now.since_origin().as_secs()).collect();
    assert_eq!(times, [1, 1, 61, 61, 121, 121, 181, 181, 241, 241, 301, 301]);
    assert!(run(&mut mapper, at(301), at(420), no_answer).len() >= 6, "tried again meanwhile");
    assert_eq!(mapper.outside().count(), 2);
    run(&mut mapper, at(420), at(421), no_answer);
    assert_eq!(mapper.outside().count(), 0);
}

#[test]
fn where_nobody_answers_it_is_tried_again_ever_later() {
    let mut mapper = mapper(Vec::new());
    let jobs = run(&mut mapper, at(0), at(24 * HOUR), no_answer);
    assert_eq!(
        jobs[..3].iter().map(|(_, job)| job.mapping.method).collect::<Vec<_>>(),
        [Method::Pcp, Method::NatPmp, Method::Upnp]
    );
    assert!(jobs.len() < 600, "{}", jobs.len());
    let last = jobs.iter().rev().find(|(_, job)| job.mapping.method == Method::Pcp).expect("one").0;
    assert!(at(24 * HOUR).since(last) <= RETRY_MAX, "still now and then");
}

#[test]
fn what_cannot_be_true_is_not_believed_and_taken_back() {
    let lies = [
        (Ipv4Addr::new(192, 168, 0, 2), 4_001, LEASE),
        (Ipv4Addr::new(100, 64, 0, 2), 4_001, LEASE),
        (Ipv4Addr::UNSPECIFIED, 4_001, LEASE),
        (Ipv4Addr::LOCALHOST, 4_001, LEASE),
        (Ipv4Addr::new(224, 0, 0, 1), 4_001, LEASE),
        (PUBLIC, 0, LEASE),
        (PUBLIC, 4_001, 1),
    ];
    for (ip, port, lease) in lies {
        let mut mapper = mapper(Vec::new());
        let jobs = run(&mut mapper, at(0), at(30), |job| match job.task {
            Task::Map { .. } => Outcome::Mapped(Granted { outside: SocketAddrV4::new(ip, port), lease }),
            Task::Unmap => Outcome::Removed,
        });
        assert_eq!(mapper.outside().count(), 0, "{ip}:{port} for {lease}");
        assert_eq!(jobs.len(), 2, "{jobs:?}");
        assert_eq!((jobs[1].1.task, jobs[1].1.mapping), (Task::Unmap, jobs[0].1.mapping));
    }
}

#[test]
fn another_port_than_the_wanted_one_is_fine_and_asked_for_again() {
    let mut mapper = mapper(Vec::new());
    let other = |_| Outcome::Mapped(Granted { outside: SocketAddrV4::new(PUBLIC, 61_000), lease: 600 });
    let jobs = run(&mut mapper, at(0), at(301), other);
    assert!(mapper.outside().all(|a| a.port == 61_000));
    assert_eq!(jobs.last().expect("a renewal").1.mapping.outside_port, 61_000);
}

#[test]
fn a_taken_port_is_exchanged_for_others_but_not_for_ever() {
    let mut mapper = mapper(Vec::new());
    let jobs = run(&mut mapper, at(0), at(30), |job| match job.mapping.outside_port {
        4001 | 4002 => Outcome::Failed(Refusal::Taken),
        _ => granted(job, LEASE),
    });
    assert_eq!((jobs.len(), mapper.outside().count()), (4, 2));
    assert!(mapper.outside().all(|a| a.port >= FIRST_DYNAMIC));
    let mut mapper = self::mapper(Vec::new());
    let jobs = run(&mut mapper, at(0), at(30), |_| Outcome::Failed(Refusal::Taken));
    assert_eq!(jobs.len(), 3 * (MAX_OTHERS as usize + 1));
}

#[test]
fn a_router_that_maps_for_ever_only_is_asked_so_and_looked_at_again() {
    let mut mapper = mapper(Vec::new());
    let mut router = |job: Job| match job.task {
        Task::Map { lease: 0 } => granted(job, 0),
        Task::Map { .. } => Outcome::Failed(Refusal::OnlyPermanent),
        Task::Unmap => Outcome::Removed,
    };
    run(&mut mapper, at(0), at(30), &mut router);
    assert_eq!(mapper.outside().count(), 2);
    let jobs = run(&mut mapper, at(30), at(HOUR + 1), &mut router);
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    mapper.set_wanted(false, at(HOUR + 1));
    let jobs = run(&mut mapper, at(HOUR + 1), at(HOUR + 1), &mut router);
    assert!(jobs.iter().all(|(_, job)| job.task == Task::Unmap) && jobs.len() == 2, "ours to take back");
}

#[test]
fn what_is_no_longer_wanted_is_taken_back_and_wanted_again_without_delay() {
    let mut mapper = mapper(Vec::new());
    run(&mut mapper, at(0), at(30), speaks(Method::NatPmp));
    mapper.set_wanted(false, at(30));
    assert!(!mapper.is_idle(at(30)) && mapper.outside().count() == 0);
    assert_eq!(run(&mut mapper, at(30), at(31), speaks(Method::NatPmp)).len(), 2);
    assert!(mapper.is_idle(at(31)));
    assert_eq!((mapper.poll_keep(), mapper.durable.len(), mapper.poll_timeout()), (None, 0, None));
    mapper.set_wanted(true, at(40));
    assert_eq!(run(&mut mapper, at(40), at(40), speaks(Method::NatPmp)).len(), 2);
}

#[test]
fn what_an_earlier_run_has_left_is_taken_back_or_used_again() {
    let mut first = mapper(Vec::new());
    run(&mut first, at(0), at(30), speaks(Method::Upnp));
    let left = first.durable.clone();
    assert_eq!(left.len(), 2);
    // Nobody wants it now.
    let mut mapper = Mapper::new(true, left.clone(), rng());
    mapper.set_surroundings(&[UPLINK], &[], at(0));
    let jobs = run(&mut mapper, at(0), at(30), speaks(Method::Upnp));
    assert_eq!(jobs.iter().map(|(_, job)| job.mapping).collect::<Vec<_>>(), left);
    assert!(jobs.iter().all(|(_, job)| job.task == Task::Unmap) && mapper.durable.is_empty());
    // In another network it waits.
    let mut mapper = Mapper::new(true, left.clone(), rng());
    let elsewhere = Uplink { gateway: Ipv4Addr::new(10, 0, 0, 1), source: Ipv4Addr::new(10, 0, 0, 2) };
    mapper.set_surroundings(&[elsewhere], &[], at(0));
    assert!(run(&mut mapper, at(0), at(HOUR), no_answer).is_empty() && mapper.durable == left);
    // Wanted as before: nothing is taken back in between.
    let mut mapper = self::mapper(left.clone());
    let jobs = run(&mut mapper, at(0), at(30), speaks(Method::Upnp));
    assert!(jobs.iter().any(|(_, job)| job.task == Task::Map { lease: LEASE }));
    assert_eq!(mapper.outside().count(), 2);
    // A router that is deaf is not asked for ever.
    let mut mapper = Mapper::new(true, left, rng());
    mapper.set_surroundings(&[UPLINK], &[], at(0));
    let jobs = run(&mut mapper, at(0), at(HOUR), no_answer);
    assert_eq!((jobs.len(), mapper.durable.len()), (2 * REMOVALS as usize, 0));
}

#[test]
fn after_a_change_of_network_it_is_not_believed_until_asked_again() {
    let mut mapper = mapper(Vec::new());
    run(&mut mapper, at(0), at(30), speaks(Method::Upnp));
    mapper.moved(at(30));
    assert_eq!(mapper.outside().count(), 0);
    let jobs = run(&mut mapper, at(30), at(40), speaks(Method::Pcp));
    assert_eq!(mapper.outside().count(), 2, "the other router speaks another language: {jobs:?}");
    let elsewhere = Uplink { gateway: Ipv4Addr::new(10, 0, 0, 1), source: Ipv4Addr::new(10, 0, 0, 2) };
    mapper.set_surroundings(&[elsewhere], &["/ip4/10.0.0.2/tcp/4002".parse().expect("good")], at(50));
    assert_eq!(mapper.outside().count(), 0);
    let jobs = run(&mut mapper, at(50), at(60), speaks(Method::Pcp));
    assert!(jobs.iter().all(|(_, job)| job.mapping.gateway == elsewhere.gateway), "{jobs:?}");
    assert_eq!((mapper.outside().count(), mapper.durable.len()), (1, 3), "the old ones wait for their router");
    mapper.set_surroundings(&[UPLINK], &[], at(70));
    assert_eq!(run(&mut mapper, at(70), at(80), |_| Outcome::Removed).len(), 2);
}

#[test]
fn after_a_sleep_a_router_is_given_time_to_come_up_and_what_it_has_is_not_forgotten() {
    let mut mapper = mapper(Vec::new());
    run(&mut mapper, at(0), at(30), speaks(Method::Upnp));
    let held = mapper.durable.clone();
    mapper.resumed(at(30));
    let jobs = run(&mut mapper, at(30), at(60), |_| Outcome::Failed(Refusal::Unsupported));
    assert!(jobs.iter().all(|(_, job)| held.contains(&job.mapping)), "it is asked for the same: {jobs:?}");
    run(&mut mapper, at(60), at(76), speaks(Method::Upnp));
    assert_eq!((mapper.outside().count(), mapper.durable.clone()), (2, held.clone()));
    // One that stays away: it is taken back when it comes, or used again.
    mapper.resumed(at(100));
    run(&mut mapper, at(100), at(160), |_| Outcome::Failed(Refusal::Unsupported));
    assert_eq!(mapper.outside().count(), 0);
    assert!(mapper.durable.iter().all(|mapping| held.contains(mapping)));
}

#[test]
fn routers_that_translate_nothing_and_a_device_that_forbids_it_are_left_alone() {
    let public = Uplink { gateway: Ipv4Addr::new(5, 1, 2, 1), source: Ipv4Addr::new(5, 1, 2, 3) };
    let mut mapper = Mapper::new(true, Vec::new(), rng());
    mapper.set_surroundings(&[public], &["/ip4/5.1.2.3/tcp/4002".parse().expect("good")], at(0));
    mapper.set_wanted(true, at(0));
    assert!(run(&mut mapper, at(0), at(HOUR), no_answer).is_empty());
    let mut mapper = Mapper::new(false, Vec::new(), rng());
    mapper.set_surroundings(&[UPLINK], &listeners(), at(0));
    mapper.set_wanted(true, at(0));
    assert!(run(&mut mapper, at(0), at(HOUR), no_answer).is_empty() && mapper.is_idle(at(HOUR)));
    let many: Vec<Uplink> =
        (1..9).map(|n| Uplink { gateway: Ipv4Addr::new(10, n, 0, 1), source: Ipv4Addr::new(10, n, 0, 2) }).collect();
    let everywhere: Vec<Address> =
        many.iter().map(|u| Address { ip: u.source.into(), port: 7, transport: Transport::Tcp }).collect();
    let mut mapper = Mapper::new(true, Vec::new(), rng());
    mapper.set_surroundings(&many, &everywhere, at(0));
    mapper.set_wanted(true, at(0));
    run(&mut mapper, at(0), at(30), speaks(Method::Pcp));
    assert_eq!(mapper.outside().count(), MAX_GATEWAYS);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let refusal = prop_oneof![
        Just(Refusal::Silent),
        Just(Refusal::Unsupported),
        Just(Refusal::Refused),
        Just(Refusal::Taken),
        Just(Refusal::OnlyPermanent)
    ];
    let ip = prop_oneof![Just(PUBLIC), any::<u32>().prop_map(Ipv4Addr::from)];
    let lease = prop_oneof![Just(0), 0u32..200, any::<u32>()];
    let granted = (ip, any::<u16>(), lease)
        .prop_map(|(ip, port, lease)| Outcome::Mapped(Granted { outside: SocketAddrV4::new(ip, port), lease }));
    prop_oneof![granted, refusal.prop_map(Outcome::Failed), Just(Outcome::Removed)]
}

proptest! {
    /// Whatever a router answers, and whatever happens meanwhile: it comes to rest, asks seldom, believes only what can be
    /// true, and takes back what it has asked for.
    #[test]
    fn wrong_and_hostile_answers_do_no_harm(
        outcomes in proptest::collection::vec(outcome(), 1..40),
        changes in proptest::collection::vec(0u8..5, 0..12),
    ) {
        let mut mapper = mapper(Vec::new());
        let mut at_once = outcomes.iter().cycle();
        let mut now = at(0);
        for change in changes {
            let until = now + Duration::from_secs(300);
            let jobs = run(&mut mapper, now, until, |_| *at_once.next().expect("it goes on"));
            prop_assert!(jobs.len() < 200, "{} jobs in five minutes", jobs.len());
            prop_assert!(mapper.outside().all(|a| classify(a.ip) == Class::Public && a.port != 0));
            now = until;
            match change {
                0 => mapper.moved(now),
                1 => mapper.set_wanted(false, now),
                2 => mapper.set_wanted(true, now),
                3 => mapper.set_surroundings(&[], &[], now),
                _ => mapper.set_surroundings(&[UPLINK], &listeners(), now),
            }
        }
        mapper.set_surroundings(&[UPLINK], &listeners(), now);
        mapper.set_wanted(false, now);
        run(&mut mapper, now, now + Duration::from_secs(HOUR), |_| Outcome::Removed);
        prop_assert!(mapper.durable.is_empty() && mapper.outside().count() == 0);
    }
}
