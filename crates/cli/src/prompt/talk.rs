//! What is said on stderr while something goes on: lines that stay, and at a terminal one last line that is drawn again.

use crate::output::{complain, raw_talk};
use crate::term::Term;

/// Back to the start of the line, and away with what stands there.
const WIPE: &str = "\r\x1b[K";

/// Columns of a terminal that does not tell.
const USUAL_COLUMNS: usize = 80;

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

    /// Says something that stays. At a terminal its lines are broken between words.
    pub(crate) fn say(&self, text: &str) {
        if !self.live {
            complain(text);
            return;
        }
        let text = broken(text, columns());
        if self.below.is_empty() {
            complain(&text);
        } else {
            raw_talk(&format!("{WIPE}{text}\n{}", self.below));
        }
    }

    /// Replaces the line below; an empty one takes it away. One that is wider than the terminal is cut: a line that wraps
    /// could not be taken away again.
    pub(crate) fn below(&mut self, text: &str) {
        let text = cut(text, columns());
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

    /// Asks for an answer at the end of the line below. What does not fit there stays above it.
    pub(crate) fn ask(&mut self, question: &str, keys: &str) {
        let whole = format!("{question} {keys} ");
        if width(&whole) < columns() {
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

fn columns() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        Ok(_) | Err(_) => USUAL_COLUMNS,
    }
}

/// Columns that a text takes at most: what is not ASCII may be wide.
fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// As much of a text as fits into `columns` with the cursor behind it.
fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        taken += char_width(c);
        (taken >= columns).then_some(at)
    });
    end.map_or(text, |end| &text[..end])
}

/// The text with every line that is wider than `columns` broken between words, where it has any.
fn broken(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let mut room = columns;
        for word in line.split_inclusive(' ') {
            let (needed, whole) = (width(word.trim_end()), width(word));
            if needed > room && room < columns {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                room = columns;
            }
            out.push_str(word);
            room = room.saturating_sub(whole);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_too_wide_are_broken_between_words_and_nothing_is_lost() {
        assert_eq!(broken("one two three", 13), "one two three");
        assert_eq!(broken("one two three", 12), "one two\nthree");
        assert_eq!(broken("one two three", 7), "one two\nthree");
        assert_eq!(broken("one  two\n\n  three four", 9), "one  two\n\n  three\nfour");
        assert_eq!(broken("HANDFAST:AAAAAAAA b", 5), "HANDFAST:AAAAAAAA\nb");
        assert_eq!(broken("数数 数数", 6), "数数\n数数");
        for columns in 1..40 {
            let text = "Note: a line of usual words, neither short nor long; and a bit more.";
            let lines = broken(text, columns);
            assert_eq!(lines.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
            let fits = |line: &str| width(line) <= columns || !line.contains(' ');
            assert!(lines.lines().all(fits), "{columns}: {lines}");
        }
    }

    #[test]
    fn the_line_below_fits_into_the_terminal_with_its_cursor() {
        assert_eq!(cut("Waiting: 9:59 left", 80), "Waiting: 9:59 left");
        assert_eq!(cut("Waiting: 9:59 left", 18), "Waiting: 9:59 lef");
        assert_eq!(cut("Waiting: 9:59 left", 19), "Waiting: 9:59 left");
        assert_eq!(cut("数数数", 6), "数数");
        assert_eq!(cut("x", 1), "");
    }
}
