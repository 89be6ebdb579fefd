//! Whole devices that pair, in the simulation of `crates/proto/tests`, whose dice fall as the case says: who shows and
//! who enters a code, when devices stop and start, what happens to their clocks, disks and networks. What the simulation
//! asserts after every step is what this target asserts.
//!
//! Beyond what the simulation's own network does, single frames are lost, repeated, held back behind the next one, taken
//! from elsewhere, or changed: that is what a man in the middle of the transport could do, if there were one.

use handfast_proto::wire::frames::Frame;

use crate::sim::dice::Dice;
use crate::sim::rough;
use crate::sim::world::{Fate, Passing, World};

/// Frames that a case can do something to: more than a pairing with its hellos has.
const MAX_PLANNED: usize = 48;
/// Frames that are remembered to be played again.
const MAX_REMEMBERED: usize = 64;

/// The first byte says how many of the first frames have a fate of their own, a byte each; the rest are the dice.
pub(crate) fn pair(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let count = (usize::from(*count) % (MAX_PLANNED + 1)).min(rest.len());
    let (plan, script) = rest.split_at(count);
    let plan = plan.to_vec();
    let mut world = World::new(1);
    world.dice = Dice::scripted(script);
    rough::play_in(world, |world| world.frame_tap = Some(Box::new(tap(plan))));
}

/// What the plan does to each frame.
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
