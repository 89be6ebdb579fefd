//! The comparison as people meet it: who is asked what, what each answer leads to, and what a bad network changes.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::qr::QrText;
use handfast_proto::handshake::Refusal;
use handfast_proto::handshake::joiner::{H2, H4};
use handfast_proto::id::SessionId;
use handfast_proto::sas::Sas;
use handfast_proto::session::{AnswerError, Consent, Event, Options};
use handfast_proto::wire::frames::FrameType;

use crate::bench::{Bench, Guest};
use crate::losses::once;
use crate::path::{TTL, assert_nothing_stored, assert_paired};
use crate::sim::world::{Fate, Person, World};

const ASK: Options = Options { consent: Consent::Ask, verify: false };
pub(crate) const VERIFY: Options = Options { consent: Consent::Ask, verify: true };

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The code of device 0 shown and entered at device 1, with what each person wants.
fn pairing(world: &mut World, initiator: Options, joiner: Options) -> SessionId {
    let (session, code) = world.generate(0, TTL, initiator);
    world.run_for(secs(1));
    world.join(1, &code, joiner);
    session
}

/// What the screen of a device showed.
fn shown(world: &World, dev: usize) -> Vec<Sas> {
    let sas = |e: &&Event| match e {
        Event::ComparisonNeeded { sas, .. } => Some(sas.clone()),
        _ => None,
    };
    world.events(dev).iter().filter_map(sas).collect()
}

fn approvals(world: &World, dev: usize) -> usize {
    world.events(dev).iter().filter(|e| matches!(e, Event::ApprovalNeeded { .. })).count()
}

#[test]
fn a18_either_person_can_ask_for_a_comparison_and_after_a_match_nobody_is_asked_anything_more() {
    for (initiator, joiner) in [(VERIFY, ASK), (ASK, VERIFY), (VERIFY, VERIFY)] {
        let mut world = World::of(2);
        world.devices[0].person = Person::Yes(secs(2));
        world.devices[1].person = Person::Yes(secs(1));
        pairing(&mut world, initiator, joiner);
        world.ending(1).0.expect("paired");
        assert_paired(&world, 0, 1);
        assert_eq!((shown(&world, 0).len(), approvals(&world, 0)), (1, 0));
        assert_eq!(approvals(&world, 1), 0);
        assert!(shown(&world, 0) == shown(&world, 1), "both screens show the same");
        assert_eq!((world.frames[&FrameType::S3], world.frames[&FrameType::H3]), (1, 1));
    }
}

#[test]
fn a18_with_a_qr_text_as_well() {
    for (initiator, joiner) in [(VERIFY, ASK), (ASK, VERIFY)] {
        let mut world = World::of(2);
        let (_, code) = world.generate(0, TTL, initiator);
        let addresses = world.devices[0].addresses.clone();
        let tid = world.run(0).tid;
        let policy = handfast_proto::addr::LoopbackPolicy::Refuse;
        let text = QrText::new(code, tid, true, false, &addresses, policy).to_text();
        world.try_join(1, text.parse().expect("a code"), joiner).expect("may be joined");
        world.ending(1).0.expect("paired");
        assert_paired(&world, 0, 1);
        assert!(shown(&world, 0).len() == 1 && shown(&world, 0) == shown(&world, 1));
    }
}

#[test]
fn two_pairings_show_different_pictures() {
    let mut world = World::of(2);
    for _ in 0..2 {
        pairing(&mut world, VERIFY, ASK);
        world.ending(1).0.expect("paired");
        world.run_for(secs(1));
    }
    let both = shown(&world, 0);
    assert!(both.len() == 2 && both[0] != both[1]);
}

#[test]
fn attack_32_consent_given_in_advance_never_answers_a_comparison() {
    let given = Options { consent: Consent::Given, verify: true };
    let mut world = World::of(2);
    (world.devices[0].person, world.devices[1].person) = (Person::Never, Person::Never);
    let session = pairing(&mut world, given, given);
    world.run_for(secs(60));
    for dev in 0..2 {
        assert_eq!(shown(&world, dev).len(), 1);
        assert!(world.endings(dev).is_empty(), "it still waits");
        let now = world.clocks(dev);
        let allowed = world.run(dev).table.answer(Some(&session), true, now);
        assert_eq!(allowed, Err(AnswerError::Comparison(session.clone())), "`accept` alone says nothing about screens");
    }
    assert_nothing_stored(&world);
    assert!(!world.frames.contains_key(&FrameType::H3), "nobody has shown its key");
    for dev in 0..2 {
        assert!(world.compare(dev, &session, true));
    }
    world.run_for(secs(1));
    assert_paired(&world, 0, 1);
    assert_eq!(approvals(&world, 0) + approvals(&world, 1), 0);
}

