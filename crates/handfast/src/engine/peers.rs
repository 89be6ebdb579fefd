//! The pairings in memory: the mirror of the store that answers without waiting for the disk.

use std::collections::BTreeMap;

use handfast_proto::cause::Cause;
use handfast_proto::id::{DeviceKey, PairingId};
use handfast_proto::limits;
use handfast_proto::link::PairState;
use handfast_proto::wire::info;

use crate::Error;
use crate::engine::command::Reply;
use crate::event::{DeviceCard, DeviceName};
use crate::handle::RoundTrip;
use crate::status::{DeviceEntry, SessionEntry, rfc3339};
use crate::store::PeerRow;

/// Fewest characters of an id that name a device.
const MIN_ID_PREFIX: usize = 4;

/// The pairings of this device.
pub(crate) struct Peers(BTreeMap<PairingId, PeerRow>);

impl Peers {
    pub(crate) fn new(rows: Vec<PeerRow>) -> Peers {
        Peers(rows.into_iter().map(|r| (r.pairing_id, r)).collect())
    }

    pub(crate) fn get(&self, id: PairingId) -> Option<&PeerRow> {
        self.0.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: PairingId) -> Option<&mut PeerRow> {
        self.0.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, row: PeerRow) {
        self.0.insert(row.pairing_id, row);
    }

    pub(crate) fn remove(&mut self, id: PairingId) -> Option<PeerRow> {
        self.0.remove(&id)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= limits::MAX_PAIRINGS
    }

    /// The paired ones; pending ones stand in `pair status`.
    pub(crate) fn paired(&self) -> impl Iterator<Item = &PeerRow> {
        self.0.values().filter(|r| r.state == PairState::Paired)
    }

    /// The ones that are stored here and perhaps not on the other side.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &PeerRow> {
        self.0.values().filter(|r| r.state == PairState::Pending)
    }

    /// The paired device with this key.
    pub(crate) fn with_key(&self, key: DeviceKey) -> Option<&PeerRow> {
        self.paired().find(|r| r.key == key)
    }

    /// A paired device with this name and another key.
    pub(crate) fn with_name(&self, name: &str, other_than: DeviceKey) -> Option<&PeerRow> {
        self.paired().find(|r| r.key != other_than && (r.shown_name() == name || r.name == name))
    }

    /// The device that a person means: by name, id or a unique beginning of it, or fingerprint.
    pub(crate) fn find(&self, text: &str) -> Result<PairingId, Error> {
        let plain = text.replace([' ', '-'], "").to_ascii_lowercase();
        let is_named = |r: &&PeerRow| {
            let id = r.key.id().0;
            r.shown_name() == text || (plain.len() >= MIN_ID_PREFIX && id.starts_with(&plain))
        };
        let mut fitting = self.paired().filter(is_named);
        let first = fitting.next().ok_or_else(|| {
            Error::because(Cause::Usage, format!("no paired device is called \"{text}\""))
                .with_hint("`handfast devices` lists them")
        })?;
        if fitting.next().is_some() {
            return Err(Error::because(Cause::Usage, format!("several paired devices fit \"{text}\""))
                .with_hint("name it by the beginning of its fingerprint: `handfast devices` shows them"));
        }
        Ok(first.pairing_id)
    }

    /// How a device is named in events.
    pub(crate) fn name_of(&self, id: PairingId) -> Option<DeviceName> {
        self.get(id).map(|r| DeviceName { id: r.key.id().0, name: r.shown_name().to_owned() })
    }
}

/// The list form of a row.
pub(crate) fn entry(row: &PeerRow, connected: Option<&str>) -> DeviceEntry {
    DeviceEntry {
        id: row.key.id().0,
        name: row.shown_name().to_owned(),
        kind: row.kind.name().to_owned(),
        fingerprint: row.key.fingerprint().0,
        paired_at: rfc3339(row.since.0),
        last_seen: row.last_seen.map(|t| rfc3339(t.0)),
        connected: connected.is_some(),
        path: connected.map(str::to_owned).or_else(|| row.path.clone()),
        addresses: row.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A pending pairing in the list of sessions, under the name its completion will have.
pub(crate) fn pending_entry(row: &PeerRow) -> SessionEntry {
    SessionEntry {
        session: pending_session(row.pairing_id),
        role: row.role.name().to_owned(),
        state: PairState::Pending.name().to_owned(),
        expires_at: Some(rfc3339(row.since.0.saturating_add(limits::PENDING.as_secs()))),
        device: Some(DeviceCard::from(&row.card())),
        path: row.path.clone(),
        comparison: None,
        cause: None,
    }
}

/// The session under which a pending pairing of an earlier session is completed.
pub(crate) fn pending_session(id: PairingId) -> String {
    data_encoding::HEXLOWER.encode(&id.0[..8])
}

/// A name that a person gives to a device.
pub(crate) fn label(name: &str) -> Result<String, Error> {
    let label = info::DeviceName::try_clean(name)
        .ok_or_else(|| Error::because(Cause::Usage, "a name needs at least one character that can be seen"))?;
    Ok(label.as_str().to_owned())
}

/// Who waits for which ping.
#[derive(Default)]
pub(super) struct Pings {
    next: u64,
    waiting: BTreeMap<u64, (PairingId, Reply<RoundTrip>)>,
}

impl Pings {
    pub(super) fn add(&mut self, id: PairingId, reply: Reply<RoundTrip>) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, (id, reply));
        self.next
    }

    pub(super) fn take(&mut self, token: u64) -> Option<(PairingId, Reply<RoundTrip>)> {
        self.waiting.remove(&token)
    }
}
