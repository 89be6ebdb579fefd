//! The folder of a device: owner and modes checked, files made 0600, written atomically, and a lock that keeps a second
//! process out (protocol, section 13).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

/// Why the folder or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// The folder or file is a link, belongs to somebody else, or others may read it.
    #[error("{} is not safe to use: {problem}", path.display())]
    Unsafe { path: PathBuf, problem: &'static str },
    /// Another process uses it.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FilesError + '_ {
    move |error| FilesError::Io { path: path.to_owned(), error }
}

/// Makes the folder with mode 0700, or checks the one that is there.
pub(crate) fn open_folder(path: &Path) -> Result<(), FilesError> {
    match fs::symlink_metadata(path) {
        Ok(_) => check(path, true, 0o077),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))?;
            check(path, true, 0o077)
        }
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Checks owner, kind and mode of a folder or file that must be ours alone.
fn check(path: &Path, folder: bool, forbidden: u32) -> Result<(), FilesError> {
    let unsafe_because = |problem| FilesError::Unsafe { path: path.to_owned(), problem };
    let meta = fs::symlink_metadata(path).map_err(io_error(path))?;
    if meta.file_type().is_symlink() {
        return Err(unsafe_because("it is a symbolic link"));
    }
    if meta.is_dir() != folder {
        return Err(unsafe_because(if folder { "it is not a folder" } else { "it is not a file" }));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_because("it belongs to another user"));
    }
    if meta.permissions().mode() & forbidden != 0 {
        return Err(unsafe_because("other users may use it; take their rights away (chmod go-rwx)"));
    }
    Ok(())
}

/// The lock of a folder, held as long as this value lives. The system drops it when the process dies, however it dies.
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Takes the lock `path` or says that somebody else has it.
pub(crate) fn lock(path: &Path) -> Result<Lock, FilesError> {
    let file = open_private(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FilesError::Locked(path.to_owned())),
        Err(error) => Err(io_error(path)(error.into())),
    }
}

/// Makes an empty file with mode 0600 if there is none, or checks the one that is there; open for reading and writing.
pub(crate) fn open_private(path: &Path) -> Result<File, FilesError> {
    if fs::symlink_metadata(path).is_ok() {
        check(path, false, 0o077)?;
    }
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("a flag of the system's open");
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
        .map_err(io_error(path))
}

/// Reads a small secret file of exactly `N` bytes; `None` if there is none.
pub(crate) fn read_secret<const N: usize>(path: &Path) -> Result<Option<Zeroizing<[u8; N]>>, FilesError> {
    if let Err(error) = fs::symlink_metadata(path) {
        return if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(io_error(path)(error)) };
    }
    check(path, false, 0o077)?;
    let mut bytes = Zeroizing::new([0; N]);
    let mut file = File::open(path).map_err(io_error(path))?;
    file.read_exact(&mut bytes[..]).map_err(io_error(path))?;
    Ok(Some(bytes))
}

/// Writes a secret file so that it is there whole or not at all: temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), FilesError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&temporary)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io_error(&temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error(&temporary))?;
    rename(&temporary, path)
}

/// Gives a file its name, replacing what had it, so that this outlives a crash of the machine.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FilesError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to).map_err(io_error(to))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(io_error(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_49_a_wide_folder_a_link_and_a_second_process_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let home = dir.path().join("home");
        open_folder(&home).expect("made");
        assert_eq!(fs::metadata(&home).expect("there").permissions().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&home, &link).expect("a link");
        assert!(matches!(open_folder(&link), Err(FilesError::Unsafe { .. })));
        let held = lock(&home.join("lock")).expect("free");
        assert!(matches!(lock(&home.join("lock")), Err(FilesError::Locked(_))));
        drop(held);
        lock(&home.join("lock")).expect("free again");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(matches!(open_folder(&home), Err(FilesError::Unsafe { .. })));
    }

    #[test]
    fn a_secret_file_is_private_and_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        assert!(read_secret::<4>(&path).expect("readable").is_none());
        write_secret(&path, b"abcd").expect("written");
        write_secret(&path, b"efgh").expect("replaced");
        assert_eq!(*read_secret::<4>(&path).expect("readable").expect("there"), *b"efgh");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(read_secret::<4>(&path).is_err());
    }
}
