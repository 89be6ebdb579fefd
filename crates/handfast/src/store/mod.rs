//! What a device remembers: its identity, its pairings, the tombstones of ended ones. One redb file, every value sealed
//! under a key of its own file, every change on disk before anybody hears of it.
//!
//! The key file is what a passphrase will wrap; a copy of the database alone tells nobody anything.

mod db;
pub(crate) mod files;
mod rows;
pub(crate) mod worker;

use std::path::Path;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use handfast_proto::addr::Address;
use handfast_proto::cause::Cause;
use handfast_proto::id::{Identity, PairingId};
use handfast_proto::limits;
use handfast_proto::link::{PairState, Tombstone};
use handfast_proto::portmap::Mapping;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::time::UnixTime;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use zeroize::Zeroizing;

use crate::Error;
use db::{Db, Opener};
use files::FilesError;
pub(crate) use rows::PeerRow;

/// Version of what is in the file. A newer one is refused.
const FORMAT: u64 = 1;

/// Plain numbers: `format`, `start`, `udp_port`, `tcp_port`.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Sealed rows: `identity`, `mappings`, `peer/<hex>`, `tombstone/<hex>`.
const SEALED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sealed");
/// How the names of the rows of pairings and of tombstones begin.
const PEER: &str = "peer/";
/// The row of the ports that routers have mapped for us.
const MAPPINGS: &str = "mappings";
/// See [`PEER`].
const TOMBSTONE: &str = "tombstone/";

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the store cannot be read or written: {0}")]
    Database(Box<redb::Error>),
    #[error("the store was written by a newer version of this program (format {0})")]
    Newer(u64),
    #[error("the store's key file is missing or does not fit the store")]
    Key,
    #[error("a row of the store is damaged: {0}")]
    Row(&'static str),
    #[error("a device has at most {} pairings", limits::MAX_PAIRINGS)]
    Full,
    #[error("there is no such pairing")]
    Unknown,
    #[error("a pairing of that name exists, or existed")]
    Exists,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Database(Box::new(error.into()))
    }
}

impl From<&StoreError> for Error {
    fn from(error: &StoreError) -> Error {
        match error {
            StoreError::Files(FilesError::Locked(_)) => Error::of(Cause::AlreadyRunning),
            StoreError::Newer(_) => Error::because(Cause::Storage, error).with_hint("update this program"),
            StoreError::Key => Error::because(Cause::Storage, error)
                .with_hint("put `store.key` back from a backup, or move the folder away to start as a new device"),
            StoreError::Row(_) => damaged(error),
            StoreError::Database(inner) if is_damage(inner) => damaged(error),
            StoreError::Files(_)
            | StoreError::Database(_)
            | StoreError::Full
            | StoreError::Unknown
            | StoreError::Exists => Error::because(Cause::Storage, error),
        }
    }
}

/// Whether the file holds something else than what was written to it.
fn is_damage(error: &redb::Error) -> bool {
    if let redb::Error::Io(error) = error {
        // A file that does not even begin as a database does.
        return error.kind() == std::io::ErrorKind::InvalidData;
    }
    matches!(error, redb::Error::Corrupted(_))
}

/// Neither free space nor permissions would help.
fn damaged(error: &StoreError) -> Error {
    Error::because(Cause::Storage, error)
        .with_hint("put the folder back from a backup, or move it away to start as a new device")
}

/// Everything a device starts with.
pub(crate) struct Loaded {
    pub(crate) identity: Identity,
    pub(crate) peers: Vec<PeerRow>,
    pub(crate) tombstones: Vec<Tombstone>,
    /// Counts the starts of this device, this one included.
    pub(crate) start: u32,
    /// Ports of the last run, 0 if none.
    pub(crate) ports: Ports,
    /// What routers may still map for us.
    pub(crate) mappings: Vec<Mapping>,
}

/// The ports a device listened on, to be found again where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) udp: u16,
    pub(crate) tcp: u16,
}

