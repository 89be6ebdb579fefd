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

    /// The answer to the last question: yes only if it says so.
    pub(crate) async fn next(&mut self) -> bool {
        is_yes(&self.next_line().await)
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

/// Whether this is a clear yes.
pub(crate) fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Whether this is a clear no, where nothing but that may count as one.
pub(crate) fn is_no(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "n" | "no")
}

#[cfg(test)]
mod tests {
    use super::{is_no, is_yes};

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
