//! Every message lost once, the connection cut at each step: the pairing goes on by itself.

use std::time::Duration;

use handfast_proto::session::Consent;
use handfast_proto::wire::frames::FrameType;

use crate::path::{TTL, assert_paired, pairing};
use crate::sim::world::{Fate, Person, World};

const HANDSHAKE: [FrameType; 7] =
    [FrameType::P1, FrameType::H1, FrameType::H2, FrameType::H3, FrameType::H4, FrameType::H5, FrameType::H6];
const HELLO: [FrameType; 4] = [FrameType::R1, FrameType::R2, FrameType::R3, FrameType::R4];

/// Treats the first frame of a type as said, everything else well.
pub(crate) fn once(world: &mut World, kind: FrameType, fate: fn() -> Fate) {
    world.frame_tap =
        Some(Box::new(
            move |passing| {
                if passing.frame.kind() == kind && passing.nth_of_type == 0 { fate() } else { Fate::Arrives }
            },
        ));
}

#[test]
fn b32_c11_each_message_of_the_handshake_lost_once_costs_no_code() {
    for kind in HANDSHAKE {
        let mut world = World::of(2);
        once(&mut world, kind, || Fate::Cut);
        pairing(&mut world);
        let (ending, took) = world.ending(1);
        ending.unwrap_or_else(|cause| panic!("{kind:?} lost: {cause}"));
        world.run_until(Duration::from_secs(1), |w| w.ledger.live() == 0);
        assert_paired(&world, 0, 1);
        assert!(took < Duration::from_secs(5), "{kind:?} lost: {took:?}");
        // Before H2 nothing is agreed and a new handshake is made; after it the old one goes on.
        let resumed = world.frames.get(&FrameType::Resume).copied().unwrap_or(0);
        assert_eq!(resumed, usize::from(kind >= FrameType::H3), "{kind:?}");
    }
}

#[test]
fn b34_c11_a_connection_cut_behind_each_message_and_mended_after_five_seconds_still_pairs() {
    for kind in HANDSHAKE {
        for detection in [Duration::from_millis(50), Duration::from_secs(4)] {
            let mut world = World::of(2);
            world.settings.detection = (detection, detection);
            world.devices[0].person = Person::Yes(Duration::from_secs(1));
            world.devices[1].person = Person::Yes(Duration::from_secs(1));
            once(&mut world, kind, || Fate::CutBehind);
            pairing(&mut world);
            let cut = |w: &World| w.frames.contains_key(&kind);
            world.run_until(Duration::from_secs(20), cut);
            world.block(0, 1, true);
            world.later(Duration::from_secs(5), |w| w.block(0, 1, false));
            let (ending, took) = world.ending(1);
            ending.unwrap_or_else(|cause| panic!("cut behind {kind:?}: {cause}"));
            world.run_until(Duration::from_secs(1), |w| w.ledger.live() == 0);
            assert_paired(&world, 0, 1);
            assert!(took < Duration::from_secs(25), "cut behind {kind:?}: {took:?}");
        }
    }
}

#[test]
fn a_connection_cut_twice_in_the_same_handshake_is_resumed_twice() {
    for (first, second) in
        [(FrameType::H4, FrameType::H5), (FrameType::H5, FrameType::H6), (FrameType::H6, FrameType::H6)]
    {
        let mut world = World::of(2);
        let mut cuts = vec![second, first];
        world.frame_tap = Some(Box::new(move |passing| {
            if cuts.last() == Some(&passing.frame.kind()) {
                cuts.pop();
                return Fate::Cut;
            }
            Fate::Arrives
        }));
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        assert_paired(&world, 0, 1);
        assert_eq!(world.frames[&FrameType::Resume], 2);
    }
}

#[test]
fn c11_while_a_question_is_open_the_connection_may_break_and_the_answer_finds_the_new_one() {
    for asked in [0, 1] {
        let mut world = World::of(2);
        world.devices[asked].person = Person::Yes(Duration::from_secs(20));
        pairing(&mut world);
        world.run_for(Duration::from_secs(5));
        world.cut_between(0, 1);
        let (ending, took) = world.ending(1);
        ending.expect("paired");
        assert!(took < Duration::from_secs(17), "{took:?}");
        world.run_for(Duration::from_secs(1));
        assert_paired(&world, 0, 1);
        assert_eq!(world.frames[&FrameType::Resume], 1);
    }
}

#[test]
fn c11_an_initiator_that_moves_to_another_network_while_a_question_is_open_is_found_there() {
    for moves in [0, 1] {
        for asked in [0, 1] {
            let mut world = World::of(2);
            world.devices[asked].person = Person::Yes(Duration::from_secs(20));
            pairing(&mut world);
            world.run_for(Duration::from_secs(5));
            world.roam(moves);
            let (ending, took) = world.ending(1);
            ending.expect("paired");
            assert!(took < Duration::from_secs(17), "{moves} moves, {asked} is asked: {took:?}");
            world.run_for(Duration::from_secs(1));
            assert_paired(&world, 0, 1);
        }
    }
}

#[test]
fn each_message_of_the_hello_lost_once_and_the_link_comes_up() {
    for kind in HELLO {
        let mut world = World::of(2);
        once(&mut world, kind, || Fate::Cut);
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
        let up = |w: &World| {
            let run = |dev: usize| w.devices[dev].run.as_ref().expect("runs");
            run(0).links.path(id).is_some() && run(1).links.path(id).is_some()
        };
        assert!(world.run_until(Duration::from_secs(10), up), "{kind:?} lost");
    }
}

#[test]
fn b35_an_initiator_that_comes_back_within_reach_after_some_tries_is_paired_with() {
    let mut world = World::of(2);
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.block(0, 1, true);
    world.later(Duration::from_secs(6), |w| w.block(0, 1, false));
    world.join(1, &code, Consent::Ask);
    world.ending(1).0.expect("paired");
    assert_paired(&world, 0, 1);
}
