//! `events`: what happens, one JSON object a line, with and without `--json`.

use handfast::Error;

use super::Context;
use crate::args::Events;
use crate::daemon::Client;
use crate::signals::{INTERRUPTED, Signals};

/// Runs the command until the device stops, the reader has enough, or a signal comes.
pub(super) async fn run(context: &Context, args: &Events) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let mut feed = Client::of(&context.instance).events(args.since).await?;
    while context.out.is_open() {
        tokio::select! {
            event = feed.next() => match event {
                Some(json) => context.out.text(&json),
                None => return Ok(0),
            },
            () = signals.next() => return Ok(INTERRUPTED),
        }
    }
    Ok(0)
}
