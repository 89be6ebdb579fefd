//! The checks of this project as one command: `cargo xtask ci` is what CI runs, and each part of it runs alone too.

mod ci;
mod deps;
mod fuzz;
mod models;
mod process;
mod requirements;
mod source;
mod tidy;
mod workspace;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// What `cargo xtask` prints when it is asked for nothing, or for something it does not know.
const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [--list] [STEP...]   every check, in order, or only the named ones; goes on after a failure
  tidy                    the rules of this code base that the compiler does not know
  deps                    licences, bans, duplicates and sources of the dependencies (deny.toml)
  fuzz [--minutes N] [--keep] [TARGET...]
                          looks for cases that break a property (fuzz/README.md); never in CI
  models                  the protocol models (models/README.md)
  requirements            which requirement ids the tests name, and which they do not
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout();
    match run(&args, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing better can be done when stderr is gone as well.
            let _ = writeln!(io::stderr(), "xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `Ok(false)` means that it ran and found something wrong, and has said so on `out`.
fn run(args: &[String], out: &mut dyn Write) -> Result<bool> {
    let Some((command, rest)) = args.split_first() else {
        write!(out, "{USAGE}")?;
        return Ok(false);
    };
    let workspace = Workspace::find()?;
    match (command.as_str(), rest) {
        ("ci", _) => ci::run(&workspace, rest, out),
        ("tidy", []) => tidy::run(&workspace, out),
        ("deps", []) => deps::run(&workspace, out),
        ("fuzz", _) => fuzz::run(&workspace, rest, out),
        ("models", []) => Ok(models::run(&workspace, out)?.ok()),
        ("requirements", []) => requirements::run(&workspace, out),
        ("help" | "--help" | "-h", _) => {
            write!(out, "{USAGE}")?;
            Ok(true)
        }
        _ => bail!("no such command: {}\n{USAGE}", args.join(" ")),
    }
}
