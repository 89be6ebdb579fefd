//! Follows `pair nearby` to its end: shows who is there, takes the choice, asks what only a person can answer. Whoever was
//! selected also shows a code, made at that moment, whose QR the other person may scan instead of comparing; whichever of
//! the two sessions pairs ends both.

mod list;
mod offer;

use std::time::Duration;

use handfast::{Cause, Error, Event, EventKind, Status};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::cmd::Context;
use crate::daemon::{Client, Feed};
use crate::prompt::answers::{ANSWER_CLEARLY, Answers, NO_BY_DEFAULT, NO_DEFAULT, Said};
use crate::prompt::talk::Talk;
use crate::render::event::{Asker, line};
use crate::render::{clean, comparison};
use crate::session::{at, failure, wipe};
use crate::signals::{INTERRUPTED, Signals};

use list::List;
use offer::Offer;

/// A withdrawn session ends at once; after this long the command does not wait for the news any more.
const WITHDRAWAL: Duration = Duration::from_secs(3);

/// How the text of a QR begins.
const QR_PREFIX: &str = "HANDFAST:";

/// What is asked for while nothing is chosen.
const CHOICE: &str = "Number of the device to pair with, or wait to be chosen:";

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
    let Opened { session, yes, select, qr, .. } = opened;
    let can_ask = context.term.can_ask() && !context.out.is_json();
    let mut follower = Follower {
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
        scanned: false,
        withdrawn: None,
        last: opened.seq,
    };
    // Nothing depends on it.
    if let Ok(status) = client.status().await {
        follower.say(&welcome(&status));
    }
    let exit = follower.run(&mut feed, signals).await;
    follower.talk.below("");
    follower.end_both().await;
    exit
}

/// What a person at this terminal is asked.
#[derive(Clone, PartialEq, Eq)]
enum Asking {
    /// Which device.
    Choice,
    /// "Do both devices show the same?"
    Comparison,
    /// "Allow NAME?", in this session.
    Approval(String),
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
    /// The other person has scanned our QR.
    scanned: bool,
    /// Set after a withdrawal: when to stop waiting for the news.
    withdrawn: Option<Instant>,
    /// Number of the last event.
    last: u64,
}

impl Follower<'_> {
    async fn run(&mut self, feed: &mut Feed, signals: &mut Signals) -> Result<u8, Error> {
        loop {
            self.ask_for_a_choice();
            let (withdrawn, nameless, due) = (self.withdrawn, self.list.next_nameless(), self.selection_due());
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
        if matches!(kind, EventKind::DeviceSelected { .. }) {
            (self.engaged, self.selected) = (true, true);
        } else if matches!(kind, EventKind::RequestRejected { .. }) {
            self.engaged = false;
            self.asking = None;
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
            self.draw();
        }
        Ok(())
    }

    /// Asks whether both devices show the same, unless a QR says who the other one is.
    async fn compare(&mut self, description: &str) -> Result<(), Error> {
        self.engaged = true;
        if let Some(qr) = self.qr.take() {
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
            self.talk.say("Type q to see a QR that the other person may scan instead of comparing emoji.");
        }
    }

    /// The same, for whoever asked for it.
    fn draw_alone(&mut self) {
        let question = if self.offer.draw_alone(self.context) {
            ""
        } else {
            "This window is too low for the QR: make it 24 rows high, and type q again."
        };
        self.question(Asking::Comparison, question, comparison::QUESTION);
    }

    fn say(&self, text: &str) {
        if !self.context.out.is_json() {
            self.talk.say(text);
        }
    }

    /// As long as nobody is dealt with.
    fn ask_for_a_choice(&mut self) {
        if self.engaged || self.withdrawn.is_some() || self.select.is_some() || self.asking.is_some() {
            return;
        }
        if let Some(answers) = &mut self.answers {
            answers.ask();
            self.talk.ask(CHOICE, "");
            self.asking = Some(Asking::Choice);
        }
    }

    fn question(&mut self, asking: Asking, description: &str, question: &str) {
        if !description.is_empty() {
            self.say(description);
        }
        let Some(answers) = &mut self.answers else {
            let (session, yes, no) = match &asking {
                Asking::Approval(session) => (session, "accept", "reject"),
                Asking::Comparison | Asking::Choice => (&self.session, "accept --emoji-match", "accept --emoji-differ"),
            };
            let how = format!("Answer with `handfast pair {yes} {session}` or `handfast pair {no} {session}`.");
            self.talk.say(&format!("{question} {}", self.context.instance.in_commands(&how)));
            return;
        };
        answers.ask();
        self.talk.ask(question, if matches!(asking, Asking::Approval(_)) { NO_BY_DEFAULT } else { NO_DEFAULT });
        self.asking = Some(asking);
    }

    async fn answer(&mut self, text: &str) {
        let Some(asking) = self.asking.take() else { return };
        self.talk.entered();
        let said = Said::of(text);
        let answered = match asking {
            Asking::Choice => match self.list.numbered(text) {
                Some(device) => {
                    let selected = self.client.select(&device.id.clone()).await.map(drop);
                    // The event says so too, but the next question would be asked before it is there.
                    self.engaged |= selected.is_ok();
                    selected
                }
                None if text.trim().is_empty() => Ok(()),
                None => Err(Error::because(Cause::Usage, "there is no device with this number")),
            },
            Asking::Comparison if self.offer.is_open() && text.trim().eq_ignore_ascii_case("q") => {
                return self.draw_alone();
            }
            Asking::Comparison if is_qr(text) => return drop(self.confirm_by(text).await),
            // Nobody is there who could compare.
            Asking::Comparison if said == Said::Over => {
                self.client.answer(Some(self.session.clone()), false).await.map(drop)
            }
            // A number, say, that was meant for the list.
            Asking::Comparison if matches!(said, Said::Unclear | Said::Nothing) => {
                return self.question(asking, ANSWER_CLEARLY, comparison::QUESTION);
            }
            Asking::Approval(_) if said == Said::Unclear => {
                return self.question(asking, ANSWER_CLEARLY, "Allow it?");
            }
            Asking::Comparison => self.client.compare(Some(self.session.clone()), said == Said::Yes).await.map(drop),
            Asking::Approval(session) => self.client.answer(Some(session), said == Said::Yes).await.map(drop),
        };
        if let Err(error) = answered {
            // It was answered elsewhere, or too late: the events say how that went.
            self.talk.say(&format!("Not done: {error}."));
        }
    }

    /// Gives the QR text of the selected device; one that is none leaves the comparison open.
    async fn confirm_by(&mut self, text: &str) -> Result<(), Error> {
        let confirmed = self.client.confirm_by(text.trim()).await;
        if let Err(error) = &confirmed {
            self.say(&format!("Not confirmed: {error}. The comparison is still open."));
            let question = comparison::QUESTION;
            self.question(Asking::Comparison, "", question);
            if self.answers.is_some() {
                return Ok(());
            }
        }
        confirmed.map(drop)
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

fn is_qr(text: &str) -> bool {
    text.trim().get(..QR_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(QR_PREFIX))
}

/// The next line that is typed, if one is asked for.
async fn next_line(answers: &mut Option<Answers>, asked: bool) -> Zeroizing<String> {
    match answers {
        Some(answers) if asked => answers.next_line().await,
        _ => std::future::pending().await,
    }
}
