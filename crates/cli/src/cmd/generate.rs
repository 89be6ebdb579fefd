//! `pair generate`: shows a code and waits until it has served, or not.

use std::time::Duration;

use handfast::{Cause, Error, EventKind, PairOptions};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Context;
use crate::args::Generate;
use crate::daemon::{Access, CodeReply};
use crate::render::code::{Look, screen};
use crate::session::{Opened, follow};
use crate::signals::Signals;
use crate::term::Term;

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Generate) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    if args.no_wait {
        return hand_over(context, args).await;
    }
    let access = Access::running_or_own(&context.instance, &args.network).await?;
    super::say_if_options_are_late(context, &args.network, &access);
    let done = show_and_wait(context, args, &access, &mut signals).await;
    access.end().await;
    done
}

async fn show_and_wait(
    context: &Context,
    args: &Generate,
    access: &Access,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let code = access.client.generate(options(args)).await?;
    let deadline = Some(Instant::now() + Duration::from_secs(code.ttl));
    let (session, seq) = (code.session.clone(), code.seq);
    let code = if context.out.is_json() {
        // It is shown with the first event.
        Some(code)
    } else {
        show(context, &code);
        None
    };
    follow(context, &access.client, Opened { session, seq, code, yes: args.yes, deadline }, signals).await
}

/// `--no-wait`: the running device goes on without this command.
async fn hand_over(context: &Context, args: &Generate) -> Result<u8, Error> {
    let access = Access::running(&context.instance).await.map_err(|error| {
        let is_absent = error.cause == Cause::NotRunning;
        if is_absent { error.with_hint("start it with `handfast start`, or leave --no-wait out") } else { error }
    })?;
    super::say_if_options_are_late(context, &args.network, &access);
    let code = access.client.generate(options(args)).await?;
    if context.out.is_json() {
        let kind = EventKind::CodeCreated {
            session: code.session.clone(),
            words: Some(code.words.clone()),
            qr: Some(code.qr.clone()),
            expires_at: code.expires_at.clone(),
        };
        let (v, time) = (handfast::EVENT_VERSION, handfast::now_rfc3339());
        context.out.json_line(&handfast::Event { v, seq: code.seq + 1, time, kind });
    } else {
        show(context, &code);
        context.out.talk(&format!("Session {} waits until {}.", code.session, code.expires_at));
    }
    Ok(0)
}

fn options(args: &Generate) -> PairOptions {
    PairOptions { yes: args.yes, verify: args.verify, ttl: args.ttl }
}

/// A screen for people, or one plain line for programs.
fn show(context: &Context, code: &CodeReply) {
    if context.term.stdout {
        let (columns, rows) = Term::size();
        context.out.text(&screen(&code.words, &code.qr, Look { columns, rows, colour: context.term.colour }));
    } else {
        context.out.text(&Zeroizing::new(code.words.clone()));
    }
}
