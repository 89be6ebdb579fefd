//! One honest run, and everything a man in the middle can do to a single byte of it.

use super::initiator::{self, Next, P1};
use super::joiner::{self, H2, H4};
use super::*;
use crate::code::Code;
use crate::id::Identity;
use crate::keys::CodeKeys;
use crate::secret::Rng;
use crate::wire::beacon::Nid;
use crate::wire::frames::{Frame, FrameType};
use crate::wire::info::{DeviceName, DeviceType};

const TID_J: Tid = Tid([1; 32]);
const TID_I: Tid = Tid([2; 32]);

fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

fn keys(n: u8) -> CodeKeys {
    CodeKeys::derive(&Code::from_entropy(Secret::new([n; 16])))
}

fn identity(n: u8) -> Identity {
    Identity::from_seed(Secret::new([n; 32]))
}

fn info(name: &str) -> DeviceInfo {
    DeviceInfo { name: DeviceName::clean(name), kind: DeviceType::Computer, clock: None }
}

/// How far a run got, with what each side would store.
#[derive(Default)]
struct Run {
    joiner: Option<Agreement>,
    initiator: Option<Agreement>,
    complete: bool,
}

/// Runs a handshake; `tamper` may change any frame on its way.
fn run(tamper: &mut dyn FnMut(Frame) -> Frame) -> Run {
    run_with(&keys(5), &keys(5), &identity(11), &identity(12), tamper)
}

fn run_with(
    joiner_keys: &CodeKeys,
    initiator_keys: &CodeKeys,
    dik_j: &Identity,
    dik_i: &Identity,
    tamper: &mut dyn FnMut(Frame) -> Frame,
) -> Run {
    let mut result = Run::default();
    let steps = || -> Result<(), HandshakeError> {
        let (mut rj, mut ri) = (rng(21), rng(22));
        let (sent_h1, [p1, h1]) = joiner::start(joiner_keys, Mode::Words, false, TID_J, TID_I, &mut rj);
        let p1 = P1::parse(&tamper(p1), TID_J, TID_I)?;
        if !p1.is_for(initiator_keys) {
            return Err(HandshakeError::Proof);
        }
        let (Next::Identity(sent_h2), h2) = p1.handle(initiator_keys, &tamper(h1), &mut ri)?.go_on(false, &mut ri)
        else {
            return Err(HandshakeError::Proof);
        };
        let H2::GoOn(proved) = sent_h1.handle(&tamper(h2))? else {
            return Err(HandshakeError::Proof);
        };
        let (sent_h3, h3) = proved.send(dik_j, &info("jane"), &mut rj);
        let received = sent_h2.handle(&tamper(h3), dik_i.public())?;
        let (sent_h4, h4, agreement) = received.allow(dik_i, &info("ian"), &mut ri);
        result.initiator = Some(agreement);
        let H4::Offer(offer) = sent_h3.handle(&tamper(h4))? else {
            return Err(HandshakeError::Proof);
        };
        result.joiner = Some(offer.agreement().clone());
        let (sent_h5, h5) = offer.stored();
        let initiator::H5::Stored(received) = sent_h4.handle(&tamper(h5))? else {
            return Err(HandshakeError::Proof);
        };
        sent_h5.handle(&tamper(received.confirm()))?;
        Ok(())
    };
    let mut steps = steps;
    result.complete = steps().is_ok();
    result
}

#[test]
fn b16_b21_both_sides_end_with_the_same_secret_and_each_others_identity() {
    let run = run(&mut |f| f);
    assert!(run.complete);
    let (j, i) = (run.joiner.expect("joiner"), run.initiator.expect("initiator"));
    assert!(j.pair_secret == i.pair_secret);
    assert_eq!(j.pairing_id, i.pairing_id);
    assert_eq!(j.peer, identity(12).public());
    assert_eq!(i.peer, identity(11).public());
    assert_eq!(j.info.name.as_str(), "ian");
    assert_eq!(i.info.name.as_str(), "jane");
}

