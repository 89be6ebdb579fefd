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
