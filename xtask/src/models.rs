//! Runs the protocol models and compares their verdicts with the expected ones (`models/README.md`).

use std::io::Write;

use anyhow::{Result, bail};

use crate::process::{Ended, in_ci, is_there, run as run_program};
use crate::workspace::Workspace;

/// What a run of the models came to.
pub(crate) enum Verdict {
    /// They ran.
    Ran(Ended),
    /// A tool is missing, and this is no run of CI.
    Skipped,
}

impl Verdict {
    /// Nothing is wrong.
    pub(crate) fn ok(&self) -> bool {
        match self {
            Self::Ran(ended) => ended.success,
            Self::Skipped => true,
        }
    }
}

/// Runs the SPIN models, and those of other tools that are here.
pub(crate) fn run(workspace: &Workspace, out: &mut dyn Write) -> Result<Verdict> {
    for tool in ["python3", "spin", "cc"] {
        if !is_there(tool) {
            if in_ci() {
                bail!("{tool} is missing, and in CI nothing is skipped");
            }
            writeln!(out, "skipped: {tool} is not installed")?;
            return Ok(Verdict::Skipped);
        }
    }
    Ok(Verdict::Ran(run_program("python3", &["models/run.py", "--spin"], &[], workspace.root(), out)?))
}
