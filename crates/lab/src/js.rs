//! Members of the DHT made of js-libp2p: `interop/` with what its lock file pins, the JavaScript engine among it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::device::base_env;
use crate::process::{Running, Start};
use crate::skip::find_program;
use crate::topology::AccessHost;

/// How long a member may take to start, to connect and to say that it serves.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a command may take: its own limit for a query is 30 s.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The copy of the lock file that says what is installed.
const INSTALLED: &str = "node_modules/.installed";

/// js-libp2p, installed.
pub struct Js {
    engine: PathBuf,
    script: PathBuf,
}

/// A member that serves. Dropping it ends it.
pub struct Serving {
    /// Where it listens, as a multiaddress with its id.
    pub address: String,
    _running: Running,
}

impl Js {
    /// Installs by npm what the lock file pins, unless that is done.
    ///
    /// # Errors
    /// When npm fails, which says why on stderr.
    pub fn install() -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop").canonicalize().context("no interop")?;
        let lock = fs::read(dir.join("package-lock.json")).context("reading the lock file of npm")?;
        if fs::read(dir.join(INSTALLED)).ok().as_ref() != Some(&lock) {
            let npm = find_program("npm").context("there is no npm")?;
            // What is installed needs no script of its own to be run, so none is.
            let args =
                ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-timeout=60000"];
            let status = Command::new(npm).args(args).current_dir(&dir).status().context("starting npm")?;
            ensure!(status.success(), "npm ci ended with {status}");
            fs::write(dir.join(INSTALLED), lock)?;
        }
        let engines = ["x64", "arm64"].map(|cpu| dir.join(format!("node_modules/node-linux-{cpu}/bin/node")));
        let engine =
            engines.into_iter().find(|engine| engine.is_file()).context("no JavaScript engine for this CPU")?;
        Ok(Self { engine, script: dir.join("peer.js") })
    }

    /// Starts a member that routes and answers, connected to these nodes.
    ///
    /// # Errors
    /// When it does not start or reaches one of them not.
    pub fn serve(&self, host: &AccessHost, bootstrap: &[String]) -> Result<Serving> {
        let listen = format!("/ip4/{}/tcp/4001", host.ipv4());
        let running = self.start(host, "serve", &[std::slice::from_ref(&listen), bootstrap].concat())?;
        let serving = running.wait_event("serving", START_LIMIT)?;
        Ok(Serving { address: format!("{listen}/p2p/{}", serving.text("id")?), _running: running })
    }

    /// Runs a command of a member that enters by these nodes and serves nobody; gives what it tells.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, host: &AccessHost, command: &str, args: &[String], bootstrap: &[String]) -> Result<Value> {
        let output = self.start(host, command, &[args, bootstrap].concat())?.finish(COMMAND_LIMIT)?;
        output.json().with_context(|| format!("the member in JavaScript, {command}"))
    }

    fn start(&self, host: &AccessHost, command: &str, args: &[String]) -> Result<Running> {
        let mut all = vec![self.script.display().to_string(), command.to_owned()];
        all.extend_from_slice(args);
        Running::start(host, &Start { program: &self.engine, args: all, env: base_env(host.home()), stdin: None })
    }
}
