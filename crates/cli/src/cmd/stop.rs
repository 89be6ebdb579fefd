//! `stop`: stops the running device and waits until it is gone.

use std::time::Duration;

use handfast::{Cause, Error};
use serde::Serialize;

use super::Context;
use crate::daemon::Client;

/// A device withdraws open codes for at most 2 s, then closes its connections.
const GONE: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Serialize)]
struct Stopped<'a> {
    instance: &'a str,
    stopped: bool,
}

/// Runs the command.
pub(super) async fn run(context: &Context) -> Result<u8, Error> {
    let process = Client::of(&context.instance).stop().await?;
    if !process.ends_within(GONE).await {
        let text = format!("its process still runs after {} seconds", GONE.as_secs());
        return Err(Error::because(Cause::Internal, text).with_hint("look at its log, then end the process"));
    }
    let instance = context.instance.name.as_str();
    context.out.show(&Stopped { instance, stopped: true }, |stopped| format!("{} has stopped", stopped.instance));
    Ok(0)
}
