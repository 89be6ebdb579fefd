//! Processes of this program: their events line by line, their end, and their end when nobody needs them any more.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use handfast::{Cause, Error};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long a process may take to end after it has been asked to.
const END: Duration = Duration::from_secs(10);

/// Starts this program for one instance.
pub(super) struct Programs {
    home: PathBuf,
    name: &'static str,
}

/// A running process. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    what: String,
}

impl Programs {
    /// For the instance `name` in `home`.
    pub(super) fn new(home: PathBuf, name: &'static str) -> Programs {
        Programs { home, name }
    }

    /// The instance's name, and the device's.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Starts a command.
    pub(super) fn start(&self, args: Vec<&str>) -> Result<Program, Error> {
        self.spawn(&args, Stdio::null())
    }

    /// Starts a command that reads `text` from its stdin.
    pub(super) async fn start_with(&self, args: Vec<&str>, text: &str) -> Result<Program, Error> {
        let mut program = self.spawn(&args, Stdio::piped())?;
        if let Some(mut stdin) = program.child.stdin.take() {
            let written = stdin.write_all(text.as_bytes()).await;
            written.map_err(|error| Error::because(Cause::Internal, format!("{}: {error}", program.what)))?;
        }
        Ok(program)
    }

    fn spawn(&self, args: &[&str], stdin: Stdio) -> Result<Program, Error> {
        let what = format!("`{}` of {}", args.iter().take(2).copied().collect::<Vec<_>>().join(" "), self.name);
        let failed = |error: std::io::Error| Error::because(Cause::Internal, format!("{what}: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("--home").arg(&self.home).args(["--instance", self.name]).args(args);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed(std::io::Error::other("no stdout")))?;
        Ok(Program { child, lines: BufReader::new(stdout).lines(), what })
    }
}

impl Program {
    /// The next line it prints.
    pub(super) async fn line<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let line = self.next_line().await?;
        line.ok_or_else(|| Error::because(Cause::Internal, format!("{} has ended too early", self.what)))
    }

    /// The next line it prints; `None` at the end. A failure that it tells becomes one of this program.
    pub(super) async fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let failed = |text: String| Error::because(Cause::Internal, text);
        let line = self.lines.next_line().await.map_err(|error| failed(format!("{}: {error}", self.what)))?;
        let Some(line) = line else { return Ok(None) };
        if let Ok(Failure { event, text, hint }) = serde_json::from_str(&line)
            && event == "error"
        {
            return Err(failed(format!("{}: {text}", self.what)).with_hint(hint));
        }
        let value = serde_json::from_str(&line).map_err(|_| failed(format!("{} says something strange", self.what)))?;
        Ok(Some(value))
    }

    /// Waits for its end, which must be a good one.
    pub(super) async fn success(mut self) -> Result<(), Error> {
        // What it still prints was read by nobody so far, and must not keep it from ending.
        while self.next_line::<serde_json::Value>().await?.is_some() {}
        let ended = tokio::time::timeout(END, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Error::because(Cause::Internal, format!("{} has ended with {status}", self.what))),
            Ok(Err(error)) => Err(Error::because(Cause::Internal, format!("{}: {error}", self.what))),
            Err(_) => Err(Error::because(Cause::Internal, format!("{} does not end", self.what))),
        }
    }

    /// Ends it by a signal.
    pub(super) async fn terminate(self) -> Result<(), Error> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It cannot have been reaped, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.success().await
    }
}

/// A failure as every command tells it.
#[derive(Deserialize)]
struct Failure {
    event: String,
    text: String,
    hint: String,
}
