//! What the terminal can do, if there is one.

use std::io::IsTerminal as _;
use std::os::fd::BorrowedFd;

/// Size of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

/// What this process is connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// Somebody can answer.
    pub(crate) stdin: bool,
    /// Somebody reads the data directly.
    pub(crate) stdout: bool,
    /// Somebody reads the talk directly.
    pub(crate) stderr: bool,
    /// Colours and cursor movements are welcome where there is a terminal.
    pub(crate) colour: bool,
}

impl Term {
    /// Looks at the standard streams and the environment.
    pub(crate) fn look() -> Term {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        // https://no-color.org: any value but an empty one.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Term {
            stdin: std::io::stdin().is_terminal(),
            stdout: std::io::stdout().is_terminal(),
            stderr: std::io::stderr().is_terminal() && !dumb,
            colour: !plain && !dumb,
        }
    }

    /// Whether a person can be asked: the question goes to stderr, the answer comes from stdin.
    pub(crate) fn can_ask(self) -> bool {
        self.stdin && self.stderr
    }

    /// Columns and rows of the terminal on stdout.
    pub(crate) fn size() -> (usize, usize) {
        size_of(rustix::stdio::stdout())
    }

    /// Columns of the terminal on stderr.
    pub(crate) fn talk_columns() -> usize {
        size_of(rustix::stdio::stderr()).0
    }
}

fn size_of(terminal: BorrowedFd<'_>) -> (usize, usize) {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => USUAL,
    }
}
