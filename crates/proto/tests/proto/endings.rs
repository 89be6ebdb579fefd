//! How a pairing ends that does not succeed: each way has its cause, its time, and leaves nothing behind.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::handshake::joiner::H2;
use handfast_proto::handshake::{Denial, Refusal};
use handfast_proto::id::Tid;
use handfast_proto::lan::WindowId;
use handfast_proto::session::{Config, Consent, DialFailure, Event, Job, JobResult, StreamEnd};
use handfast_proto::wire::advert::AdvertState;
use handfast_proto::wire::frames::FrameType;

use crate::bench::{Bench, Guest, Host, address, info, record, rng};
use crate::path::{TTL, assert_nothing_stored, pairing};
use crate::sim::world::{Person, World};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// The life of a code.

#[test]
fn b25_a_code_that_nobody_used_ends_at_its_ttl_and_not_a_second_before() {
    for ttl in [5, 600, 3_600] {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(ttl);
        bench.wait(secs(ttl - 1));
        assert_eq!(bench.state(), "open");
        bench.unix += 10_000_000;
        bench.wait(secs(1));
        assert_eq!(bench.causes(), [Cause::CodeExpired]);
        // Whoever still has it is told, and told nothing else, for a quarter of an hour.
        let mut guest = Guest::new(2, &code);
        let (stream, sent) = guest.knock(&mut bench);
        assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::Refused(Refusal::Expired))));
        bench.wait(secs(901));
        let (stream, sent) = guest.knock(&mut bench);
        assert!(Guest::h2(&mut bench, stream, sent).is_none(), "its keys are wiped");
        assert!(bench.closed.contains(&stream));
    }
}

#[test]
fn b25_ttls_out_of_bounds_are_brought_into_them() {
    for (asked, lives) in [(0, 5), (4, 5), (100_000, 3_600)] {
        let mut bench = Bench::new(1);
        bench.code(asked);
        bench.wait(secs(lives) - Duration::from_millis(1));
        assert!(bench.causes().is_empty());
        bench.wait(Duration::from_millis(1));
        assert_eq!(bench.causes(), [Cause::CodeExpired]);
    }
}

#[test]
fn b25_a_handshake_that_began_within_the_life_may_finish_after_it() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(10);
    bench.wait(secs(9));
    let mut guest = Guest::new(2, &code);
    let (stream, sent, _) = guest.introduce(&mut bench);
    bench.wait(secs(30));
    bench.answer(&session, true);
    let h4 = bench.take_sent(stream);
    let Ok(handfast_proto::handshake::joiner::H4::Offer(offer)) = sent.handle(&h4[0]) else { panic!("an offer") };
    let (_, h5) = offer.stored();
    bench.hand(stream, h5);
    assert_eq!((bench.paired, bench.state()), (1, "paired"));
}

#[test]
fn b25_a_joiner_that_stops_between_h2_and_h3_costs_ten_seconds_and_the_code_ends_on_time() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(12);
    bench.wait(secs(11));
    let mut guest = Guest::new(2, &code);
    let (stream, _) = guest.knock(&mut bench);
    assert_eq!(bench.state(), "handshake");
    bench.wait(secs(9));
    assert!(bench.causes().is_empty(), "it is within the handshake's own time");
    bench.wait(secs(1));
    assert_eq!(bench.causes(), [Cause::CodeExpired]);
    assert!(bench.closed.contains(&stream));
}

#[test]
fn b25_a_half_open_stream_is_closed_ten_seconds_after_p1() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (_, [p1, _]) = guest.start(bench.tid);
    let stream = bench.open(guest.tid);
    bench.hand(stream, p1);
    bench.wait(secs(10) - Duration::from_millis(1));
    assert!(bench.closed.is_empty());
    bench.wait(Duration::from_millis(1));
    assert_eq!(bench.closed, [stream]);
}

// Persons.

