//! The drivers on loopback; one test for each trap of the network stack that is in use.

mod pairing_path;
mod support;
