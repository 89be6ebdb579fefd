//! The pairing protocol of handfast as machines that decide and never act: sans-IO.

pub mod addr;
pub mod addresses;
pub mod cause;
pub mod code;
mod crypto;
pub mod handshake;
pub mod id;
pub mod keys;
pub mod limits;
pub mod link;
pub mod records;
pub mod secret;
pub mod session;
pub mod time;
pub mod wire;
