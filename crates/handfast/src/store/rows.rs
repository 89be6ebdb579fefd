//! The rows of the store and their JSON form: types of this boundary alone, so that the types inside stay free of it.

use data_encoding::HEXLOWER;
use handfast_proto::addr::Address;
use handfast_proto::id::{DeviceKey, Identity, PairingId};
use handfast_proto::link::{PairState, Peer, Tombstone};
use handfast_proto::portmap::Mapping;
use handfast_proto::secret::Secret;
use handfast_proto::session::{PeerCard, Role};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::info::{DeviceName, DeviceType};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::StoreError;

/// A pairing with everything remembered about it.
#[derive(Clone)]
pub(crate) struct PeerRow {
    pub(crate) pairing_id: PairingId,
    pub(crate) key: DeviceKey,
    pub(crate) role: Role,
    pub(crate) state: PairState,
    pub(crate) secret: Secret<32>,
    /// The name it claims.
    pub(crate) name: String,
    /// The name it was given here.
    pub(crate) label: Option<String>,
    pub(crate) kind: DeviceType,
    /// When the pairing was made, on our wall clock.
    pub(crate) since: UnixTime,
    pub(crate) last_seen: Option<UnixTime>,
    pub(crate) path: Option<String>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) clock_offset: i64,
}

#[derive(Serialize, Deserialize)]
struct PeerJson {
    pairing_id: String,
    key: String,
    role: String,
    state: String,
    #[serde(with = "secret_text")]
    secret: Zeroizing<String>,
    name: String,
    label: Option<String>,
    kind: String,
    since: u64,
    last_seen: Option<u64>,
    path: Option<String>,
    addresses: Vec<String>,
    clock_offset: i64,
}

#[derive(Serialize, Deserialize)]
struct TombstoneJson {
    pairing_id: String,
    peer: String,
    #[serde(with = "secret_text")]
    tag: Zeroizing<String>,
    seq: u64,
}

/// A secret in text form that is zeroed when the row is dropped.
mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

impl PeerRow {
    /// The name to show: the one given here, else the one it claims.
    pub(crate) fn shown_name(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }

    /// Whether `newer` is another pairing with the same device.
    pub(super) fn is_replaced_by(&self, newer: &PeerRow) -> bool {
        self.key == newer.key && self.pairing_id != newer.pairing_id
    }

    /// What the links need of it.
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

    /// How it is shown in events.
    pub(crate) fn card(&self) -> PeerCard {
        PeerCard { key: self.key, name: DeviceName::clean(self.shown_name()), kind: self.kind }
    }

    pub(super) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let json = PeerJson {
            pairing_id: HEXLOWER.encode(&self.pairing_id.0),
            key: HEXLOWER.encode(&self.key.0),
            role: self.role.name().to_owned(),
            state: self.state.name().to_owned(),
            secret: Zeroizing::new(HEXLOWER.encode(self.secret.expose())),
            name: self.name.clone(),
            label: self.label.clone(),
            kind: self.kind.name().to_owned(),
            since: self.since.0,
            last_seen: self.last_seen.map(|t| t.0),
            path: self.path.clone(),
            addresses: self.addresses.iter().map(Address::to_string).collect(),
            clock_offset: self.clock_offset,
        };
        serde_json::to_vec(&json).map(Zeroizing::new).map_err(|_| StoreError::Row("cannot be written"))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<PeerRow, StoreError> {
        let json: PeerJson = serde_json::from_slice(bytes).map_err(|_| StoreError::Row("not a pairing"))?;
        let role = match json.role.as_str() {
            "initiator" => Role::Initiator,
            "joiner" => Role::Joiner,
            _ => return Err(StoreError::Row("unknown role")),
        };
        let state = match json.state.as_str() {
            "pending" => PairState::Pending,
            "paired" => PairState::Paired,
            _ => return Err(StoreError::Row("unknown state")),
        };
        Ok(PeerRow {
            pairing_id: PairingId(unhex(&json.pairing_id)?),
            key: DeviceKey(unhex(&json.key)?),
            role,
            state,
            secret: Secret::new(unhex(&json.secret)?),
            name: json.name,
            label: json.label,
            kind: DeviceType::from_name(&json.kind),
            since: UnixTime(json.since),
            last_seen: json.last_seen.map(UnixTime),
            path: json.path,
            addresses: json.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            clock_offset: json.clock_offset,
        })
    }
}

pub(super) fn identity(bytes: &[u8]) -> Result<Identity, StoreError> {
    let seed: [u8; 32] = bytes.try_into().map_err(|_| StoreError::Row("not an identity"))?;
    Ok(Identity::from_seed(Secret::new(seed)))
}

pub(super) fn tombstone_bytes(tombstone: &Tombstone) -> Zeroizing<Vec<u8>> {
    let json = TombstoneJson {
        pairing_id: HEXLOWER.encode(&tombstone.pairing_id.0),
        peer: HEXLOWER.encode(&tombstone.peer.0),
        tag: Zeroizing::new(HEXLOWER.encode(tombstone.tag.expose())),
        seq: tombstone.seq,
    };
    Zeroizing::new(serde_json::to_vec(&json).expect("strings and numbers always serialize"))
}

pub(super) fn tombstone(bytes: &[u8]) -> Result<Tombstone, StoreError> {
    let json: TombstoneJson = serde_json::from_slice(bytes).map_err(|_| StoreError::Row("not a tombstone"))?;
    Ok(Tombstone {
        pairing_id: PairingId(unhex(&json.pairing_id)?),
        peer: DeviceKey(unhex(&json.peer)?),
        tag: Secret::new(unhex(&json.tag)?),
        seq: json.seq,
    })
}

/// One after the other, as `proto` has them.
pub(super) fn mappings_bytes(mappings: &[Mapping]) -> Vec<u8> {
    mappings.iter().flat_map(Mapping::to_bytes).collect()
}

pub(super) fn mappings(bytes: &[u8]) -> Result<Vec<Mapping>, StoreError> {
    let (chunks, rest) = bytes.as_chunks::<{ Mapping::LEN }>();
    if !rest.is_empty() {
        return Err(StoreError::Row("not mappings"));
    }
    chunks.iter().map(|chunk| Mapping::from_bytes(chunk).map_err(|_| StoreError::Row("not a mapping"))).collect()
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], StoreError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| StoreError::Row("not hex"))?;
    bytes.as_slice().try_into().map_err(|_| StoreError::Row("wrong length"))
}
