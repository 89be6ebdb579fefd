//! Network namespaces with unique names, removed with everything in them when dropped.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::procfs::processes_in;
use crate::skip::search_path;

/// Where `ip` keeps named network namespaces.
const NETNS_DIR: &str = "/run/netns";

/// Every namespace of a lab is called `hf<pid>-<n>-<host>`.
const PREFIX: &str = "hf";

/// How long killed processes may take to vanish before their namespace is removed anyway.
const DEATH_LIMIT: Duration = Duration::from_secs(2);

/// The name of one lab: the process it belongs to, and a number that is new for each lab of the process.
#[derive(Clone, Debug)]
pub struct LabName(String);

impl LabName {
    /// A name no other lab has.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// How everything begins that belongs to the lab.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}-", self.0)
    }
}

/// A network namespace of ours. Dropping it kills what still runs inside, by pid, and deletes it.
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    /// Makes the namespace of `host`, quiet (no router solicitations, no duplicate address detection) and with `lo` up.
    ///
    /// # Errors
    /// When `ip` fails, most likely for want of root.
    pub fn create(lab: &LabName, host: &str) -> Result<Self> {
        let name = lab.prefix() + host;
        ip(&["netns", "add", &name])?;
        let handle = File::open(Path::new(NETNS_DIR).join(&name)).context("opening a new namespace")?;
        let namespace = Self { name, handle };
        namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        namespace.sysctl("net.ipv6.conf.default.accept_ra", "0")?;
        namespace.sysctl("net.ipv6.conf.default.router_solicitations", "0")?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a thread that is inside the namespace. Sockets made and processes started there stay inside.
    ///
    /// # Errors
    /// When the thread cannot move into the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let handle = self.handle.as_fd();
        std::thread::scope(|scope| {
            let inside = scope
                .spawn(move || move_into_link_name_space(handle, Some(LinkNameSpaceType::Network)).map(|()| work()));
            match inside.join() {
                Ok(result) => result.context("moving into a network namespace"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into the namespace for the rest of its life.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub fn move_here(&self) -> Result<()> {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
            .context("moving into a network namespace")
    }

    /// Sets a kernel setting below `net.` inside the namespace.
    ///
    /// # Errors
    /// When there is no such setting or the value is refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(&path, value))?.with_context(|| format!("setting {key}={value}"))
    }

    /// Runs `ip ARGS` inside the namespace.
    ///
    /// # Errors
    /// With what `ip` says when it fails.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(args);
        ip(&all)
    }

    /// Runs another administrator's program (`nft`, `ethtool`) inside the namespace and gives its output.
    ///
    /// # Errors
    /// With what the program says when it fails.
    pub fn tool(&self, program: &str, args: &[&str]) -> Result<String> {
        self.enter(|| tool(program, args, None))?
    }

    /// Adds rules of nft inside the namespace, all or none of them.
    ///
    /// # Errors
    /// With what `nft` says of them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.enter(|| tool("nft", &["-f", "-"], Some(rules)))?.map(drop)
    }

    /// Processes that run inside.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&self.handle)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nobody could act on a failure here, and the next lab clears what is left.
        let _ = remove(&self.name, &self.handle);
    }
}

/// Runs `ip ARGS`.
///
/// # Errors
/// With what `ip` says when it fails.
pub fn ip(args: &[&str]) -> Result<()> {
    tool("ip", args, None).map(drop)
}

/// Runs many `ip` commands, one a line without the leading `ip`, in one process.
///
/// # Errors
/// With what `ip` says of the first that fails.
pub fn ip_batch(commands: &str) -> Result<()> {
    tool("ip", &["-batch", "-"], Some(commands)).map(drop)
}

/// Removes the namespaces and directories of labs whose process is dead, with what still runs in them.
///
/// # Errors
/// When a leftover cannot be removed.
pub fn remove_leftovers() -> Result<()> {
    for entry in leftovers(Path::new(NETNS_DIR)) {
        let name = entry.file_name().to_string_lossy().into_owned();
        remove(&name, &File::open(entry.path())?).with_context(|| format!("removing the leftover {name}"))?;
    }
    for entry in leftovers(&std::env::temp_dir()) {
        let path = entry.path();
        fs::remove_dir_all(&path).with_context(|| format!("removing the leftover {}", path.display()))?;
    }
    Ok(())
}

/// What in `dir` is called like a part of a lab whose process is dead.
fn leftovers(dir: &Path) -> Vec<fs::DirEntry> {
    let is_dead = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| owner(&entry.file_name().to_string_lossy()).is_some_and(is_dead))
        .collect()
}

/// The pid in the name of a part of a lab.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    rest.split_once('-')?.0.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn remove(name: &str, handle: &File) -> Result<()> {
    let own = std::process::id();
    let inside: Vec<Pid> = processes_in(handle)
        .into_iter()
        .filter(|pid| *pid != own)
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect();
    for pid in &inside {
        // It may have ended by itself in the meantime.
        let _ = kill_process(*pid, Signal::KILL);
    }
    let start = Instant::now();
    while start.elapsed() < DEATH_LIMIT && inside.iter().any(|pid| is_alive(*pid)) {
        std::thread::sleep(Duration::from_millis(2));
    }
    ip(&["netns", "del", name])
}

/// Does the process run? A dead one whose parent has not asked for it yet does not.
fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
        && fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// Runs a program of the system in the namespace of the calling thread, with bounded input and output.
fn tool(program: &str, args: &[&str], input: Option<&str>) -> Result<String> {
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let mut stdin = child.stdin.take().context("the pipe to a child was asked for")?;
    if let Some(input) = input {
        stdin.write_all(input.as_bytes()).with_context(|| format!("writing to {program}"))?;
    }
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("hf123-0-alice"), Some(123));
        assert_eq!(owner("hf123-7-node-3"), Some(123));
        for other in ["hf-0-a", "hfx-0-a", "hf123", "hf123-a", "hf123-a-b", "docker123-0-a", ""] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
