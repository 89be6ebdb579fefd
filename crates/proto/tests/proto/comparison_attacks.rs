//! Attacks 30 to 33 on the comparison: against the machines, against the handshake without a code, and, to see that the
//! attacker is worth something, against the two orders of messages that are known to be broken (models 08 and 09).

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::handshake::initiator::{Next, P1};
use handfast_proto::handshake::joiner::{self, H2};
use handfast_proto::id::Tid;
use handfast_proto::sas::Sas;
use handfast_proto::session::StreamEnd;
use handfast_proto::wire::advert::AdvertState;
use handfast_proto::wire::beacon::Nid;
use handfast_proto::wire::frames::{Frame, FrameType};

use crate::bench::{Bench, Guest, Host, frame, record, rng};
use crate::byhand::{self, Lie};
use crate::comparison::VERIFY;
use crate::vectors::spec::h;

const EVIL: Tid = Tid([66; 32]);

#[test]
fn attack_4_30_a18_whoever_sits_in_the_middle_with_the_code_and_keys_of_its_own_makes_the_pictures_differ() {
    // The attacker has seen the code, answers the joiner for the initiator and the initiator for the joiner.
    let (mut initiator, mut joiner) = (Bench::new(1), Bench::new(2));
    let (shown_here, code) = initiator.code_with(600, VERIFY);
    joiner.join(&code);
    let towards_joiner = joiner.found(&record(&code, EVIL, AdvertState::Open, 1), EVIL);
    let mut host = Host::new(&code, EVIL);
    let mut guest = Guest::new(66, &code);
    let of_joiner = host.up_to_comparison(&mut joiner, towards_joiner);
    let (towards_initiator, of_initiator, _) = guest.up_to_comparison(&mut initiator);
    assert!(joiner.shown().as_ref() == Some(of_joiner.sas()), "the attacker knows what the joiner's person sees");
    assert!(initiator.shown().as_ref() == Some(of_initiator.sas()), "and what the initiator's person sees");
    assert!(joiner.shown() != initiator.shown(), "but not how to make them equal");
    // It says "they match" to both at once; nobody believes it.
    let (_, h3) = guest.h3(*of_initiator);
    initiator.hand(towards_initiator, h3);
    joiner.hand(towards_joiner, frame(FrameType::H4, 1));
    assert_eq!(joiner.causes(), [Cause::AuthenticationFailed], "an H4 before H3 breaks the comparison off");
    initiator.compare(&shown_here, false);
    assert_eq!(initiator.causes(), [Cause::AuthenticationFailed]);
    assert!(initiator.stored.is_empty() && joiner.stored.is_empty());
    assert!(joiner.sent.iter().chain(&initiator.sent).all(|(_, f)| f.kind() < FrameType::H3), "no identity was shown");
}

#[test]
fn attack_31_a_commitment_that_is_opened_wrongly_late_early_or_twice_shows_nothing_new_and_pairs_nobody() {
    // Wrongly: nothing is shown, it counts as a failed proof, and three of them burn the code (attack 12).
    let mut bench = Bench::new(1);
    let (_, code) = bench.code_with(600, VERIFY);
    for round in 1..=3 {
        let tid = Tid([40 + round; 32]);
        let (joining, [p1, h1]) = byhand::join_comparing(&code, tid, bench.tid);
        let stream = bench.open(tid);
        bench.hand(stream, p1);
        bench.hand(stream, h1);
        let h2 = bench.take_sent(stream);
        let mut sealed = joining.take_h2(&h2[0]);
        bench.hand(stream, sealed.s3(Lie { opening: true, ..Lie::default() }));
        assert!(bench.closed.contains(&stream) && bench.shown().is_none());
    }
    assert_eq!(bench.causes(), [Cause::TooManyAttempts]);

    // Late: H3 in its place, which counts as well.
    let mut bench = Bench::new(1);
    let (_, code) = bench.code_with(600, VERIFY);
    for round in 1..=3 {
        let (stream, sealed) = up_to_s3(&mut bench, &code);
        bench.hand(stream, sealed.h3(&[51; 32], Lie::default()));
        assert!(bench.closed.contains(&stream) && bench.shown().is_none() && bench.asked() == 0);
        assert_eq!(bench.state(), if round < 3 { "open" } else { "failed" });
    }
    assert_eq!(bench.causes(), [Cause::TooManyAttempts]);

    // Early: before H2 was even there.
    let (_, [p1, _]) = byhand::join_comparing(&code, EVIL, bench.tid);
    let stream = bench.open(EVIL);
    bench.hand(stream, p1);
    bench.hand(stream, frame(FrameType::S3, 1));
    assert!(bench.closed.contains(&stream) && bench.shown().is_none());

    // Twice: the same bytes change nothing, other ones end it, whatever they say.
    for lie in [Lie { opening: true, ..Lie::default() }, Lie::default()] {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code_with(600, VERIFY);
        let (stream, mut sealed) = up_to_s3(&mut bench, &code);
        let s3 = sealed.s3(Lie::default());
        bench.hand(stream, s3.clone());
        let first = bench.shown();
        bench.hand(stream, s3);
        assert!(first.is_some() && bench.shown() == first && bench.causes().is_empty());
        bench.hand(stream, sealed.s3(lie));
        assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
        assert!(bench.shown() == first && bench.stored.is_empty());
    }

    // And H3 must open it as S3 did.
    let mut bench = Bench::new(1);
    let (session, code) = bench.code_with(600, VERIFY);
    let (stream, mut sealed) = up_to_s3(&mut bench, &code);
    bench.hand(stream, sealed.s3(Lie::default()));
    bench.compare(&session, true);
    bench.hand(stream, sealed.h3(&[51; 32], Lie { opening: true, ..Lie::default() }));
    assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
    assert!(bench.stored.is_empty());
}

