//! Events as programs see them: facts in the past tense with a number and a time, without secrets. The same JSON is
//! printed by every command with `--json` (`docs/interface.md`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use handfast_proto::cause::Cause;
use handfast_proto::lan::NearbyDevice;
use handfast_proto::sas::Sas;
use handfast_proto::session::PeerCard;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Version of the JSON form.
pub const EVENT_VERSION: u32 = 1;
/// Events kept for readers that come late or lag; a reader that needs more must follow from the start.
const KEPT: usize = 1024;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Version of this form.
    pub v: u32,
    /// Number of the event in this run of the device, from 1.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A code was made. Words and QR text are given to who asked for the code, never in the stream.
    CodeCreated {
        /// Which session.
        session: String,
        /// The twelve words; only in the output of `pair generate`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        words: Option<String>,
        /// The QR text; only in the output of `pair generate`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        qr: Option<String>,
        /// When its life ends, RFC 3339.
        expires_at: String,
    },
    /// The code can be found: its record lies on this many nodes.
    CodeAdvertised {
        /// Which session.
        session: String,
        /// Nodes of the DHT that stored it.
        nodes: usize,
    },
    /// A code was entered here.
    CodeEntered {
        /// Which session.
        session: String,
    },
    /// The other device was found.
    SessionDiscovered {
        /// Which session.
        session: String,
        /// `dht`, `qr` or `lan`.
        found_by: String,
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// A connection to the other device stands.
    Connected {
        /// Which session.
        session: String,
        /// `lan`, `direct` or `relay`.
        path: String,
        /// Multiaddress.
        address: String,
    },
    /// A person must answer.
    ApprovalNeeded {
        /// Which session.
        session: String,
        /// Who asks.
        device: DeviceCard,
        /// `lan`, `direct` or `relay`.
        path: String,
        /// Whether this device is paired already.
        known: bool,
        /// Something a person must see before answering: a known name with another key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    /// A person must say whether both devices show the same, with [`crate::Handle::compare`]. It is the session's only
    /// question.
    ComparisonNeeded {
        /// Which session.
        session: String,
        /// What is shown here.
        #[serde(flatten)]
        comparison: Comparison,
        /// `lan`, `direct` or `relay`.
        path: String,
    },
    /// A device that is ready to pair is near, or more is known of it than before. Nothing of it is proven.
    DeviceSeen {
        /// Which session of `pair nearby`.
        session: String,
        /// The device.
        #[serde(flatten)]
        device: SeenDevice,
    },
    /// A device that was seen near is not ready any more, or silent.
    DeviceGone {
        /// Which session of `pair nearby`.
        session: String,
        /// Its id in the list.
        id: String,
    },
    /// Our person has selected a device of the list.
    DeviceSelected {
        /// Which session of `pair nearby`.
        session: String,
        /// Its id in the list.
        id: String,
    },
    /// The comparison that a device nearby asked for was turned down here. The session goes on waiting for others.
    RequestRejected {
        /// Which session of `pair nearby`.
        session: String,
    },
    /// Both devices have stored the pairing.
    Paired {
        /// Which session.
        session: String,
        /// With whom.
        device: DeviceCard,
        /// `lan`, `direct` or `relay`.
        path: String,
        /// Since the joiner's start, or since the joiner reached the initiator.
        elapsed_ms: u64,
        /// Something a person must see: a known name with another key. There is no question to say it in after a
        /// comparison.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    /// The session ended without a pairing.
    PairingFailed {
        /// Which session; none if there was not even one.
        session: Option<String>,
        /// Why, by name.
        cause: String,
        /// The same name, as in findings.
        code: String,
        /// For people.
        text: String,
        /// The next step.
        hint: String,
        /// The exit code that goes with it.
        exit: u8,
    },
    /// A paired device is connected and has proved itself.
    DeviceConnected {
        /// Which device.
        device: DeviceName,
        /// `lan`, `direct` or `relay`.
        path: String,
        /// Multiaddress.
        address: String,
    },
    /// The link to a paired device runs another way: it was a relay, say, and is direct now. Nothing was lost.
    PathChanged {
        /// Which device.
        device: DeviceName,
        /// How it ran: `lan`, `direct` or `relay`.
        from: String,
        /// How it runs.
        to: String,
    },
    /// The last connection to a paired device is gone.
    DeviceDisconnected {
        /// Which device.
        device: DeviceName,
    },
    /// A device is no longer paired.
    DeviceRemoved {
        /// Which device.
        device: DeviceName,
        /// `us` or `them`.
        by: String,
    },
    /// A ping came back.
    Pong {
        /// Which device.
        device: DeviceName,
        /// Number of the ping, from 1.
        n: u32,
        /// Round trip in milliseconds.
        rtt_ms: f64,
        /// `lan`, `direct` or `relay`.
        path: String,
        /// Multiaddress.
        address: String,
    },
    /// The port or the addresses in the QR text of a session have changed: draw it anew. The code is the same.
    CodeRedrawn {
        /// Which session.
        session: String,
    },
    /// Something is known to be wrong while a session still looks for the other device. It may pair all the same.
    TroubleNoticed {
        /// Which session.
        session: String,
        /// What it would be called if the session ended with it: a cause of `pairing_failed`.
        cause: String,
        /// What is wrong.
        text: String,
        /// What to do about it.
        hint: String,
    },
    /// There is evidence that we can be reached at this address.
    AddressConfirmed {
        /// Multiaddress.
        address: String,
        /// `self_check` (by ourselves, which proves little) or `peer_confirmed`.
        evidence: String,
    },
    /// Others can no longer reach us at this address.
    AddressLost {
        /// Multiaddress.
        address: String,
        /// The evidence it had.
        evidence: String,
    },
}

/// What two people compare: the same on both devices, or somebody sits between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Seven emoji.
    pub emoji: Vec<String>,
    /// Their English names, in the same order.
    pub names: Vec<String>,
    /// The same as three numbers of four digits, separated by spaces.
    pub digits: String,
}

impl From<&Sas> for Comparison {
    fn from(sas: &Sas) -> Comparison {
        Comparison {
            emoji: sas.emoji().map(str::to_owned).to_vec(),
            names: sas.names().map(str::to_owned).to_vec(),
            digits: sas.digits(),
        }
    }
}

/// A device as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCard {
    /// Its id, the same on every peer.
    pub id: String,
    /// The name it claims, safe to show.
    pub name: String,
    /// The type it claims.
    #[serde(rename = "type")]
    pub kind: String,
    /// The short form of its key.
    pub fingerprint: String,
}

