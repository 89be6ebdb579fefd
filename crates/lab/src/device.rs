//! A device: the real program with an instance of its own on one host of the lab.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::host::Host;
use crate::process::{Output, Running, Start};
use crate::skip::search_path;

/// How long a device may take to start or to stop.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a command that only asks the daemon may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// How often a starting device is asked whether it runs.
const START_POLL: Duration = Duration::from_millis(20);

/// Exit code of a command whose instance does not run.
pub const EXIT_NOT_RUNNING: i32 = 10;

/// An entry of `devices --json`, as far as the lab looks at it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct PairedDevice {
    /// The device's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its fingerprint.
    pub fingerprint: String,
}

/// The part of `status --json` that the lab looks at.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The device's own id.
    pub id: String,
    /// Its own name.
    pub name: String,
    /// Does its daemon run?
    pub running: bool,
    /// Its open sessions.
    #[serde(default)]
    pub sessions: Vec<Value>,
    /// Where it is, with what is known of each address.
    #[serde(default)]
    pub addresses: Vec<OwnAddress>,
}

/// An address in `status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct OwnAddress {
    /// The multiaddress.
    pub address: String,
    /// Which list it goes to: `internet`, `lan` or `none`.
    pub scope: String,
    /// Where it comes from.
    pub source: String,
}

impl OwnAddress {
    /// Does it lead through a relay? Its form is another then.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.source == "relay"
    }
}

/// The program on a host. Its processes are killed when it is dropped.
pub struct Device {
    host: Host,
    instance: String,
    name: Option<String>,
    binary: PathBuf,
    bootstrap: Vec<String>,
    asks_routers: bool,
    env: Vec<(String, String)>,
    daemon: Option<Running>,
}

impl Device {
    /// A device on `host` with the instance name `instance`, which is also what other devices see as its name.
    ///
    /// # Errors
    /// When there is no program to run.
    pub fn new(host: &Host, instance: &str) -> Result<Self> {
        Ok(Self {
            host: host.clone(),
            instance: instance.to_owned(),
            name: Some(instance.to_owned()),
            binary: binary()?,
            bootstrap: Vec::new(),
            asks_routers: true,
            env: base_env(host.home()),
            daemon: None,
        })
    }

    /// Sets the nodes by which it enters the DHT.
    #[must_use]
    pub fn bootstrap(mut self, addresses: Vec<String>) -> Self {
        self.bootstrap = addresses;
        self
    }

    /// Asks no router for ports: what it sends to its router, and the socket on which it does, would stand among what is
    /// judged.
    #[must_use]
    pub fn without_port_mapping(mut self) -> Self {
        self.asks_routers = false;
        self
    }

    /// Sets the name that other devices see.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Leaves its name to the program: the host's name.
    #[must_use]
    pub fn unnamed(mut self) -> Self {
        self.name = None;
        self
    }

