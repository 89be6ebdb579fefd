//! How a stream gets its protocol: both sides greet, one proposes, the other repeats it or says no.

use std::io::{self, Error, ErrorKind};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::frames::{frame, read_frame};

const GREETING: &str = "/multistream/1.0.0";
const NO: &str = "na";

/// The longest line: names of protocols are far shorter.
const LINE_MAX: usize = 1_024;

/// Proposes a protocol on a stream that we opened.
///
/// # Errors
/// When the other side does not speak it, or is gone.
pub(crate) async fn propose(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), protocol: &str) -> io::Result<()> {
    say(stream, &[GREETING, protocol]).await?;
    for expected in [GREETING, protocol] {
        let heard = hear(stream).await?;
        if heard != expected {
            return Err(Error::new(ErrorKind::Unsupported, format!("{heard} where {expected} was proposed")));
        }
    }
    Ok(())
}

/// Agrees on a stream that the other side opened to what it proposes, if it is one of these.
///
/// # Errors
/// When it is none of them, or the other side is gone.
pub(crate) async fn agree(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    protocols: &[&'static str],
) -> io::Result<&'static str> {
    hear(stream).await?;
    say(stream, &[GREETING]).await?;
    let proposed = hear(stream).await?;
    let agreed = protocols.iter().find(|protocol| **protocol == proposed).copied();
    say(stream, &[agreed.unwrap_or(NO)]).await?;
    agreed.ok_or_else(|| Error::new(ErrorKind::Unsupported, proposed))
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), lines: &[&str]) -> io::Result<()> {
    let bytes: Vec<u8> = lines.iter().flat_map(|line| frame(format!("{line}\n").as_bytes())).collect();
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let line = read_frame(stream, LINE_MAX).await?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
}
