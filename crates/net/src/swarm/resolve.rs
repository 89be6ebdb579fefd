//! Looks up the names of bootstrap nodes with the system's resolver, in a bounded time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::anchors::Resolve;

/// Time for one lookup; the node is tried again later.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Addresses taken from one answer.
const MAX_ANSWERS: usize = 16;

/// The answer to a lookup; empty when there is none.
pub(crate) struct Resolved {
    pub(crate) seed: usize,
    pub(crate) place: usize,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Looks a name up and sends the answer.
pub(crate) fn spawn(request: Resolve, answers: mpsc::Sender<Resolved>) {
    tokio::spawn(async move {
        let lookup = tokio::net::lookup_host((request.name.as_str(), request.port));
        let addresses = match timeout(LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) => found.take(MAX_ANSWERS).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        // Fails only when the network has ended meanwhile.
        let _ = answers.send(Resolved { seed: request.seed, place: request.place, addresses }).await;
    });
}
