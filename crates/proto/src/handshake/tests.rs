//! One honest run, and everything a man in the middle can do to a single byte of it.

use super::initiator::{self, P1};
use super::joiner::{self, H2, H4};
use super::*;
use crate::code::Code;
use crate::id::Identity;
use crate::keys::CodeKeys;
use crate::secret::Rng;
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
        let (sent_h1, [p1, h1]) = joiner::start(joiner_keys, Mode::Words, TID_J, TID_I, &mut rj);
        let p1 = P1::parse(&tamper(p1), TID_J, TID_I)?;
        if !p1.is_for(initiator_keys) {
            return Err(HandshakeError::Proof);
        }
        let (sent_h2, h2) = p1.handle(initiator_keys, &tamper(h1), &mut ri)?.go_on(&mut ri);
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
    let (_, [p1, _]) = joiner::start(&keys, Mode::Words, TID_J, TID_I, &mut rng(1));
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
    let (_, [p1, h1]) = joiner::start(&keys, Mode::Words, TID_J, TID_I, &mut rng(1));
    let change = |at: usize, value: u8| {
        let mut body = p1.body().to_vec();
        body[at] = value;
        Frame::new(FrameType::P1, body)
    };
    assert!(P1::parse(&change(5, 2), TID_J, TID_I).is_err(), "version 2 only");
    assert!(P1::parse(&change(4, 9), TID_J, TID_I).is_err(), "nine versions");
    assert!(P1::parse(&change(13, 3), TID_J, TID_I).is_err(), "unknown mode");
    // Words turned into QR on the way: the tag still fits, the prologue does not.
    let rewritten = P1::parse(&change(13, 1), TID_J, TID_I).expect("layout");
    assert!(rewritten.handle(&keys, &h1, &mut rng(2)).is_err());
}

#[test]
fn a_refusal_reaches_only_who_proved_the_code() {
    let keys = keys(5);
    for refusal in [Refusal::Expired, Refusal::Used, Refusal::Cancelled, Refusal::Busy, Refusal::Burned] {
        let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, TID_J, TID_I, &mut rng(1));
        let p1 = P1::parse(&p1, TID_J, TID_I).expect("layout");
        let h2 = p1.handle(&keys, &h1, &mut rng(2)).expect("proof").refuse(refusal, &mut rng(3));
        match sent_h1.handle(&h2).expect("proof") {
            H2::Refused(said) => assert_eq!(said, refusal),
            H2::GoOn(_) => panic!("refused"),
        }
    }
}