/// What is new about a pairing after a hello.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    pub(crate) addresses: Vec<Address>,
    pub(crate) clock_offset: i64,
    pub(crate) seen: UnixTime,
    pub(crate) path: String,
}

/// The store of one device, opened by one process.
pub(crate) struct Store {
    db: Db,
    rows: Rows,
    _lock: files::Lock,
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The device starts.
    Run,
    /// Somebody wants to know what it remembers.
    Look,
}

/// What seals and opens rows.
struct Rows {
    key: Secret<32>,
    rng: Rng,
}

/// The table of sealed rows in a transaction.
type Sealed<'t> = redb::Table<'t, &'static str, &'static [u8]>;

impl Store {
    /// Opens or makes the store in the folder `home`, takes its lock, and loads everything.
    pub(crate) fn open(home: &Path, rng: Rng) -> Result<(Store, Loaded), StoreError> {
        Store::open_with(home, rng, db::on_disk(), Purpose::Run)
    }

    /// The same for a device that is not to run, if there is one; this is no start of it.
    pub(crate) fn open_existing(home: &Path, rng: Rng) -> Result<Option<(Store, Loaded)>, StoreError> {
        if db::is_blank(&home.join("store.redb"))? {
            return Ok(None);
        }
        Store::open_with(home, rng, db::on_disk(), Purpose::Look).map(Some)
    }

    fn open_with(home: &Path, mut rng: Rng, opener: Opener, purpose: Purpose) -> Result<(Store, Loaded), StoreError> {
        files::open_folder(home)?;
        let lock = files::lock(&home.join("lock"))?;
        let (key_path, db_path) = (home.join("store.key"), home.join("store.redb"));
        let key = match files::read_secret::<32>(&key_path)? {
            Some(bytes) => Secret::new(*bytes),
            // A database without its key must not be overwritten: the key may come back.
            None if !db::is_blank(&db_path)? => return Err(StoreError::Key),
            None => {
                let key: Secret<32> = rng.secret();
                files::write_secret(&key_path, key.expose())?;
                key
            }
        };
        let db = Db::open(&db_path, opener)?;
        let mut store = Store { db, rows: Rows { key, rng }, _lock: lock };
        let loaded = store.load(purpose)?;
        store.db.finish()?;
        Ok((store, loaded))
    }

    fn load(&mut self, purpose: Purpose) -> Result<Loaded, StoreError> {
        let rows = &mut self.rows;
        self.db.write(|write| {
            let mut numbers = write.open_table(NUMBERS)?;
            let mut sealed = write.open_table(SEALED)?;
            let format = numbers.get("format")?.map_or(FORMAT, |v| v.value());
            if format > FORMAT {
                return Err(StoreError::Newer(format));
            }
            numbers.insert("format", FORMAT)?;
            let mut start = numbers.get("start")?.map_or(0, |v| v.value());
            if purpose == Purpose::Run {
                start += 1;
                numbers.insert("start", start)?;
            }
            let port =
                |v: Option<redb::AccessGuard<'_, u64>>| v.and_then(|v| u16::try_from(v.value()).ok()).unwrap_or(0);
            let ports = Ports { udp: port(numbers.get("udp_port")?), tcp: port(numbers.get("tcp_port")?) };
            let (mut identity, mut peers, mut tombstones, mut mappings) = (None, Vec::new(), Vec::new(), Vec::new());
            for row in sealed.iter()? {
                let (name, value) = row?;
                let name = name.value();
                let plain = rows.unseal(name, value.value())?;
                if name == "identity" {
                    identity = Some(rows::identity(&plain)?);
                } else if name == MAPPINGS {
                    mappings = rows::mappings(&plain)?;
                } else if name.starts_with(PEER) {
                    peers.push(PeerRow::from_bytes(&plain)?);
                } else if name.starts_with(TOMBSTONE) {
                    tombstones.push(rows::tombstone(&plain)?);
                }
            }
            let identity = match identity {
                Some(identity) => identity,
                None => {
                    let identity = Identity::generate(&mut rows.rng);
                    let row = rows.seal("identity", identity.seed().expose());
                    sealed.insert("identity", row.as_slice())?;
                    identity
                }
            };
            // Tombstones win over pairings of the same name: an old backup does not undo an ending.
            peers.retain(|p: &PeerRow| !tombstones.iter().any(|t: &Tombstone| t.pairing_id == p.pairing_id));
            let start = u32::try_from(start).unwrap_or(u32::MAX);
            Ok(Loaded { identity, peers, tombstones, start, ports, mappings })
        })
    }

