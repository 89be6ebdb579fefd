//! Programs that run on a host: their lines with the time of receipt, their end, their death on drop.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::host::Host;

/// Lines kept of one program. A run prints hundreds; more than this is a program that prints without end.
const LINES_MAX: usize = 500_000;

/// How long the rest of the output may take to arrive after the program has ended.
const OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// How much of a program's stderr an error message quotes.
const QUOTE_BYTES: usize = 2_000;

/// A line of stdout.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it arrived.
    pub at: Instant,
    /// Its text, without the line end.
    pub text: String,
}

/// A JSON line of stdout.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it arrived.
    pub at: Instant,
    /// The object.
    pub json: Value,
}

/// What a program that ended has left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
    /// From its start to its end.
    pub elapsed: Duration,
}

/// What to start.
pub struct Start<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// What it reads from stdin before the end of the input, at most a pipe's 64 KiB. With `None` stdin stays open and
    /// silent, as a terminal at which nobody types.
    pub stdin: Option<&'a str>,
}

/// A program that runs on a host. Dropping it kills it by its pid.
pub struct Running {
    child: Child,
    _open_stdin: Option<ChildStdin>,
    what: String,
    started: Instant,
    lines: Arc<Lines>,
    stderr: PathBuf,
}

#[derive(Default)]
struct Lines {
    state: Mutex<LineState>,
    changed: Condvar,
}

#[derive(Default)]
struct LineState {
    lines: Vec<Line>,
    ended: bool,
}

impl Output {
    /// The exit code; a program killed by a signal has none.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The single JSON value on stdout.
    ///
    /// # Errors
    /// When the program failed, or printed something else.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status.success(), "ended with {}: {} {}", self.status, self.stdout.trim(), self.stderr.trim());
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}", self.stdout.trim()))
    }
}

impl Running {
    /// Starts a program in the host's namespace and home.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(host: &Host, start: &Start<'_>) -> Result<Self> {
        let name = start.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = format!("{name} {}", start.args.join(" "));
        let stderr = host.next_log(&name);
        let errors = File::create(&stderr)?;
        let mut command = host.command(start.program);
        command.args(&start.args).env_clear().envs(start.env.iter().cloned()).current_dir(host.home());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let (started, child) = host.namespace().enter(|| (Instant::now(), command.spawn()))?;
        let mut child = child.with_context(|| format!("starting {what}"))?;
        let stdout = child.stdout.take().context("the pipe of stdout was asked for")?;
        let mut open_stdin = child.stdin.take();
        let lines = Arc::new(Lines::default());
        if let (Some(text), Some(mut stdin)) = (start.stdin, open_stdin.take_if(|_| start.stdin.is_some())) {
            // A program that ends without reading is judged by its exit code.
            let _ = stdin.write_all(text.as_bytes());
        }
        let running = Self { child, _open_stdin: open_stdin, what, started, lines: Arc::clone(&lines), stderr };
        std::thread::Builder::new().name("lab-lines".to_owned()).spawn(move || lines.read(stdout))?;
        Ok(running)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Everything it printed on stdout so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().lines.clone()
    }

    /// Everything it printed on stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        std::fs::read(&self.stderr).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The JSON lines printed so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lines().iter().filter_map(as_event).collect()
    }

    /// The first event called `name`, if it has been printed.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<Event> {
        self.lines.lock().lines.iter().find_map(|line| as_event(line).filter(|event| event.is(name)))
    }

    /// Waits for the first event called `name`.
    ///
    /// # Errors
    /// When it does not come within `timeout`, or the program ends without it.
    pub fn wait_event(&self, name: &str, timeout: Duration) -> Result<Event> {
        self.wait_line(timeout, |line| as_event(line).filter(|event| event.is(name)))
            .with_context(|| format!("no event {name}"))
    }

    /// Waits for the first line that `pick` takes.
    ///
    /// # Errors
    /// When none comes within `timeout`, or the program ends without it.
    pub fn wait_line<T>(&self, timeout: Duration, pick: impl Fn(&Line) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lines.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(&pick) {
                return Ok(found);
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let how = if state.ended { "closed its output".to_owned() } else { format!("waited {timeout:?}") };
                let printed: Vec<&str> = state.lines.iter().map(|line| line.text.as_str()).collect();
                bail!("{}: {how}; stdout: {}; stderr: {}", self.what, printed.join(" | "), quote(&self.stderr()));
            }
            state = self.lines.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it ends; `None` when it still runs after `timeout`.
    ///
    /// # Errors
    /// When the kernel cannot tell.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        let pidfd = pidfd_open(self.pid_handle()?, PidfdFlags::empty())?;
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timespec = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            // An interrupted wait is a short one.
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timespec));
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Waits until it ends and gives everything it left; the program is killed when it does not end in time.
    ///
    /// # Errors
    /// When it does not end within `timeout`.
    pub fn finish(mut self, timeout: Duration) -> Result<Output> {
        let Some(status) = self.wait(timeout)? else {
            let printed: Vec<String> = self.lines().into_iter().map(|line| line.text).collect();
            let errors = quote(&self.stderr());
            bail!("{} still runs after {timeout:?}; stdout: {}; stderr: {errors}", self.what, printed.join(" | "));
        };
        let elapsed = self.started.elapsed();
        let mut stdout = String::new();
        for line in self.rest_of_lines() {
            stdout.push_str(&line.text);
            stdout.push('\n');
        }
        Ok(Output { status, stdout, stderr: self.stderr(), elapsed })
    }

    /// Is it still running?
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Interrupts it as Ctrl-C does.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn interrupt(&self) -> Result<()> {
        kill_process(self.pid_handle()?, Signal::INT).with_context(|| format!("interrupting {}", self.what))
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn freeze(&self) -> Result<()> {
        kill_process(self.pid_handle()?, Signal::STOP).with_context(|| format!("stopping {}", self.what))
    }

    /// Lets it go on after [`Running::freeze`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        kill_process(self.pid_handle()?, Signal::CONT).with_context(|| format!("continuing {}", self.what))
    }

    /// Kills it (`kill -9`) and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn pid_handle(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.pid())?).context("a pid is positive")
    }

    fn rest_of_lines(&self) -> Vec<Line> {
        let mut state = self.lines.lock();
        let deadline = Instant::now() + OUTPUT_LIMIT;
        while !state.ended && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state = self.lines.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lines.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Event {
    /// Is this the event called `name`?
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.json.get("event").and_then(Value::as_str) == Some(name)
    }

    /// A text field.
    ///
    /// # Errors
    /// When there is no such field, or it is no text.
    pub fn text(&self, field: &str) -> Result<&str> {
        self.json.get(field).and_then(Value::as_str).with_context(|| format!("no text {field} in {}", self.json))
    }
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stdout: ChildStdout) {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(length) if length > 0) {
            let at = Instant::now();
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
            bytes.clear();
            let mut state = self.lock();
            if state.lines.len() >= LINES_MAX {
                break;
            }
            state.lines.push(Line { at, text });
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// How a program ended, in a word: its exit code or the signal.
#[must_use]
pub fn ending(status: ExitStatus) -> String {
    status.code().map_or_else(
        || format!("signal {}", status.signal().map_or_else(|| "?".to_owned(), |signal| signal.to_string())),
        |code| code.to_string(),
    )
}

fn as_event(line: &Line) -> Option<Event> {
    let json: Value = serde_json::from_str(&line.text).ok()?;
    json.is_object().then_some(Event { at: line.at, json })
}

fn quote(text: &str) -> String {
    let start = text.len().saturating_sub(QUOTE_BYTES);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].trim().to_owned()
}
