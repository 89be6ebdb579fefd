//! Everything this program says: data on stdout, talk on stderr, and nowhere else.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::os::fd::BorrowedFd;

use handfast::{Cause, Error};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::term::Term;
use crate::wrap::broken;

/// Where a command writes its results.
pub(crate) struct Output {
    json: bool,
    stdout: Cell<Stdout>,
    /// The command ends with that its results were lost.
    told: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stdout {
    Open,
    /// The reader has enough, which is its right.
    Closed,
    /// What was written got lost, say for want of space.
    Failed(Errno),
}

impl Output {
    /// For a command with or without `--json`.
    pub(crate) fn new(json: bool) -> Output {
        Output { json, stdout: Cell::new(Stdout::Open), told: Cell::new(false) }
    }

    /// Whether JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether somebody still reads stdout.
    pub(crate) fn is_open(&self) -> bool {
        self.stdout.get() == Stdout::Open
    }

    /// Whether everything so far has arrived where it was written to.
    ///
    /// # Errors
    /// That it got lost, or that nobody reads it.
    pub(crate) fn arrived(&self) -> Result<(), Error> {
        match self.stdout.get() {
            Stdout::Open => Ok(()),
            Stdout::Closed => Err(Error::because(Cause::Internal, "nobody reads the output")),
            Stdout::Failed(errno) => {
                // As an event it would be lost as well.
                self.told.set(!self.json);
                Err(lost(errno))
            }
        }
    }

    /// A result: as JSON or as text, from the same value.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            self.json_line(value);
        } else {
            self.text(&text(value));
        }
    }

    /// A value as one line of JSON on stdout.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) {
        match serde_json::to_string(value) {
            // It may hold a code, which leaves this memory with it.
            Ok(line) => self.text(&Zeroizing::new(line)),
            Err(error) => tracing::error!(%error, "a value without a JSON form"),
        }
    }

    /// Text on stdout; a line end is added if it lacks one.
    pub(crate) fn text(&self, text: &str) {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 1));
        bytes.extend_from_slice(text.as_bytes());
        if !text.ends_with('\n') {
            bytes.push(b'\n');
        }
        self.bytes(&bytes);
    }

    /// Bytes on stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if self.is_open() {
            match write_all(rustix::stdio::stdout(), bytes) {
                Ok(()) => {}
                Err(Errno::PIPE) => self.stdout.set(Stdout::Closed),
                Err(error) => self.stdout.set(Stdout::Failed(error)),
            }
        }
    }

    /// A line of talk on stderr.
    pub(crate) fn talk(&self, line: &str) {
        complain(line);
    }

    /// A failure of the command: an event on stdout with `--json`, else text and hint on stderr.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            self.json_line(&ErrorEvent::from(error));
        } else {
            complain(&crate::render::error(&error.text, &error.hint));
        }
    }

    /// The exit code of a command that would end with `code`: results that were lost make it a failure.
    pub(crate) fn finish(&self, code: u8) -> u8 {
        match self.stdout.get() {
            Stdout::Open | Stdout::Closed => code,
            Stdout::Failed(error) => {
                let error = lost(error);
                if !self.told.get() {
                    complain(&crate::render::error(&error.text, ""));
                }
                if code == 0 { error.exit() } else { code }
            }
        }
    }
}

fn lost(errno: Errno) -> Error {
    Error::because(Cause::Internal, format!("the output could not be written: {errno}"))
}

/// A line on stderr. That nobody reads it is nobody's failure.
pub(crate) fn complain(line: &str) {
    let at_terminal = std::io::stderr().is_terminal();
    let text = if at_terminal { broken(line, Term::talk_columns()) } else { line.to_owned() };
    raw_talk(&format!("{text}\n"));
}

/// Text on stderr as it is, for lines that are drawn again.
pub(crate) fn raw_talk(text: &str) {
    let _ = write_all(rustix::stdio::stderr(), text.as_bytes());
}

/// Any failure of a command but that of a pairing (`docs/interface.md`).
#[derive(Serialize)]
struct ErrorEvent<'a> {
    v: u32,
    event: &'static str,
    cause: &'static str,
    code: &'static str,
    text: &'a str,
    hint: &'a str,
    exit: u8,
}

impl<'a> From<&'a Error> for ErrorEvent<'a> {
    fn from(error: &'a Error) -> ErrorEvent<'a> {
        let cause = error.cause.name();
        ErrorEvent {
            v: handfast::EVENT_VERSION,
            event: "error",
            cause,
            code: cause,
            text: &error.text,
            hint: &error.hint,
            exit: error.exit(),
        }
    }
}

/// Writes past every buffer, so that no copy of a code stays behind in one.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Whoever gave us the stream has made it non-blocking.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&to, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
