//! Follows one session to its end, for `pair generate` and `pair join`: shows what happens, asks what only a person can
//! answer, withdraws when it is interrupted.

use std::time::Duration;

use handfast::{Cause, EVENT_VERSION, Error, Event, EventKind, PairOptions};
use tokio::time::Instant;

use crate::cmd::Context;
use crate::daemon::{Client, CodeReply, Feed};
use crate::prompt::answers::{ANSWER_CLEARLY, Answers, NO_BY_DEFAULT, NO_DEFAULT, Said};
use crate::prompt::talk::Talk;
use crate::render::comparison;
use crate::render::event::{Asker, line};
use crate::shown::Shown;
use crate::signals::{INTERRUPTED, Signals};

/// A withdrawn session ends at once; after this long the command does not wait for the news any more.
const WITHDRAWAL: Duration = Duration::from_secs(3);

/// How long before the end of a code another one takes its place. Until then both are good: somebody may be typing the
/// old one.
const RENEW_BEFORE: Duration = Duration::from_secs(20);

/// How long codes follow each other on a screen.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What a joiner waits for when the two are connected.
const PROVING: &str = "Connected; waiting for the other device and the person there ";

/// What is being waited for after the question was answered here: the code's side is asked first.
const ALLOWED: &str = "Answered; now the person at the other device is asked ";
/// See [`ALLOWED`].
const AGREED: &str = "Answered; waiting for the other device to store the pairing ";

/// A session that has just been opened.
pub(crate) struct Opened {
    /// Which.
    pub(crate) session: String,
    /// Number of the event before its first one.
    pub(crate) seq: u64,
    /// Where the code is shown, and drawn anew when its QR changes; it goes away with the session.
    pub(crate) shown: Option<Shown>,
    /// The code, if its words are still to be shown in the first event.
    pub(crate) code: Option<CodeReply>,
    /// Its question is answered with yes already.
    pub(crate) yes: bool,
    /// When the code ends, if that is worth showing.
    pub(crate) deadline: Option<Instant>,
    /// How to make another code when this one is about to end and somebody still waits; nothing if it is to end.
    pub(crate) renewal: Option<Renewal>,
}

/// The codes that may follow one that nobody has used.
pub(crate) struct Renewal {
    options: PairOptions,
    left: u32,
}

impl Renewal {
    /// Codes like the first one, for an hour in all: whoever comes later than that has forgotten this screen.
    pub(crate) fn new(options: PairOptions, ttl: u64) -> Renewal {
        let left = u32::try_from(LONGEST_WAIT.as_secs() / ttl.max(1)).unwrap_or(0).saturating_sub(1);
        Renewal { options, left }
    }
}

/// Follows `opened` to its end and gives the exit code. Everything that is to be said has been said then.
///
/// # Errors
/// Only before the first event: the device does not give any.
pub(crate) async fn follow(
    context: &Context,
    client: &Client,
    opened: Opened,
    signals: &mut Signals,
) -> Result<u8, Error> {
    let mut feed = client.events(Some(opened.seq)).await?;
    let mut follower = Follower::new(context, client, opened);
    let exit = follower.run(&mut feed, signals).await;
    follower.end_older().await;
    follower.talk.below("");
    Ok(exit)
}

/// What a person at this terminal is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// "Allow NAME?"
    Approval,
    /// "Do both devices show the same?"
    Comparison,
}

struct Follower<'a> {
    context: &'a Context,
    client: &'a Client,
    opened: Opened,
    /// Number of the last event.
    last: u64,
    talk: Talk,
    answers: Option<Answers>,
    /// The question that is open and was shown here.
    asking: Option<Asking>,
    /// Set after a withdrawal: when to stop waiting for the news.
    withdrawn: Option<Instant>,
    /// When the session was opened.
    since: Instant,
    /// What is being waited for, below everything else; none: for the other device, as long as the code lives or it is
    /// looked for.
    waiting: Option<&'static str>,
    /// Nodes that had stored the code when it was last said.
    nodes: Option<usize>,
    /// The QR is to be drawn anew.
    redraw: bool,
    /// The session whose code another one has taken the place of, as long as it lives.
    older: Option<String>,
}

