//! Events that wait for room in the channel to the owner. A driver never waits for its owner: an owner that waits for
//! room in the command queue while the driver waits for room in the event queue would be a deadlock.

use std::collections::VecDeque;

use tokio::sync::mpsc;

/// A queue in front of a channel. Whoever owns it bounds it.
pub(crate) struct Backlog<T> {
    queue: VecDeque<T>,
    channel: mpsc::Sender<T>,
}

impl<T> Backlog<T> {
    pub(crate) fn new(channel: mpsc::Sender<T>) -> Backlog<T> {
        Backlog { queue: VecDeque::new(), channel }
    }

    pub(crate) fn push(&mut self, event: T) {
        self.queue.push_back(event);
    }

    /// Takes out what is not to be told any more.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.queue.retain(keep);
    }

    /// Sends past the queue if nothing waits and more than this many places of the channel are free; `false` if not.
    pub(crate) fn send_now(&mut self, event: T, reserved: usize) -> bool {
        self.queue.is_empty() && self.channel.capacity() > reserved && self.channel.try_send(event).is_ok()
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

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
