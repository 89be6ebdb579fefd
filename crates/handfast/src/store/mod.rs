//! What a device remembers: its identity, its pairings, the tombstones of ended ones. One redb file, every value sealed
//! under a key of its own file, every change on disk before anybody hears of it.
//!
//! The key file is what a passphrase will wrap; a copy of the database alone tells nobody anything.

pub(crate) mod files;
mod rows;
pub(crate) mod worker;

use std::path::Path;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use handfast_proto::cause::Cause;
use handfast_proto::id::{Identity, PairingId};
use handfast_proto::limits;
use handfast_proto::link::{PairState, Tombstone};
use handfast_proto::secret::{Rng, Secret};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use zeroize::Zeroizing;

use crate::Error;
use files::FilesError;
pub(crate) use rows::PeerRow;

/// Version of what is in the file. A newer one is refused.
const FORMAT: u64 = 1;
/// The database may keep this much in memory: it holds a few hundred small rows.
const CACHE_BYTES: usize = 256 * 1024;

/// Plain numbers: `format`, `start`, `udp_port`, `tcp_port`.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// Sealed rows: `identity`, `peer/<hex>`, `tombstone/<hex>`.
const SEALED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sealed");

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
            StoreError::Files(_)
            | StoreError::Database(_)
            | StoreError::Row(_)
            | StoreError::Full
            | StoreError::Unknown => Error::because(Cause::Storage, error),
        }
    }
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
}

/// The ports a device listened on, to be found again where it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) udp: u16,
    pub(crate) tcp: u16,
}

/// The store of one device, opened by one process.
pub(crate) struct Store {
    db: Database,
    key: Secret<32>,
    rng: Rng,
    _lock: files::Lock,
}

impl Store {
    /// Opens or makes the store in the folder `home`, takes its lock, and loads everything.
    pub(crate) fn open(home: &Path, mut rng: Rng) -> Result<(Store, Loaded), StoreError> {
        files::open_folder(home)?;
        let lock = files::lock(&home.join("lock"))?;
        let (key_path, db_path) = (home.join("store.key"), home.join("store.redb"));
        let key = match files::read_secret::<32>(&key_path)? {
            Some(bytes) => Secret::new(*bytes),
            // A database without its key must not be overwritten: the key may come back. An empty file is one that was
            // never finished.
            None if std::fs::metadata(&db_path).is_ok_and(|m| m.len() > 0) => return Err(StoreError::Key),
            None => {
                let key: Secret<32> = rng.secret();
                files::write_secret(&key_path, key.expose())?;
                key
            }
        };
        files::open_private(&db_path)?;
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(&db_path)?;
        let mut store = Store { db, key, rng, _lock: lock };
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        let write = self.db.begin_write()?;
        let loaded = {
            let mut numbers = write.open_table(NUMBERS)?;
            let mut sealed = write.open_table(SEALED)?;
            let format = numbers.get("format")?.map_or(FORMAT, |v| v.value());
            if format > FORMAT {
                return Err(StoreError::Newer(format));
            }
            numbers.insert("format", FORMAT)?;
            let start = numbers.get("start")?.map_or(0, |v| v.value()) + 1;
            numbers.insert("start", start)?;
            let port =
                |v: Option<redb::AccessGuard<'_, u64>>| v.and_then(|v| u16::try_from(v.value()).ok()).unwrap_or(0);
            let ports = Ports { udp: port(numbers.get("udp_port")?), tcp: port(numbers.get("tcp_port")?) };
            let mut rows = Vec::new();
            for row in sealed.iter()? {
                let (name, value) = row?;
                rows.push((name.value().to_owned(), value.value().to_vec()));
            }
            let (mut identity, mut peers, mut tombstones) = (None, Vec::new(), Vec::new());
            for (name, value) in rows {
                let plain = open_row(&self.key, &name, &value)?;
                if name == "identity" {
                    identity = Some(rows::identity(&plain)?);
                } else if name.starts_with("peer/") {
                    peers.push(PeerRow::from_bytes(&plain)?);
                } else if name.starts_with("tombstone/") {
                    tombstones.push(rows::tombstone(&plain)?);
                }
            }
            let identity = match identity {
                Some(identity) => identity,
                None => {
                    let identity = Identity::generate(&mut self.rng);
                    let row = seal_row(&self.key, "identity", identity.seed().expose(), &mut self.rng);
                    sealed.insert("identity", row.as_slice())?;
                    identity
                }
            };
            // Tombstones win over pairings of the same name: an old backup does not undo an ending.
            peers.retain(|p: &PeerRow| !tombstones.iter().any(|t: &Tombstone| t.pairing_id == p.pairing_id));
            Loaded { identity, peers, tombstones, start: u32::try_from(start).unwrap_or(u32::MAX), ports }
        };
        write.commit()?;
        Ok(loaded)
    }

