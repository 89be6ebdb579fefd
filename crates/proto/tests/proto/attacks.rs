//! An attacker with full control of the network plays section 15 of the protocol against the machines of a device. (What
//! concerns single bytes of the handshake and of the hello stands beside their code; the rest of the hello in `links.rs`.)

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::Code;
use handfast_proto::handshake::Refusal;
use handfast_proto::handshake::joiner::{H2, H4};
use handfast_proto::id::{SessionId, StreamId, Tid};
use handfast_proto::secret::Secret;
use handfast_proto::session::{AnswerError, Consent, Event, Job, JobResult, StreamEnd};
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::{Record, RecordKeys};

use crate::bench::{Bench, Guest, Host, flipped, frame, identity, info, record, rng};
use crate::byhand::{self, Lie};
use crate::path::{TTL, assert_nothing_stored, pairing};
use crate::sim::dht::Manners;
use crate::sim::world::World;
use crate::vectors::spec::public;

const THEIRS: Tid = Tid([8; 32]);

/// A joiner on the bench that has just sent P1 and H1.
fn knocking() -> (Bench, Code, StreamId) {
    let (mut bench, code) = (Bench::new(1), Code::generate(&mut rng(3)));
    bench.join(&code);
    let stream = bench.found(&record(&code, THEIRS, AdvertState::Open, 1), THEIRS);
    (bench, code, stream)
}

/// Nothing was asked, sent, stored or kept.
fn assert_untouched(bench: &Bench) {
    assert!(bench.sent.is_empty() && bench.stored.is_empty());
    assert_eq!((bench.asked(), bench.table.load().0, bench.table.load().1), (0, 0, 0));
}

#[test]
fn attack_1_b17_ten_thousand_p1_without_the_code_leave_no_state_and_get_no_answer() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    bench.wait(Duration::from_secs(1));
    bench.events.clear();
    let topic = handfast_proto::keys::CodeKeys::derive(&code).topic().0;
    let mut stranger = Guest::new(2, &Code::generate(&mut rng(9)));
    for n in 0..10_000u32 {
        let (_, [p1, h1]) = stranger.start(bench.tid);
        // Its own tag, the topic that everybody can see, or nothing.
        let mut rest = p1.to_bytes()[2..].to_vec();
        match n % 3 {
            0 => {}
            1 => rest[15..31].copy_from_slice(&topic[..16]),
            _ => rest[15..31].fill(0),
        }
        let stream = bench.open(Tid([2; 32]));
        bench.hand(stream, Frame::from_rest(&rest).expect("a frame"));
        assert_eq!(bench.closed.pop(), Some(stream), "closed at once");
        bench.hand(stream, h1);
        assert_eq!(bench.closed.pop(), Some(stream), "and not known any more");
    }
    assert_untouched(&bench);
    assert!(bench.events.is_empty());
    // Nobody was counted: the right one still pairs (attack 13).
    let mut guest = Guest::new(5, &code);
    guest.introduce(&mut bench);
    assert_eq!(bench.asked(), 1);
}

#[test]
fn attack_13_b25_ten_thousand_wrong_tags_are_limited_in_rate_and_the_right_joiner_pairs_in_the_midst_of_them() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut strangers = Guest::new(2, &Code::generate(&mut rng(9)));
    let mut flood = |bench: &mut Bench, n: usize| {
        let before = (bench.closed.len(), bench.reset);
        for _ in 0..n {
            strangers.knock(bench);
        }
        assert!(bench.take_sent(StreamId(0)).is_empty() && bench.sent.is_empty(), "nothing is answered");
        // Each is closed at its P1, and its H1 meets a stream that nobody knows.
        let closed = bench.closed.len() - before.0;
        assert_eq!(closed, 2 * n);
        n - (bench.reset - before.1)
    };
    bench.wait(Duration::from_secs(1));
    assert_eq!(flood(&mut bench, 5_000), 20, "a burst is heard to its end");
    // The right joiner comes, with nothing left of the allowance, and the flood goes on around it.
    let mut guest = Guest::new(5, &code);
    let (stream, sent) = guest.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, stream, sent), Some(H2::GoOn(_))));
    bench.wait(Duration::from_secs(2));
    assert_eq!(flood(&mut bench, 5_000), 10, "five a second");
    guest.introduce(&mut bench);
    bench.answer(&session, true);
    assert_eq!(bench.stored.len(), 1);
}

