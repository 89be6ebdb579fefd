//! The streams that are open, and the limits on those of strangers (protocol, section 12).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::id::{ConnId, JobId, StreamId};
use handfast_proto::wire::frames::Frame;
use libp2p::swarm::Stream;
use tokio::sync::mpsc;

use super::stream_io::{self, FromStream, ToStream, WRITE_QUEUE};
use super::streams::Permit;
use crate::api::Subscriber;

/// Inbound streams on which no whole frame has come yet: in all, and of one IP address or /56.
const MAX_SILENT: usize = 32;
const MAX_SILENT_PER_SUBSCRIBER: usize = 4;

struct Open {
    conn: ConnId,
    /// Gone once the owner has closed the stream.
    commands: Option<mpsc::Sender<ToStream>>,
    /// Whose silent stream this is, until its first frame.
    silent: Option<Subscriber>,
    /// Whether it was closed from here and is still leaving.
    leaving: bool,
    _permit: Option<Permit>,
}

/// The streams.
pub(crate) struct OpenStreams {
    next: u64,
    open: BTreeMap<StreamId, Open>,
    asked: BTreeMap<JobId, ConnId>,
    events: mpsc::Sender<FromStream>,
}

impl OpenStreams {
    pub(crate) fn new(events: mpsc::Sender<FromStream>) -> OpenStreams {
        OpenStreams { next: 0, open: BTreeMap::new(), asked: BTreeMap::new(), events }
    }

    /// A stream was asked for.
    pub(crate) fn asked(&mut self, job: JobId, conn: ConnId) {
        self.asked.insert(job, conn);
    }

    /// The connection of a stream that was asked for, once.
    pub(crate) fn answered(&mut self, job: JobId) -> Option<ConnId> {
        self.asked.remove(&job)
    }

    /// Starts the task of a stream we opened.
    pub(crate) fn outbound(&mut self, conn: ConnId, stream: Stream) -> StreamId {
        self.start(conn, stream, None, None, None)
    }

    /// Starts the task of a stream a peer opened; `None` when it has too many silent ones.
    pub(crate) fn inbound(
        &mut self,
        conn: ConnId,
        ip: IpAddr,
        stream: Stream,
        permit: Permit,
        first_frame: Duration,
    ) -> Option<StreamId> {
        let subscriber = Subscriber::of(ip.to_canonical());
        let silent = self.open.values().filter_map(|open| open.silent);
        let (all, same) = silent.fold((0, 0), |(all, same), other| (all + 1, same + usize::from(other == subscriber)));
        if all >= MAX_SILENT || same >= MAX_SILENT_PER_SUBSCRIBER {
            return None;
        }
        Some(self.start(conn, stream, Some(subscriber), Some(permit), Some(first_frame)))
    }

    fn start(
        &mut self,
        conn: ConnId,
        stream: Stream,
        silent: Option<Subscriber>,
        permit: Option<Permit>,
        first_frame: Option<Duration>,
    ) -> StreamId {
        self.next += 1;
        let id = StreamId(self.next);
        let (commands, receiver) = mpsc::channel(WRITE_QUEUE);
        tokio::spawn(stream_io::run(id, stream, receiver, self.events.clone(), first_frame));
        self.open.insert(id, Open { conn, commands: Some(commands), silent, leaving: false, _permit: permit });
        id
    }

    /// Hands frames to a stream. `None` if it is not open, `Some(false)` if its queue is full: then it is dropped.
    pub(crate) fn send(&mut self, id: StreamId, frames: &[Frame]) -> Option<bool> {
        let open = self.open.get_mut(&id).filter(|open| !open.leaving)?;
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let sent = open.commands.as_ref().is_some_and(|commands| commands.try_send(ToStream::Write(bytes)).is_ok());
        if !sent {
            self.open.remove(&id);
        }
        Some(sent)
    }

    /// Closes a stream after what was sent.
    pub(crate) fn close(&mut self, id: StreamId) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let told = open.commands.take().is_some_and(|commands| commands.try_send(ToStream::Close).is_ok());
        open.leaving = true;
        open.silent = None;
        if !told {
            self.open.remove(&id);
        }
    }

    /// Drops a stream.
    pub(crate) fn reset(&mut self, id: StreamId) {
        self.open.remove(&id);
    }

    /// Whether a stream is open and its owner wants to hear of it.
    pub(crate) fn is_heard(&self, id: StreamId) -> bool {
        self.open.get(&id).is_some_and(|open| !open.leaving)
    }

    /// A whole frame came: the stream is no longer silent.
    pub(crate) fn spoke(&mut self, id: StreamId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.silent = None;
        }
    }

    /// The task of a stream has ended; gives its connection.
    pub(crate) fn ended(&mut self, id: StreamId) -> Option<ConnId> {
        self.open.remove(&id).map(|open| open.conn)
    }

    /// Whether streams are still leaving on a connection.
    pub(crate) fn any_leaving(&self, conn: ConnId) -> bool {
        self.open.values().any(|open| open.conn == conn && open.leaving)
    }

    /// Whether streams are still leaving anywhere.
    pub(crate) fn any_leaving_at_all(&self) -> bool {
        self.open.values().any(|open| open.leaving)
    }

    /// Whether streams of a connection are still open: their tasks hand over what came before the end.
    pub(crate) fn any_on(&self, conn: ConnId) -> bool {
        self.open.values().any(|open| open.conn == conn)
    }

    /// A connection is gone: forgets the requests for streams on it and gives them.
    pub(crate) fn unanswerable(&mut self, conn: ConnId) -> Vec<JobId> {
        let jobs: BTreeSet<JobId> = self.asked.iter().filter(|(_, of)| **of == conn).map(|(job, _)| *job).collect();
        self.asked.retain(|job, _| !jobs.contains(job));
        jobs.into_iter().collect()
    }

    /// Drops every stream that is not leaving.
    pub(crate) fn reset_all(&mut self) {
        self.open.retain(|_, open| open.leaving);
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}
