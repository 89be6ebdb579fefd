//! The log of an instance: one file of bounded size, for nobody else's eyes, with what `RUST_LOG` asks for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use handfast::{Cause, Error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A log that has grown to this size is put aside, in the place of the one put aside before: at most twice this is kept.
const LOG_MAX: u64 = 10 * 1024 * 1024;

/// What is logged when `RUST_LOG` says nothing.
const DEFAULT_LEVEL: &str = handfast::DEFAULT_LOG;

/// What a node logs on stderr when `RUST_LOG` says nothing.
const DEFAULT_NODE_LEVEL: &str = handfast::DEFAULT_NODE_LOG;

/// Logs into the file `path` from now on, and on stderr as well if that is asked for and `RUST_LOG` is set.
///
/// # Errors
/// `storage` if the file cannot be written.
pub(crate) fn to_file(path: &Path, also_stderr: bool) -> Result<(), Error> {
    let file =
        LogFile::open(path).map_err(|error| Error::because(Cause::Storage, format!("{}: {error}", path.display())))?;
    let asked = std::env::var_os("RUST_LOG").is_some();
    let stderr =
        (also_stderr && asked).then(|| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr));
    let file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file);
    // Only the first one counts: a process runs one device.
    let _ = tracing_subscriber::registry().with(filter(DEFAULT_LEVEL)).with(file).with(stderr).try_init();
    Ok(())
}

/// Logs on stderr from now on.
pub(crate) fn to_stderr() {
    let stderr = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr);
    // As above.
    let _ = tracing_subscriber::registry().with(filter(DEFAULT_NODE_LEVEL)).with(stderr).try_init();
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default))
}

/// The file, reopened when it has grown too long.
struct LogFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    size: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_MAX) {
            std::fs::rename(path, aside(path))?;
        }
        Ok(LogFile { path: path.to_owned(), state: Mutex::new(State::open(path)?) })
    }
}

impl State {
    fn open(path: &Path) -> io::Result<State> {
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("a flag of the system's open");
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_follow).open(path)?;
        let size = file.metadata()?.len();
        Ok(State { file, size })
    }
}

/// Where a full log goes.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> &'a LogFile {
        self
    }
}

impl Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.size > LOG_MAX {
            std::fs::rename(&self.path, aside(&self.path))?;
            *state = State::open(&self.path)?;
        }
        let written = state.file.write(bytes)?;
        state.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_full_log_is_put_aside_and_only_one_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("handfast.log");
        let log = LogFile::open(&path).expect("opened");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..25 {
            (&log).write_all(&line).expect("written");
        }
        let sizes: u64 = std::fs::read_dir(dir.path())
            .expect("a folder")
            .map(|e| e.expect("a file").metadata().expect("its size").len())
            .sum();
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2);
        assert!(sizes <= 2 * (LOG_MAX + line.len() as u64), "{sizes}");
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("handfast.log");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("a link");
        assert!(LogFile::open(&path).is_err());
    }
}