#[test]
fn attack_1_a_stream_that_begins_with_anything_else_is_closed() {
    let mut bench = Bench::new(1);
    bench.code(600);
    for kind in FrameType::ALL {
        let stream = bench.open(Tid([2; 32]));
        bench.hand(stream, frame(*kind, 3));
        assert_eq!(bench.closed.last(), Some(&stream), "{kind:?}");
    }
    assert!(bench.sent.is_empty());
    assert_eq!(bench.table.load().1, 0);
}

#[test]
fn attack_48_streams_that_stay_silent_are_bounded_and_the_newest_one_works() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    for _ in 0..1_000 {
        bench.open(Tid([2; 32]));
        assert!(bench.table.load().1 <= 32);
    }
    let mut guest = Guest::new(5, &code);
    guest.introduce(&mut bench);
    // Behind a right tag as well: the oldest goes first.
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    for n in 0..100u8 {
        let mut holder = Guest::new(5, &code);
        let (_, [p1, _]) = holder.start(bench.tid);
        let stream = bench.open(holder.tid);
        bench.hand(stream, p1);
        assert_eq!(bench.closed.len(), usize::from(n).saturating_sub(31));
    }
    Guest::new(6, &code).introduce(&mut bench);
    assert_eq!(bench.asked(), 1);
}

#[test]
fn attack_2_b21_a_fake_initiator_without_the_code_gets_no_identity_and_is_named() {
    // It answers with noise, with a H2 made under another code, with what the joiner sent, with other frames.
    for play in 0..4 {
        let (mut bench, _, stream) = knocking();
        let sent = bench.take_sent(stream);
        let answer = match play {
            0 => frame(FrameType::H2, 0x5a),
            1 => {
                let other = Code::generate(&mut rng(77));
                let p1_h1 = Guest::new(1, &other).start(THEIRS).1;
                byhand::host(&other, THEIRS, bench.tid, &p1_h1[0], &p1_h1[1]).1
            }
            2 => sent[1].clone(),
            _ => frame(FrameType::H4, 1),
        };
        bench.hand(stream, answer);
        assert_eq!(bench.causes(), [Cause::AuthenticationFailed], "play {play}");
        assert_untouched(&bench);
        assert!(bench.closed.contains(&stream));
    }
}

#[test]
fn attack_3_4_p1_and_h1_relayed_under_other_transport_keys_are_worthless() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    let mut joiner = Guest::new(2, &code);
    // The joiner believes it talks to the attacker (4), or to us (3); the attacker brings it to us under its own key.
    for believed in [Tid([9; 32]), bench.tid] {
        let (_, [p1, h1]) = joiner.start(believed);
        let stream = bench.open(Tid([9; 32]));
        bench.hand(stream, p1);
        bench.hand(stream, h1);
        assert!(bench.closed.contains(&stream));
    }
    assert_untouched(&bench);
    assert_eq!(bench.state(), "open");
}

#[test]
fn attack_5_b18_a_recorded_p1_and_h1_lead_nowhere_during_and_after_the_session() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (sent, [p1, h1]) = guest.start(bench.tid);
    let stream = bench.open(guest.tid);
    bench.hand(stream, p1.clone());
    bench.hand(stream, h1.clone());
    let first = bench.take_sent(stream);
    let Ok(H2::GoOn(proved)) = sent.handle(&first[0]) else { panic!("told to go on") };
    let (_, h3) = proved.send(&guest.identity, &crate::bench::info("guest"), &mut rng(2));
    // The same again on the same transport keys: H2 is fresh, so the recorded H3 fits nothing.
    let replay = bench.open(guest.tid);
    bench.hand(replay, p1.clone());
    bench.hand(replay, h1.clone());
    let second = bench.take_sent(replay);
    assert_ne!(first[0], second[0]);
    bench.hand(replay, h3);
    assert_eq!((bench.asked(), bench.stored.len()), (0, 0));
    // After use: only "over", which tells the recorder nothing.
    let mut real = Guest::new(4, &code);
    real.introduce(&mut bench);
    bench.answer(&session, false);
    let replay = bench.open(guest.tid);
    bench.hand(replay, p1);
    bench.hand(replay, h1);
    assert_eq!(bench.take_sent(replay).len(), 1);
    assert!(bench.closed.contains(&replay));
    assert_eq!((bench.asked(), bench.stored.len()), (1, 0));
}

