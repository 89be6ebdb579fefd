//! Bodies of requests and answers of the control API.

use handfast::{Cause, DeviceName, Error};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `POST /v1/pair/generate`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateBody {
    /// Answer the question with yes.
    #[serde(default)]
    pub(crate) yes: bool,
    /// Both people compare emoji.
    #[serde(default)]
    pub(crate) verify: bool,
    /// Life of the code in seconds.
    #[serde(default = "default_ttl")]
    pub(crate) ttl: u64,
}

/// The code that was made. It leaves this memory with this value.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct CodeReply {
    /// The session that waits.
    pub(crate) session: String,
    /// The twelve words, separated by spaces.
    pub(crate) words: String,
    /// The QR text.
    pub(crate) qr: String,
    /// When its life ends, RFC 3339.
    pub(crate) expires_at: String,
    /// Its life in seconds.
    pub(crate) ttl: u64,
    /// Number of the event before the session's first one.
    pub(crate) seq: u64,
}

/// `POST /v1/pair/qr`: the QR text of a code as it must look now. It leaves this memory with this value.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct QrReply {
    /// The text.
    pub(crate) qr: String,
}

/// `POST /v1/pair/join`. It leaves this memory with this value.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinBody {
    /// Twelve words or a QR text.
    pub(crate) code: String,
    /// Answer the question with yes.
    #[serde(default)]
    pub(crate) yes: bool,
    /// Both people compare emoji.
    #[serde(default)]
    pub(crate) verify: bool,
}

/// The session that was opened.
#[derive(Serialize, Deserialize)]
pub(crate) struct JoinReply {
    /// Which.
    pub(crate) session: String,
    /// Number of the event before its first one.
    pub(crate) seq: u64,
}

/// `POST /v1/pair/answer`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    /// Which session; none: the only one that asks.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// The answer.
    pub(crate) allow: bool,
}

/// `POST /v1/pair/compare`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CompareBody {
    /// Which session; none: the only one that asks.
    #[serde(default)]
    pub(crate) session: Option<String>,
    /// Whether both devices show the same.
    pub(crate) matches: bool,
}

/// `POST /v1/pair/cancel`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelBody {
    /// Which session; none: the only open one.
    #[serde(default)]
    pub(crate) session: Option<String>,
}

/// `POST /v1/pair/nearby`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NearbyBody {
    /// Answer the question that follows a scanned QR with yes; no comparison.
    #[serde(default)]
    pub(crate) yes: bool,
}

/// `POST /v1/pair/select`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectBody {
    /// Id or name of a device of the list.
    pub(crate) device: String,
}

/// `POST /v1/pair/confirm`. It leaves this memory with this value.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    /// The QR text of the selected device.
    pub(crate) qr: String,
}

/// The session that was answered or withdrawn.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionReply {
    /// Which.
    pub(crate) session: String,
}

/// `POST /v1/devices/{device}/rename`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenameBody {
    /// The new name.
    pub(crate) name: String,
}

/// `POST /v1/devices/{device}/ping`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PingBody {
    /// How long to look for the device, in milliseconds.
    #[serde(default = "default_wait")]
    pub(crate) wait_ms: u64,
}

/// A round trip.
#[derive(Serialize, Deserialize)]
pub(crate) struct PingReply {
    /// The device.
    pub(crate) device: DeviceName,
    /// Milliseconds.
    pub(crate) rtt_ms: f64,
    /// `lan`, `direct` or `relay`.
    pub(crate) path: String,
    /// Multiaddress.
    pub(crate) address: String,
}

/// Nothing more to say.
#[derive(Serialize, Deserialize)]
pub(crate) struct Done {}

/// Longest wait a ping may ask for.
pub(crate) const MAX_PING_WAIT_MS: u64 = 60_000;

/// An error.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorReply {
    cause: String,
    code: String,
    text: String,
    hint: String,
    exit: u8,
}

impl From<&Error> for ErrorReply {
    fn from(error: &Error) -> ErrorReply {
        ErrorReply {
            cause: error.cause.name().to_owned(),
            code: error.cause.name().to_owned(),
            text: error.text.clone(),
            hint: error.hint.clone(),
            exit: error.exit(),
        }
    }
}

impl From<ErrorReply> for Error {
    fn from(reply: ErrorReply) -> Error {
        // A daemon of a later version may know more causes than this program.
        let cause = Cause::ALL.iter().find(|cause| cause.name() == reply.cause).copied().unwrap_or(Cause::Internal);
        Error { cause, text: reply.text, hint: reply.hint }
    }
}

fn default_ttl() -> u64 {
    handfast::DEFAULT_TTL.as_secs()
}

fn default_wait() -> u64 {
    MAX_PING_WAIT_MS / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_and_an_unknown_cause_is_internal() {
        for cause in Cause::ALL {
            let error = Error::of(*cause);
            assert_eq!(Error::from(ErrorReply::from(&error)), error);
        }
        let mut later = ErrorReply::from(&Error::of(Cause::Usage));
        later.cause = "no_such_cause".to_owned();
        assert_eq!(Error::from(later).cause, Cause::Internal);
    }
}
