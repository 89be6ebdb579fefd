//! Pairings that fail and requests that are refused: each with its cause, and with nothing left behind.

use std::time::Duration;

use handfast::{Builder, Cause, EventKind, PairOptions};

use crate::world::{World, event, loopback, outcome};

const ASK: PairOptions = PairOptions { yes: false, verify: false, ttl: Duration::from_secs(60) };
const YES: PairOptions = PairOptions { yes: true, verify: false, ttl: Duration::from_secs(60) };

#[tokio::test]
async fn b36_rejected_cancelled_used_and_expired_are_told_apart_on_both_sides() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    let is_question = |kind: &EventKind| matches!(kind, EventKind::ApprovalNeeded { .. });

    // The initiator's person says no.
    let code = alice.generate(ASK).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    event(&mut alice.events(code.seq), is_question).await;
    alice.answer(None, false).await.expect("a question is open");
    assert_eq!(outcome(&alice, &code.session).await, "rejected");
    assert_eq!(outcome(&bob, &joined.session).await, "rejected");

    // The joiner's person says no.
    let code = alice.generate(YES).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), ASK).await.expect("a session");
    event(&mut bob.events(joined.seq), is_question).await;
    bob.answer(None, false).await.expect("a question is open");
    assert_eq!(outcome(&alice, &code.session).await, "rejected");
    assert_eq!(outcome(&bob, &joined.session).await, "rejected");

    // A code whose question was answered is used.
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(outcome(&bob, &joined.session).await, "code_used");

    // Withdrawn before anybody came.
    let code = alice.generate(YES).await.expect("a code");
    alice.cancel(None).await.expect("the only open session");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(outcome(&alice, &code.session).await, "cancelled");
    assert_eq!(outcome(&bob, &joined.session).await, "cancelled");

    // Withdrawn while the question is open.
    let code = alice.generate(ASK).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    event(&mut alice.events(code.seq), is_question).await;
    alice.cancel(Some(code.session.clone())).await.expect("it can be withdrawn");
    assert_eq!(outcome(&bob, &joined.session).await, "cancelled");

    // The joiner gives up while the initiator is asked.
    let code = alice.generate(ASK).await.expect("a code");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    event(&mut alice.events(code.seq), is_question).await;
    bob.cancel(None).await.expect("it can give up");
    assert_eq!(outcome(&alice, &code.session).await, "cancelled");
    assert_eq!(outcome(&bob, &joined.session).await, "cancelled");

    assert!(alice.devices().await.expect("list").is_empty());
    assert!(bob.devices().await.expect("list").is_empty());
    assert!(alice.status().sessions.is_empty() && bob.status().sessions.is_empty());
    world.end().await;
}

#[tokio::test]
async fn b25_a_code_ends_with_its_life() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    let short = PairOptions { ttl: Duration::from_secs(5), ..YES };
    let code = alice.generate(short).await.expect("a code");
    assert_eq!(outcome(&alice, &code.session).await, "code_expired");
    let joined = bob.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(outcome(&bob, &joined.session).await, "code_expired");
    world.end().await;
}

#[tokio::test]
async fn a_wrong_code_our_own_code_and_no_bootstrap_are_named_at_once() {
    let world = World::new().await;
    let alice = world.device("alice").await;
    let error = alice.join("one two three", YES).await.expect_err("not a code");
    assert_eq!((error.cause, error.exit()), (Cause::CodeMalformed, 3));
    let code = alice.generate(YES).await.expect("a code");
    let error = alice.join(&code.words.join(" "), YES).await.expect_err("its own code");
    assert_eq!(error.cause, Cause::Usage);
    let lonely = Builder::new(world.home("lonely")).listen(loopback()).start().await.expect("a device");
    let joined = lonely.join(&code.words.join(" "), YES).await.expect("a session");
    assert_eq!(outcome(&lonely, &joined.session).await, "no_bootstrap");
    for _ in 0..7 {
        alice.generate(YES).await.expect("eight codes may be open");
    }
    assert_eq!(alice.generate(YES).await.err().map(|e| e.cause), Some(Cause::Usage));
    assert_eq!(alice.cancel(None).await.expect_err("several are open").cause, Cause::Usage);
    world.end().await;
}

#[tokio::test]
async fn b10_commands_after_the_end_and_a_second_process_get_their_own_errors() {
    let world = World::new().await;
    let alice = world.device("alice").await;
    let second = world.builder("alice").start().await;
    assert_eq!(second.err().map(|e| e.cause), Some(Cause::AlreadyRunning));
    let mut events = alice.events(0);
    alice.stop().await;
    assert!(events.next().await.is_none(), "readers come to their end");
    assert_eq!(alice.generate(YES).await.err().map(|e| e.cause), Some(Cause::NotRunning));
    let again = world.device("alice").await;
    // 10,000 requests at once: each is answered, none waits for ever.
    let asks: Vec<_> = (0..10_000)
        .map(|_| {
            let device = again.clone();
            tokio::spawn(async move { device.devices().await.is_ok() })
        })
        .collect();
    for ask in asks {
        assert!(ask.await.expect("no panic"));
    }
    let error = again.ping("nobody", Duration::from_secs(1)).await.expect_err("no such device");
    assert_eq!(error.cause, Cause::Usage);
    drop(again);
    world.end().await;
}
