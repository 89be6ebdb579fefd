//! The real program in the lab: every scenario of `handfast-lab`, with small counts and without judging times, since
//! this is a test build that shares its machine with others.

use anyhow::Result;
use handfast_lab::nat::Nat;
use handfast_lab::report::Report;
use handfast_lab::scenario::{
    Options, causes, cold, dht_loss, faults, footprint, growth, interop, kill9, leaks, nat_kinds, nat_matrix, pairings,
    port_mapping, race, reachability, record_flood, relay_attack, restart,
};
use handfast_lab::skip;

use crate::play;

/// Nodes of the small DHT; enough that a record is not on every node's neighbour alone.
const NODES: usize = 6;

fn check(name: &str, runs: usize, scenario: impl FnOnce(&Options) -> Result<Report>) {
    play(name, NODES, runs, scenario);
}

/// B1-B11, B44, B47: two devices on different networks pair by words through the DHT, and list each other.
#[test]
fn two_devices_on_different_networks_pair_by_words() {
    check("pairings", 3, pairings::run);
}

/// B37, C20: our STUN server and an independent one, our client and an independent one.
#[test]
fn each_kind_of_nat_is_named_as_what_the_lab_has_put_there() {
    if !skip::skipped("kinds of NAT", skip::coturn().or_else(skip::miniupnpd)) {
        check("kinds of NAT", 1, nat_kinds::run);
    }
}

/// B12, B14, B28, C14: an address that everybody reaches, holes on both sides, and the relay for the rest.
#[test]
fn devices_behind_nats_pair_at_once_and_directly_where_that_can_be() {
    let pairs = [
        (Nat::Open, Nat::NoUdp),
        (Nat::FullCone, Nat::Symmetric),
        (Nat::PortRestricted, Nat::PortRestricted),
        (Nat::Symmetric, Nat::PortRestricted),
        (Nat::NoUdp, Nat::NoUdp),
        (Nat::Only443, Nat::FullCone),
        (Nat::Upnp, Nat::Symmetric),
        (Nat::Ipv6Firewall, Nat::Ipv6),
        (Nat::Ipv6Only, Nat::Carrier),
    ];
    if !skip::skipped("matrix of NATs", skip::miniupnpd()) {
        check("matrix of NATs", 1, |options| nat_matrix::run(options, &pairs, false));
    }
}

/// B28: others come in by a port that the router maps, and it forgets it after a stop and after a crash.
#[test]
fn a_router_that_maps_ports_is_asked_and_tidied_up() {
    if !skip::skipped("port mapping", skip::miniupnpd()) {
        check("port mapping", 1, |options| port_mapping::run(options, false));
    }
}

/// B27: nodes have called a device where others can, and nowhere else.
#[test]
fn a_device_knows_where_others_can_call_it_and_where_not() {
    if !skip::skipped("reachability", skip::miniupnpd()) {
        check("reachability", 1, reachability::run);
    }
}

/// B28: what one host takes of a relay, others do not miss.
#[test]
fn a_relay_under_attack_goes_on_serving_others() {
    check("attack on a relay", 1, relay_attack::run);
}

/// B1: a node in which others store what they like keeps what honest devices store, and says what came.
#[test]
fn a_flood_of_records_pushes_out_no_honest_one() {
    check("flood of records", 1, |options| record_flood::run(options, 6_000));
}

/// B1: js-libp2p, which shares no code with our nodes, joins the DHT, routes, stores and finds.
#[test]
fn an_independent_implementation_is_a_member_of_our_dht() {
    if !skip::skipped("independent implementation", skip::npm()) {
        check("independent implementation", 1, interop::run);
    }
}

#[test]
fn two_plain_commands_pair_without_daemons() {
    check("cold pairings", 2, cold::run);
}

/// B1: the record survives the loss of half of the nodes.
#[test]
fn a_pairing_survives_the_death_of_half_of_the_dht() {
    check("loss of DHT nodes", 2, dht_loss::run);
}

/// B22, C24: both find each other again after a restart, a day later and with clocks a day apart.
#[test]
fn paired_devices_ping_each_other_after_restarts_and_with_clocks_a_day_apart() {
    let missing = skip::faketime_library().is_none().then(|| "missing Debian packages: faketime".to_owned());
    if !skip::skipped("restarts", missing) {
        check("restarts", 1, restart::run);
    }
}

/// B2, B43, B46: no secret on the wire, in logs, stores, outputs or the process list.
#[test]
fn a_whole_run_at_trace_level_leaks_nothing() {
    check("leaks", 1, leaks::run);
}

/// B36, C18: each fault has its exit code and cause, and whoever follows the hint pairs.
#[test]
fn every_fault_ends_with_its_cause_and_its_hint_leads_to_a_pairing() {
    check("causes", 1, |options| causes::run(options, &[]));
}

/// B26: many failures leave nothing behind.
#[test]
fn many_failures_in_a_row_leave_nothing() {
    check("failures", 15, growth::run);
}

/// B15, B32, B34, B35: a pairing succeeds or ends with the right cause, on both sides, whatever happens to frames, links,
/// addresses and nodes.
#[test]
fn under_faults_two_devices_pair_or_end_with_the_right_cause() {
    check("faults", 1, |options| faults::run(options, &[]));
}

/// C7: of many joiners exactly one is paired.
#[test]
fn of_racing_joiners_exactly_one_is_paired() {
    check("race", 5, race::run);
}

/// B22, B33: a killed side never leaves a device paired with one that does not know it.
#[test]
fn killing_either_side_leaves_no_one_sided_pairing() {
    check("kill -9", 6, kill9::run);
}

#[test]
fn size_memory_and_start_time_can_be_measured() {
    check("footprint", 2, footprint::run);
}
