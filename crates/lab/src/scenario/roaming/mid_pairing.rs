//! A pairing that is under way while one of its devices moves: begun before, answered after.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::pairing::{Ending, Offer, join, offer};
use crate::device::{COMMAND_LIMIT, Device};
use crate::process::Running;

/// How long the two may take until they are connected.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);

/// After a move both sides must agree by then, with a hello that completes the pairing if need be.
const AGREE_LIMIT: Duration = Duration::from_secs(60);

/// How often both are asked what they know.
const POLL: Duration = Duration::from_millis(250);

/// A pairing whose two sides are connected and have not been answered.
pub(super) struct Begun<'a> {
    initiator: Side<'a>,
    joiner: Side<'a>,
}

struct Side<'a> {
    device: &'a Device,
    process: Running,
}

/// How it ended.
pub(super) struct Ended {
    /// What each command said at its end.
    initiator: Result<Ending, String>,
    joiner: Result<Ending, String>,
    /// Which side lists the other.
    listed: [bool; 2],
    /// From the move until both commands had ended and both sides agreed.
    took: Duration,
}

impl<'a> Begun<'a> {
    /// Begins one.
    pub(super) fn new(initiator: &'a Device, joiner: &'a Device, gap: Duration) -> Result<Begun<'a>> {
        let Offer { process, words, .. } = offer(initiator, &[])?;
        std::thread::sleep(gap);
        let joining = join(joiner, &words, &[])?;
        for side in [&joining, &process] {
            side.wait_event("connected", CONNECT_LIMIT).context("before the move")?;
        }
        let initiator = Side { device: initiator, process };
        Ok(Begun { initiator, joiner: Side { device: joiner, process: joining } })
    }

    /// Says yes on both sides and waits for the end, once one of them has moved.
    pub(super) fn end(self, moved: Instant) -> Result<Ended> {
        let Begun { initiator, joiner } = self;
        let devices = [initiator.device, joiner.device];
        let (initiator, joiner) = std::thread::scope(|scope| {
            let other = scope.spawn(|| joiner.end(moved));
            (initiator.end(moved), other.join())
        });
        let joiner = joiner.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let ids = [devices[1].status()?.id, devices[0].status()?.id];
        loop {
            let mut listed = [false; 2];
            for ((device, other), listed) in devices.into_iter().zip(&ids).zip(&mut listed) {
                *listed = device.devices()?.iter().any(|entry| entry.id == *other);
            }
            let took = moved.elapsed();
            if listed[0] == listed[1] || took >= AGREE_LIMIT {
                let text = |ending: Result<Ending>| ending.map_err(|error| format!("{error:#}"));
                return Ok(Ended { initiator: text(initiator), joiner: text(joiner), listed, took });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Side<'_> {
    fn end(mut self, moved: Instant) -> Result<Ending> {
        let left = || AGREE_LIMIT.saturating_sub(moved.elapsed());
        // Without a question there is an end that says why.
        if let Ok(asked) = self.process.wait_event("approval_needed", left()) {
            let output = self.device.run(&["pair", "accept", asked.text("session")?], None, COMMAND_LIMIT)?;
            // A session that is over by then has said so itself.
            if !output.status.success() && self.process.event("pairing_failed").is_none() {
                bail!("the answer was not taken: {} {}", output.stdout.trim(), output.stderr.trim());
            }
        }
        if self.process.wait(left())?.is_none() {
            let last = self.process.events().pop().map(|event| event.json["event"].to_string());
            bail!("still open after {AGREE_LIMIT:?}, the last it said is {}", last.unwrap_or_default());
        }
        Ok(Ending::of(&self.process.finish(COMMAND_LIMIT)?))
    }
}

impl Ended {
    /// Paired on both sides, or on neither with a cause on both.
    pub(super) fn is_good(&self) -> bool {
        let has_cause = |ending: &Result<Ending, String>| ending.as_ref().is_ok_and(|end| end.cause.is_some());
        match self.listed {
            [true, true] => self.initiator.is_ok() && self.joiner.is_ok(),
            [false, false] => has_cause(&self.initiator) && has_cause(&self.joiner),
            [true, false] | [false, true] => false,
        }
    }

    /// Whether both sides list the other.
    pub(super) fn is_paired(&self) -> bool {
        self.listed == [true, true]
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = |ending: &Result<Ending, String>| match ending {
            Ok(ending) => ending.to_string(),
            Err(error) => error.clone(),
        };
        let listed = self.listed.map(|listed| if listed { "paired" } else { "not paired" });
        let (initiator, joiner) = (said(&self.initiator), said(&self.joiner));
        let took = self.took.as_secs_f64();
        write!(f, "initiator {} ({initiator}), joiner {} ({joiner}), {took:.1} s after the move", listed[0], listed[1])
    }
}
