//! What a device finds out about who can call it from outside, compared with what the lab has put in front of it
//! (requirement B27): nodes that it knows have called it at its public addresses, or have tried in vain.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use handfast_proto::stun::behaviour::Filtering;

use super::Options;
use super::pairing::offer;
use super::world::World;
use crate::device::Device;
use crate::nat::Nat;
use crate::report::Report;
use crate::topology::Lab;

/// What can be found out has been by then: two nodes agree on an address, one calls, two are called over TCP, one calls.
const FIND_LIMIT: Duration = Duration::from_secs(10);

/// How often a device is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Starts a device behind each kind of network and compares what it tells of its public addresses.
///
/// # Errors
/// When the lab, a node or a device cannot be made.
pub fn run(options: &Options) -> Result<Report> {
    let mut builder = Lab::empty();
    for n in 0..options.nodes {
        builder = builder.host(&format!("node-{n}"));
    }
    for nat in Nat::ALL {
        builder = builder.behind(nat, nat.name());
    }
    let world = World::of(builder, options, None)?;
    let mut report = Report::new(
        "who can call a device from outside, 25 ms one way",
        &["network", "reached from outside over", "must be", "seen after ms"],
    );
    let mut started = Vec::new();
    for nat in Nat::ALL {
        let mut device = world.device(nat.name(), nat.name())?;
        let start = Instant::now();
        device.start_daemon()?;
        // A router is asked for ports while somebody may want to come.
        let offer = if nat == Nat::Upnp { Some(offer(&device, &[])?) } else { None };
        started.push((nat, device, start, offer));
    }
    // Where nothing must be found it is waited for to the end; those waits run side by side.
    started.sort_by_key(|(nat, ..)| wanted(*nat).is_empty());
    for (nat, device, start, _offer) in &started {
        let (nat, wanted) = (*nat, wanted(*nat));
        let (found, took) = found(device, *start, &wanted)?;
        report.row(vec![nat.name().to_owned(), text(&found), text(&wanted), took.as_millis().to_string()]);
        if nat == Nat::AddressRestricted {
            report.note(
                "addr-restr lets in every port of whom it knows, and a node that is asked is known: without a STUN server \
                 that has two addresses this cannot be told from a network that lets everybody in",
            );
        } else {
            report.check(nat.name(), found == wanted, text(&found));
        }
    }
    Ok(report)
}

/// The transports over which somebody from outside gets in.
fn wanted(nat: Nat) -> BTreeSet<&'static str> {
    let filtering = [nat.kind().map(|kind| kind.filtering), nat.ipv6()];
    let is_open = nat == Nat::Upnp || filtering.contains(&Some(Filtering::EndpointIndependent));
    if is_open { BTreeSet::from(["quic", "tcp"]) } else { BTreeSet::new() }
}

/// What the device tells once it is as it must be, or at the end of its time.
fn found(device: &Device, start: Instant, wanted: &BTreeSet<&str>) -> Result<(BTreeSet<&'static str>, Duration)> {
    loop {
        let status = device.ask(&["status"])?;
        let mut found = BTreeSet::new();
        for address in status["addresses"].as_array().into_iter().flatten() {
            let is_public = address["scope"] == "internet" && address["source"] != "relay";
            if is_public && address["evidence"] == "peer_confirmed" {
                let text = address["address"].as_str().unwrap_or_default();
                ensure!(text.contains("/tcp/") || text.contains("/udp/"), "an address: {text}");
                found.insert(if text.contains("/tcp/") { "tcp" } else { "quic" });
            }
        }
        let is_over = start.elapsed() >= FIND_LIMIT;
        if is_over || (!wanted.is_empty() && found == *wanted) {
            return Ok((found, start.elapsed()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn text(transports: &BTreeSet<&'static str>) -> String {
    if transports.is_empty() { "nothing".to_owned() } else { transports.iter().copied().collect::<Vec<_>>().join(", ") }
}
