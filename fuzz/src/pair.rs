//! Whole devices that pair, in the simulation of `crates/proto/tests`, whose dice fall as the case says: who shows and
//! who enters a code, when devices stop and start, what happens to their clocks, disks and networks. What the simulation
//! asserts after every step is what this target asserts.

use crate::sim::dice::Dice;
use crate::sim::world::World;
use crate::sim::{meddler, rough};

/// Frames that a case can do something to: more than a pairing with its hellos has.
const MAX_PLANNED: usize = 48;
/// The first byte says how many of the first frames have a fate of their own, a byte each; the rest are the dice.
pub(crate) fn pair(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let count = (usize::from(*count) % (MAX_PLANNED + 1)).min(rest.len());
    let (plan, script) = rest.split_at(count);
    let plan = plan.to_vec();
    let mut world = World::new(1);
    world.dice = Dice::scripted(script);
    rough::play_in(world, |world| meddler::meddle(world, plan));
}
