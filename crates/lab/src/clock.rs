//! The wall clock of a device's programs, moved by libfaketime; the monotonic clock is left alone, as it is when a
//! device really is older or its clock is wrong.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use crate::device::Device;
use crate::process::{Running, Start};
use crate::skip::{faketime_library, find_program};

/// How long the program may take that shows the moved clock.
const DATE_LIMIT: Duration = Duration::from_secs(20);

/// Seconds of a day.
const DAY: i64 = 86_400;

/// How exactly a moved clock must be where it was moved to, seconds.
const TOLERANCE: u64 = 60;

/// Moves the wall clock of the programs that a device starts from now on by so many days, and makes sure that it has
/// moved; 0 is the true time.
///
/// # Errors
/// When libfaketime is not there, or the clock did not move.
pub fn move_by_days(device: &mut Device, days: i64) -> Result<()> {
    let library = faketime_library().context("libfaketime is not installed (package faketime)")?;
    let library = library.display().to_string();
    let offset = format!("{days:+}d");
    for (name, value) in [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", offset.as_str()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DISABLE_SHM", "1"),
    ] {
        device.set_env(name, if days == 0 { "" } else { value });
    }
    let date = find_program("date").or_else(|| Some(Path::new("/bin/date").to_owned()));
    let date = date.filter(|date| date.is_file()).context("no program date")?;
    let start = Start { program: &date, args: vec!["+%s".to_owned()], env: device.env().to_vec(), stdin: None };
    let shown: i64 = Running::start(device.host(), &start)?.finish(DATE_LIMIT)?.stdout.trim().parse()?;
    let truth = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let ahead = shown - truth;
    ensure!(ahead.abs_diff(days * DAY) < TOLERANCE, "the clock is {ahead} s ahead, not {days} days");
    Ok(())
}
