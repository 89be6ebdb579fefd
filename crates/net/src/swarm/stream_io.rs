//! The task of one open stream: frames in, frames out, both bounded, so that a peer that floods or does not read costs
//! a fixed amount of memory.

use std::task::Poll;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use handfast_proto::id::StreamId;
use handfast_proto::wire::frames::{Frame, MAX_FRAME_LEN};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::api::StreamEnd;

/// Writes that wait for a peer that does not read; the handshake never has more than two under way.
pub(crate) const WRITE_QUEUE: usize = 16;

/// Time for one write to find room: a peer that reads nothing for so long is not there.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the last bytes of a stream to arrive once it is being closed: a few round trips of a bad path.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a stream that a peer opened may be silent before it counts as silent. The first frame mostly travels with
/// the request, so an honest peer is never counted, also when many of one address come at once.
const GRACE: Duration = Duration::from_millis(500);

/// Time to tell the peer that a stream is given up; if it cannot be told at once, it need not be.
const GIVE_UP_TIMEOUT: Duration = Duration::from_millis(100);

/// Frames a peer may send in a burst, and each second after: pings many times a second pass, floods do not.
const FRAME_BURST: u32 = 256;
const FRAMES_PER_SECOND: u32 = 64;

/// What the driver tells the task, in order with what is written.
pub(crate) enum ToStream {
    /// Frames as bytes, for one write.
    Write(Vec<u8>),
    /// Close after what was written.
    Close,
}

/// What the driver tells the task out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody wants the stream any more.
    Drop,
    /// The connection is gone: hand over what had come, then end. A yamux stream does not notice that by itself when
    /// the connection was closed from here.
    Gone,
}

/// What the task tells the driver.
pub(crate) struct FromStream {
    pub(crate) stream: StreamId,
    pub(crate) what: What,
}

/// What happened on a stream.
pub(crate) enum What {
    Frame(Frame),
    /// No whole frame has come within [`GRACE`].
    Silent,
    /// The last message of a stream that nobody here closed.
    Ended(StreamEnd),
    /// The last message of a stream that was closed or dropped from here.
    Left,
}

/// What a stream is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Whether yamux carries it, over TCP or a relay: there a broken connection looks like the end of input.
    pub(crate) over_yamux: bool,
    /// The time in which the first whole frame must come, if it must.
    pub(crate) first_frame: Option<Duration>,
}

/// The task's ends of the channels.
pub(crate) struct Channels {
    pub(crate) commands: mpsc::Receiver<ToStream>,
    pub(crate) stop: oneshot::Receiver<Stop>,
    pub(crate) events: mpsc::Sender<FromStream>,
}

/// Runs a stream until it ends.
pub(crate) async fn run<S>(id: StreamId, stream: S, kind: Kind, channels: Channels)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let events = channels.events.clone();
    let now = Instant::now();
    let mut task = Task {
        id,
        stream,
        channels,
        inbox: Inbox::new(),
        budget: Budget::new(),
        grace: kind.first_frame.map(|_| now + GRACE),
        first_frame: kind.first_frame.map(|limit| now + limit),
        over_yamux: kind.over_yamux,
        gone: false,
    };
    let outcome = task.serve().await;
    // A stream that is given up is closed too: over QUIC libp2p can say nothing else, so over TCP the peer should not
    // see anything else. One that failed must not be touched again: the negotiation in it panics then.
    let what = match outcome {
        Outcome::Failed => What::Ended(StreamEnd::Lost),
        Outcome::Ended(end) => {
            task.give_up().await;
            What::Ended(end)
        }
        Outcome::Dropped => {
            task.give_up().await;
            What::Left
        }
        Outcome::Close => {
            task.leave().await;
            What::Left
        }
    };
    // The stream first: who hears of its end may count on it being gone.
    drop(task);
    // An error means that the driver is gone, and nobody is left to tell.
    let _ = events.send(FromStream { stream: id, what }).await;
}

enum Outcome {
    /// The stream broke.
    Failed,
    /// The stream ended, or the peer broke the rules.
    Ended(StreamEnd),
    Dropped,
    Close,
}

