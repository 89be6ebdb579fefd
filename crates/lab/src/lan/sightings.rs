//! Beacons in a capture.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use handfast_proto::wire::beacon::{Beacon, PORT, ReceivedBeacon};

use crate::pcap::{Datagram, Packet};

/// A datagram that was sent to the port of beacons.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    /// When, since 1970.
    pub at: Duration,
    /// The datagram.
    pub datagram: Datagram<'a>,
    /// What it says; none if it is no beacon. That it was made by the holder of some code is not looked at.
    pub beacon: Option<Beacon>,
}

impl Sighting<'_> {
    /// Was it sent to everybody rather than to one host?
    #[must_use]
    pub fn is_announced(&self) -> bool {
        match self.datagram.ends.to.ip() {
            // The broadcast address of every network in the lab ends in ones.
            IpAddr::V4(ip) => ip.is_multicast() || ip.octets()[3] == 255,
            IpAddr::V6(ip) => ip.is_multicast(),
        }
    }
}

/// What a host sent to the port of beacons, in order; to be given a capture on all its interfaces.
#[must_use]
pub fn sent(packets: &[Packet]) -> Vec<Sighting<'_>> {
    of(packets, |packet| packet.is_sent())
}

/// The latest beacon of `from` in a capture.
///
/// # Errors
/// When there is none.
pub fn latest(packets: &[Packet], from: IpAddr) -> Result<Beacon> {
    let all = of(packets, |_| true);
    let own = all.into_iter().filter(|seen| seen.datagram.ends.from.ip() == from);
    own.filter_map(|seen| seen.beacon).next_back().with_context(|| format!("no beacon of {from}"))
}

fn of(packets: &[Packet], take: impl Fn(&Packet) -> bool) -> Vec<Sighting<'_>> {
    packets
        .iter()
        .filter(|packet| take(packet))
        .filter_map(|packet| {
            let datagram = packet.datagram().filter(|datagram| datagram.ends.to.port() == PORT)?;
            let beacon = ReceivedBeacon::parse(datagram.payload).ok().map(|received| received.beacon().clone());
            Some(Sighting { at: packet.at, datagram, beacon })
        })
        .collect()
}
