//! What is said on stderr while something goes on: lines that stay, and at a terminal one last line that is drawn again.

use crate::output::{complain, raw_talk};
use crate::term::Term;
use crate::wrap::{broken, cut, width};

/// Back to the start of the line, and away with what stands there.
const WIPE: &str = "\r\x1b[K";

/// Lines, and the line below them.
pub(crate) struct Talk {
    live: bool,
    below: String,
}

impl Talk {
    /// With a line below at a terminal (`live`), else plain.
    pub(crate) fn new(live: bool) -> Talk {
        Talk { live, below: String::new() }
    }

    /// Whether there is a line below.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Says something that stays.
    pub(crate) fn say(&self, text: &str) {
        if self.live && !self.below.is_empty() {
            raw_talk(&format!("{WIPE}{}\n{}", broken(text, Term::talk_columns()), self.below));
        } else {
            complain(text);
        }
    }

    /// Replaces the line below; an empty one takes it away. One that is wider than the terminal is cut: a line that wraps
    /// could not be taken away again.
    pub(crate) fn below(&mut self, text: &str) {
        let text = cut(text, Term::talk_columns());
        if self.live && text != self.below {
            raw_talk(&format!("{WIPE}{text}"));
            text.clone_into(&mut self.below);
        }
    }

    /// As [`Talk::below`], for what may be cut at the edge of the terminal: it is drawn again and again, and of a line
    /// that has wrapped a part would stay each time and push away what is above.
    pub(crate) fn status(&mut self, text: &str) {
        // The cursor stands behind the text, on the same line.
        let room = Term::talk_columns().saturating_sub(1);
        let end = text.char_indices().nth(room).map_or(text.len(), |(at, _)| at);
        self.below(&text[..end]);
    }

    /// Takes the line below away and gives it, to be put back when something else has been drawn in its place: it may be
    /// a question that is open.
    pub(crate) fn lift(&mut self) -> String {
        let text = self.below.clone();
        self.below("");
        text
    }

    /// Asks for an answer at the end of the line below. What does not fit there stays above it.
    pub(crate) fn ask(&mut self, question: &str, keys: &str) {
        let whole = format!("{question} {keys} ");
        if width(&whole) < Term::talk_columns() {
            self.below(&whole);
        } else {
            self.below("");
            self.say(question);
            self.below(&format!("{keys} "));
        }
    }

    /// The line below has become a line that stays, because somebody pressed Enter at its end.
    pub(crate) fn entered(&mut self) {
        self.below.clear();
    }
}
