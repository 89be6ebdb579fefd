//! What a link does to frames; changeable while it runs, read by the emulator for every frame.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::trap::{Strike, Trap};

/// Parts in a million: how probabilities are kept, so that they fit an atomic.
const MILLION: f64 = 1e6;

/// One direction of a link.
#[derive(Debug, Default)]
pub struct Direction {
    delay_ns: AtomicU64,
    loss_ppm: AtomicU32,
    duplicate_ppm: AtomicU32,
    reorder_ppm: AtomicU32,
    cut: AtomicBool,
    trap: Arc<Trap>,
    delivered: AtomicU64,
    dropped: AtomicU64,
    oversize: AtomicU64,
}

/// What became of the frames of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Handed to the other end.
    pub delivered: u64,
    /// Lost by chance, by a cut, or because the other end was down.
    pub dropped: u64,
    /// Longer than the MTU and therefore dropped; not zero means that an offload is on.
    pub oversize: u64,
}

impl Direction {
    /// How long each frame takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.delay_ns.store(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The share of frames that vanish, 0 to 1.
    pub fn set_loss(&self, share: f64) {
        self.loss_ppm.store(to_ppm(share), Ordering::Relaxed);
    }

    /// The share of frames that arrive twice, 0 to 1.
    pub fn set_duplicate(&self, share: f64) {
        self.duplicate_ppm.store(to_ppm(share), Ordering::Relaxed);
    }

    /// The share of frames that are held back by another 5 ms while later ones pass them, 0 to 1.
    pub fn set_reorder(&self, share: f64) {
        self.reorder_ppm.store(to_ppm(share), Ordering::Relaxed);
    }

    /// Cuts the direction (nothing passes, not even what is under way) or restores it.
    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            delivered: self.delivered.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            oversize: self.oversize.load(Ordering::Relaxed),
        }
    }

    pub(super) fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay_ns.load(Ordering::Relaxed))
    }

    pub(super) fn loss_ppm(&self) -> u32 {
        self.loss_ppm.load(Ordering::Relaxed)
    }

    pub(super) fn duplicate_ppm(&self) -> u32 {
        self.duplicate_ppm.load(Ordering::Relaxed)
    }

    pub(super) fn reorder_ppm(&self) -> u32 {
        self.reorder_ppm.load(Ordering::Relaxed)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed) || self.trap.is_cut()
    }

    /// A frame enters; gives whether a trap takes it.
    pub(super) fn is_trapped(&self, frame: &[u8]) -> bool {
        self.trap.takes(frame)
    }

    pub(super) fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_oversize(&self) {
        self.oversize.fetch_add(1, Ordering::Relaxed);
    }
}

/// Both directions of a link between its ends `a` and `b`.
#[derive(Clone, Debug)]
pub struct Link {
    /// From `a` to `b`.
    pub a_to_b: Arc<Direction>,
    /// From `b` to `a`.
    pub b_to_a: Arc<Direction>,
}

impl Default for Link {
    fn default() -> Self {
        let trap = Arc::<Trap>::default();
        let direction = || Arc::new(Direction { trap: Arc::clone(&trap), ..Direction::default() });
        Self { a_to_b: direction(), b_to_a: direction() }
    }
}

impl Link {
    /// How long each frame takes in either direction from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.both(|direction| direction.set_delay(delay));
    }

    /// The share of frames that vanish in either direction, 0 to 1.
    pub fn set_loss(&self, share: f64) {
        self.both(|direction| direction.set_loss(share));
    }

    /// Cuts both directions.
    pub fn cut(&self) {
        self.both(|direction| direction.set_cut(true));
    }

    /// Ends a cut.
    pub fn restore(&self) {
        self.both(|direction| direction.set_cut(false));
    }

    /// Lets this happen at frame number `at`, from 1, of those that go either way between the link's host and an address
    /// of `other` from now on. The receiver is told when it does.
    #[must_use]
    pub fn trap(&self, other: &[IpAddr], at: u64, strike: Strike) -> Receiver<()> {
        self.a_to_b.trap.set(other, at, strike)
    }

    /// Takes the trap away; gives how many such frames it saw.
    pub fn untrap(&self) -> u64 {
        self.a_to_b.trap.take()
    }

    fn both(&self, change: impl Fn(&Direction)) {
        change(&self.a_to_b);
        change(&self.b_to_a);
    }
}

fn to_ppm(share: f64) -> u32 {
    // Clamped to a million, so the conversion cannot lose anything.
    (share.clamp(0.0, 1.0) * MILLION).round() as u32
}
