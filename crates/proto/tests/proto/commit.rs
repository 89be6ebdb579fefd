//! The durable commit: crashes at every point on either side, then a restart, and what the hello makes of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::link::{self, PairState};
use handfast_proto::wire::frames::FrameType;

use crate::path::{assert_nothing_stored, assert_paired, pairing};
use crate::sim::world::{DiskMoment, Fate, Person, World};

/// Long enough for the longest pause between two searches.
const REPAIR: Duration = Duration::from_secs(600);

fn states(world: &World) -> (Option<PairState>, Option<PairState>) {
    let state = |dev: usize| world.devices[dev].disk.rows.values().next().map(|r| r.state);
    (state(0), state(1))
}

/// The program is started again when a day and a second have passed.
fn a_day_later(world: &mut World, dev: usize) {
    world.crash(dev);
    world.devices[dev].clock += 86_401;
    world.start(dev);
}

/// Restarts who is down, waits, and says what came of it.
fn restart_and_repair(world: &mut World) -> (Option<PairState>, Option<PairState>) {
    world.frame_tap = None;
    world.disk_tap = None;
    world.run_for(Duration::from_secs(3));
    for dev in [0, 1] {
        if world.devices[dev].run.is_none() {
            world.start(dev);
        }
    }
    let limit = world.time_left();
    world.run_until(limit + Duration::from_secs(1), |w| w.ledger.live() == 0);
    world.run_until(REPAIR, |w| {
        let (i, j) = states(w);
        i == j && i != Some(PairState::Pending)
    });
    states(world)
}

/// Every write of both sides, before and after it is durable: the crash of its device.
#[test]
fn b22_b33_a_crash_at_every_write_leaves_both_paired_or_neither() {
    let points: [(usize, &str, DiskMoment, bool); 8] = [
        (0, "put pending", DiskMoment::Before, false),
        (0, "put pending", DiskMoment::After, false),
        (1, "put pending", DiskMoment::Before, false),
        (1, "put pending", DiskMoment::After, true),
        (0, "paired", DiskMoment::Before, true),
        (0, "paired", DiskMoment::After, true),
        (1, "paired", DiskMoment::Before, true),
        (1, "paired", DiskMoment::After, true),
    ];
    for (dev, name, moment, pairs) in points {
        let mut world = World::of(2);
        let hit = Rc::new(Cell::new(false));
        let seen = hit.clone();
        world.disk_tap = Some(Box::new(move |d, n, m| {
            let now = !seen.get() && (d, n, m) == (dev, name, moment);
            seen.set(seen.get() || now);
            now
        }));
        pairing(&mut world);
        world.run_until(Duration::from_secs(30), |w| w.devices[dev].run.is_none());
        assert!(hit.get(), "{name} on {dev} happens");
        let states = restart_and_repair(&mut world);
        if pairs {
            assert_eq!(states, (Some(PairState::Paired), Some(PairState::Paired)), "{name} {moment:?} on {dev}");
            assert_paired(&world, 0, 1);
        } else {
            // The joiner has nothing; what the initiator holds ends after its 24 h.
            assert_eq!(states.1, None, "{name} {moment:?} on {dev}");
            a_day_later(&mut world, 0);
            world.run_for(REPAIR);
            assert_nothing_stored(&world);
        }
    }
}

/// Every frame of the commit, before it left, before it came and right after: the crash of either end.
#[test]
fn b22_b33_a_crash_around_every_frame_leaves_both_paired_or_neither() {
    let fates: [fn() -> Fate; 3] = [|| Fate::CrashSender, || Fate::CrashReceiver, || Fate::CrashReceiverAfter];
    for kind in [FrameType::H2, FrameType::H3, FrameType::H4, FrameType::H5, FrameType::H6] {
        for (index, fate) in fates.iter().enumerate() {
            let mut world = World::of(2);
            world.settings.disk = (Duration::from_millis(2), Duration::from_millis(2));
            let fate = *fate;
            world.frame_tap = Some(Box::new(move |passing| {
                if passing.frame.kind() == kind && passing.nth_of_type == 0 { fate() } else { Fate::Arrives }
            }));
            pairing(&mut world);
            world.run_for(Duration::from_secs(1));
            let (i, j) = restart_and_repair(&mut world);
            let both = (i, j) == (Some(PairState::Paired), Some(PairState::Paired));
            let neither = j.is_none() && i != Some(PairState::Paired);
            // From the moment the joiner has stored, a hello finishes it.
            assert!(if kind >= FrameType::H5 { both } else { both || neither }, "{kind:?}, fate {index}: {i:?} {j:?}");
        }
    }
}

#[test]
fn c11_both_crash_after_the_joiner_stored_and_the_hello_finishes_it_with_no_code() {
    let mut world = World::of(2);
    world.frame_tap = Some(Box::new(|passing| match passing.frame.kind() {
        FrameType::H5 => Fate::CrashSender,
        _ => Fate::Arrives,
    }));
    pairing(&mut world);
    world.run_until(Duration::from_secs(10), |w| w.devices[1].run.is_none());
    world.crash(0);
    assert_eq!(states(&world), (Some(PairState::Pending), Some(PairState::Pending)));
    let both = Some(PairState::Paired);
    assert_eq!(restart_and_repair(&mut world), (both, both));
    world.run_for(Duration::from_millis(1));
    let completed = |dev: usize| {
        world.devices[dev].link_events.iter().filter(|(_, e)| matches!(e, link::Event::Completed { .. })).count()
    };
    assert_eq!((completed(0), completed(1)), (1, 1));
}