/// Which frames of a whole pairing are altered on the way, and what may then be on the disks.
#[test]
fn attack_6_a_flipped_byte_in_any_frame_never_pairs_and_never_breaks_the_commit() {
    use crate::sim::world::Fate;
    for kind in [
        FrameType::P1,
        FrameType::H1,
        FrameType::H2,
        FrameType::H3,
        FrameType::H4,
        FrameType::H5,
        FrameType::H6,
        FrameType::R1,
        FrameType::R2,
        FrameType::R3,
    ] {
        for at in [0, kind.body_len() / 2, kind.body_len() - 1] {
            let mut world = World::of(2);
            world.frame_tap = Some(Box::new(move |passing| {
                if passing.frame.kind() == kind { Fate::Becomes(flipped(passing.frame, at)) } else { Fate::Arrives }
            }));
            pairing(&mut world);
            let limit = world.time_left();
            world.run_until(limit, |w| w.ledger.live() == 0);
            // The world asserts the safety of the commit at every write. With the hello intact it finishes the rest.
            if kind < FrameType::H5 {
                assert!(world.endings(1)[0].is_err(), "{kind:?} byte {at}");
                assert!(world.devices[1].disk.rows.is_empty(), "{kind:?} byte {at}");
            }
            if kind < FrameType::H3 {
                assert_nothing_stored(&world);
            }
        }
    }
}

#[test]
fn attack_7_frames_swapped_doubled_or_of_another_type_end_in_a_repeat_or_a_close() {
    // What the joiner may wrongly be sent in each state, by an initiator that holds the code.
    for kind in FrameType::ALL {
        let (mut bench, code, stream) = knocking();
        let _ = Host::new(&code, THEIRS).up_to_h3(&mut bench, stream);
        if *kind != FrameType::H4 {
            bench.hand(stream, frame(*kind, 1));
            assert_eq!(bench.causes(), [Cause::AuthenticationFailed], "{kind:?} where H4 is due");
        }
        assert_eq!((bench.asked(), bench.stored.len()), (0, 0));
    }
    // And what the initiator may be sent where H3 is due.
    for kind in FrameType::ALL {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        let mut guest = Guest::new(2, &code);
        let (stream, _) = guest.knock(&mut bench);
        bench.take_sent(stream);
        bench.hand(stream, frame(*kind, 1));
        assert!(bench.closed.contains(&stream), "{kind:?} where H3 is due");
        assert_eq!((bench.asked(), bench.state()), (0, "open"));
    }
}

#[test]
fn attack_7_a_repeated_h3_or_h5_gets_the_same_bytes_again_and_asks_nobody_twice() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (stream, sent, h3) = guest.introduce(&mut bench);
    bench.hand(stream, h3.clone());
    assert_eq!((bench.asked(), bench.sent.len()), (1, 0), "the question is still open");
    bench.answer(&session, true);
    let h4 = bench.take_sent(stream);
    bench.hand(stream, h3.clone());
    assert_eq!(bench.take_sent(stream), h4);
    let Ok(H4::Offer(offer)) = sent.handle(&h4[0]) else { panic!("an offer") };
    let (sent, h5) = offer.stored();
    bench.hand(stream, h5.clone());
    let h6 = bench.take_sent(stream);
    bench.hand(stream, h5);
    assert_eq!(bench.take_sent(stream), h6);
    sent.handle(&h6[0]).expect("confirmed");
    assert_eq!((bench.asked(), bench.stored.len(), bench.paired), (1, 1, 1));
}

