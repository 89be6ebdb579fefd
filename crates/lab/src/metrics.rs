//! Reads the Prometheus metrics of a node, from inside its namespace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::ns::Namespace;

/// How long the node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer read: a node has some dozens of metrics.
const ANSWER_MAX: u64 = 1 << 20;

/// The metrics at `address`, each line's name (with its labels) and value.
///
/// # Errors
/// When nobody answers there, or with something else.
pub fn read(namespace: &Namespace, address: SocketAddr) -> Result<Vec<(String, f64)>> {
    let text = namespace.enter(|| fetch(address))??;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"), "metrics answered: {head}");
    Ok(body.lines().filter_map(sample).collect())
}

fn fetch(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).context("connecting to the metrics")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A sample line of the text format; comments and the length lines of chunks give nothing.
fn sample(line: &str) -> Option<(String, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, value) = line.trim().rsplit_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn a_sample_has_a_name_with_labels_and_a_number() {
        assert_eq!(sample("records_bytes{kind=\"a b\"} 784"), Some(("records_bytes{kind=\"a b\"}".to_owned(), 784.0)));
        assert_eq!(sample("# HELP records 1"), None);
        assert_eq!(sample("1f4"), None);
    }
}