#[test]
fn b38_who_says_no_and_who_says_nothing_are_told_apart_on_both_sides() {
    let no = Person::No(secs(1));
    let cases = [
        (no, Person::Yes(secs(1)), Cause::Rejected, Cause::Rejected, 1),
        (Person::Never, Person::Yes(secs(1)), Cause::TimedOut, Cause::TimedOut, 120),
        (Person::Yes(secs(1)), no, Cause::Rejected, Cause::Rejected, 2),
        (Person::Yes(secs(1)), Person::Never, Cause::Rejected, Cause::TimedOut, 121),
    ];
    for (first, second, of_initiator, of_joiner, after) in cases {
        let mut world = World::of(2);
        (world.devices[0].person, world.devices[1].person) = (first, second);
        pairing(&mut world);
        let (ending, took) = world.ending(1);
        assert_eq!(ending, Err(of_joiner), "{first:?} {second:?}");
        assert!(took >= secs(after) && took < secs(after + 1), "{took:?}");
        world.run_for(secs(11));
        assert_eq!(world.endings(0), [Err(of_initiator)], "{first:?} {second:?}");
        assert_nothing_stored(&world);
    }
}

#[test]
fn c36_a_cancelled_pairing_is_told_as_cancelled_on_both_sides() {
    // Who cancels, and when, in milliseconds after the joiner's start; the persons take a second each.
    for (who, when) in [(0, 400), (1, 400), (1, 1_500)] {
        let mut world = World::of(2);
        world.devices[0].person = Person::Yes(secs(1));
        world.devices[1].person = Person::Yes(secs(1));
        pairing(&mut world);
        let session = world.ledger.sessions.keys().next().expect("a session").2.clone();
        world.run_for(Duration::from_millis(when));
        assert!(world.cancel(who, &session), "{who} at {when}");
        assert_eq!(world.endings(who), [Err(Cause::Cancelled)]);
        world.run_for(secs(5));
        // A joiner that withdraws after the initiator agreed has declined.
        let other = if when > 1_000 { Cause::Rejected } else { Cause::Cancelled };
        assert_eq!(world.endings(1 - who), [Err(other)], "{who} at {when}");
        assert_nothing_stored(&world);
    }
}

#[test]
fn cancelling_before_anybody_came_tells_the_joiner_by_the_record_and_after_both_agreed_it_is_too_late() {
    let mut world = World::of(2);
    let (session, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(secs(1));
    assert!(world.cancel(0, &session));
    world.run_for(secs(1));
    world.join(1, &code, Consent::Ask);
    assert_eq!(world.ending(1).0, Err(Cause::Cancelled));

    let mut world = World::of(2);
    world.devices[1].person = Person::Yes(secs(3));
    pairing(&mut world);
    let session = world.ledger.sessions.keys().next().expect("a session").2.clone();
    world.run_for(secs(1));
    assert!(!world.cancel(0, &session), "the initiator's person agreed; the joiner is being asked");
    world.ending(1).0.expect("paired");
}

#[test]
fn b45_a_cancelled_search_stops_at_once_and_leaves_no_job() {
    let mut bench = Bench::new(1);
    let session = bench.join(&Code::generate(&mut rng(3)));
    bench.wait(secs(1));
    assert!(bench.cancel(&session));
    assert_eq!(bench.causes(), [Cause::Cancelled]);
    assert_eq!(bench.table.load(), (0, 0, 0));
    assert!(bench.jobs.is_empty());
}

// Others.

#[test]
fn c7_three_failed_proofs_burn_the_code_also_when_they_come_in_parallel() {
    for parallel in [false, true] {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        let mut streams = Vec::new();
        for n in 2..6 {
            let mut guest = Guest::new(n, &code);
            let (_, [p1, h1]) = guest.start(bench.tid);
            let stream = bench.open(guest.tid);
            bench.hand(stream, p1);
            let bad = crate::bench::flipped(&h1, 70);
            if parallel {
                streams.push((stream, bad));
            } else {
                bench.hand(stream, bad);
            }
        }
        for (stream, bad) in streams {
            bench.hand(stream, bad);
        }
        assert_eq!(bench.causes(), [Cause::TooManyAttempts], "parallel: {parallel}");
        assert!(bench.sent.is_empty(), "a wrong proof is answered by nothing");
        let mut guest = Guest::new(9, &code);
        let (stream, sent) = guest.knock(&mut bench);
        assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::Refused(Refusal::Burned))));
    }
}