#[test]
fn a_comparison_is_not_an_approval_nor_the_other_way_round() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let now = bench.clocks();
    assert_eq!(bench.table.compare(None, true, now), Err(AnswerError::NoQuestion(None)));
    let mut guest = Guest::new(2, &code);
    guest.introduce(&mut bench);
    let now = bench.clocks();
    assert_eq!(bench.table.compare(None, true, now), Err(AnswerError::NoComparison(session)));
    assert!(bench.stored.is_empty());
}

#[test]
fn what_is_compared_stands_in_the_status_while_the_question_is_open() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code_with(600, VERIFY);
    let mut guest = Guest::new(2, &code);
    let (_, comparing, _) = guest.up_to_comparison(&mut bench);
    let status = bench.table.statuses().remove(0);
    assert_eq!((status.state, status.device), ("comparison", None));
    assert!(status.sas.as_ref() == Some(comparing.sas()) && bench.shown() == status.sas);
    bench.compare(&session, true);
    let status = bench.table.statuses().remove(0);
    assert_eq!((status.state, status.sas), ("waiting_for_peer", None));
}

/// What the person of each device says, when, in seconds after the comparison came up; `None` is nothing.
type Answers = [Option<(bool, u64)>; 2];

/// How both sessions ended, and when the later one did.
fn endings(answers: Answers) -> ([Result<(), Cause>; 2], u64) {
    let mut world = World::of(2);
    for (dev, answer) in answers.into_iter().enumerate() {
        world.devices[dev].person = match answer {
            Some((true, when)) => Person::Yes(secs(when)),
            Some((false, when)) => Person::No(secs(when)),
            None => Person::Never,
        };
    }
    pairing(&mut world, VERIFY, VERIFY);
    let start = world.now;
    world.run_until(secs(300), |w| w.ledger.live() == 0);
    let took = (world.now - start).as_secs();
    if answers != [Some((true, 1)), Some((true, 1))] {
        assert_nothing_stored(&world);
    }
    ([0, 1].map(|dev| world.endings(dev)[0].map(|_| ())), took)
}

#[test]
fn a18_d8_they_differ_on_either_device_ends_both_whatever_the_other_said_and_silence_is_no_difference() {
    let differ = [Err(Cause::AuthenticationFailed); 2];
    let late = [Err(Cause::TimedOut); 2];
    let cases: [(Answers, _, u64); 9] = [
        ([Some((true, 1)), Some((true, 1))], [Ok(()), Ok(())], 1),
        ([Some((false, 1)), None], differ, 1),
        ([None, Some((false, 1))], differ, 1),
        ([Some((true, 1)), Some((false, 3))], differ, 3),
        ([Some((false, 3)), Some((true, 1))], differ, 3),
        ([Some((false, 1)), Some((false, 1))], differ, 1),
        ([None, None], late, 120),
        ([Some((true, 1)), None], late, 120),
        ([None, Some((true, 1))], late, 120),
    ];
    for (answers, expected, after) in cases {
        let (ended, took) = endings(answers);
        assert_eq!(ended, expected, "{answers:?}");
        assert_eq!(took, after, "{answers:?}");
    }
}

#[test]
fn a_comparison_that_is_withdrawn_or_turned_down_says_so_here_and_differs_there() {
    for dev in 0..2 {
        for reject in [false, true] {
            let mut world = World::of(2);
            (world.devices[0].person, world.devices[1].person) = (Person::Never, Person::Never);
            let session = pairing(&mut world, VERIFY, ASK);
            world.run_for(secs(5));
            let own = if reject { Cause::Rejected } else { Cause::Cancelled };
            let done = if reject { world.answer(dev, &session, false) } else { world.cancel(dev, &session) };
            assert!(done);
            world.run_for(secs(1));
            assert_eq!(world.endings(dev), [Err(own)]);
            assert_eq!(world.endings(1 - dev), [Err(Cause::AuthenticationFailed)], "{dev} {reject}");
            assert_nothing_stored(&world);
        }
    }
}

#[test]
fn an_initiator_that_withdraws_after_the_joiner_confirmed_can_say_so() {
    let mut world = World::of(2);
    world.devices[0].person = Person::Never;
    let session = pairing(&mut world, VERIFY, ASK);
    world.run_for(secs(5));
    assert!(world.cancel(0, &session));
    world.run_for(secs(1));
    assert_eq!((world.endings(0), world.endings(1)), (vec![Err(Cause::Cancelled)], vec![Err(Cause::Cancelled)]));
}

