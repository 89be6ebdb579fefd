//! The pairing protocol of handfast as machines that decide and never act (sans-IO): codes, keys, byte layouts, the
//! handshake, sessions, and the links of paired devices. `docs/protocol.md` says what the bytes mean and why.
//!
//! # The loop
//!
//! Two machines are driven, [`session::Table`] and [`link::Links`], in the same way:
//!
//! 1. Hand in whatever arrived: a command, a frame, the end of a stream, a finished job, or the passing of time. Every
//!    input takes `now`, the moment on both clocks, which never goes back.
//! 2. Drain `poll_output` until it returns nothing: frames to send, streams to close, jobs to do, events to tell.
//! 3. Sleep until `poll_timeout`, or until something arrives.
//!
//! A job (a dial, a put into the DHT, a durable write) holds no decision: do it and report its result. A frame that
//! follows a durable write is sent only after the write was reported done, which the machines see to.
//!
//! ```
//! use std::time::Duration;
//! use handfast_proto::{addr, id, secret, session, time, wire::info};
//!
//! // In production the seeds come from the operating system.
//! let mut rng = secret::Rng::from_seed(secret::Secret::new([1; 32]));
//! let config = session::Config {
//!     tid: id::Tid([2; 32]),
//!     identity: id::Identity::generate(&mut rng),
//!     name: info::DeviceName::clean("kitchen"),
//!     kind: info::DeviceType::Computer,
//!     dht: true,
//!     loopback: addr::LoopbackPolicy::Refuse,
//!     lan: false,
//!     alone: handfast_proto::cause::Cause::NoBootstrap,
//!     vicinity: session::Vicinity::default(),
//! };
//! let mut table = session::Table::new(config, rng);
//! let now = time::Now::default();
//! let (session, code) = table.generate(session::Consent::Ask, Duration::from_secs(600), now)?;
//! assert_eq!(handfast_proto::code::words::to_words(&code).len(), 12);
//! while let Some(output) = table.poll_output() {
//!     if let session::Output::Job(id, session::Job::Publish(record)) = output {
//!         assert_eq!(record.as_bytes().len(), 784);
//!         table.handle_job(id, session::JobResult::Published { stored_on: 20 }, now);
//!     }
//! }
//! assert_eq!(table.statuses()[0].session, session);
//! # Ok::<(), session::JoinError>(())
//! ```
//!
//! # What this crate does not do
//!
//! It opens no socket and no file, reads no clock, no environment and no random source, starts no thread, and knows no
//! type of the network stack. Its tests simulate devices, a bad network and an attacker, and replay from a seed.

pub mod addr;
pub mod addresses;
pub mod cause;
pub mod code;
mod crypto;
pub mod handshake;
pub mod id;
pub mod keys;
pub mod lan;
pub mod limits;
pub mod link;
pub mod portmap;
pub mod reach;
pub mod records;
pub mod sas;
pub mod secret;
pub mod session;
pub mod stun;
pub mod time;
pub mod wire;
