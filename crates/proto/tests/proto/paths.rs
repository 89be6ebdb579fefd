//! Links by several connections, driven by hand: connection 1 runs through the relay, the others do not.

use std::time::Duration;

use handfast_proto::addr::{Address, Path};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::limits;
use handfast_proto::link::hello::{self, ReceivedR1};
use handfast_proto::link::{self, PairState, Peer, StoreChange};
use handfast_proto::session::{DialFailure, Inbound, JobResult, Reached, Role};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::Record;

use crate::bench::{address, identity, inbound, rng};
use crate::links::{Desk, ID, OURS, THEIRS, peer, presence_by, their_bond};

use crate::relays::{relay, relay_on_loopback, through_relay};

const STEP: Duration = Duration::from_millis(1);

pub(crate) const RELAYED: u64 = 1;

/// A desk that is connected with its peer through a relay.
pub(crate) fn desk_up_through_relay(own: Tid, their: Tid) -> Desk {
    let mut desk = Desk::of(1, own, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    welcome(&mut desk, RELAYED, through_relay(their));
    desk
}

/// The peer connects and opens a hello; the connections that stood before live still, and answer when they are asked.
pub(crate) fn welcome(desk: &mut Desk, conn: u64, from: Inbound) {
    for (job, doubted) in welcome_and_doubt(desk, conn, from) {
        let stream = StreamId(9_000 + doubted.0);
        desk.done(job, JobResult::StreamOpened(stream));
        desk.hand(stream, &pong(0));
    }
}

/// The same, and the questions to those that stood before.
pub(crate) fn welcome_and_doubt(desk: &mut Desk, conn: u64, from: Inbound) -> Vec<(JobId, ConnId)> {
    let before: Vec<JobId> = desk.jobs.iter().map(|(id, _)| *id).collect();
    arrives(desk, conn, from);
    desk.welcome_from(conn, from);
    let question = |(id, job): &(JobId, link::Job)| match job {
        link::Job::OpenPing(on) if *on != ConnId(conn) && !before.contains(id) => Some((*id, *on)),
        _ => None,
    };
    desk.jobs.iter().filter_map(question).collect()
}

/// A connection stands, as the owner tells.
pub(crate) fn arrives(desk: &mut Desk, conn: u64, from: Inbound) {
    let now = desk.clocks();
    desk.links.handle_connected(ConnId(conn), from, now);
    desk.drain();
}

pub(crate) fn lost(desk: &mut Desk, conn: u64) {
    desk.held.remove(&ConnId(conn));
    let now = desk.clocks();
    desk.links.handle_disconnected(ConnId(conn), now);
    desk.drain();
}

/// The hello that is being opened, if one is, and on which connection.
pub(crate) fn opening(desk: &Desk) -> Option<(JobId, ConnId)> {
    desk.jobs.iter().find_map(|(id, job)| match job {
        link::Job::OpenHello(conn) => Some((*id, *conn)),
        _ => None,
    })
}

/// The peer takes the hello that we open.
pub(crate) fn hello_succeeds(desk: &mut Desk, their: Tid, own: Tid) {
    let (job, conn) = opening(desk).expect("a hello is due");
    let stream = StreamId(5_000 + conn.0);
    desk.done(job, JobResult::StreamOpened(stream));
    let at = desk.sent.iter().position(|(s, _)| *s == stream).expect("R1");
    let r1 = desk.sent.remove(at).1;
    let received = ReceivedR1::parse(&r1, own, their).expect("R1");
    let clock = UnixTime(1_800_000_000);
    let (sent, r2) = received.answer(&their_bond(), &identity(2), PairState::Paired, clock, &mut rng(5));
    let r3 = desk.hand(stream, &r2);
    assert_eq!(sent.handle(&r3[0]).expect("a proof").state, PairState::Paired);
    desk.hand(stream, &hello::accept(PairState::Paired));
}

/// What was told of paths since the link came up.
pub(crate) fn told(desk: &Desk) -> Vec<(Path, Path, Address)> {
    let change = |e: &link::Event| match e {
        link::Event::PathChanged { pairing_id: ID, from, to, address } => Some((*from, *to, *address)),
        _ => None,
    };
    desk.events.iter().filter_map(change).collect()
}

pub(crate) fn ups(desk: &Desk) -> usize {
    desk.events.iter().filter(|e| matches!(e, link::Event::Up { .. } | link::Event::Down { .. })).count()
}

/// What was remembered last of where the peer is, and how its link is said to run.
fn contact(desk: &Desk) -> Option<(Vec<Address>, Path)> {
    desk.jobs.iter().rev().find_map(|(_, job)| match job {
        link::Job::Store(StoreChange::Contact { addresses, path, .. }) => Some((addresses.clone(), *path)),
        _ => None,
    })
}

#[test]
fn c2_a_link_through_a_relay_remembers_no_address_of_the_relay() {
    let desk = desk_up_through_relay(OURS, THEIRS);
    assert_eq!(contact(&desk), Some((vec![address(2)], Path::Relay)), "what was known stays");
    assert_eq!(desk.links.path(ID), Some((Path::Relay, relay(1).relay)));
    // Nor where a record has just said where it is.
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let now = desk.clocks();
    desk.links.reach(ID, THEIRS, vec![address(7)], vec![relay(1)], now);
    desk.drain();
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert_eq!(contact(&desk), Some((vec![address(2)], Path::Relay)));
}

#[test]
fn c2_a_link_gets_a_direct_path_by_a_hello_from_the_smaller_transport_key_in_either_order_of_events() {
    for direct_first in [false, true] {
        for (own, their) in [(OURS, THEIRS), (Tid([3; 32]), THEIRS)] {
            let mut desk = Desk::of(1, own, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
            let from = Inbound { address: address(8), ..inbound(their) };
            if direct_first {
                arrives(&mut desk, 2, from);
                assert_eq!(opening(&desk), None, "nothing says yet that it is a paired device");
            }
            welcome(&mut desk, RELAYED, through_relay(their));
            if !direct_first {
                assert_eq!(opening(&desk), None);
                arrives(&mut desk, 2, from);
            }
            if own < their {
                assert_eq!(opening(&desk).map(|(_, conn)| conn), Some(ConnId(2)));
                assert!(told(&desk).is_empty(), "not before the proof");
                assert_eq!(desk.links.authorised(ConnId(2)), None);
                hello_succeeds(&mut desk, their, own);
            } else {
                desk.wait(Duration::from_secs(60));
                assert_eq!(opening(&desk), None, "the other side does it");
                desk.welcome_from(2, from);
            }
            assert_eq!(told(&desk), [(Path::Relay, Path::Direct, address(8))], "{direct_first}");
            assert_eq!(ups(&desk), 1);
            assert_eq!(desk.links.path(ID), Some((Path::Direct, address(8))));
            assert_eq!(contact(&desk), Some((vec![address(8), address(2)], Path::Direct)));
            assert_eq!(desk.links.authorised(ConnId(2)), Some(ID));
            desk.wait(Duration::from_secs(60));
            assert_eq!((told(&desk).len(), opening(&desk)), (1, None), "once");
        }
    }
}

/// The look-up that runs, if one does.
fn look_up(desk: &Desk) -> Option<(JobId, [u8; 32])> {
    desk.jobs.iter().find_map(|(id, job)| match job {
        link::Job::LookUp(topic) => Some((*id, topic.0)),
        _ => None,
    })
}

#[test]
fn b28_a_peer_that_can_be_called_only_after_the_relay_was_there_is_looked_up_and_called() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    desk.wait(Duration::from_secs(3) - STEP);
    assert_eq!(look_up(&desk), None);
    assert_eq!(desk.links.poll_timeout(desk.clocks()).map(|at| at.since_origin()), Some(Duration::from_secs(3)));
    desk.wait(STEP);
    let (id, topic) = look_up(&desk).expect("a look");
    desk.done(id, JobResult::Found(presence_by(3, topic, 9)));
    let dials = |desk: &Desk| {
        let is_dial = |job: &link::Job| matches!(job, link::Job::Dial { relays, .. } if relays.is_empty());
        desk.jobs.iter().filter(|(_, job)| is_dial(job)).map(|(id, _)| *id).collect::<Vec<_>>()
    };
    assert!(dials(&desk).is_empty(), "a stranger's record is a miss");
    for seq in [5, 5, 4] {
        desk.done(id, JobResult::Found(presence_by(2, topic, seq)));
    }
    assert_eq!(dials(&desk).len(), 1, "what is new, once");
    desk.done(id, JobResult::LookedUp { answered: 8 });
    // Nobody is there yet. What is published later is found by a later look.
    desk.done(dials(&desk)[0], JobResult::DialFailed(DialFailure::NoAnswer));
    assert_eq!((ups(&desk), look_up(&desk)), (1, None));
    desk.wait(Duration::from_secs(12));
    let (id, topic) = look_up(&desk).expect("another look");
    desk.done(id, JobResult::Found(presence_by(2, topic, 6)));
    let reached = Reached { conn: ConnId(2), tid: THEIRS, address: address(1), path: Path::Direct };
    desk.done(dials(&desk)[0], JobResult::Dialled(reached));
    arrives(&mut desk, 2, inbound(THEIRS));
    hello_succeeds(&mut desk, THEIRS, OURS);
    assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(Path::Direct));
    desk.done(id, JobResult::LookedUp { answered: 8 });
    desk.wait(Duration::from_secs(600));
    assert_eq!(look_up(&desk), None, "it is there");
}

