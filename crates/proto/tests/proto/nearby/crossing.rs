//! Two people who choose each other's device, one of which then says no more.

use handfast_proto::cause::Cause;
use handfast_proto::session::SelectError;
use handfast_proto::wire::frames::FrameType;

use super::room::Room;
use super::secs;

/// Every choice ends with something on the screen, whatever became of the attempt that it was taken for.
#[test]
fn a_chosen_device_whose_own_attempt_comes_to_nothing_is_asked_after_all() {
    for chosen_first in [false, true] {
        let mut room = Room::of(2);
        room.devices[0].loses = Some(FrameType::S3);
        let now = room.clocks();
        let order = if chosen_first { [(1, 0), (0, 1)] } else { [(0, 1), (1, 0)] };
        for (us, them) in order {
            let nid = room.devices[them].nid;
            room.devices[us].table.select(nid, now).expect("it is near");
            if !chosen_first {
                room.settle();
            }
        }
        room.settle();
        room.wait(secs(3));
        assert_eq!((room.devices[1].asked(), room.devices[1].state()), (0, "handshake"), "{chosen_first}");
        let before = room.devices[1].dials();
        room.vanish(0);
        room.wait(secs(90));
        assert!(room.devices[1].dials() > before, "{chosen_first}");
        assert_eq!(room.devices[1].endings(), [Err(Cause::Unreachable)], "{chosen_first}");
    }
}

/// The same with one that does so again and again: then the choice is given back, and others can be chosen.
#[test]
fn attack_33_a_chosen_device_that_never_goes_on_is_refused_after_three_times() {
    let mut room = Room::of(2);
    room.devices[0].loses = Some(FrameType::S3);
    for round in 1..=3 {
        room.select(0, 1).expect("it is near");
        room.select(1, 0).expect("its attempt is on its way");
        room.wait(secs(60));
        assert_eq!((room.devices[1].asked(), room.devices[1].rejected()), (0, usize::from(round == 3)));
        room.open(0);
        if round < 3 {
            assert_eq!(room.devices[1].endings(), vec![Err(Cause::Unreachable); round]);
            room.open(1);
        }
        room.everybody_meets();
    }
    assert_eq!(room.devices[1].state(), "open");
    assert_eq!(room.select(1, 0), Err(SelectError::Refused));
}

/// Whoever is told to compare and opens something else than it had committed itself to has had one of its three tries.
#[test]
fn attack_31_33_a_wrong_opening_counts_like_a_comparison_that_was_spoiled() {
    let mut room = Room::of(2);
    room.devices[0].spoils = Some(FrameType::S3);
    for round in 1..=3 {
        room.select(0, 1).expect("it is near");
        assert_eq!(room.devices[0].endings().len(), round);
        room.open(0);
        room.everybody_meets();
    }
    assert_eq!((room.devices[1].asked(), room.devices[1].state()), (0, "open"));
    assert_eq!(room.select(1, 0), Err(SelectError::Refused));
}

/// The device that was chosen has left the list meanwhile, and others come and go: the choice is given back.
#[test]
fn a_chosen_device_that_is_gone_when_its_attempt_ends_gives_the_choice_back() {
    let mut room = Room::of(3);
    room.devices[0].loses = Some(FrameType::S3);
    room.select(0, 1).expect("it is near");
    room.select(1, 0).expect("its attempt is on its way");
    room.vanish(0);
    room.wait(secs(5));
    let (nid, ip) = (room.devices[0].nid, room.devices[0].ip);
    room.leaves(1, nid, ip);
    room.meets(1, 2);
    room.wait(secs(70));
    assert_eq!((room.devices[1].rejected(), room.devices[1].state()), (1, "open"));
    room.select(1, 2).expect("another one can be chosen");
}

/// Two choose each other, and one of them was told to wait before.
#[test]
fn a_device_that_was_told_busy_and_is_chosen_then_is_paired_with() {
    let mut room = Room::of(3);
    room.select(2, 1).expect("it is near");
    room.select(0, 1).expect("it is near, and told busy");
    assert!(room.answer(1, false));
    room.select(1, 0).expect("it is near");
    room.wait(secs(3));
    assert_eq!((room.devices[0].asked(), room.devices[1].asked() - 1), (1, 1));
    room.compare(0, true);
    room.compare(1, true);
    super::assert_paired(&room, 0, 1);
}

/// Two choose each other, and only one of them gets through: the other one gives way, whatever their keys.
#[test]
fn of_two_that_choose_each_other_the_one_that_gets_through_is_heard() {
    for closed in 0..2 {
        let mut room = Room::of(2);
        room.devices[closed].is_closed = true;
        room.select(1 - closed, closed).expect("it is near");
        room.wait(secs(1));
        room.select(closed, 1 - closed).expect("it is near");
        room.wait(secs(1));
        room.compare(0, true);
        room.compare(1, true);
        super::assert_paired(&room, 0, 1);
    }
}

/// Somebody else on the machine of the chosen device calls before that one is reached: the choice stands.
#[test]
fn a_second_device_at_the_address_of_the_chosen_one_does_not_take_its_place() {
    for (chosen, other) in [(0, 2), (2, 0)] {
        let mut room = Room::of(3);
        room.moves_to(other, chosen);
        room.devices[chosen].is_closed = true;
        room.select(1, chosen).expect("it is near");
        room.wait(secs(1));
        room.select(other, 1).expect("it is near");
        room.wait(secs(1));
        assert_eq!((room.devices[1].asked(), room.devices[other].asked()), (0, 0), "{other} is told to wait");
        room.devices[chosen].is_closed = false;
        room.wait(secs(5));
        room.compare(chosen, true);
        room.compare(1, true);
        super::assert_paired(&room, 1, chosen);
    }
}
