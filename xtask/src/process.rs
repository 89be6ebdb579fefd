//! Runs other programs: shows what they print as it comes, counts what test runners report, and ends what hangs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// How long one command may take in CI. A cold build of everything takes about a quarter of it on two cores; a test
/// that hangs is cut off here and named, before CI itself cuts off the whole run.
const LIMIT_SECONDS: u32 = 45 * 60;

/// How many seconds a command has to end by itself after that.
const GRACE_SECONDS: u32 = 10;

/// How many tests ran and how they ended, added up over one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that did not run.
    pub(crate) skipped: u64,
}

impl Tally {
    /// Adds another tally to this one.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// How a command ended.
pub(crate) struct Ended {
    /// It exited with 0.
    pub(crate) success: bool,
    /// What its output said about tests.
    pub(crate) tally: Tally,
}

/// Is this a run of CI, where nothing may be skipped?
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Runs a command, copies its standard output to `out` and adds up the test results in it. `context` says what the
/// command is for, should it not start.
pub(crate) fn run(
    program: &str,
    args: &[&str],
    set: &[(&str, &str)],
    dir: &std::path::Path,
    out: &mut dyn Write,
) -> Result<Ended> {
    out.flush()?;
    let mut command = limited(program);
    command.args(args).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    // `cargo run` describes xtask itself in these: the programs started here are not xtask.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_about_xtask) {
            command.env_remove(name);
        }
    }
    command.envs(set.iter().copied());
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let stdout = child.stdout.take().context("the output was asked for")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        out.write_all(&line)?;
        out.write_all(b"\n")?;
        if let Some(found) = test_result(&String::from_utf8_lossy(&line)) {
            tally.add(found);
        }
    }
    let status = child.wait()?;
    if status.code() == Some(TIMED_OUT) && in_ci() {
        writeln!(out, "{program} did not end within {LIMIT_SECONDS} s")?;
    }
    Ok(Ended { success: status.success(), tally })
}

/// Exit code of coreutils' `timeout` when the time was up.
const TIMED_OUT: i32 = 124;

/// The command itself, in CI with a time limit. (Elsewhere a person can end it, and `timeout` would keep the terminal's
/// interrupt from it.)
fn limited(program: &str) -> Command {
    if !in_ci() || !is_there("timeout") {
        return Command::new(program);
    }
    let mut command = Command::new("timeout");
    command.arg(format!("--kill-after={GRACE_SECONDS}")).arg(LIMIT_SECONDS.to_string()).arg(program);
    command
}

/// Can this program be started?
pub(crate) fn is_there(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn is_about_xtask(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Reads the closing line of one test binary (`test result: ok. 5 passed; 0 failed; 1 ignored; …`), or the plain one
/// of a script (`6 passed, 0 failed, 12 skipped`).
fn test_result(line: &str) -> Option<Tally> {
    let counts = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let mut tally = Tally::default();
    let mut said_passed = false;
    for part in counts.split([';', ',']) {
        let (number, what) = part.trim().split_once(' ')?;
        let number: u64 = match number.parse() {
            Ok(number) => number,
            // `finished in 0.05s` closes the line of a test binary.
            Err(_) if said_passed => continue,
            Err(_) => return None,
        };
        match what {
            "passed" => {
                tally.passed = number;
                said_passed = true;
            }
            "failed" => tally.failed = number,
            "ignored" | "skipped" => tally.skipped = number,
            "measured" | "filtered out" => {}
            _ => return None,
        }
    }
    said_passed.then_some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn the_closing_lines_of_test_runners_are_counted() {
        let line = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.05s";
        assert_eq!(test_result(line), Some(tally(5, 0, 1)));
        let line = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(test_result(line), Some(tally(3, 2, 0)));
        assert_eq!(test_result("6 passed, 0 failed, 12 skipped"), Some(tally(6, 0, 12)));
    }

    #[test]
    fn other_lines_are_not_counted() {
        for line in ["", "running 5 tests", "test a::b ... ok", "5 apples, 6 pears", "2 failed, 3 skipped"] {
            assert_eq!(test_result(line), None, "{line}");
        }
    }

    #[test]
    fn a_command_that_fails_is_seen_to_fail() {
        let mut out = Vec::new();
        let dir = std::env::temp_dir();
        let ended = run("sh", &["-c", "echo '1 passed, 2 failed'; exit 3"], &[], &dir, &mut out).expect("sh starts");
        assert!(!ended.success);
        assert_eq!(ended.tally, tally(1, 2, 0));
        assert_eq!(out, b"1 passed, 2 failed\n");
    }
}
