//! Events on their way to the owner. The driver never waits for the owner: an owner that waits for room in the command
//! queue while the driver waits for room in the event queue would be a deadlock.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::api::NetEvent;

/// Events in the channel to the owner; one batch of a busy moment.
pub(crate) const EVENT_QUEUE: usize = 256;

/// Events kept beside the channel before the swarm and the streams are left unread, so that peers feel the owner's pace.
const SOFT_LIMIT: usize = 256;

/// Events kept before commands are left unread too: answers to commands come on top of the soft limit.
const HARD_LIMIT: usize = 4_096;

/// The queue in front of the owner's channel.
pub(crate) struct Outbox {
    queue: VecDeque<NetEvent>,
    channel: mpsc::Sender<NetEvent>,
}

impl Outbox {
    pub(crate) fn new(channel: mpsc::Sender<NetEvent>) -> Outbox {
        Outbox { queue: VecDeque::new(), channel }
    }

    /// Queues an event.
    pub(crate) fn push(&mut self, event: NetEvent) {
        self.queue.push_back(event);
    }

    /// Hands over what fits without waiting.
    pub(crate) fn flush(&mut self) {
        while !self.queue.is_empty() {
            let Ok(permit) = self.channel.try_reserve() else {
                return;
            };
            if let Some(event) = self.queue.pop_front() {
                permit.send(event);
            }
        }
    }

    /// Waits until one event could be handed over; `false` when nobody listens any more.
    pub(crate) async fn hand_over(&mut self) -> bool {
        match self.channel.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.queue.pop_front() {
                    permit.send(event);
                }
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the network may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < SOFT_LIMIT
    }

    /// Whether commands may be read.
    pub(crate) fn takes_commands(&self) -> bool {
        self.queue.len() < HARD_LIMIT
    }
}