#[test]
fn failed_proofs_after_the_question_was_answered_do_not_tear_the_commit_apart() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (stream, sent, _) = guest.introduce(&mut bench);
    bench.answer(&session, true);
    let h4 = bench.take_sent(stream);
    for n in 10..15 {
        let mut other = Guest::new(n, &code);
        let (_, [p1, h1]) = other.start(bench.tid);
        let stream = bench.open(other.tid);
        bench.hand(stream, p1);
        bench.hand(stream, crate::bench::flipped(&h1, 70));
    }
    assert!(bench.causes().is_empty());
    let Ok(handfast_proto::handshake::joiner::H4::Offer(offer)) = sent.handle(&h4[0]) else { panic!("an offer") };
    bench.hand(stream, offer.stored().1);
    assert_eq!((bench.paired, bench.state()), (1, "paired"));
}

#[test]
fn two_failed_proofs_do_not_burn_and_a_wrong_h3_is_one() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    for n in 2..4 {
        let mut guest = Guest::new(n, &code);
        let (stream, sent) = guest.knock(&mut bench);
        let Some(H2::GoOn(proved)) = Guest::h2(&mut bench, stream, sent) else { panic!("told to go on") };
        let (_, h3) = proved.send(&guest.identity, &info("x"), &mut rng(n));
        bench.hand(stream, crate::bench::flipped(&h3, 100));
        assert!(bench.closed.contains(&stream));
        assert_eq!(bench.state(), "open");
    }
    assert!(bench.causes().is_empty());
    let mut guest = Guest::new(7, &code);
    guest.introduce(&mut bench);
    assert_eq!(bench.asked(), 1);
    bench.answer(&session, true);
    assert_eq!(bench.stored.len(), 1);
}

#[test]
fn attack_14_a_second_joiner_is_told_busy_while_the_first_is_asked_and_used_afterwards() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut first = Guest::new(2, &code);
    first.introduce(&mut bench);
    let mut second = Guest::new(3, &code);
    let (stream, sent) = second.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::Refused(Refusal::Busy))));
    assert!(bench.closed.contains(&stream));
    bench.answer(&session, false);
    let (stream, sent) = second.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::Refused(Refusal::Used))));
    assert_eq!((bench.asked(), bench.stored.len()), (1, 0));
}

#[test]
fn a_joiner_that_is_told_busy_asks_every_two_seconds_for_thirty() {
    let mut world = World::of(3);
    world.devices[0].person = Person::Yes(secs(100));
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(secs(1));
    world.join(1, &code, Consent::Ask);
    world.run_for(secs(1));
    world.join(2, &code, Consent::Ask);
    let (ending, took) = world.ending(2);
    assert_eq!(ending, Err(Cause::CodeUsed));
    assert!(took >= secs(30) && took < secs(31), "{took:?}");
    let knocks = world.frames[&FrameType::P1];
    assert!((14..=17).contains(&knocks), "{knocks}");
}

/// An initiator that deals with somebody else.
const BUSY: Tid = Tid([2; 32]);

/// A joiner that has found it by the DHT and was told so.
fn told_busy() -> (Bench, Code) {
    let mut joiner = Bench::new(1);
    let code = Code::generate(&mut rng(3));
    joiner.join(&code);
    let stream = joiner.found(&record(&code, BUSY, AdvertState::Open, 1), BUSY);
    let h2 = Host::new(&code, BUSY).take_h1(&mut joiner, stream).refuse(Refusal::Busy, &mut rng(8));
    joiner.hand(stream, h2);
    (joiner, code)
}

/// A command that shows a code ends with the pairing, and whoever was told to wait finds nobody any more.
#[test]
fn a_joiner_that_was_told_busy_and_is_refused_then_hears_within_seconds_that_the_code_is_used() {
    let (mut joiner, _) = told_busy();
    for _ in 0..14 {
        joiner.wait(Duration::from_millis(500));
        while let Some((id, _)) = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::Dial { .. })) {
            let id = *id;
            joiner.job_done(id, JobResult::DialFailed(DialFailure::Refused));
        }
    }
    assert_eq!((joiner.causes(), joiner.troubles()), (vec![Cause::CodeUsed], vec![]));
}

