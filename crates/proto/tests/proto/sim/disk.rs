//! The store of a device: what survives a crash, and the changes on their way to it, which do not.

use std::collections::{BTreeMap, VecDeque};

use handfast_proto::addr::Address;
use handfast_proto::id::{DeviceKey, JobId, PairingId};
use handfast_proto::link::{PairState, Peer, Tombstone};
use handfast_proto::secret::Secret;
use handfast_proto::session::{PendingPairing, Role};
use handfast_proto::time::UnixTime;

/// A pairing as it is stored.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) pairing_id: PairingId,
    pub(crate) key: DeviceKey,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) state: PairState,
    pub(crate) secret: Secret<32>,
    pub(crate) since: UnixTime,
    pub(crate) addresses: Vec<Address>,
    pub(crate) clock_offset: i64,
}

impl Row {
    pub(crate) fn pending(pending: PendingPairing, now: UnixTime) -> Row {
        let PendingPairing { agreement, role, addresses, .. } = pending;
        Row {
            pairing_id: agreement.pairing_id,
            key: agreement.peer,
            name: agreement.info.name.to_string(),
            role,
            state: PairState::Pending,
            secret: agreement.pair_secret,
            since: now,
            addresses,
            clock_offset: agreement.info.clock.map_or(0, |theirs| now.offset_to(theirs)),
        }
    }

    pub(crate) fn to_peer(&self) -> Peer {
        Peer {
            pairing_id: self.pairing_id,
            key: self.key,
            role: self.role,
            state: self.state,
            secret: self.secret.clone(),
            clock_offset: self.clock_offset,
            addresses: self.addresses.clone(),
            since: self.since,
        }
    }
}

/// Which machine waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Table,
    Links,
}

/// A change to make durable.
#[derive(Clone)]
pub(crate) enum Change {
    Put(Box<Row>),
    Paired(PairingId),
    Delete(PairingId, Option<Box<Tombstone>>),
    Acknowledged(PairingId),
}

impl Change {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Change::Put(row) if row.state == PairState::Pending => "put pending",
            Change::Put(_) => "put paired",
            Change::Paired(_) => "paired",
            Change::Delete(_, None) => "delete",
            Change::Delete(_, Some(_)) => "delete with tombstone",
            Change::Acknowledged(_) => "acknowledged",
        }
    }
}

/// A change and who asked for it.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) owner: Owner,
    pub(crate) job: JobId,
    pub(crate) change: Change,
}

/// What is on the disk.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) rows: BTreeMap<PairingId, Row>,
    pub(crate) tombstones: BTreeMap<PairingId, Tombstone>,
    pub(crate) starts: u32,
}

impl Disk {
    /// Makes a change durable. False: the change is impossible.
    ///
    /// Two pairings of the same two devices stand side by side here. Which of them a store keeps is the store's affair
    /// and says nothing about the machines.
    pub(crate) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Put(row) => {
                self.rows.insert(row.pairing_id, (**row).clone());
            }
            Change::Paired(id) => match self.rows.get_mut(id) {
                Some(row) => row.state = PairState::Paired,
                None => return false,
            },
            Change::Delete(id, tombstone) => {
                self.rows.remove(id);
                if let Some(tombstone) = tombstone {
                    self.tombstones.insert(*id, (**tombstone).clone());
                }
            }
            Change::Acknowledged(id) => {
                self.tombstones.remove(id);
            }
        }
        true
    }
}

/// Changes on their way.
#[derive(Default)]
pub(crate) struct Writes {
    pub(crate) queue: VecDeque<Write>,
    pub(crate) busy: bool,
}
