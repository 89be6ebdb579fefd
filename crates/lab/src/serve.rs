//! A DHT of `handfast serve` nodes, each on a host of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::device::{base_env, binary};
use crate::nat::HTTPS;
use crate::process::{Line, Running, Start};
use crate::topology::AccessHost;

/// How long a node may take until it says `ready`.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Nodes that the others, and the devices, start from.
pub const BOOTSTRAP_NODES: usize = 3;

/// Port of every node, UDP and TCP.
const PORT: u16 = 4001;

/// Port of every node's metrics, on loopback.
const METRICS_PORT: u16 = 9400;

/// How long the nodes get to know each other before anything is measured.
const SETTLE: Duration = Duration::from_secs(3);

/// How long a node that was started again may take until it knows half of the others, and how often it is asked.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
const WHOLE_POLL: Duration = Duration::from_millis(200);

/// The metric that tells how many nodes a node has in its routing table.
const KNOWN_NODES: &str = "handfast_known_nodes";

/// The nodes of a DHT.
pub struct ServeNodes {
    binary: PathBuf,
    rust_log: Option<String>,
    nodes: Vec<Node>,
}

struct Node {
    host: AccessHost,
    running: Option<Running>,
    addresses: Vec<String>,
}

impl ServeNodes {
    /// Starts a node on each host, waits until all are ready and gives them 3 s to settle. The first is the bootstrap of the
    /// next two, the first three are that of all others.
    ///
    /// # Errors
    /// When a node does not get ready.
    pub fn start(hosts: &[AccessHost], rust_log: Option<&str>) -> Result<Self> {
        let mut nodes =
            Self { binary: binary()?, rust_log: rust_log.map(str::to_owned), nodes: Vec::with_capacity(hosts.len()) };
        let (first, others) = hosts.split_at(hosts.len().min(BOOTSTRAP_NODES));
        for host in first {
            let node = nodes.spawn(host)?;
            nodes.nodes.push(node);
            nodes.wait_ready(nodes.nodes.len() - 1)?;
        }
        for host in others {
            let node = nodes.spawn(host)?;
            nodes.nodes.push(node);
        }
        for index in first.len()..hosts.len() {
            nodes.wait_ready(index)?;
        }
        std::thread::sleep(SETTLE);
        Ok(nodes)
    }

    /// Addresses by which devices enter this DHT: all of the first three nodes.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        self.nodes.iter().take(BOOTSTRAP_NODES).flat_map(|node| node.addresses.iter().cloned()).collect()
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Are there no nodes?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Kills nodes with `kill -9`.
    pub fn kill9(&mut self, indices: &[usize]) {
        for index in indices {
            if let Some(node) = self.nodes.get_mut(*index) {
                node.running = None;
            }
        }
    }

    /// Starts all nodes again that do not run, with their data, one after the other, and waits until the DHT is whole: until
    /// each of them knows a third of the others, more than it was told to begin with. (Those that went on notice only after
    /// a silence that a node was gone, and come back to it. Who is still missing is found at the next refresh, within
    /// minutes; until then lookups go by way of others.)
    ///
    /// # Errors
    /// When a node does not get ready, or stays alone.
    pub fn restart_dead(&mut self) -> Result<()> {
        let dead: Vec<usize> = (0..self.len()).filter(|index| self.nodes[*index].running.is_none()).collect();
        for index in &dead {
            let host = self.nodes[*index].host.clone();
            // Its addresses stay: the others that start now enter by them.
            self.nodes[*index].running = self.spawn(&host)?.running;
            self.wait_ready(*index)?;
        }
        for index in &dead {
            self.wait_whole(*index)?;
        }
        Ok(())
    }

    /// Waits until a node knows a third of the others.
    fn wait_whole(&self, index: usize) -> Result<()> {
        let (start, enough) = (Instant::now(), (self.len() / 3).max(BOOTSTRAP_NODES));
        loop {
            let known = self.metric(index, KNOWN_NODES)?;
            if known >= enough as f64 {
                return Ok(());
            }
            let waited = start.elapsed();
            ensure!(waited < WHOLE_LIMIT, "node {index} knows {known} of {} nodes after {waited:?}", self.len());
            std::thread::sleep(WHOLE_POLL);
        }
    }

    /// The process of node `index`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, index: usize) -> Result<&Running> {
        self.nodes.get(index).and_then(|node| node.running.as_ref()).with_context(|| format!("node {index} is down"))
    }

    /// The Prometheus metrics of node `index`.
    ///
    /// # Errors
    /// When it has none.
    pub fn metrics(&self, index: usize) -> Result<Vec<(String, f64)>> {
        let node = self.nodes.get(index).with_context(|| format!("no node {index}"))?;
        crate::metrics::read(node.host.namespace(), SocketAddr::from(([127, 0, 0, 1], METRICS_PORT)))
    }

    /// One metric of node `index`.
    ///
    /// # Errors
    /// When it does not tell that one.
    pub fn metric(&self, index: usize, name: &str) -> Result<f64> {
        let metrics = self.metrics(index)?;
        let found = metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        found.with_context(|| format!("node {index} has no metric {name}"))
    }

    fn spawn(&self, host: &AccessHost) -> Result<Node> {
        let (ipv4, ipv6) = (host.ipv4(), host.ipv6());
        let mut args = vec!["serve".to_owned(), "--data".to_owned(), host.home().join("serve").display().to_string()];
        for listen in [
            format!("/ip4/{ipv4}/udp/{PORT}/quic-v1"),
            format!("/ip4/{ipv4}/tcp/{PORT}"),
            format!("/ip4/{ipv4}/tcp/{HTTPS}"),
            format!("/ip6/{ipv6}/udp/{PORT}/quic-v1"),
            format!("/ip6/{ipv6}/tcp/{PORT}"),
        ] {
            args.extend(["--listen".to_owned(), listen]);
        }
        let own = format!("/{ipv4}/");
        for address in self.bootstrap().into_iter().filter(|address| !address.contains(&own)) {
            args.extend(["--bootstrap".to_owned(), address]);
        }
        args.extend(["--metrics".to_owned(), format!("127.0.0.1:{METRICS_PORT}")]);
        let mut env = base_env(host.home());
        if let Some(level) = &self.rust_log {
            env.retain(|(name, _)| name != "RUST_LOG");
            env.push(("RUST_LOG".to_owned(), level.clone()));
        }
        let running = Running::start(host, &Start { program: &self.binary, args, env, stdin: None })?;
        Ok(Node { host: host.clone(), running: Some(running), addresses: Vec::new() })
    }

    fn wait_ready(&mut self, index: usize) -> Result<()> {
        let start = Instant::now();
        let running = self.process(index)?;
        let is_ready = |line: &Line| (line.text.trim() == "ready").then_some(());
        running.wait_line(READY_LIMIT, is_ready).with_context(|| format!("node {index} is not ready"))?;
        let lines = running.lines();
        let addresses: Vec<String> =
            lines.iter().map(|line| line.text.trim().to_owned()).filter(|line| line.starts_with('/')).collect();
        ensure!(
            addresses.iter().all(|address| address.contains("/p2p/")) && !addresses.is_empty(),
            "node {index} was ready after {:?} but printed no dialable address: {addresses:?}",
            start.elapsed()
        );
        self.nodes[index].addresses = addresses;
        Ok(())
    }
}
