//! The same commands at a terminal, which `script` (bsdutils, a part of every Debian) plays, with a person who types.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use rustix::process::Signal;

use crate::support::{Home, LIMIT, LISTEN, network};

/// Pieces of output that may wait for the test.
const PIECES: usize = 10_000;

/// A right code that nobody shows.
const NOBODYS: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

/// A command at a terminal.
struct Dialogue {
    child: Child,
    keys: ChildStdin,
    pieces: Receiver<String>,
    /// Everything shown since the last look.
    shown: String,
}

impl Dialogue {
    fn start(home: &Home, instance: &str, args: &[&str]) -> Dialogue {
        let program = env!("CARGO_BIN_EXE_handfast");
        let line = format!(
            "stty columns 80 rows 24; exec {program} --home {} --instance {instance} {}",
            home.path().display(),
            args.join(" ")
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        command.env_clear().env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("script starts");
        let keys = child.stdin.take().expect("a pipe");
        let mut screen = child.stdout.take().expect("a pipe");
        let (send, pieces) = sync_channel(PIECES);
        std::thread::spawn(move || {
            let mut whole = Vec::new();
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                whole.extend_from_slice(&bytes[..count]);
                // A character may come in two pieces.
                let valid = match std::str::from_utf8(&whole) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text = String::from_utf8_lossy(&whole.drain(..valid).collect::<Vec<_>>()).into_owned();
                if send.send(text).is_err() {
                    return;
                }
            }
        });
        Dialogue { child, keys, pieces, shown: String::new() }
    }

    /// Waits until `text` is shown, and gives everything up to it.
    fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            // A limit to the whole wait: the time that is left is drawn each second.
            let piece = self.pieces.recv_timeout(end.saturating_duration_since(Instant::now()));
            self.shown.push_str(&piece.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.shown)));
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("it reads");
    }

    /// Waits for its end; the exit code, and what was shown last.
    fn end(mut self) -> (Option<i32>, String) {
        while let Ok(piece) = self.pieces.recv_timeout(LIMIT) {
            self.shown.push_str(&piece);
        }
        let status = self.child.wait().expect("its end");
        (status.code(), std::mem::take(&mut self.shown))
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is read on a screen: the text without its colours and movements, each of which ends with a letter.
fn plain(screen: &str) -> String {
    let mut parts = screen.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |p| p.1))
}

/// The numbered words of a screen, in order.
fn words_of(screen: &str) -> String {
    let screen = plain(screen);
    let (_, below) = screen.split_once("Read these words").unwrap_or_else(|| panic!("no words in {screen}"));
    let tokens: Vec<&str> = below.split_whitespace().collect();
    let word = |number: usize| {
        let is_it = |pair: &&[&str]| pair[0] == number.to_string() && pair[1].bytes().all(|b| b.is_ascii_lowercase());
        tokens.windows(2).find(is_it).unwrap_or_else(|| panic!("no word {number} in {screen}"))[1]
    };
    (1..=12).map(word).collect::<Vec<_>>().join(" ")
}

/// Shows a code at a terminal; gives what was shown, and the words.
fn shown_code(home: &Home, node: &str) -> (Dialogue, String, String) {
    let mut shows = Dialogue::start(home, "alice", &[&["pair", "generate"], network(node).as_slice()].concat());
    let screen = shows.until("The code can be found");
    let words = words_of(&screen);
    (shows, screen, words)
}

#[test]
fn c8_a_person_sees_the_words_and_is_asked_and_only_yes_is_yes() {
    let home = Home::new();
    let (_node, address) = home.node();
    for (keys, exit, last) in
        [("y\r", 0, "Paired with "), ("\r", 6, "the pairing was declined"), ("\u{4}", 6, "declined")]
    {
        let (mut shows, screen, words) = shown_code(&home, &address);
        assert!(screen.contains('▀'), "{screen}");
        // Typed before the question, it is no answer to it.
        shows.type_keys("y\r");
        let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
        let joins = home.start_with("bob", &args, &words);
        let question = shows.until("? [y/N] ");
        for part in ["computer", "fingerprint", "Allow "] {
            assert!(question.contains(part), "{part} in {question}");
        }
        // Neither is a slip of the finger.
        shows.type_keys("yn\r");
        shows.until("Allow it? [y/N] ");
        shows.type_keys(keys);
        let (code, rest) = shows.end();
        assert_eq!(code, Some(exit), "{keys:?}: {rest}");
        assert!(rest.contains(last), "{last} in {rest}");
        assert_eq!(joins.end().exit(), Some(exit));
    }
}

