//! `pair join`: enters the code of the other device.

use std::io::Read as _;

use handfast::{Cause, Error, PairOptions};
use zeroize::Zeroizing;

use super::Context;
use crate::args::Join;
use crate::argv::GivenCode;
use crate::daemon::Access;
use crate::prompt;
use crate::qr::read;
use crate::session::{Opened, follow};
use crate::signals::{INTERRUPTED, Signals};

/// Most bytes that are read from stdin: the longest code is a QR text of 120 characters.
const STDIN_MAX: u64 = 256;

/// The code, from wherever it comes; `None` if the person gave up at the prompt. A wrong one is refused before
/// anything is started.
///
/// # Errors
/// `code_malformed` or `version_mismatch`; at the prompt also why the device cannot run.
pub(super) fn code(
    context: &Context,
    args: &Join,
    given: Option<GivenCode>,
) -> Result<Option<Zeroizing<String>>, Error> {
    let text = match (given, args.code.as_slice()) {
        (Some(given), _) => given.text,
        (None, _) if let Some(picture) = &args.qr_image => read::code_in(picture)?,
        (None, []) if context.term.can_ask() && !context.out.is_json() => {
            // What keeps this device from running is said before somebody types twelve words for it.
            super::one_thread(async { Access::check(&context.instance, &args.network).await.map(|()| 0) })?;
            context
                .out
                .talk("Enter the twelve words of the other device. Tab completes; four letters of a word are enough.");
            match prompt::code::ask(context.term.colour)? {
                Some(text) => text,
                None => return Ok(None),
            }
        }
        // Without a terminal there is nobody to ask: then stdin is where a code can come from.
        (None, _) => from_stdin()?,
    };
    handfast::code::check(&text)?;
    Ok(Some(text))
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Join, code: Option<Zeroizing<String>>) -> Result<u8, Error> {
    let Some(code) = code else {
        // Given up at the prompt: no session, and nothing to withdraw.
        return Ok(INTERRUPTED);
    };
    let mut signals = Signals::listen()?;
    let access = Access::running_or_own(&context.instance, &args.network).await?;
    super::say_if_options_are_late(context, &args.network, &access);
    let done = join_and_wait(context, args, &access, code, &mut signals).await;
    access.end().await;
    done
}

async fn join_and_wait(
    context: &Context,
    args: &Join,
    access: &Access,
    code: Zeroizing<String>,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let options = PairOptions { yes: args.yes, verify: args.verify, ..PairOptions::default() };
    let joined = access.client.join(&code, options).await?;
    drop(code);
    let opened = Opened {
        session: joined.session,
        seq: joined.seq,
        shown: None,
        code: None,
        yes: args.yes,
        deadline: None,
        renewal: None,
    };
    follow(context, &access.client, opened, signals).await
}

fn from_stdin() -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(String::with_capacity(256 + 1));
    let failed = |error| Error::because(Cause::CodeMalformed, format!("the code could not be read: {error}"));
    // One byte more than allowed, so that a longer text is refused and not cut.
    std::io::stdin().lock().take(STDIN_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > STDIN_MAX {
        return Err(Error::because(Cause::CodeMalformed, format!("a code has at most {STDIN_MAX} bytes")));
    }
    Ok(text)
}
