//! Pairings that succeed, and what the two can do afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use handfast::{Builder, EventKind, Network, PairOptions, StoredDevices};

use crate::world::{LIMIT, World, event, outcome};

const YES: PairOptions = PairOptions { yes: true, verify: false, ttl: Duration::from_secs(60) };

#[tokio::test]
async fn b22_b47_two_devices_pair_know_each_other_and_still_do_after_a_restart() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    let code = alice.generate(YES).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(joined.session, code.session, "both sides show the same session");
    assert_eq!(outcome(&alice, &code.session).await, "paired");
    assert_eq!(outcome(&bob, &joined.session).await, "paired");

    let (at_alice, at_bob) = (alice.devices().await.expect("list"), bob.devices().await.expect("list"));
    let (alice_status, bob_status) = (alice.status(), bob.status());
    assert_eq!((at_alice.len(), at_bob.len()), (1, 1));
    assert_eq!((&at_alice[0].id, &at_alice[0].name), (&bob_status.id, &bob_status.name));
    assert_eq!((&at_bob[0].id, &at_bob[0].name), (&alice_status.id, &alice_status.name));
    assert_eq!(at_alice[0].fingerprint, bob_status.fingerprint);
    assert_eq!(at_bob[0].fingerprint, alice_status.fingerprint);

    alice.ping("bob", LIMIT).await.expect("a round trip");
    bob.ping("alice", LIMIT).await.expect("a round trip");
    alice.stop().await;
    bob.stop().await;

    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    assert_eq!(alice.status().id, alice_status.id);
    bob.ping("alice", LIMIT).await.expect("a round trip without a code");
    alice.ping(&bob_status.id[..8], LIMIT).await.expect("a round trip, named by the beginning of its id");
    alice.stop().await;
    bob.stop().await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_ends_right_after_a_pairing_has_seen_the_other() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    let code = alice.generate(YES).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(outcome(&bob, &joined.session).await, "paired");
    assert_eq!(outcome(&alice, &code.session).await, "paired");
    alice.stop().await;
    bob.stop().await;
    for name in ["alice", "bob"] {
        let stored = StoredDevices::open(&world.home(name)).expect("readable").expect("a store").list();
        assert_eq!(stored.len(), 1);
        assert!(stored[0].last_seen.is_some(), "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_qr_text_pairs_as_the_words_do_and_the_second_pairing_replaces_the_first() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    for round in 0..2 {
        let code = alice.generate(YES).await.expect("a code");
        let joined = bob.join(&code.qr, YES).await.expect("a session");
        assert_eq!(outcome(&bob, &joined.session).await, "paired", "round {round}");
        assert_eq!(outcome(&alice, &code.session).await, "paired", "round {round}");
        if round == 0 {
            alice.rename("bob", "kitchen").await.expect("renamed");
        }
    }
    let devices = alice.devices().await.expect("list");
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].name, "kitchen", "the name it was given stays");
    let mut known = alice.events(0);
    event(&mut known, |kind| matches!(kind, EventKind::ApprovalNeeded { known: true, .. })).await;
    world.end().await;
}

#[tokio::test]
async fn b23_a_device_is_initiator_and_joiner_at_once_and_asks_one_question_at_a_time() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.device("alice").await, world.device("bob").await, world.device("carol").await);
    let ask = PairOptions { yes: false, ..YES };
    let of_alice = alice.generate(ask).await.expect("a code");
    let of_carol = carol.generate(YES).await.expect("a code");
    let at_bob = bob.join(&of_alice.words.join(" "), YES).await.expect("a session");
    let at_alice = alice.join(&of_carol.words.join(" "), ask).await.expect("a session");

    let mut events = alice.events(0);
    let is_question = |kind: &EventKind| matches!(kind, EventKind::ApprovalNeeded { .. });
    for answered in 0..2 {
        let question = event(&mut events, is_question).await;
        let session = question.kind.session().expect("a session").to_owned();
        if answered > 0 {
            let unclear = alice.answer(None, true).await.expect_err("the first one may still be meant");
            assert_eq!((unclear.cause, unclear.text.contains(&session)), (handfast::Cause::Usage, true));
        }
        assert_eq!(alice.answer(Some(session.clone()), true).await.expect("the open question"), session);
    }
    assert_eq!(outcome(&alice, &of_alice.session).await, "paired");
    assert_eq!(outcome(&bob, &at_bob.session).await, "paired");
    assert_eq!(outcome(&carol, &of_carol.session).await, "paired");
    assert_eq!(outcome(&alice, &at_alice.session).await, "paired");
    assert_eq!(alice.devices().await.expect("list").len(), 2);
    world.end().await;
}

/// At the first start every listener has a port of its own; peers remember where they met us.
#[tokio::test]
async fn the_ports_of_the_first_start_stay_those_of_ipv4() {
    let home = tempfile::tempdir().expect("a folder");
    let network = Network { no_dht: true, no_lan: true, ..Network::default() };
    let start = || Builder::new(home.path().join("device")).network(network.clone()).start();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let device = start().await.expect("a device");
        let of_loopback = || -> BTreeSet<String> {
            device.status().listen.into_iter().filter(|at| at.starts_with("/ip4/127.0.0.1/")).collect()
        };
        let both = async {
            while of_loopback().len() < 2 {
                tokio::task::yield_now().await;
            }
            of_loopback()
        };
        runs.push(tokio::time::timeout(LIMIT, both).await.expect("it listens"));
        device.stop().await;
    }
    assert_eq!((&runs[0], &runs[0]), (&runs[1], &runs[2]));
}
