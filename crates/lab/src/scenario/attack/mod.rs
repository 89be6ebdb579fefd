//! The attacks of section 15 of the protocol that concern words, records, the handshake, the commit and the hello,
//! each played over the network against the real program (acceptance line 6).
//!
//! The attacker has a host of its own and speaks through the program's own network driver ([`crate::peer`]), with
//! messages of its own making (`forge`). Where an attack begins with something that an attacker cannot have, such as a
//! joiner that was led astray by a record only a code holder can seal, the scenario grants it: what is shown is that the
//! next line of defence holds too.
//!
//! `naive` plays attacks that are written once against the real program, where they must fail, and against the flow of
//! [`crate::naive`], where they must succeed: so the harness can see.
//!
//! Frames with a wrong length and records that are none cannot be sent with the driver's own types. The tests of
//! `handfast-net` (`a48_…`, `a17_…`) and of `handfast-proto` play those.

mod codes;
mod flips;
pub(in crate::scenario) mod forge;
mod hellos;
mod holders;
mod home;
mod imposters;
mod naive;
mod order;
mod people;
mod records;
mod stage;
mod strangers;

use anyhow::Result;

use super::Options;
use crate::report::Report;
use stage::{Case, Stage};

/// The groups by name. Each gets a lab of its own.
const GROUPS: [(&str, &[Case]); 10] = [
    ("codes", codes::CASES),
    ("strangers", strangers::CASES),
    ("holders", holders::CASES),
    ("people", people::CASES),
    ("imposters", imposters::CASES),
    ("flips", flips::CASES),
    ("order", order::CASES),
    ("records", records::CASES),
    ("hellos", hellos::CASES),
    ("home", home::CASES),
];

/// Every group's name, [`NAIVE`] included.
#[must_use]
pub fn groups() -> Vec<&'static str> {
    GROUPS.iter().map(|(name, _)| *name).chain([NAIVE]).collect()
}

/// The group that plays the same attacks against the real program and the naive device.
pub const NAIVE: &str = "naive";

/// Plays every group, or those of the names given. With `options.runs` above 1 the slow attacks are played too, and so
/// many positions of each message are tampered with.
///
/// # Errors
/// When a lab cannot be made or a device does not start. An attack that is not refused is a failed check.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let mut report =
        Report::new("attacks on words, records, handshake and commit", &["attack", "played", "ms", "seen"]);
    let wanted = |name: &str| only.is_empty() || only.iter().any(|group| group == name);
    for (name, cases) in GROUPS {
        if wanted(name) {
            Stage::new(options)?.play(cases, &mut report);
        }
    }
    if wanted(NAIVE) {
        naive::run(options, &mut report)?;
    }
    Ok(report)
}

/// Are the slow attacks played too?
const fn is_thorough(options: &Options) -> bool {
    options.runs > 1
}
