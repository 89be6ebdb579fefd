//! The pairing protocol of handfast as machines that decide and never act: sans-IO.
#![doc = ""]
pub mod addr;
pub mod code;
mod crypto;
pub mod handshake;
pub mod id;
pub mod keys;
pub mod secret;
pub mod time;
pub mod wire;
