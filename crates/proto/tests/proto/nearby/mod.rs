//! `pair nearby` (sections 6.3 and 7.3): devices that have met, one that is selected, two people who compare, and those
//! who interfere.

mod copied;
mod crossing;
mod room;

use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::Code;
use handfast_proto::code::qr::QrText;
use handfast_proto::handshake::joiner::start_nearby;
use handfast_proto::session::{Event, NearbyError, SelectError};
use handfast_proto::time::Now;
use handfast_proto::wire::beacon::Nid;

use crate::bench::rng;
use room::{ASK, Room, without_lan};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn assert_paired(room: &Room, a: usize, b: usize) {
    for (us, them) in [(a, b), (b, a)] {
        assert_eq!(room.devices[us].endings(), [Ok(())], "{us}");
        assert_eq!((room.devices[us].stored.len(), room.devices[us].paired), (1, 1));
        let key = room.devices[us].stored[0].peer;
        assert_eq!(key, crate::bench::identity(them as u8 + 1).public());
    }
}

fn assert_nothing_stored(room: &Room) {
    assert!(room.devices.iter().all(|d| d.stored.is_empty() && d.paired == 0));
}

#[test]
fn a15_of_three_devices_one_is_selected_and_the_two_pair_once_both_people_have_compared() {
    let mut room = Room::of(3);
    assert!(room.devices.iter().all(|d| d.table.nearby_devices().len() == 2));
    room.select(0, 1).expect("it is near");
    let (ours, theirs) = (room.devices[0].shown(), room.devices[1].shown());
    assert!(ours.is_some() && ours == theirs, "both show the same");
    assert_eq!((room.devices[0].asked(), room.devices[1].asked(), room.devices[2].asked()), (1, 1, 0));
    room.compare(0, true);
    assert_nothing_stored(&room);
    assert_eq!(room.devices[1].table.statuses()[0].device, None, "nothing of it is read before");
    room.compare(1, true);
    assert_paired(&room, 0, 1);
    assert_eq!(room.devices[2].state(), "open");
    // The one that is left has nobody else to pair with, and is not disturbed.
    assert_eq!(room.devices[2].endings(), []);
}

#[test]
fn a18_differing_emoji_end_both_whoever_sees_it_first() {
    for sees in 0..2 {
        for other_confirmed in [false, true] {
            let mut room = Room::of(2);
            room.select(0, 1).expect("it is near");
            if other_confirmed {
                room.compare(1 - sees, true);
            }
            room.compare(sees, false);
            for device in &room.devices {
                assert_eq!(device.endings(), [Err(Cause::AuthenticationFailed)]);
            }
            assert_nothing_stored(&room);
        }
    }
}

/// Somebody between the two: one device of it is selected, another one selects. The screens tell.
#[test]
fn attack_30_a_liar_in_the_middle_shows_itself_by_emoji_that_differ() {
    let mut room = Room::of(4);
    // 2 and 3 are the liar's; 0 takes 2 for 1.
    room.select(0, 2).expect("it is near");
    room.select(3, 1).expect("it is near");
    let shown: Vec<_> = room.devices.iter().map(|d| d.shown().expect("something to compare")).collect();
    assert!(shown[0] != shown[1]);
    room.compare(0, false);
    room.compare(1, false);
    assert_eq!(room.devices[0].endings(), [Err(Cause::AuthenticationFailed)]);
    assert_eq!(room.devices[1].endings(), [Err(Cause::AuthenticationFailed)]);
    assert_nothing_stored(&room);
}

#[test]
fn attack_33_silence_pairs_nobody() {
    for confirmed in [None, Some(0), Some(1)] {
        let mut room = Room::of(2);
        room.select(0, 1).expect("it is near");
        if let Some(n) = confirmed {
            room.compare(n, true);
        }
        room.wait(secs(140));
        for device in &room.devices {
            let endings = device.endings();
            assert!(matches!(endings[..], [Err(Cause::TimedOut)]), "{confirmed:?}: {endings:?}");
        }
        assert_nothing_stored(&room);
    }
}

