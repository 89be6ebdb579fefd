//! A small disk of its own for a device, to be filled and write-protected.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::skip::search_path;

/// Room for a store and a log.
const SIZE: &str = "size=6m,mode=0700";

/// What fills it.
const FILLER: &str = "filler";

/// A file system in memory, unmounted when it is dropped.
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts it at `path`, which it makes.
    pub(super) fn mount(path: &Path) -> Result<Disk> {
        std::fs::create_dir(path).with_context(|| format!("making {}", path.display()))?;
        mount("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs"], path)?;
        Ok(Disk(path.to_owned()))
    }

    /// Fills it to the last byte.
    pub(super) fn fill(&self) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.0.join(FILLER))?;
        for size in [64 * 1024, 1] {
            let bytes = vec![1; size];
            while filler.write_all(&bytes).is_ok() {}
        }
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join(FILLER))?)
    }

    /// Lets nobody write, or everybody again.
    pub(super) fn protect(&self, protect: bool) -> Result<()> {
        mount("mount", &["-o", if protect { "remount,ro" } else { "remount,rw" }], &self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still writes there is killed afterwards.
        let _ = mount("umount", &["-l"], &self.0);
    }
}

fn mount(program: &str, args: &[&str], path: &Path) -> Result<()> {
    let output = Command::new(program).args(args).arg(path).env("PATH", search_path()).output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