impl From<&PeerCard> for DeviceCard {
    fn from(card: &PeerCard) -> DeviceCard {
        DeviceCard {
            id: card.key.id().0,
            name: card.name.to_string(),
            kind: card.kind.name().to_owned(),
            fingerprint: card.key.fingerprint().0,
        }
    }
}

/// A device in the list of `pair nearby`, as far as it says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDevice {
    /// What it is called in this list: 12 hex digits, others each time.
    pub id: String,
    /// The name it gives itself, safe to show; none as long as it was not asked.
    pub name: Option<String>,
    /// Always false: anybody can send such a name.
    pub verified: bool,
    /// Its IP address.
    pub address: String,
}

impl From<&NearbyDevice> for SeenDevice {
    fn from(device: &NearbyDevice) -> SeenDevice {
        SeenDevice {
            id: device.nid.shown(),
            name: device.name.as_ref().map(ToString::to_string),
            verified: false,
            address: device.ip.to_string(),
        }
    }
}

/// A paired device, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceName {
    /// Its id.
    pub id: String,
    /// Its name here.
    pub name: String,
}

impl EventKind {
    /// The end of a session that failed.
    pub fn failed(session: Option<String>, cause: Cause) -> EventKind {
        EventKind::failed_because(session, &crate::Error::of(cause))
    }

    /// The end of a session that failed, or of a request that never became one.
    pub fn failed_because(session: Option<String>, error: &crate::Error) -> EventKind {
        EventKind::PairingFailed {
            session,
            cause: error.cause.name().to_owned(),
            code: error.cause.name().to_owned(),
            text: error.text.clone(),
            hint: error.hint.clone(),
            exit: error.exit(),
        }
    }

