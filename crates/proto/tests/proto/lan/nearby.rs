//! The machine of the local network while devices are ready to pair nearby: who is in the list, and who is called.

use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::lan::io::Addressed;
use handfast_proto::lan::{Event, FamilyPorts, NearbyDevice, Purpose};
use handfast_proto::wire::beacon::{Beacon, BeaconKind, Nid, ReceivedBeacon};
use handfast_proto::wire::info::DeviceName;

use super::link::{Device, Link, WINDOW, ipv4, two};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A link on which so many devices are ready.
fn ready(count: u8) -> Link {
    let mut link = Link::new((1..=count).map(Device::new).collect());
    for n in 0..count.into() {
        link.open(n, Purpose::Nearby { name: DeviceName::clean(&format!("device {n}")) });
    }
    link
}

fn listed(link: &Link, at: usize, ip: IpAddr) -> Option<NearbyDevice> {
    link.devices[at].lan.ready(WINDOW).into_iter().find(|d| d.ip == ip)
}

/// A13, A15: devices that are ready nearby list each other with the names they give themselves.
#[test]
fn a13_devices_nearby_list_each_other_before_any_code_exists() {
    let mut link = Link::new(vec![Device::new(1), Device::new(2), Device::new(3)]);
    for (n, name) in ["kitchen", "phone", "laptop\u{202e}"].iter().enumerate() {
        link.open(n, Purpose::Nearby { name: DeviceName::clean(name) });
    }
    link.run(Duration::from_secs(8));
    let names: Vec<String> =
        link.devices[0].lan.ready(WINDOW).into_iter().filter_map(|d| d.name.map(|n| n.to_string())).collect();
    assert_eq!(names, ["phone", "laptop"]);
}

/// A device whose beacons do not arrive shows itself by calls, again and again, and is gone when it answers none.
#[test]
fn a_device_nearby_that_only_calls_stays_as_long_as_it_answers() {
    let mut link = two();
    link.devices[0].hears_group = false;
    for n in [0, 1] {
        link.open(n, Purpose::Nearby { name: DeviceName::clean("device") });
    }
    link.run(Duration::from_secs(600));
    assert_eq!(link.devices[0].lan.ready(WINDOW).len(), 1, "it is there and can be called");
    assert!(link.devices[0].calls_made <= 2 + 600 / 45, "{}", link.devices[0].calls_made);
    link.devices.truncate(1);
    link.run(Duration::from_secs(121));
    assert_eq!(link.devices[0].lan.ready(WINDOW), []);
    assert!(link.devices[0].events.iter().any(|e| matches!(e, Event::Gone { .. })));
}

/// Attack 30: what a beacon says everybody can say. Only the device itself answers under its key at its address.
#[test]
fn attack_30_whoever_copies_an_id_and_a_key_has_not_answered_a_call() {
    let mut link = ready(2);
    link.run(secs(2));
    let owner = listed(&link, 0, ipv4(2).into()).expect("it is near");
    assert!(owner.answered);
    let bytes = link.devices[1].sent.last().expect("beacons").bytes;
    let theirs = ReceivedBeacon::parse(&bytes).expect("a beacon").beacon().clone();
    let copy = Beacon { kind: BeaconKind::Nearby, address: ipv4(3).into(), ..theirs };
    // Another device is there, with a key of its own.
    link.devices.push(Device::new(3));
    link.open(2, Purpose::Nearby { name: DeviceName::clean("copy") });
    link.deliver(0, ipv4(3).into(), Addressed::Group, &copy.open());
    link.run(secs(10));
    let copied: Vec<NearbyDevice> =
        link.devices[0].lan.ready(WINDOW).into_iter().filter(|d| d.nid == owner.nid && d.ip != owner.ip).collect();
    assert!(matches!(&copied[..], [copy] if copy.spki == owner.spki && !copy.answered), "{copied:?}");
}

/// One datagram in the name of a device that has answered does not give its line another key.
#[test]
fn attack_30_a_datagram_with_a_forged_source_does_not_change_the_key_of_a_device_that_has_answered() {
    let mut link = ready(2);
    link.run(secs(2));
    let owner = listed(&link, 0, ipv4(2).into()).expect("it is near");
    let bytes = link.devices[1].sent.last().expect("beacons").bytes;
    let theirs = ReceivedBeacon::parse(&bytes).expect("a beacon").beacon().clone();
    let forged = Beacon { kind: BeaconKind::Nearby, spki: [9; 32], ..theirs };
    link.deliver(0, ipv4(2).into(), Addressed::Group, &forged.open());
    assert_eq!(listed(&link, 0, ipv4(2).into()), Some(owner));
}

/// Devices that say something new in every beacon are called no more often than is right, and keep nobody else waiting.
#[test]
fn attack_27_news_in_every_beacon_does_not_bring_a_call_each() {
    let mut link = ready(4);
    for second in 1..=300 {
        let now = link.now;
        let ports = FamilyPorts { v4: (4000 + second, 5000), v6: (4000 + second, 5000) };
        for restless in [1, 2] {
            link.devices[restless].lan.set_ports(ports, now);
        }
        link.run(secs(1));
    }
    let calls_to = |n: u8| link.devices[0].called.iter().filter(|ip| **ip == IpAddr::from(ipv4(n))).count();
    assert!(calls_to(2) <= 300 / 5 + 2, "{}", calls_to(2));
    assert!(calls_to(2) + calls_to(3) + calls_to(4) <= 14 + 10 * 5, "ten in a minute to those who are known");
    assert!((300 / 60..=300 / 45 + 1).contains(&calls_to(4)), "{}", calls_to(4));
}

/// A call that was lost is made again, so that a name is learned late and not never.
#[test]
fn a_device_that_did_not_answer_is_called_again() {
    let mut link = two();
    link.devices[1].is_lost = true;
    for n in [0, 1] {
        link.open(n, Purpose::Nearby { name: DeviceName::clean("device") });
    }
    link.run(secs(10));
    link.devices[1].is_lost = false;
    assert!(!listed(&link, 0, ipv4(2).into()).expect("it is near").answered);
    link.run(secs(45));
    let listed = listed(&link, 0, ipv4(2).into()).expect("it is near");
    assert!(listed.answered && listed.name.is_some());
}

/// Devices that are known are called again, and newcomers are not kept waiting by it.
#[test]
fn a_newcomer_among_many_is_called_at_once() {
    let mut link = ready(30);
    link.run(secs(200));
    let before = link.devices[0].calls_made;
    link.run(secs(60));
    let again = link.devices[0].calls_made - before;
    assert!((8..=10).contains(&again), "{again} in a minute");
    link.devices.push(Device::new(31));
    link.open(30, Purpose::Nearby { name: DeviceName::clean("newcomer") });
    link.run(secs(2));
    assert!(listed(&link, 0, ipv4(31).into()).expect("it is near").answered);
}

/// Section 6.3: ids change, also for who hears no beacons.
#[test]
fn whoever_hears_no_beacons_learns_a_new_id_by_a_call() {
    let mut link = two();
    link.devices[1].hears_group = false;
    for n in [1, 0] {
        link.open(n, Purpose::Nearby { name: DeviceName::clean("device") });
        link.run(secs(100));
    }
    link.run(secs(808));
    let named = |e: &Event| if let Event::Named { nid, .. } = e { Some(*nid) } else { None };
    let names: Vec<Nid> = link.devices[0].events.iter().filter_map(named).collect();
    assert_eq!(names.len(), 2);
    assert!(link.devices[1].lan.ready(WINDOW).iter().any(|d| d.nid == names[1]));
}