/// The end that the record tells is the better one.
#[test]
fn a_busy_initiator_that_is_gone_and_has_said_why_is_not_said_to_have_used_the_code() {
    let (mut joiner, code) = told_busy();
    for _ in 0..16 {
        joiner.wait(Duration::from_millis(500));
        while let Some((id, job)) = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::Dial { .. } | Job::LookUp(_)))
        {
            let (id, is_dial) = (*id, matches!(job, Job::Dial { .. }));
            if is_dial {
                joiner.job_done(id, JobResult::DialFailed(DialFailure::Refused));
            } else {
                joiner.job_done(id, JobResult::Found(record(&code, BUSY, AdvertState::Cancelled, 2)));
                joiner.job_done(id, JobResult::LookedUp { answered: 3 });
            }
        }
    }
    assert_eq!(joiner.causes(), [Cause::Cancelled]);
}

/// Another way to it that is closed, as a router's is, says nothing of the one on which it was busy.
#[test]
fn a_refusal_at_another_address_does_not_end_the_wait_for_a_busy_initiator() {
    let mut joiner = Bench::new(1);
    let code = Code::generate(&mut rng(3));
    joiner.join(&code);
    let (host, now) = (Tid([2; 32]), joiner.clocks());
    joiner.table.handle_heard(WindowId(0), vec![address(77)], now);
    joiner.drain();
    let stream = joiner.found(&record(&code, host, AdvertState::Open, 1), host);
    let h2 = Host::new(&code, host).take_h1(&mut joiner, stream).refuse(Refusal::Busy, &mut rng(8));
    joiner.hand(stream, h2);
    for _ in 0..20 {
        joiner.wait(Duration::from_millis(500));
        let other = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::Dial { tid: None, .. })).map(|(id, _)| *id);
        if let Some(id) = other {
            joiner.job_done(id, JobResult::DialFailed(DialFailure::Refused));
        }
    }
    assert_eq!(joiner.causes(), []);
}

#[test]
fn that_there_is_no_network_is_said_after_a_second_on_either_side_and_once() {
    for (lan, usable) in [(true, false), (true, true), (false, false)] {
        let change = |config: &mut Config| {
            (config.lan, config.dht, config.alone) = (lan, false, Cause::NotFound);
            config.vicinity.usable = usable;
        };
        let (mut joiner, mut host) = (Bench::with(1, change), Bench::with(2, change));
        host.code(600);
        joiner.join(&Code::generate(&mut rng(3)));
        for bench in [&mut joiner, &mut host] {
            bench.wait(Duration::from_millis(900));
            assert_eq!(bench.troubles(), []);
            bench.wait(secs(20));
            let said: &[Cause] = if lan && !usable { &[Cause::NoNetwork] } else { &[] };
            assert_eq!(bench.troubles(), said, "lan {lan}, usable {usable}");
        }
    }
}

#[test]
fn c7_of_twenty_joiners_racing_for_one_code_exactly_one_is_paired() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        world.settings.jitter = Duration::from_millis(40);
        world.add_nodes(3);
        for _ in 0..21 {
            world.add_device(Person::Yes(Duration::from_millis(500)));
        }
        let (_, code) = world.generate(0, TTL, Consent::Ask);
        world.run_for(secs(1));
        for dev in 1..21 {
            world.join(dev, &code, Consent::Ask);
        }
        world.run_for(secs(60));
        let winners = (1..21).filter(|dev| world.endings(*dev)[0].is_ok()).count();
        assert_eq!((winners, world.devices[0].disk.rows.len()), (1, 1));
        for dev in 1..21 {
            let ending = world.endings(dev)[0];
            assert!(ending.is_ok() || ending == Err(Cause::CodeUsed), "{dev}: {ending:?}");
        }
        assert_eq!(world.endings(0).len(), 1);
    }
}

// The network.