    /// Something that is known to be wrong while a session goes on.
    pub(crate) fn trouble(session: String, error: &crate::Error) -> EventKind {
        let (cause, text, hint) = (error.cause.name().to_owned(), error.text.clone(), error.hint.clone());
        EventKind::TroubleNoticed { session, cause, text, hint }
    }

    /// The name of the event, as in its JSON form.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::CodeCreated { .. } => "code_created",
            EventKind::CodeAdvertised { .. } => "code_advertised",
            EventKind::CodeEntered { .. } => "code_entered",
            EventKind::SessionDiscovered { .. } => "session_discovered",
            EventKind::Connected { .. } => "connected",
            EventKind::ApprovalNeeded { .. } => "approval_needed",
            EventKind::ComparisonNeeded { .. } => "comparison_needed",
            EventKind::DeviceSeen { .. } => "device_seen",
            EventKind::DeviceGone { .. } => "device_gone",
            EventKind::DeviceSelected { .. } => "device_selected",
            EventKind::RequestRejected { .. } => "request_rejected",
            EventKind::Paired { .. } => "paired",
            EventKind::PairingFailed { .. } => "pairing_failed",
            EventKind::DeviceConnected { .. } => "device_connected",
            EventKind::PathChanged { .. } => "path_changed",
            EventKind::DeviceDisconnected { .. } => "device_disconnected",
            EventKind::DeviceRemoved { .. } => "device_removed",
            EventKind::Pong { .. } => "pong",
            EventKind::CodeRedrawn { .. } => "code_redrawn",
            EventKind::TroubleNoticed { .. } => "trouble_noticed",
            EventKind::AddressConfirmed { .. } => "address_confirmed",
            EventKind::AddressLost { .. } => "address_lost",
        }
    }

    /// The session this event is about, if it is about one.
    pub fn session(&self) -> Option<&str> {
        match self {
            EventKind::CodeCreated { session, .. }
            | EventKind::CodeAdvertised { session, .. }
            | EventKind::CodeEntered { session }
            | EventKind::SessionDiscovered { session, .. }
            | EventKind::Connected { session, .. }
            | EventKind::ApprovalNeeded { session, .. }
            | EventKind::CodeRedrawn { session }
            | EventKind::TroubleNoticed { session, .. }
            | EventKind::ComparisonNeeded { session, .. }
            | EventKind::DeviceSeen { session, .. }
            | EventKind::DeviceGone { session, .. }
            | EventKind::DeviceSelected { session, .. }
            | EventKind::RequestRejected { session }
            | EventKind::Paired { session, .. } => Some(session),
            EventKind::PairingFailed { session, .. } => session.as_deref(),
            EventKind::DeviceConnected { .. }
            | EventKind::PathChanged { .. }
            | EventKind::DeviceDisconnected { .. }
            | EventKind::DeviceRemoved { .. }
            | EventKind::Pong { .. }
            | EventKind::AddressConfirmed { .. }
            | EventKind::AddressLost { .. } => None,
        }
    }

    /// Whether this event is the last one of its session.
    pub fn is_terminal(&self) -> bool {
        matches!(self, EventKind::Paired { .. } | EventKind::PairingFailed { .. })
    }
}

/// The current time as RFC 3339 with milliseconds, UTC.
pub fn now_rfc3339() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Stamps events, keeps the last [`KEPT`] and hands them to any number of readers, none of which can hold it up. The
/// device owns it: when it is gone, every reader comes to its end.
pub(crate) struct Hub {
    log: Arc<Mutex<Log>>,
    live: broadcast::Sender<Arc<Event>>,
}

/// Where readers subscribe.
#[derive(Clone)]
pub(crate) struct Feed {
    log: Arc<Mutex<Log>>,
    live: broadcast::WeakSender<Arc<Event>>,
}

struct Log {
    next: u64,
    kept: VecDeque<Arc<Event>>,
}

impl Hub {
    pub(crate) fn new() -> Hub {
        let (live, _) = broadcast::channel(KEPT);
        Hub { log: Arc::new(Mutex::new(Log { next: 1, kept: VecDeque::new() })), live }
    }

