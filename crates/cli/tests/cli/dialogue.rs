//! The same commands at a terminal, which `script` (bsdutils, a part of every Debian) plays, with a person who types.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

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
    joins.until("Words: ");
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
