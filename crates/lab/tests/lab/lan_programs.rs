//! The real program on local networks: every scenario of `handfast-lab lan-…`, with small counts and without judging times.

use std::time::Duration;

use anyhow::Result;
use handfast_lab::report::Report;
use handfast_lab::scenario::{Options, lan};
use handfast_lab::{device, skip};

use crate::in_lab;

fn check(name: &str, runs: usize, scenario: impl FnOnce(&Options) -> Result<Report>) {
    let missing = device::binary().err().map(|error| format!("{error:#}"));
    if skip::skipped(name, missing) {
        return;
    }
    in_lab(name, || {
        let options = Options { nodes: 0, runs, seed: 1, gap: Duration::from_secs(1), limits: false };
        let report = scenario(&options).expect("the scenario runs to its end");
        let mut text = Vec::new();
        report.write(&mut text).expect("a Vec takes everything");
        eprintln!("{}", String::from_utf8_lossy(&text));
        assert!(report.holds(), "{}", report.failures());
    });
}

/// A3, A12, A19, A33, C1, C3: words and QR pair on every local network on which a path exists, and end with a name elsewhere.
#[test]
fn words_and_qr_pair_on_every_local_network_with_a_path() {
    check("local networks", 1, |options| lan::topologies::run(options, &[]));
}

#[test]
fn two_daemons_on_one_network_pair_by_words_and_by_qr() {
    check("local pairings", 3, lan::times::pairings);
}

#[test]
fn two_plain_commands_pair_on_one_network() {
    check("cold local pairings", 2, lan::times::cold);
}

/// C3: multicast and broadcast are dropped.
#[test]
fn pairing_needs_no_multicast() {
    check("local pairings without multicast", 2, lan::times::blocked);
}

/// A13-A19: discovery before any code, a choice, and a comparison or a QR.
#[test]
fn three_devices_nearby_choose_compare_and_refuse() {
    check("pair nearby", 1, lan::nearby::run);
}

/// A4, A25, A34, A35: what listens, and what the beacon says of it.
#[test]
fn listeners_are_what_the_beacons_say_and_are_gone_afterwards() {
    check("listeners", 1, lan::listeners::run);
}

/// A24, B13, D9: what leaves the devices, decoded, where everything passes, where no multicast does, and on IPv6 alone.
#[test]
fn what_is_sent_names_nobody_and_stays_in_the_network() {
    let profiles = ["lan", "lan-nomcast", "lan-v6"].map(str::to_owned);
    check("capture", 1, |options| lan::capture::run(options, &profiles));
}

/// Attacks 23 to 30, 37 and 48 from a host of the same network.
#[test]
fn a_host_of_the_same_network_can_forge_replay_flood_and_lie_in_vain() {
    check("attacks from the same network", 1, |options| lan::attacks::run(options, &[]));
}
