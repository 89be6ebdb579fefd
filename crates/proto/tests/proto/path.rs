//! The way that goes well, what it costs, and who may take it.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::qr::QrText;
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::id::Tid;
use handfast_proto::link::PairState;
use handfast_proto::session::{Consent, Event, FoundBy, Job, JobResult, JoinError};
use handfast_proto::wire::advert::AdvertState;
use handfast_proto::wire::frames::FrameType;

use crate::bench::{Bench, record, rng};
use crate::sim::dht::{Manners, Node};
use crate::sim::ledger::code_of;
use crate::sim::world::{Person, World};

/// The life of a code where it does not matter.
pub(crate) const TTL: Duration = Duration::from_secs(600);

/// Both devices have each other, and agree on everything.
pub(crate) fn assert_paired(world: &World, a: usize, b: usize) {
    let (rows_a, rows_b) = (&world.devices[a].disk.rows, &world.devices[b].disk.rows);
    assert_eq!((rows_a.len(), rows_b.len()), (1, 1));
    let (row_a, row_b) = (rows_a.values().next().expect("one"), rows_b.values().next().expect("one"));
    assert_eq!((row_a.state, row_b.state), (PairState::Paired, PairState::Paired));
    assert_eq!(row_a.pairing_id, row_b.pairing_id);
    assert!(row_a.secret == row_b.secret);
    assert_eq!(row_a.key, world.devices[b].identity.public());
    assert_eq!(row_b.key, world.devices[a].identity.public());
}

/// Nobody has anybody.
pub(crate) fn assert_nothing_stored(world: &World) {
    assert!(world.devices.iter().all(|d| d.disk.rows.is_empty()));
}

/// Two devices, the code of device 0 shown and entered at device 1.
pub(crate) fn pairing(world: &mut World) -> Code {
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.join(1, &code, Consent::Ask);
    code
}

#[test]
fn b44_b47_words_pair_two_devices_in_five_round_trips_three_of_them_the_handshake() {
    let mut world = World::of(2);
    let (initiator, code) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    let joiner = world.join(1, &code, Consent::Ask);
    let (ending, took) = world.ending(1);
    ending.expect("paired");
    assert_paired(&world, 0, 1);
    assert_eq!(initiator, joiner, "both sides name the session alike");
    // Look-up, dial, then H1/H2, H3/H4, H5/H6; each write takes the world 50 µs to tell.
    let round_trip = 2 * world.settings.latency;
    assert!(took >= 5 * round_trip && took < 5 * round_trip + Duration::from_millis(1), "{took:?}");
    let once = BTreeMap::from([
        (FrameType::P1, 1),
        (FrameType::H1, 1),
        (FrameType::H2, 1),
        (FrameType::H3, 1),
        (FrameType::H4, 1),
        (FrameType::H5, 1),
        (FrameType::H6, 1),
    ]);
    assert_eq!(world.frames, once);
}

#[test]
fn b6_b45_each_side_tells_its_steps_once_and_in_order() {
    let mut world = World::of(2);
    world.run_for(Duration::from_secs(1));
    pairing(&mut world);
    world.run_for(Duration::from_secs(2));
    let names = |dev: usize| -> Vec<&str> {
        world
            .events(dev)
            .iter()
            .map(|event| match event {
                Event::CodeAdvertised { nodes: 3, .. } => "advertised on 3",
                Event::SessionDiscovered { found_by: FoundBy::Dht, .. } => "discovered",
                Event::Connected { .. } => "connected",
                Event::ApprovalNeeded { .. } => "question",
                Event::Paired { .. } => "paired",
                _ => "something else",
            })
            .collect()
    };
    assert_eq!(names(0), ["advertised on 3", "connected", "question", "paired"]);
    assert_eq!(names(1), ["discovered", "connected", "question", "paired"]);
    // Afterwards a hello certifies the connection, with no code.
    assert!(world.run(0).links.load() > 0);
    let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
    let token = world.ping(0, id, Duration::from_secs(5));
    assert!(world.run_until(Duration::from_secs(1), |w| w.pong(0, token) == Some(true)));
}

#[test]
fn b23_b42_two_codes_at_once_pair_with_two_devices_and_ask_one_question_at_a_time() {
    let mut world = World::of(3);
    world.devices[0].person = Person::Yes(Duration::from_secs(20));
    let (first, code_a) = world.generate(0, TTL, Consent::Ask);
    let (second, code_b) = world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    world.join(1, &code_a, Consent::Ask);
    world.join(2, &code_b, Consent::Ask);
    world.run_for(Duration::from_secs(10));
    let states: Vec<&str> = world.run(0).table.statuses().iter().map(|s| s.state).collect();
    assert_eq!(states, ["approval", "approval"]);
    let asked = |w: &World| w.events(0).iter().filter(|e| matches!(e, Event::ApprovalNeeded { .. })).count();
    assert_eq!(asked(&world), 1, "the second question waits for the first");
    world.run_for(Duration::from_secs(40));
    assert_eq!(asked(&world), 2);
    assert_ne!(first, second);
    assert_eq!(world.devices[0].disk.rows.len(), 2);
    assert_eq!(world.endings(0).iter().filter(|e| e.is_ok()).count(), 2);
    for dev in [1, 2] {
        assert!(world.endings(dev)[0].is_ok());
    }
}

