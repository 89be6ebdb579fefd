//! Answers typed at the terminal. A thread of its own waits for them, since a read cannot be called off: when the
//! session ends without an answer, the process ends and takes the thread along.

use std::io::BufRead as _;
use std::sync::mpsc;

use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc as to_async;
use zeroize::Zeroizing;

/// Longest answer that is looked at; a QR text has 120 characters.
const ANSWER_MAX: u64 = 256;

/// Reads one line each time it is asked to.
pub(crate) struct Answers {
    ask: mpsc::SyncSender<()>,
    typed: to_async::Receiver<Zeroizing<String>>,
    waiting: bool,
}

impl Answers {
    /// Starts the thread; it reads nothing before it is asked to.
    pub(crate) fn start() -> Answers {
        let (ask, asked) = mpsc::sync_channel(1);
        let (send, typed) = to_async::channel(1);
        std::thread::spawn(move || {
            while asked.recv().is_ok() {
                // It may be a code: it is not left behind where it would have grown out of.
                let mut line = Zeroizing::new(String::with_capacity(ANSWER_MAX as usize));
                let read = std::io::Read::take(std::io::stdin().lock(), ANSWER_MAX).read_line(&mut line);
                // The end of the input is an empty answer.
                if read.is_err() || send.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Answers { ask, typed, waiting: false }
    }

    /// Begins to wait for an answer. What was typed before the question was shown is no answer to it.
    pub(crate) fn ask(&mut self) {
        // A terminal that cannot forget is no reason not to ask.
        let _ = tcflush(rustix::stdio::stdin(), QueueSelector::IFlush);
        while self.typed.try_recv().is_ok() {
            self.waiting = false;
        }
        if !self.waiting {
            self.waiting = self.ask.try_send(()).is_ok();
        }
    }

    /// What was typed after the last question.
    pub(crate) async fn next_line(&mut self) -> Zeroizing<String> {
        let line = self.typed.recv().await;
        self.waiting = false;
        match line {
            Some(line) => line,
            // The thread is gone: nobody will ever answer.
            None => std::future::pending().await,
        }
    }
}

/// What a line says to a question. A slip of the finger is neither a yes nor a no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A clear yes.
    Yes,
    /// A clear no.
    No,
    /// Enter alone.
    Nothing,
    /// The end of the input: nobody is there who could answer.
    Over,
    /// Something else.
    Unclear,
}

impl Said {
    /// Reads a line, which has its line end unless the input is over.
    pub(crate) fn of(line: &str) -> Said {
        match line {
            "" => Said::Over,
            _ if is_yes(line) => Said::Yes,
            _ if is_no(line) => Said::No,
            _ if line.trim().is_empty() => Said::Nothing,
            _ => Said::Unclear,
        }
    }
}

/// What is shown where Enter means no.
pub(crate) const NO_BY_DEFAULT: &str = "[y/N]";

/// What is shown where only a clear answer counts.
pub(crate) const NO_DEFAULT: &str = "[y/n]";

/// What is said after an answer that is none.
pub(crate) const ANSWER_CLEARLY: &str = "Type y for yes or n for no.";

/// Whether this is a clear yes.
fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Whether this is a clear no, where nothing but that may count as one.
fn is_no(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "n" | "no")
}

#[cfg(test)]
mod tests {
    use super::{Said, is_no, is_yes};

    #[test]
    fn a_slip_of_the_finger_is_no_answer() {
        for (line, said) in [
            ("", Said::Over),
            ("\r\n", Said::Nothing),
            ("Y\n", Said::Yes),
            ("no\n", Said::No),
            ("hmm\n", Said::Unclear),
            ("yn\n", Said::Unclear),
        ] {
            assert_eq!(Said::of(line), said, "{line:?}");
        }
    }

    #[test]
    fn only_a_clear_no_is_a_no() {
        assert!(["n", "No\r\n", " no "].into_iter().all(is_no));
        assert!(!["", "\n", "1", "nn", "y", "not"].into_iter().any(is_no));
    }

    #[test]
    fn c8_only_a_clear_yes_is_a_yes() {
        for yes in ["y", "Y\n", " yes\r\n", "YES"] {
            assert!(is_yes(yes), "{yes}");
        }
        for no in ["", "\n", "n", "no", "yy", "yes!", "ye", "1", "ok"] {
            assert!(!is_yes(no), "{no}");
        }
    }
}
