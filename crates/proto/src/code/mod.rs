//! The code: 128 random bits that people carry over as twelve words or as a QR text.

pub mod qr;
pub mod words;

use std::str::FromStr;

use crate::secret::{Rng, Secret};
use qr::{QrError, QrText};
use words::WordsError;

/// Longest text that is read as a code, in bytes.
pub const MAX_CODE_TEXT: usize = 256;

/// The secret of one pairing, in memory only.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Secret<16>);

impl Code {
    /// Draws a new code.
    pub fn generate(rng: &mut Rng) -> Code {
        Code(rng.secret())
    }

    /// A code of known secret bytes.
    pub fn from_entropy(entropy: Secret<16>) -> Code {
        Code(entropy)
    }

    /// The secret bytes.
    pub fn entropy(&self) -> &Secret<16> {
        &self.0
    }
}

/// What a person typed, pasted or scanned, understood.
pub enum CodeInput {
    /// Twelve words: the secret alone.
    Words(Code),
    /// A QR text: the secret, the transport key to expect and where to try.
    Qr(Box<QrText>),
}

/// Why a text is no code. Nothing was sent to anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// More than [`MAX_CODE_TEXT`] bytes.
    #[error("a code has at most {MAX_CODE_TEXT} characters")]
    TooLong,
    /// Not twelve right words.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// Not a right QR text.
    #[error(transparent)]
    Qr(#[from] QrError),
}

impl FromStr for CodeInput {
    type Err = CodeError;

    /// Reads words or a QR text; which of the two is told by the `HANDFAST:` in front.
    fn from_str(text: &str) -> Result<CodeInput, CodeError> {
        let text = text.trim();
        if text.len() > MAX_CODE_TEXT {
            return Err(CodeError::TooLong);
        }
        if qr::has_prefix(text) {
            return Ok(CodeInput::Qr(Box::new(QrText::parse(text)?)));
        }
        Ok(CodeInput::Words(words::parse(text)?))
    }
}
