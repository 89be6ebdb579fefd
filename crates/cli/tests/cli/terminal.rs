//! The same commands at a terminal, which `script` (bsdutils, a part of every Debian) plays.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::support::{Home, LIMIT, NOBODYS, network};

/// Pieces of output that may wait for the test.
const PIECES: usize = 10_000;

/// A command at a terminal of 80 by 24.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    pieces: Receiver<String>,
    /// Everything shown since the last look.
    shown: String,
}

impl Terminal {
    fn start(home: &Home, instance: &str, args: &[&str]) -> Terminal {
        let program = env!("CARGO_BIN_EXE_handfast");
        let home_dir = home.path();
        let line = format!("{program} --home {} --instance {instance} {}", home_dir.display(), args.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
        command.env_clear().env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("script starts");
        let keys = child.stdin.take().expect("a pipe");
        let mut screen = child.stdout.take().expect("a pipe");
        let (send, pieces) = sync_channel(PIECES);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if send.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keys, pieces, shown: String::new() }
    }

    /// Waits until `text` is shown, and gives everything up to it.
    fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let piece = self.pieces.recv_timeout(LIMIT);
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

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbered words of a screen, in order.
fn words_of(screen: &str) -> String {
    let plain: String =
        screen.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, text)| text)).collect();
    let tokens: Vec<&str> = plain.split_whitespace().collect();
    let word = |number: usize| {
        let is_it = |pair: &&[&str]| pair[0] == number.to_string() && pair[1].bytes().all(|b| b.is_ascii_lowercase());
        tokens.windows(2).find(is_it).unwrap_or_else(|| panic!("no word {number} in {plain}"))[1]
    };
    (1..=12).map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn c8_a_person_sees_the_words_and_is_asked_and_only_yes_is_yes() {
    let home = Home::new();
    let (_node, address) = home.node();
    for (keys, exit, last) in
        [("y\r", 0, "Paired with "), ("\r", 6, "the pairing was declined"), ("\u{4}", 6, "declined")]
    {
        let args = [&["pair", "generate"], network(&address).as_slice()].concat();
        let mut shows = Terminal::start(&home, "alice", &args);
        let screen = shows.until("Waiting for the other device: ");
        assert!(screen.contains("▀▀▀▀▀") && screen.contains("Read these words"), "{screen}");
        let words = words_of(&screen);
        // Typed before the question, it is no answer to it.
        shows.type_keys("y\r");
        let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
        let joins = home.start_with("bob", &args, &words);
        let question = shows.until("? [y/N] ");
        for part in ["type         computer", "fingerprint  ", "path         lan", "Allow "] {
            assert!(question.contains(part), "{part} in {question}");
        }
        shows.type_keys(keys);
        let (code, rest) = shows.end();
        assert_eq!(code, Some(exit), "{keys:?}: {rest}");
        assert!(rest.contains(last), "{last} in {rest}");
        assert_eq!(joins.end().exit(), Some(exit));
    }
}

#[test]
fn the_question_ends_when_it_is_answered_elsewhere_and_ctrl_c_withdraws() {
    let home = Home::new();
    let (_node, address) = home.node();
    let args = [&["pair", "generate"], network(&address).as_slice()].concat();
    let mut shows = Terminal::start(&home, "alice", &args);
    let words = words_of(&shows.until("Waiting for the other device: "));
    let join = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
    let joins = home.start_with("bob", &join, &words);
    shows.until("? [y/N] ");
    assert_eq!(home.run("alice", &["pair", "accept"]).exit(), Some(0));
    assert_eq!(shows.end().0, Some(0));
    assert_eq!(joins.end().exit(), Some(0));

    let mut shows = Terminal::start(&home, "alice", &args);
    let words = words_of(&shows.until("Waiting for the other device: "));
    let joins = home.start_with("bob", &join, &words);
    shows.until("? [y/N] ");
    shows.type_keys("\u{3}");
    assert_eq!(shows.end().0, Some(130));
    assert_eq!(joins.end().exit(), Some(6));
}

#[test]
fn c9_the_prompt_completes_and_marks_and_takes_only_a_right_code() {
    let home = Home::new();
    let mut joins = Terminal::start(&home, "bob", &["pair", "join", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    joins.until("Words: ");
    joins.type_keys("legal winn\t");
    joins.until("winner ");
    joins.type_keys("thnk ");
    joins.until("\u{1b}[4;31mthnk");
    joins.until("word 3 is none: tank, thank");
    joins.type_keys("\r");
    joins.until("this text has 3");
    // Backspace over the wrong one.
    joins.type_keys(&"\u{7f}".repeat(5));
    let rest: Vec<&str> = NOBODYS.split(' ').skip(2).collect();
    joins.type_keys(&format!("{}\r", rest.join(" ")));
    joins.until("Looking for the other device.");
    let (code, last) = joins.end();
    assert_eq!(code, Some(4), "{last}");

    let mut gives_up = Terminal::start(&home, "bob", &["pair", "join"]);
    gives_up.until("Words: ");
    gives_up.type_keys("legal \u{3}");
    assert_eq!(gives_up.end().0, Some(130));
}