#[test]
fn a_joiner_whose_initiator_lost_the_handshake_finishes_by_hello_within_its_session() {
    let mut world = World::of(2);
    world.frame_tap = Some(Box::new(|passing| match passing.frame.kind() {
        FrameType::H5 if passing.nth_of_type == 0 => Fate::CrashReceiver,
        _ => Fate::Arrives,
    }));
    world.later(Duration::from_secs(3), |w| w.start(0));
    pairing(&mut world);
    let (ending, took) = world.ending(1);
    ending.expect("paired");
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert_paired(&world, 0, 1);
}

#[test]
fn nobody_is_left_half_paired_when_the_other_side_never_returns() {
    // The initiator stored, then the joiner is gone for ever: the joiner's question was never answered.
    let mut world = World::of(2);
    world.devices[1].person = Person::Never;
    pairing(&mut world);
    world.run_for(Duration::from_secs(2));
    world.crash(1);
    let (ending, took) = world.ending(0);
    assert_eq!(ending, Err(Cause::ConnectionLost));
    assert!(took <= Duration::from_secs(61), "{took:?}");
    assert_eq!(states(&world), (Some(PairState::Pending), None));
    world.run_for(Duration::from_secs(80_000));
    world.run_for(Duration::from_secs(6_400));
    assert_nothing_stored(&world);
}

#[test]
fn a_joiner_that_gave_up_after_a_day_takes_the_initiator_that_did_become_paired_with_it() {
    let mut world = World::of(2);
    world.frame_tap = Some(Box::new(|passing| match passing.frame.kind() {
        FrameType::H6 => Fate::CrashReceiver,
        _ => Fate::Arrives,
    }));
    pairing(&mut world);
    world.run_until(Duration::from_secs(10), |w| w.devices[1].run.is_none());
    assert_eq!(states(&world), (Some(PairState::Paired), Some(PairState::Pending)));
    world.frame_tap = None;
    world.block(0, 1, true);
    a_day_later(&mut world, 1);
    world.run_for(REPAIR);
    assert_eq!(states(&world), (Some(PairState::Paired), None));
    assert_eq!(world.devices[1].disk.tombstones.len(), 1);
    // Its notice is durable: it survives a restart, and is told at the next hello.
    world.crash(1);
    world.start(1);
    world.block(0, 1, false);
    world.run_until(REPAIR, |w| w.devices[1].disk.tombstones.is_empty());
    assert_nothing_stored(&world);
    assert!(world.devices[1].disk.tombstones.is_empty(), "read, so forgotten");
    assert!(
        world.devices[0].link_events.iter().any(|(_, e)| matches!(e, link::Event::Gone { by_them: true, .. })),
        "the person is told"
    );
}

/// The end of a pairing keeps the same order as its beginning: on the disk, then on the wire.
#[test]
fn a_crash_at_every_write_of_an_ending_loses_no_notice() {
    let points: [(usize, &str, DiskMoment); 6] = [
        (1, "delete with tombstone", DiskMoment::Before),
        (1, "delete with tombstone", DiskMoment::After),
        (0, "delete", DiskMoment::Before),
        (0, "delete", DiskMoment::After),
        (1, "acknowledged", DiskMoment::Before),
        (1, "acknowledged", DiskMoment::After),
    ];
    for (dev, name, moment) in points {
        let mut world = World::of(2);
        world.settings.disk = (Duration::from_millis(500), Duration::from_millis(500));
        world.frame_tap = Some(Box::new(|passing| match passing.frame.kind() {
            FrameType::H6 => Fate::CrashReceiver,
            _ => Fate::Arrives,
        }));
        pairing(&mut world);
        world.run_until(Duration::from_secs(10), |w| w.devices[1].run.is_none());
        world.frame_tap = None;
        world.devices[1].clock += 86_401;
        let mut hit = false;
        world.disk_tap = Some(Box::new(move |d, n, m| {
            let now = !hit && (d, n, m) == (dev, name, moment);
            hit |= now;
            now
        }));
        world.start(1);
        let crashed = world.run_until(REPAIR, |w| w.devices[dev].run.is_none());
        assert!(crashed, "{name} on {dev} happens");
        world.start(dev);
        // Whoever was refused in between tries again within its usual time.
        world.run_until(2 * REPAIR, |w| {
            w.devices.iter().all(|d| d.disk.rows.is_empty() && d.disk.tombstones.is_empty())
        });
        assert_nothing_stored(&world);
    }
}

#[test]
fn a_store_that_fails_ends_the_session_with_storage_and_stores_nothing_wrong() {
    for (dev, failures) in [(0, 100), (1, 100)] {
        let mut world = World::of(2);
        let now = Rc::new(Cell::new(false));
        let seen = now.clone();
        world.disk_tap = Some(Box::new(move |d, _, m| {
            seen.set(d == dev && m == DiskMoment::Before);
            false
        }));
        pairing(&mut world);
        // The frame before the write of this side: from here on its disk fails.
        let kind = if dev == 0 { FrameType::H3 } else { FrameType::H4 };
        world.run_until(Duration::from_secs(5), |w| w.frames.contains_key(&kind));
        world.settings.disk_failures = failures;
        let (ending, _) = world.ending(dev);
        assert_eq!(ending, Err(Cause::Storage));
        world.settings.disk_failures = 0;
        let (i, j) = restart_and_repair(&mut world);
        assert_ne!(i, Some(PairState::Paired));
        assert_eq!(j, None);
    }
}