    /// Stores a new pairing. One whose name was used before, also for a pairing that has ended, is refused.
    pub(crate) fn add_peer(&mut self, peer: &PeerRow) -> Result<(), StoreError> {
        self.write(|sealed, rows| {
            let name = peer_name(peer.pairing_id);
            let tombstone = tombstone_name(peer.pairing_id);
            if sealed.get(name.as_str())?.is_some() || sealed.get(tombstone.as_str())?.is_some() {
                return Err(StoreError::Exists);
            }
            if count(sealed, PEER)? >= limits::MAX_PAIRINGS {
                return Err(StoreError::Full);
            }
            rows.put(sealed, peer)
        })
    }

    /// Remembers where a peer was met. One that has been removed meanwhile stays removed.
    pub(crate) fn set_contact(&mut self, id: PairingId, contact: &Contact) -> Result<(), StoreError> {
        let patched = self.patch(id, |row| contact.apply(row));
        match patched {
            Ok(()) | Err(StoreError::Unknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a peer a name of our own.
    pub(crate) fn set_label(&mut self, id: PairingId, label: &str) -> Result<(), StoreError> {
        self.patch(id, |row| row.label = Some(label.to_owned()))
    }

    /// Changes what `change` names of a row, as it is on the disk now.
    fn patch(&mut self, id: PairingId, change: impl FnOnce(&mut PeerRow)) -> Result<(), StoreError> {
        self.write(|sealed, rows| {
            let mut row = rows.peer(sealed, id)?.ok_or(StoreError::Unknown)?;
            change(&mut row);
            rows.put(sealed, &row)
        })
    }

    /// pending -> paired. Older pairings with the same device are replaced by it in the same transaction; their names are
    /// returned.
    pub(crate) fn set_paired(&mut self, pairing_id: PairingId) -> Result<Vec<PairingId>, StoreError> {
        self.write(|sealed, rows| {
            let mut peer = rows.peer(sealed, pairing_id)?.ok_or(StoreError::Unknown)?;
            let replaced: Vec<PeerRow> = rows.peers(sealed)?.into_iter().filter(|p| p.is_replaced_by(&peer)).collect();
            peer.state = PairState::Paired;
            if peer.label.is_none() {
                peer.label = replaced.iter().find_map(|p| p.label.clone());
            }
            rows.put(sealed, &peer)?;
            for old in &replaced {
                sealed.remove(peer_name(old.pairing_id).as_str())?;
            }
            Ok(replaced.iter().map(|p| p.pairing_id).collect())
        })
    }

    /// Deletes a pairing, leaving a tombstone if one is given.
    pub(crate) fn delete_peer(&mut self, id: PairingId, tombstone: Option<&Tombstone>) -> Result<(), StoreError> {
        self.write(|sealed, rows| {
            sealed.remove(peer_name(id).as_str())?;
            if let Some(tombstone) = tombstone {
                let name = tombstone_name(tombstone.pairing_id);
                let row = rows.seal(&name, &rows::tombstone_bytes(tombstone));
                sealed.insert(name.as_str(), row.as_slice())?;
            }
            Ok(())
        })
    }

    /// Deletes the tombstone of a pairing whose peer has read the notice.
    pub(crate) fn delete_tombstone(&mut self, id: PairingId) -> Result<(), StoreError> {
        self.write(|sealed, _| {
            sealed.remove(tombstone_name(id).as_str())?;
            Ok(())
        })
    }

    /// Remembers the ports of this run.
    pub(crate) fn put_ports(&mut self, ports: Ports) -> Result<(), StoreError> {
        self.db.write(|write| {
            let mut numbers = write.open_table(NUMBERS)?;
            numbers.insert("udp_port", u64::from(ports.udp))?;
            numbers.insert("tcp_port", u64::from(ports.tcp))?;
            Ok(())
        })
    }

    /// Remembers what routers map for us, or are about to.
    pub(crate) fn put_mappings(&mut self, mappings: &[Mapping]) -> Result<(), StoreError> {
        self.write(|sealed, rows| {
            let row = rows.seal(MAPPINGS, &rows::mappings_bytes(mappings));
            sealed.insert(MAPPINGS, row.as_slice())?;
            Ok(())
        })
    }

    fn write<T>(
        &mut self,
        change: impl FnOnce(&mut Sealed<'_>, &mut Rows) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let rows = &mut self.rows;
        self.db.write(|write: &WriteTransaction| change(&mut write.open_table(SEALED)?, rows))
    }
}

impl Contact {
    /// Writes it into a row, and nothing else.
    pub(crate) fn apply(&self, row: &mut PeerRow) {
        row.addresses.clone_from(&self.addresses);
        row.clock_offset = self.clock_offset;
        row.last_seen = Some(self.seen);
        row.path = Some(self.path.clone());
    }
}

impl Rows {
    /// `nonce[24] ‖ XChaCha20-Poly1305(key, nonce, AD = name of the row, plain)`: a row under another name does not open.
    fn seal(&mut self, name: &str, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; 24] = self.rng.bytes();
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        let sealed =
            self.cipher().encrypt(&XNonce::from(nonce), payload).expect("rows are far below the cipher's limit");
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        out
    }

    fn unseal(&self, name: &str, row: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let (nonce, sealed) = row.split_at_checked(24).ok_or(StoreError::Row("too short"))?;
        let nonce: [u8; 24] = nonce.try_into().map_err(|_| StoreError::Row("too short"))?;
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.cipher().decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| StoreError::Key)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.key.expose()).into())
    }

