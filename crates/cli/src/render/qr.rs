//! A QR as half blocks: two modules a character, so that it is square and small enough for a terminal.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the symbol that the standard asks for.
const QUIET: usize = 4;

/// Light modules around it that scanners get by with, where there is not enough room.
const QUIET_TIGHT: usize = 2;

/// Dark modules black on white, whatever the colours of the terminal are: palette entries 16 and 231 are fixed.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// A symbol, ready to be drawn.
pub(crate) struct Qr {
    width: usize,
    modules: Vec<Color>,
}

impl Qr {
    /// The symbol of `text`; none if it is too long for any. The lowest correction keeps it small: a screen is clean.
    pub(crate) fn new(text: &str) -> Option<Qr> {
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        Some(Qr { width: code.width(), modules: code.into_colors() })
    }

    /// Its lines: as wide a margin as `columns` and `rows` allow; none if it does not fit into the columns at all.
    pub(crate) fn lines(&self, columns: usize, rows: usize, colour: bool) -> Option<Vec<String>> {
        let fits = |quiet: usize| {
            let size = self.width + 2 * quiet;
            size <= columns && size.div_ceil(2) <= rows
        };
        let quiet = if fits(QUIET) { QUIET } else { QUIET_TIGHT };
        if self.width + 2 * quiet > columns {
            return None;
        }
        let size = self.width + 2 * quiet;
        let lines = (0..size.div_ceil(2)).map(|row| {
            let halves = |column| (self.is_dark(column, row * 2, quiet), self.is_dark(column, row * 2 + 1, quiet));
            let blocks: String = (0..size).map(|column| block(halves(column), colour)).collect();
            if colour { format!("{BLACK_ON_WHITE}{blocks}{RESET}") } else { blocks }
        });
        Some(lines.collect())
    }

    /// The columns that its lines take, with the margin they would have.
    pub(crate) fn columns(&self, rows: usize) -> usize {
        let wide = self.width + 2 * QUIET;
        if wide.div_ceil(2) <= rows { wide } else { self.width + 2 * QUIET_TIGHT }
    }

    fn is_dark(&self, column: usize, row: usize, quiet: usize) -> bool {
        let at = |x: usize| x.checked_sub(quiet).filter(|x| *x < self.width);
        match (at(column), at(row)) {
            (Some(x), Some(y)) => self.modules.get(y * self.width + x) == Some(&Color::Dark),
            (None, _) | (_, None) => false,
        }
    }
}

/// Upper and lower half. Without colours the text colour stands for light, as on the usual dark background.
fn block((upper, lower): (bool, bool), colour: bool) -> char {
    let (upper, lower) = if colour { (upper, lower) } else { (!upper, !lower) };
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
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
        for length in [94, 101, 107, 113, 120] {
            let qr = Qr::new(&text(length)).expect("a symbol");
            let lines = qr.lines(45, 21, false).expect("it fits");
            assert!(lines.len() <= 21, "{length}: {} rows", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() == qr.columns(21)), "{length}");
            assert!(qr.columns(21) <= 41, "{length}: {} columns", qr.columns(21));
        }
        assert!(Qr::new(&text(120)).expect("a symbol").lines(40, 50, false).is_none());
    }

    #[test]
    fn the_finder_pattern_is_dark_on_light_with_colours_and_the_reverse_without() {
        let qr = Qr::new(&text(94)).expect("a symbol");
        let coloured = qr.lines(80, 24, true).expect("it fits");
        let margin = "\x1b[38;5;16;48;5;231m    ";
        assert!(coloured[0].starts_with(margin) && coloured[2].starts_with(&format!("{margin}█▀▀▀▀▀█")));
        assert!(coloured.iter().all(|line| line.ends_with(RESET)));
        let plain = qr.lines(80, 24, false).expect("it fits");
        assert!(plain[2].starts_with("████ ▄▄▄▄▄ "), "{}", plain[2]);
    }
}
