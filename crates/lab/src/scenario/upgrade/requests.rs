//! Numbered requests over the link of two paired devices, many at a time from both of them: each is a ping, which carries
//! a token of its own on a stream of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::control::{Control, Pong};
use crate::device::Device;

/// Under way at once from one device. One that has been answered ends while the next begins: together they are no more
/// than the streams that the other device lets one connection have.
const AT_ONCE: usize = 4;

/// How long each may take.
const WAIT: Duration = Duration::from_secs(20);

/// A request that is over.
pub(super) struct Request {
    /// From which of the two.
    pub(super) side: usize,
    /// When it was sent, and when its end was known.
    pub(super) asked: Instant,
    pub(super) ended: Instant,
    /// The answer, or why there is none.
    pub(super) result: Result<Pong, String>,
}

/// All requests that are to be made.
pub(super) struct Requests {
    total: usize,
    next: AtomicUsize,
    ended: AtomicUsize,
    done: Mutex<Vec<Request>>,
}

impl Requests {
    pub(super) fn new(total: usize) -> Requests {
        Requests { total, next: AtomicUsize::new(0), ended: AtomicUsize::new(0), done: Mutex::default() }
    }

    /// Makes them, from either side to the device with the id beside it, while `meanwhile` runs.
    pub(super) fn run<T>(&self, sides: [(&Device, &str); 2], meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        std::thread::scope(|scope| {
            for (side, (device, other)) in sides.into_iter().enumerate() {
                for _ in 0..AT_ONCE {
                    scope.spawn(move || self.work(side, Control::of(device), other));
                }
            }
            let result = meanwhile();
            if result.is_err() {
                self.next.store(self.total, Ordering::Relaxed);
            }
            result
        })
    }

    /// How many are over.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// All that are over.
    pub(super) fn into_done(self) -> Vec<Request> {
        self.done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self, side: usize, mut control: Control, other: &str) {
        while self.next.fetch_add(1, Ordering::Relaxed) < self.total {
            let asked = Instant::now();
            let result = control.ping(other, WAIT).unwrap_or_else(|error| Err(format!("{error:#}")));
            let request = Request { side, asked, ended: Instant::now(), result };
            self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(request);
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}
