//! The local network: beacons, calls that confirm an address, and what they prove.

pub mod io;
