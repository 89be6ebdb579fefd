//! The drivers of handfast: one libp2p swarm behind commands and events, a clock, a source of seeds, and the list of
//! interfaces. It does what it is told and reports what happened; no pairing is decided here.
//!
//! ```no_run
//! use handfast_net::{Clock, Command, Config, NetEvent, Role, Transport as _};
//! # use handfast_proto::id::JobId;
//! # async fn run(record: handfast_proto::wire::record::Record) -> Result<(), Box<dyn std::error::Error>> {
//! let mut network = handfast_net::start(
//!     Config {
//!         listen: vec!["/ip4/0.0.0.0/udp/0/quic-v1".parse()?, "/ip4/0.0.0.0/tcp/0".parse()?],
//!         fallback_to_any_port: true,
//!         bootstrap: vec!["/dns/node.example/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse()?],
//!         role: Role::Device,
//!         transport_seed: handfast_net::entropy::secret()?,
//!         limits: handfast_proto::records::RecordLimits::DEVICE,
//!         timing: Default::default(),
//!     },
//!     Clock::start(),
//! )?;
//! network.send(Command::Put { id: JobId(1), record }).await?;
//! while let Some(event) = network.next().await {
//!     if let NetEvent::PutDone { stored_on, .. } = event {
//!         println!("stored on {stored_on} nodes");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Dropping the [`Network`] ends it: streams that are being closed get a moment to leave, then every connection is
//! closed properly, so that peers notice at once.
//!
//! The local network has a driver of its own, [`lan`]: beacons, confirmation listeners and calls, beside the swarm.
//!
//! What it does not do: it keeps no state on disk, knows nothing about codes, devices or consent, and does not judge
//! records beyond what any node can check.

mod api;
mod backlog;
mod bootstrap;
mod clock;
pub mod entropy;
mod interfaces;
pub mod lan;
pub mod portmap;
mod rate;
mod routes;
mod slumber;
pub mod stun;
mod swarm;

pub use api::{
    Command, Config, DialFailure, DisconnectCause, Interface, MAX_BOOTSTRAP, NetEvent, NetStatus, NetworkGone, Role,
    StartError, StreamEnd, StreamFailure, StreamProtocol, Timing, Transport,
};
pub use bootstrap::{BadBootstrap, Bootstrap, Host};
pub use clock::Clock;
pub use swarm::{DIRECT_FIRST, MAX_DIAL_ADDRESSES, MAX_DIAL_RELAYS, MAX_LOOKUPS, Network, start, tid_of_seed};

/// What to log when nothing else is asked for, as a filter of `tracing-subscriber`: our own changes of state, and of the
/// network stack only what is wrong, since it tells addresses at the level of ordinary news.
pub const DEFAULT_LOG: &str = "info,libp2p=warn";

/// The same for a node: what is wrong, but not that the first node of a DHT knows no other.
pub const DEFAULT_NODE_LOG: &str = "warn,libp2p_kad=error";
