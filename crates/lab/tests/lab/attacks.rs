//! The attacks of section 15 of the protocol against the real program, with few positions of each message and without
//! the slow ones; and the same attacks against the naive device, where they must succeed.

use std::time::{Duration, Instant};

use handfast_lab::scenario::{Options, attack};
use handfast_lab::{device, skip};

use crate::in_lab;

/// Nodes of the DHT in which the attacks are played.
const NODES: usize = 4;

/// One: only the usual positions, and no attack that takes longer than a quarter of a minute.
const RUNS: usize = 1;

/// A group takes 10 to 50 s. One that takes so long has an attack in it that waits for what does not come.
const GROUP_LIMIT: Duration = Duration::from_secs(150);

fn refused(group: &str) {
    let missing = device::binary().err().map(|error| format!("{error:#}"));
    if skip::skipped(group, missing) {
        return;
    }
    in_lab(group, || {
        let options = Options { nodes: NODES, runs: RUNS, seed: 1, gap: Duration::ZERO, limits: false };
        let start = Instant::now();
        let report = attack::run(&options, &[group.to_owned()]).expect("the attacks are played to their end");
        let took = start.elapsed();
        let mut text = Vec::new();
        report.write(&mut text).expect("a Vec takes everything");
        eprintln!("{}", String::from_utf8_lossy(&text));
        assert!(report.holds(), "{}", report.failures());
        assert!(took < GROUP_LIMIT, "the group {group} took {took:?}");
    });
}

/// Attacks 15, 34, 35, 51.
#[test]
fn codes_that_cannot_be_right_or_are_over_and_clocks_that_are_wrong() {
    let missing = skip::faketime_library().is_none().then(|| "missing Debian packages: faketime".to_owned());
    if !skip::skipped("codes", missing) {
        refused("codes");
    }
}

/// Attacks 1, 3, 4, 13, 42, 48.
#[test]
fn strangers_get_no_answer_and_cost_little() {
    refused("strangers");
}

/// Attacks 5, 8, 9, 10, 12, 14, 36.
#[test]
fn holders_of_a_code_prove_who_they_are_or_are_closed() {
    refused("holders");
}

/// Attacks 37 and 38.
#[test]
fn people_see_clean_names_and_their_no_is_final() {
    refused("people");
}

/// Attacks 2, 8, 9, 10, 11, 16, 37.
#[test]
fn imposters_do_not_pass_for_the_initiator() {
    refused("imposters");
}

/// Attack 6.
#[test]
fn a_flipped_bit_in_any_message_ends_the_handshake() {
    refused("flips");
}

/// Attack 7.
#[test]
fn frames_out_of_order_close_or_change_nothing() {
    refused("order");
}

/// Attacks 16 to 22 and 36.
#[test]
fn records_and_nodes_that_lie_lead_nowhere() {
    refused("records");
}

/// Attacks 6, 9, 40, 41, 42.
#[test]
fn a_hello_needs_the_pairing_and_both_keys() {
    refused("hellos");
}

/// Attack 49.
#[test]
fn the_home_and_its_socket_are_for_their_owner_alone() {
    refused("home");
}

/// Attacks 1, 2, 4, 5, 10, 11, 16, 52: the harness can see.
#[test]
fn attacks_that_a_naive_device_falls_for_fail_against_the_real_program() {
    refused(attack::NAIVE);
}
