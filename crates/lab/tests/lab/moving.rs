//! The real program while networks change under it and links find better ways: scenarios of `handfast-lab`, with small
//! counts and without judging times.

use anyhow::Result;
use handfast_lab::moving::{Change, MovingHost};
use handfast_lab::report::Report;
use handfast_lab::scenario::{Options, roaming, same_nat, slumber, upgrade};
use handfast_lab::topology::Lab;

use crate::{in_lab, play};

/// Nodes: three are bootstrap and relay of every device.
const NODES: usize = 3;

fn check(name: &str, runs: usize, scenario: impl FnOnce(&Options) -> Result<Report>) {
    play(name, NODES, runs, scenario);
}

/// The network itself is there at once after every change.
#[test]
fn a_moving_host_reaches_others_at_every_place_at_once() {
    in_lab("a moving host", || {
        let lab = MovingHost::routers(Lab::empty()).host("far").build().expect("a lab");
        let far = lab.host("far").expect("a host").ipv4().to_string();
        let mut moving = MovingHost::new(&lab, "near").expect("a host");
        let reach = |moving: &MovingHost, what: &str| {
            let pinged = moving.host().namespace().tool("ping", &["-c", "1", "-W", "1", &far]);
            pinged.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        };
        reach(&moving, "at first");
        // The last of all changes leads to the street, where not every change is possible.
        for change in Change::ALL.into_iter().chain([Change::Address, Change::Offline, Change::Network]) {
            assert!(moving.can(change), "{}", change.name());
            moving.change(change).expect("it moves");
            reach(&moving, change.name());
        }
    });
}

/// C14: changes of address, router and network, one of them in the middle of a pairing.
#[test]
fn a_device_that_moves_is_reached_again_and_keeps_its_pairings() {
    check("roaming", 6, |options| roaming::run(options, 1));
}

/// C13, C14: a sleep, as far as it can be played.
#[test]
fn a_device_that_was_stopped_answers_at_once_when_it_goes_on() {
    check("slumber", 1, slumber::run);
}

/// B28, C14: the upgrade of a link loses and repeats nothing.
#[test]
fn a_link_becomes_direct_while_requests_run_over_it() {
    check("upgrade", 2, |options| upgrade::run(options, 500));
}

/// B12: private addresses in the sealed record, and the relay where they do not lead there.
#[test]
fn two_devices_behind_one_nat_meet_inside_where_there_is_a_way() {
    check("one NAT", 1, same_nat::run);
}