#[test]
fn a_device_that_waits_goes_on_waiting_for_weeks_and_pairs_then() {
    let mut room = Room::of(2);
    room.wait(secs(20 * 24 * 3600));
    assert_eq!(room.devices[1].endings(), []);
    room.select(0, 1).expect("it is near");
    room.compare(0, true);
    room.compare(1, true);
    assert_paired(&room, 0, 1);
}

#[test]
fn a_device_that_vanishes_while_people_compare_ends_the_session_of_the_other() {
    for vanishes in 0..2 {
        let mut room = Room::of(2);
        room.select(0, 1).expect("it is near");
        room.vanish(vanishes);
        room.wait(secs(140));
        assert_eq!(room.devices[1 - vanishes].endings(), [Err(Cause::ConnectionLost)], "{vanishes}");
        assert_nothing_stored(&room);
    }
}

#[test]
fn a_device_that_has_vanished_before_it_is_selected_is_unreachable_within_fifteen_seconds() {
    let mut room = Room::of(2);
    room.vanish(1);
    room.select(0, 1).expect("it is in the list still");
    room.wait(secs(15));
    assert_eq!(room.devices[0].endings(), [Err(Cause::Unreachable)]);
    assert!(room.devices[0].dials() <= 10, "not more than ten tries an address and minute");
}

#[test]
fn a_wrong_choice_is_rejected_by_who_merely_waits_and_costs_it_nothing() {
    let mut room = Room::of(3);
    for _ in 0..4 {
        room.select(2, 1).expect("no strike was counted");
        assert!(room.answer(1, false));
        assert_eq!(room.devices[2].endings().pop(), Some(Err(Cause::AuthenticationFailed)));
        assert_eq!((room.devices[1].endings(), room.devices[1].state()), (vec![], "open"));
        // The one that asked begins anew, which is another name to it and to nobody else.
        room.open(2);
        room.rename(2, Nid([200; 16]));
        room.everybody_meets();
        room.wait(secs(601));
    }
    assert_eq!(room.devices[1].rejected(), 4);
    room.select(0, 1).expect("it is near");
    room.compare(0, true);
    room.compare(1, true);
    assert_paired(&room, 0, 1);
}

/// Attack 33: three times in ten minutes, by whoever of the two.
#[test]
fn attack_33_a_peer_that_spoiled_three_comparisons_is_refused_for_ten_minutes_and_no_other() {
    let mut room = Room::of(3);
    for _ in 0..3 {
        room.select(0, 1).expect("it is near");
        room.compare(1, false);
        for n in 0..2 {
            room.open(n);
        }
        room.everybody_meets();
    }
    // It has its own view of who spoiled them; somebody else's program would have none.
    assert_eq!(room.select(0, 1), Err(SelectError::Refused));
    let p1 = start_nearby(room.devices[1].nid, room.devices[0].tid, room.devices[1].tid, &mut rng(9)).1;
    assert!(!room.intrude(0, 1, p1), "closed without a word");
    assert_eq!(room.devices[1].asked(), 3);
    let p1 = start_nearby(room.devices[1].nid, room.devices[2].tid, room.devices[1].tid, &mut rng(9)).1;
    assert!(room.intrude(2, 1, p1), "the third device is listened to");
    room.wait(secs(601));
    room.select(0, 1).expect("ten minutes are over");
    assert_eq!(room.devices[1].asked(), 4);
}

#[test]
fn a_second_device_that_asks_is_told_busy_and_has_its_turn_when_the_first_is_turned_down() {
    let mut room = Room::of(3);
    room.select(0, 1).expect("it is near");
    room.select(2, 1).expect("it is near");
    assert_eq!((room.devices[1].asked(), room.devices[2].asked()), (1, 0));
    assert_eq!(room.select(1, 2), Err(SelectError::Busy), "one device at a time");
    assert!(room.answer(1, false));
    room.wait(secs(2));
    assert_eq!(room.devices[1].asked(), 2);
    room.compare(1, true);
    room.compare(2, true);
    assert_paired(&room, 1, 2);
}

