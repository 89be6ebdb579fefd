//! The streams that are open, and the limits on those of strangers (protocol, section 12).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::addr::{Subscriber, Transport};
use handfast_proto::id::{ConnId, JobId, StreamId};
use handfast_proto::wire::frames::Frame;
use libp2p::swarm::Stream;
use tokio::sync::{mpsc, oneshot};

use super::conns::Conn;
use super::stream_io::{self, Channels, FromStream, Kind, Stop, ToStream, WRITE_QUEUE};
use super::streams::Permit;
use crate::api::StreamProtocol;

/// Inbound streams on which no whole frame has come yet: in all, and of one IP address or /56.
const MAX_SILENT: usize = 32;
const MAX_SILENT_PER_SUBSCRIBER: usize = 4;

struct Open {
    conn: ConnId,
    /// Gone once the stream is closed or dropped from here.
    commands: Option<mpsc::Sender<ToStream>>,
    stop: Option<oneshot::Sender<Stop>>,
    voice: Voice,
    /// Whether it was closed from here and is still leaving.
    leaving: bool,
    /// Counts the stream at its connection, if a peer opened it.
    _permit: Option<Permit>,
}

/// What a stream has said.
enum Voice {
    /// Nothing yet; a peer opened it for this protocol.
    New(StreamProtocol),
    /// Nothing for longer than an honest peer takes: it counts for its subscriber.
    Silent(StreamProtocol, Subscriber),
    /// A frame, or we opened it.
    Heard,
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
    pub(crate) fn outbound(&mut self, conn: &Conn, stream: Stream) -> StreamId {
        self.start(conn, stream, Voice::Heard, None, None)
    }

    /// Starts the task of a stream a peer opened.
    pub(crate) fn inbound(
        &mut self,
        conn: &Conn,
        protocol: StreamProtocol,
        stream: Stream,
        permit: Permit,
        first_frame: Duration,
    ) {
        self.start(conn, stream, Voice::New(protocol), Some(permit), Some(first_frame));
    }

    fn start(
        &mut self,
        conn: &Conn,
        stream: Stream,
        voice: Voice,
        permit: Option<Permit>,
        first_frame: Option<Duration>,
    ) -> StreamId {
        self.next += 1;
        let id = StreamId(self.next);
        let (commands, to_task) = mpsc::channel(WRITE_QUEUE);
        let (stop, on_stop) = oneshot::channel();
        let kind = Kind { over_yamux: conn.relayed || conn.address.transport == Transport::Tcp, first_frame };
        let channels = Channels { commands: to_task, stop: on_stop, events: self.events.clone() };
        tokio::spawn(stream_io::run(id, stream, kind, channels));
        let open =
            Open { conn: conn.id, commands: Some(commands), stop: Some(stop), voice, leaving: false, _permit: permit };
        self.open.insert(id, open);
        id
    }

    /// A stream that a peer opened says nothing. If its subscriber has too many such, the oldest of them is dropped; if
    /// there are too many in all, the oldest of all.
    pub(crate) fn silent(&mut self, id: StreamId, ip: IpAddr) {
        let subscriber = Subscriber::of(ip);
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if let Voice::New(protocol) = open.voice {
            open.voice = Voice::Silent(protocol, subscriber);
        }
        let silent = self.open.iter().filter_map(|(id, open)| match open.voice {
            Voice::Silent(_, of) if !open.leaving => Some((*id, of)),
            Voice::Silent(..) | Voice::New(_) | Voice::Heard => None,
        });
        if let Some(oldest) = one_too_many(&silent.collect::<Vec<_>>(), subscriber) {
            self.reset(oldest);
        }
    }

    /// A frame came. Gives the protocol if it is the first of a stream that a peer opened.
    pub(crate) fn heard(&mut self, id: StreamId) -> Option<(ConnId, StreamProtocol)> {
        let open = self.open.get_mut(&id)?;
        match std::mem::replace(&mut open.voice, Voice::Heard) {
            Voice::New(protocol) | Voice::Silent(protocol, _) => Some((open.conn, protocol)),
            Voice::Heard => None,
        }
    }

