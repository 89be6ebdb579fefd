//! `pair nearby`: pairs with a device of this network that does the same, without a code.

use handfast::{Cause, Error, PairOptions};
use zeroize::Zeroizing;

use super::Context;
use crate::args::Nearby;
use crate::daemon::Access;
use crate::nearby::{Opened, follow};
use crate::qr::read;
use crate::signals::Signals;

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Nearby) -> Result<u8, Error> {
    if args.network.no_lan {
        return Err(Error::because(Cause::Usage, "`pair nearby` needs the local network, which --no-lan switches off"));
    }
    // A picture without a code is refused before anything is sent.
    let qr = args.qr_image.as_deref().map(read::code_in).transpose()?;
    if let Some(qr) = &qr {
        handfast::code::check(qr)?;
    }
    let mut signals = Signals::listen()?;
    let access = Access::running_or_own(&context.instance, &args.network).await?;
    super::say_if_options_are_late(context, &args.network, &access);
    let done = meet(context, args, &access, qr, &mut signals).await;
    access.end().await;
    done
}

async fn meet(
    context: &Context,
    args: &Nearby,
    access: &Access,
    qr: Option<Zeroizing<String>>,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let options = PairOptions { yes: args.yes, ..PairOptions::default() };
    let opened = access.client.nearby(options).await?;
    let (select, yes) = (args.select.clone(), args.yes);
    let opened = Opened { session: opened.session, seq: opened.seq, yes, select, qr };
    follow(context, &access.client, opened, signals).await
}
