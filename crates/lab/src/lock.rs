//! One lab at a time on this machine: measurements of two labs would disturb each other, and test runners start
//! every test in a process of its own.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The longest wait for the other labs: a whole run of all tests takes minutes, so an hour means that one hangs.
const LOCK_WAIT: Duration = Duration::from_secs(3600);

/// How often the lock is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The right to run a lab; given back when dropped, and by the kernel when the process dies.
pub struct LabLock {
    _file: File,
}

impl LabLock {
    /// Waits for the other labs of this machine to end, then clears what dead ones left behind.
    ///
    /// # Errors
    /// When the lock file cannot be made, or the others do not end within an hour.
    pub fn acquire() -> Result<Self> {
        let path = std::env::temp_dir().join("handfast-lab.lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).context("opening the lab's lock")?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => bail!("another lab holds {} for an hour", path.display()),
                Err(TryLockError::Error(error)) => return Err(error).context("locking the lab's lock"),
            }
        }
        crate::ns::remove_leftovers()?;
        Ok(Self { _file: file })
    }
}