impl<'a> Follower<'a> {
    fn new(context: &'a Context, client: &'a Client, opened: Opened) -> Follower<'a> {
        Follower {
            context,
            client,
            last: opened.seq,
            opened,
            talk: Talk::new(context.term.stderr && !context.out.is_json()),
            answers: None,
            asking: None,
            withdrawn: None,
            since: Instant::now(),
            waiting: None,
            nodes: None,
            redraw: false,
            older: None,
        }
    }

    async fn run(&mut self, feed: &mut Feed, signals: &mut Signals) -> u8 {
        loop {
            self.show_waiting();
            let ticking = self.talk.is_live() && self.asking.is_none();
            let (asking, withdrawn, tick, renewal) =
                (self.asking, self.withdrawn, self.next_tick(), self.next_renewal());
            tokio::select! {
                event = feed.next() => match event {
                    Some(json) => {
                        if let Some(exit) = self.event(&json).await {
                            return exit;
                        }
                        if std::mem::take(&mut self.redraw) {
                            self.draw_again().await;
                        }
                    }
                    None => return self.lost(),
                },
                () = signals.next() => {
                    if self.withdrawn.is_some() {
                        return self.interrupted();
                    }
                    self.withdraw().await;
                }
                (asking, said) = next_answer(&mut self.answers, asking) => self.answer(asking, said).await,
                () = at(withdrawn), if withdrawn.is_some() => return self.interrupted(),
                () = at(renewal), if renewal.is_some() => self.renew().await,
                () = tokio::time::sleep(tick), if ticking => {}
            }
        }
    }

    /// Takes an event; the exit code if it was the last one.
    async fn event(&mut self, json: &str) -> Option<u8> {
        // A device of a later version may tell of things this program does not know.
        let event: Event = serde_json::from_str(json).ok()?;
        self.last = event.seq;
        if event.kind.session().is_some() && event.kind.session() == self.older.as_deref() {
            self.of_older(&event.kind).await;
        }
        if event.kind.session() != Some(&self.opened.session) {
            return None;
        }
        let mut event = event;
        if let EventKind::PairingFailed { hint, .. } | EventKind::TroubleNoticed { hint, .. } = &mut event.kind {
            *hint = self.context.instance.in_commands(hint);
        }
        let mut gives_code = false;
        if let EventKind::CodeCreated { words, qr, .. } = &mut event.kind
            && let Some(code) = self.opened.code.take()
        {
            (*words, *qr) = (Some(code.words.clone()), Some(code.qr.clone()));
            gives_code = true;
        }
        self.redraw = matches!(event.kind, EventKind::CodeRedrawn { .. });
        let mut exit = None;
        if let EventKind::PairingFailed { cause, exit: code, .. } = &mut event.kind {
            if self.withdrawn.is_some() && *cause == Cause::Cancelled.name() {
                *code = INTERRUPTED;
            }
            exit = Some(*code);
        } else if let EventKind::Paired { .. } = &event.kind {
            exit = Some(0);
        }
        if !self.context.out.is_json() {
            by_our_name(self.client, &mut event.kind).await;
        }
        self.show(&event);
        wipe(event.kind);
        if gives_code && let Err(error) = self.context.out.arrived() {
            // Nobody waits for a code that nobody has got.
            let _ = self.client.cancel(Some(self.opened.session.clone())).await;
            return Some(error.exit());
        }
        exit
    }

    fn show(&mut self, event: &Event) {
        if self.context.out.is_json() {
            self.context.out.json_line(event);
        } else if event.kind.is_terminal() {
            self.talk.below("");
            let text = line(&event.kind).unwrap_or_default();
            if let EventKind::Paired { .. } = &event.kind
                && !self.context.term.stdout
                && self.opened.deadline.is_none()
            {
                // The result of `pair join` is data; that of `pair generate` were the words.
                self.context.out.text(&text);
            } else {
                self.talk.say(&text);
            }
        } else if let EventKind::CodeAdvertised { nodes, .. } = &event.kind {
            // It is stored again and again; only a change is news.
            if self.nodes.replace(*nodes) != Some(*nodes) {
                self.say_line(&event.kind);
            }
        } else {
            self.say_line(&event.kind);
        }
        // The code goes on living when one that has connected turns out to be the wrong one.
        if let EventKind::Connected { .. } = &event.kind
            && self.opened.deadline.is_none()
        {
            self.waiting = Some(PROVING);
        }
        if let EventKind::ApprovalNeeded { device, path, known, warning, .. } = &event.kind {
            let asker = Asker { device, path, known: *known, warning: warning.as_deref() };
            if !self.opened.yes {
                self.question(Asking::Approval, &asker.description(), &asker.question());
            } else if !self.context.out.is_json() {
                self.talk.say(&asker.accepted());
            }
        }
        // Consent given in advance does not answer this one.
        if let EventKind::ComparisonNeeded { comparison, .. } = &event.kind {
            self.question(Asking::Comparison, &comparison::description(comparison), comparison::QUESTION);
        }
    }

    fn say_line(&self, kind: &EventKind) {
        if let Some(text) = line(kind) {
            self.talk.say(&text);
        }
    }

    fn question(&mut self, asking: Asking, description: &str, question: &str) {
        if self.context.out.is_json() || !self.context.term.can_ask() {
            let session = &self.opened.session;
            if !self.context.out.is_json() {
                self.talk.say(description);
            }
            let (yes, no) = match asking {
                Asking::Approval => (format!("accept {session}"), format!("reject {session}")),
                Asking::Comparison => {
                    (format!("accept --emoji-match {session}"), format!("accept --emoji-differ {session}"))
                }
            };
            let how = format!("Answer with `handfast pair {yes}` or `handfast pair {no}`.");
            self.talk.say(&format!("{question} {}", self.context.instance.in_commands(&how)));
            return;
        }
        self.talk.say(description);
        self.ask(asking, question);
    }

    /// Asks at the terminal. A comparison has no answer that Enter could give.
    fn ask(&mut self, asking: Asking, question: &str) {
        self.answers.get_or_insert_with(Answers::start).ask();
        self.talk.ask(question, if asking == Asking::Approval { NO_BY_DEFAULT } else { NO_DEFAULT });
        self.asking = Some(asking);
    }

    /// Draws the QR with the port and addresses of now, wherever it is shown.
    async fn draw_again(&mut self) {
        let Some(shown) = &mut self.opened.shown else { return };
        // A code that has ended meanwhile is not drawn.
        let Ok(qr) = self.client.qr(&self.opened.session).await else { return };
        let open = self.talk.lift();
        if let Err(error) = shown.draw(self.context, &qr) {
            self.talk.say(&format!("The QR has changed and could not be drawn anew: {error}."));
        }
        self.talk.below(&open);
    }

    /// When another code is to take the place of the one that is shown: not while it is being used.
    fn next_renewal(&self) -> Option<Instant> {
        let may = self.opened.renewal.as_ref().is_some_and(|renewal| renewal.left > 0)
            && self.asking.is_none()
            && self.waiting.is_none()
            && self.withdrawn.is_none();
        self.opened.deadline.filter(|_| may)?.checked_sub(RENEW_BEFORE)
    }

    /// Shows another code.
    async fn renew(&mut self) {
        let Some(renewal) = &mut self.opened.renewal else { return };
        renewal.left -= 1;
        let Ok(code) = self.client.generate(renewal.options).await else {
            // The one that is shown ends as it would have.
            renewal.left = 0;
            return;
        };
        self.opened.deadline = Some(Instant::now() + Duration::from_secs(code.ttl));
        self.end_older().await;
        self.older = Some(std::mem::replace(&mut self.opened.session, code.session.clone()));
        self.nodes = None;
        if let Some(shown) = &mut self.opened.shown {
            shown.replace(code.words.clone().into());
        }
        self.talk.say("This code is about to end. Here is another one.");
        self.draw_again().await;
    }

    /// Something happens under the code that another one has taken the place of: either it ends, or somebody has typed it
    /// after all, and the other one is of no use.
    async fn of_older(&mut self, kind: &EventKind) {
        if kind.is_terminal() {
            self.older = None;
        } else if let EventKind::Connected { .. }
        | EventKind::ApprovalNeeded { .. }
        | EventKind::ComparisonNeeded { .. } = kind
            && let Some(older) = self.older.take()
        {
            self.older = Some(std::mem::replace(&mut self.opened.session, older));
            self.end_older().await;
            self.opened.renewal = None;
        }
    }

    /// Withdraws the code that is not shown any more.
    async fn end_older(&mut self) {
        if let Some(older) = self.older.take() {
            // It may have ended meanwhile.
            let _ = self.client.cancel(Some(older)).await;
        }
    }

    async fn answer(&mut self, asking: Asking, said: Said) {
        self.asking = None;
        let is_unclear = said == Said::Unclear || said == Said::Nothing && asking == Asking::Comparison;
        if is_unclear {
            self.talk.entered();
            self.talk.say(ANSWER_CLEARLY);
            self.ask(asking, if asking == Asking::Approval { "Allow it?" } else { comparison::QUESTION });
            return;
        }
        let yes = said == Said::Yes;
        if yes {
            self.waiting = Some(if self.opened.deadline.is_some() { ALLOWED } else { AGREED });
        }
        self.talk.entered();
        let session = Some(self.opened.session.clone());
        let answered = match asking {
            // Nobody is there who could compare.
            Asking::Comparison if said == Said::Over => self.client.answer(session, false).await,
            Asking::Comparison => self.client.compare(session, yes).await,
            Asking::Approval => self.client.answer(session, yes).await,
        };
        if let Err(error) = answered {
            // It was answered elsewhere, or too late: the events say how that went.
            self.talk.say(&format!("Not answered: {error}."));
        }
    }

    async fn withdraw(&mut self) {
        self.end_older().await;
        match self.client.cancel(Some(self.opened.session.clone())).await {
            Ok(_) => self.withdrawn = Some(Instant::now() + WITHDRAWAL),
            Err(error) => {
                self.talk.say(&format!("It cannot be withdrawn: {error}. Interrupt again to leave it alone."));
                self.withdrawn = Some(Instant::now() + WITHDRAWAL * 10);
            }
        }
    }

    /// The device has gone without telling how the session ended.
    fn lost(&mut self) -> u8 {
        let error = Error::because(Cause::NotRunning, "the device has stopped before the session ended");
        self.end_with(&error, error.exit())
    }

    fn interrupted(&mut self) -> u8 {
        self.end_with(&Error::of(Cause::Cancelled), INTERRUPTED)
    }

    fn end_with(&mut self, error: &Error, exit: u8) -> u8 {
        let mut event = failure(Some(self.opened.session.clone()), error, self.last + 1);
        if let EventKind::PairingFailed { exit: code, .. } = &mut event.kind {
            *code = exit;
        }
        self.show(&event);
        exit
    }

    /// What is being waited for, below everything else; not while somebody types there.
    fn show_waiting(&mut self) {
        if self.asking.is_some() {
            return;
        }
        if let Some(waiting) = self.waiting {
            self.talk.status(waiting);
        } else if let Some(deadline) = self.opened.deadline {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis().div_ceil(1000);
            self.talk.status(&format!(
                "Waiting for the other device: {}:{:02} left, Ctrl-C withdraws the code ",
                left / 60,
                left % 60
            ));
        } else {
            // How long it is looked for depends on who answers meanwhile, so there is no time that is left.
            self.talk.status(&searching(self.since.elapsed()));
        }
    }

    /// Until the shown time changes.
    fn next_tick(&self) -> Duration {
        const SECOND: Duration = Duration::from_secs(1);
        let left = self.opened.deadline.map(|d| d.saturating_duration_since(Instant::now()));
        left.map_or_else(
            || SECOND - Duration::from_nanos(self.since.elapsed().subsec_nanos().into()),
            |left| Duration::from_millis(u64::from(left.subsec_millis()) + 1),
        )
    }
}