#[test]
fn attack_7_a_resume_needs_the_value_and_the_transport_key_of_the_handshake() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (stream, sent, h3) = guest.introduce(&mut bench);
    bench.end(stream, StreamEnd::Lost);
    for (tid, resume) in [
        (Tid([9; 32]), sent.resume_frame()),
        (guest.tid, frame(FrameType::Resume, 1)),
        (guest.tid, flipped(&sent.resume_frame(), 31)),
    ] {
        let stream = bench.open(tid);
        bench.hand(stream, resume);
        assert!(bench.closed.contains(&stream));
    }
    let stream = bench.open(guest.tid);
    bench.hand(stream, sent.resume_frame());
    bench.hand(stream, h3);
    bench.answer(&session, true);
    let h4 = bench.take_sent(stream);
    assert!(matches!(sent.handle(&h4[0]), Ok(H4::Offer(_))));
}

#[test]
fn a_resume_is_possible_for_sixty_seconds_and_not_a_second_longer() {
    for (wait, works) in [(59, true), (60, false)] {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        let mut guest = Guest::new(2, &code);
        let (stream, sent, _) = guest.introduce(&mut bench);
        bench.end(stream, StreamEnd::Lost);
        bench.wait(Duration::from_secs(wait));
        let stream = bench.open(guest.tid);
        bench.hand(stream, sent.resume_frame());
        assert_eq!(!bench.closed.contains(&stream), works, "{wait}");
        assert_eq!(bench.causes().is_empty(), works);
    }
}

#[test]
fn a_resumed_handshake_that_has_ended_is_closed_and_not_left_waiting() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut guest = Guest::new(2, &code);
    let (stream, sent, _) = guest.introduce(&mut bench);
    bench.answer(&session, true);
    let h4 = bench.take_sent(stream);
    let Ok(H4::Offer(offer)) = sent.handle(&h4[0]) else { panic!("an offer") };
    bench.wait(Duration::from_secs(130));
    assert_eq!(bench.causes(), [Cause::TimedOut]);
    let resume = offer.resume_frame();
    let (_, h5) = offer.stored();
    let stream = bench.open(guest.tid);
    bench.hand(stream, resume);
    bench.hand(stream, h5);
    assert!(bench.closed.contains(&stream));
    assert_eq!(bench.paired, 0);
}

#[test]
fn attack_9_10_a_joiner_with_the_code_that_lies_about_its_key_is_a_failed_proof() {
    let own = identity(1).public().0;
    let lies = [
        ("another's key", Lie { shown: Some(public(&[50; 32])), ..Lie::default() }),
        ("our key, reflected", Lie { shown: Some(own), ..Lie::default() }),
        ("signed as an initiator", Lie { label: Some("sig I"), ..Lie::default() }),
        ("signed for another session", Lie { session: Some([1; 32]), ..Lie::default() }),
        ("a bare challenge", Lie { bare: true, ..Lie::default() }),
        ("another opening of the commitment", Lie { opening: true, ..Lie::default() }),
    ];
    for (what, lie) in lies {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        for round in 1..=3 {
            let tid = Tid([40 + round; 32]);
            let (joining, [p1, h1]) = byhand::join(&code, tid, bench.tid);
            let stream = bench.open(tid);
            bench.hand(stream, p1);
            bench.hand(stream, h1);
            let h2 = bench.take_sent(stream);
            let h3 = joining.take_h2(&h2[0]).h3(&[51; 32], lie);
            bench.hand(stream, h3);
            assert!(bench.closed.contains(&stream), "{what}");
        }
        assert_eq!(bench.causes(), [Cause::TooManyAttempts], "{what}: counted (attack 12)");
        assert_eq!((bench.asked(), bench.stored.len()), (0, 0));
    }
    // The same hand without a lie is believed, so the lies are what was refused.
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    let (joining, [p1, h1]) = byhand::join(&code, THEIRS, bench.tid);
    let stream = bench.open(THEIRS);
    bench.hand(stream, p1);
    bench.hand(stream, h1);
    let h2 = bench.take_sent(stream);
    bench.hand(stream, joining.take_h2(&h2[0]).h3(&[51; 32], Lie::default()));
    assert_eq!(bench.asked(), 1);
}

