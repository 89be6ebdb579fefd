//! Counts the frames between the host of a link and one other host, and strikes at one of them: a fault at a step of a
//! conversation whose messages are sealed.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Length of an Ethernet header, and where in it the type is.
const ETHERNET: usize = 14;

/// What happens at the frame that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// It is lost.
    Lose,
    /// It is lost, and everything else on the link for this long.
    CutFor(Duration),
    /// It passes; whoever set the trap is told.
    Tell,
}

/// The trap of a link, for both directions.
#[derive(Debug, Default)]
pub(super) struct Trap(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    set: Option<Set>,
    cut_until: Option<Instant>,
}

#[derive(Debug)]
struct Set {
    other: Vec<IpAddr>,
    at: u64,
    strike: Strike,
    seen: u64,
    struck: SyncSender<()>,
}

impl Trap {
    /// Waits for the frame number `at`, from 1, between the link's host and any address of `other`.
    pub(super) fn set(&self, other: &[IpAddr], at: u64, strike: Strike) -> Receiver<()> {
        // One strike is all there is to tell.
        let (struck, told) = sync_channel(1);
        self.lock().set = Some(Set { other: other.to_vec(), at, strike, seen: 0, struck });
        told
    }

    /// Takes it away, and gives how many frames it saw.
    pub(super) fn take(&self) -> u64 {
        self.lock().set.take().map_or(0, |set| set.seen)
    }

    /// A frame enters the link; gives whether it is lost.
    pub(super) fn takes(&self, frame: &[u8]) -> bool {
        let mut state = self.lock();
        let State { set: Some(set), cut_until } = &mut *state else { return state.is_cut() };
        if ends(frame).is_some_and(|ends| ends.iter().any(|end| set.other.contains(end))) {
            set.seen += 1;
            if set.seen == set.at {
                // Nobody may wait for it any more.
                let _ = set.struck.try_send(());
                match set.strike {
                    Strike::Lose => return true,
                    Strike::CutFor(time) => *cut_until = Some(Instant::now() + time),
                    Strike::Tell => {}
                }
            }
        }
        state.is_cut()
    }

    /// Whether the link is cut by a strike.
    pub(super) fn is_cut(&self) -> bool {
        self.lock().is_cut()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_cut(&self) -> bool {
        self.cut_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Source and destination of a packet in an Ethernet frame.
fn ends(frame: &[u8]) -> Option<[IpAddr; 2]> {
    let (header, packet) = frame.split_at_checked(ETHERNET)?;
    match header[ETHERNET - 2..] {
        [0x08, 0x00] => Some([v4(packet, 12)?, v4(packet, 16)?]),
        [0x86, 0xdd] => Some([v6(packet, 8)?, v6(packet, 24)?]),
        _ => None,
    }
}

fn v4(packet: &[u8], at: usize) -> Option<IpAddr> {
    Some(IpAddr::from(*packet.get(at..)?.first_chunk::<4>()?))
}

fn v6(packet: &[u8], at: usize) -> Option<IpAddr> {
    Some(IpAddr::from(*packet.get(at..)?.first_chunk::<16>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that carries a packet of IPv4 from 1.1.1.`from` to 1.1.1.`to`.
    fn frame(from: u8, to: u8) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET - 2];
        frame.extend([0x08, 0x00]);
        frame.extend([0; 12]);
        frame.extend([1, 1, 1, from, 1, 1, 1, to]);
        frame
    }

    #[test]
    fn the_nth_frame_between_the_two_is_lost_and_no_other() {
        let trap = Trap::default();
        let told = trap.set(&["1.1.1.2".parse().expect("an address")], 2, Strike::Lose);
        let frames = [frame(1, 2), frame(1, 3), frame(2, 1), frame(2, 1), vec![0; 9]];
        let lost: Vec<bool> = frames.iter().map(|frame| trap.takes(frame)).collect();
        assert_eq!(lost, [false, false, true, false, false]);
        assert!(told.try_recv().is_ok());
        assert_eq!((trap.take(), trap.take()), (3, 0));
    }

    #[test]
    fn a_cut_takes_everything_until_it_is_over_even_when_the_trap_is_gone() {
        let trap = Trap::default();
        let told = trap.set(&["1.1.1.2".parse().expect("an address")], 1, Strike::CutFor(Duration::from_millis(50)));
        assert!(!trap.takes(&frame(1, 3)) && told.try_recv().is_err());
        assert!(trap.takes(&frame(1, 2)) && trap.takes(&frame(1, 3)) && trap.is_cut());
        trap.take();
        assert!(trap.is_cut());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!trap.is_cut() && !trap.takes(&frame(1, 2)));
    }
}
