//! Links with delay, loss and cuts, made in userspace since the kernel may lack `tc netem`.
//!
//! A link is two veth pairs. The outer ends are the interfaces of the two hosts; the inner ends are in a namespace of
//! the emulator, which takes each frame from one inner end and hands it to the other when it is due:
//!
//! ```text
//!   host A: eth0 ── l0a │ emulator: one thread, one heap of frames │ l0b ── h1 :router
//! ```
//!
//! Offloads are off on the outer ends, so that frames are no longer than the MTU and carry right checksums.
//! Interfaces, addresses and MAC addresses are of no concern here: the emulator is a wire.

mod emulator;
mod port;
mod settings;
mod trap;

pub use emulator::{Emulator, EmulatorBuilder, End};
pub(crate) use port::Port;
pub use settings::{Counters, Direction, Link};
pub use trap::Strike;
