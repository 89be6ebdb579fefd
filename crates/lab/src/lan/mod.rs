//! Hosts that share a room: local networks with and without what makes them easy.
//!
//! A [`LanLab`] is one of the [`Profile`]s: the devices `alice` and `bob`, on most of them the attacker `mallory`, and
//! what they hang on. The switch is a bridge in a namespace of its own, which is also where everything that crosses it
//! can be captured. Cables delay nothing and lose nothing; what is dropped, nft drops. [`probe`] measures what gets
//! through, without the program that is tested.
//!
//! ```no_run
//! use handfast_lab::{device::Device, lan::{LanLab, Profile}, lock::LabLock};
//! # fn main() -> anyhow::Result<()> {
//! let _lock = LabLock::acquire()?;
//! let lab = LanLab::build(Profile::LanNomcast)?;
//! let mut alice = Device::new(&lab.host("alice")?, "alice")?;
//! alice.start_daemon()?;
//! # Ok(())
//! # }
//! ```

pub mod frame;
pub mod observe;
pub mod probe;
pub mod profile;
pub(crate) mod rules;
pub mod sightings;
mod wiring;

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::host::Host;
use crate::ns::Namespace;
pub use profile::Profile;

/// A running local network. What it made is taken away when it and all its hosts are dropped.
pub struct LanLab {
    profile: Profile,
    hosts: Vec<Host>,
    switch: Namespace,
    dir: TempDir,
}

impl LanLab {
    /// Makes the hosts, cables and rules of a profile.
    ///
    /// # Errors
    /// When a part cannot be made; what was made is removed again.
    pub fn build(profile: Profile) -> Result<Self> {
        profile.wire()
    }

    /// Which one it is.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The host called `name`.
    ///
    /// # Errors
    /// When the profile has none.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = self.hosts.iter().find(|host| host.name() == name);
        host.cloned().with_context(|| format!("{} has no host {name}", self.profile.name()))
    }

    /// The namespace of the switch; its bridge is [`BRIDGE`], its port to a host's interface is called `HOST-INTERFACE`.
    /// Where hosts are cabled directly it is empty.
    #[must_use]
    pub const fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// The address at which the other device meets a host: IPv4, or IPv6 where there is no IPv4.
    ///
    /// # Errors
    /// When the host has none.
    pub fn address(&self, name: &str) -> Result<IpAddr> {
        let interface = self.profile.shared_interface(name);
        let all = observe::addresses(self.host(name)?.namespace())?;
        let own = all.iter().filter(|address| address.interface == interface && !address.is_link_local());
        own.map(|address| address.ip).min().with_context(|| format!("{name} has no address on {interface}"))
    }

    /// The directory that holds everything the lab's hosts and programs write.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The bridge of the switch.
pub const BRIDGE: &str = "br0";
