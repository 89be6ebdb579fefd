//! The network in which a scenario runs: a lab, a DHT in it, devices.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use crate::device::Device;
use crate::serve::ServeNodes;
use crate::topology::{Lab, LabBuilder};

/// How long a device that has just started gets to enter the DHT where it is meant to be warm.
const WARM_UP: Duration = Duration::from_secs(2);

/// A lab with a running DHT.
pub struct World {
    /// The DHT.
    pub dht: ServeNodes,
    /// The lab. (The field order matters: nodes end before their hosts are taken away.)
    pub lab: Lab,
}

impl World {
    /// The two networks and the DHT that the options ask for.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(options: &Options) -> Result<Self> {
        Self::of(Lab::two_networks(options.nodes), options, None)
    }

    /// As [`World::new`] with other hosts, and a log level for the nodes.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn of(builder: LabBuilder, options: &Options, rust_log: Option<&str>) -> Result<Self> {
        let lab = builder.seed(options.seed).build()?;
        let dht = ServeNodes::start(&lab.nodes(), rust_log)?;
        Ok(Self { dht, lab })
    }

    /// A device that does not run yet.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn device(&self, host: &str, instance: &str) -> Result<Device> {
        let host = self.lab.host(host)?;
        Ok(Device::new(&host, instance)?.bootstrap(self.dht.bootstrap()))
    }

    /// Two devices whose daemons run and had time to enter the DHT: `alice-RUN` and `bob-RUN`.
    ///
    /// # Errors
    /// When one does not start.
    pub fn warm_pair(&self, run: usize) -> Result<(Device, Device)> {
        let mut alice = self.device("alice", &format!("alice-{run}"))?;
        let mut bob = self.device("bob", &format!("bob-{run}"))?;
        alice.start_daemon()?;
        bob.start_daemon()?;
        std::thread::sleep(WARM_UP);
        Ok((alice, bob))
    }
}
