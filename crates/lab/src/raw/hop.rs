//! Messages to and of a relay (circuit v2), as bytes.

use super::frames::{frame, number, varint};

/// The protocol in which a relay is asked.
pub(crate) const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// The protocol in which a relay asks whoever has a reservation.
pub(crate) const STOP: &str = "/libp2p/circuit/relay/0.2.0/stop";

/// The longest message of the protocol.
pub(crate) const MESSAGE_MAX: usize = 4_096;

/// "Yes", from the relay or to it.
pub(crate) const OK: u64 = 100;

/// The type of a message, in its field 1.
const TYPE: u8 = 1 << 3;
const RESERVE: u8 = 0;
const CONNECT: u8 = 1;
const STOP_STATUS: u8 = 1;

/// A peer, in field 2 of a message to a relay; its id, in field 1 of it.
const PEER: u8 = 2 << 3 | BYTES;
const ID: u8 = 1 << 3 | BYTES;

/// Status of a message of [`HOP`], and of [`STOP`].
const HOP_STATUS: u64 = 5 << 3;
const STATUS: u8 = 4 << 3;

/// The low bits of a field that is bytes behind their length.
const BYTES: u8 = 2;

/// Asks for a reservation.
pub(crate) fn reserve() -> Vec<u8> {
    frame(&[TYPE, RESERVE])
}

/// Asks for a circuit to whoever has this id.
pub(crate) fn connect(id: &[u8]) -> Vec<u8> {
    let peer = [&[ID], frame(id).as_slice()].concat();
    frame(&[&[TYPE, CONNECT, PEER], frame(&peer).as_slice()].concat())
}

/// Takes a circuit that a relay offers.
pub(crate) fn take() -> Vec<u8> {
    frame(&[&[TYPE, STOP_STATUS, STATUS], varint(OK).as_slice()].concat())
}

/// What a relay says to a request.
pub(crate) fn status(message: &[u8]) -> Option<u64> {
    let mut rest = message;
    while !rest.is_empty() {
        let (tag, behind) = number(rest)?;
        let (value, behind) = number(behind)?;
        if tag == HOP_STATUS {
            return Some(value);
        }
        let skipped = if tag & 7 == u64::from(BYTES) { usize::try_from(value).ok()? } else { 0 };
        rest = behind.get(skipped..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{OK, connect, reserve, status, take};

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(reserve(), [2, 0x08, 0x00]);
        assert_eq!(connect(&[7, 8]), [8, 0x08, 0x01, 0x12, 4, 0x0a, 2, 7, 8]);
        assert_eq!(take(), [4, 0x08, 0x01, 0x20, 0x64]);
    }

    #[test]
    fn the_status_is_found_behind_everything_else() {
        // A status message with a reservation (field 3) and a limit (field 4) before the status.
        assert_eq!(status(&[0x08, 0x02, 0x1a, 2, 0x08, 0x05, 0x22, 0, 0x28, 0x64]), Some(OK));
        assert_eq!(status(&[0x08, 0x02, 0x28, 0xc9, 0x01]), Some(201));
        assert_eq!(status(&[0x08, 0x02]), None);
        assert_eq!(status(&[0x1a, 9, 1]), None);
    }
}
