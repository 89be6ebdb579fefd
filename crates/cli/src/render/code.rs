//! The screen of a new code: twelve numbered words, easy to read aloud, and the QR beside or below them. Words and QR
//! are seen at once or there is no QR: half of one helps nobody.

use zeroize::Zeroizing;

use crate::qr::draw::Drawing;

/// Columns between the QR and the words.
const GAP: usize = 2;

/// Rows that stay free for what happens meanwhile and the time that is left.
const ROWS_BELOW: usize = 3;

/// A number, a space and the longest word of the list.
const CELL: usize = 2 + 1 + 8;

/// Spaces between the columns of words.
const CELL_GAP: usize = 1;

/// What is said above and below the words.
struct Captions {
    above: &'static str,
    below: [&'static str; 3],
}

const WIDE: Captions = Captions {
    above: "Read these words to the other person:",
    below: ["There, enter them with", "  handfast pair join", "or scan the QR to pair that device."],
};

const NARROW: Captions =
    Captions { above: "Read these words:", below: ["There, enter them:", "handfast pair join", "or scan the QR."] };

/// Words beside the QR: in how many columns, and what is said with them. The widest that fits is taken.
const BESIDE: [(usize, &Captions); 3] = [(3, &WIDE), (2, &WIDE), (1, &NARROW)];

/// For a terminal that is too small.
const NO_ROOM: [&str; 2] = ["A terminal of 80 by 24 shows a QR as well;", "--qr-image FILE writes it to a picture."];

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

/// The screen for `words`, separated by spaces, and the QR text. Without colours there is no drawing: whether the text
/// of a terminal is lighter than its background is not known, and a scanner needs it to be darker. Then the QR text
/// itself is there, for whoever can copy it.
pub(crate) fn screen(words: &str, qr: &str, look: Look) -> Zeroizing<String> {
    let words: Vec<&str> = words.split(' ').collect();
    let free = Look { rows: look.rows.saturating_sub(ROWS_BELOW), ..look };
    if !look.colour {
        return as_text(&words, qr, free);
    }
    beside(&words, qr, free).or_else(|| below(&words, qr, free)).unwrap_or_else(|| words_only(&words, free))
}

/// Rows that the QR of `pair nearby` leaves for the question.
pub(crate) const NEARBY_QR: usize = 1;

/// What a terminal must have for a QR that it has no room for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TooSmall {
    /// So many columns.
    Narrow(usize),
    /// So many rows.
    Low(usize),
    /// So many of both.
    Both(usize, usize),
}

impl std::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TooSmall::Narrow(columns) => write!(f, "too narrow for the QR: make it {columns} columns wide"),
            TooSmall::Low(rows) => write!(f, "too low for the QR: make it {rows} rows high"),
            TooSmall::Both(columns, rows) => {
                write!(f, "too small for the QR: make it {columns} columns wide and {rows} rows high")
            }
        }
    }
}

/// The QR alone, for whoever has selected this device and would rather scan than compare, with `below` rows left free.
///
/// # Errors
/// What the terminal lacks.
pub(crate) fn qr_screen(qr: &str, look: Look, below: usize) -> Result<Zeroizing<String>, TooSmall> {
    let mut text = page();
    if !look.colour {
        push_lines(&mut text, &["Who chose this device may paste this instead of comparing emoji:", qr]);
        return Ok(text);
    }
    // The line above it.
    let others = below + 1;
    let drawing = Drawing::fit(qr, look.columns, look.rows.saturating_sub(others)).ok_or_else(|| {
        let (columns, rows) = Drawing::least(qr);
        let (columns, rows) = (columns, rows + others);
        match (look.columns < columns, look.rows < rows) {
            (true, false) => TooSmall::Narrow(columns),
            (false, _) => TooSmall::Low(rows),
            (true, true) => TooSmall::Both(columns, rows),
        }
    })?;
    push_lines(&mut text, &["Who chose this device may scan this instead of comparing emoji:"]);
    for row in 0..drawing.rows() {
        drawing.push_line(row, &mut text);
        text.push('\n');
    }
    Ok(text)
}

