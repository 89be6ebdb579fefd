//! Pings from one device to another, ten a second, as long as they are wanted: whether they are answered shows since when
//! the other can be reached, to a tenth of a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::control::Control;
use crate::device::Device;

/// Between two pings.
const PACE: Duration = Duration::from_millis(100);

/// Pings under way at once: no more than the streams that the other device lets one connection have.
const AT_ONCE: u32 = 8;

/// How long each may take: until it is its turn again.
const WAIT: Duration = PACE.saturating_mul(AT_ONCE - 1);

/// A ping that was answered.
#[derive(Clone, Debug)]
pub(super) struct Trip {
    /// When it was sent.
    pub(super) asked: Instant,
    /// When the answer was there.
    pub(super) answered: Instant,
    /// Which way it took.
    pub(super) path: String,
}

/// Pings that go on until this is dropped.
pub(super) struct Pings {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    over: bool,
    trips: Vec<Trip>,
    /// Those without an answer, by cause.
    lost: BTreeMap<String, usize>,
}

impl Pings {
    /// From this device, to the one with this id.
    pub(super) fn start(from: &Device, to: &str) -> Result<Pings> {
        let shared = Arc::new(Shared::default());
        let (start, mut threads) = (Instant::now(), Vec::new());
        for turn in 0..AT_ONCE {
            let (shared, control, to) = (Arc::clone(&shared), Control::of(from), to.to_owned());
            let run = move || shared.ping(control, &to, start + PACE * turn);
            threads.push(std::thread::Builder::new().name("lab-pings".to_owned()).spawn(run)?);
        }
        Ok(Pings { shared, threads })
    }

    /// The first answer to a ping that was sent after `since`, if there is one until `deadline`.
    pub(super) fn first_after(&self, since: Instant, deadline: Instant) -> Option<Trip> {
        let mut seen = self.shared.lock();
        loop {
            let after = seen.trips.iter().filter(|trip| trip.asked >= since);
            if let Some(first) = after.min_by_key(|trip| trip.answered) {
                return Some(first.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The path of the latest answer.
    pub(super) fn path(&self) -> Option<String> {
        self.shared.lock().trips.last().map(|trip| trip.path.clone())
    }

    /// How many were answered, and how many were not for which cause.
    pub(super) fn summary(&self) -> String {
        let seen = self.shared.lock();
        let lost = seen.lost.iter().map(|(cause, count)| format!(", {count} {cause}"));
        format!("{} answered{}", seen.trips.len(), lost.collect::<String>())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pings each time it is the turn of this thread, until it is over.
    fn ping(&self, mut control: Control, to: &str, mut next: Instant) {
        while self.sleep_until(next) {
            let asked = Instant::now();
            let result = control.ping(to, WAIT);
            let answered = Instant::now();
            let mut seen = self.lock();
            match result {
                Ok(Ok(pong)) => seen.trips.push(Trip { asked, answered, path: pong.path }),
                Ok(Err(cause)) => *seen.lost.entry(cause).or_default() += 1,
                Err(error) => *seen.lost.entry(format!("{error:#}")).or_default() += 1,
            }
            drop(seen);
            self.changed.notify_all();
            while next <= answered {
                next += PACE * AT_ONCE;
            }
        }
    }

    /// False once it is over.
    fn sleep_until(&self, due: Instant) -> bool {
        let mut seen = self.lock();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if seen.over || left.is_zero() {
                return !seen.over;
            }
            seen = self.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
