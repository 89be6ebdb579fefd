//! Somebody between two devices who does more than a network that loses connections: single frames are lost, repeated,
//! held back behind the next one, taken from elsewhere, or changed.

use handfast_proto::wire::frames::Frame;

use super::world::{Fate, Passing, World};

/// Frames that are remembered to be played again.
const MAX_REMEMBERED: usize = 64;

/// Sets up what the plan says: the fate of one frame after another, a byte each.
pub(crate) fn meddle(world: &mut World, plan: Vec<u8>) {
    world.frame_tap = Some(Box::new(tap(plan)));
}

fn tap(plan: Vec<u8>) -> impl FnMut(&Passing<'_>) -> Fate {
    let mut passed: Vec<Frame> = Vec::new();
    let mut held: Option<((usize, usize), Frame)> = None;
    move |passing| {
        let frame = passing.frame.clone();
        if passed.len() < MAX_REMEMBERED {
            passed.push(frame.clone());
        }
        if let Some((_, late)) = held.take_if(|(way, _)| *way == passing.way) {
            return Fate::Instead(vec![frame, late]);
        }
        let Some(fate) = plan.get(passing.nth) else { return Fate::Arrives };
        let more = usize::from(fate >> 4);
        match fate & 0x0f {
            1 => Fate::Cut,
            2 => Fate::CutBehind,
            3 => Fate::CrashSender,
            4 => Fate::CrashReceiver,
            5 => Fate::CrashReceiverAfter,
            6 => Fate::Instead(Vec::new()),
            7 => Fate::Instead(vec![frame.clone(), frame]),
            8 => {
                held = Some((passing.way, frame));
                Fate::Instead(Vec::new())
            }
            9 => Fate::Becomes(passed[more % passed.len()].clone()),
            10 => Fate::Instead(vec![passed[more % passed.len()].clone(), frame]),
            11 => changed(&frame, more),
            _ => Fate::Arrives,
        }
    }
}

/// With one bit flipped, in the type or anywhere in the body.
fn changed(frame: &Frame, where_to: usize) -> Fate {
    let mut rest = frame.to_bytes()[2..].to_vec();
    let at = where_to * rest.len() / 16;
    rest[at] ^= 1 << (where_to % 8);
    // A frame of another type and the wrong size ends at the driver, which ends the stream.
    Frame::from_rest(&rest).map_or(Fate::Cut, Fate::Becomes)
}