    fn put(&mut self, sealed: &mut Sealed<'_>, peer: &PeerRow) -> Result<(), StoreError> {
        let name = peer_name(peer.pairing_id);
        let row = self.seal(&name, &peer.to_bytes()?);
        sealed.insert(name.as_str(), row.as_slice())?;
        Ok(())
    }

    fn peer(&self, sealed: &Sealed<'_>, id: PairingId) -> Result<Option<PeerRow>, StoreError> {
        let name = peer_name(id);
        let Some(row) = sealed.get(name.as_str())? else { return Ok(None) };
        PeerRow::from_bytes(&self.unseal(&name, row.value())?).map(Some)
    }

    fn peers(&self, sealed: &Sealed<'_>) -> Result<Vec<PeerRow>, StoreError> {
        let mut peers = Vec::new();
        for row in sealed.iter()? {
            let (name, value) = row?;
            if name.value().starts_with(PEER) {
                peers.push(PeerRow::from_bytes(&self.unseal(name.value(), value.value())?)?);
            }
        }
        Ok(peers)
    }
}

fn count(table: &Sealed<'_>, prefix: &str) -> Result<usize, StoreError> {
    let mut n = 0;
    for row in table.iter()? {
        n += usize::from(row?.0.value().starts_with(prefix));
    }
    Ok(n)
}

fn peer_name(id: PairingId) -> String {
    format!("{PEER}{}", data_encoding::HEXLOWER.encode(&id.0))
}

fn tombstone_name(id: PairingId) -> String {
    format!("{TOMBSTONE}{}", data_encoding::HEXLOWER.encode(&id.0))
}

#[cfg(test)]
mod tests;