#[test]
fn attack_6_a_flipped_bit_in_any_byte_of_any_frame_ends_the_run() {
    let lengths: Vec<(FrameType, usize)> = {
        let mut seen = Vec::new();
        run(&mut |f| {
            seen.push((f.kind(), f.body().len()));
            f
        });
        seen
    };
    assert_eq!(lengths.len(), 7);
    for (kind, len) in lengths {
        for position in 0..len {
            let run = run(&mut |f| {
                if f.kind() != kind {
                    return f;
                }
                let mut body = f.body().to_vec();
                body[position] ^= 0x40;
                Frame::new(kind, body)
            });
            assert!(!run.complete, "{kind:?} byte {position}");
            if kind < FrameType::H4 {
                assert!(run.joiner.is_none() && run.initiator.is_none(), "{kind:?} byte {position}");
            }
        }
    }
}

#[test]
fn attack_1_and_2_without_the_code_neither_side_gets_past_the_first_message() {
    let run = run_with(&keys(5), &keys(6), &identity(11), &identity(12), &mut |f| f);
    assert!(!run.complete && run.joiner.is_none() && run.initiator.is_none());
}

#[test]
fn attack_9_a_device_does_not_pair_with_itself() {
    let run = run_with(&keys(5), &keys(5), &identity(11), &identity(11), &mut |f| f);
    assert!(!run.complete && run.joiner.is_none() && run.initiator.is_none());
}

#[test]
fn attack_3_and_5_a_first_message_is_worthless_on_another_connection() {
    let keys = keys(5);
    let (_, [p1, _]) = joiner::start(&keys, Mode::Words, false, TID_J, TID_I, &mut rng(1));
    let relayed = P1::parse(&p1, Tid([3; 32]), TID_I).expect("layout");
    assert!(!relayed.is_for(&keys));
    let to_another = P1::parse(&p1, TID_J, Tid([3; 32])).expect("layout");
    assert!(!to_another.is_for(&keys));
    assert!(P1::parse(&p1, TID_J, TID_I).expect("layout").is_for(&keys));
}

#[test]
fn attack_8_a_low_order_key_is_refused_in_both_directions() {
    for kind in [FrameType::H1, FrameType::H2] {
        let run = run(&mut |f| {
            if f.kind() != kind {
                return f;
            }
            let mut body = f.body().to_vec();
            body[..32].fill(0);
            Frame::new(kind, body)
        });
        assert!(!run.complete && run.initiator.is_none());
    }
}

#[test]
fn attack_36_a_version_list_without_ours_or_another_mode_is_refused() {
    let keys = keys(5);
    let (_, [p1, h1]) = joiner::start(&keys, Mode::Words, false, TID_J, TID_I, &mut rng(1));
    let change = |at: usize, value: u8| {
        let mut body = p1.body().to_vec();
        body[at] = value;
        Frame::new(FrameType::P1, body)
    };
    assert!(P1::parse(&change(5, 2), TID_J, TID_I).is_err(), "version 2 only");
    assert!(P1::parse(&change(4, 9), TID_J, TID_I).is_err(), "nine versions");
    for mode in [0, 4, 5, 0x7f, 0x80, 0x83, 0x84, 0xff] {
        assert!(P1::parse(&change(13, mode), TID_J, TID_I).is_err(), "unknown mode {mode}");
    }
    let without_a_code = P1::parse(&change(13, 3), TID_J, TID_I).expect("layout");
    assert!(!without_a_code.is_for(&keys));
    // Words turned into QR on the way, or a comparison asked for in the joiner's name: the tag fits, the prologue does not.
    for mode in [1, 0x81, 0x82] {
        let rewritten = P1::parse(&change(13, mode), TID_J, TID_I).expect("layout");
        assert!(rewritten.is_for(&keys));
        assert!(rewritten.handle(&keys, &h1, &mut rng(2)).is_err(), "{mode}");
    }
}

#[test]
fn a_refusal_reaches_only_who_proved_the_code() {
    let keys = keys(5);
    for refusal in [Refusal::Expired, Refusal::Used, Refusal::Cancelled, Refusal::Busy, Refusal::Burned] {
        let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, false, TID_J, TID_I, &mut rng(1));
        let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
        let h2 = p1.handle(&keys, &h1, &mut rng(2)).expect("proof").refuse(refusal, &mut rng(3));
        match sent_h1.handle(&h2).expect("proof") {
            H2::Refused(said) => assert_eq!(said, refusal),
            H2::GoOn(_) | H2::Compare(..) => panic!("refused"),
        }
    }
}

