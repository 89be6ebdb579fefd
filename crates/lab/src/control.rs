//! The control socket of a device, as a script uses it: requests one after the other over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::device::Device;

/// What an answer may take beyond the wait that the request itself names.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Longest answer to a request that is made here.
const ANSWER_MAX: usize = 64 << 10;

/// A client of the control socket of one device.
pub struct Control {
    socket: PathBuf,
    open: Option<BufReader<UnixStream>>,
}

/// The answer to a ping.
#[derive(Clone, Debug, Deserialize)]
pub struct Pong {
    /// How long it took over the link, in milliseconds.
    pub rtt_ms: f64,
    /// Which way it took: `lan`, `direct` or `relay`.
    pub path: String,
    /// Where the other device was.
    pub address: String,
}

impl Control {
    /// A client of this device; it connects when it is used.
    #[must_use]
    pub fn of(device: &Device) -> Control {
        Control { socket: device.dir().join("control.sock"), open: None }
    }

    /// Pings a paired device, and looks for it for at most `wait`. The inner error is the cause that is told when it does
    /// not answer.
    ///
    /// # Errors
    /// When the request is not answered, or not exactly once.
    pub fn ping(&mut self, device: &str, wait: Duration) -> Result<Result<Pong, String>> {
        let body = json!({ "wait_ms": u64::try_from(wait.as_millis())? }).to_string();
        let (is_good, answer) = self.post(&format!("/v1/devices/{device}/ping"), &body, wait + ANSWER_LIMIT)?;
        if is_good {
            return Ok(Ok(serde_json::from_value(answer)?));
        }
        let cause = answer["cause"].as_str().with_context(|| format!("no cause in {answer}"))?;
        Ok(Err(cause.to_owned()))
    }

    /// A request, and whether it succeeded. After an error the next one connects anew.
    fn post(&mut self, path: &str, body: &str, limit: Duration) -> Result<(bool, Value)> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => BufReader::new(UnixStream::connect(&self.socket).context("connecting to the control socket")?),
        };
        stream.get_ref().set_read_timeout(Some(limit))?;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.get_mut().write_all((head + body).as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line).context("waiting for an answer")?;
        let status = line.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
        let status = status.with_context(|| format!("no HTTP answer: {line:?}"))?;
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            ensure!(stream.read_line(&mut line)? > 0, "the head of an answer does not end");
            if let Some((name, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().with_context(|| format!("{name}: {value}"))?;
            }
        }
        ensure!(length <= ANSWER_MAX, "an answer of {length} bytes");
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        ensure!(stream.buffer().is_empty(), "{path} was answered more than once");
        self.open = Some(stream);
        let text = String::from_utf8_lossy(&answer).into_owned();
        Ok((status == 200, serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?))
    }
}
