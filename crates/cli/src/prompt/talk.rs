//! What is said on stderr while something goes on: lines that stay, and at a terminal one last line that is drawn again.

use crate::output::{complain, raw_talk};
use crate::term::Term;

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
            raw_talk(&format!("{WIPE}{text}\n{}", self.below));
        } else {
            complain(text);
        }
    }

    /// Replaces the line below; an empty one takes it away.
    pub(crate) fn below(&mut self, text: &str) {
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

    /// The line below has become a line that stays, because somebody pressed Enter at its end.
    pub(crate) fn entered(&mut self) {
        self.below.clear();
    }
}