// The comparison.

/// A handshake up to the comparison, each side with what it would show. `tamper` may change any frame on its way.
fn up_to_comparison(
    asks: (bool, bool),
    tamper: &mut dyn FnMut(Frame) -> Frame,
) -> Result<(Box<joiner::Comparing>, initiator::Comparing), HandshakeError> {
    let (keys, mut rj, mut ri) = (keys(5), rng(21), rng(22));
    let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, asks.0, TID_J, TID_I, &mut rj);
    let p1 = P1::parse(&tamper(p1), TID_J, TID_I)?;
    if !p1.is_for(&keys) {
        return Err(HandshakeError::Proof);
    }
    compare(sent_h1, p1.handle(&keys, &tamper(h1), &mut ri)?, asks.1, &mut ri, tamper)
}

/// The same without a code.
fn up_to_nearby_comparison(
    tamper: &mut dyn FnMut(Frame) -> Frame,
) -> Result<(Box<joiner::Comparing>, initiator::Comparing), HandshakeError> {
    let (mut rj, mut ri) = (rng(21), rng(22));
    let (sent_p1, p1) = joiner::start_nearby(Nid([9; 16]), TID_J, TID_I, &mut rj);
    let p1 = P1::parse(&tamper(p1), TID_J, TID_I)?;
    if p1.nid() != Some(Nid([9; 16])) {
        return Err(HandshakeError::Proof);
    }
    let (sent_p2, p2) = p1.answer(&mut ri).ok_or(HandshakeError::Proof)?;
    let (sent_h1, h1) = sent_p1.handle(&tamper(p2), &mut rj)?;
    compare(sent_h1, sent_p2.handle(&tamper(h1), &mut ri)?, false, &mut ri, tamper)
}

fn compare(
    sent_h1: joiner::SentH1,
    received: initiator::ReceivedH1,
    verify: bool,
    ri: &mut Rng,
    tamper: &mut dyn FnMut(Frame) -> Frame,
) -> Result<(Box<joiner::Comparing>, initiator::Comparing), HandshakeError> {
    let (Next::Comparison(asked), h2) = received.go_on(verify, ri) else { panic!("somebody asked for a comparison") };
    let H2::Compare(of_joiner, s3) = sent_h1.handle(&tamper(h2))? else {
        return Err(HandshakeError::Proof);
    };
    Ok((of_joiner, asked.handle(&tamper(s3))?))
}

#[test]
fn a_comparison_that_either_side_asks_for_shows_the_same_on_both_and_the_handshake_goes_on() {
    for asks in [Some((true, false)), Some((false, true)), Some((true, true)), None] {
        let compared = match asks {
            Some(asks) => up_to_comparison(asks, &mut |f| f),
            None => up_to_nearby_comparison(&mut |f| f),
        };
        let (of_joiner, of_initiator) = compared.expect("nobody interferes");
        assert!(of_joiner.sas() == of_initiator.sas(), "{asks:?}");
        let resume = of_joiner.resume_frame();
        assert_eq!(resume.body(), of_initiator.resume_token(), "{asks:?}");
        let (sent_h3, h3) = of_joiner.matched().send(&identity(11), &info("jane"), &mut rng(3));
        let received = of_initiator.matched().handle(&h3, identity(12).public()).expect("an identity");
        let (_, h4, agreement) = received.allow(&identity(12), &info("ian"), &mut rng(4));
        let Ok(H4::Offer(offer)) = sent_h3.handle(&h4) else { panic!("an offer") };
        assert!(offer.agreement().pair_secret == agreement.pair_secret);
    }
}

