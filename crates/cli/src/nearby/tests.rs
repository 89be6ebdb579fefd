//! What becomes of the QR beside an open comparison.

use super::*;
use crate::bench::Bench;
use crate::prompt::answers::NO_DEFAULT;

/// Somebody has selected this device: a code is offered, and the comparison is asked.
async fn compared(bench: &Bench) -> (Follower<'_>, String) {
    let opened = Opened { session: "1a".to_owned(), seq: 0, yes: false, select: None, qr: None };
    let mut follower = Follower::new(&bench.context, &bench.client, opened);
    follower.offer.make(&bench.client, false).await.expect("a code");
    let code = bench.session().await.expect("its session");
    follower.talk.ask(comparison::QUESTION, NO_DEFAULT);
    follower.asking = Some(Asking::Comparison);
    (follower, code)
}

#[tokio::test]
async fn a_qr_whose_code_has_ended_cannot_be_asked_for_any_more() {
    let bench = Bench::start().await;
    let (mut follower, code) = compared(&bench).await;
    assert!(follower.offer.is_open());
    let over = Bench::event(EventKind::failed(Some(code), Cause::CodeExpired));
    assert_eq!(follower.event(&over).await.expect("shown"), None, "the comparison goes on");
    assert!(!follower.offer.is_open());
    assert!(follower.talk.lift().starts_with(comparison::QUESTION));
    drop(follower);
    bench.stop().await;
}

#[tokio::test]
async fn a_question_stays_open_below_a_qr_that_is_drawn_anew() {
    let bench = Bench::start().await;
    let (mut follower, session) = compared(&bench).await;
    let redrawn = Bench::event(EventKind::CodeRedrawn { session });
    assert_eq!(follower.event(&redrawn).await.expect("shown"), None);
    assert!(follower.talk.lift().starts_with(comparison::QUESTION));
    drop(follower);
    bench.stop().await;
}