#[test]
fn a_device_that_stays_busy_is_given_up_after_half_a_minute() {
    let mut room = Room::of(3);
    room.select(0, 1).expect("it is near");
    room.select(2, 1).expect("it is near");
    room.wait(secs(31));
    assert_eq!(room.devices[2].endings(), [Err(Cause::TimedOut)]);
    assert_eq!(room.devices[1].endings(), []);
}

#[test]
fn two_that_select_each_other_are_one_pairing_with_the_smaller_key_as_joiner() {
    // Which one is first, and whether the other has heard of it by then.
    for (first, second) in [(0, 1), (1, 0)] {
        let mut room = Room::of(2);
        let now = room.clocks();
        for (us, them) in [(first, second), (second, first)] {
            let nid = room.devices[them].nid;
            room.devices[us].table.select(nid, now).expect("it is near");
        }
        room.settle();
        room.wait(secs(3));
        let shown: Vec<_> = room.devices.iter().map(|d| d.shown().expect("something to compare")).collect();
        assert!(shown[0] == shown[1]);
        assert_eq!((room.devices[0].asked(), room.devices[1].asked()), (1, 1));
        let roles: Vec<&str> = room.devices.iter().map(|d| d.table.statuses()[0].role.name()).collect();
        assert_eq!(roles, ["joiner", "initiator"]);
        room.compare(0, true);
        room.compare(1, true);
        assert_paired(&room, 0, 1);
    }
}

#[test]
fn a16_only_a_connection_over_tcp_to_the_address_of_the_meeting_is_listened_to() {
    type Change = fn(&mut Room, IpAddr);
    let elsewhere: IpAddr = "10.9.9.9".parse().expect("an address");
    let cases: [(&str, Change); 3] = [
        ("another interface", |room, decoy| room.devices[1].arrives_at = Some(decoy)),
        ("quic", |room, _| room.devices[1].over_quic = true),
        ("somebody who was not met", |room, decoy| room.devices[0].ip = decoy),
    ];
    for (what, change) in cases {
        let mut room = Room::of(2);
        change(&mut room, elsewhere);
        room.select(0, 1).expect("it is near");
        room.wait(secs(10));
        assert_eq!((room.devices[1].asked(), room.devices[1].endings()), (0, vec![]), "{what}");
        assert_eq!(room.devices[0].endings(), [Err(Cause::Unreachable)], "{what}");
    }
}

#[test]
fn attack_1_a_p1_with_another_id_an_old_one_or_to_a_device_that_does_not_wait_is_closed_silently() {
    let mut room = Room::of(3);
    let (j, i) = (room.devices[0].tid, room.devices[1].tid);
    let old = room.devices[1].nid;
    assert!(!room.intrude(0, 1, start_nearby(Nid([7; 16]), j, i, &mut rng(9)).1));
    room.rename(1, Nid([8; 16]));
    assert!(!room.intrude(0, 1, start_nearby(old, j, i, &mut rng(9)).1), "the old id");
    assert!(room.intrude(0, 1, start_nearby(Nid([8; 16]), j, i, &mut rng(9)).1));
    let now = room.clocks();
    room.devices[1].table.cancel(None, now).expect("it is open");
    room.settle();
    assert!(!room.intrude(0, 1, start_nearby(Nid([8; 16]), j, i, &mut rng(9)).1), "it does not wait any more");
    assert_eq!(room.devices[1].asked(), 0);
}

#[test]
fn an_attempt_that_runs_outlives_a_new_id() {
    let mut room = Room::of(2);
    room.select(0, 1).expect("it is near");
    room.rename(1, Nid([8; 16]));
    room.compare(0, true);
    room.compare(1, true);
    assert_paired(&room, 0, 1);
}

