//! `cargo xtask ci`: every check in order, each with a heading and its time, and a summary of all at the end.

mod steps;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::Tally;
use crate::workspace::Workspace;
use steps::{Outcome, STEPS, Step};

/// How one step ended.
struct Done {
    step: &'static Step,
    outcome: Result<Outcome>,
    took: Duration,
}

/// Runs the named steps, or all; a failing step does not keep the later ones from running.
pub(crate) fn run(workspace: &Workspace, args: &[String], out: &mut dyn Write) -> Result<bool> {
    if args == ["--list"] {
        for step in STEPS {
            writeln!(out, "{:<9} {}", step.name, step.what)?;
        }
        return Ok(true);
    }
    if let Some(unknown) = args.iter().find(|arg| !STEPS.iter().any(|step| step.name == arg.as_str())) {
        bail!("no such step: {unknown}; `cargo xtask ci --list` lists them");
    }
    let chosen = STEPS.iter().filter(|step| args.is_empty() || args.iter().any(|arg| arg == step.name));
    let mut done = Vec::new();
    for step in chosen {
        writeln!(out, "\n=== {}: {}", step.name, step.what)?;
        let start = Instant::now();
        let outcome = (step.run)(workspace, out);
        if let Err(error) = &outcome {
            writeln!(out, "{error:#}")?;
        }
        let took = start.elapsed();
        done.push(Done { step, outcome, took });
    }
    summary(&done, out)
}

fn summary(done: &[Done], out: &mut dyn Write) -> Result<bool> {
    writeln!(out, "\n=== summary")?;
    let mut tally = Tally::default();
    for Done { step, outcome, took } in done {
        let verdict = match outcome {
            Ok(Outcome::Passed(_)) => "ok",
            Ok(Outcome::Skipped) => "skipped",
            Ok(Outcome::Failed(_)) | Err(_) => "FAILED",
        };
        writeln!(out, "{:<9} {verdict:<8} {:>7.1} s", step.name, took.as_secs_f64())?;
        if let Ok(Outcome::Passed(found) | Outcome::Failed(found)) = outcome {
            tally.add(*found);
        }
    }
    let failed: Vec<&str> = done.iter().filter(|done| !done.is_ok()).map(|done| done.step.name).collect();
    if !failed.is_empty() {
        writeln!(out, "failed: {}", failed.join(", "))?;
    }
    writeln!(out, "{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped)?;
    Ok(failed.is_empty())
}

impl Done {
    fn is_ok(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(outcome: Result<Outcome>) -> Done {
        Done { step: &STEPS[0], outcome, took: Duration::from_millis(1500) }
    }

    fn sum(done: &[Done]) -> (bool, String) {
        let mut out = Vec::new();
        let ok = summary(done, &mut out).expect("writing to memory");
        (ok, String::from_utf8(out).expect("it is text"))
    }

    #[test]
    fn one_failed_step_fails_all() {
        let passed = Tally { passed: 5, ..Tally::default() };
        let failed = Tally { passed: 1, failed: 2, skipped: 0 };
        let (ok, text) = sum(&[done(Ok(Outcome::Passed(passed))), done(Ok(Outcome::Failed(failed)))]);
        assert!(!ok);
        assert!(text.ends_with("6 passed, 2 failed, 0 skipped\n"), "{text}");
        let (ok, _) = sum(&[done(Ok(Outcome::Passed(passed))), done(Err(anyhow::anyhow!("no tool")))]);
        assert!(!ok);
        let (ok, text) = sum(&[done(Ok(Outcome::Passed(passed))), done(Ok(Outcome::Skipped))]);
        assert!(ok);
        assert!(text.ends_with("\n5 passed, 0 failed, 0 skipped\n"), "{text}");
    }

    #[test]
    fn an_unknown_step_is_refused() {
        let workspace = Workspace::at(&std::env::temp_dir());
        assert!(run(&workspace, &["tset".to_owned()], &mut Vec::new()).is_err());
    }

    #[test]
    fn the_steps_can_be_listed() {
        let workspace = Workspace::at(&std::env::temp_dir());
        let mut out = Vec::new();
        assert!(run(&workspace, &["--list".to_owned()], &mut out).expect("writing to memory"));
        assert_eq!(String::from_utf8_lossy(&out).lines().count(), STEPS.len());
    }
}
