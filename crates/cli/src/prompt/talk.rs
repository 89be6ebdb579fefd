//! What is said on stderr while something goes on: lines that stay, and at a terminal one last line that is drawn again.

use crate::output::{complain, raw_talk};

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

    /// The line below has become a line that stays, because somebody pressed Enter at its end.
    pub(crate) fn entered(&mut self) {
        self.below.clear();
    }
}