#[test]
fn strangers_are_few_at_a_time_and_keep_nobody_out() {
    let mut room = Room::of(3);
    let (j, i, nid) = (room.devices[2].tid, room.devices[1].tid, room.devices[1].nid);
    let open = (0..100).filter(|n| {
        let p1 = start_nearby(nid, j, i, &mut rng(*n)).1;
        room.intrude(2, 1, p1)
    });
    assert_eq!(open.count(), 20, "a burst, and not more");
    room.wait(secs(1));
    room.select(0, 1).expect("it is near");
    assert_eq!(room.devices[1].asked(), 1);
}

#[test]
fn whoever_means_no_device_that_waits_here_takes_nothing_from_those_who_do() {
    let mut room = Room::of(3);
    let (j, i) = (room.devices[2].tid, room.devices[1].tid);
    for n in 0..200 {
        assert!(!room.intrude(2, 1, start_nearby(Nid([7; 16]), j, i, &mut rng(n)).1));
    }
    room.select(0, 1).expect("it is near");
    assert_eq!(room.devices[1].asked(), 1);
}

#[test]
fn d8_yes_given_in_advance_does_not_answer_the_comparison() {
    let mut room = Room::of(1);
    let now = room.clocks();
    room.devices[0].table.cancel(None, now).expect("it is open");
    let yes = handfast_proto::session::Consent::Given;
    room.devices[0].session = Some(room.devices[0].table.nearby(yes, now).expect("may begin"));
    room.settle();
    let mut two = Room::of(2);
    std::mem::swap(&mut room.devices[0], &mut two.devices[0]);
    two.everybody_meets();
    two.select(0, 1).expect("it is near");
    two.compare(1, true);
    two.wait(secs(60));
    assert_nothing_stored(&two);
    assert_eq!(two.devices[0].state(), "comparison");
}

/// A18: the QR that the selected device shows beside.
#[test]
fn a18_the_qr_of_the_selected_device_takes_the_place_of_the_emoji() {
    let mut room = Room::of(2);
    let now = room.clocks();
    let (_, code) = room.devices[1].table.generate(ASK, secs(600), now).expect("room");
    room.settle();
    room.select(0, 1).expect("it is near");
    let qr = qr_of(&room, 1, code);
    room.devices[0].table.confirm_by(qr, now).expect("a comparison is open");
    room.settle();
    assert_eq!(room.devices[1].endings(), [], "the comparison did not fail: it was not needed");
    // The code is proven; now both are asked who it is.
    let asked =
        |room: &Room, n: usize| room.devices[n].events.iter().any(|e| matches!(e, Event::ApprovalNeeded { .. }));
    assert!(asked(&room, 1));
    room.wait(secs(5));
    let now = room.clocks();
    let code_session = room.devices[1].table.statuses().last().map(|s| s.session.clone());
    room.devices[1].table.answer(code_session.as_ref(), true, now).expect("a question is open");
    room.settle();
    assert!(asked(&room, 0));
    assert!(room.answer(0, true));
    assert_eq!((room.devices[0].endings(), room.devices[1].endings()), (vec![Ok(())], vec![Ok(())]));
    assert_eq!((room.devices[0].paired, room.devices[1].paired), (1, 1));
}

#[test]
fn a18_the_qr_of_another_device_is_the_wrong_device() {
    let mut room = Room::of(3);
    let now = room.clocks();
    let (_, code) = room.devices[2].table.generate(ASK, secs(600), now).expect("room");
    room.select(0, 1).expect("it is near");
    let qr = qr_of(&room, 2, code);
    room.devices[0].table.confirm_by(qr, now).expect("a comparison is open");
    room.settle();
    room.wait(secs(1));
    assert_eq!(room.devices[0].endings(), [Err(Cause::WrongDevice)]);
    assert_eq!(room.devices[1].endings(), [Err(Cause::AuthenticationFailed)]);
    assert_nothing_stored(&room);
}

