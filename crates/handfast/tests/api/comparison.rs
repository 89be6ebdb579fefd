//! Two people compare emoji before either device says who it is.

use std::time::Duration;

use handfast::{Cause, Comparison, EventKind, Handle, PairOptions};

use crate::world::{World, event, outcome};

/// Consent is given, a comparison is not wanted, and the other way round.
const YES: PairOptions = PairOptions { yes: true, verify: false, ttl: Duration::from_secs(60) };
const VERIFY: PairOptions = PairOptions { verify: true, ..YES };

/// What a device shows in its newest session.
async fn shown(device: &Handle, since: u64) -> Comparison {
    let asked = event(&mut device.events(since), |kind| matches!(kind, EventKind::ComparisonNeeded { .. })).await;
    let EventKind::ComparisonNeeded { comparison, .. } = &asked.kind else { panic!("a comparison") };
    comparison.clone()
}

/// Both are asked; what they show, and the session.
async fn compared(alice: (&Handle, PairOptions), bob: (&Handle, PairOptions)) -> ([Comparison; 2], String) {
    let code = alice.0.generate(alice.1).await.expect("a code");
    let joined = bob.0.join(&code.words.join(" "), bob.1).await.expect("a session");
    ([shown(alice.0, code.seq).await, shown(bob.0, joined.seq).await], code.session)
}

#[tokio::test]
async fn a18_either_side_asks_for_a_comparison_and_consent_given_in_advance_does_not_answer_it() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    for (of_alice, of_bob) in [(VERIFY, YES), (YES, VERIFY)] {
        let ([at_alice, at_bob], session) = compared((&alice, of_alice), (&bob, of_bob)).await;
        assert_eq!(at_alice, at_bob);
        assert_eq!((at_alice.emoji.len(), at_alice.names.len(), at_alice.digits.split(' ').count()), (7, 7, 3));
        let entry = alice.sessions().await.expect("sessions").pop().expect("a session");
        assert_eq!((entry.state.as_str(), entry.comparison.as_ref()), ("comparison", Some(&at_alice)));
        let named = || Some(session.clone());
        assert_eq!(alice.answer(named(), true).await.expect_err("not an approval").cause, Cause::Usage);
        assert_eq!(alice.compare(named(), true).await.expect("it is open"), session);
        assert_eq!(bob.compare(named(), true).await.expect("it is open"), session);
        assert_eq!(
            (outcome(&alice, &session).await, outcome(&bob, &session).await),
            ("paired".into(), "paired".into())
        );
        let asked = |kind: &EventKind| {
            matches!(kind, EventKind::ApprovalNeeded { .. } | EventKind::Paired { .. })
                && kind.session() == Some(&session)
        };
        let first = event(&mut alice.events(0), asked).await;
        assert!(matches!(first.kind, EventKind::Paired { .. }), "nothing more is asked after a match");
    }
    assert_eq!(alice.devices().await.expect("list").len(), 1);
    world.end().await;
}

#[tokio::test]
async fn d8_they_differ_on_one_side_ends_both_and_nothing_is_stored() {
    let world = World::new().await;
    let (alice, bob) = (world.device("alice").await, world.device("bob").await);
    for differs in [&alice, &bob] {
        let (_, session) = compared((&alice, VERIFY), (&bob, YES)).await;
        differs.compare(Some(session.clone()), false).await.expect("it is open");
        let failed = "authentication_failed";
        assert_eq!((outcome(&alice, &session).await, outcome(&bob, &session).await), (failed.into(), failed.into()));
        assert_eq!(alice.compare(Some(session), true).await.expect_err("it is over").cause, Cause::Usage);
    }
    assert!(alice.devices().await.expect("list").is_empty() && bob.devices().await.expect("list").is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_known_name_with_another_key_is_warned_of_although_nothing_was_asked() {
    let world = World::new().await;
    let alice = world.device("alice").await;
    let mut warnings = Vec::new();
    for home in ["bob", "another"] {
        let bob = world.builder(home).name("bob").start().await.expect("a device");
        let (_, session) = compared((&alice, VERIFY), (&bob, YES)).await;
        alice.compare(Some(session.clone()), true).await.expect("it is open");
        bob.compare(Some(session.clone()), true).await.expect("it is open");
        let ends = |kind: &EventKind| kind.is_terminal() && kind.session() == Some(&session);
        let last = event(&mut alice.events(0), ends).await;
        let EventKind::Paired { warning, .. } = &last.kind else { panic!("{last:?}") };
        warnings.push(warning.clone());
        bob.stop().await;
    }
    assert_eq!(warnings[0], None);
    assert!(warnings[1].as_ref().is_some_and(|text| text.contains("\"bob\"")), "{warnings:?}");
    world.end().await;
}