    /// The connection of a stream.
    pub(crate) fn conn_of(&self, id: StreamId) -> Option<ConnId> {
        self.open.get(&id).map(|open| open.conn)
    }

    /// Hands frames to a stream. `None` if it is not open, `Some(false)` if its queue is full: then it is dropped.
    pub(crate) fn send(&mut self, id: StreamId, frames: &[Frame]) -> Option<bool> {
        let open = self.open.get_mut(&id).filter(|open| !open.leaving)?;
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let sent = open.commands.as_ref().is_some_and(|commands| commands.try_send(ToStream::Write(bytes)).is_ok());
        if !sent {
            self.reset(id);
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
        if !told {
            // The queue is full: the peer does not read, and what waits is dropped with the stream.
            open.stop(Stop::Drop);
        }
    }

    /// Drops a stream with what was still to be sent.
    pub(crate) fn reset(&mut self, id: StreamId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stop(Stop::Drop);
        }
    }

    /// A connection is gone: its streams hand over what had come, and end.
    pub(crate) fn gone(&mut self, conn: ConnId) {
        for open in self.open.values_mut().filter(|open| open.conn == conn) {
            open.stop(Stop::Gone);
        }
    }

    /// Whether the owner knows of a stream and wants to hear of it.
    pub(crate) fn is_followed(&self, id: StreamId) -> bool {
        self.open.get(&id).is_some_and(|open| !open.leaving && matches!(open.voice, Voice::Heard))
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

    /// Closes every stream after what was sent.
    pub(crate) fn close_all(&mut self) {
        let open: Vec<StreamId> = self.open.iter().filter(|(_, open)| !open.leaving).map(|(id, _)| *id).collect();
        for id in open {
            self.close(id);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Open {
    fn stop(&mut self, stop: Stop) {
        self.leaving |= stop == Stop::Drop;
        if let Some(channel) = self.stop.take() {
            // An error means that the task has ended already.
            let _ = channel.send(stop);
        }
    }
}

/// Which of the silent streams must go after one of `subscriber` has been added. Ids ascend as streams are opened.
fn one_too_many(silent: &[(StreamId, Subscriber)], subscriber: Subscriber) -> Option<StreamId> {
    let mut same = silent.iter().filter(|(_, of)| *of == subscriber);
    let oldest_of_same = same.next();
    let oldest = if same.count() >= MAX_SILENT_PER_SUBSCRIBER {
        oldest_of_same
    } else if silent.len() > MAX_SILENT {
        silent.first()
    } else {
        None
    };
    oldest.map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a48_the_oldest_silent_stream_goes_first_and_nobody_pays_for_another_subscriber() {
        let of = |n: u8| Subscriber::of(IpAddr::from([5, 1, 1, n]));
        let mut silent: Vec<(StreamId, Subscriber)> = Vec::new();
        for n in 0..200 {
            // Two who flood, from the tenth stream on, and others with one each.
            let subscriber = if n < 10 { of(100 + n as u8) } else { of(n as u8 % 2) };
            silent.push((StreamId(n), subscriber));
            if let Some(gone) = one_too_many(&silent, subscriber) {
                silent.retain(|(id, _)| *id != gone);
            }
        }
        let left: Vec<u64> = silent.iter().map(|(id, _)| id.0).collect();
        assert_eq!(left, (0..10).chain(192..200).collect::<Vec<_>>());
        // Many subscribers at once: the oldest of all makes room.
        for n in 0..100 {
            silent.push((StreamId(200 + n), of(n as u8 + 2)));
            if let Some(gone) = one_too_many(&silent, of(n as u8 + 2)) {
                silent.retain(|(id, _)| *id != gone);
            }
        }
        let left: Vec<u64> = silent.iter().map(|(id, _)| id.0).collect();
        assert_eq!(left, (268..300).collect::<Vec<_>>());
    }
}
