//! What can go wrong when a program asks a device for something: one cause of the closed list, with text and next step.

use handfast_proto::cause::Cause;
use handfast_proto::code::{CodeError, qr::QrError, words::WordsError};
use handfast_proto::session::{AnswerError, CancelError, JoinError, NearbyError, SelectError};

/// A request that was not carried out. Nothing was lost and nothing was half done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// Why, as a name that programs can rely on.
    pub cause: Cause,
    /// What happened, for people. Holds no secret.
    pub text: String,
    /// What to do next.
    pub hint: String,
}

impl Error {
    /// An error with the usual text and hint of its cause.
    pub fn of(cause: Cause) -> Error {
        Error { cause, text: cause.text().to_owned(), hint: cause.hint().to_owned() }
    }

    /// An error that says more than its cause does.
    pub fn because(cause: Cause, text: impl std::fmt::Display) -> Error {
        Error { text: text.to_string(), ..Error::of(cause) }
    }

    /// The same error with another next step.
    pub fn with_hint(self, hint: impl Into<String>) -> Error {
        Error { hint: hint.into(), ..self }
    }

    /// The exit code of a command that ends with this error.
    pub fn exit(&self) -> u8 {
        self.cause.exit()
    }
}

impl From<CodeError> for Error {
    fn from(error: CodeError) -> Error {
        match error {
            CodeError::Qr(QrError::Version(_)) => Error::because(Cause::VersionMismatch, error),
            CodeError::Words(WordsError::Count(0)) => Error::because(Cause::CodeMalformed, "no code was given")
                .with_hint("give the twelve words, or the text of the QR, that the other device shows"),
            CodeError::Qr(QrError::Broken | QrError::Character | QrError::Length(_) | QrError::Damaged) => {
                Error::because(Cause::CodeMalformed, error)
                    .with_hint("scan the QR again, or type the words below it; nothing was sent")
            }
            CodeError::TooLong | CodeError::Words(_) => Error::because(Cause::CodeMalformed, error),
        }
    }
}

impl From<JoinError> for Error {
    fn from(error: JoinError) -> Error {
        Error::because(Cause::Usage, error).with_hint("`handfast pair list` shows the open sessions")
    }
}

impl From<AnswerError> for Error {
    fn from(error: AnswerError) -> Error {
        let hint = match &error {
            AnswerError::JustChanged(_) => "look at `handfast pair list`, then answer with the name of the session",
            AnswerError::Comparison(_) => {
                "compare the two screens, then `handfast pair accept --emoji-match` or `--emoji-differ`"
            }
            AnswerError::Unknown | AnswerError::NoQuestion(_) | AnswerError::NoComparison(_) => {
                "`handfast pair list` shows the open sessions"
            }
        };
        Error::because(Cause::Usage, error).with_hint(hint)
    }
}

impl From<CancelError> for Error {
    fn from(error: CancelError) -> Error {
        Error::because(Cause::Usage, error).with_hint("`handfast pair list` shows the open sessions")
    }
}

impl From<NearbyError> for Error {
    fn from(error: NearbyError) -> Error {
        let hint = match error {
            NearbyError::NoLan => "leave --no-lan out, or pair by a code: `handfast pair generate`",
            NearbyError::Running(_) | NearbyError::TooMany => {
                "`handfast pair list` shows the open sessions, `handfast pair cancel SESSION` ends one"
            }
        };
        Error::because(Cause::Usage, error).with_hint(hint)
    }
}

impl From<SelectError> for Error {
    fn from(error: SelectError) -> Error {
        let hint = match error {
            SelectError::NoSession => "start it with `handfast pair nearby`",
            SelectError::Unknown => "run `handfast pair nearby` on both devices, in one network",
            SelectError::Busy => "`handfast pair list` shows the open sessions",
            SelectError::Refused => "pair by a code: `handfast pair generate` on one device, `pair join` on the other",
            SelectError::NothingToConfirm => "select a device first",
        };
        Error::because(Cause::Usage, error).with_hint(hint)
    }
}
