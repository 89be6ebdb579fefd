//! Whole worlds of devices in virtual time, replayed from one number.

pub(crate) mod check;
pub(crate) mod device;
pub(crate) mod dht;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod ledger;
pub(crate) mod meddler;
pub(crate) mod net;
mod random;
pub(crate) mod rough;
pub(crate) mod trace;
pub(crate) mod world;
