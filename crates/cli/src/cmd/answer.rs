//! `pair accept`, `pair reject`, `pair cancel`.

use handfast::Error;
use serde::Serialize;

use super::Context;
use crate::args::Which;
use crate::daemon::Client;

/// What was done to which session.
#[derive(Serialize)]
struct Answered {
    session: String,
    done: &'static str,
}

/// Answers the question of a session.
pub(super) async fn answer(context: &Context, which: Which, allow: bool) -> Result<u8, Error> {
    let session = Client::of(&context.instance).answer(which.session, allow).await?;
    show(context, session, if allow { "accepted" } else { "rejected" })
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