#[test]
fn a_qr_text_is_taken_only_while_a_selected_device_is_compared_with() {
    let mut room = Room::of(2);
    let qr = qr_of(&room, 1, Code::generate(&mut rng(9)));
    let now = room.clocks();
    assert_eq!(room.devices[0].table.confirm_by(qr.clone(), now), Err(SelectError::NothingToConfirm));
    room.select(0, 1).expect("it is near");
    let at_the_waiting_one = room.devices[1].table.confirm_by(qr, now);
    assert_eq!(at_the_waiting_one, Err(SelectError::NothingToConfirm));
}

#[test]
fn the_list_has_each_device_once_and_forgets_who_has_gone() {
    let mut room = Room::of(2);
    let mut twice = room.seen(0, 1);
    twice.ip = "192.168.1.99".parse().expect("an address");
    let (now, window) = (room.clocks(), handfast_proto::lan::WindowId(0));
    room.devices[0].table.handle_ready(window, twice.clone(), now);
    assert_eq!(room.devices[0].table.nearby_devices().len(), 1);
    room.devices[0].table.handle_gone(window, twice.nid, twice.ip, now);
    room.settle();
    let gone = |room: &Room| room.devices[0].events.iter().filter(|e| matches!(e, Event::DeviceGone { .. })).count();
    assert_eq!((room.devices[0].table.nearby_devices().len(), gone(&room)), (1, 0), "one of its addresses is left");
    let other = room.devices[1].ip;
    room.devices[0].table.handle_gone(window, twice.nid, other, now);
    room.settle();
    assert_eq!((room.devices[0].table.nearby_devices().len(), gone(&room)), (0, 1));
    assert_eq!(room.select(0, 1), Err(SelectError::Unknown));
    // And no more of them than the machine of the local network remembers.
    for n in 0..200u8 {
        twice.nid = Nid([n; 16]);
        room.devices[0].table.handle_ready(window, twice.clone(), now);
    }
    assert_eq!(room.devices[0].table.nearby_devices().len(), 64);
}

#[test]
fn pair_nearby_runs_once_and_needs_a_local_network() {
    let mut room = Room::of(1);
    let session = room.devices[0].session.clone().expect("a session");
    let now = room.clocks();
    assert_eq!(room.devices[0].table.nearby(ASK, now), Err(NearbyError::Running(session.clone())));
    assert_eq!(without_lan().nearby(ASK, Now::default()), Err(NearbyError::NoLan));
    assert_eq!(without_lan().select(Nid([1; 16]), Now::default()), Err(SelectError::NoSession));
    for _ in 1..8 {
        room.devices[0].table.generate(ASK, secs(600), now).expect("room");
    }
    room.devices[0].table.cancel(Some(&session), now).expect("it is open");
    room.devices[0].table.generate(ASK, secs(600), now).expect("room");
    assert_eq!(room.devices[0].table.nearby(ASK, now), Err(NearbyError::TooMany));
}

fn qr_of(room: &Room, n: usize, code: Code) -> QrText {
    QrText { code, tid: room.devices[n].tid, in_dht: false, on_lan: true, port: 0, hints: Vec::new() }
}

/// The first beacon of a device that has just started may name no ports yet.
#[test]
fn a_device_that_is_selected_before_its_ports_are_known_is_dialled_when_they_are() {
    for late in [Some(1), None] {
        let mut room = Room::of(2);
        let portless = handfast_proto::lan::NearbyDevice { addresses: Vec::new(), ..room.seen(0, 1) };
        room.hears(0, portless);
        room.select(0, 1).expect("it is near");
        assert_eq!((room.devices[0].dials(), room.devices[0].endings()), (0, vec![]));
        room.wait(secs(late.unwrap_or(13)));
        if late.is_none() {
            assert_eq!(room.devices[0].endings(), [Err(Cause::Unreachable)]);
            continue;
        }
        room.meets(0, 1);
        room.compare(0, true);
        room.compare(1, true);
        assert_paired(&room, 0, 1);
    }
}
