//! `handfast`: the command and the daemon. It shows what the library does and asks what only a person can answer; it
//! decides nothing about pairing.

mod args;
mod argv;
#[cfg(test)]
mod bench;
mod cmd;
mod config;
mod daemon;
mod harden;
mod instance;
mod log;
mod metrics;
mod nearby;
mod output;
mod prompt;
mod qr;
mod render;
mod session;
mod shown;
mod signals;
mod term;
mod wrap;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The order matters: a code leaves the process list first of all, and a process that cannot be dumped cannot write
    // to its own memory any more.
    let arguments = argv::take();
    harden::no_dumps();
    harden::no_payload_in_panics();
    // A panic has been reported by its hook; it is a mistake of ours like any other.
    let code = std::panic::catch_unwind(|| cmd::run(arguments)).unwrap_or(handfast::Cause::Internal.exit());
    ExitCode::from(code)
}