#[test]
fn attack_9_a_device_that_shows_our_own_key_with_our_own_signature_is_refused() {
    // As if somebody had stolen nothing and reflected everything: the key and the signature are right, and ours.
    let mut bench = Bench::new(1);
    let (_, code) = bench.code(600);
    let (joining, [p1, h1]) = byhand::join(&code, THEIRS, bench.tid);
    let stream = bench.open(THEIRS);
    bench.hand(stream, p1);
    bench.hand(stream, h1);
    let h2 = bench.take_sent(stream);
    bench.hand(stream, joining.take_h2(&h2[0]).h3(&[1; 32], Lie::default()));
    assert_eq!((bench.asked(), bench.state()), (0, "open"));
    assert!(bench.closed.contains(&stream));
}

#[test]
fn attack_10_11_an_initiator_with_the_code_that_lies_about_its_key_is_refused() {
    let lies = [
        ("another's key", 51, Lie { shown: Some(public(&[50; 32])), ..Lie::default() }),
        ("our key with our signature", 1, Lie::default()),
        ("signed as a joiner", 51, Lie { label: Some("sig J"), ..Lie::default() }),
        ("signed for another session", 51, Lie { session: Some([1; 32]), ..Lie::default() }),
        ("signed for another joiner", 51, Lie { other: Some(public(&[50; 32])), ..Lie::default() }),
        ("a bare challenge", 51, Lie { bare: true, ..Lie::default() }),
        ("nothing", 51, Lie::default()),
    ];
    for (what, seed, lie) in lies {
        let (mut bench, code, stream) = knocking();
        let sent = bench.take_sent(stream);
        let (sealed, h2) = byhand::host(&code, THEIRS, bench.tid, &sent[0], &sent[1]);
        bench.hand(stream, h2);
        let h3 = bench.take_sent(stream);
        bench.hand(stream, sealed.h4(&[seed; 32], &h3[0], lie));
        let honest = what == "nothing";
        assert_eq!(bench.asked(), usize::from(honest), "{what}");
        assert_eq!(bench.causes().contains(&Cause::AuthenticationFailed), !honest, "{what}");
        assert!(bench.stored.is_empty());
    }
}

#[test]
fn b22_a_pairing_that_is_offered_under_the_name_of_another_one_is_refused() {
    for is_held in [false, true] {
        let (mut bench, code, stream) = knocking();
        let mut host = Host::new(&code, THEIRS);
        let hs = host.up_to_h3(&mut bench, stream);
        let (_, h4, agreement) = hs.allow(&host.identity, &info("host"), &mut rng(9));
        if is_held {
            bench.table.hold(agreement.pairing_id);
        }
        bench.hand(stream, h4);
        assert_eq!(bench.asked(), usize::from(!is_held));
        assert_eq!(bench.causes().contains(&Cause::AuthenticationFailed), is_held);
    }
}

#[test]
fn c8_an_answer_without_a_session_is_no_answer_to_a_question_that_has_just_replaced_another() {
    let mut bench = Bench::new(1);
    let ((first, code), (second, other)) = (bench.code(600), bench.code(600));
    let (stream, ..) = Guest::new(5, &code).introduce(&mut bench);
    Guest::new(6, &other).introduce(&mut bench);
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.asked(), 1);
    // The person types "accept" for the first one, which goes away meanwhile.
    bench.end(stream, StreamEnd::Finished);
    assert_eq!(bench.asked(), 2);
    let answer = |bench: &mut Bench, session: Option<&SessionId>| {
        let now = bench.clocks();
        let answered = bench.table.answer(session, true, now);
        bench.drain();
        answered
    };
    assert_eq!(answer(&mut bench, None), Err(AnswerError::JustChanged(second.clone())));
    assert_eq!(answer(&mut bench, Some(&first)), Err(AnswerError::NoQuestion(Some(first.clone()))));
    assert!(bench.stored.is_empty());
    bench.wait(Duration::from_secs(10));
    assert_eq!(answer(&mut bench, None), Ok(second));
    assert_eq!(bench.stored.len(), 1);
}