    /// Sets an environment variable of all its programs from now on; an empty value takes it away.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.env.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The whole environment of its programs.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The host it is on.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The instance's directory: its store, socket and log.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.host.home().join(&self.instance)
    }

    /// The network options that commands need which run the device themselves.
    #[must_use]
    pub fn network_options(&self) -> Vec<&str> {
        let bootstrap = self.bootstrap.iter().flat_map(|address| ["--bootstrap", address]);
        bootstrap.chain((!self.asks_routers).then_some("--no-port-mapping")).collect()
    }

    /// Starts a command and leaves it running.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, args: &[&str], stdin: Option<&str>) -> Result<Running> {
        let home = self.host.home().display().to_string();
        let mut all = vec!["--instance".to_owned(), self.instance.clone(), "--home".to_owned(), home];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        Running::start(&self.host, &Start { program: &self.binary, args: all, env: self.env.clone(), stdin })
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end within `timeout`; its exit code is no error here.
    pub fn run(&self, args: &[&str], stdin: Option<&str>, timeout: Duration) -> Result<Output> {
        self.spawn(args, stdin)?.finish(timeout)
    }

    /// Starts the daemon; returns how long it took until the control socket answered.
    ///
    /// # Errors
    /// When it ends, or does not answer within 20 s.
    pub fn start_daemon(&mut self) -> Result<Duration> {
        self.start_daemon_with(&[])
    }

    /// As [`Device::start_daemon`], with further network options.
    ///
    /// # Errors
    /// When it ends, or does not answer within 20 s.
    pub fn start_daemon_with(&mut self, options: &[&str]) -> Result<Duration> {
        ensure!(!self.is_running(), "the daemon of {} runs already", self.instance);
        let name = self.name.clone();
        let mut args = vec!["start"];
        args.extend(name.iter().flat_map(|name| ["--name", name]));
        args.extend(self.network_options());
        args.extend_from_slice(options);
        args.push("--foreground");
        let mut daemon = self.spawn(&args, None)?;
        let started = daemon.started();
        while !self.status().is_ok_and(|status| status.running) {
            ensure!(daemon.is_running(), "the daemon of {} ended: {}", self.instance, daemon.stderr());
            ensure!(started.elapsed() < START_LIMIT, "no answer from {}: {}", self.instance, daemon.stderr());
            std::thread::sleep(START_POLL);
        }
        let took = started.elapsed();
        self.daemon = Some(daemon);
        Ok(took)
    }

    /// Stops the daemon by command and waits for its end; gives its exit status.
    ///
    /// # Errors
    /// When it does not stop within 20 s; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut daemon = self.daemon.take().with_context(|| format!("{} is not started", self.instance))?;
        let output = self.run(&["stop"], None, START_LIMIT)?;
        ensure!(output.status.success(), "stop ended with {}: {}", output.status, output.stderr.trim());
        let status = daemon.wait(START_LIMIT)?;
        status.with_context(|| format!("the daemon of {} did not stop: {}", self.instance, daemon.stderr()))
    }

    /// Kills the daemon with `kill -9`.
    pub fn kill9(&mut self) {
        self.daemon = None;
    }

    /// Does the daemon run?
    pub fn is_running(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(Running::is_running)
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// When none is started.
    pub fn daemon(&self) -> Result<&Running> {
        self.daemon.as_ref().with_context(|| format!("{} is not started", self.instance))
    }

    /// Runs a command with `--json` and gives the JSON value it prints.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn ask(&self, args: &[&str]) -> Result<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        let output = self.run(&all, None, COMMAND_LIMIT)?;
        output.json().with_context(|| format!("{} on {}", all.join(" "), self.instance))
    }

    /// `status --json`.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn status(&self) -> Result<Status> {
        Ok(serde_json::from_value(self.ask(&["status"])?)?)
    }

    /// `devices --json`.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn devices(&self) -> Result<Vec<PairedDevice>> {
        Ok(serde_json::from_value(self.ask(&["devices"])?)?)
    }

    /// `pair status --json`.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub fn sessions(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_value(self.ask(&["pair", "status"])?)?)
    }

    /// Pings another device until it answers; gives the time that took, the wait for finding it included.
    ///
    /// # Errors
    /// When it does not answer within `timeout`.
    pub fn ping(&self, other: &str, timeout: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.path_of_ping(other, timeout).map(|_| start.elapsed())
    }

    /// As [`Device::ping`]; gives the path that it took.
    ///
    /// # Errors
    /// When it does not answer within `timeout`.
    pub fn path_of_ping(&self, other: &str, timeout: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let output = self.run(&["ping", other, "--count", "1", "--json"], None, left.max(COMMAND_LIMIT))?;
            if output.status.success() {
                let pong: Value = serde_json::from_str(output.stdout.trim()).context("a ping prints one event")?;
                ensure!(pong["event"] == "pong", "a ping without a pong: {pong}");
                return Ok(pong["path"].as_str().with_context(|| format!("no path in {pong}"))?.to_owned());
            }
            if start.elapsed() >= timeout {
                bail!("no answer from {other}: {} {}", output.stdout.trim(), output.stderr.trim());
            }
            std::thread::sleep(START_POLL);
        }
    }
}

/// The program that is tested: `HANDFAST_BIN`, else `handfast` of the same build.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HANDFAST_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("handfast")).find(|file| file.is_file());
    beside.with_context(|| format!("no handfast beside {}: build it (cargo build) or set HANDFAST_BIN", own.display()))
}

/// The whole environment of a program on a host: nothing of the lab's own gets through but the log level.
#[must_use]
pub fn base_env(home: &Path) -> Vec<(String, String)> {
    let home = home.display().to_string();
    let mut env =
        vec![("HOME".to_owned(), home.clone()), ("HANDFAST_HOME".to_owned(), home), ("PATH".to_owned(), search_path())];
    if let Ok(level) = std::env::var("RUST_LOG") {
        env.push(("RUST_LOG".to_owned(), level));
    }
    env
}