/// A joiner made by hand that has been asked to compare.
fn up_to_s3(bench: &mut Bench, code: &handfast_proto::code::Code) -> (handfast_proto::id::StreamId, byhand::Sealed) {
    let (joining, [p1, h1]) = byhand::join_comparing(code, EVIL, bench.tid);
    let stream = bench.open(EVIL);
    bench.hand(stream, p1);
    bench.hand(stream, h1);
    let h2 = bench.take_sent(stream);
    (stream, joining.take_h2(&h2[0]))
}

#[test]
fn the_same_hand_without_a_lie_pairs_so_the_lies_are_what_was_refused() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code(600);
    let (stream, mut sealed) = up_to_s3(&mut bench, &code);
    bench.hand(stream, sealed.s3(Lie::default()));
    bench.hand(stream, sealed.h3(&[51; 32], Lie::default()));
    bench.compare(&session, true);
    assert_eq!((bench.stored.len(), bench.take_sent(stream).len()), (1, 1));
}

/// Whoever was told to compare can work out what the other screen will show, before it opens what it had committed itself
/// to. It has three tries, not as many as it has time for.
#[test]
fn attack_30_31_who_looks_at_the_pictures_and_begins_again_burns_the_code() {
    for keeps_the_stream in [false, true] {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        for tries in 0..3 {
            assert_eq!(bench.causes(), [], "after {tries}");
            let (stream, _) = up_to_s3(&mut bench, &code);
            if !keeps_the_stream {
                bench.end(stream, StreamEnd::Finished);
            }
        }
        if keeps_the_stream {
            // The next one takes the place of the third.
            let (_, [p1, h1]) = byhand::join_comparing(&code, EVIL, bench.tid);
            let stream = bench.open(EVIL);
            bench.hand(stream, p1);
            bench.hand(stream, h1);
        }
        assert_eq!(bench.causes(), [Cause::TooManyAttempts]);
        assert!(bench.stored.is_empty());
    }
}

#[test]
fn attack_7_31_any_other_frame_while_people_compare_breaks_it_off() {
    for kind in FrameType::ALL {
        for confirmed in [false, true] {
            let mut bench = Bench::new(1);
            let (session, code) = bench.code_with(600, VERIFY);
            let (stream, mut sealed) = up_to_s3(&mut bench, &code);
            bench.hand(stream, sealed.s3(Lie::default()));
            if confirmed {
                bench.compare(&session, true);
            }
            // One H3 is held unread while our person compares; a second one is not.
            if *kind == FrameType::H3 && !confirmed {
                bench.hand(stream, frame(*kind, 2));
                assert!(bench.causes().is_empty());
            }
            bench.hand(stream, frame(*kind, 1));
            assert_eq!(bench.causes(), [Cause::AuthenticationFailed], "{kind:?} {confirmed}");
            assert!(bench.closed.contains(&stream) && bench.stored.is_empty());
        }
        let (mut bench, code) = (Bench::new(2), handfast_proto::code::Code::generate(&mut rng(3)));
        bench.join_with(&code, VERIFY);
        let stream = bench.found(&record(&code, EVIL, AdvertState::Open, 1), EVIL);
        let _ = Host::new(&code, EVIL).up_to_comparison(&mut bench, stream);
        bench.hand(stream, frame(*kind, 1));
        assert_eq!(bench.causes(), [Cause::AuthenticationFailed], "{kind:?} to the joiner");
    }
}

