//! Relays that let a connection stand and carry nothing on it: another one of the same record is tried (C2).

use std::time::Duration;

use handfast_proto::addr::{Path, RelayAddress};
use handfast_proto::cause::Cause;
use handfast_proto::id::{ConnId, JobId, StreamId};
use handfast_proto::limits;
use handfast_proto::link::{self, PairState};
use handfast_proto::session::{JobResult, Reached, Role, StreamEnd};

use crate::bench::{Bench, Host, address};
use crate::links::{Desk, ID, OURS, THEIRS, peer};
use crate::paths::opening;
use crate::relays::{Dial, HOST, connects, dials, relay, relayed, searching};

const STEP: Duration = Duration::from_millis(1);

/// The dial that waits connects through this relay.
fn by(joiner: &mut Bench, dial: &Dial, conn: u64, via: RelayAddress) -> StreamId {
    let reached = Reached { conn: ConnId(conn), tid: HOST, address: via.relay, path: Path::Relay };
    connects(joiner, dial, reached).expect("the code is tried")
}

#[test]
fn c2_a_relay_that_carries_nothing_for_three_seconds_is_given_up_for_the_other_one() {
    let (mut joiner, code) = searching(&[], &[relay(1), relay(2)]);
    let both = relayed(&joiner).expect("the relays");
    let stream = by(&mut joiner, &both, 1, relay(1));
    joiner.wait(limits::RELAY_STALL - STEP);
    assert!(dials(&joiner).is_empty() && joiner.given_up.is_empty());
    joiner.wait(STEP);
    assert!(joiner.closed.contains(&stream));
    assert_eq!(joiner.given_up, [ConnId(1)], "or it would be the answer to the next dial");
    let other = relayed(&joiner).expect("the other one");
    assert_eq!(other.relays, [relay(2)]);
    let stream = by(&mut joiner, &other, 2, relay(2));
    let (_, h4) = Host::new(&code, HOST).up_to_h4(&mut joiner, stream);
    joiner.hand(stream, h4);
    assert_eq!(joiner.asked(), 1);
}

#[test]
fn c2_the_last_relay_has_the_time_that_it_always_had() {
    for relays in [vec![relay(1)], vec![relay(2), relay(1)]] {
        let (mut joiner, _) = searching(&[], &relays);
        if relays.len() > 1 {
            let both = relayed(&joiner).expect("the relays");
            by(&mut joiner, &both, 1, relay(2));
            joiner.wait(limits::RELAY_STALL);
        }
        let last = relayed(&joiner).expect("the last one");
        by(&mut joiner, &last, 2, relay(1));
        joiner.wait(limits::HANDSHAKE_STEP - STEP);
        assert!(dials(&joiner).is_empty() && joiner.causes().is_empty());
        joiner.wait(limits::CONNECT);
        assert_eq!(joiner.causes(), [Cause::TimedOut]);
    }
}

#[test]
fn c2_a_handshake_that_loses_its_relay_tries_the_other_one_first_and_then_both() {
    let (mut joiner, code) = searching(&[address(2)], &[relay(1), relay(2)]);
    joiner.wait(limits::DIRECT_FIRST);
    let around = relayed(&joiner).expect("the relays");
    let stream = by(&mut joiner, &around, 1, relay(1));
    let (_, h4) = Host::new(&code, HOST).up_to_h4(&mut joiner, stream);
    joiner.hand(stream, h4);
    joiner.end(stream, StreamEnd::Lost);
    assert_eq!(relayed(&joiner).expect("at once").relays, [relay(2)]);
    joiner.wait(limits::OTHER_RELAY_FIRST);
    assert!(relayed(&joiner).is_none(), "it had its time");
    joiner.wait(limits::RESUME_REDIAL_MIN);
    assert_eq!(relayed(&joiner).expect("again").relays, [relay(1), relay(2)]);
}

/// The dial of its peer that waits, and the relays that it tries.
fn dial(desk: &Desk) -> Option<(JobId, Vec<RelayAddress>)> {
    desk.jobs.iter().find_map(|(id, job)| match job {
        link::Job::Dial { relays, .. } => Some((*id, relays.clone())),
        _ => None,
    })
}

/// Connects the dial that waits, and begins a hello.
fn begins(desk: &mut Desk, conn: u64, via: RelayAddress) {
    let (job, _) = dial(desk).expect("a dial");
    let reached = Reached { conn: ConnId(conn), tid: THEIRS, address: via.relay, path: Path::Relay };
    desk.done(job, JobResult::Dialled(reached));
    let (job, _) = opening(desk).expect("a hello");
    desk.done(job, JobResult::StreamOpened(StreamId(conn)));
}

#[test]
fn c2_a_link_gives_up_a_relay_that_carries_no_hello_for_the_other_one() {
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let now = desk.clocks();
    desk.links.reach(ID, THEIRS, vec![address(7)], vec![relay(1), relay(2)], now);
    desk.drain();
    begins(&mut desk, 1, relay(1));
    desk.wait(limits::RELAY_STALL - STEP);
    assert!(desk.given_up.is_empty());
    desk.wait(STEP);
    assert_eq!(desk.given_up, [ConnId(1)]);
    assert_eq!(dial(&desk).expect("at once").1, [relay(2)]);
    // The last one has the time that it always had, and then both are tried again.
    begins(&mut desk, 2, relay(2));
    desk.wait(limits::HELLO - STEP);
    assert_eq!(desk.given_up.len(), 1);
    assert!(desk.links.load() > 0);
}
