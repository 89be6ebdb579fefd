//! Server-sent events, as far as the control API uses them: blocks of lines with `data:`, ended by an empty line.

/// Longest event: one event of a device has some hundred bytes.
const EVENT_MAX: usize = 64 * 1024;

/// Puts events together from the pieces in which they arrive.
#[derive(Default)]
pub(super) struct Parser {
    bytes: Vec<u8>,
}

/// More than [`EVENT_MAX`] bytes without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), TooLong> {
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() > EVENT_MAX && end_of_block(&self.bytes).is_none() { Err(TooLong) } else { Ok(()) }
    }

    /// The data of the next complete event; blocks without data (comments) are skipped.
    pub(super) fn next(&mut self) -> Option<String> {
        while let Some(end) = end_of_block(&self.bytes) {
            let block: Vec<u8> = self.bytes.drain(..end).collect();
            let text = String::from_utf8_lossy(&block);
            let data: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
        None
    }
}

fn end_of_block(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_cut() {
        let stream = ": hello\n\nid: 1\nevent: paired\ndata: {\"a\":1}\n\n:\n\ndata: x\ndata: y\n\n";
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                parser.push(piece.as_bytes()).expect("short");
                events.extend(std::iter::from_fn(|| parser.next()));
            }
            assert_eq!(events, ["{\"a\":1}", "x\ny"], "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_without_an_end_is_refused() {
        let mut parser = Parser::default();
        assert_eq!((0..100).try_for_each(|_| parser.push(&[b'x'; 1024])), Err(TooLong));
    }
}
