//! The library as an app uses it: devices with homes of their own and a node, all on the loopback interface. What needs
//! real networks is in `crates/lab`.

mod comparison;
mod failures;
mod pairing;
mod world;
