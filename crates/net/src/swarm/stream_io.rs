//! The task of one open stream: frames in, frames out, both bounded, so that a peer that floods or does not read costs
//! a fixed amount of memory.

use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use handfast_proto::id::StreamId;
use handfast_proto::wire::frames::{Frame, MAX_FRAME_LEN};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::api::StreamEnd;

/// Writes that wait for a peer that does not read; the handshake never has more than two under way.
pub(crate) const WRITE_QUEUE: usize = 16;

/// Time for one write to find room, and for the close of a stream to be acknowledged: a peer that is silent for so long
/// is not there.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Frames a peer may send in a burst, and each second after: pings many times a second pass, floods do not.
const FRAME_BURST: u32 = 256;
const FRAMES_PER_SECOND: u32 = 64;

/// What the driver tells the task. A closed channel means: drop the stream at once.
pub(crate) enum ToStream {
    /// Frames as bytes, for one write.
    Write(Vec<u8>),
    /// Close after what was written.
    Close,
}

/// What the task tells the driver.
pub(crate) struct FromStream {
    pub(crate) stream: StreamId,
    pub(crate) what: What,
}

/// What happened on a stream.
pub(crate) enum What {
    Frame(Frame),
    /// The last message of a stream that nobody here closed.
    Ended(StreamEnd),
    /// The last message of a stream that was closed from here.
    Closed,
}

/// Runs a stream until it ends. `first_frame` is the time in which the first whole frame must come, if it must.
pub(crate) async fn run<S>(
    id: StreamId,
    stream: S,
    commands: mpsc::Receiver<ToStream>,
    events: mpsc::Sender<FromStream>,
    first_frame: Option<Duration>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut task = Task {
        stream,
        commands,
        inbox: Inbox::new(),
        budget: Budget::new(),
        first_frame: first_frame.map(|limit| Instant::now() + limit),
    };
    let what = match task.serve(id, &events).await {
        Outcome::Dropped => return,
        Outcome::Close => {
            // Whether the peer took the end in is all the same: it is told nothing more.
            let _ = timeout(WRITE_TIMEOUT, task.stream.close()).await;
            What::Closed
        }
        Outcome::Ended(end) => What::Ended(end),
    };
    drop(task);
    // The driver is gone: nobody is left to tell.
    let _ = events.send(FromStream { stream: id, what }).await;
}

enum Outcome {
    Dropped,
    Close,
    Ended(StreamEnd),
}

struct Task<S> {
    stream: S,
    commands: mpsc::Receiver<ToStream>,
    inbox: Inbox,
    budget: Budget,
    first_frame: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    async fn serve(&mut self, id: StreamId, events: &mpsc::Sender<FromStream>) -> Outcome {
        let mut ready: Option<Frame> = None;
        loop {
            if ready.is_none() {
                match self.inbox.next() {
                    Err(NotAFrame) => return Outcome::Ended(StreamEnd::Garbage),
                    Ok(frame) => ready = frame,
                }
                if ready.is_some() {
                    self.first_frame = None;
                    if !self.budget.spend() {
                        return Outcome::Ended(StreamEnd::Garbage);
                    }
                }
            }
            let deadline = self.first_frame;
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => return Outcome::Dropped,
                    Some(ToStream::Close) => return Outcome::Close,
                    Some(ToStream::Write(bytes)) => {
                        if !self.write(&bytes).await {
                            return Outcome::Ended(StreamEnd::Lost);
                        }
                    }
                },
                // While a frame waits for room nothing is read: the peer feels it.
                permit = events.reserve(), if ready.is_some() => match (permit, ready.take()) {
                    (Ok(permit), Some(frame)) => permit.send(FromStream {
                        stream: id,
                        what: What::Frame(frame),
                    }),
                    (Ok(_), None) => {}
                    (Err(_), _) => return Outcome::Dropped,
                },
                read = self.stream.read(self.inbox.room()), if ready.is_none() => match read {
                    Ok(0) => return Outcome::Ended(self.end_of_input().await),
                    Ok(n) => self.inbox.filled(n),
                    Err(_) => return Outcome::Ended(StreamEnd::Lost),
                },
                () = sleep_until(deadline), if deadline.is_some() => {
                    return Outcome::Ended(StreamEnd::Garbage);
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        matches!(timeout(WRITE_TIMEOUT, write).await, Ok(Ok(())))
    }

    /// Tells a peer that closed from a connection that broke: yamux reports both as the end of input, but only after
    /// a close can we still write.
    async fn end_of_input(&mut self) -> StreamEnd {
        if !self.inbox.is_empty() {
            return StreamEnd::Lost;
        }
        match futures::poll!(self.stream.write(&[])) {
            std::task::Poll::Ready(Err(_)) => StreamEnd::Lost,
            std::task::Poll::Ready(Ok(_)) | std::task::Poll::Pending => StreamEnd::Finished,
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

/// Bytes read and not yet made into frames: room for the longest frame, no more.
struct Inbox {
    bytes: Box<[u8; 2 + MAX_FRAME_LEN]>,
    len: usize,
}

struct NotAFrame;

impl Inbox {
    fn new() -> Inbox {
        Inbox { bytes: Box::new([0; 2 + MAX_FRAME_LEN]), len: 0 }
    }

    /// Takes the first whole frame out.
    fn next(&mut self) -> Result<Option<Frame>, NotAFrame> {
        if self.len < 2 {
            return Ok(None);
        }
        let rest = Frame::rest_len([self.bytes[0], self.bytes[1]]).map_err(|_| NotAFrame)?;
        let whole = 2 + rest;
        if self.len < whole {
            return Ok(None);
        }
        let frame = Frame::from_rest(&self.bytes[2..whole]).map_err(|_| NotAFrame)?;
        self.bytes.copy_within(whole..self.len, 0);
        self.len -= whole;
        Ok(Some(frame))
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    fn filled(&mut self, n: usize) {
        self.len += n;
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A token bucket over the frames of one stream.
struct Budget {
    tokens: u32,
    filled: Instant,
}

impl Budget {
    fn new() -> Budget {
        Budget { tokens: FRAME_BURST, filled: Instant::now() }
    }

    fn spend(&mut self) -> bool {
        let whole_seconds = self.filled.elapsed().as_secs();
        if whole_seconds > 0 {
            let more = FRAMES_PER_SECOND.saturating_mul(whole_seconds.try_into().unwrap_or(u32::MAX));
            self.tokens = self.tokens.saturating_add(more).min(FRAME_BURST);
            self.filled += Duration::from_secs(whole_seconds);
        }
        self.tokens.checked_sub(1).inspect(|left| self.tokens = *left).is_some()
    }
}