#[test]
fn b28_a_peer_behind_a_relay_is_looked_for_three_times_and_one_that_is_up_directly_never() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    let mut looks = Vec::new();
    for second in 1..=600 {
        desk.wait(Duration::from_secs(1));
        if let Some((id, _)) = look_up(&desk) {
            looks.push(second);
            desk.done(id, JobResult::LookedUp { answered: 8 });
        }
    }
    assert_eq!(looks, [3, 15, 60]);
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    welcome(&mut desk, 2, inbound(THEIRS));
    desk.wait(Duration::from_secs(600));
    assert_eq!(look_up(&desk), None);
}

#[test]
fn a_connection_of_another_transport_key_or_through_a_relay_improves_nothing() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    arrives(&mut desk, 2, inbound(Tid([9; 32])));
    arrives(&mut desk, 3, through_relay(THEIRS));
    assert_eq!(opening(&desk), None);
    // Nor is one needed beside a direct one.
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    welcome(&mut desk, 2, inbound(THEIRS));
    arrives(&mut desk, 3, inbound(THEIRS));
    assert_eq!(opening(&desk), None);
    // Nor while a relay stands beside that.
    lost(&mut desk, 3);
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    arrives(&mut desk, 4, inbound(THEIRS));
    assert_eq!(opening(&desk), None);
}