#[test]
fn an_initiator_that_is_gone_is_noticed_within_fifteen_seconds_whether_it_refuses_or_is_silent() {
    for refuses in [true, false] {
        let mut world = World::of(2);
        let (_, code) = world.generate(0, TTL, Consent::Ask);
        world.run_for(secs(1));
        world.devices[0].host_up = refuses;
        world.crash(0);
        world.join(1, &code, Consent::Ask);
        let (ending, took) = world.ending(1);
        assert_eq!(ending, Err(Cause::Unreachable), "refuses: {refuses}");
        assert!(took <= secs(15), "{took:?}");
        assert_nothing_stored(&world);
    }
}

#[test]
fn an_initiator_that_vanishes_during_the_handshake_is_noticed() {
    for refuses in [true, false] {
        let mut world = World::of(2);
        world.devices[0].person = Person::Never;
        world.settings.detection = (secs(8), secs(8));
        pairing(&mut world);
        world.run_for(secs(5));
        world.devices[0].host_up = refuses;
        world.crash(0);
        let (ending, took) = world.ending(1);
        assert_eq!(ending, Err(Cause::ConnectionLost));
        // Refused three times in a row: the program is gone. Silence is waited for as long as a resume may take.
        assert!(took <= secs(if refuses { 15 } else { 8 + 60 + 1 }), "{took:?}");
    }
}

#[test]
fn c18_nobody_found_a_silent_dht_and_no_dht_at_all_are_told_apart() {
    let mut world = World::of(1);
    let code = Code::generate(&mut rng(3));
    world.join(0, &code, Consent::Ask);
    let (ending, took) = world.ending(0);
    assert_eq!((ending, took), (Err(Cause::NotFound), secs(30)));

    let mut world = World::of(1);
    for node in &mut world.nodes {
        node.alive = false;
    }
    world.join(0, &code, Consent::Ask);
    let (ending, took) = world.ending(0);
    assert_eq!(ending, Err(Cause::NoBootstrap));
    assert!(took >= secs(10) && took <= secs(12), "{took:?}");
}

#[test]
fn what_a_tombstone_says_is_what_the_joiner_reports() {
    let cases = [
        (AdvertState::Used, Cause::CodeUsed),
        (AdvertState::Expired, Cause::CodeExpired),
        (AdvertState::Cancelled, Cause::Cancelled),
        (AdvertState::Burned, Cause::TooManyAttempts),
    ];
    for (state, cause) in cases {
        let mut bench = Bench::new(1);
        let code = Code::generate(&mut rng(3));
        bench.join(&code);
        let id = bench.jobs[0].0;
        bench.job_done(id, JobResult::Found(record(&code, Tid([0; 32]), state, 4)));
        assert_eq!(bench.causes(), [cause]);
    }
}

#[test]
fn what_the_initiator_says_after_h1_is_what_the_joiner_reports() {
    let cases = [
        (Refusal::Expired, Cause::CodeExpired),
        (Refusal::Used, Cause::CodeUsed),
        (Refusal::Cancelled, Cause::Cancelled),
        (Refusal::Burned, Cause::TooManyAttempts),
    ];
    for (refusal, cause) in cases {
        let (mut bench, code, tid) = (Bench::new(1), Code::generate(&mut rng(3)), Tid([8; 32]));
        bench.join(&code);
        let stream = bench.found(&record(&code, tid, AdvertState::Open, 1), tid);
        let h2 = answer_h1(&mut bench, stream, &code, tid, refusal);
        bench.hand(stream, h2);
        assert_eq!(bench.causes(), [cause]);
    }
}

/// H2 with a refusal, from somebody who has the code.
fn answer_h1(
    bench: &mut Bench,
    stream: handfast_proto::id::StreamId,
    code: &Code,
    tid: Tid,
    refusal: Refusal,
) -> handfast_proto::wire::frames::Frame {
    let mut host = Host::new(code, tid);
    host.take_h1(bench, stream).refuse(refusal, &mut rng(6))
}

