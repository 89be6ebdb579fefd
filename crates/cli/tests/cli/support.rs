//! Homes, programs in them, and their lines.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Lines of one program that may wait for the test.
const LINES: usize = 10_000;

/// What a device of a test listens on.
pub(crate) const LISTEN: [&str; 4] = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"];

/// Twelve words nobody shows.
pub(crate) const NOBODYS: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

/// A folder of instances.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

/// A program that runs. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

/// What a program has left.
pub(crate) struct Ended {
    status: ExitStatus,
    /// The lines of stdout that were not taken before.
    pub(crate) lines: Vec<String>,
    /// All lines of stderr that were not taken before.
    pub(crate) errors: Vec<String>,
}

impl Home {
    pub(crate) fn new() -> Home {
        Home { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The folder of all instances.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The folder of an instance.
    pub(crate) fn instance(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Starts a command of an instance; stdin is empty.
    pub(crate) fn start(&self, instance: &str, args: &[&str]) -> Running {
        self.start_with(instance, args, "")
    }

    /// Starts a command that reads `stdin`.
    pub(crate) fn start_with(&self, instance: &str, args: &[&str], stdin: &str) -> Running {
        Running::spawn(self.command(instance, args), stdin)
    }

    /// A command that has not been started.
    pub(crate) fn command(&self, instance: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handfast"));
        command.env_clear().env("HOME", self.dir.path()).env("HANDFAST_HOME", self.path()).args(args);
        command.args(["--instance", instance]);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, instance: &str, args: &[&str]) -> Ended {
        self.start(instance, args).end()
    }

    /// Runs a command with `--json` that must succeed, and gives what it says.
    pub(crate) fn ask(&self, instance: &str, args: &[&str]) -> Value {
        let ended = self.run(instance, &[args, &["--json"]].concat());
        assert_eq!(ended.exit(), Some(0), "{args:?}: {:?} {:?}", ended.lines, ended.errors);
        json(ended.lines.first().expect("one line"))
    }

    /// Starts a node and gives its first address.
    pub(crate) fn node(&self) -> (Running, String) {
        let node = self.start("default", &[&["serve", "--json"], LISTEN.as_slice()].concat());
        let address = node.event("serving")["addresses"][0].as_str().expect("an address").to_owned();
        (node, address)
    }

    /// Starts the daemons of alice and bob, who are paired.
    pub(crate) fn paired(&self, node: &str) -> [Running; 2] {
        let daemons = ["alice", "bob"].map(|name| self.daemon(name, node));
        self.pair();
        daemons
    }

    /// Pairs alice, who shows the code, with bob; gives what both have said.
    pub(crate) fn pair(&self) -> [Ended; 2] {
        let shows = self.start("alice", &["pair", "generate", "--yes"]);
        let joins = self.start_with("bob", &["pair", "join", "-", "--yes"], &shows.line()).end();
        let both = [shows.end(), joins];
        assert!(both.iter().all(|ended| ended.exit() == Some(0)), "{:?} {:?}", both[0].errors, both[1].errors);
        both
    }

    /// Starts the daemon of an instance, named as the instance.
    pub(crate) fn daemon(&self, instance: &str, node: &str) -> Running {
        let args = [&["start", "--foreground", "--json", "--name", instance], network(node).as_slice()].concat();
        let daemon = self.start(instance, &args);
        daemon.event("started");
        daemon
    }
}

/// The options of a device that meets others at `node`.
pub(crate) fn network(node: &str) -> Vec<&str> {
    [LISTEN.as_slice(), &["--bootstrap", node]].concat()
}

pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

impl Running {
    pub(crate) fn spawn(mut command: Command, stdin: &str) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut to = child.stdin.take().expect("a pipe");
        // A program that does not read is judged by what it does instead.
        let _ = to.write_all(stdin.as_bytes());
        drop(to);
        let lines = lines_of(child.stdout.take().expect("a pipe"));
        let errors = lines_of(child.stderr.take().expect("a pipe"));
        Running { child, lines, errors }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of stdout.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("no line; stderr: {:?}", self.said()))
    }

    /// The next line of stderr.
    pub(crate) fn error_line(&self) -> String {
        self.errors.recv_timeout(LIMIT).expect("a line on stderr")
    }

    /// The next event of this name; others before it are passed over.
    pub(crate) fn event(&self, name: &str) -> Value {
        loop {
            let event = json(&self.line());
            if event["event"] == name {
                return event;
            }
            let over = event["event"] == "pairing_failed" || event["event"] == "error";
            assert!(!over, "{event} instead of {name}");
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let (mut lines, mut errors) = (Vec::new(), Vec::new());
        for (from, to) in [(&self.lines, &mut lines), (&self.errors, &mut errors)] {
            loop {
                match from.recv_timeout(LIMIT) {
                    Ok(line) => to.push(line),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; so far: {to:?}"),
                }
            }
        }
        let status = self.child.wait().expect("its end");
        Ended { status, lines, errors }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its end");
    }

    fn said(&self) -> Vec<String> {
        self.errors.try_iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    pub(crate) fn exit(&self) -> Option<i32> {
        self.status.code()
    }

    /// The last event on stdout.
    pub(crate) fn last(&self) -> Value {
        json(self.lines.last().unwrap_or_else(|| panic!("no line; stderr: {:?}", self.errors)))
    }
}

/// What lies in a folder.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn lines_of(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = sync_channel(LINES);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
