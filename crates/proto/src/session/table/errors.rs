//! Why the table of sessions refuses what a person asks for.

use crate::id::SessionId;
use crate::limits;

/// Why `pair nearby` cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NearbyError {
    /// It has begun already.
    #[error("this device is ready to pair already, as session {0}")]
    Running(SessionId),
    /// The local network is not used.
    #[error("the local network is switched off or cannot be used, and nobody can be met on it")]
    NoLan,
    /// As many sessions as a device may have.
    #[error("{} sessions are open already; cancel one first", limits::MAX_SESSIONS)]
    TooMany,
}

/// Why a code cannot be joined. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The code is one of this device's own.
    #[error("this code is shown by this device itself; enter it on the other one")]
    OwnCode,
    /// A session for this code runs already.
    #[error("this code is being joined already, as session {0}")]
    Running(SessionId),
    /// As many sessions as a device may have.
    #[error("{} sessions are open already; cancel one first", limits::MAX_SESSIONS)]
    TooMany,
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No session of that name, or none at all.
    #[error("there is no such session")]
    Unknown,
    /// Another question was open a moment ago, so that it is not clear which one is meant.
    #[error("the question has just changed: now session {0} asks")]
    JustChanged(SessionId),
    /// The session asks nothing now.
    #[error("no question is open{}", .0.as_ref().map(|s| format!(" in session {s}")).unwrap_or_default())]
    NoQuestion(Option<SessionId>),
    /// The session asks for a comparison, and "allow" says nothing about that.
    #[error("session {0} asks whether both devices show the same emoji; say that they match, or that they differ")]
    Comparison(SessionId),
    /// The session asks, but for no comparison.
    #[error("session {0} has nothing to compare; allow or reject the device")]
    NoComparison(SessionId),
}

/// Why a session was not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// No live session of that name, or none at all.
    #[error("there is no such open session")]
    Unknown,
    /// Several are open and none was named.
    #[error("several sessions are open; name one")]
    Ambiguous,
    /// Both persons agreed; the pairing is being stored.
    #[error("both sides have agreed already; remove the device afterwards if you do not want it")]
    TooLate,
}