#[test]
fn what_h4_denies_is_what_the_joiner_reports() {
    let cases = [
        (Denial::Denied, Cause::Rejected),
        (Denial::Failed, Cause::ConnectionLost),
        (Denial::Unanswered, Cause::TimedOut),
        (Denial::Cancelled, Cause::Cancelled),
    ];
    for (denial, cause) in cases {
        let (mut bench, code, tid) = (Bench::new(1), Code::generate(&mut rng(3)), Tid([8; 32]));
        bench.join(&code);
        let stream = bench.found(&record(&code, tid, AdvertState::Open, 1), tid);
        let hs = Host::new(&code, tid).up_to_h3(&mut bench, stream);
        bench.hand(stream, hs.deny(denial));
        assert_eq!(bench.causes(), [cause]);
        assert_eq!((bench.asked(), bench.stored.len()), (0, 0));
    }
}

#[test]
fn a_peer_that_closes_before_h2_is_tried_three_times_and_then_could_not_prove_the_code() {
    let (mut bench, code, tid) = (Bench::new(1), Code::generate(&mut rng(3)), Tid([8; 32]));
    bench.join(&code);
    let mut stream = bench.found(&record(&code, tid, AdvertState::Open, 1), tid);
    for pause in [500, 1_000] {
        bench.end(stream, StreamEnd::Finished);
        assert!(bench.causes().is_empty());
        bench.wait(Duration::from_millis(pause - 1));
        assert!(!bench.jobs.iter().any(|(_, job)| matches!(job, Job::Dial { .. })));
        bench.wait(Duration::from_millis(1));
        stream = bench.connected(tid);
    }
    bench.end(stream, StreamEnd::Finished);
    assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
}

#[test]
fn a_peer_that_never_answers_h1_is_given_up_after_ten_seconds() {
    let (mut bench, code, tid) = (Bench::new(1), Code::generate(&mut rng(3)), Tid([8; 32]));
    bench.join(&code);
    bench.found(&record(&code, tid, AdvertState::Open, 1), tid);
    bench.wait(secs(10));
    assert_eq!(bench.causes(), [Cause::TimedOut]);
}

#[test]
fn b35_a_search_dials_at_most_three_of_eight_candidates_at_once_and_stops() {
    let (mut bench, code) = (Bench::new(1), Code::generate(&mut rng(3)));
    bench.join(&code);
    let look_up = bench.jobs[0].0;
    for n in 1..12 {
        bench.job_done(look_up, JobResult::Found(record(&code, Tid([50 + n; 32]), AdvertState::Open, u64::from(n))));
    }
    bench.job_done(look_up, JobResult::LookedUp { answered: 3 });
    let mut tried = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let dials: Vec<_> = bench
            .jobs
            .iter()
            .filter_map(|(id, job)| match job {
                Job::Dial { tid, .. } => Some((*id, *tid)),
                _ => None,
            })
            .collect();
        assert!(dials.len() <= 3);
        for (id, tid) in dials {
            tried.insert(tid);
            bench.job_done(id, JobResult::DialFailed(DialFailure::NoAnswer));
        }
        bench.wait(Duration::from_millis(100));
    }
    assert_eq!(tried.len(), 8);
    assert_eq!(bench.causes(), [Cause::Unreachable]);
}

#[test]
fn an_initiator_that_takes_h5_and_says_nothing_keeps_nobody_waiting_for_ever() {
    let (mut bench, code, tid) = (Bench::new(1), Code::generate(&mut rng(3)), Tid([8; 32]));
    let session = bench.join(&code);
    let stream = bench.found(&record(&code, tid, AdvertState::Open, 1), tid);
    let (_, h4) = Host::new(&code, tid).up_to_h4(&mut bench, stream);
    bench.hand(stream, h4);
    bench.answer(&session, true);
    assert_eq!(bench.stored.len(), 1);
    let start = bench.now;
    // Every new connection is taken, every frame swallowed.
    let mut resumed = 0;
    while bench.causes().is_empty() {
        bench.wait(secs(1));
        if bench.jobs.iter().any(|(_, job)| matches!(job, Job::Dial { .. })) {
            let stream = bench.connected(tid);
            let kinds: Vec<FrameType> = bench.take_sent(stream).iter().map(|f| f.kind()).collect();
            assert_eq!(kinds, [FrameType::Resume, FrameType::H5]);
            resumed += 1;
        }
        assert!(bench.now < secs(600), "the session is stuck");
    }
    // 15 s of silence and 60 s of resuming, then 30 s for a hello.
    assert_eq!((bench.causes(), bench.now - start), (vec![Cause::ConnectionLost], secs(105)));
    assert!((3..=6).contains(&resumed), "{resumed}");
    assert!(bench.jobs.iter().any(|(_, job)| matches!(job, Job::Reach { .. })));
    assert_eq!(bench.table.load(), (0, 0, 0));
}

