//! The code that a device shows to whoever selected it, made at that moment: its QR may be scanned instead of comparing.

use std::time::Duration;

use handfast::{Error, PairOptions};

use crate::cmd::Context;
use crate::daemon::{Client, CodeReply};
use crate::render::code::{Look, NEARBY_QR, TooSmall, qr_screen};
use crate::term::Term;

/// Life of the code that is shown beside a comparison, which has 120 s; the rest is for the way.
const CODE_LIFE: Duration = Duration::from_secs(150);

/// Rows of the comparison that stand below the QR.
const COMPARISON_ROWS: usize = 8;

/// A code, as long as it is offered.
#[derive(Default)]
pub(super) struct Offer {
    session: Option<String>,
    code: Option<CodeReply>,
}

impl Offer {
    /// Whether this is the session of the code.
    pub(super) fn is_of(&self, session: Option<&str>) -> bool {
        session.is_some() && session == self.session.as_deref()
    }

    /// Whether there is a QR to be shown.
    pub(super) fn is_open(&self) -> bool {
        self.code.is_some()
    }

    /// The code for its first event, if programs are to get it there; it is told once.
    pub(super) fn tell(&mut self) -> Option<CodeReply> {
        self.code.take()
    }

    /// Makes the code.
    pub(super) async fn make(&mut self, client: &Client, yes: bool) -> Result<(), Error> {
        let code = client.generate(PairOptions { yes, ttl: CODE_LIFE, ..PairOptions::default() }).await?;
        self.session = Some(code.session.clone());
        self.code = Some(code);
        Ok(())
    }

    /// It has ended by itself: its QR leads nowhere any more.
    pub(super) fn over(&mut self) {
        self.code = None;
    }

    /// Ends it. One that has ended already cannot be withdrawn, and need not be.
    pub(super) async fn withdraw(&mut self, client: &Client) {
        self.code = None;
        if let Some(session) = self.session.take() {
            let _ = client.cancel(Some(session)).await;
        }
    }

    /// Port or addresses in the QR have changed.
    pub(super) async fn renew(&mut self, client: &Client) -> bool {
        let (Some(session), Some(code)) = (&self.session, &mut self.code) else { return false };
        let Ok(qr) = client.qr(session).await else { return false };
        code.qr = String::clone(&qr);
        true
    }

    /// Draws the QR where people look; programs get it in an event. False if there is no room for it above the
    /// comparison.
    pub(super) fn draw(&self, context: &Context) -> bool {
        self.draw_above(context, COMPARISON_ROWS).is_ok()
    }

    /// Draws the QR with nothing but the question below, or says what the terminal is too small for.
    pub(super) fn draw_alone(&self, context: &Context) -> Result<(), TooSmall> {
        self.draw_above(context, NEARBY_QR)
    }

    fn draw_above(&self, context: &Context, below: usize) -> Result<(), TooSmall> {
        let Some(code) = &self.code else { return Ok(()) };
        if !context.term.stdout || context.out.is_json() {
            return Ok(());
        }
        let (columns, rows) = Term::size();
        let screen = qr_screen(&code.qr, Look { columns, rows, colour: context.term.colour }, below)?;
        context.out.text(&screen);
        Ok(())
    }
}