#[test]
fn c2_where_the_hello_on_a_direct_connection_fails_the_relay_stays_and_the_next_one_is_tried() {
    for fails in ["no stream", "closed", "silent", "lost"] {
        let mut desk = desk_up_through_relay(OURS, THEIRS);
        arrives(&mut desk, 2, inbound(THEIRS));
        arrives(&mut desk, 3, inbound(THEIRS));
        let (job, conn) = opening(&desk).expect("a hello");
        assert_eq!(conn, ConnId(2));
        if fails == "no stream" {
            desk.done(job, JobResult::StreamFailed);
        } else {
            desk.done(job, JobResult::StreamOpened(StreamId(1)));
            assert_eq!(opening(&desk), None, "one at a time");
            let now = desk.clocks();
            match fails {
                "closed" => desk.links.handle_stream_end(StreamId(1), now),
                "lost" => desk.links.handle_disconnected(ConnId(2), now),
                _ => desk.wait(limits::HELLO),
            }
            desk.drain();
        }
        assert_eq!(desk.links.path(ID), Some((Path::Relay, relay(1).relay)), "{fails}");
        let (job, conn) = opening(&desk).expect("the next one");
        assert_eq!(conn, ConnId(3), "{fails}");
        desk.done(job, JobResult::StreamFailed);
        desk.wait(Duration::from_secs(600));
        assert_eq!(opening(&desk), None, "each is tried once");
        assert!(told(&desk).is_empty() && desk.given_up.is_empty());
        assert_eq!(ups(&desk), 1);
    }
}

#[test]
fn direct_connections_are_remembered_up_to_a_bound_and_no_longer_than_they_stand() {
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    arrives(&mut desk, 2, inbound(THEIRS));
    for n in 0..limits::MAX_DIRECT as u64 {
        arrives(&mut desk, 100 + n, inbound(Tid([9; 32])));
    }
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert_eq!(opening(&desk), None, "the oldest is forgotten");

    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    arrives(&mut desk, 2, inbound(THEIRS));
    for n in 1..limits::MAX_DIRECT as u64 {
        arrives(&mut desk, 100 + n, inbound(Tid([9; 32])));
    }
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert!(opening(&desk).is_some(), "and nothing before the bound is reached");

    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    arrives(&mut desk, 2, inbound(THEIRS));
    lost(&mut desk, 2);
    welcome(&mut desk, RELAYED, through_relay(THEIRS));
    assert_eq!(opening(&desk), None, "it is gone");
}

