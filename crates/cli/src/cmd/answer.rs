//! `pair accept`, `pair reject`, `pair cancel`: answers to a question or a comparison, and withdrawal.

use handfast::Error;
use serde::Serialize;

use super::Context;
use crate::args::{Accept, Reject, Which};
use crate::daemon::Client;

/// What was done to which session.
#[derive(Serialize)]
struct Answered {
    session: String,
    done: &'static str,
}

/// Answers the question of a session with yes, or its comparison.
pub(super) async fn accept(context: &Context, accept: Accept) -> Result<u8, Error> {
    let session = accept.which.session;
    match (accept.emoji_match, accept.emoji_differ) {
        (true, _) => compare(context, session, true).await,
        (false, true) => compare(context, session, false).await,
        (false, false) => answer(context, session, true).await,
    }
}

/// Answers the question of a session with no.
pub(super) async fn reject(context: &Context, reject: Reject) -> Result<u8, Error> {
    let session = reject.which.session;
    if reject.emoji_differ { compare(context, session, false).await } else { answer(context, session, false).await }
}

async fn answer(context: &Context, session: Option<String>, allow: bool) -> Result<u8, Error> {
    let session = Client::of(&context.instance).answer(session, allow).await?;
    show(context, session, if allow { "accepted" } else { "rejected" })
}

async fn compare(context: &Context, session: Option<String>, matches: bool) -> Result<u8, Error> {
    let session = Client::of(&context.instance).compare(session, matches).await?;
    show(context, session, if matches { "matched" } else { "differed" })
}

/// Withdraws a session.
pub(super) async fn cancel(context: &Context, which: Which) -> Result<u8, Error> {
    let session = Client::of(&context.instance).cancel(which.session).await?;
    show(context, session, "cancelled")
}

fn show(context: &Context, session: String, done: &'static str) -> Result<u8, Error> {
    context.out.show(&Answered { session, done }, |answered| format!("{}: {}", answered.session, answered.done));
    Ok(0)
}
