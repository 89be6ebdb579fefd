//! Events on their way to the owner. What answers a command or a call is never dropped; datagrams are, when the owner
//! is slow: each is sent again, and whoever floods must not make the answers wait.

use handfast_proto::lan::io::Event;
use tokio::sync::mpsc;

use crate::backlog::Backlog;

/// Events in the channel to the owner.
pub(super) const EVENT_QUEUE: usize = 256;

/// Places in the channel that datagrams leave free for everything else.
const RESERVED: usize = 64;

/// Events kept beside the channel before commands are left unread and calls that come in are refused. On top of them
/// come only the results of calls that run, which are few, and the surroundings, kept once.
const LIMIT: usize = 256;

/// The queue in front of the owner's channel.
pub(super) struct Outbox {
    backlog: Backlog<Event>,
    dropped: u64,
}

impl Outbox {
    pub(super) fn new(channel: mpsc::Sender<Event>) -> Outbox {
        Outbox { backlog: Backlog::new(channel), dropped: 0 }
    }

    /// Queues an event that must arrive. Surroundings that have not been handed over yet are replaced by newer ones.
    pub(super) fn push(&mut self, event: Event) {
        if matches!(event, Event::Surroundings(_)) {
            self.backlog.retain(|e| !matches!(e, Event::Surroundings(_)));
        }
        self.backlog.push(event);
        self.flush();
    }

    /// Queues an event that strangers cause; `false`, and dropped, while the owner is far behind.
    pub(super) fn push_if_room(&mut self, event: Event) -> bool {
        let room = self.backlog.len() < LIMIT;
        if room {
            self.push(event);
        }
        room
    }

    /// Tells an event now, or drops it if the owner is behind.
    pub(super) fn offer(&mut self, event: Event) {
        if !self.backlog.send_now(event, RESERVED) {
            self.dropped += 1;
        }
    }

    /// Hands over what fits without waiting.
    pub(super) fn flush(&mut self) {
        self.backlog.flush();
    }

    /// Waits until one event could be handed over; `false` when nobody listens any more.
    pub(super) async fn hand_over(&mut self) -> bool {
        self.backlog.hand_over().await
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// Whether commands may be read.
    pub(super) fn takes_commands(&self) -> bool {
        self.backlog.len() < LIMIT
    }

    /// How many events have been dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use handfast_proto::lan::io::{Addressed, CallFailure, CallId, Datagram, Surroundings};

    use super::*;

    fn datagram() -> Event {
        Event::Received(Datagram {
            interface: 1,
            source: (Ipv4Addr::LOCALHOST, 1).into(),
            addressed: Addressed::Group,
            hop_limit: 255,
            bytes: vec![0; 112],
        })
    }

    #[test]
    fn an_owner_that_does_not_read_loses_datagrams_and_no_result() {
        let (sender, mut receiver) = mpsc::channel(EVENT_QUEUE);
        let mut out = Outbox::new(sender);
        for _ in 0..1_000 {
            out.offer(datagram());
        }
        for n in 0..300 {
            out.push(Event::CallDone(CallId(n), Err(CallFailure::TimedOut)));
        }
        assert_eq!(out.take_dropped(), 1_000 - (EVENT_QUEUE - RESERVED) as u64);
        assert!(out.takes_commands());
        let mut results = Vec::new();
        let mut datagrams = 0;
        while let Ok(event) = receiver.try_recv() {
            if let Event::CallDone(id, _) = event {
                results.push(id.0);
            } else {
                assert!(matches!(event, Event::Received(_)), "{event:?}");
                datagrams += 1;
            }
            out.flush();
        }
        assert_eq!(results, (0..300).collect::<Vec<_>>());
        assert_eq!(datagrams, EVENT_QUEUE - RESERVED);
    }

    #[test]
    fn only_the_newest_surroundings_wait() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut out = Outbox::new(sender);
        out.push(Event::CallDone(CallId(0), Err(CallFailure::TimedOut)));
        for n in 0..10 {
            out.push(Event::Surroundings(Surroundings { errors: vec![n.to_string()], ..Surroundings::default() }));
        }
        let mut told = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            told.push(event);
            out.flush();
        }
        assert_eq!(told.len(), 2);
        assert!(matches!(&told[1], Event::Surroundings(s) if s.errors == ["9"]), "{told:?}");
    }

    #[test]
    fn commands_and_callers_wait_while_many_answers_do() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut out = Outbox::new(sender);
        for n in 0..=LIMIT as u64 {
            out.push(Event::CallDone(CallId(n), Err(CallFailure::TimedOut)));
        }
        assert!(!out.takes_commands());
        assert!(!out.push_if_room(datagram()));
        assert!(receiver.try_recv().is_ok());
        out.flush();
        assert!(out.takes_commands());
        assert!(out.push_if_room(datagram()));
        assert_eq!(out.backlog.len(), LIMIT);
    }
}
