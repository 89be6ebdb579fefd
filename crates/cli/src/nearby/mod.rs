//! Follows `pair nearby` to its end: shows who is there, takes the choice, asks what only a person can answer. Whoever was
//! selected also shows a code, made at that moment, whose QR the other person may scan instead of comparing; whichever of
//! the two sessions pairs ends both.

mod ask;
mod list;
mod offer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use handfast::{Cause, Error, Event, EventKind, Status};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::cmd::Context;
use crate::daemon::{Client, Feed};
use crate::prompt::answers::Answers;
use crate::prompt::talk::Talk;
use crate::render::event::{Asker, line};
use crate::render::{clean, comparison};
use crate::session::{at, by_our_name, failure, wipe};
use crate::signals::{INTERRUPTED, Signals};

use ask::{Asking, next_line};
use list::List;
use offer::Offer;

/// A withdrawn session ends at once; after this long the command does not wait for the news any more.
const WITHDRAWAL: Duration = Duration::from_secs(3);

/// A device that is there answers at once; one that has not by then is told of.
const NO_ANSWER: Duration = Duration::from_secs(3);

/// What was opened, and what the command line says.
pub(crate) struct Opened {
    /// The session of `pair nearby`.
    pub(crate) session: String,
    /// Number of the event before its first one.
    pub(crate) seq: u64,
    /// The question that follows a scanned QR is answered with yes already.
    pub(crate) yes: bool,
    /// Name or id of the device to select once it is there.
    pub(crate) select: Option<String>,
    /// The QR text of the device to select, which takes the place of our answer to the comparison.
    pub(crate) qr: Option<Zeroizing<String>>,
}

/// Follows `opened` to its end and gives the exit code. Everything that is to be said has been said then.
///
/// # Errors
/// Before the first event: the device does not give any. Later: what was to be selected cannot be.
pub(crate) async fn follow(
    context: &Context,
    client: &Client,
    opened: Opened,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let mut feed = client.events(Some(opened.seq)).await?;
    let mut follower = Follower::new(context, client, opened);
    // Nothing depends on it.
    if let Ok(status) = client.status().await {
        follower.say(&welcome(&status));
    }
    let exit = follower.run(&mut feed, signals).await;
    follower.talk.below("");
    follower.end_both().await;
    exit
}

struct Follower<'a> {
    context: &'a Context,
    client: &'a Client,
    session: String,
    /// The code that is shown to whoever selected this device.
    offer: Offer,
    yes: bool,
    select: Option<String>,
    qr: Option<Zeroizing<String>>,
    list: List,
    talk: Talk,
    answers: Option<Answers>,
    /// What is asked and was shown here.
    asking: Option<Asking>,
    /// Somebody is being dealt with: nobody is chosen meanwhile.
    engaged: bool,
    /// It was our person who selected.
    selected: bool,
    /// The device that was selected and has not answered, and when that is told.
    unanswered: Option<(String, Instant)>,
    /// The other person has scanned our QR.
    scanned: bool,
    /// Set after a withdrawal: when to stop waiting for the news.
    withdrawn: Option<Instant>,
    /// The emoji that were shown last.
    compared: String,
    /// Number of the last event.
    last: u64,
}