#[test]
fn attack_31_an_h3_that_was_held_and_lies_ends_the_session_after_the_person_confirmed() {
    let mut bench = Bench::new(1);
    let (session, code) = bench.code_with(600, VERIFY);
    let (stream, mut sealed) = up_to_s3(&mut bench, &code);
    bench.hand(stream, sealed.s3(Lie::default()));
    bench.hand(stream, sealed.h3(&[51; 32], Lie { session: Some([1; 32]), ..Lie::default() }));
    bench.compare(&session, true);
    assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
    assert!(bench.stored.is_empty());
}

#[test]
fn attack_33_a_comparison_that_nobody_answers_pairs_nobody() {
    let mut bench = Bench::new(1);
    let (_, code) = bench.code_with(600, VERIFY);
    let mut guest = Guest::new(2, &code);
    let (stream, comparing, _) = guest.up_to_comparison(&mut bench);
    let (_, h3) = guest.h3(*comparing);
    bench.hand(stream, h3);
    bench.wait(Duration::from_secs(120));
    assert_eq!(bench.causes(), [Cause::TimedOut]);
    assert!(bench.stored.is_empty() && bench.closed.contains(&stream));
}

#[test]
fn attack_36_a_comparison_that_the_joiner_asked_for_cannot_be_talked_away() {
    // The initiator has the code and answers "go on" without a comparison: it is no candidate any more.
    let (mut bench, code) = (Bench::new(2), handfast_proto::code::Code::generate(&mut rng(3)));
    bench.join_with(&code, VERIFY);
    let stream = bench.found(&record(&code, EVIL, AdvertState::Open, 1), EVIL);
    let sent = bench.take_sent(stream);
    let (_, h2) = byhand::host(&code, EVIL, bench.tid, &sent[0], &sent[1]);
    bench.hand(stream, h2);
    assert_eq!(bench.causes(), [Cause::AuthenticationFailed]);
    assert!(bench.sent.is_empty() && bench.shown().is_none());
}

// Without a code (mode 3): the attacker needs none, so the pictures are all there is. It is let loose on the handshake of
// the crate, and on the same idea with the order of messages changed. Since 42 bits are too many to search in a test,
// people here compare the first two pictures only; the orders that are broken do not care.

/// What a lazy person compares: 12 bits.
type Glance = [&'static str; 2];

fn glance(sas: &Sas) -> Glance {
    let [first, second, ..] = sas.emoji();
    [first, second]
}

const JANE: Tid = Tid([2; 32]);
const IAN: Tid = Tid([1; 32]);

/// One honest side of mode 3, up to what it shows: the joiner, talking to whoever has this transport key.
fn joiner_meets(seed: u8, answer: impl FnOnce(Frame) -> (Frame, Box<dyn FnOnce(Frame) -> Frame>)) -> (Sas, Frame) {
    let mut jane = rng(seed);
    let (sent, p1) = joiner::start_nearby(Nid([7; 16]), JANE, EVIL, &mut jane);
    let (p2, next) = answer(p1);
    let (sent, h1) = sent.handle(&p2, &mut jane).expect("a P2");
    let Ok(H2::Compare(comparing, s3)) = sent.handle(&next(h1)) else { panic!("a comparison") };
    (comparing.sas().clone(), s3)
}

/// The attacker as the device that Jane selected: what Jane's screen shows.
fn fool_jane(seed: u8, own: u8) -> Glance {
    let mut evil = rng(own);
    let (sas, _) = joiner_meets(seed, move |p1| {
        let p1 = P1::parse(&p1, JANE, EVIL).expect("a P1");
        let (sent, p2) = p1.answer(&mut evil).expect("no code");
        let next = move |h1: Frame| sent.handle(&h1, &mut evil).expect("an H1").go_on(false, &mut evil).1;
        (p2, Box::new(next))
    });
    glance(&sas)
}

/// The attacker as Jane towards Ian, who waits: what Ian's screen shows.
fn fool_ian(seed: u8, own: u8) -> Glance {
    let (mut ian, mut evil) = (rng(seed), rng(own));
    let (sent, p1) = joiner::start_nearby(Nid([7; 16]), EVIL, IAN, &mut evil);
    let (waiting, p2) = P1::parse(&p1, EVIL, IAN).expect("a P1").answer(&mut ian).expect("no code");
    let (sent, h1) = sent.handle(&p2, &mut evil).expect("a P2");
    let (Next::Comparison(asked), h2) = waiting.handle(&h1, &mut ian).expect("an H1").go_on(false, &mut ian) else {
        panic!("mode 3 compares")
    };
    let Ok(H2::Compare(_, s3)) = sent.handle(&h2) else { panic!("a comparison") };
    glance(asked.handle(&s3).expect("the commitment opens").sas())
}

/// How often the attacker makes both screens show the same two pictures. Whichever side it finishes first, everything
/// of its own towards the other is fixed before that one's last number is known, so it has one try a run.
fn real(runs: u8) -> usize {
    (0..runs).filter(|run| fool_jane(2 * run, 100 + (run % 100)) == fool_ian(2 * run + 1, 200 - (run % 100))).count()
}

/// The order in which a flow tells its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As the protocol has it: commitment to r_J, e_J; e_I and r_I; r_J.
    CommitThenReveal,
    /// e_J; e_I and r_I; r_J.
    NoCommitment,
    /// Commitment to r_J, e_J and r_J; e_I and r_I.
    EarlyOpening,
}

