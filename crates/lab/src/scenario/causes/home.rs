//! Faults of a device's folder and of the disk under it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use handfast_proto::limits;

use super::super::pairing::{join, offer, pair};
use super::bench::{Bench, Expected, LIMIT, WARM_UP, ended_of};
use super::disk::Disk;
use crate::device::Device;

const STORAGE: Expected = Expected(11, &["storage"]);

/// What the other side of a pairing says whose store has failed.
const OTHER_SIDE: Expected = Expected(9, &["connection_lost", "timed_out"]);

/// The first part of a database that holds what it cannot do without.
const HEADER: usize = 4096;

impl Bench {
    /// The disk fills up while the device runs.
    pub(super) fn disk_full(&mut self) -> Result<()> {
        let host = self.hosts.carol.clone();
        let mut carol = self.device(&host, "full")?;
        let disk = Disk::mount(&carol.dir())?;
        carol.start_daemon()?;
        std::thread::sleep(WARM_UP);

        disk.fill()?;
        let shown = self.offer_published(&["--yes"])?;
        let start = Instant::now();
        let ended = ended_of(join(&carol, &shown.words, &["--yes"]), start);
        self.cases.add("the joiner's disk is full, joiner", STORAGE, LIMIT, ended);
        // The joiner may come back to what it was shown; that is waited for.
        let limit = limits::RESUME + LIMIT;
        self.initiator_fails_by("the joiner's disk is full, initiator", shown, OTHER_SIDE, start, limit);
        disk.free()?;
        let paired = pair(&self.alice, &carol, self.gap).map(drop);
        self.cases.follow("room made, a new code", paired);

        disk.fill()?;
        let shown = offer(&carol, &["--yes"])?;
        std::thread::sleep(self.gap);
        let start = Instant::now();
        let ended = ended_of(join(&self.bob, &shown.words, &["--yes"]), start);
        self.cases.add("the initiator's disk is full, joiner", OTHER_SIDE, LIMIT, ended);
        self.initiator_fails("the initiator's disk is full, initiator", shown, STORAGE, start);
        disk.free()?;
        let paired = pair(&carol, &self.bob, self.gap).map(drop);
        self.cases.follow("room made, a new code", paired);
        carol.stop()?;
        Ok(())
    }

    /// It is full, or write-protected, when a device starts that has never run.
    pub(super) fn no_first_start(&mut self) -> Result<()> {
        let host = self.hosts.carol.clone();
        let mut carol = self.device(&host, "first")?;
        let disk = Disk::mount(&carol.dir())?;
        disk.fill()?;
        self.start_fails("the disk is full at the first start", &carol);
        disk.free()?;
        let paired = self.starts(&mut carol).and_then(|()| self.pairs_with(&carol));
        self.cases.follow("room made", paired);
        carol.stop()?;

        disk.protect(true)?;
        self.start_fails("the home is read-only", &carol);
        disk.protect(false)?;
        let paired = self.starts(&mut carol).and_then(|()| self.pairs_with(&carol));
        self.cases.follow("made writable", paired);
        carol.stop()?;
        Ok(())
    }

    /// What is in the folder is not what the device has left there.
    pub(super) fn damaged(&mut self) -> Result<()> {
        let host = self.hosts.carol.clone();
        let mut carol = self.device(&host, "damaged")?;
        carol.start_daemon()?;
        carol.stop()?;
        let dir = carol.dir();
        let (store, key) = (dir.join("store.redb"), dir.join("store.key"));

        fs::set_permissions(&dir, Permissions::from_mode(0o777))?;
        self.start_fails("others may use the folder", &carol);
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let paired = self.starts(&mut carol).and_then(|()| self.pairs_with(&carol));
        self.cases.follow("their rights taken away", paired);
        carol.stop()?;

        let aside = dir.join("key.aside");
        fs::rename(&key, &aside)?;
        self.start_fails("the key of the store is missing", &carol);
        fs::rename(&aside, &key)?;
        let paired = self.starts(&mut carol).and_then(|()| self.pairs_with(&carol));
        self.cases.follow("put back", paired);
        carol.stop()?;

        overwrite(&store, 0, HEADER)?;
        self.start_fails("the store is corrupt", &carol);
        fs::rename(&dir, dir.with_extension("aside"))?;
        let paired = self.starts(&mut carol).and_then(|()| self.pairs_with(&carol));
        self.cases.follow("the folder moved away, as a new device", paired);
        carol.stop()?;
        Ok(())
    }

    fn start_fails(&mut self, name: &'static str, device: &Device) {
        let start = Instant::now();
        let ended = ended_of(device.spawn(&["start", "--foreground", "--json"], None), start);
        self.cases.add(name, STORAGE, LIMIT, ended);
    }

    fn starts(&self, device: &mut Device) -> Result<()> {
        device.start_daemon().context("after the hint")?;
        std::thread::sleep(WARM_UP);
        Ok(())
    }

    fn pairs_with(&self, device: &Device) -> Result<()> {
        pair(&self.alice, device, self.gap).map(drop)
    }
}

fn overwrite(path: &Path, from: u64, length: usize) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    Ok(file.write_all_at(&vec![0xaa; length], from)?)
}
