//! Connections that come in while a joiner searches: a firewall may let the initiator's own call through and nothing else
//! (A4), and anybody else may call from the same address.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::Code;
use handfast_proto::handshake::Refusal;
use handfast_proto::id::{ConnId, StreamId, Tid};
use handfast_proto::lan::WindowId;
use handfast_proto::session::{Event, Inbound, Job, JobResult, StreamEnd};
use handfast_proto::wire::advert::AdvertState;

use crate::bench::{Bench, Host, address, inbound, record, rng};

const INITIATOR: Tid = Tid([2; 32]);

/// A joiner that dials the initiator, which does not answer.
fn dialling() -> (Bench, Code) {
    let mut joiner = Bench::new(1);
    let code = Code::generate(&mut rng(3));
    joiner.join(&code);
    let look_up = joiner.jobs.iter().find(|(_, job)| matches!(job, Job::LookUp(_))).map(|(id, _)| *id);
    joiner.job_done(
        look_up.expect("it looks the code up"),
        JobResult::Found(record(&code, INITIATOR, AdvertState::Open, 1)),
    );
    assert_eq!(dials(&joiner), 1);
    (joiner, code)
}

/// A joiner that dials what it has heard on the local network, which does not answer.
fn heard() -> (Bench, Code) {
    let mut joiner = Bench::new(1);
    let code = Code::generate(&mut rng(3));
    joiner.join(&code);
    let now = joiner.clocks();
    joiner.table.handle_heard(WindowId(0), vec![address(2)], now);
    joiner.drain();
    (joiner, code)
}

fn dials(joiner: &Bench) -> usize {
    joiner.jobs.iter().filter(|(_, job)| matches!(job, Job::Dial { .. })).count()
}

/// Somebody connects from the initiator's address; the stream on which the joiner tries the code there, if it does.
fn call(joiner: &mut Bench, tid: Tid, number: u64) -> Option<StreamId> {
    let from = Inbound { address: address(2), ..inbound(tid) };
    let now = joiner.clocks();
    joiner.table.handle_connected(ConnId(number), from, now);
    joiner.drain();
    let wanted = |job: &Job| matches!(job, Job::OpenStream(ConnId(n)) if *n == number);
    let open = joiner.jobs.iter().find(|(_, job)| wanted(job)).map(|(id, _)| *id)?;
    let stream = StreamId(7_000_000 + number);
    joiner.job_done(open, JobResult::StreamOpened(stream));
    Some(stream)
}

#[test]
fn the_call_of_an_initiator_that_cannot_be_reached_is_taken_for_the_handshake() {
    let (mut joiner, code) = dialling();
    let stream = call(&mut joiner, INITIATOR, 1).expect("the code is tried");
    let mut host = Host::new(&code, INITIATOR);
    let (_, h4) = host.up_to_h4(&mut joiner, stream);
    joiner.hand(stream, h4);
    assert_eq!((joiner.asked(), dials(&joiner)), (1, 0), "and nothing else is tried any more");
}

/// The local network tells no transport key, so that anybody at the address may be the one.
#[test]
fn a_caller_that_proves_nothing_does_not_end_the_search_nor_keep_it_alive() {
    for end in [Some(StreamEnd::Finished), Some(StreamEnd::Lost), None] {
        let (mut joiner, _) = heard();
        let mut tried = 0;
        for second in 0..40 {
            let stranger = Tid([100 + u8::try_from(second).expect("few"); 32]);
            if let Some(stream) = call(&mut joiner, stranger, second) {
                tried += 1;
                if let Some(end) = end {
                    joiner.end(stream, end);
                }
            }
            assert!(second >= 9 || dials(&joiner) == 1, "what it found is tried on, {end:?}");
            joiner.wait(Duration::from_secs(1));
        }
        assert!(tried > 0);
        assert_eq!(joiner.causes(), [Cause::Unreachable], "{end:?}");
    }
}

/// Somebody silent at the same address must not keep the initiator's own call out.
#[test]
fn attack_35_two_silent_callers_make_room_for_the_next_one_after_two_seconds() {
    let (mut joiner, code) = heard();
    let silent = [1, 2].map(|n| call(&mut joiner, Tid([50 + n; 32]), n.into()).expect("the code is tried"));
    joiner.wait(Duration::from_millis(1_900));
    assert!(call(&mut joiner, INITIATOR, 3).is_none(), "they may still answer");
    joiner.wait(Duration::from_millis(200));
    let stream = call(&mut joiner, INITIATOR, 4).expect("the code is tried");
    assert_eq!(silent.map(|s| joiner.closed.contains(&s)), [true, false], "in the place of the oldest");
    let mut host = Host::new(&code, INITIATOR);
    let (_, h4) = host.up_to_h4(&mut joiner, stream);
    joiner.hand(stream, h4);
    assert_eq!(joiner.asked(), 1);
    let connected = joiner.events.iter().filter(|e| matches!(e, Event::Connected { .. })).count();
    assert_eq!(connected, 1, "the person is told once");
}

#[test]
fn a_call_just_before_a_search_ends_is_heard_out_for_two_seconds() {
    let late = Duration::from_millis(11_900);
    let (mut joiner, code) = heard();
    joiner.wait(late);
    let stream = call(&mut joiner, INITIATOR, 1).expect("the code is tried");
    joiner.wait(Duration::from_millis(500));
    let mut host = Host::new(&code, INITIATOR);
    let (_, h4) = host.up_to_h4(&mut joiner, stream);
    joiner.hand(stream, h4);
    assert_eq!((joiner.asked(), joiner.causes()), (1, vec![]));

    let (mut joiner, _) = heard();
    joiner.wait(late);
    call(&mut joiner, Tid([50; 32]), 1).expect("the code is tried");
    joiner.wait(Duration::from_millis(2_000));
    assert_eq!(joiner.causes(), []);
    joiner.wait(Duration::from_millis(200));
    assert_eq!(joiner.causes(), [Cause::Unreachable]);
}

#[test]
fn a_caller_that_is_busy_is_not_dialled_in_place_of_what_was_found() {
    let (mut joiner, code) = heard();
    let stream = call(&mut joiner, INITIATOR, 1).expect("the code is tried");
    let h2 = Host::new(&code, INITIATOR).take_h1(&mut joiner, stream).refuse(Refusal::Busy, &mut rng(8));
    joiner.hand(stream, h2);
    joiner.wait(Duration::from_secs(5));
    assert_eq!(dials(&joiner), 1, "the find, which does not answer");
}

#[test]
fn callers_from_elsewhere_or_under_another_key_than_the_record_names_are_none() {
    let (mut joiner, _) = dialling();
    assert!(call(&mut joiner, Tid([9; 32]), 1).is_none());
    let now = joiner.clocks();
    joiner.table.handle_connected(ConnId(2), inbound(INITIATOR), now);
    joiner.drain();
    assert!(joiner.jobs.iter().any(|(_, job)| matches!(job, Job::OpenStream(_))), "its own address");
    let (mut joiner, _) = dialling();
    let elsewhere = Inbound { address: address(77), ..inbound(INITIATOR) };
    joiner.table.handle_connected(ConnId(3), elsewhere, now);
    joiner.drain();
    assert!(!joiner.jobs.iter().any(|(_, job)| matches!(job, Job::OpenStream(_))));
}