#[test]
fn attack_6_31_a_flipped_bit_before_a_comparison_ends_the_run_or_shows_on_the_screens() {
    type Run =
        fn(&mut dyn FnMut(Frame) -> Frame) -> Result<(Box<joiner::Comparing>, initiator::Comparing), HandshakeError>;
    let with_code: Run = |tamper| up_to_comparison((true, false), tamper);
    for (run, frames) in [(with_code, 4), (up_to_nearby_comparison as Run, 5)] {
        let mut seen = Vec::new();
        run(&mut |f| {
            seen.push((f.kind(), f.body().len()));
            f
        })
        .unwrap_or_else(|_| panic!("nobody interferes"));
        assert_eq!(seen.len(), frames);
        for (kind, len) in seen {
            for position in 0..len {
                let flipped = run(&mut |f| {
                    if f.kind() != kind {
                        return f;
                    }
                    let mut body = f.body().to_vec();
                    body[position] ^= 0x40;
                    Frame::new(kind, body)
                });
                assert!(flipped.is_err(), "{kind:?} byte {position}");
            }
        }
    }
}

#[test]
fn attack_31_a_commitment_opened_with_anything_else_shows_nothing() {
    // The frame is right in every respect but what is in it: only the commitment can tell.
    let (keys, mut rj, mut ri) = (keys(5), rng(21), rng(22));
    let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, true, TID_J, TID_I, &mut rj);
    let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
    let received = p1.handle(&keys, &h1, &mut ri).expect("a proof");
    let (Next::Comparison(asked), h2) = received.go_on(false, &mut ri) else { panic!("a comparison") };
    let lying = sent_h1.with_other_opening();
    let Ok(H2::Compare(_, s3)) = lying.handle(&h2) else { panic!("a comparison") };
    assert!(matches!(asked.handle(&s3), Err(HandshakeError::Proof)));
}

#[test]
fn an_initiator_that_leaves_out_the_comparison_we_asked_for_is_refused_and_one_that_adds_it_is_not() {
    let keys = keys(5);
    // Status 0 under the right keys: made by a joiner that asked for nothing, read by one that did.
    for (asked, status_is_compare) in [(true, false), (false, true)] {
        let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, asked, TID_J, TID_I, &mut rng(1));
        let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
        let received = p1.handle(&keys, &h1, &mut rng(2)).expect("a proof");
        let h2 = received.with_status(u8::from(status_is_compare), &mut rng(3));
        let read = sent_h1.handle(&h2);
        if status_is_compare {
            assert!(matches!(read, Ok(H2::Compare(..))));
        } else {
            assert!(matches!(read, Err(HandshakeError::Malformed(_))));
        }
    }
    let (sent_p1, p1) = joiner::start_nearby(Nid([9; 16]), TID_J, TID_I, &mut rng(1));
    let (sent_p2, p2) = P1::parse(&p1, TID_J, TID_I).expect("layout").answer(&mut rng(2)).expect("no code");
    let (sent_h1, h1) = sent_p1.handle(&p2, &mut rng(1)).expect("a P2");
    let h2 = sent_p2.handle(&h1, &mut rng(2)).expect("an H1").with_status(0, &mut rng(3));
    assert!(sent_h1.handle(&h2).is_err(), "mode 3 without a comparison proves nothing at all");
}

#[test]
fn attack_36_a_p2_of_another_version_or_mode_is_refused() {
    for at in [0, 1] {
        let (sent_p1, p1) = joiner::start_nearby(Nid([9; 16]), TID_J, TID_I, &mut rng(1));
        let (_, p2) = P1::parse(&p1, TID_J, TID_I).expect("layout").answer(&mut rng(2)).expect("no code");
        let mut body = p2.body().to_vec();
        body[at] = 2;
        assert!(sent_p1.handle(&Frame::new(FrameType::P2, body), &mut rng(1)).is_err());
    }
}

#[test]
fn a_code_cannot_be_proven_by_a_p1_without_one_nor_is_p2_an_answer_to_a_code() {
    let keys = keys(5);
    let (_, [p1, h1]) = joiner::start(&keys, Mode::Words, false, TID_J, TID_I, &mut rng(1));
    let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
    assert_eq!(p1.nid(), None);
    assert!(p1.answer(&mut rng(2)).is_none());
    let (_, p1) = joiner::start_nearby(Nid([9; 16]), TID_J, TID_I, &mut rng(1));
    let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
    assert!(p1.handle(&keys, &h1, &mut rng(2)).is_err());
}
