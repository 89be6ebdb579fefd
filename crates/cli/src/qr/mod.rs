//! The QR of a code as a picture: drawn in the terminal, written to a file, found in one.

pub(crate) mod draw;
pub(crate) mod file;
mod image;
mod pixels;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Light modules around the symbol that the standard asks for.
const QUIET: usize = 4;

/// A symbol: which of its modules are dark.
struct Symbol {
    width: usize,
    dark: Zeroizing<Vec<bool>>,
}

impl Symbol {
    /// The symbol of `text`; none if it is too long for any.
    fn new(text: &str, level: EcLevel) -> Option<Symbol> {
        let code = QrCode::with_error_correction_level(text, level).ok()?;
        let width = code.width();
        let dark = Zeroizing::new(code.into_colors().into_iter().map(|color| color == Color::Dark).collect());
        Some(Symbol { width, dark })
    }

    /// Modules of a side with a margin of `quiet`.
    fn side(&self, quiet: usize) -> usize {
        self.width + 2 * quiet
    }

    /// The module at a place that is counted from the corner of a margin of `quiet`. What lies outside is light.
    fn is_dark(&self, column: usize, row: usize, quiet: usize) -> bool {
        let inside = |at: usize| at.checked_sub(quiet).filter(|at| *at < self.width);
        match (inside(column), inside(row)) {
            (Some(x), Some(y)) => self.dark[y * self.width + x],
            (None, _) | (_, None) => false,
        }
    }
}
