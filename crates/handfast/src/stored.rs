//! The paired devices of a device that does not run, as its store has them.

use std::path::Path;

use crate::Error;
use crate::engine::peers::{self, Peers, label};
use crate::status::DeviceEntry;
use crate::store::Store;

/// The paired devices of a device that does not run. While this value lives no process can run it; nothing is sent. All of
/// it waits for the disk: not for use on the thread of a runtime that has other things to do.
pub struct StoredDevices {
    store: Store,
    peers: Peers,
}

impl StoredDevices {
    /// The devices stored in the folder `home`; `None` if no device has ever run there.
    ///
    /// # Errors
    /// `already_running` if a process runs it, `storage` if the store cannot be read safely.
    pub fn open(home: &Path) -> Result<Option<StoredDevices>, Error> {
        let rng = handfast_net::entropy::rng().map_err(|e| Error::because(crate::Cause::Internal, e))?;
        let opened = Store::open_existing(home, rng).map_err(|e| Error::from(&e))?;
        Ok(opened.map(|(store, loaded)| StoredDevices { store, peers: Peers::new(loaded.peers) }))
    }

    /// All of them.
    pub fn list(&self) -> Vec<DeviceEntry> {
        self.peers.paired().map(|row| peers::entry(row, None)).collect()
    }

    /// One of them, by name, id (or a unique beginning of at least 4 characters) or fingerprint.
    ///
    /// # Errors
    /// `usage` if none or several fit.
    pub fn device(&self, device: &str) -> Result<DeviceEntry, Error> {
        let id = self.peers.find(device)?;
        self.peers.get(id).map(|row| peers::entry(row, None)).ok_or_else(|| Error::of(crate::Cause::Internal))
    }

    /// Gives one of them another name on this device.
    ///
    /// # Errors
    /// `usage` if none or several fit or the name is empty, `storage` if the store failed.
    pub fn rename(&mut self, device: &str, name: &str) -> Result<DeviceEntry, Error> {
        let (id, label) = (self.peers.find(device)?, label(name)?);
        self.store.set_label(id, &label).map_err(|e| Error::from(&e))?;
        let row = self.peers.get_mut(id).ok_or_else(|| Error::of(crate::Cause::Internal))?;
        row.label = Some(label);
        Ok(peers::entry(row, None))
    }
}