#[test]
fn attack_16_18_forged_old_and_foreign_records_are_misses_and_the_highest_number_wins() {
    let (mut bench, code) = (Bench::new(1), Code::generate(&mut rng(3)));
    bench.join(&code);
    let look_up = bench.jobs[0].0;
    let other = Code::generate(&mut rng(4));
    let dials = |b: &Bench| b.jobs.iter().filter(|(_, j)| matches!(j, Job::Dial { .. })).count();
    // Somebody else's tombstone and advert; ours with the seal of another key; ours with nonsense inside.
    let keys = |code: &Code| {
        let expand = |name: &str| {
            let salt = crate::vectors::spec::label("code");
            crate::vectors::spec::hkdf(&salt, code.entropy().expose(), &[&crate::vectors::spec::label(name)])
        };
        (expand("adv sig"), expand("adv key"))
    };
    let unsealed = RecordKeys::new(&Secret::new(keys(&code).0), Secret::new([1; 32]));
    let sealed = RecordKeys::new(&Secret::new(keys(&code).0), Secret::new(keys(&code).1));
    let tombstone = Advert::tombstone(AdvertState::Used).to_bytes([0; 16]);
    let mut trailing = tombstone.clone();
    trailing.push(1);
    let forged: [Record; 5] = [
        record(&other, THEIRS, AdvertState::Used, 9),
        record(&other, THEIRS, AdvertState::Open, 9),
        unsealed.seal(&tombstone, 9, 600, &mut rng(1)),
        sealed.seal(&[1; 60], 9, 600, &mut rng(1)),
        sealed.seal(&trailing, 9, 600, &mut rng(1)),
    ];
    for (index, record) in forged.into_iter().enumerate() {
        bench.job_done(look_up, JobResult::Found(record));
        assert_eq!((dials(&bench), bench.causes()), (0, Vec::new()), "forgery {index}");
    }
    // The newest says where it is; an older one, a tombstone even, changes nothing.
    bench.job_done(look_up, JobResult::Found(record(&code, THEIRS, AdvertState::Open, 5)));
    assert_eq!(dials(&bench), 1);
    bench.job_done(look_up, JobResult::Found(record(&code, THEIRS, AdvertState::Used, 4)));
    bench.job_done(look_up, JobResult::Found(record(&code, Tid([9; 32]), AdvertState::Open, 3)));
    assert_eq!((dials(&bench), bench.causes().len()), (1, 0));
    // An answer under a look-up that is not ours is no answer.
    bench.job_done(handfast_proto::id::JobId(999), JobResult::Found(record(&code, THEIRS, AdvertState::Used, 99)));
    assert!(bench.causes().is_empty());
}

#[test]
fn attack_16_used_in_the_clear_or_without_the_code_is_not_believed() {
    let (mut bench, _, stream) = knocking();
    // A fake initiator closes, again and again: that is not "used".
    bench.end(stream, StreamEnd::Finished);
    assert!(bench.causes().is_empty());
    let (mut bench, _, stream) = knocking();
    let mut body = vec![FrameType::H2.byte()];
    body.resize(1 + FrameType::H2.body_len(), 0);
    body[33] = 17;
    bench.hand(stream, Frame::from_rest(&body).expect("a frame"));
    assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
}

#[test]
fn attack_19_c6_an_advert_replayed_after_its_tombstone_leads_to_an_initiator_that_says_over() {
    let mut world = World::of(3);
    world.nodes.clear();
    world.add_nodes(1);
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.join(1, &code, Consent::Ask);
    world.ending(1).0.expect("paired");
    world.run_for(Duration::from_secs(40));
    // From here on the only node replays the first record it saw.
    world.nodes[0].manners = Manners::Replays;
    world.join(2, &code, Consent::Ask);
    let (ending, _) = world.ending(2);
    assert_eq!(ending, Err(Cause::CodeUsed));
    assert!(world.frames[&FrameType::H2] >= 2, "it was told by the initiator");
    assert!(world.devices[2].disk.rows.is_empty());
    assert_eq!(world.devices[0].disk.rows.len(), 1);
}

