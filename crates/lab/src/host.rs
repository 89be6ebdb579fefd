//! A machine of a lab: a network namespace and a home directory of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::ns::Namespace;
use crate::skip::find_program;

/// A machine of the lab: a network namespace, and a home directory of its own (mode 0700).
#[derive(Clone)]
pub struct Host(Arc<HostInner>);

struct HostInner {
    name: String,
    namespace: Namespace,
    home: PathBuf,
    own_sysfs: bool,
    logs: AtomicU32,
}

impl Host {
    /// A host whose home is `dir/name`.
    ///
    /// # Errors
    /// When its home cannot be made.
    pub(crate) fn new(name: &str, namespace: Namespace, dir: &Path) -> Result<Self> {
        Self::with(name, namespace, dir, false)
    }

    /// As [`Host::new`], and its programs find their own interfaces in `/sys/class/net`, as they do on a real machine.
    /// Without it they would see those of the lab there. It costs some milliseconds a start.
    ///
    /// # Errors
    /// When its home cannot be made.
    pub(crate) fn with_sysfs(name: &str, namespace: Namespace, dir: &Path) -> Result<Self> {
        Self::with(name, namespace, dir, true)
    }

    fn with(name: &str, namespace: Namespace, dir: &Path, own_sysfs: bool) -> Result<Self> {
        let home = dir.join(name);
        std::fs::create_dir(&home).with_context(|| format!("making the home of {name}"))?;
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self(Arc::new(HostInner { name: name.to_owned(), namespace, home, own_sysfs, logs: AtomicU32::new(0) })))
    }

    /// Its name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// Its home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.0.home
    }

    /// A command that, once started inside the namespace, runs `program` with the pid of its start.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        if !self.0.own_sysfs {
            return Command::new(program);
        }
        // It gives its child a /sys of the namespace and becomes that child.
        let mut command = Command::new(find_program("ip").unwrap_or_else(|| "ip".into()));
        command.args(["netns", "exec", self.0.namespace.name()]).arg(program);
        command
    }

    /// A new file name, in the host's home, for what a program prints on stderr.
    #[must_use]
    pub fn next_log(&self, program: &str) -> PathBuf {
        let number = self.0.logs.fetch_add(1, Ordering::Relaxed);
        self.home().join(format!("{number:05}-{program}.stderr"))
    }
}
