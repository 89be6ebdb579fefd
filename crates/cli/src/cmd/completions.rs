//! `completions`: a script for the shell.

use clap::CommandFactory as _;
use handfast::Error;

use super::Context;
use crate::args::Cli;

/// Runs the command.
pub(super) fn run(context: &Context, shell: clap_complete::Shell) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "handfast", &mut script);
    context.out.bytes(&script);
    Ok(0)
}
