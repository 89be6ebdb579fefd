//! Ids, keys and names are heard by everybody in the room, so that anybody can say them.

use std::net::IpAddr;

use handfast_proto::cause::Cause;
use handfast_proto::lan::NearbyDevice;
use handfast_proto::session::{Event, SelectError};
use handfast_proto::wire::info::DeviceName;

use super::room::Room;
use super::{assert_paired, secs};

fn other_ip() -> IpAddr {
    "192.168.1.99".parse().expect("an address")
}

/// Another address of `b`, as `a` hears of it.
fn elsewhere(room: &Room, a: usize, b: usize) -> NearbyDevice {
    let seen = room.seen(a, b);
    let addresses = seen.addresses.iter().map(|address| handfast_proto::addr::Address { ip: other_ip(), ..*address });
    NearbyDevice { ip: other_ip(), addresses: addresses.collect(), name: None, ..seen }
}

/// Attack 30: an id is heard by everybody, and so anybody can use it.
#[test]
fn attack_30_whoever_copies_an_id_is_not_dialled_in_place_of_its_owner_and_does_not_rename_it() {
    let mut room = Room::of(3);
    // The room connects to the device with the lowest number of those that are dialled.
    let nid = room.devices[2].nid;
    let copied = NearbyDevice { nid, name: Some(DeviceName::clean("the real one")), ..room.seen(0, 1) };
    let before = room.devices[0].events.len();
    room.hears(0, copied);
    assert_eq!(room.devices[0].events.len(), before, "nobody is told of it");
    let listed = room.devices[0].table.nearby_devices();
    assert_eq!(listed.iter().filter(|d| d.nid == nid).count(), 1);
    room.select(0, 2).expect("it is near");
    room.compare(0, true);
    room.compare(2, true);
    assert_paired(&room, 0, 2);
}

/// When the owner is gone, the line is the other one's, under its own name.
#[test]
fn a_line_of_the_list_has_one_owner_at_a_time() {
    let mut room = Room::of(3);
    let (nid, ip) = (room.devices[1].nid, room.devices[1].ip);
    let copied = NearbyDevice { nid, ..room.seen(0, 2) };
    room.hears(0, copied.clone());
    room.leaves(0, nid, ip);
    let told = room.devices[0].events.last();
    assert!(matches!(told, Some(Event::DeviceSeen { device, .. }) if *device == copied), "{told:?}");
    room.leaves(0, nid, copied.ip);
    assert!(matches!(room.devices[0].events.last(), Some(Event::DeviceGone { nid: gone, .. }) if *gone == nid));
}

/// The hash of the listener's key is heard like the id.
#[test]
fn attack_30_whoever_copies_id_and_key_is_dialled_only_where_a_call_was_answered_under_them() {
    let mut room = Room::of(3);
    let owner = room.seen(0, 2);
    let copied = NearbyDevice { nid: owner.nid, spki: owner.spki, answered: false, ..room.seen(0, 1) };
    let before = room.devices[0].events.len();
    room.hears(0, copied);
    assert_eq!(room.devices[0].events.len(), before, "nobody is told of it");
    room.select(0, 2).expect("it is near");
    room.compare(0, true);
    room.compare(2, true);
    assert_paired(&room, 0, 2);
}

/// A device with two addresses is met by both. It keeps its line when it leaves the first, whoever else wants it, and its
/// name, whether it has told it at both or not.
#[test]
fn a_device_keeps_its_line_and_name_when_it_leaves_one_of_its_addresses() {
    let mut room = Room::of(3);
    let owner = room.seen(0, 2);
    room.hears(0, NearbyDevice { nid: owner.nid, ..room.seen(0, 1) });
    let before = room.devices[0].events.len();
    room.hears(0, elsewhere(&room, 0, 2));
    assert_eq!(room.devices[0].events.len(), before, "the line is as it was");
    let second = NearbyDevice { name: owner.name.clone(), ..elsewhere(&room, 0, 2) };
    room.hears(0, second.clone());
    room.leaves(0, owner.nid, owner.ip);
    assert_eq!(room.devices[0].events.len(), before);
    let listed = room.devices[0].table.nearby_devices();
    assert_eq!(listed.into_iter().find(|d| d.nid == owner.nid), Some(second));
    room.devices[2].ip = other_ip();
    room.select(0, 2).expect("it is near");
    assert!(room.devices[0].events.iter().any(|e| matches!(e, Event::Connected { .. })), "it is dialled there");
}

