//! A QR as half blocks: two modules a character, so that it is square and small enough for a terminal.

use qrcode::EcLevel;

use super::{QUIET, Symbol};

/// Light modules around it that scanners get by with, where there is not enough room.
const QUIET_TIGHT: usize = 2;

/// What is tried, the best first: more correction before less, as far as it fits; the margin of the standard before
/// all. A screen is clean, so that the lowest correction is enough.
const TRIES: [(EcLevel, usize); 4] =
    [(EcLevel::M, QUIET), (EcLevel::L, QUIET), (EcLevel::M, QUIET_TIGHT), (EcLevel::L, QUIET_TIGHT)];

/// Dark modules black on white, whatever the colours of the terminal are: palette entries 16 and 231 are fixed.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A symbol with its margin, ready to be drawn.
pub(crate) struct Drawing {
    symbol: Symbol,
    quiet: usize,
}

impl Drawing {
    /// The drawing of `text` that scanners read best among those that fit into `columns` and `rows`; none if none does.
    pub(crate) fn fit(text: &str, columns: usize, rows: usize) -> Option<Drawing> {
        TRIES.iter().find_map(|(level, quiet)| {
            let drawing = Drawing { symbol: Symbol::new(text, *level)?, quiet: *quiet };
            (drawing.columns() <= columns && drawing.rows() <= rows).then_some(drawing)
        })
    }

    /// Columns and rows that the smallest drawing of `text` takes.
    pub(crate) fn least(text: &str) -> (usize, usize) {
        let drawings = TRIES
            .iter()
            .filter_map(|(level, quiet)| Some(Drawing { symbol: Symbol::new(text, *level)?, quiet: *quiet }));
        drawings.map(|drawing| (drawing.columns(), drawing.rows())).min().unwrap_or_default()
    }

    /// Columns of the terminal that it takes.
    pub(crate) fn columns(&self) -> usize {
        self.symbol.side(self.quiet)
    }

    /// Lines that it takes.
    pub(crate) fn rows(&self) -> usize {
        self.columns().div_ceil(2)
    }

    /// Appends one of its lines, without a line end. It needs a terminal with colours: with those of the terminal
    /// itself nobody knows which of the two is the light one.
    pub(crate) fn push_line(&self, row: usize, to: &mut String) {
        to.push_str(BLACK_ON_WHITE);
        for column in 0..self.columns() {
            let is_dark = |row| self.symbol.is_dark(column, row, self.quiet);
            to.push(match (is_dark(row * 2), is_dark(row * 2 + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        to.push_str(RESET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> String {
        format!("HANDFAST:{}", "A".repeat(length - 9))
    }

    #[test]
    fn every_length_of_a_qr_text_fits_beside_the_words_on_80_by_24() {
        for (length, quiet) in [(94, QUIET), (101, QUIET), (107, QUIET), (113, QUIET), (120, QUIET_TIGHT)] {
            let drawing = Drawing::fit(&text(length), 41, 21).expect("it fits");
            assert_eq!((drawing.quiet, drawing.columns(), drawing.rows()), (quiet, 41, 21), "{length}");
        }
        assert!(Drawing::fit(&text(120), 40, 50).is_none());
        assert!(Drawing::fit(&text(120), 50, 20).is_none());
    }

    #[test]
    fn where_there_is_room_the_margin_is_that_of_the_standard_and_the_correction_the_better_one() {
        let drawing = Drawing::fit(&text(120), 45, 23).expect("it fits");
        assert_eq!((drawing.quiet, drawing.columns(), drawing.rows()), (QUIET, 45, 23));
        let drawing = Drawing::fit(&text(94), 80, 40).expect("it fits");
        assert_eq!(drawing.symbol.width, 37, "94 characters take 33 modules with the lowest correction");
    }

    #[test]
    fn each_line_sets_its_own_colours_and_gives_them_back() {
        let drawing = Drawing::fit(&text(94), 80, 24).expect("it fits");
        for row in 0..drawing.rows() {
            let mut line = String::new();
            drawing.push_line(row, &mut line);
            let blocks = line.strip_prefix(BLACK_ON_WHITE).and_then(|rest| rest.strip_suffix(RESET)).expect("colours");
            assert_eq!(blocks.chars().count(), drawing.columns());
            assert!(blocks.chars().all(|c| matches!(c, '█' | '▀' | '▄' | ' ')));
            if row == 2 {
                assert!(blocks.starts_with("    █▀▀▀▀▀█ "), "the corner of a finder pattern: {blocks}");
            }
        }
    }
}
