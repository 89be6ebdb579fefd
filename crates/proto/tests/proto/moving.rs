//! Links of devices that move between networks, and what is kept while people still agree.

use std::time::Duration;

use handfast_proto::addr::Path;
use handfast_proto::id::{ConnId, StreamId, Tid};
use handfast_proto::limits;
use handfast_proto::link::PairState;
use handfast_proto::session::{Inbound, JobResult, Role};

use crate::bench::inbound;
use crate::links::{Desk, ID, OURS, THEIRS, peer};
use crate::paths::{RELAYED, arrives, hello_succeeds, lost, opening, pong, told, ups, welcome, welcome_and_doubt};
use crate::relays::through_relay;

fn desk() -> Desk {
    Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new())
}

fn at(path: Path, from: Inbound) -> Inbound {
    Inbound { path, ..from }
}

#[test]
fn c13_a_peer_that_comes_on_a_new_connection_is_spoken_to_there_at_once_and_the_old_one_has_two_seconds() {
    for (old, new) in [(Path::Direct, Path::Direct), (Path::Direct, Path::Relay), (Path::Lan, Path::Direct)] {
        let mut desk = desk();
        welcome(&mut desk, 5, at(old, inbound(THEIRS)));
        let asked = welcome_and_doubt(&mut desk, 6, at(new, inbound(THEIRS)));
        assert_eq!(asked.len(), 1);
        assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(new), "{old:?} to {new:?}");
        // Nothing comes back.
        desk.done(asked[0].0, JobResult::StreamOpened(StreamId(1)));
        desk.wait(limits::DOUBT - Duration::from_millis(1));
        assert!(desk.given_up.is_empty());
        desk.wait(Duration::from_millis(1));
        assert_eq!(desk.given_up, [ConnId(5)]);
        assert_eq!(desk.links.authorised(ConnId(5)), None);
        lost(&mut desk, 5);
        assert_eq!((ups(&desk), told(&desk).len()), (1, usize::from(old != new)));
    }
}

#[test]
fn c13_an_old_connection_that_answers_is_used_again() {
    let mut desk = desk();
    welcome(&mut desk, 5, inbound(THEIRS));
    let asked = welcome_and_doubt(&mut desk, 6, at(Path::Relay, inbound(THEIRS)));
    desk.done(asked[0].0, JobResult::StreamOpened(StreamId(1)));
    desk.hand(StreamId(1), &pong(0));
    assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(Path::Direct));
    desk.wait(Duration::from_secs(60));
    // The relay was spare, and nothing else was given up.
    assert_eq!(desk.given_up, [ConnId(6)]);
    assert_eq!(ups(&desk), 1);
}

#[test]
fn a_wrong_answer_an_end_or_no_stream_dispels_no_doubt() {
    for answer in ["wrong", "end", "no stream"] {
        let mut desk = desk();
        welcome(&mut desk, 5, inbound(THEIRS));
        let asked = welcome_and_doubt(&mut desk, 6, inbound(THEIRS));
        if answer == "no stream" {
            desk.done(asked[0].0, JobResult::StreamFailed);
        } else {
            desk.done(asked[0].0, JobResult::StreamOpened(StreamId(1)));
            let now = desk.clocks();
            match answer {
                "wrong" => drop(desk.hand(StreamId(1), &pong(7))),
                _ => desk.links.handle_stream_end(StreamId(1), now),
            }
        }
        desk.wait(limits::DOUBT);
        assert_eq!(desk.given_up, [ConnId(5)], "{answer}");
    }
}

#[test]
fn a_hello_of_ours_and_one_on_a_better_connection_raise_no_doubt() {
    let mut desk = desk();
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert!(welcome_and_doubt(&mut desk, 6, inbound(THEIRS)).is_empty(), "it is the better one");
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    arrives(&mut desk, 6, inbound(THEIRS));
    hello_succeeds(&mut desk, THEIRS, OURS);
    desk.wait(limits::DOUBT);
    assert!(desk.given_up.is_empty());
}