/// Whoever asks under the id of a device that our person then chooses is not that device.
#[test]
fn attack_30_who_asked_under_a_copied_id_is_not_taken_for_the_device_that_is_chosen() {
    let mut room = Room::of(3);
    let (owner, liar) = (room.seen(0, 2), room.seen(0, 1));
    room.leaves(0, liar.nid, liar.ip);
    room.hears(0, NearbyDevice { nid: owner.nid, ..liar });
    room.select(1, 0).expect("it is near");
    assert_eq!(room.devices[0].asked(), 1);
    assert_eq!(room.select(0, 2), Err(SelectError::Busy), "the comparison on the screen is another one's");
}

/// The same while the chosen device is not reached yet: the choice stands, and whoever calls under its id is told to wait.
#[test]
fn attack_30_who_calls_under_the_id_of_the_chosen_device_does_not_take_its_place() {
    for (chosen, liar) in [(2, 1), (1, 2)] {
        let mut room = Room::of(3);
        let (owner, copy) = (room.seen(0, chosen), room.seen(0, liar));
        room.leaves(0, copy.nid, copy.ip);
        room.hears(0, NearbyDevice { nid: owner.nid, ..copy });
        room.devices[chosen].is_closed = true;
        room.select(0, chosen).expect("it is near");
        room.wait(secs(1));
        room.select(liar, 0).expect("it is near");
        room.wait(secs(1));
        assert_eq!((room.devices[0].asked(), room.devices[liar].asked()), (0, 0));
        room.devices[chosen].is_closed = false;
        room.wait(secs(5));
        room.compare(chosen, true);
        room.compare(0, true);
        super::assert_paired(&room, 0, chosen);
    }
}

/// Strikes count for an id at an address; what somebody did elsewhere under the same id shuts out nobody.
#[test]
fn a_refused_place_does_not_keep_a_device_from_being_selected_at_another() {
    let mut room = Room::of(2);
    for _ in 0..3 {
        room.select(0, 1).expect("it is near");
        room.compare(0, false);
        for n in 0..2 {
            room.open(n);
        }
        room.everybody_meets();
    }
    assert_eq!(room.select(0, 1), Err(SelectError::Refused));
    room.hears(0, elsewhere(&room, 0, 1));
    let before = room.devices[0].dials();
    room.select(0, 1).expect("at its other address");
    assert_eq!(room.devices[0].dialled[before..], [[other_ip()]]);
}

/// Silence is easily caused; whoever takes over the line of a device that falls silent is not who was chosen.
#[test]
fn attack_30_a_choice_does_not_pass_to_whoever_inherits_the_line() {
    let mut room = Room::of(3);
    let owner = room.seen(0, 2);
    room.vanish(2);
    room.select(0, 2).expect("it is in the list still");
    room.leaves(0, owner.nid, owner.ip);
    // With its key or another one.
    room.hears(0, NearbyDevice { nid: owner.nid, spki: owner.spki, answered: false, ..room.seen(0, 1) });
    room.hears(0, NearbyDevice { nid: owner.nid, ..room.seen(0, 1) });
    room.wait(secs(15));
    assert!(room.devices[0].dialled.iter().flatten().all(|ip| *ip == owner.ip));
    assert_eq!(room.devices[0].endings(), [Err(Cause::Unreachable)]);
}

/// Keys in beacons come and go as their sender likes. People are told of names, and of a line that is another's.
#[test]
fn a_key_that_changes_in_every_beacon_is_no_news() {
    let mut room = Room::of(2);
    let before = room.devices[0].events.len();
    for n in 0..100 {
        room.hears(0, NearbyDevice { spki: [n; 32], answered: false, ..room.seen(0, 1) });
    }
    assert_eq!(room.devices[0].events.len(), before);
}
