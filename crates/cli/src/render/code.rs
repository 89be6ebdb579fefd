//! The screen of a new code: twelve numbered words, easy to read aloud, and the QR beside or below them.

use zeroize::Zeroizing;

use super::qr::Qr;

/// Columns between the QR and the words.
const GAP: usize = 2;

/// Rows below the QR for what happens meanwhile and the time that is left.
const ROWS_BELOW: usize = 3;

/// A number, a space and the longest word of the list.
const CELL: usize = 2 + 1 + 8;

/// Spaces between the columns of words.
const CELL_GAP: usize = 1;

/// What is said above and below the words.
const ABOVE: &str = "Read these words to the other person:";
const BELOW: [&str; 3] = ["There, enter them with", "  handfast pair join", "or scan the QR to pair that device."];

/// How the screen may look.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// Columns of the terminal.
    pub(crate) columns: usize,
    /// Rows of the terminal.
    pub(crate) rows: usize,
    /// Colours are welcome.
    pub(crate) colour: bool,
}

/// The screen for `words`, separated by spaces, and the QR text.
pub(crate) fn screen(words: &str, qr: &str, look: Look) -> Zeroizing<String> {
    let words: Vec<&str> = words.split(' ').collect();
    let qr = Qr::new(qr);
    let beside = qr.as_ref().and_then(|qr| beside(&words, qr, look));
    beside.unwrap_or_else(|| below(&words, qr.as_ref(), look))
}

/// Words to the right of the QR, if both fit.
fn beside(words: &[&str], qr: &Qr, look: Look) -> Option<Zeroizing<String>> {
    let rows = look.rows.saturating_sub(ROWS_BELOW);
    let room = look.columns.checked_sub(qr.columns(rows) + GAP)?;
    let columns = (2..=3).rev().find(|columns| width(*columns) <= room)?;
    let left = qr.lines(look.columns, rows, look.colour)?;
    let mut right = vec![String::new(), ABOVE.to_owned(), String::new()];
    right.extend(grid(words, columns, look.colour));
    right.push(String::new());
    right.extend(BELOW.map(str::to_owned));
    if right.len() > left.len() || right.iter().any(|line| !line.contains('\x1b') && line.chars().count() > room) {
        return None;
    }
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    for (index, line) in left.iter().enumerate() {
        text.push_str(line);
        if let Some(line) = right.get(index).filter(|line| !line.is_empty()) {
            text.push_str(&" ".repeat(GAP));
            text.push_str(line);
        }
        text.push('\n');
    }
    Some(text)
}

/// Words first, then the QR if it fits at all.
fn below(words: &[&str], qr: Option<&Qr>, look: Look) -> Zeroizing<String> {
    let columns = (1..=4).rev().find(|columns| width(*columns) <= look.columns).unwrap_or(1);
    let mut text = Zeroizing::new(String::with_capacity(8 * 1024));
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    line(ABOVE);
    line("");
    grid(words, columns, look.colour).iter().for_each(|row| line(row));
    line("");
    let lines = qr.and_then(|qr| qr.lines(look.columns, look.rows, look.colour));
    if let Some(lines) = lines {
        lines.iter().for_each(|row| line(row));
        BELOW.iter().for_each(|row| line(row));
    } else {
        BELOW[..2].iter().for_each(|row| line(row));
    }
    text
}

fn width(columns: usize) -> usize {
    columns * CELL + (columns - 1) * CELL_GAP
}

/// The words in rows, read from left to right.
fn grid(words: &[&str], columns: usize, colour: bool) -> Vec<String> {
    let cells: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(index, word)| {
            let number = index + 1;
            let pad = " ".repeat(CELL.saturating_sub(3 + word.chars().count()));
            if colour {
                format!("\x1b[2m{number:>2}\x1b[0m \x1b[1m{word}\x1b[0m{pad}")
            } else {
                format!("{number:>2} {word}{pad}")
            }
        })
        .collect();
    cells.chunks(columns).map(|row| row.join(&" ".repeat(CELL_GAP)).trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "legal winner thank year wave sausage worth useful abstract absolute announce yellow";

    fn qr_text(length: usize) -> String {
        format!("HANDFAST:{}", "A".repeat(length - 9))
    }

    fn plain(columns: usize, rows: usize, length: usize) -> Vec<String> {
        let look = Look { columns, rows, colour: false };
        screen(WORDS, &qr_text(length), look).lines().map(str::to_owned).collect()
    }

    #[test]
    fn words_and_qr_fit_together_on_80_by_24() {
        for length in [94, 101, 107, 113, 120] {
            let lines = plain(80, 24, length);
            assert!(lines.len() <= 21, "{length}: {} rows", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{length}");
            assert!(lines.iter().any(|line| line.ends_with(" 1 legal     2 winner    3 thank")), "{lines:#?}");
            assert!(lines.iter().any(|line| line.ends_with("10 absolute 11 announce 12 yellow")));
        }
    }

    #[test]
    fn a_narrow_terminal_shows_the_words_first() {
        let lines = plain(60, 24, 113);
        assert_eq!(lines[0], ABOVE);
        assert_eq!(lines[2], " 1 legal     2 winner    3 thank     4 year");
        assert!(lines.len() > 20 && lines.iter().all(|line| line.chars().count() <= 60));
        let lines = plain(30, 24, 113);
        assert_eq!(lines[2], " 1 legal     2 winner");
        assert!(!lines.iter().any(|line| line.contains('█')), "no room for a QR");
        assert_eq!(plain(5, 5, 113)[2], " 1 legal");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let look = Look { columns: 80, rows: 24, colour: true };
        let text = screen(WORDS, &qr_text(113), look);
        assert!(text.contains("\x1b[1msausage\x1b[0m"));
        assert_eq!(text.lines().count(), plain(80, 24, 113).len());
    }
}