#[test]
fn a_joiner_that_is_faster_than_our_person_is_not_listened_to_before_ours_has_confirmed() {
    for matches in [true, false] {
        let mut bench = Bench::new(1);
        let (session, code) = bench.code_with(600, VERIFY);
        let mut guest = Guest::new(2, &code);
        let (stream, comparing, _) = guest.up_to_comparison(&mut bench);
        let (sent, h3) = guest.h3(*comparing);
        bench.hand(stream, h3);
        assert!(bench.sent.is_empty() && bench.stored.is_empty() && bench.asked() == 0);
        assert_eq!(bench.table.statuses()[0].device, None, "it has not even been read");
        bench.compare(&session, matches);
        if matches {
            let h4 = bench.take_sent(stream);
            assert!(matches!(sent.handle(&h4[0]), Ok(H4::Offer(_))));
            assert_eq!(bench.stored[0].peer, guest.identity.public());
        } else {
            assert!(bench.sent.is_empty() && bench.stored.is_empty() && bench.closed.contains(&stream));
            assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
        }
    }
}

#[test]
fn a_code_is_never_open_again_once_its_comparison_was_shown() {
    for end in [handfast_proto::session::StreamEnd::Finished, handfast_proto::session::StreamEnd::Lost] {
        for confirmed in [false, true] {
            let mut bench = Bench::new(1);
            let (session, code) = bench.code_with(600, VERIFY);
            let (stream, ..) = Guest::new(2, &code).up_to_comparison(&mut bench);
            if confirmed {
                bench.compare(&session, true);
            }
            bench.end(stream, end);
            bench.wait(secs(61));
            assert_eq!(bench.causes().len(), 1);
            let (stream, sent) = Guest::new(3, &code).knock(&mut bench);
            assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::Refused(Refusal::Used))));
        }
    }
}

#[test]
fn a_joiner_that_stops_before_s3_has_shown_nothing_and_costs_ten_seconds() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code_with(600, VERIFY);
    let (stream, _) = Guest::new(2, &code).knock(&mut bench);
    assert_eq!(bench.state(), "handshake");
    bench.wait(secs(10));
    assert!(bench.closed.contains(&stream) && bench.shown().is_none());
    assert_eq!((bench.state(), bench.causes().len()), ("open", 0));
}

#[test]
fn one_comparison_is_shown_at_a_time_and_other_codes_are_told_busy() {
    let mut bench = Bench::new(1);
    let (first, code) = bench.code_with(600, VERIFY);
    let (_, other) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (stream, comparing, _) = guest.up_to_comparison(&mut bench);
    // The same code, another code of the same device with a comparison: busy. Another code without one: its turn comes.
    let mut second = Guest::new(3, &code);
    let (at, sent) = second.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, at, sent), Some(H2::Refused(Refusal::Busy))));
    let mut third = Guest::new(4, &other);
    third.verify = true;
    let (at, sent) = third.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, at, sent), Some(H2::Refused(Refusal::Busy))));
    third.verify = false;
    third.introduce(&mut bench);
    assert_eq!(bench.asked(), 0, "one question at a time");
    bench.compare(&first, true);
    assert_eq!(bench.asked(), 1);
    let (sent, h3) = guest.h3(*comparing);
    bench.hand(stream, h3);
    let h4 = bench.take_sent(stream);
    assert!(matches!(sent.handle(&h4[0]), Ok(H4::Offer(_))), "a question elsewhere does not stop what was confirmed");
}

// A bad network.

const FRAMES: [FrameType; 8] = [
    FrameType::P1,
    FrameType::H1,
    FrameType::H2,
    FrameType::S3,
    FrameType::H3,
    FrameType::H4,
    FrameType::H5,
    FrameType::H6,
];

#[test]
fn b32_each_message_lost_once_costs_neither_code_nor_comparison() {
    for kind in FRAMES {
        let mut world = World::of(2);
        world.devices[0].person = Person::Yes(secs(3));
        world.devices[1].person = Person::Yes(secs(2));
        once(&mut world, kind, || Fate::Cut);
        pairing(&mut world, VERIFY, ASK);
        let (ending, took) = world.ending(1);
        ending.unwrap_or_else(|cause| panic!("{kind:?} lost: {cause}"));
        world.run_until(secs(1), |w| w.ledger.live() == 0);
        assert_paired(&world, 0, 1);
        assert!(took < secs(8), "{kind:?} lost: {took:?}");
        let resumed = world.frames.get(&FrameType::Resume).copied().unwrap_or(0);
        assert_eq!(resumed, usize::from(kind >= FrameType::S3), "{kind:?}");
        assert_eq!((shown(&world, 0).len(), shown(&world, 1).len()), (1, 1), "{kind:?}");
    }
}

