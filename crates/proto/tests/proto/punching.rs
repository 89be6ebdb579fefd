//! Links that have stayed on a relay try again to get a direct connection (C2, decision 14).

use std::time::Duration;

use handfast_proto::addr::Path;
use handfast_proto::id::ConnId;
use handfast_proto::limits;

use crate::bench::{address, inbound};
use crate::links::{Desk, ID, OURS, THEIRS};
use crate::path::pairing;
use crate::paths::{RELAYED, desk_up_through_relay, lost, welcome};
use crate::relays::through_relay;
use crate::sim::world::World;

/// Time passes, timer by timer.
fn pass(desk: &mut Desk, wait: Duration) {
    let end = desk.clocks().time + wait;
    loop {
        let now = desk.clocks();
        let next = desk.links.poll_timeout(now).filter(|at| *at < end).unwrap_or(end);
        desk.wait(next.since(now.time));
        if next >= end {
            return;
        }
    }
}

fn moved(desk: &mut Desk) {
    let now = desk.clocks();
    desk.links.moved(now);
    desk.drain();
}

#[test]
fn c2_a_link_on_a_relay_tries_again_after_10_s_a_minute_and_then_every_ten_minutes() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    pass(&mut desk, Duration::from_secs(2 * 3_600));
    assert!(desk.punched.iter().all(|(_, conn)| *conn == ConnId(RELAYED)));
    let mut before = Duration::ZERO;
    let pauses: Vec<Duration> = desk
        .punched
        .iter()
        .map(|(at, _)| {
            let pause = *at - before;
            before = *at;
            pause
        })
        .collect();
    assert!((11..=17).contains(&pauses.len()), "{pauses:?}");
    for (pause, expected) in pauses.iter().zip([10, 60].into_iter().chain(std::iter::repeat(600))) {
        let (pause, expected) = (pause.as_secs_f64(), f64::from(expected));
        assert!((expected * 0.75..=expected * 1.25).contains(&pause), "{pauses:?}");
    }
    assert!(pauses.windows(2).any(|two| two[0] != two[1]), "jittered: {pauses:?}");
}

#[test]
fn c2_a_network_that_has_changed_brings_a_try_at_once_and_changes_without_end_one_every_ten_seconds() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    pass(&mut desk, Duration::from_secs(300));
    let tries = desk.punched.len();
    moved(&mut desk);
    assert_eq!(desk.punched.len(), tries + 1);
    // Also when a router lets others in from now on.
    pass(&mut desk, Duration::from_secs(11));
    let now = desk.clocks();
    desk.links.set_addresses(vec![address(1), address(9)], now);
    pass(&mut desk, Duration::ZERO);
    assert_eq!(desk.punched.len(), tries + 2);
    for _ in 0..600 {
        pass(&mut desk, Duration::from_millis(100));
        moved(&mut desk);
    }
    assert!((tries + 7..=tries + 8).contains(&desk.punched.len()), "{:?}", desk.punched);
}

#[test]
fn c2_a_link_that_is_direct_or_down_tries_nothing() {
    let mut desk = desk_up_through_relay(OURS, THEIRS);
    welcome(&mut desk, 2, inbound(THEIRS));
    moved(&mut desk);
    pass(&mut desk, Duration::from_secs(3_600));
    assert!(desk.punched.is_empty(), "{:?}", desk.punched);
    assert_eq!(desk.links.path(ID).map(|(path, _)| path), Some(Path::Direct));

    let mut desk = desk_up_through_relay(OURS, THEIRS);
    lost(&mut desk, RELAYED);
    moved(&mut desk);
    assert!(desk.punched.is_empty());
    pass(&mut desk, Duration::from_secs(30));
    assert!(desk.punched.is_empty(), "{:?}", desk.punched);
    // And begins anew when it is up again.
    welcome(&mut desk, 5, through_relay(THEIRS));
    pass(&mut desk, limits::PUNCH_AGAIN[0] * 2);
    assert_eq!(desk.punched.len(), 1);
    assert_eq!(desk.punched[0].1, ConnId(5));
}

#[test]
fn c2_a_hole_that_could_not_be_punched_at_first_is_punched_later() {
    let mut world = World::of(2);
    world.hide(0);
    world.hide(1);
    pairing(&mut world);
    world.ending(1).0.expect("paired");
    world.run_for(Duration::from_secs(3));
    let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
    assert_eq!(world.run(0).links.path(id).map(|(path, _)| path), Some(Path::Relay));
    world.settings.punches = 100;
    world.run_for(limits::PUNCH_AGAIN[0] * 2);
    for dev in [0, 1] {
        assert_eq!(world.run(dev).links.path(id).map(|(path, _)| path), Some(Path::Direct));
    }
}