#[test]
fn connections_of_a_run_of_the_peer_that_has_ended_are_given_up_at_once() {
    let mut desk = desk();
    welcome(&mut desk, 5, inbound(THEIRS));
    assert!(welcome_and_doubt(&mut desk, 6, inbound(Tid([7; 32]))).is_empty());
    assert_eq!(desk.given_up, [ConnId(5)]);
    assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(Path::Direct));
    assert_eq!(ups(&desk), 1, "it was up all the time");
}

#[test]
fn a_hole_that_is_punched_while_people_agree_is_kept_until_they_have_and_no_longer() {
    for ends in ["paired", "not"] {
        let mut desk = desk();
        arrives(&mut desk, 2, inbound(THEIRS));
        arrives(&mut desk, 3, inbound(Tid([9; 32])));
        assert!(desk.held.is_empty(), "nobody is met through a relay");
        arrives(&mut desk, RELAYED, through_relay(THEIRS));
        assert_eq!(desk.held.iter().copied().collect::<Vec<_>>(), [ConnId(2)]);
        if ends == "paired" {
            let now = desk.clocks();
            desk.links.greet(ID, THEIRS, now);
            desk.drain();
            assert_eq!(opening(&desk).map(|(_, conn)| conn), Some(ConnId(2)), "the better one");
            hello_succeeds(&mut desk, THEIRS, OURS);
            assert!(desk.held.contains(&ConnId(2)), "by the link now");
            assert_eq!((ups(&desk), told(&desk).len()), (1, 0));
        }
        lost(&mut desk, RELAYED);
        assert_eq!(desk.held.contains(&ConnId(2)), ends == "paired");
    }
}

#[test]
fn a_hello_that_fails_on_a_kept_connection_leaves_nothing_held() {
    let mut desk = desk();
    arrives(&mut desk, 2, inbound(THEIRS));
    arrives(&mut desk, RELAYED, through_relay(THEIRS));
    let now = desk.clocks();
    desk.links.greet(ID, THEIRS, now);
    desk.drain();
    let (job, _) = opening(&desk).expect("a hello");
    desk.done(job, JobResult::StreamFailed);
    assert!(desk.held.is_empty());
}

#[test]
fn a_new_pairing_is_greeted_on_the_relay_where_there_is_nothing_better_and_not_at_all_where_nobody_is_met() {
    let mut desk = desk();
    let now = desk.clocks();
    desk.links.greet(ID, THEIRS, now);
    desk.drain();
    assert_eq!(opening(&desk), None);
    arrives(&mut desk, 4, through_relay(Tid([9; 32])));
    arrives(&mut desk, RELAYED, through_relay(THEIRS));
    desk.links.greet(ID, THEIRS, now);
    desk.drain();
    assert_eq!(opening(&desk).map(|(_, conn)| conn), Some(ConnId(RELAYED)));
}

#[test]
fn a_peer_keeps_four_connections_and_the_best_and_the_newest_of_them() {
    let mut desk = desk();
    for conn in 1..=8 {
        welcome(&mut desk, conn, at(if conn == 2 { Path::Lan } else { Path::Direct }, inbound(THEIRS)));
    }
    assert_eq!(desk.given_up, [1, 3, 4, 5].map(ConnId));
    assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(Path::Lan));
    assert_eq!(ups(&desk), 1);
}

#[test]
fn a_peer_is_answered_sixteen_pings_at_once_and_others_all_the_same() {
    let mut desk = desk();
    welcome(&mut desk, 5, inbound(THEIRS));
    let answered = (0..40).filter(|_| !desk.ping_on(5).1.is_empty()).count();
    assert_eq!(answered, limits::MAX_PING_STREAMS);
}

#[test]
fn only_a_peer_that_has_proven_itself_on_a_relay_learns_where_we_are() {
    let mut desk = desk();
    arrives(&mut desk, RELAYED, through_relay(THEIRS));
    desk.open_from(RELAYED, through_relay(THEIRS));
    assert!(desk.proven.is_empty());
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert_eq!(desk.proven, [ConnId(RELAYED)]);
    welcome(&mut desk, 2, inbound(THEIRS));
    assert_eq!(desk.proven.len(), 1, "nothing is to be gained on a direct one");
}