#[test]
fn a_joiner_that_confirms_while_its_s3_is_lost_repeats_both() {
    // S3 on its way when the connection breaks, or H3; the joiner's person answers before there is a new one.
    for lost in [FrameType::S3, FrameType::H3] {
        let mut world = World::of(2);
        world.devices[0].person = Person::Yes(secs(5));
        world.devices[1].person = Person::Yes(secs(1));
        once(&mut world, lost, || Fate::Cut);
        pairing(&mut world, VERIFY, ASK);
        world.run_until(secs(20), |w| w.frames.contains_key(&lost));
        world.block(0, 1, true);
        world.later(secs(3), |w| w.block(0, 1, false));
        let (ending, _) = world.ending(1);
        ending.unwrap_or_else(|cause| panic!("{lost:?} lost: {cause}"));
        world.run_until(secs(1), |w| w.ledger.live() == 0);
        assert_paired(&world, 0, 1);
        assert_eq!((shown(&world, 0).len(), shown(&world, 1).len()), (1, 1));
        assert_eq!(world.frames[&FrameType::Resume], 1, "{lost:?}");
    }
}

#[test]
fn a_joiner_that_resumes_after_a_lost_refusal_hears_why() {
    // The joiner's person has confirmed. The initiator's says nothing, or withdraws; that message is lost once.
    for withdraws in [false, true] {
        let mut world = World::of(2);
        world.devices[0].person = Person::Never;
        world.devices[1].person = Person::Yes(secs(1));
        once(&mut world, FrameType::H4, || Fate::Cut);
        let session = pairing(&mut world, VERIFY, ASK);
        if withdraws {
            world.run_for(secs(5));
            assert!(world.cancel(0, &session));
        }
        let cause = if withdraws { Cause::Cancelled } else { Cause::TimedOut };
        assert_eq!(world.ending(1).0, Err(cause));
        assert_eq!(world.frames[&FrameType::Resume], 1);
    }
}

#[test]
fn c11_a_connection_that_breaks_while_people_compare_is_mended_and_the_answers_find_it() {
    // Who answers first, and whether the break comes before, between or after the answers.
    for (first, second) in [(2, 10), (10, 2)] {
        for cut in [1, 5, 9] {
            let mut world = World::of(2);
            world.devices[0].person = Person::Yes(secs(first));
            world.devices[1].person = Person::Yes(secs(second));
            pairing(&mut world, ASK, VERIFY);
            world.later(secs(cut), |w| {
                w.block(0, 1, true);
                w.later(secs(3), |w| w.block(0, 1, false));
            });
            let (ending, took) = world.ending(1);
            ending.unwrap_or_else(|cause| panic!("{first} {second} cut at {cut}: {cause}"));
            world.run_until(secs(1), |w| w.ledger.live() == 0);
            assert_paired(&world, 0, 1);
            assert!(took < secs(22), "{took:?}");
            assert_eq!((shown(&world, 0).len(), shown(&world, 1).len()), (1, 1));
        }
    }
}

#[test]
fn a_difference_that_is_found_while_the_connection_is_down_is_told_when_it_is_back_or_the_time_is_over() {
    for differs in 0..2 {
        for stays_down in [false, true] {
            let mut world = World::of(2);
            (world.devices[0].person, world.devices[1].person) = (Person::Never, Person::Never);
            let session = pairing(&mut world, VERIFY, ASK);
            world.run_for(secs(2));
            world.block(0, 1, true);
            world.run_for(secs(2));
            assert!(world.compare(differs, &session, false));
            if !stays_down {
                world.block(0, 1, false);
            }
            world.run_for(secs(70));
            assert_eq!(world.endings(differs), [Err(Cause::AuthenticationFailed)]);
            // A joiner that is gone does not come back to tell.
            let told = differs == 0 && !stays_down;
            let other = if told { Cause::AuthenticationFailed } else { Cause::ConnectionLost };
            assert_eq!(world.endings(1 - differs), [Err(other)], "{differs} {stays_down}");
            assert_nothing_stored(&world);
        }
    }
}

#[test]
fn c26_a_program_that_dies_while_people_compare_leaves_nothing_behind() {
    for dies in 0..2 {
        let mut world = World::of(2);
        (world.devices[0].person, world.devices[1].person) = (Person::Never, Person::Never);
        pairing(&mut world, VERIFY, ASK);
        world.run_for(secs(2));
        world.crash(dies);
        world.start(dies);
        world.run_for(secs(130));
        assert_eq!(world.endings(1 - dies), [Err(Cause::ConnectionLost)]);
        assert_nothing_stored(&world);
    }
}