// What is left behind.

#[test]
fn b26_a_thousand_failed_sessions_leave_nothing_behind() {
    let mut world = World::of(2);
    for round in 0..1_000 {
        let ttl = if round % 5 == 4 { secs(5) } else { TTL };
        world.devices[0].person = if round % 5 == 0 { Person::No(Duration::ZERO) } else { Person::Yes(Duration::ZERO) };
        world.devices[1].person = if round % 5 == 1 { Person::No(Duration::ZERO) } else { Person::Yes(Duration::ZERO) };
        let (session, code) = world.generate(0, ttl, Consent::Ask);
        world.run_for(Duration::from_millis(300));
        match round % 5 {
            2 => assert!(world.cancel(0, &session)),
            3 => {
                world.join(1, &code, Consent::Ask);
                assert!(world.cancel(1, &session));
                assert!(world.cancel(0, &session));
            }
            4 => {}
            _ => {
                world.join(1, &code, Consent::Ask);
            }
        }
        // A node keeps at most 256 records of one source, a quarter of an hour each.
        world.run_for(secs(6));
        assert_eq!(world.ledger.live(), 0, "round {round}");
    }
    world.run_for(secs(60));
    for dev in [0, 1] {
        let (jobs, fresh, live) = world.run(dev).table.load();
        assert_eq!((jobs, fresh, live), (0, 0, 0), "device {dev}");
        assert_eq!(world.run(dev).links.load(), 0);
        assert!(world.run(dev).jobs.is_empty());
        assert!(world.run(dev).table.statuses().len() <= 64);
        let run = world.run(dev).number;
        assert_eq!(world.net.streams_of(dev, run), 0);
    }
    // And a quarter of an hour later the last key of them is wiped.
    world.run_for(secs(901));
    for dev in [0, 1] {
        assert!(world.run(dev).table.statuses().is_empty());
    }
    assert_nothing_stored(&world);
}

#[test]
fn c22_a_device_has_at_most_eight_live_sessions() {
    let mut bench = Bench::new(1);
    for _ in 0..8 {
        bench.code(600);
    }
    let now = bench.clocks();
    assert!(bench.table.generate(Consent::Ask, TTL, now).is_err());
    assert!(bench.table.join(CodeInput::Words(Code::generate(&mut rng(3))), Consent::Ask, now).is_err());
    let open = bench.table.statuses()[0].session.clone();
    assert!(bench.cancel(&open));
    bench.code(600);
    assert_eq!(bench.table.load().2, 8);
    assert!(bench.table.cancel(None, now).is_err(), "which one?");
    assert!(!bench.events.iter().any(|e| matches!(e, Event::Paired { .. })));
}

#[test]
fn b36_a_code_that_no_node_takes_says_so_after_two_seconds_and_goes_on() {
    for answers_at in [None, Some(1_900), Some(2_500)] {
        let mut bench = Bench::new(1);
        bench.dht_is_gone = true;
        bench.code(600);
        let (publish, _) = bench.jobs.remove(0);
        if let Some(at) = answers_at {
            bench.wait(Duration::from_millis(at));
            bench.job_done(publish, JobResult::Published { stored_on: 1 });
        }
        bench.wait(Duration::from_secs(30));
        let said: &[Cause] = if answers_at == Some(1_900) { &[] } else { &[Cause::NoBootstrap] };
        assert_eq!(bench.troubles(), said, "a node answers at {answers_at:?}");
        assert!(bench.causes().is_empty());
    }
}
