//! The drivers on loopback; one test for each trap of the network stack that is in use.

mod connections;
mod dht;
mod lan;
mod lan_beacons;
mod lan_calls;
mod link;
mod pairing_path;
mod raw;
mod reach;
mod relay;
mod resume;
mod rogue;
mod round_trips;
mod streams;
mod support;
mod traps;
