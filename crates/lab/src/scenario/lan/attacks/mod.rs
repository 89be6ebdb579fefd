//! Attacks 23 to 29 and 37 of section 15 of the protocol, and acceptance lines 3, 4 and 6: a host of the same network against the
//! beacons and the confirmation service of the real program.
//!
//! Whoever has photographed a code is granted that here: what a beacon or a call makes a device do must be harmless even
//! then. Every group begins with what must work, so that a silence that follows is a refusal and no mistake of the lab's.

mod beacons;
mod calls;
mod flood;
mod forge;
mod names;
mod stage;
mod takeover;
mod tls;

use std::time::Instant;

use anyhow::Result;

use super::super::Options;
use crate::report::Report;
use stage::Stage;

/// An attack: its number in section 15 of the protocol or the line of the acceptance, what is played, and how. Playing
/// gives what was seen; an error says that the victim did not refuse it as it must.
type Case = (&'static str, &'static str, fn(&Stage, &Options) -> Result<String>);

/// The groups by name; each has a lab of its own.
const GROUPS: [(&str, &[Case]); 5] = [
    ("beacons", beacons::CASES),
    ("flood", flood::CASES),
    ("calls", calls::CASES),
    ("names", names::CASES),
    ("takeover", takeover::CASES),
];

/// The names of all groups.
#[must_use]
pub fn groups() -> Vec<&'static str> {
    GROUPS.iter().map(|(name, _)| *name).collect()
}

/// Plays every group, or those of the names given.
///
/// # Errors
/// When a lab cannot be made or a device does not start. An attack that is not refused is a failed check.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let mut report = Report::new("attacks from the same network", &["attack", "played", "ms", "seen"]);
    for (name, cases) in GROUPS {
        if !only.is_empty() && !only.iter().any(|group| group == name) {
            continue;
        }
        let mut stage = Stage::new()?;
        for (attack, played, play) in cases {
            let start = Instant::now();
            let outcome = stage.fresh().and_then(|()| play(&stage, options)).and_then(|seen| {
                stage.check_stores()?;
                Ok(seen)
            });
            let ms = start.elapsed().as_millis();
            let (holds, seen) = match outcome {
                Ok(seen) => (true, seen),
                Err(error) => (false, format!("{error:#}")),
            };
            report.row(vec![(*attack).to_owned(), (*played).to_owned(), ms.to_string(), seen.clone()]);
            report.check(&format!("{attack}: {played}"), holds, seen);
        }
    }
    Ok(report)
}
