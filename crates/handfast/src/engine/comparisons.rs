//! The comparisons that people were asked for: a session that ends in one is told of in other words than one whose code
//! was not proven.

use handfast_proto::cause::Cause;
use handfast_proto::id::SessionId;

use crate::Error;

/// Every session with a comparison that has not ended, so at most as many as there are sessions.
#[derive(Default)]
pub(super) struct Comparisons(Vec<Comparison>);

struct Comparison {
    session: SessionId,
    /// Our person said that the two devices do not show the same.
    differ: bool,
}

impl Comparisons {
    /// Our person is asked.
    pub(super) fn shown(&mut self, session: &SessionId) {
        self.end(session);
        self.0.push(Comparison { session: session.clone(), differ: false });
    }

    /// Our person has answered.
    pub(super) fn answered(&mut self, session: &SessionId, matches: bool) {
        if let Some(comparison) = self.0.iter_mut().find(|c| c.session == *session) {
            comparison.differ = !matches;
        }
    }

    /// The session is over, or the comparison came to nothing.
    pub(super) fn end(&mut self, session: &SessionId) {
        self.0.retain(|c| c.session != *session);
    }

    /// What the end of a session is called if a comparison led to it. `again` is the next step where nothing is wrong.
    pub(super) fn failure(&self, session: &SessionId, cause: Cause, again: &str) -> Option<Error> {
        let comparison = self.0.iter().find(|c| c.session == *session)?;
        if cause != Cause::AuthenticationFailed {
            return None;
        }
        let (text, hint) = if comparison.differ {
            let text = "you said that the two devices do not show the same emoji: nothing was paired";
            (text, format!("somebody may sit between the two: try another network. If it was a mistake, {again}"))
        } else {
            // A stream that closes says no more than that.
            let text = "the person at the other device said that the emoji differ, or ended the comparison";
            (
                text,
                format!("ask them: if the emoji differed, somebody may sit between: try another network; else {again}"),
            )
        };
        Some(Error::because(cause, text).with_hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId(text.to_owned())
    }

    #[test]
    fn a17_whoever_says_that_the_emoji_differ_is_not_told_to_check_the_words() {
        let mut open = Comparisons::default();
        open.shown(&id("a"));
        open.shown(&id("b"));
        open.answered(&id("a"), false);
        open.answered(&id("b"), true);
        let text = |open: &Comparisons, s: &str| {
            open.failure(&id(s), Cause::AuthenticationFailed, "start again").map(|e| format!("{e} {}", e.hint))
        };
        assert!(text(&open, "a").is_some_and(|t| t.starts_with("you said") && t.ends_with("start again")));
        assert!(text(&open, "b").is_some_and(|t| t.contains("ended the comparison") && t.ends_with("start again")));
        assert_eq!(text(&open, "c"), None, "no comparison, no such text");
        assert_eq!(open.failure(&id("a"), Cause::TimedOut, ""), None, "other causes speak for themselves");
        open.end(&id("a"));
        assert_eq!(text(&open, "a"), None);
    }
}