/// What a joiner waits for before it is connected.
fn searching(elapsed: Duration) -> String {
    format!("Not connected yet: {}:{:02} so far, Ctrl-C gives up ", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// A device that is paired again may have a name that it was given here, which is the one people know it by.
pub(crate) async fn by_our_name(client: &Client, kind: &mut EventKind) {
    if let EventKind::Paired { device, .. } = kind
        && let Ok(devices) = client.devices().await
        && let Some(ours) = devices.into_iter().find(|known| known.id == device.id)
    {
        device.name = ours.name;
    }
}

/// A session that failed, or a request that never became one, as an event of this command.
pub(crate) fn failure(session: Option<String>, error: &Error, seq: u64) -> Event {
    Event { v: EVENT_VERSION, seq, time: handfast::now_rfc3339(), kind: EventKind::failed_because(session, error) }
}

/// The answer to the question that is open, if one is.
async fn next_answer(answers: &mut Option<Answers>, asking: Option<Asking>) -> (Asking, Said) {
    match (answers, asking) {
        (Some(answers), Some(asking)) => (asking, Said::of(&answers.next_line().await)),
        _ => std::future::pending().await,
    }
}

/// At this moment; never, if there is none.
pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The words leave this memory with the event that showed them.
pub(crate) fn wipe(kind: EventKind) {
    if let EventKind::CodeCreated { words, qr, .. } = kind {
        for mut secret in [words, qr].into_iter().flatten() {
            zeroize::Zeroize::zeroize(&mut secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    #[tokio::test]
    async fn a_question_stays_open_below_a_code_that_is_drawn_anew() {
        let bench = Bench::start().await;
        let code = bench.client.generate(handfast::PairOptions::default()).await.expect("a code");
        let (session, seq) = (code.session.clone(), code.seq);
        let shown = Some(Shown::new(zeroize::Zeroizing::new("the words".to_owned()), None));
        let deadline = Some(Instant::now());
        let opened = Opened { session, seq, shown, code: None, yes: false, deadline, renewal: None };
        let mut follower = Follower::new(&bench.context, &bench.client, opened);
        follower.talk.ask("Allow it?", NO_BY_DEFAULT);
        follower.draw_again().await;
        assert_eq!(follower.talk.lift(), "Allow it? [y/N] ");
        drop(follower);
        bench.stop().await;
    }

    /// A code that is shown and about to end, and may be renewed.
    async fn about_to_end(bench: &Bench) -> Opened {
        let options = handfast::PairOptions::default();
        let code = bench.client.generate(options).await.expect("a code");
        let renewal = Some(Renewal::new(options, code.ttl));
        let shown = Some(Shown::new(zeroize::Zeroizing::new(code.words.clone()), None));
        Opened {
            session: code.session.clone(),
            seq: code.seq,
            shown,
            code: None,
            yes: false,
            deadline: Some(Instant::now() + RENEW_BEFORE),
            renewal,
        }
    }

    fn event(kind: EventKind) -> String {
        let event = Event { v: EVENT_VERSION, seq: 1, time: handfast::now_rfc3339(), kind };
        serde_json::to_string(&event).expect("json")
    }

    async fn is_open(bench: &Bench, session: &str) -> bool {
        bench.client.status().await.expect("a status").sessions.iter().any(|open| open.session == session)
    }

    #[tokio::test]
    async fn b25_a_code_that_is_about_to_end_is_replaced_and_stays_good_until_it_ends() {
        let bench = Bench::start().await;
        let mut follower = Follower::new(&bench.context, &bench.client, about_to_end(&bench).await);
        let first = follower.opened.session.clone();
        assert!(follower.next_renewal().is_some_and(|at| at <= Instant::now()));
        follower.renew().await;
        let second = follower.opened.session.clone();
        assert!(first != second && is_open(&bench, &first).await && is_open(&bench, &second).await);
        assert!(follower.next_renewal().is_some_and(|at| at > Instant::now() + RENEW_BEFORE));
        // The first one ends, which is not the end of the command.
        let expired = EventKind::failed_because(Some(first), &Error::of(Cause::CodeExpired));
        assert_eq!(follower.event(&event(expired)).await, None);
        assert_eq!((follower.older.clone(), follower.opened.session.clone()), (None, second.clone()));
        let expired = EventKind::failed_because(Some(second), &Error::of(Cause::CodeExpired));
        assert_eq!(follower.event(&event(expired)).await, Some(5));
        drop(follower);
        bench.stop().await;
    }

    #[tokio::test]
    async fn b25_whoever_types_a_code_that_has_just_been_replaced_is_let_in_and_the_new_one_goes() {
        let bench = Bench::start().await;
        let mut follower = Follower::new(&bench.context, &bench.client, about_to_end(&bench).await);
        let first = follower.opened.session.clone();
        follower.renew().await;
        let second = follower.opened.session.clone();
        let (address, path) = ("/ip4/192.168.1.7/tcp/4001".to_owned(), "lan".to_owned());
        let connected = EventKind::Connected { session: first.clone(), path, address };
        assert_eq!(follower.event(&event(connected)).await, None);
        assert_eq!(follower.opened.session, first);
        assert!(is_open(&bench, &first).await && !is_open(&bench, &second).await);
        assert_eq!(follower.next_renewal(), None);
        drop(follower);
        bench.stop().await;
    }

    #[test]
    fn codes_follow_each_other_for_an_hour() {
        assert_eq!(Renewal::new(PairOptions::default(), 600).left, 5);
        assert_eq!(Renewal::new(PairOptions::default(), 3600).left, 0);
    }

    #[test]
    fn a_joiner_sees_how_long_it_has_been_looking() {
        assert_eq!(searching(Duration::from_millis(12_900)), "Not connected yet: 0:12 so far, Ctrl-C gives up ");
        assert_eq!(searching(Duration::from_secs(61)), "Not connected yet: 1:01 so far, Ctrl-C gives up ");
    }
}
