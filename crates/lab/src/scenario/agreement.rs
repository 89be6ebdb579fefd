//! Whether two devices agree on being paired, after something has gone wrong between them.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::device::{Device, PairedDevice};

/// Two devices that disagree must agree again in this time after the restart, without a person's help but one ping.
pub(super) const REPAIR_LIMIT: Duration = Duration::from_secs(90);

/// How often both are asked.
const POLL: Duration = Duration::from_millis(250);

/// How long states of which none is `paired` are watched: nothing may grow out of them that only one side has.
const WATCH: Duration = Duration::from_secs(2);

/// How long one ping may try.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// What one device knows of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Knows {
    Nothing,
    Pending,
    Paired,
}

/// What both know of each other, and when that was settled.
pub(super) struct Outcome {
    pub(super) alice: Knows,
    pub(super) bob: Knows,
    pub(super) took: Duration,
}

/// Watches both until they agree, or the limit is over.
pub(super) fn agree(alice: (&Device, &str), bob: (&Device, &str)) -> Result<Outcome> {
    let start = Instant::now();
    loop {
        let outcome = Outcome { alice: knows(alice.0, bob.1)?, bob: knows(bob.0, alice.1)?, took: start.elapsed() };
        let both_pending = outcome.alice.min(outcome.bob) == Knows::Pending;
        let settled = match outcome.alice.max(outcome.bob) {
            Knows::Paired => outcome.alice == outcome.bob,
            // A lone pending entry has no rights and ends by itself; two of them must find each other.
            Knows::Pending | Knows::Nothing => !both_pending && outcome.took >= WATCH,
        };
        if settled || outcome.took >= REPAIR_LIMIT {
            return Ok(outcome);
        }
        // The help of a person who wonders: whoever lists the other pings it.
        for ((device, _), knows, (_, other)) in [(alice, outcome.alice, bob), (bob, outcome.bob, alice)] {
            if knows == Knows::Paired {
                // Its failing is what is being mended.
                let _ = device.ping(other, PING_LIMIT);
            }
        }
        std::thread::sleep(POLL);
    }
}

fn knows(device: &Device, other: &str) -> Result<Knows> {
    if device.devices()?.iter().any(|listed: &PairedDevice| listed.id == other) {
        return Ok(Knows::Paired);
    }
    let pending = device.sessions()?.iter().any(|session| {
        session.get("state").and_then(serde_json::Value::as_str).is_some_and(|state| state.contains("pending"))
    });
    Ok(if pending { Knows::Pending } else { Knows::Nothing })
}
