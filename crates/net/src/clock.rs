//! The two clocks, read here and handed to whoever decides.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use handfast_proto::time::{Time, UnixTime};

/// As good as never, and within what every system's clock can tell.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// The clocks of one running process. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is this moment.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// The monotonic time since the start.
    pub fn now(&self) -> Time {
        Time::at(self.origin.elapsed())
    }

    /// The wall clock. A clock set before 1970 reads as 1970: it is only shown and never decides.
    pub fn unix(&self) -> UnixTime {
        UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }

    /// The moment of the process clock at which [`Clock::now`] reads `time`; a year from the start if that is further
    /// than the process clock can tell.
    pub fn instant(&self, time: Time) -> Instant {
        self.origin.checked_add(time.since_origin()).unwrap_or(self.origin + FAR)
    }
}