#[test]
fn a_question_ends_when_it_is_answered_elsewhere_and_ctrl_c_withdraws() {
    let home = Home::new();
    let (_node, address) = home.node();
    let join = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
    let (mut shows, _, words) = shown_code(&home, &address);
    let joins = home.start_with("bob", &join, &words);
    shows.until("? [y/N] ");
    assert_eq!(home.run("alice", &["pair", "accept"]).exit(), Some(0));
    assert_eq!(shows.end().0, Some(0));
    assert_eq!(joins.end().exit(), Some(0));

    let (mut shows, _, words) = shown_code(&home, &address);
    let joins = home.start_with("bob", &join, &words);
    shows.until("? [y/N] ");
    shows.type_keys("\u{3}");
    assert_eq!(shows.end().0, Some(130));
    assert_eq!(joins.end().exit(), Some(6));
}

#[test]
fn c9_the_prompt_completes_and_marks_and_takes_only_a_right_code() {
    let home = Home::new();
    let mut joins = Dialogue::start(&home, "bob", &[&["pair", "join"], LISTEN.as_slice()].concat());
    let asked = joins.until("Words: ");
    assert!(asked.contains("four letters of a\r\nword are enough."), "broken between words: {asked:?}");
    joins.type_keys("legal winn\t");
    joins.until("winner ");
    joins.type_keys("thnk ");
    joins.until("\u{1b}[4;31mthnk");
    joins.until("word 3 is none");
    joins.type_keys("\r");
    joins.until("has 3");
    // Backspace over the wrong one.
    joins.type_keys(&"\u{7f}".repeat(5));
    let rest: Vec<&str> = NOBODYS.split(' ').skip(2).collect();
    joins.type_keys(&format!("{}\r", rest.join(" ")));
    joins.until("Looking for the other device.");
    let (code, last) = joins.end();
    assert_eq!(code, Some(4), "{last}");

    let mut gives_up = Dialogue::start(&home, "bob", &["pair", "join"]);
    gives_up.until("Words: ");
    gives_up.type_keys("legal \u{3}");
    assert_eq!(gives_up.end().0, Some(130));
}

#[test]
fn who_has_entered_a_code_sees_for_how_long_it_is_looked_for() {
    let home = Home::new();
    let (_node, address) = home.node();
    let mut joins = Dialogue::start(&home, "bob", &[&["pair", "join"], network(&address).as_slice()].concat());
    joins.until("Words: ");
    joins.type_keys(&format!("{NOBODYS}\r"));
    joins.until("Not connected yet: 0:02 so far");
    joins.type_keys("\u{3}");
    assert_eq!(joins.end().0, Some(130));
}

/// Also with a store whose key is lost, and a configuration that cannot be understood.
#[test]
fn nobody_is_asked_for_words_that_could_not_be_used() {
    let home = Home::new();
    let dir = home.instance("bob");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).expect("made");
    let refused = |why: &str, exit: i32| {
        let mut joins = Dialogue::start(&home, "bob", &["pair", "join"]);
        let shown = joins.until(why);
        assert!(!shown.contains("Words: "), "{shown}");
        assert_eq!(joins.end().0, Some(exit), "{shown}");
    };
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    set(&dir, 0o755);
    // One word, which is not broken.
    refused("chmod", 11);
    set(&dir, 0o700);
    let (config, store) = (dir.join("config.toml"), dir.join("store.redb"));
    std::fs::write(&config, "nmae = 1\n").expect("written");
    refused("nmae", 2);
    std::fs::remove_file(&config).expect("removed");
    std::fs::write(&store, "a store of another device").expect("written");
    set(&store, 0o600);
    refused("store.key", 11);
}

#[test]
fn a_device_that_is_connected_and_slow_is_not_looked_for() {
    let home = Home::new();
    let (_node, address) = home.node();
    let [_alice, bob] = home.paired(&address);
    assert_eq!(home.ask("alice", &["ping", "bob", "--count", "1"])["event"], "pong");
    bob.signal(Signal::STOP);
    let mut pings = Dialogue::start(&home, "alice", &["ping", "bob", "--count", "1"]);
    let said = pings.until("waiting for an answer of bob.");
    assert!(!said.contains("Looking for"), "{said}");
}
