//! The signals that end a command.

use handfast::{Cause, Error};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a command that a signal has ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Listens for Ctrl-C and its relatives; from then on they no longer end the process by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    alone: bool,
}

impl Signals {
    /// Signals of a command at a terminal: that it is closed ends it as well.
    ///
    /// # Errors
    /// `internal` if the system refuses.
    pub(crate) fn listen() -> Result<Signals, Error> {
        let of = |kind| signal(kind).map_err(|error| Error::because(Cause::Internal, error));
        Ok(Signals {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hang_up: of(SignalKind::hangup())?,
            alone: false,
        })
    }

    /// The same for a process without a terminal, which closed ones do not concern.
    ///
    /// # Errors
    /// `internal` if the system refuses.
    pub(crate) fn listen_alone() -> Result<Signals, Error> {
        Ok(Signals { alone: true, ..Signals::listen()? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => if !self.alone {
                    return;
                },
            }
        }
    }
}
