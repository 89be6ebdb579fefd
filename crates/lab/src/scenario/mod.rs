//! What is measured in the lab: each scenario is one function from [`Options`] to a [`Report`].
//!
//! A report's checks are the acceptance of the product; `limits` says whether times count too, which they do for a
//! release build on a quiet machine only.
//!
//! [`Report`]: crate::report::Report

use std::time::Duration;

mod agreement;
pub mod attack;
pub mod causes;
pub mod cold;
pub mod dht_loss;
pub mod faults;
pub mod footprint;
pub mod growth;
pub mod interop;
pub mod kill9;
pub mod lan;
pub mod leaks;
pub mod nat_kinds;
pub mod nat_matrix;
pub mod pairing;
pub mod pairings;
pub mod port_mapping;
pub mod published;
pub mod race;
pub mod reachability;
pub mod record_flood;
pub mod relay_attack;
pub mod restart;
pub mod roaming;
pub mod same_nat;
pub mod slumber;
pub mod upgrade;
pub mod world;

/// What the scenarios have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// DHT nodes.
    pub nodes: usize,
    /// How often it is done: pairings, kill moments, joiners, failures.
    pub runs: usize,
    /// Decides which nodes are killed and when, and which frames are lost.
    pub seed: u64,
    /// Between the words appearing on one device and their being entered on the other. People need longer.
    pub gap: Duration,
    /// Do the times of the acceptance count?
    pub limits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 20, runs: 1, seed: 1, gap: Duration::from_secs(1), limits: true }
    }
}