#[test]
fn c2_a_spare_relay_is_given_up_after_five_seconds_and_not_if_it_is_the_only_way_again() {
    for direct_first in [false, true] {
        let mut desk = Desk::of(1, THEIRS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
        let mut both = [(RELAYED, through_relay(OURS)), (2, inbound(OURS))];
        if direct_first {
            both.reverse();
        }
        for (conn, from) in both {
            welcome(&mut desk, conn, from);
        }
        let changes = usize::from(!direct_first);
        assert_eq!((told(&desk).len(), desk.links.path(ID)), (changes, Some((Path::Direct, address(1)))));
        assert_eq!(contact(&desk).map(|(_, path)| path), Some(Path::Direct), "how it runs, whichever came last");
        desk.wait(limits::SPARE_RELAY - STEP);
        assert!(desk.given_up.is_empty());
        let due = desk.links.poll_timeout(desk.clocks()).expect("something is due").since_origin();
        assert!(due <= limits::SPARE_RELAY, "it asks to be woken");
        desk.wait(STEP);
        assert_eq!(desk.given_up, [ConnId(RELAYED)]);
        assert_eq!(desk.links.authorised(ConnId(RELAYED)), None);
        lost(&mut desk, RELAYED);
        assert_eq!((told(&desk).len(), ups(&desk)), (changes, 1), "nobody is told of a spare one");
    }
    // The direct one is lost before: the relay is needed, and its time begins anew with the next one.
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    welcome(&mut desk, 2, inbound(OURS));
    desk.wait(Duration::from_secs(3));
    lost(&mut desk, 2);
    let back = [(Path::Relay, Path::Direct, address(1)), (Path::Direct, Path::Relay, relay(1).relay)];
    assert_eq!(told(&desk), back);
    assert_eq!((ups(&desk), desk.links.path(ID)), (1, Some((Path::Relay, relay(1).relay))));
    desk.wait(Duration::from_secs(10));
    assert!(desk.given_up.is_empty());
    welcome(&mut desk, 3, inbound(OURS));
    desk.wait(limits::SPARE_RELAY - STEP);
    assert!(desk.given_up.is_empty());
    desk.wait(STEP);
    assert_eq!(desk.given_up, [ConnId(RELAYED)]);
    assert_eq!(limits::SPARE_RELAY, Duration::from_secs(5));
    // One more direct connection gives it no more time.
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    welcome(&mut desk, 2, inbound(OURS));
    desk.wait(Duration::from_secs(3));
    welcome(&mut desk, 3, inbound(OURS));
    desk.wait(Duration::from_secs(2));
    assert_eq!(desk.given_up, [ConnId(RELAYED)]);
}

/// The ping that is being opened, and on which connection.
pub(crate) fn opening_ping(desk: &Desk) -> Option<(JobId, ConnId)> {
    desk.jobs.iter().find_map(|(id, job)| match job {
        link::Job::OpenPing(conn) => Some((*id, *conn)),
        _ => None,
    })
}

fn ping(desk: &mut Desk, token: u64) {
    let now = desk.clocks();
    assert!(desk.links.ping(ID, token, Duration::from_secs(30), now));
    desk.drain();
}

pub(crate) fn pong(token: u64) -> Frame {
    let mut rest = vec![FrameType::Pong.byte()];
    rest.extend_from_slice(&token.to_be_bytes());
    Frame::from_rest(&rest).expect("a pong")
}

/// The path that a ping is said to have taken.
fn pinged(desk: &Desk, token: u64) -> Option<(Path, Address)> {
    desk.events.iter().find_map(|e| match e {
        link::Event::Pong { token: t, path, address, .. } if *t == token => Some((*path, *address)),
        _ => None,
    })
}

#[test]
fn a_ping_takes_the_best_path_and_one_under_way_on_the_relay_comes_back_and_says_so() {
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    ping(&mut desk, 1);
    let (job, conn) = opening_ping(&desk).expect("a ping");
    assert_eq!(conn, ConnId(RELAYED));
    welcome(&mut desk, 2, inbound(OURS));
    // Not asked for a second time on the new one.
    assert_eq!(desk.jobs.iter().filter(|(_, job)| matches!(job, link::Job::OpenPing(_))).count(), 1);
    desk.wait(limits::SPARE_RELAY);
    assert!(desk.given_up.is_empty(), "a stream is being opened on it");
    desk.done(job, JobResult::StreamOpened(StreamId(1)));
    desk.wait(limits::SPARE_RELAY);
    assert!(desk.given_up.is_empty(), "a ping is under way on it");
    desk.hand(StreamId(1), &pong(1));
    assert_eq!(pinged(&desk, 1), Some((Path::Relay, relay(1).relay)));
    assert_eq!(desk.given_up, [ConnId(RELAYED)], "now it is free");

    ping(&mut desk, 2);
    let (job, conn) = opening_ping(&desk).expect("a ping");
    assert_eq!(conn, ConnId(2));
    desk.done(job, JobResult::StreamOpened(StreamId(2)));
    desk.hand(StreamId(2), &pong(2));
    assert_eq!(pinged(&desk, 2), Some((Path::Direct, address(1))));
}

#[test]
fn a_spare_relay_is_kept_while_the_peer_uses_it() {
    // A ping of the peer.
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    welcome(&mut desk, 2, inbound(OURS));
    let (stream, answer) = desk.ping_on(RELAYED);
    assert_eq!(answer[0].kind(), FrameType::Pong);
    desk.wait(limits::SPARE_RELAY);
    assert!(desk.given_up.is_empty());
    let now = desk.clocks();
    desk.links.handle_stream_end(stream, now);
    desk.drain();
    assert_eq!(desk.given_up, [ConnId(RELAYED)]);
    // A hello of ours, whose stream is being opened since before the peer's own hello succeeded.
    let mut desk = Desk::of(1, THEIRS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    desk.wait(STEP);
    let dial = desk.find(|job| matches!(job, link::Job::Dial { .. })).expect("it looks for its peer");
    let reached = Reached { conn: ConnId(RELAYED), tid: OURS, address: relay(1).relay, path: Path::Relay };
    desk.done(dial, JobResult::Dialled(reached));
    let (job, _) = opening(&desk).expect("a hello");
    for (conn, from) in [(RELAYED, through_relay(OURS)), (2, inbound(OURS))] {
        desk.welcome_from(conn, from);
    }
    desk.wait(limits::SPARE_RELAY);
    assert!(desk.given_up.is_empty());
    desk.done(job, JobResult::StreamFailed);
    assert_eq!(desk.given_up, [ConnId(RELAYED)]);
    // A hello of the peer, which never comes to its end.
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    welcome(&mut desk, 2, inbound(OURS));
    desk.wait(Duration::from_secs(1));
    let _ = desk.open_from(RELAYED, through_relay(OURS));
    desk.wait(limits::SPARE_RELAY);
    assert!(desk.given_up.is_empty());
    desk.wait(limits::HELLO);
    assert_eq!(desk.given_up, [ConnId(RELAYED)]);
}

#[test]
fn a_ping_whose_connection_went_before_it_was_sent_takes_the_other_one() {
    let mut desk = desk_up_through_relay(THEIRS, OURS);
    welcome(&mut desk, 2, inbound(OURS));
    ping(&mut desk, 1);
    let (job, conn) = opening_ping(&desk).expect("a ping");
    assert_eq!(conn, ConnId(2));
    desk.jobs.retain(|(id, _)| *id != job);
    lost(&mut desk, 2);
    let (again, conn) = opening_ping(&desk).expect("the same ping");
    assert_eq!(conn, ConnId(RELAYED));
    desk.done(job, JobResult::StreamFailed);
    desk.done(again, JobResult::StreamOpened(StreamId(1)));
    desk.hand(StreamId(1), &pong(1));
    assert_eq!(pinged(&desk, 1), Some((Path::Relay, relay(1).relay)));
}

#[test]
fn c13_of_equally_good_connections_the_oldest_is_used_and_nothing_flaps() {
    for path in [Path::Lan, Path::Direct, Path::Relay] {
        let mut desk = Desk::of(1, THEIRS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
        // Certified in another order than they were numbered, one of them twice.
        for (conn, n) in [(7, 10), (3, 11), (5, 12), (7, 10)] {
            welcome(&mut desk, conn, Inbound { path, address: address(n), ..inbound(OURS) });
            assert_eq!(desk.links.path(ID), Some((path, address(10))));
        }
        lost(&mut desk, 5);
        lost(&mut desk, 7);
        assert_eq!(desk.links.path(ID), Some((path, address(11))));
        desk.wait(Duration::from_secs(60));
        assert!(told(&desk).is_empty() && desk.given_up.is_empty());
        assert_eq!(ups(&desk), 1);
    }
    // And what is on one network is better than what is not.
    let mut desk = Desk::of(1, THEIRS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    welcome(&mut desk, 2, inbound(OURS));
    welcome(&mut desk, 3, Inbound { path: Path::Lan, address: address(9), ..inbound(OURS) });
    assert_eq!(desk.links.path(ID), Some((Path::Lan, address(9))));
    assert_eq!(told(&desk), [(Path::Direct, Path::Lan, address(9))]);
    desk.wait(Duration::from_secs(60));
    assert!(desk.given_up.is_empty(), "only a relay costs somebody else anything");
}

#[test]
fn c2_presence_names_two_relays_is_published_anew_and_leads_a_peer_through_them() {
    for (addresses, relays) in [(vec![address(1)], 2), (vec![], 2)] {
        let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
        let now = desk.clocks();
        desk.links.set_addresses(addresses.clone(), now);
        desk.wait(Duration::ZERO);
        finish_publishing(&mut desk);
        desk.links.set_relays(vec![relay_on_loopback(), relay(1), relay(2), relay(3)], now);
        desk.wait(Duration::ZERO);
        let records = finish_publishing(&mut desk);
        assert!(!records.is_empty(), "published anew");
        desk.links.set_relays(vec![relay_on_loopback(), relay(1), relay(2), relay(3)], now);
        desk.wait(Duration::ZERO);
        assert!(finish_publishing(&mut desk).is_empty(), "nothing has changed");

        let them = Peer { key: identity(1).public(), addresses: Vec::new(), ..peer(PairState::Paired, Role::Joiner) };
        let mut other = Desk::of(2, THEIRS, vec![them], Vec::new());
        other.wait(Duration::from_secs(1));
        let look_up = other.jobs.iter().find_map(|(id, job)| match job {
            link::Job::LookUp(topic) => Some((*id, *topic)),
            _ => None,
        });
        let (id, topic) = look_up.expect("it looks its peer up");
        let record = records.into_iter().find(|r| r.topic() == topic).expect("the record it looks for");
        other.done(id, JobResult::Found(record));
        let dial = other.jobs.iter().find_map(|(_, job)| match job {
            link::Job::Dial { tid, addresses, relays } => Some((*tid, addresses.clone(), relays.clone())),
            _ => None,
        });
        assert_eq!(dial, Some((Some(OURS), addresses, vec![relay(1), relay(2)][..relays].to_vec())));
        // The next round names both again.
        let job = other.find(|job| matches!(job, link::Job::Dial { .. })).expect("the dial");
        other.done(id, JobResult::LookedUp { answered: 3 });
        other.wait(Duration::from_secs(5));
        assert!(other.jobs.iter().filter(|(_, job)| matches!(job, link::Job::Dial { .. })).count() == 1);
        other.done(job, JobResult::DialFailed(DialFailure::NoAnswer));
    }
}

/// Every record that is being published, and what is due after it.
pub(crate) fn finish_publishing(desk: &mut Desk) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(at) = desk.jobs.iter().position(|(_, job)| matches!(job, link::Job::Publish(_))) {
        let (id, job) = desk.jobs.remove(at);
        if let link::Job::Publish(record) = job {
            records.push(record);
        }
        desk.done(id, JobResult::Published { stored_on: 3 });
    }
    records
}

#[test]
fn c2_a_device_that_was_just_there_is_reached_by_addresses_and_relays_in_one_dial() {
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let now = desk.clocks();
    desk.links.reach(ID, THEIRS, vec![address(7)], vec![relay(1)], now);
    desk.drain();
    let dial = desk.jobs.iter().find_map(|(_, job)| match job {
        link::Job::Dial { tid, addresses, relays } => Some((*tid, addresses.clone(), relays.clone())),
        _ => None,
    });
    assert_eq!(dial, Some((Some(THEIRS), vec![address(7)], vec![relay(1)])));
}
