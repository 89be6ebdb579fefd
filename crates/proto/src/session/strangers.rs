//! Who has opened a pairing stream and proven nothing: how many of them may wait, and how many are heard each second
//! (protocol, section 12). A valid tag is looked for first, so whoever has the code never waits behind them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::addr::Subscriber;
use crate::id::StreamId;
use crate::limits;
use crate::session::Inbound;
use crate::time::Time;

/// What one handshake without a valid tag takes from the allowance.
const INTERVAL: Duration = Duration::from_millis(1_000 / limits::STRANGERS_PER_SECOND as u64);

/// The streams of strangers.
#[derive(Default)]
pub(super) struct Strangers {
    /// Streams whose first frame is due. Their ids ascend as they were opened.
    fresh: BTreeMap<StreamId, Inbound>,
    allowance: Allowance,
}

/// How many handshakes that prove nothing are heard: a token bucket.
#[derive(Default)]
pub(super) struct Allowance {
    /// When it will be full again; it is empty a whole burst before that.
    full_at: Time,
}

impl Allowance {
    /// Whether one more is heard now. Each counts, whoever began it.
    pub(super) fn hear(&mut self, now: Time) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        if full_at.since(now) > INTERVAL * limits::STRANGER_BURST {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

impl Strangers {
    /// Somebody opened a stream. Gives the one that must go for it, if one must.
    pub(super) fn arrived(&mut self, stream: StreamId, from: Inbound) -> Option<StreamId> {
        let subscriber = Subscriber::of(from.address.ip);
        let mut same = self.fresh.iter().filter(|(_, other)| Subscriber::of(other.address.ip) == subscriber);
        let oldest_of_same = same.next().map(|(id, _)| *id);
        let oldest = if same.count() + 1 >= limits::MAX_FRESH_PER_SUBSCRIBER {
            oldest_of_same
        } else if self.fresh.len() >= limits::MAX_FRESH {
            self.fresh.first_key_value().map(|(id, _)| *id)
        } else {
            None
        };
        if let Some(oldest) = oldest {
            self.fresh.remove(&oldest);
        }
        self.fresh.insert(stream, from);
        oldest
    }

    /// Takes a stream out: its first frame came, or it ended.
    pub(super) fn take(&mut self, stream: StreamId) -> Option<Inbound> {
        self.fresh.remove(&stream)
    }

    /// Whether one more handshake without a valid tag is heard now. Each counts, whoever began it.
    pub(super) fn hear(&mut self, now: Time) -> bool {
        self.allowance.hear(now)
    }

    /// Streams that wait.
    pub(super) fn len(&self) -> usize {
        self.fresh.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Path;
    use crate::id::Tid;

    fn from(host: u8) -> Inbound {
        let address = format!("/ip4/5.1.1.{host}/tcp/4000").parse().expect("an address");
        Inbound { tid: Tid([host; 32]), address, path: Path::Direct, local: None }
    }

    #[test]
    fn a48_a_subscriber_has_four_waiting_streams_and_all_have_32_the_newest_of_them() {
        let mut strangers = Strangers::default();
        let dropped: Vec<u64> = (0..10).filter_map(|n| strangers.arrived(StreamId(n), from(1))).map(|s| s.0).collect();
        assert_eq!(dropped, [0, 1, 2, 3, 4, 5]);
        let dropped: Vec<u64> =
            (10..50).filter_map(|n| strangers.arrived(StreamId(n), from(n as u8))).map(|s| s.0).collect();
        assert_eq!(dropped, [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(strangers.len(), limits::MAX_FRESH);
        assert!(strangers.take(StreamId(17)).is_none() && strangers.take(StreamId(18)).is_some());
    }

    #[test]
    fn a13_twenty_are_heard_at_once_and_then_five_a_second() {
        let mut strangers = Strangers::default();
        let mut heard = |at: Duration| (0..1_000).filter(|_| strangers.hear(Time::at(at))).count();
        assert_eq!(heard(Duration::from_secs(7)), 20);
        assert_eq!(heard(Duration::from_secs(7)), 0);
        assert_eq!(heard(Duration::from_secs(8)), 5);
        assert_eq!(heard(Duration::from_millis(8_199)), 0);
        assert_eq!(heard(Duration::from_millis(8_200)), 1);
        assert_eq!(heard(Duration::from_secs(60)), 20, "never more than a burst");
    }
}
