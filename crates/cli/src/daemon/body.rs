//! Bodies of requests: bounded in size and time, JSON whatever the client calls it (so that `curl -d` works), and no
//! part of them in an error, since a body may hold a code.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use handfast::{Cause, Error};
use serde::de::DeserializeOwned;

use super::api::Refusal;

/// Longest body: the longest one that makes sense has some hundred bytes.
const BODY_MAX: usize = 64 * 1024;

/// Longest wait for the whole body: it comes from a process on the same machine.
const BODY_WAIT: Duration = Duration::from_secs(5);

/// A JSON body; an empty one counts as `{}`.
pub(super) struct Body<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let refuse = |text: &str| Refusal(Error::because(Cause::Usage, text).with_hint("see docs/control.md"));
        let read = axum::body::to_bytes(request.into_body(), BODY_MAX);
        let bytes = match tokio::time::timeout(BODY_WAIT, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => return Err(refuse("the body is too long or was cut off")),
            Err(_) => return Err(refuse("the body did not come in time")),
        };
        let text = if bytes.is_empty() { b"{}" } else { bytes.as_ref() };
        // The parser's own message quotes what it has read.
        serde_json::from_slice(text).map(Body).map_err(|_| refuse("the body is not the JSON object this request takes"))
    }
}
