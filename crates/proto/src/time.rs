//! The two clocks a machine is told about: a monotonic one for every decision, a wall clock for display.

use std::time::Duration;

/// A moment on the monotonic clock of one running device, counted from an origin that its owner chose.
///
/// Machines never read a clock: whoever drives them passes `now`, which never goes back. A type of our own instead of
/// `std::time::Instant`, because an `Instant` can only be made by asking the system, and a simulation that replays
/// from a seed must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The moment `since_origin` after the origin.
    pub const fn at(since_origin: Duration) -> Time {
        Time(since_origin)
    }

    /// How long after the origin this is.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(rhs))
    }
}

/// Seconds since 1970-01-01 UTC as somebody's wall clock says.
///
/// Used for display and for the period of a presence record (section 10.4 of the protocol), never to decide whether a
/// code is valid: nothing needs two clocks to agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// How far `other` is ahead of this clock, in seconds.
    pub fn offset_to(self, other: UnixTime) -> i64 {
        let ahead = i128::from(other.0) - i128::from(self.0);
        i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX })
    }

    /// This time moved by `seconds`, clamped to what the type can hold.
    pub fn moved_by(self, seconds: i64) -> UnixTime {
        UnixTime(self.0.saturating_add_signed(seconds))
    }
}

/// The moment an input arrives, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for every decision.
    pub time: Time,
    /// Wall clock: for display and for what a peer is told.
    pub unix: UnixTime,
}
