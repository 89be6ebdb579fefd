//! `pair status`: the sessions of the running device, in both roles.

use handfast::{Cause, Error};

use super::Context;
use crate::args::Which;
use crate::daemon::Client;
use crate::render::lists;

/// Runs the command.
pub(super) async fn run(context: &Context, which: Which) -> Result<u8, Error> {
    let mut sessions = Client::of(&context.instance).sessions().await?;
    if let Some(wanted) = which.session {
        sessions.retain(|entry| entry.session == wanted);
        if sessions.is_empty() {
            return Err(Error::because(Cause::Usage, format!("there is no session \"{wanted}\""))
                .with_hint("`handfast pair list` shows all"));
        }
    }
    context.out.show(&sessions, |sessions| lists::sessions(sessions));
    Ok(0)
}