#[test]
fn attack_22_addresses_that_nobody_may_dial_are_skipped() {
    let bad = [
        "/ip4/127.0.0.1/tcp/4000",
        "/ip4/0.0.0.0/tcp/4000",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/169.254.1.1/tcp/4000",
        "/ip4/224.0.0.1/udp/4000/quic-v1",
        "/ip6/::1/tcp/4000",
    ];
    for good in [None, Some("/ip4/5.1.2.3/tcp/4000")] {
        let (mut bench, code) = (Bench::new(1), Code::generate(&mut rng(3)));
        bench.join(&code);
        let look_up = bench.jobs[0].0;
        let texts = bad.iter().take(5).chain(&good);
        let addresses = texts.map(|t| t.parse().expect("an address")).collect();
        let advert = Advert { tid: THEIRS, addresses, ..Advert::tombstone(AdvertState::Open) };
        let keys = handfast_proto::keys::CodeKeys::derive(&code);
        let record = keys.record().seal(&advert.to_bytes([0; 16]), 1, 600, &mut rng(1));
        bench.job_done(look_up, JobResult::Found(record));
        let dialled: Vec<String> = bench
            .jobs
            .iter()
            .filter_map(|(_, job)| match job {
                Job::Dial { addresses, .. } => Some(addresses),
                _ => None,
            })
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert_eq!(dialled, good.into_iter().collect::<Vec<_>>());
        if good.is_none() {
            assert_eq!(bench.causes(), [Cause::Unreachable]);
        }
    }
}

/// A code that is shown before its device has learned where it is.
#[test]
fn b44_a_record_that_names_no_address_yet_is_waited_for_and_not_unreachable_at_once() {
    for comes_later in [true, false] {
        let (mut bench, code) = (Bench::new(1), Code::generate(&mut rng(3)));
        bench.join(&code);
        let nowhere = Advert { tid: THEIRS, ..Advert::tombstone(AdvertState::Open) };
        let keys = handfast_proto::keys::CodeKeys::derive(&code);
        let sealed = keys.record().seal(&nowhere.to_bytes([0; 16]), 1, 600, &mut rng(1));
        let look_up = bench.jobs[0].0;
        bench.job_done(look_up, JobResult::Found(sealed));
        bench.wait(Duration::from_millis(100));
        assert_eq!(bench.causes(), []);
        if comes_later {
            let stream = bench.found(&record(&code, THEIRS, AdvertState::Open, 2), THEIRS);
            assert!(!bench.take_sent(stream).is_empty(), "it is dialled and asked");
        } else {
            bench.wait(Duration::from_secs(15));
            assert_eq!(bench.causes(), [Cause::Unreachable]);
        }
    }
}

#[test]
fn b24_late_messages_of_an_earlier_attempt_do_not_move_a_later_one() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let mut first = Guest::new(2, &code);
    let (old, sent) = first.knock(&mut bench);
    let Some(H2::GoOn(proved)) = Guest::h2(&mut bench, old, sent) else { panic!("told to go on") };
    let (resumable, late_h3) = proved.send(&first.identity, &crate::bench::info("first"), &mut rng(2));
    bench.end(old, StreamEnd::Lost);
    let mut second = Guest::new(4, &code);
    let (stream, _, _) = second.introduce(&mut bench);
    // The first one comes back: on its old stream, by a resume, and with a new handshake.
    bench.hand(old, late_h3.clone());
    let resumed = bench.open(first.tid);
    bench.hand(resumed, resumable.resume_frame());
    assert!(bench.closed.contains(&resumed));
    bench.hand(resumed, late_h3);
    let (again, sent) = first.knock(&mut bench);
    assert!(matches!(Guest::h2(&mut bench, again, sent), Some(H2::Refused(Refusal::Busy))));
    let asked: Vec<&Event> = bench.events.iter().filter(|e| matches!(e, Event::ApprovalNeeded { .. })).collect();
    let [Event::ApprovalNeeded { device, .. }] = asked[..] else { panic!("one question") };
    assert_eq!(device.key, second.identity.public());
    bench.answer(&session, true);
    assert_eq!(bench.take_sent(stream).len(), 1);
    assert_eq!(bench.stored[0].peer, second.identity.public());
}