    /// Stores a pairing, new or changed.
    pub(crate) fn put_peer(&mut self, peer: &PeerRow) -> Result<(), StoreError> {
        let name = peer_name(peer.pairing_id);
        let row = seal_row(&self.key, &name, &peer.to_bytes()?, &mut self.rng);
        self.write(|sealed| {
            if sealed.get(name.as_str())?.is_none() && count(sealed, "peer/")? >= limits::MAX_PAIRINGS {
                return Err(StoreError::Full);
            }
            sealed.insert(name.as_str(), row.as_slice())?;
            Ok(())
        })
    }

    /// pending -> paired. Older pairings with the same device are replaced by it in the same transaction; their names are
    /// returned.
    pub(crate) fn set_paired(&mut self, pairing_id: PairingId) -> Result<Vec<PairingId>, StoreError> {
        let name = peer_name(pairing_id);
        let peers = self.peers()?;
        let mut peer = peers.iter().find(|p| p.pairing_id == pairing_id).cloned().ok_or(StoreError::Unknown)?;
        let replaced: Vec<&PeerRow> =
            peers.iter().filter(|p| p.key == peer.key && p.pairing_id != pairing_id).collect();
        peer.state = PairState::Paired;
        if peer.label.is_none() {
            peer.label = replaced.iter().find_map(|p| p.label.clone());
        }
        let row = seal_row(&self.key, &name, &peer.to_bytes()?, &mut self.rng);
        let replaced: Vec<PairingId> = replaced.iter().map(|p| p.pairing_id).collect();
        self.write(|sealed| {
            sealed.insert(name.as_str(), row.as_slice())?;
            for old in &replaced {
                sealed.remove(peer_name(*old).as_str())?;
            }
            Ok(())
        })?;
        Ok(replaced)
    }

    /// Deletes a pairing, leaving a tombstone if one is given.
    pub(crate) fn delete_peer(&mut self, id: PairingId, tombstone: Option<&Tombstone>) -> Result<(), StoreError> {
        let row = tombstone.map(|t| {
            let name = tombstone_name(t.pairing_id);
            let row = seal_row(&self.key, &name, &rows::tombstone_bytes(t), &mut self.rng);
            (name, row)
        });
        self.write(|sealed| {
            sealed.remove(peer_name(id).as_str())?;
            if let Some((name, row)) = &row {
                sealed.insert(name.as_str(), row.as_slice())?;
            }
            Ok(())
        })
    }

    /// Deletes the tombstone of a pairing whose peer has read the notice.
    pub(crate) fn delete_tombstone(&mut self, id: PairingId) -> Result<(), StoreError> {
        self.write(|sealed| {
            sealed.remove(tombstone_name(id).as_str())?;
            Ok(())
        })
    }

    /// Remembers the ports of this run.
    pub(crate) fn put_ports(&mut self, ports: Ports) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        {
            let mut numbers = write.open_table(NUMBERS)?;
            numbers.insert("udp_port", u64::from(ports.udp))?;
            numbers.insert("tcp_port", u64::from(ports.tcp))?;
        }
        write.commit()?;
        Ok(())
    }

    /// All pairings.
    pub(crate) fn peers(&self) -> Result<Vec<PeerRow>, StoreError> {
        let read = self.db.begin_read()?;
        let sealed = read.open_table(SEALED)?;
        let mut peers = Vec::new();
        for row in sealed.iter()? {
            let (name, value) = row?;
            if name.value().starts_with("peer/") {
                peers.push(PeerRow::from_bytes(&open_row(&self.key, name.value(), value.value())?)?);
            }
        }
        Ok(peers)
    }

    fn write(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &'static str, &'static [u8]>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let write = self.db.begin_write()?;
        {
            let mut sealed = write.open_table(SEALED)?;
            change(&mut sealed)?;
        }
        // Durable when this returns: redb's default is an fsync per commit.
        write.commit()?;
        Ok(())
    }
}

fn count(table: &redb::Table<'_, &'static str, &'static [u8]>, prefix: &str) -> Result<usize, StoreError> {
    let mut n = 0;
    for row in table.iter()? {
        n += usize::from(row?.0.value().starts_with(prefix));
    }
    Ok(n)
}

fn peer_name(id: PairingId) -> String {
    format!("peer/{}", data_encoding::HEXLOWER.encode(&id.0))
}

fn tombstone_name(id: PairingId) -> String {
    format!("tombstone/{}", data_encoding::HEXLOWER.encode(&id.0))
}

/// `nonce[24] ‖ XChaCha20-Poly1305(key, nonce, AD = name of the row, plain)`: a row under another name does not open.
fn seal_row(key: &Secret<32>, name: &str, plain: &[u8], rng: &mut Rng) -> Vec<u8> {
    let nonce: [u8; 24] = rng.bytes();
    let payload = Payload { msg: plain, aad: name.as_bytes() };
    let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload).expect("rows are far below the cipher's limit");
    let mut out = nonce.to_vec();
    out.extend_from_slice(&sealed);
    out
}

fn open_row(key: &Secret<32>, name: &str, row: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let (nonce, sealed) = row.split_at_checked(24).ok_or(StoreError::Row("too short"))?;
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| StoreError::Row("too short"))?;
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    cipher(key).decrypt(&XNonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| StoreError::Key)
}

fn cipher(key: &Secret<32>) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*key.expose()).into())
}

#[cfg(test)]
mod tests;
