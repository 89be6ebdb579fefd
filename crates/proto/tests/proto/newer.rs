//! Records that say more than the one before them, while that one is still being dialled.

use std::time::Duration;

use handfast_proto::addr::{Address, Path, RelayAddress};
use handfast_proto::id::ConnId;
use handfast_proto::limits;
use handfast_proto::link::{self, PairState, Peer};
use handfast_proto::session::{DialFailure, JobResult, Reached, Role};
use handfast_proto::wire::record::{Record, Topic};

use crate::bench::{Bench, address, identity};
use crate::links::{Desk, OURS, THEIRS, peer};
use crate::paths::finish_publishing;
use crate::relays::{Dial, HOST, connects, dials, direct, look_up_brings, record, relay, relayed, searching};

fn newest(joiner: &Bench) -> Dial {
    dials(joiner).pop().expect("a dial")
}

fn fails(joiner: &mut Bench, dial: &Dial) {
    joiner.job_done(dial.id, JobResult::DialFailed(DialFailure::NoAnswer));
}

#[test]
fn what_only_a_newer_record_names_is_dialled_at_once_beside_what_is_being_dialled() {
    let (mut joiner, code) = searching(&[address(2)], &[]);
    joiner.wait(Duration::from_millis(400));
    look_up_brings(&mut joiner, &record(&code, &[address(2), address(3)], &[], 2));
    assert_eq!(dials(&joiner).len(), 2);
    assert_eq!(newest(&joiner).addresses, [address(3)]);
    // The relay has no address to wait for: both are being tried.
    look_up_brings(&mut joiner, &record(&code, &[address(2), address(3)], &[relay(1)], 3));
    assert_eq!(relayed(&joiner).expect("the relay").relays, [relay(1)]);
    look_up_brings(&mut joiner, &record(&code, &[address(2), address(3)], &[relay(1), relay(2)], 4));
    assert_eq!(newest(&joiner).relays, [relay(2)]);
    // Nothing is new in this one.
    look_up_brings(&mut joiner, &record(&code, &[address(3), address(2)], &[relay(2), relay(1)], 5));
    assert_eq!(dials(&joiner).len(), 4);
}

#[test]
fn a_candidate_is_dialled_three_times_at_once_and_then_with_the_newest_ways_first() {
    let (mut joiner, code) = searching(&[address(2)], &[]);
    for n in 3..30 {
        look_up_brings(&mut joiner, &record(&code, &[address(n)], &[], u64::from(n)));
    }
    assert_eq!(dials(&joiner).len(), limits::DIALS_OF_CANDIDATE);
    let first = dials(&joiner).remove(0);
    fails(&mut joiner, &first);
    // The place goes to what has been learned meanwhile.
    let newest_first: Vec<Address> = (18..30).rev().map(address).collect();
    assert_eq!(newest(&joiner).addresses, newest_first);
    for dial in dials(&joiner) {
        fails(&mut joiner, &dial);
    }
    joiner.wait(limits::REDIAL_MIN);
    assert_eq!(newest(&joiner).addresses, newest_first, "all that is known");
}

#[test]
fn a_newer_record_ends_the_pause_after_a_dial_that_failed() {
    let (mut joiner, code) = searching(&[address(2)], &[]);
    for _ in 0..3 {
        let dial = direct(&joiner).expect("the address");
        fails(&mut joiner, &dial);
        joiner.wait(limits::REDIAL_MAX);
    }
    let dial = direct(&joiner).expect("the address");
    fails(&mut joiner, &dial);
    assert!(dials(&joiner).is_empty());
    look_up_brings(&mut joiner, &record(&code, &[address(2)], &[], 2));
    assert!(dials(&joiner).is_empty(), "nothing is new");
    look_up_brings(&mut joiner, &record(&code, &[address(2), address(3)], &[], 3));
    assert_eq!(newest(&joiner).addresses, [address(3), address(2)]);
}

#[test]
fn the_first_dial_of_a_candidate_that_connects_ends_the_others_and_the_last_that_fails_its_turn() {
    for second_wins in [false, true] {
        let (mut joiner, code) = searching(&[address(2)], &[]);
        look_up_brings(&mut joiner, &record(&code, &[address(3)], &[], 2));
        let both = dials(&joiner);
        let (won, other) = if second_wins { (&both[1], &both[0]) } else { (&both[0], &both[1]) };
        let reached = Reached { conn: ConnId(1), tid: HOST, address: won.addresses[0], path: Path::Direct };
        assert!(connects(&mut joiner, won, reached).is_some());
        assert!(dials(&joiner).is_empty(), "cancelled");

        let (mut joiner, code) = searching(&[address(2)], &[]);
        look_up_brings(&mut joiner, &record(&code, &[address(3)], &[], 2));
        fails(&mut joiner, other);
        joiner.wait(limits::REDIAL_MAX);
        assert_eq!(dials(&joiner).len(), 1, "the other goes on alone");
        fails(&mut joiner, won);
        joiner.wait(limits::REDIAL_MIN);
        assert_eq!(newest(&joiner).addresses, [address(3), address(2)]);
    }
}

/// The presence records of a device at these places, one after the other, as its peer looks them up.
fn presence(places: &[(Vec<Address>, Vec<RelayAddress>)], look_up: Topic) -> Vec<Record> {
    let mut desk = Desk::of(1, OURS, vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let now = desk.clocks();
    let mut records = Vec::new();
    for (addresses, relays) in places {
        desk.links.set_addresses(addresses.clone(), now);
        desk.links.set_relays(relays.clone(), now);
        desk.wait(Duration::ZERO);
        records.extend(finish_publishing(&mut desk).into_iter().rfind(|r| r.topic() == look_up));
    }
    records
}

#[test]
fn a_newer_presence_record_is_dialled_beside_what_is_under_way_and_three_at_once_at_most() {
    let them = Peer { key: identity(1).public(), addresses: Vec::new(), ..peer(PairState::Paired, Role::Joiner) };
    let mut desk = Desk::of(2, THEIRS, vec![them], Vec::new());
    desk.wait(Duration::from_secs(1));
    let look_up = desk.jobs.iter().find_map(|(id, job)| match job {
        link::Job::LookUp(topic) => Some((*id, *topic)),
        _ => None,
    });
    let (id, topic) = look_up.expect("it looks its peer up");
    let places: Vec<_> = (1..=6).map(|n| (vec![address(n)], vec![relay(n)])).collect();
    for record in presence(&places, topic) {
        desk.done(id, JobResult::Found(record));
    }
    let dialled = desk.jobs.iter().filter_map(|(_, job)| match job {
        link::Job::Dial { addresses, relays, .. } => Some((addresses.clone(), relays.clone())),
        _ => None,
    });
    assert_eq!(dialled.collect::<Vec<_>>(), places[..limits::DIALS_OF_CANDIDATE]);
}
