//! handfast pairs two devices by twelve words and keeps them connected, with no account and no server that must be
//! trusted. This crate is the device: embed it, or use the `handfast` command, which is a thin user of it.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let device = handfast::Builder::new("/var/lib/my-app/device")
//!     .name("kitchen")
//!     .bootstrap("/ip4/5.1.2.3/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse()?)
//!     .start()
//!     .await?;
//! let code = device.generate(handfast::PairOptions::default()).await?;
//! println!("Read these words aloud: {}", code.words.join(" "));
//! let mut events = device.events(code.seq);
//! while let Some(event) = events.next().await {
//!     if let handfast::EventKind::ApprovalNeeded { device: peer, .. } = &event.kind {
//!         // Show a person the name and the fingerprint, and let them decide.
//!         println!("Allow {} ({})?", peer.name, peer.fingerprint);
//!         device.answer(None, true).await?;
//!     }
//!     if let handfast::EventKind::ComparisonNeeded { comparison, .. } = &event.kind {
//!         // The other person asked for it: show it, and let yours say whether both screens show the same.
//!         println!("Do both devices show {}?", comparison.names.join(", "));
//!         device.compare(None, true).await?;
//!     }
//!     if event.kind.is_terminal() {
//!         break;
//!     }
//! }
//! device.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! One device is one [`Builder::start`] on one folder: its own identity, store and sessions. Everything is asked through
//! a [`Handle`] and told through [`Handle::events`] and [`Handle::status`]. The examples show a whole pairing inside one
//! program, watching events, and approving by hand.
//!
//! What this crate does not do: it prints nothing, reads no configuration file, and knows no command line.

mod builder;
mod engine;
mod error;
mod event;
mod handle;
mod status;
mod store;
mod stored;

pub use builder::{Builder, Network};
pub use error::Error;
pub use event::{
    Comparison, DeviceCard, DeviceName, EVENT_VERSION, Event, EventKind, EventStream, SeenDevice, now_rfc3339,
};
pub use handfast_net::stun::{BadStunServer, StunServer};
pub use handfast_net::{Bootstrap, DEFAULT_LOG, DEFAULT_NODE_LOG};
pub use handfast_proto::addr::Address;
pub use handfast_proto::cause::Cause;
pub use handfast_proto::code::words::{WORD_COUNT, completions, find as find_word, suggest};
pub use handfast_proto::limits::{DEFAULT_TTL, MAX_TTL, MIN_TTL};
pub use handfast_proto::stun::PORT as STUN_PORT;
pub use handle::{Handle, Joined, NewCode, PairOptions, RoundTrip};
pub use status::{Acquisition, AddressStatus, DeviceEntry, LanStatus, NatStatus, OpenSession, SessionEntry, Status};
pub use stored::StoredDevices;

pub mod code {
    //! Understanding what a person types as a code, before any device is asked.

    pub use handfast_proto::code::words::{WordsError, completions, find, suggest};

    /// Checks that `text` is twelve right words or a right QR text. Nothing is sent and nothing is kept.
    ///
    /// # Errors
    /// `code_malformed` or `version_mismatch`, with a text that names the wrong word and the nearest right ones.
    pub fn check(text: &str) -> Result<(), crate::Error> {
        let _: handfast_proto::code::CodeInput = text.parse()?;
        Ok(())
    }
}

pub mod node {
    //! An infrastructure node: bootstrap and DHT server for anybody's devices. It has no identity key, pairs with nobody
    //! and reads nothing of what it stores.

    pub use crate::engine::node::{Node, NodeConfig, NodeStatus, Stun};
}