    pub(crate) fn publish(&self, kind: EventKind) {
        let mut log = lock(&self.log);
        let event = Arc::new(Event { v: EVENT_VERSION, seq: log.next, time: now_rfc3339(), kind });
        tracing::info!(seq = event.seq, session = event.kind.session(), "{}", event.kind.name());
        tracing::debug!(event = ?event.kind, "event");
        log.next += 1;
        log.kept.push_back(Arc::clone(&event));
        if log.kept.len() > KEPT {
            log.kept.pop_front();
        }
        // Nobody listening is no error.
        let _ = self.live.send(event);
    }

    pub(crate) fn feed(&self) -> Feed {
        Feed { log: Arc::clone(&self.log), live: self.live.downgrade() }
    }

    /// The number of the newest event.
    pub(crate) fn last_seq(&self) -> u64 {
        lock(&self.log).next - 1
    }
}

impl Feed {
    /// A reader of every event after `since`, as far as they are kept.
    pub(crate) fn subscribe(&self, since: u64) -> EventStream {
        let log = lock(&self.log);
        let live = match self.live.upgrade() {
            Some(live) => live.subscribe(),
            // The device has stopped: a channel without a sender ends after what is kept.
            None => broadcast::channel(1).1,
        };
        let missed = log.kept.iter().filter(|e| e.seq > since).cloned().collect();
        EventStream { log: Arc::clone(&self.log), missed, live, last: since }
    }

    /// The number of the newest event.
    pub(crate) fn last_seq(&self) -> u64 {
        lock(&self.log).next - 1
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events in order. A reader that was too slow continues with the oldest event that is still kept: the gap shows in
/// `seq`.
pub struct EventStream {
    log: Arc<Mutex<Log>>,
    missed: VecDeque<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
    last: u64,
}

impl EventStream {
    /// The next event; `None` when the device has stopped and everything was read.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = match self.missed.pop_front() {
                Some(event) => event,
                None => match self.live.recv().await {
                    Ok(event) => event,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let log = lock(&self.log);
                        self.live = self.live.resubscribe();
                        self.missed = log.kept.iter().filter(|e| e.seq > self.last).cloned().collect();
                        continue;
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            };
            if event.seq > self.last {
                self.last = event.seq;
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(n: u64) -> EventKind {
        EventKind::CodeEntered { session: n.to_string() }
    }

    #[tokio::test]
    async fn b6_every_subscriber_gets_every_event_and_a_slow_one_holds_nobody_up() {
        let hub = Hub::new();
        let mut slow = hub.feed().subscribe(0);
        hub.publish(entered(1));
        let mut late = hub.feed().subscribe(0);
        assert_eq!(late.next().await.map(|e| e.seq), Some(1));
        for n in 2..=(KEPT as u64 * 3) {
            hub.publish(entered(n));
        }
        let first = slow.next().await.map(|e| e.seq).expect("an event");
        assert!(first > 1, "the gap shows");
        let mut last = first;
        while last < KEPT as u64 * 3 {
            let next = slow.next().await.map(|e| e.seq).expect("an event");
            assert_eq!(next, last + 1);
            last = next;
        }
    }

    #[tokio::test]
    async fn readers_come_to_their_end_when_the_device_is_gone() {
        let hub = Hub::new();
        let feed = hub.feed();
        let mut early = feed.subscribe(0);
        hub.publish(entered(1));
        drop(hub);
        let mut late = feed.subscribe(0);
        for reader in [&mut early, &mut late] {
            assert_eq!(reader.next().await.map(|e| e.seq), Some(1));
            assert_eq!(reader.next().await, None);
        }
    }

    #[test]
    fn the_json_form_is_flat_and_names_the_event() {
        let kind = EventKind::failed(None, Cause::CodeMalformed);
        let event = Event { v: 1, seq: 7, time: "2026-01-01T00:00:00.000Z".to_owned(), kind };
        let json = serde_json::to_value(&event).expect("json");
        assert_eq!(json["event"], event.kind.name());
        assert_eq!(json["session"], serde_json::Value::Null);
        assert_eq!(json["exit"], 3);
        assert_eq!(serde_json::from_value::<Event>(json).expect("event"), event);
    }
}