/// Words to the right of the QR.
fn beside(words: &[&str], qr: &str, look: Look) -> Option<Zeroizing<String>> {
    BESIDE.iter().find_map(|(columns, captions)| {
        let said = captions.below.iter().chain([&captions.above]).map(|line| line.len()).max().unwrap_or(0);
        let room = look.columns.checked_sub(GAP + said.max(width(*columns)))?;
        let drawing = Drawing::fit(qr, room, look.rows)?;
        let mut right = vec![Zeroizing::default(), own(captions.above), Zeroizing::default()];
        right.extend(grid(words, *columns, look.colour));
        right.push(Zeroizing::default());
        right.extend(captions.below.map(own));
        if right.len() > drawing.rows() {
            return None;
        }
        let mut text = page();
        for row in 0..drawing.rows() {
            drawing.push_line(row, &mut text);
            if let Some(line) = right.get(row).filter(|line| !line.is_empty()) {
                text.push_str(&" ".repeat(GAP));
                text.push_str(line);
            }
            text.push('\n');
        }
        Some(text)
    })
}

/// Words above the QR, for a terminal that is narrow and high.
fn below(words: &[&str], qr: &str, look: Look) -> Option<Zeroizing<String>> {
    let captions = if look.columns < width(3) + GAP { &NARROW } else { &WIDE };
    let mut text = words_below(captions.above, words, look);
    let lines = text.lines().count() + captions.below.len();
    let drawing = Drawing::fit(qr, look.columns, look.rows.checked_sub(lines)?)?;
    for row in 0..drawing.rows() {
        drawing.push_line(row, &mut text);
        text.push('\n');
    }
    push_lines(&mut text, &captions.below);
    Some(text)
}

/// Words, and how to come to a QR.
fn words_only(words: &[&str], look: Look) -> Zeroizing<String> {
    let mut text = words_below(WIDE.above, words, look);
    push_lines(&mut text, &WIDE.below[..2]);
    push_lines(&mut text, &NO_ROOM);
    text
}

/// Words and QR text.
fn as_text(words: &[&str], qr: &str, look: Look) -> Zeroizing<String> {
    let mut text = words_below(WIDE.above, words, look);
    push_lines(&mut text, &WIDE.below[..2]);
    push_lines(&mut text, &["or paste this there:", qr]);
    text
}

/// The words in as many columns as there is room for.
fn words_below(above: &str, words: &[&str], look: Look) -> Zeroizing<String> {
    let columns = (1..=4).rev().find(|columns| width(*columns) <= look.columns).unwrap_or(1);
    let mut text = page();
    push_lines(&mut text, &[above, ""]);
    for row in grid(words, columns, look.colour) {
        push_lines(&mut text, &[&row]);
    }
    push_lines(&mut text, &[""]);
    text
}

/// Room for a whole screen, so that no half of a code is left behind where the text grows out of.
fn page() -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(16 * 1024))
}

fn push_lines(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
}

fn own(line: &str) -> Zeroizing<String> {
    Zeroizing::new(line.to_owned())
}

fn width(columns: usize) -> usize {
    columns * CELL + (columns - 1) * CELL_GAP
}

