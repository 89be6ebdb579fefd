//! Paired devices find each other after both restarted, also a day later and with clocks a day apart (acceptance line 3).
//!
//! The wall clock is moved by libfaketime; the monotonic clock is left alone, as it is when a device really is older.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::pairing::pair;
use super::{Options, world::World};
use crate::device::Device;
use crate::process::{Running, Start};
use crate::report::Report;
use crate::skip::{faketime_library, find_program};
use crate::stats::Summary;

/// How long a ping may take from the restart on: one failed try by a remembered address, then the DHT.
const PING_LIMIT: Duration = Duration::from_secs(30);

/// A day, and what it is in libfaketime's words.
const DAY: Duration = Duration::from_secs(86_400);
const DAY_LATER: &str = "+1d";

/// The programs' clocks in each case, alice's and bob's; empty is the true time.
const CASES: [(&str, &str, &str); 4] = [
    ("both restarted", "", ""),
    ("both a day later", DAY_LATER, DAY_LATER),
    ("alice a day ahead", DAY_LATER, ""),
    ("bob a day ahead", "", DAY_LATER),
];

/// Pairs once, then restarts both under each case's clocks and pings both ways, `runs` times.
///
/// # Errors
/// When the lab cannot be made, the first pairing fails, or the clock cannot be moved.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let (mut alice, mut bob) = world.warm_pair(0)?;
    pair(&alice, &bob, options.gap)?;
    let ids = (alice.status()?.id, bob.status()?.id);
    let mut report =
        Report::of_times("ping after restart, no code; the first ping finds the other, the answer uses its link");
    for (case, alice_clock, bob_clock) in CASES {
        let (mut first, mut back, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..options.runs {
            alice.stop()?;
            bob.stop()?;
            set_clock(&mut alice, alice_clock)?;
            set_clock(&mut bob, bob_clock)?;
            alice.start_daemon()?;
            bob.start_daemon()?;
            let mut ways = [(&alice, &ids.1, &mut first), (&bob, &ids.0, &mut back)];
            if run % 2 == 1 {
                ways = [(&bob, &ids.0, &mut first), (&alice, &ids.1, &mut back)];
            }
            for (from, to, times) in ways {
                match from.ping(to, PING_LIMIT) {
                    Ok(time) => times.push(time),
                    Err(error) => errors.push(format!("from {}: {error:#}", from.host().name())),
                }
            }
        }
        report.times(&format!("{case}: first ping"), Summary::of(&first));
        report.times(&format!("{case}: ping back"), Summary::of(&back));
        let seen = format!("{} of {} pings {}", first.len() + back.len(), options.runs * 2, errors.join("; "));
        report.check(&format!("{case}: ping works both ways"), errors.is_empty(), seen);
    }
    Ok(report)
}

/// Moves the wall clock of a device's programs, and makes sure that it has moved.
fn set_clock(device: &mut Device, offset: &str) -> Result<()> {
    let library = faketime_library().context("libfaketime is not installed (package faketime)")?;
    let library = library.display().to_string();
    let moved = !offset.is_empty();
    for (name, value) in [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", offset),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DISABLE_SHM", "1"),
    ] {
        device.set_env(name, if moved { value } else { "" });
    }
    let date = find_program("date").or_else(|| Some(Path::new("/bin/date").to_owned()));
    let date = date.filter(|date| date.is_file()).context("no program date")?;
    let start = Start { program: &date, args: vec!["+%s".to_owned()], env: device.env().to_vec(), stdin: None };
    let shown: u64 = Running::start(device.host(), &start)?.finish(PING_LIMIT)?.stdout.trim().parse()?;
    let truth = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let ahead = shown.saturating_sub(truth);
    let expected = if moved { DAY.as_secs() } else { 0 };
    ensure!(ahead.abs_diff(expected) < 60, "the clock is {ahead} s ahead, not {expected} s");
    Ok(())
}
