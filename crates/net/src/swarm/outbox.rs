//! Events of the swarm on their way to the owner.

use tokio::sync::mpsc;

use crate::api::NetEvent;
use crate::backlog::Backlog;

/// Events in the channel to the owner; one batch of a busy moment.
pub(crate) const EVENT_QUEUE: usize = 256;

/// Events kept beside the channel before the swarm and the streams are left unread, so that peers feel the owner's pace.
const SOFT_LIMIT: usize = 256;

/// Events kept before commands are left unread too: answers to commands come on top of the soft limit.
const HARD_LIMIT: usize = 4_096;

/// The queue in front of the owner's channel.
pub(crate) struct Outbox {
    backlog: Backlog<NetEvent>,
}

impl Outbox {
    pub(crate) fn new(channel: mpsc::Sender<NetEvent>) -> Outbox {
        Outbox { backlog: Backlog::new(channel) }
    }

    /// Queues an event.
    pub(crate) fn push(&mut self, event: NetEvent) {
        self.backlog.push(event);
    }

    /// Hands over what fits without waiting.
    pub(crate) fn flush(&mut self) {
        self.backlog.flush();
    }

    /// Waits until one event could be handed over; `false` when nobody listens any more.
    pub(crate) async fn hand_over(&mut self) -> bool {
        self.backlog.hand_over().await
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Whether the network may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.backlog.len() < SOFT_LIMIT
    }

    /// Whether commands may be read.
    pub(crate) fn takes_commands(&self) -> bool {
        self.backlog.len() < HARD_LIMIT
    }
}
