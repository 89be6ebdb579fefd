//! The tests of the pure core from outside: whole worlds of devices in virtual time, scenarios, an attacker, vectors.
//!
//! # The simulation
//!
//! `sim` models devices with their disks, the network between them, a DHT and the people, all from one number, and
//! asserts the safety properties of the commit after every step (`sim/ledger.rs`, `sim/check.rs`). A failing seed prints
//! itself with the command that replays it.
//!
//! ```text
//! cargo test -p handfast-proto --test proto sim                                  # the usual number of seeds
//! HANDFAST_SIM_SEEDS=1000000 cargo test --release -p handfast-proto --test proto sim::random
//! HANDFAST_SIM_SEED=4711 cargo test -p handfast-proto --test proto sim::random   # one seed, with its trace
//! HANDFAST_SIM_FROM=5000000 …                                                    # the first seed of a long run
//! HANDFAST_BLESS=1 cargo test -p handfast-proto --test proto vectors             # rewrite docs/vectors
//! ```

#![expect(clippy::wildcard_enum_match_arm, reason = "a scenario names the outputs and events it is about")]

mod attacks;
mod bench;
mod byhand;
mod callers;
mod commit;
mod comparison;
mod comparison_attacks;
mod endings;
mod lan;
mod links;
mod losses;
mod moving;
mod naive;
mod nearby;
mod newer;
mod parsers;
mod path;
mod paths;
mod punching;
mod records;
mod relays;
mod sim;
mod stalled;
mod vectors;
