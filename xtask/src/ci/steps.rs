//! The steps of CI: cheap ones first, so that most mistakes are seen within seconds.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};

use crate::process::{Tally, run};
use crate::workspace::Workspace;
use crate::{deps, models, tidy};

/// How a step that could run has ended.
pub(super) enum Outcome {
    /// Nothing is wrong.
    Passed(Tally),
    /// Something is, and the step has said what.
    Failed(Tally),
    /// A tool is missing; never in CI.
    Skipped,
}

impl Outcome {
    /// Nothing is wrong.
    pub(super) fn is_ok(&self) -> bool {
        match self {
            Self::Passed(_) | Self::Skipped => true,
            Self::Failed(_) => false,
        }
    }

    /// What two parts of one step came to: right only if both are.
    fn and(self, other: Self) -> Self {
        let mut sum = Tally::default();
        for part in [&self, &other] {
            match part {
                Self::Passed(tally) | Self::Failed(tally) => sum.add(*tally),
                Self::Skipped => {}
            }
        }
        if self.is_ok() && other.is_ok() { Self::Passed(sum) } else { Self::Failed(sum) }
    }
}

/// One check.
pub(super) struct Step {
    /// What `cargo xtask ci NAME` calls it.
    pub(super) name: &'static str,
    /// What it does, in one line.
    pub(super) what: &'static str,
    /// Does it.
    pub(super) run: fn(&Workspace, &mut dyn Write) -> Result<Outcome>,
}

/// Every check, in the order in which they run.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "every file is formatted",
        run: |w, out| cargo(w, &["fmt", "--all", "--check"], &[], out),
    },
    Step {
        name: "tidy",
        what: "layers, purity of proto, leftovers",
        run: |w, out| Ok(found_nothing(tidy::run(w, out)?)),
    },
    Step {
        name: "deps",
        what: "licences, bans, duplicates, sources",
        run: |w, out| Ok(found_nothing(deps::run(w, out)?)),
    },
    Step { name: "models", what: "the protocol models give the expected verdicts", run: run_models },
    Step { name: "clippy", what: "no warning from the compiler or clippy", run: run_clippy },
    Step { name: "docs", what: "no warning from the documentation", run: run_docs },
    Step { name: "tests", what: "all tests but those between network namespaces", run: run_tests },
    Step { name: "examples", what: "every example runs to its end", run: run_examples },
    Step { name: "lab", what: "the real program between network namespaces", run: run_lab },
];

/// Builds the programs that tests and people run. With the examples come the features that the tests bring, so that no
/// dependency is built in two ways.
const BUILD: [&str; 5] = ["build", "--locked", "--workspace", "--bins", "--examples"];

/// The member that runs the real program between network namespaces.
const LAB: &str = "crates/lab";

fn found_nothing(ok: bool) -> Outcome {
    if ok { Outcome::Passed(Tally::default()) } else { Outcome::Failed(Tally::default()) }
}

fn cargo(workspace: &Workspace, args: &[&str], set: &[(&str, &str)], out: &mut dyn Write) -> Result<Outcome> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let ended = run(&cargo, args, set, workspace.root(), out)?;
    // A test that is switched off counts as a failure: it proves nothing, and CI skips nothing.
    let ok = ended.success && ended.tally.skipped == 0;
    Ok(if ok { Outcome::Passed(ended.tally) } else { Outcome::Failed(ended.tally) })
}

fn run_models(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    Ok(match models::run(workspace, out)? {
        // The models of tools that are in no registry are skipped everywhere; `models/run.py` says which.
        models::Verdict::Ran(ended) => {
            let tally = Tally { skipped: 0, ..ended.tally };
            if ended.success { Outcome::Passed(tally) } else { Outcome::Failed(tally) }
        }
        models::Verdict::Skipped => Outcome::Skipped,
    })
}

fn run_clippy(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    cargo(workspace, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"], &[], out)
}

/// (The flags reach only the documentation tool: no dependency is built again for them.)
fn run_docs(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    let args = ["doc", "--locked", "--workspace", "--no-deps"];
    cargo(workspace, &args, &[("RUSTDOCFLAGS", "-D warnings")], out)
}

/// The runner is cargo's own on every machine, so that a test that passes here passes there. Always the whole workspace
/// is named and some of its targets: with fewer packages the dependencies would have other features, and be built again.
fn run_tests(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    let mut args = vec!["test", "--locked", "--workspace", "--no-fail-fast", "--lib", "--bins"];
    let mut tests = Vec::new();
    for member in workspace.members()?.iter().filter(|member| member.dir != LAB) {
        tests.extend(integration_tests(workspace, &member.dir)?);
    }
    for test in &tests {
        args.extend(["--test", test]);
    }
    let targets = cargo(workspace, &args, &[], out)?;
    let docs = cargo(workspace, &["test", "--locked", "--workspace", "--no-fail-fast", "--doc"], &[], out)?;
    Ok(targets.and(docs))
}

/// The lab's own tests measure time on networks of their own: one after another, and nothing beside them.
fn run_lab(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    let built = cargo(workspace, &BUILD, &[], out)?;
    if !built.is_ok() {
        return Ok(built);
    }
    let tests = integration_tests(workspace, LAB)?;
    let mut args = vec!["test", "--locked", "--workspace", "--no-fail-fast"];
    for test in &tests {
        args.extend(["--test", test]);
    }
    args.extend(["--", "--test-threads=1"]);
    cargo(workspace, &args, &[], out)
}

/// The names of a member's integration tests: each file in `tests`, each folder in it with a `main.rs`.
fn integration_tests(workspace: &Workspace, member: &str) -> Result<Vec<String>> {
    let dir = workspace.root().join(member).join("tests");
    let mut names = Vec::new();
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file() {
                names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Runs each example of the library. (Not by `cargo run -p`, which would build half of the dependencies once more.)
fn run_examples(workspace: &Workspace, out: &mut dyn Write) -> Result<Outcome> {
    let built = cargo(workspace, &BUILD, &[], out)?;
    if !built.is_ok() {
        return Ok(built);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.root().join("target"), Into::into);
    let mut tally = Tally::default();
    for name in examples(workspace)? {
        writeln!(out, "--- {name}")?;
        let program = target.join("debug/examples").join(&name);
        let program = program.to_str().context("the path of the build folder is not UTF-8")?;
        let success = run(program, &[], &[], workspace.root(), out)?.success;
        tally.add(Tally { passed: u64::from(success), failed: u64::from(!success), skipped: 0 });
    }
    Ok(if tally.failed == 0 { Outcome::Passed(tally) } else { Outcome::Failed(tally) })
}

/// The names of the library's examples.
fn examples(workspace: &Workspace) -> Result<Vec<String>> {
    let dir = workspace.root().join("crates/handfast/examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).context("the library has no examples")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}
