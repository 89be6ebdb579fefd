//! What the person at this terminal is asked, and what the answers do.

use handfast::{Cause, Error};
use zeroize::Zeroizing;

use super::Follower;
use crate::prompt::answers::{ANSWER_CLEARLY, Answers, NO_BY_DEFAULT, NO_DEFAULT, Said};
use crate::render::comparison;

/// How the text of a QR begins.
const QR_PREFIX: &str = "HANDFAST:";

/// What is asked for while nothing is chosen.
const CHOICE: &str = "Number or name of the device to pair with, or wait to be chosen:";

/// What a person at this terminal is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Asking {
    /// Which device.
    Choice,
    /// "Do both devices show the same?"
    Comparison,
    /// "Allow NAME?", in this session.
    Approval(String),
}

impl Follower<'_> {
    /// As long as nobody is dealt with.
    pub(super) fn ask_for_a_choice(&mut self) {
        if self.engaged || self.withdrawn.is_some() || self.select.is_some() || self.asking.is_some() {
            return;
        }
        if let Some(answers) = &mut self.answers {
            answers.ask();
            self.talk.ask(CHOICE, "");
            self.asking = Some(Asking::Choice);
        }
    }

    pub(super) fn question(&mut self, asking: Asking, description: &str, question: &str) {
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

    pub(super) async fn answer(&mut self, text: &str) {
        let Some(asking) = self.asking.take() else { return };
        self.talk.entered();
        let said = Said::of(text);
        let answered = match asking {
            Asking::Choice => match self.list.meant(text) {
                Some(device) => {
                    let selected = self.client.select(&device.id.clone()).await.map(drop);
                    // The event says so too, but the next question would be asked before it is there.
                    self.engaged |= selected.is_ok();
                    selected
                }
                None if text.trim().is_empty() => Ok(()),
                None => {
                    Err(Error::because(Cause::Usage, "no device in the list has this number, or it alone this name"))
                }
            },
            Asking::Comparison if self.offer.is_open() && text.trim().eq_ignore_ascii_case("q") => {
                return self.draw_alone();
            }
            Asking::Comparison if is_qr(text) => return drop(self.confirm_by(text).await),
            // Nobody is there who could compare.
            Asking::Comparison if said == Said::Over => {
                self.client.answer(Some(self.session.clone()), false).await.map(drop)
            }
            // A number, say, that was meant for the list; or somebody who has drawn the QR over the emoji.
            Asking::Comparison if matches!(said, Said::Unclear | Said::Nothing) => {
                self.say(&self.compared);
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
    pub(super) async fn confirm_by(&mut self, text: &str) -> Result<(), Error> {
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
}

fn is_qr(text: &str) -> bool {
    text.trim().get(..QR_PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(QR_PREFIX))
}

/// The next line that is typed, if one is asked for.
pub(super) async fn next_line(answers: &mut Option<Answers>, asked: bool) -> Zeroizing<String> {
    match answers {
        Some(answers) if asked => answers.next_line().await,
        _ => std::future::pending().await,
    }
}
