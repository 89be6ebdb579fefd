//! Where a code is shown, as long as it lives: on the screen, and in a picture file.

use handfast::Error;
use zeroize::Zeroizing;

use crate::cmd::Context;
use crate::qr::file::PictureFile;
use crate::render::code::{Look, screen};
use crate::term::Term;

/// A code that is shown. With this value the picture file goes away.
pub(crate) struct Shown {
    words: Zeroizing<String>,
    picture: Option<PictureFile>,
    /// Programs have been given the words, and need them once.
    given: bool,
}

impl Shown {
    /// A code with these words, separated by spaces, that also goes to a picture.
    pub(crate) fn new(words: Zeroizing<String>, picture: Option<PictureFile>) -> Shown {
        Shown { words, picture, given: false }
    }

    /// Shows the code with this QR text: in the picture file, and as a screen for people or one plain line for programs
    /// (with `--json` an event tells them). To be called again when the text has changed, which holds the same code:
    /// the picture is replaced, the screen is drawn anew below what is there, and programs are told nothing twice.
    ///
    /// # Errors
    /// That the picture cannot be written; then nothing is drawn either.
    pub(crate) fn draw(&mut self, context: &Context, qr: &str) -> Result<(), Error> {
        if let Some(picture) = &mut self.picture {
            picture.write(qr)?;
        }
        let given = std::mem::replace(&mut self.given, true);
        if context.out.is_json() {
            return Ok(());
        }
        if context.term.stdout {
            let (columns, rows) = Term::size();
            context.out.text(&screen(&self.words, qr, Look { columns, rows, colour: context.term.colour }));
        } else if !given {
            context.out.text(&self.words);
        }
        Ok(())
    }

    /// Another code is to be drawn here from now on.
    pub(crate) fn replace(&mut self, words: Zeroizing<String>) {
        (self.words, self.given) = (words, false);
    }

    /// Leaves the picture where it is: somebody else goes on waiting under its code.
    pub(crate) fn keep(self) {
        if let Some(picture) = self.picture {
            picture.keep();
        }
    }
}