/// The words in rows, read from left to right.
fn grid(words: &[&str], columns: usize, colour: bool) -> Vec<Zeroizing<String>> {
    let mut rows = Vec::new();
    for (row, cells) in words.chunks(columns).enumerate() {
        let mut line = Zeroizing::new(String::with_capacity(256));
        for (column, word) in cells.iter().enumerate() {
            if column > 0 {
                let last = cells[column - 1].chars().count();
                line.push_str(&" ".repeat(CELL.saturating_sub(3 + last) + CELL_GAP));
            }
            let number = row * columns + column + 1;
            let cell = if colour {
                Zeroizing::new(format!("\x1b[2m{number:>2}\x1b[0m \x1b[1m{word}\x1b[0m"))
            } else {
                Zeroizing::new(format!("{number:>2} {word}"))
            };
            line.push_str(&cell);
        }
        rows.push(line);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "legal winner thank year wave sausage worth useful abstract absolute announce yellow";

    fn qr_text(length: usize) -> String {
        format!("HANDFAST:{}", "A".repeat(length - 9))
    }

    /// The lines of a screen with colours, without these.
    fn lines(columns: usize, rows: usize, length: usize) -> Vec<String> {
        let text = screen(WORDS, &qr_text(length), Look { columns, rows, colour: true });
        text.lines().map(|line| line.split('\x1b').map(without_colour).collect()).collect()
    }

    fn without_colour(piece: &str) -> &str {
        if piece.starts_with('[') { piece.split_once('m').map_or("", |(_, rest)| rest) } else { piece }
    }

    fn has_qr(lines: &[String]) -> bool {
        lines.iter().any(|line| line.contains('█'))
    }

    #[test]
    fn words_and_qr_fit_together_on_80_by_24() {
        for length in [94, 101, 107, 113, 120] {
            let lines = lines(80, 24, length);
            assert!(lines.len() <= 21, "{length}: {} rows", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{length}");
            assert!(lines.iter().any(|line| line.ends_with("  1 legal     2 winner    3 thank")), "{lines:#?}");
            assert!(lines.iter().any(|line| line.ends_with(" 10 absolute 11 announce 12 yellow")));
            assert!(has_qr(&lines));
        }
    }

    #[test]
    fn on_every_size_of_terminal_all_words_are_seen_and_the_qr_whole_or_not_at_all() {
        let mut seen = [0; 2];
        for columns in [1, 10, 30, 41, 45, 56, 57, 60, 61, 62, 79, 80, 81, 85, 132, 200] {
            for rows in [1, 5, 12, 20, 21, 22, 23, 24, 25, 26, 30, 33, 40, 60] {
                let lines = lines(columns, rows, 120);
                let found = WORDS.split(' ').filter(|word| lines.iter().any(|line| line.contains(word))).count();
                assert_eq!(found, 12, "{columns} x {rows}");
                if has_qr(&lines) {
                    assert!(lines.len() + ROWS_BELOW <= rows, "{columns} x {rows}: {} lines", lines.len());
                    assert!(lines.iter().all(|line| line.chars().count() <= columns), "{columns} x {rows}");
                } else {
                    assert!(lines.iter().any(|line| line.contains("--qr-image")), "{columns} x {rows}");
                }
                seen[usize::from(has_qr(&lines))] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn a_terminal_that_is_narrow_or_high_shows_the_words_in_one_column_or_above() {
        let narrow = lines(57, 24, 113);
        assert!(has_qr(&narrow) && narrow.iter().any(|line| line.ends_with("   1 legal")), "{narrow:#?}");
        let high = lines(50, 40, 113);
        assert_eq!((high[0].as_str(), high[2].as_str()), (WIDE.above, " 1 legal     2 winner    3 thank     4 year"));
        assert!(has_qr(&high));
        let small = lines(56, 24, 113);
        assert!(!has_qr(&small) && small.contains(&NO_ROOM[1].to_owned()), "{small:#?}");
    }

    #[test]
    fn the_qr_of_pair_nearby_is_whole_or_not_there() {
        let shown = |rows, below| qr_screen(&qr_text(120), Look { columns: 80, rows, colour: true }, below);
        for rows in [24, 30] {
            let text = shown(rows, NEARBY_QR).expect("room");
            assert!(text.lines().count() + NEARBY_QR <= rows, "{rows}");
        }
        assert!(shown(24, 8).is_err());
        let text = qr_screen(&qr_text(120), Look { columns: 80, rows: 5, colour: false }, 1).expect("text");
        assert!(text.lines().any(|line| line == qr_text(120)));
    }

    #[test]
    fn a_terminal_without_room_for_the_qr_is_told_which_way_it_is_too_small_and_how_large_suffices() {
        let shown = |columns, rows| qr_screen(&qr_text(120), Look { columns, rows, colour: true }, NEARBY_QR).map(drop);
        assert_eq!(shown(41, 23), Ok(()));
        assert_eq!(shown(40, 60), Err(TooSmall::Narrow(41)));
        assert_eq!(shown(200, 22), Err(TooSmall::Low(23)));
        assert_eq!(shown(40, 22), Err(TooSmall::Both(41, 23)));
        assert_eq!(TooSmall::Narrow(41).to_string(), "too narrow for the QR: make it 41 columns wide");
    }

    #[test]
    fn without_colours_there_is_the_text_and_no_drawing() {
        let text = screen(WORDS, &qr_text(113), Look { columns: 80, rows: 24, colour: false });
        assert!(!text.contains(['█', '▀', '▄', '\x1b']), "{}", *text);
        assert!(text.lines().any(|line| line == qr_text(113)), "alone on its line: {}", *text);
        assert!(text.contains(" 5 wave      6 sausage   7 worth     8 useful\n"), "{}", *text);
    }
}
