//! `pair generate`: shows a code and waits until it has served, or not.

use std::time::Duration;

use handfast::{Cause, Error, EventKind, PairOptions};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Context;
use crate::args::Generate;
use crate::daemon::Access;
use crate::qr::file::PictureFile;
use crate::session::{Opened, Renewal, follow};
use crate::shown::Shown;
use crate::signals::Signals;

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Generate) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    // What is wrong with it is said before there is a code. It goes with this value, however this command ends.
    let picture = args.qr_image.as_deref().map(PictureFile::prepare).transpose()?;
    if args.no_wait {
        return hand_over(context, args, picture).await;
    }
    let access = Access::running_or_own(&context.instance, &args.network).await?;
    super::say_if_options_are_late(context, &args.network, &access);
    let done = show_and_wait(context, args, &access, picture, &mut signals).await;
    access.end().await;
    done
}

async fn show_and_wait(
    context: &Context,
    args: &Generate,
    access: &Access,
    picture: Option<PictureFile>,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let code = access.client.generate(options(args)).await?;
    let deadline = Some(Instant::now() + Duration::from_secs(code.ttl));
    let (session, seq) = (code.session.clone(), code.seq);
    let mut shown = Shown::new(Zeroizing::new(code.words.clone()), picture);
    withdrawn_if_it_fails(access, &session, draw(&mut shown, context, &code.qr)).await?;
    // Whoever names a time wants that time; and a program that is given a code is not to find another one.
    let is_renewed = args.ttl.is_none() && context.term.stdout && !context.out.is_json();
    let renewal = is_renewed.then(|| Renewal::new(options(args), code.ttl));
    // With JSON it is shown with the first event.
    let code = context.out.is_json().then_some(code);
    let opened = Opened { session, seq, shown: Some(shown), code, yes: args.yes, deadline, renewal };
    follow(context, &access.client, opened, signals).await
}

fn draw(shown: &mut Shown, context: &Context, qr: &str) -> Result<(), Error> {
    shown.draw(context, qr)?;
    context.out.arrived()
}

/// Nobody waits for a code that could not be shown.
async fn withdrawn_if_it_fails(access: &Access, session: &str, shown: Result<(), Error>) -> Result<(), Error> {
    if shown.is_err() {
        // Why it was not shown is worth more than why it cannot be withdrawn.
        let _ = access.client.cancel(Some(session.to_owned())).await;
    }
    shown
}

/// `--no-wait`: the running device goes on without this command.
async fn hand_over(context: &Context, args: &Generate, picture: Option<PictureFile>) -> Result<u8, Error> {
    let access = Access::running(&context.instance).await.map_err(|error| {
        let is_absent = error.cause == Cause::NotRunning;
        if is_absent { error.with_hint("start it with `handfast start`, or leave --no-wait out") } else { error }
    })?;
    super::say_if_options_are_late(context, &args.network, &access);
    let code = access.client.generate(options(args)).await?;
    let mut shown = Shown::new(Zeroizing::new(code.words.clone()), picture);
    withdrawn_if_it_fails(&access, &code.session, draw(&mut shown, context, &code.qr)).await?;
    if context.out.is_json() {
        let kind = EventKind::CodeCreated {
            session: code.session.clone(),
            words: Some(code.words.clone()),
            qr: Some(code.qr.clone()),
            expires_at: code.expires_at.clone(),
        };
        let (v, time) = (handfast::EVENT_VERSION, handfast::now_rfc3339());
        context.out.json_line(&handfast::Event { v, seq: code.seq + 1, time, kind });
        withdrawn_if_it_fails(&access, &code.session, context.out.arrived()).await?;
    } else {
        context.out.talk(&format!("Session {} waits until {}.", code.session, code.expires_at));
    }
    shown.keep();
    Ok(0)
}

fn options(args: &Generate) -> PairOptions {
    let default = PairOptions::default();
    PairOptions { yes: args.yes, verify: args.verify, ttl: args.ttl.unwrap_or(default.ttl) }
}
