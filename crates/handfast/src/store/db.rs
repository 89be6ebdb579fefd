//! The database file: there whole or not at all, and opened again after its disk has failed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend, WriteTransaction};

use super::StoreError;
use super::files;

/// The database may keep this much in memory: it holds a few hundred small rows.
const CACHE_BYTES: usize = 256 * 1024;

/// Opens the database in a file, or makes it in an empty one.
pub(super) type Opener = Box<dyn Fn(File) -> Result<Database, StoreError> + Send>;

/// Opens the file as it is.
pub(super) fn on_disk() -> Opener {
    Box::new(|file| on_backend(FileBackend::new(file)?))
}

fn on_backend(backend: impl StorageBackend) -> Result<Database, StoreError> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

/// An open database.
pub(super) struct Db {
    path: PathBuf,
    opener: Opener,
    /// None after the disk has failed: redb takes nothing more until the file is opened again.
    open: Option<Database>,
}

impl Db {
    /// Opens the database at `path`. If there is none yet it is made beside it, and takes its place with
    /// [`Db::finish`]: what a full disk or a crash leaves of a first start is never taken for a database.
    pub(super) fn open(path: &Path, opener: Opener) -> Result<Db, StoreError> {
        let is_new = is_blank(path)?;
        let file = if is_new {
            let unfinished = unfinished(path);
            remove(&unfinished)?;
            files::open_private(&unfinished)?
        } else {
            files::open_private(path)?
        };
        let open = Some(opener(file)?);
        Ok(Db { path: path.to_owned(), opener, open })
    }

    /// A new database has its first content, durably: gives it its name.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        let unfinished = unfinished(&self.path);
        if fs::symlink_metadata(&unfinished).is_ok() {
            files::rename(&unfinished, &self.path)?;
        }
        Ok(())
    }

    /// Does `work` in one transaction, which is durable when this returns (an fsync a commit is redb's default) and
    /// leaves nothing behind if it fails.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = match self.open.take() {
            Some(db) => db,
            None => (self.opener)(files::open_private(&self.path)?)?,
        };
        let done = transaction(&db, work);
        if !matches!(done, Err(StoreError::Database(_))) {
            self.open = Some(db);
        }
        done
    }
}

fn transaction<T>(
    db: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let write = db.begin_write()?;
    let done = work(&write)?;
    write.commit()?;
    Ok(done)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(files::io_error(path)(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether there is no database at `path`: no file, or one without a single byte that is not zero.
pub(super) fn is_blank(path: &Path) -> Result<bool, StoreError> {
    if let Err(error) = fs::symlink_metadata(path) {
        let absent = error.kind() == io::ErrorKind::NotFound;
        return if absent { Ok(true) } else { Err(files::io_error(path)(error).into()) };
    }
    // The first page of a database is not empty, so only a blank file is read to its end.
    let mut file = files::open_private(path)?;
    let mut page = [0; 4096];
    loop {
        match file.read(&mut page).map_err(files::io_error(path))? {
            0 => return Ok(true),
            n if page[..n].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
pub(super) mod faults {
    //! A disk that can be full.

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
    }

    /// Opens files on a disk that takes nothing more while `full` is set.
    pub(in crate::store) fn on_full_disk(full: &Arc<AtomicBool>) -> Opener {
        let full = Arc::clone(full);
        Box::new(move |file| on_backend(Disk { file: FileBackend::new(file)?, full: Arc::clone(&full) }))
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            // A hole takes no room.
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.write(offset, data)
        }
    }
}