impl<'a> Follower<'a> {
    fn new(context: &'a Context, client: &'a Client, opened: Opened) -> Follower<'a> {
        let Opened { session, seq, yes, select, qr } = opened;
        let can_ask = context.term.can_ask() && !context.out.is_json();
        Follower {
            context,
            client,
            session,
            offer: Offer::default(),
            yes,
            select,
            qr,
            list: List::default(),
            talk: Talk::new(context.term.stderr && !context.out.is_json()),
            answers: can_ask.then(Answers::start),
            asking: None,
            engaged: false,
            selected: false,
            unanswered: None,
            scanned: false,
            withdrawn: None,
            compared: String::new(),
            last: seq,
        }
    }

    async fn run(&mut self, feed: &mut Feed, signals: &mut Signals) -> Result<u8, Error> {
        loop {
            self.ask_for_a_choice();
            let (withdrawn, nameless, due) = (self.withdrawn, self.list.next_nameless(), self.selection_due());
            let unanswered = self.unanswered.as_ref().map(|(_, at)| *at);
            tokio::select! {
                event = feed.next() => match event {
                    Some(json) => if let Some(exit) = self.event(&json).await? {
                        return Ok(exit);
                    },
                    None => return Ok(self.lost()),
                },
                () = signals.next() => {
                    if self.withdrawn.is_some() {
                        return Ok(INTERRUPTED);
                    }
                    self.withdraw().await;
                }
                text = next_line(&mut self.answers, self.asking.is_some()) => self.answer(&text).await,
                () = at(withdrawn), if withdrawn.is_some() => return Ok(INTERRUPTED),
                () = at(nameless), if nameless.is_some() => {
                    for text in self.list.nameless() {
                        self.say(&text);
                    }
                }
                () = at(unanswered), if unanswered.is_some() => self.say_unanswered(),
                () = at(due), if due.is_some() => self.select_wanted().await?,
            }
        }
    }

    /// Takes an event; the exit code if it was the last one.
    async fn event(&mut self, json: &str) -> Result<Option<u8>, Error> {
        // A device of a later version may tell of things this program does not know.
        let Ok(mut event) = serde_json::from_str::<Event>(json) else { return Ok(None) };
        self.last = event.seq;
        let is_ours = event.kind.session() == Some(self.session.as_str());
        let is_codes = self.offer.is_of(event.kind.session());
        // What becomes of the code is of interest once somebody comes by it.
        let is_noise = matches!(event.kind, EventKind::CodeAdvertised { .. } | EventKind::TroubleNoticed { .. });
        if !is_ours && !is_codes || is_codes && is_noise {
            return Ok(None);
        }
        if let EventKind::PairingFailed { hint, exit, cause, .. } = &mut event.kind {
            *hint = self.context.instance.in_commands(hint);
            if self.withdrawn.is_some() && cause == Cause::Cancelled.name() {
                *exit = INTERRUPTED;
            }
        }
        // The code is only one way: it may end, as long as nobody came by it.
        let ends =
            event.kind.is_terminal() && (is_ours || self.scanned || matches!(event.kind, EventKind::Paired { .. }));
        let exit = if let EventKind::PairingFailed { exit, .. } = &event.kind { *exit } else { 0 };
        if !self.context.out.is_json() {
            by_our_name(self.client, &mut event.kind).await;
        }
        self.show(&mut event, is_codes, ends);
        let confirmed = self.react(&event.kind, is_codes).await;
        wipe(event.kind);
        confirmed.map(|()| ends.then_some(exit))
    }

    fn show(&mut self, event: &mut Event, is_codes: bool, ends: bool) {
        if let EventKind::CodeCreated { words, qr, .. } = &mut event.kind
            && self.context.out.is_json()
            && let Some(code) = self.offer.tell()
        {
            (*words, *qr) = (Some(code.words.clone()), Some(code.qr.clone()));
        }
        if self.context.out.is_json() {
            // The end of a code that nobody came by is not the end of anything here.
            if ends || !event.kind.is_terminal() {
                self.context.out.json_line(event);
            }
        } else if ends {
            self.talk.below("");
            let text = line(&event.kind).unwrap_or_default();
            if matches!(event.kind, EventKind::Paired { .. }) && !self.context.term.stdout {
                // The result is data.
                self.context.out.text(&text);
            } else {
                self.talk.say(&text);
            }
        } else if is_codes {
            if matches!(event.kind, EventKind::PairingFailed { .. }) {
                self.say("The QR is over; the emoji are not.");
            } else if matches!(event.kind, EventKind::Connected { .. }) {
                line(&event.kind).iter().for_each(|text| self.say(text));
            }
        } else {
            let text = if let EventKind::DeviceSeen { device, .. } = &event.kind {
                self.list.seen(device)
            } else if let EventKind::DeviceGone { id, .. } = &event.kind {
                self.list.gone(id)
            } else if let EventKind::DeviceSelected { id, .. } = &event.kind {
                Some(format!("Asking {}.", self.list.name_of(id)))
            } else {
                line(&event.kind)
            };
            text.iter().for_each(|text| self.say(text));
        }
    }

    /// Does what follows from an event besides showing it.
    async fn react(&mut self, kind: &EventKind, is_codes: bool) -> Result<(), Error> {
        if self.context.out.is_json() {
            // Where they are shown, they have been listed.
            if let EventKind::DeviceSeen { device, .. } = kind {
                self.list.seen(device);
            } else if let EventKind::DeviceGone { id, .. } = kind {
                self.list.gone(id);
            }
        }
        if let EventKind::DeviceSelected { id, .. } = kind {
            (self.engaged, self.selected) = (true, true);
            self.unanswered = Some((id.clone(), Instant::now() + NO_ANSWER));
        } else if matches!(kind, EventKind::RequestRejected { .. }) {
            (self.engaged, self.selected) = (false, false);
            (self.asking, self.unanswered) = (None, None);
            self.offer.withdraw(self.client).await;
        } else if let EventKind::ComparisonNeeded { comparison, .. } = kind {
            return self.compare(&comparison::description(comparison)).await;
        } else if let EventKind::ApprovalNeeded { session, device, path, known, warning } = kind {
            (self.engaged, self.scanned) = (true, self.scanned || is_codes);
            let asker = Asker { device, path, known: *known, warning: warning.as_deref() };
            if self.yes {
                self.say(&asker.accepted());
            } else {
                self.question(Asking::Approval(session.clone()), &asker.description(), &asker.question());
            }
        } else if matches!(kind, EventKind::CodeRedrawn { .. }) && self.offer.renew(self.client).await {
            self.draw_anew();
        } else if is_codes && matches!(kind, EventKind::PairingFailed { .. }) {
            self.offer.over();
        }
        Ok(())
    }

    /// Asks whether both devices show the same, unless a QR says who the other one is.
    async fn compare(&mut self, description: &str) -> Result<(), Error> {
        (self.engaged, self.unanswered) = (true, None);
        description.clone_into(&mut self.compared);
        if let Some(qr) = self.qr.take_if(|_| self.selected) {
            self.say(description);
            self.asking = None;
            return self.confirm_by(&qr).await;
        }
        if !self.selected {
            self.offer_code().await;
        }
        self.question(Asking::Comparison, description, comparison::QUESTION);
        Ok(())
    }

    /// Makes a code for the person who selected this device. Without one there are still the emoji.
    async fn offer_code(&mut self) {
        match self.offer.make(self.client, self.yes).await {
            Ok(()) => self.draw(),
            Err(error) => self.talk.say(&format!("note: no QR is shown: {error}")),
        }
    }

    /// Shows the QR to people; programs get it in an event.
    fn draw(&mut self) {
        self.talk.below("");
        if !self.offer.draw(self.context) && self.answers.is_some() {
            self.talk.say(
                "Type q to see a QR that the other person may scan instead of comparing emoji, and Enter to see the \
                 emoji again.",
            );
        }
    }

    /// The same after the QR has changed: a question that is open stays open below it.
    fn draw_anew(&mut self) {
        let open = self.talk.lift();
        self.draw();
        self.talk.below(&open);
    }

    /// The same, for whoever asked for it.
    fn draw_alone(&mut self) {
        let drawn = self.offer.draw_alone(self.context);
        let note = drawn.err().map(|lack| format!("This window is {lack}, and type q again.")).unwrap_or_default();
        self.question(Asking::Comparison, &note, comparison::QUESTION);
    }

    fn say(&self, text: &str) {
        if !self.context.out.is_json() {
            self.talk.say(text);
        }
    }

    fn say_unanswered(&mut self) {
        if let Some((id, _)) = self.unanswered.take().filter(|_| self.withdrawn.is_none()) {
            let name = self.list.name_of(&id);
            self.say(&format!("{name} has not answered yet: it may have gone, or deals with somebody else."));
        }
    }

    /// When the device that the command line names is to be selected, if it is there.
    fn selection_due(&self) -> Option<Instant> {
        let wanted = self.select.as_deref().filter(|_| !self.engaged && self.withdrawn.is_none())?;
        self.list.wanted_at(wanted)
    }

    async fn select_wanted(&mut self) -> Result<(), Error> {
        let Some(wanted) = self.select.take() else { return Ok(()) };
        self.engaged = true;
        self.client.select(&wanted).await.map(drop)
    }

    async fn withdraw(&mut self) {
        self.asking = None;
        match self.client.cancel(Some(self.session.clone())).await {
            Ok(_) => self.withdrawn = Some(Instant::now() + WITHDRAWAL),
            Err(error) => {
                self.talk.say(&format!("It cannot be withdrawn: {error}. Interrupt again to leave it alone."));
                self.withdrawn = Some(Instant::now() + WITHDRAWAL * 10);
            }
        }
    }

    /// Neither session outlives the command.
    async fn end_both(&mut self) {
        self.offer.withdraw(self.client).await;
        let _ = self.client.cancel(Some(self.session.clone())).await;
    }

    /// The device has gone without telling how the session ended.
    fn lost(&mut self) -> u8 {
        let error = Error::because(Cause::NotRunning, "the device has stopped before the session ended");
        let mut event = failure(Some(self.session.clone()), &error, self.last + 1);
        self.show(&mut event, false, true);
        error.exit()
    }
}

/// What is said at the beginning.
fn welcome(status: &Status) -> String {
    format!(
        "This device is in the lists of others on this network, as {}, until it is paired or you interrupt it. Looking \
         for devices on which `handfast pair nearby` runs as well.",
        clean(&status.name)
    )
}
