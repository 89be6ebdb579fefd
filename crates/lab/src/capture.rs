//! An observer: tcpdump in a namespace, and what it wrote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::leak::{Finding, Needles};
use crate::ns::Namespace;
use crate::pcap::{self, Packet};
use crate::skip::search_path;

/// How long tcpdump may take to begin and to end.
const TCPDUMP_LIMIT: Duration = Duration::from_secs(10);

/// Kernel buffer of the capture in KiB: 256 MiB, more than a whole run sends, so that a busy machine loses nothing.
const BUFFER_KIB: &str = "262144";

/// A running capture. Dropping it kills tcpdump.
pub struct Capture {
    child: Child,
    file: PathBuf,
    log: PathBuf,
}

/// What a capture holds.
pub struct Captured {
    /// The packets, in order of arrival. On a router each is seen on its way in and on its way out.
    pub packets: Vec<Packet>,
    /// Packets the kernel could not keep; a proof of absence needs 0.
    pub lost: u64,
}

impl Capture {
    /// Captures everything on `interface` (`any` for all) of a namespace into `file`; returns once it runs.
    ///
    /// # Errors
    /// When tcpdump does not begin.
    pub fn start(namespace: &Namespace, interface: &str, file: &Path) -> Result<Self> {
        let log = file.with_extension("tcpdump");
        let errors = std::fs::File::create(&log)?;
        let mut command = Command::new("tcpdump");
        command.args([
            "-i",
            interface,
            "-n",
            "-s",
            "0",
            "-U",
            "--immediate-mode",
            "-B",
            BUFFER_KIB,
            "-Z",
            "root",
            "-w",
        ]);
        command.arg(file).env("PATH", search_path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let child = namespace.enter(|| command.spawn())?.context("starting tcpdump")?;
        let capture = Self { child, file: file.to_owned(), log };
        let start = Instant::now();
        while !capture.says("listening on") {
            ensure!(start.elapsed() < TCPDUMP_LIMIT, "tcpdump did not begin: {}", capture.messages());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(capture)
    }

    /// Ends the capture and reads it back.
    ///
    /// # Errors
    /// When tcpdump does not end or its file is damaged.
    pub fn stop(mut self) -> Result<Captured> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a pid is positive")?;
        kill_process(pid, Signal::INT)?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > TCPDUMP_LIMIT {
                bail!("tcpdump did not end: {}", self.messages());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let messages = self.messages();
        let lost = messages
            .lines()
            .find_map(|line| line.strip_suffix(" packets dropped by kernel")?.trim().parse().ok())
            .with_context(|| format!("tcpdump did not count: {messages}"))?;
        Ok(Captured { packets: pcap::read(&std::fs::read(&self.file)?)?, lost })
    }

    fn messages(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn says(&self, text: &str) -> bool {
        self.messages().contains(text)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Captured {
    /// Where any of `needles` occurs: in a packet, or in a flow's payloads put together.
    #[must_use]
    pub fn search(&self, needles: &Needles) -> Vec<Finding> {
        let mut found = Vec::new();
        for (number, packet) in self.packets.iter().enumerate() {
            found.extend(needles.search(&format!("packet {number}"), &packet.bytes));
        }
        for (number, flow) in pcap::flows(&self.packets).iter().enumerate() {
            found.extend(needles.search(&format!("flow {number}"), flow));
        }
        found
    }
}