struct Task<S> {
    id: StreamId,
    stream: S,
    channels: Channels,
    inbox: Inbox,
    budget: Budget,
    grace: Option<Instant>,
    first_frame: Option<Instant>,
    over_yamux: bool,
    gone: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    async fn serve(&mut self) -> Outcome {
        loop {
            let next = match self.inbox.next() {
                Err(NotAFrame) => return Outcome::Ended(StreamEnd::Garbage),
                Ok(next) => next,
            };
            let step = match next {
                Some(_) if !self.budget.spend() => return Outcome::Ended(StreamEnd::Garbage),
                Some(frame) => {
                    (self.first_frame, self.grace) = (None, None);
                    self.hand_over(frame).await
                }
                None if self.gone => self.read_rest().await,
                None => self.read_or_obey().await,
            };
            if let Err(outcome) = step {
                return outcome;
            }
        }
    }

    /// Hands a frame over. While it waits for room nothing is read: the peer feels it.
    async fn hand_over(&mut self, frame: Frame) -> Result<(), Outcome> {
        let events = self.channels.events.clone();
        loop {
            tokio::select! {
                permit = events.reserve() => {
                    let permit = permit.map_err(|_| Outcome::Dropped)?;
                    permit.send(FromStream { stream: self.id, what: What::Frame(frame) });
                    return Ok(());
                }
                command = self.channels.commands.recv(), if !self.gone => self.obey(command).await?,
                stop = &mut self.channels.stop, if !self.gone => self.stop(stop)?,
            }
        }
    }

    async fn read_or_obey(&mut self) -> Result<(), Outcome> {
        let (grace, first_frame) = (self.grace, self.first_frame);
        tokio::select! {
            read = self.stream.read(self.inbox.room()) => match read {
                Ok(0) => Err(self.end_of_input().await),
                Ok(n) => {
                    self.inbox.filled(n);
                    Ok(())
                }
                Err(_) => Err(Outcome::Failed),
            },
            command = self.channels.commands.recv() => self.obey(command).await,
            stop = &mut self.channels.stop => self.stop(stop),
            () = sleep_until(grace), if grace.is_some() => {
                self.grace = None;
                let silent = FromStream { stream: self.id, what: What::Silent };
                self.channels.events.send(silent).await.map_err(|_| Outcome::Dropped)
            }
            () = sleep_until(first_frame), if first_frame.is_some() => Err(Outcome::Ended(StreamEnd::Garbage)),
        }
    }

    /// Reads what had come before the connection went.
    async fn read_rest(&mut self) -> Result<(), Outcome> {
        match futures::poll!(self.stream.read(self.inbox.room())) {
            Poll::Ready(Ok(0)) => Err(self.end_of_input().await),
            Poll::Ready(Ok(n)) => {
                self.inbox.filled(n);
                Ok(())
            }
            Poll::Ready(Err(_)) | Poll::Pending => Err(Outcome::Failed),
        }
    }

    async fn obey(&mut self, command: Option<ToStream>) -> Result<(), Outcome> {
        match command {
            Some(ToStream::Write(bytes)) => self.write(&bytes).await,
            Some(ToStream::Close) => Err(Outcome::Close),
            None => Err(Outcome::Dropped),
        }
    }

    fn stop(&mut self, stop: Result<Stop, oneshot::error::RecvError>) -> Result<(), Outcome> {
        match stop {
            Ok(Stop::Gone) => {
                self.gone = true;
                Ok(())
            }
            Ok(Stop::Drop) | Err(_) => Err(Outcome::Dropped),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Outcome> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        tokio::select! {
            written = timeout(WRITE_TIMEOUT, write) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Outcome::Failed),
            },
            stop = &mut self.channels.stop => self.stop(stop),
        }
    }

    /// Tells a peer that closed from a connection that broke: over yamux both are the end of input, but only after a
    /// close the stream can still be written to.
    async fn end_of_input(&mut self) -> Outcome {
        if self.over_yamux && matches!(futures::poll!(self.stream.write(&[])), Poll::Ready(Err(_))) {
            return Outcome::Failed;
        }
        Outcome::Ended(if self.inbox.is_empty() { StreamEnd::Finished } else { StreamEnd::Garbage })
    }

    /// Closes the stream, if that can be said at once.
    async fn give_up(&mut self) {
        if !self.gone {
            // Whether the peer takes it in is all the same.
            let _ = timeout(GIVE_UP_TIMEOUT, self.stream.close()).await;
        }
    }

    /// Closes the stream and waits until everything has arrived, since the connection may be closed next and cut off
    /// what is under way. Neither transport tells when; but the peer answers the end with its own.
    async fn leave(&mut self) {
        let arrive = async {
            self.stream.close().await?;
            while self.stream.read(&mut self.inbox.bytes[..]).await? > 0 {}
            std::io::Result::Ok(())
        };
        let _ = timeout(LEAVE_TIMEOUT, arrive).await;
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
