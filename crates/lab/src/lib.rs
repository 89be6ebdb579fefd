//! A network laboratory on one machine, and the measurements made in it.
//!
//! Every host is a network namespace with a home directory of its own; hosts hang on links whose delay, loss and cuts
//! are made by a userspace emulator ([`link`]); the real `handfast` program runs in them as a child process
//! ([`device`], [`serve`]). What crosses the backbone can be captured ([`capture`]) and searched for secrets
//! ([`leak`], [`secrets`]). The [`scenario`] module holds what is measured: each scenario is a function that gives a
//! [`report::Report`], used by the `handfast-lab` program with full counts and by the tests with small ones.
//!
//! ```no_run
//! use handfast_lab::{device::Device, lock::LabLock, serve::ServeNodes, topology::Lab};
//! # fn main() -> anyhow::Result<()> {
//! let _lock = LabLock::acquire()?;
//! let lab = Lab::two_networks(3).build()?;
//! let dht = ServeNodes::start(&lab.nodes(), None)?;
//! let host = lab.host("alice")?;
//! let mut alice = Device::new(&host, "alice")?.bootstrap(dht.bootstrap());
//! alice.start_daemon()?;
//! # Ok(())
//! # }
//! ```
//!
//! What this crate does not do: it reaches no network outside its own namespaces. The protocol it knows is what the
//! attacker of [`scenario::attack`] makes wrong on purpose, and what [`secrets`] needs to know which bytes must never be
//! seen.
//!
//! It needs root and a few Debian packages; [`skip::reason`] tells what is missing.

pub mod capture;
pub mod clock;
pub mod control;
pub mod device;
pub mod files;
pub mod host;
pub mod js;
pub mod lan;
pub mod leak;
pub mod link;
pub mod lock;
pub mod metrics;
pub mod moving;
pub mod naive;
pub mod nat;
pub mod ns;
pub mod pcap;
pub mod peer;
pub mod portmap;
pub mod process;
pub mod procfs;
mod raw;
pub mod report;
pub mod rng;
mod router;
pub mod scenario;
pub mod secrets;
pub mod serve;
pub mod skip;
pub mod stats;
pub mod topology;
pub mod vault;