#[test]
fn b23_a_device_cannot_join_its_own_code_nor_the_same_code_twice() {
    let mut world = World::of(2);
    let (session, code) = world.generate(0, TTL, Consent::Ask);
    let own = world.try_join(0, CodeInput::Words(code.clone()), Consent::Ask);
    assert_eq!(own, Err(JoinError::OwnCode));
    world.join(1, &code, Consent::Ask);
    let again = world.try_join(1, CodeInput::Words(code.clone()), Consent::Ask);
    assert_eq!(again, Err(JoinError::Running(session.clone())));
    let (ending, _) = world.ending(1);
    ending.expect("paired");
    // Once it has ended here, it may be tried again, under a name of its own; and the code is used.
    let again = world.try_join(1, CodeInput::Words(code), Consent::Ask).expect("may be tried");
    assert_eq!((again.0.as_str(), code_of(&again)), (format!("{session}-2").as_str(), session.0.as_str()));
    assert_eq!(world.ending(1).0, Err(Cause::CodeUsed));
}

#[test]
fn c24_clocks_months_apart_and_set_on_the_way_do_not_matter_to_a_code() {
    for (ahead, jump) in [(-8_000_000, 0), (8_000_000, 0), (86_400, -200_000), (0, 200_000)] {
        let mut world = World::of(2);
        world.devices[0].clock = ahead;
        world.devices[1].person = Person::Yes(Duration::from_secs(5));
        world.later(Duration::from_secs(3), move |w| w.devices[0].clock += jump / 3);
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        assert_paired(&world, 0, 1);
    }
}

#[test]
fn c10_a_qr_text_pairs_through_its_hint_without_any_dht_node() {
    let mut world = World::of(2);
    for node in &mut world.nodes {
        node.alive = false;
    }
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    let addresses = world.devices[0].addresses.clone();
    let tid = world.run(0).tid;
    let policy = handfast_proto::addr::LoopbackPolicy::Refuse;
    let text = QrText::new(code, tid, true, false, &addresses, policy).to_text();
    world.try_join(1, text.parse().expect("a code"), Consent::Ask).expect("may be joined");
    world.ending(1).0.expect("paired");
    assert_paired(&world, 0, 1);
    assert!(
        world.events(1).iter().any(|e| matches!(e, Event::SessionDiscovered { found_by: FoundBy::Qr, .. })),
        "found by its hint"
    );
}

/// A6, A11: each start has a transport key of its own, and the one in the QR must answer.
#[test]
fn a_qr_text_of_a_device_that_restarted_is_the_wrong_device() {
    let mut world = World::of(2);
    let (_, code) = world.generate(0, TTL, Consent::Ask);
    let addresses = world.devices[0].addresses.clone();
    let tid = world.run(0).tid;
    let policy = handfast_proto::addr::LoopbackPolicy::Refuse;
    let text = QrText::new(code, tid, true, false, &addresses, policy).to_text();
    world.crash(0);
    world.start(0);
    world.try_join(1, text.parse().expect("a code"), Consent::Ask).expect("may be joined");
    assert_eq!(world.ending(1).0, Err(Cause::WrongDevice));
    assert_nothing_stored(&world);
}

#[test]
fn a_record_of_another_transport_key_than_the_qr_text_pins_is_not_dialled() {
    let mut bench = Bench::new(1);
    let code = Code::generate(&mut rng(3));
    let policy = handfast_proto::addr::LoopbackPolicy::Refuse;
    let text = QrText::new(code.clone(), Tid([8; 32]), true, false, &[], policy).to_text();
    let now = bench.clocks();
    bench.table.join(text.parse().expect("a code"), Consent::Ask, now).expect("may be joined");
    bench.drain();
    let look_up = bench.jobs[0].0;
    bench.job_done(look_up, JobResult::Found(record(&code, Tid([9; 32]), AdvertState::Open, 1)));
    bench.job_done(look_up, JobResult::LookedUp { answered: 3 });
    assert!(!bench.jobs.iter().any(|(_, job)| matches!(job, Job::Dial { .. })));
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.causes(), [Cause::WrongDevice]);
}

#[test]
fn b1_b5_half_of_the_nodes_lost_others_mute_replaying_or_inventing_and_the_record_is_found() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.add_nodes(6);
        for manners in [Manners::Mute, Manners::Replays, Manners::Invents] {
            world.nodes.push(Node::new(manners));
        }
        for _ in 0..2 {
            world.add_device(Person::Yes(Duration::ZERO));
        }
        let (_, code) = world.generate(0, TTL, Consent::Ask);
        world.run_for(Duration::from_secs(1));
        // A newer record, which the replaying node does not tell of.
        world.roam(0);
        world.run_for(Duration::from_secs(2));
        for node in 0..3 {
            world.nodes[node].alive = false;
        }
        world.join(1, &code, Consent::Ask);
        let (ending, took) = world.ending(1);
        ending.expect("paired");
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_paired(&world, 0, 1);
    }
}

#[test]
fn b4_a_wrong_code_finds_nobody_and_connects_to_nobody() {
    let mut world = World::of(2);
    world.generate(0, TTL, Consent::Ask);
    world.run_for(Duration::from_secs(1));
    let wrong = Code::generate(&mut rng(9));
    world.join(1, &wrong, Consent::Ask);
    let (ending, took) = world.ending(1);
    assert_eq!(ending, Err(Cause::NotFound));
    assert_eq!(took, Duration::from_secs(30));
    assert!(world.frames.is_empty());
    assert_nothing_stored(&world);
}