/// The two pictures of a flow, from everything both sides said.
fn pictures(e_i: u64, e_j: u64, r_i: u64, r_j: u64) -> u16 {
    let digest = h(&[&e_i.to_be_bytes(), &e_j.to_be_bytes(), &r_i.to_be_bytes(), &r_j.to_be_bytes()]);
    u16::from_be_bytes([digest[0], digest[1]]) >> 4
}

/// The attacker sits between Jane and Ian and searches its own last number for equal pictures, where the order leaves
/// it one to choose late.
fn toy(order: Order, seed: u64) -> bool {
    let mut honest = rng(seed as u8);
    let mut draw = || u64::from_be_bytes(honest.bytes());
    let (e_jane, r_jane, e_ian, r_ian) = (draw(), draw(), draw(), draw());
    let (e_evil, r_evil) = (draw(), draw());
    let search = |hits: &dyn Fn(u64) -> bool| (0..1 << 20).find(|r| hits(*r)).unwrap_or(r_evil);
    let (shown_to_jane, shown_to_ian) = match order {
        // Towards Ian it has committed before it hears r_ian; towards Jane it tells its own before it hears r_jane.
        Order::CommitThenReveal => (pictures(e_evil, e_jane, r_evil, r_jane), pictures(e_ian, e_evil, r_ian, r_evil)),
        // Jane has told everything before the attacker must tell Ian its r.
        Order::NoCommitment => {
            let jane = pictures(e_evil, e_jane, r_evil, r_jane);
            let r = search(&|r| pictures(e_ian, e_evil, r_ian, r) == jane);
            (jane, pictures(e_ian, e_evil, r_ian, r))
        }
        // Jane has told r_jane before she hears anything, so the attacker chooses what to answer her.
        Order::EarlyOpening => {
            let ian = pictures(e_ian, e_evil, r_ian, r_evil);
            let r = search(&|r| pictures(e_evil, e_jane, r, r_jane) == ian);
            (pictures(e_evil, e_jane, r, r_jane), ian)
        }
    };
    shown_to_jane == shown_to_ian
}

#[test]
fn attack_30_31_who_replaces_everything_wins_against_the_broken_orders_and_guesses_against_this_one() {
    const RUNS: u8 = 60;
    for (order, wins) in [(Order::NoCommitment, true), (Order::EarlyOpening, true), (Order::CommitThenReveal, false)] {
        let won = (0..u64::from(RUNS)).filter(|seed| toy(order, *seed)).count();
        assert_eq!(won == usize::from(RUNS), wins, "{won}");
        assert!(wins || won <= 1, "{won}");
    }
    // 60 guesses of 12 bits.
    assert!(real(RUNS) <= 1);
}

#[test]
fn without_an_attacker_two_devices_without_a_code_show_the_same() {
    let (mut jane, mut ian) = (rng(1), rng(2));
    let (sent, p1) = joiner::start_nearby(Nid([7; 16]), JANE, IAN, &mut jane);
    let (waiting, p2) = P1::parse(&p1, JANE, IAN).expect("a P1").answer(&mut ian).expect("no code");
    let (sent, h1) = sent.handle(&p2, &mut jane).expect("a P2");
    let (Next::Comparison(asked), h2) = waiting.handle(&h1, &mut ian).expect("an H1").go_on(false, &mut ian) else {
        panic!("mode 3 compares")
    };
    let Ok(H2::Compare(comparing, s3)) = sent.handle(&h2) else { panic!("a comparison") };
    assert!(comparing.sas() == asked.handle(&s3).expect("the commitment opens").sas());
}

#[test]
fn attack_3_4_a_mode_3_handshake_relayed_between_two_connections_does_not_even_reach_the_pictures() {
    // The attacker forwards every frame untouched; each side binds its own two transport keys.
    let (mut jane, mut ian) = (rng(1), rng(2));
    let (sent, p1) = joiner::start_nearby(Nid([7; 16]), JANE, EVIL, &mut jane);
    let (waiting, p2) = P1::parse(&p1, EVIL, IAN).expect("a P1").answer(&mut ian).expect("no code");
    let (_, h1) = sent.handle(&p2, &mut jane).expect("a P2");
    assert!(waiting.handle(&h1, &mut ian).is_err());
}
