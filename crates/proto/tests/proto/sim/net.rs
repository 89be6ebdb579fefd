//! The model network: dials, connections between transport keys, streams of frames that arrive in order on each stream
//! and in any order between them. What breaks is a connection, never a single frame.

use std::collections::VecDeque;
use std::time::Duration;

use handfast_proto::addr::{Address, Path, RelayAddress, Transport};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::session::{DialFailure, Inbound, JobResult, Reached, StreamEnd};
use handfast_proto::wire::frames::Frame;

use super::device::Device;
use super::disk::Owner;
use super::world::{Dev, Ev, World};

/// What a dial is to reach.
pub(crate) struct Goal {
    pub(crate) tid: Option<Tid>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) relays: Vec<RelayAddress>,
}

/// What runs on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Pair,
    Hello,
    Ping,
}

/// A connection; end 0 dialled it.
pub(crate) struct Conn {
    pub(crate) ends: [ConnEnd; 2],
    pub(crate) path: Path,
    /// Whether what is sent arrives.
    pub(crate) up: bool,
    /// After a cut: whether what was under way still arrives.
    late: bool,
}

pub(crate) struct ConnEnd {
    pub(crate) dev: Dev,
    pub(crate) run: u64,
    /// The transport key and the address of the other end, as this end sees them.
    pub(crate) sees: (Tid, Address),
    /// Whether this end still counts on the connection.
    pub(crate) open: bool,
    held: bool,
    idle_stamp: u64,
}

/// A stream; end 0 opened it.
struct Stream {
    conn: usize,
    /// Which end of the connection opened it.
    opener: usize,
    protocol: Protocol,
    ends: [StreamEnding; 2],
}

#[derive(Default)]
struct StreamEnding {
    /// Whether the device at this end still cares.
    open: bool,
    /// What is on its way to this end.
    queue: VecDeque<Item>,
    /// When the last of it arrives.
    last: Duration,
}

enum Item {
    Frame(Frame),
    End(StreamEnd),
}

/// All of it.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) conns: Vec<Conn>,
    streams: Vec<Stream>,
}

fn local(stream: usize, side: usize) -> StreamId {
    StreamId((stream * 2 + side) as u64)
}

fn conn_id(conn: usize, side: usize) -> ConnId {
    ConnId((conn * 2 + side) as u64)
}

/// The connection behind a device's name for it, and which end the device is.
fn split(id: u64) -> (usize, usize) {
    (id as usize / 2, id as usize % 2)
}

impl Net {
    fn conn_end(&mut self, stream: usize, side: usize) -> &mut ConnEnd {
        let at = &self.streams[stream];
        let end = if side == 0 { at.opener } else { 1 - at.opener };
        &mut self.conns[at.conn].ends[end]
    }

    fn alive_to(&self, dev: Dev, run: u64, tid: Tid) -> Option<(usize, usize)> {
        self.conns.iter().enumerate().rev().find_map(|(index, conn)| {
            let side = conn.ends.iter().position(|e| e.dev == dev && e.run == run && e.open && e.sees.0 == tid)?;
            Some((index, side))
        })
    }

    /// Connections that stand between two devices.
    pub(crate) fn between(&self, a: Dev, b: Dev) -> Vec<usize> {
        let joins = |c: &Conn| [[a, b], [b, a]].contains(&[c.ends[0].dev, c.ends[1].dev]);
        self.conns.iter().enumerate().filter(|(_, c)| c.up && joins(c)).map(|(i, _)| i).collect()
    }

    fn has_streams(&self, conn: usize, side: usize) -> bool {
        self.streams.iter().any(|s| s.conn == conn && s.ends[usize::from(s.opener != side)].open)
    }

    /// Streams that a device still has.
    pub(crate) fn streams_of(&self, dev: Dev, run: u64) -> usize {
        let is = |s: &Stream, side: usize| {
            let end = &self.conns[s.conn].ends[if side == 0 { s.opener } else { 1 - s.opener }];
            s.ends[side].open && end.dev == dev && end.run == run
        };
        self.streams.iter().map(|s| usize::from(is(s, 0)) + usize::from(is(s, 1))).sum()
    }
}

impl World {
    /// One way over the network.
    pub(crate) fn one_way(&mut self) -> Duration {
        let jitter = self.settings.jitter;
        self.settings.latency + self.dice.between(Duration::ZERO, jitter)
    }

    pub(crate) fn round_trip(&mut self) -> Duration {
        self.one_way() + self.one_way()
    }

    pub(super) fn dial(&mut self, dev: Dev, owner: Owner, job: JobId, goal: Goal) {
        assert!(goal.relays.is_empty() || goal.tid.is_some(), "a relay leads to a transport key");
        let run = self.run_number(dev);
        if let Some((conn, side)) = goal.tid.and_then(|tid| self.net.alive_to(dev, run, tid)) {
            let result = self.dialled(conn, side);
            self.schedule(Duration::ZERO, Ev::Job { dev, run, owner, job, result });
            return;
        }
        let wait = self.round_trip();
        self.schedule(wait, Ev::DialArrives { dev, run, owner, job, goal });
    }

    fn dialled(&self, conn: usize, side: usize) -> JobResult {
        let (tid, address) = self.net.conns[conn].ends[side].sees;
        JobResult::Dialled(Reached { conn: conn_id(conn, side), tid, address, path: self.net.conns[conn].path })
    }

    pub(super) fn dial_arrives(
        &mut self,
        dev: Dev,
        run: u64,
        owner: Owner,
        job: JobId,
        Goal { tid, addresses, relays }: &Goal,
    ) {
        if !self.is_running(dev, run) {
            return;
        }
        let lost = self.dice.chance(self.settings.dial_loss);
        // Where no program runs, a machine refuses TCP and says nothing to QUIC.
        let mut failure = None;
        for address in addresses {
            let Some(target) = self.devices.iter().position(|d| d.addresses.contains(address)) else { continue };
            if lost || self.is_blocked(dev, target) || self.devices[target].behind.is_some() {
                continue;
            }
            let Some(other) = self.devices[target].run.as_ref().map(|r| (r.number, r.tid)) else {
                if self.devices[target].host_up && address.transport == Transport::Tcp {
                    failure = failure.or(Some(DialFailure::Refused));
                } else {
                    failure = Some(DialFailure::NoAnswer);
                }
                continue;
            };
            if target == dev || tid.is_some_and(|tid| tid != other.1) {
                failure = Some(DialFailure::WrongPeer);
                break;
            }
            let own = self.devices[dev].addresses[0];
            let conn = self.connect([dev, target], [*address, own], Path::Direct);
            let result = self.dialled(conn, 0);
            self.job_done(dev, run, owner, job, result);
            return;
        }
        for relay in relays.iter().filter(|_| !lost) {
            let is_it = |d: &Device| d.behind == Some(*relay) && d.run.as_ref().is_some_and(|r| Some(r.tid) == *tid);
            let Some(target) = self.devices.iter().position(is_it) else { continue };
            if target == dev || self.is_blocked(dev, target) {
                continue;
            }
            let conn = self.connect([dev, target], [relay.relay; 2], Path::Relay);
            if self.dice.chance(self.settings.punches) {
                let wait = self.round_trip() * 2;
                self.later(wait, move |w| w.punch(conn));
            }
            let result = self.dialled(conn, 0);
            self.job_done(dev, run, owner, job, result);
            return;
        }
        let failure = failure.unwrap_or(DialFailure::NoAnswer);
        let wait = if failure == DialFailure::NoAnswer { self.settings.dial_limit } else { Duration::ZERO };
        let result = JobResult::DialFailed(failure);
        self.schedule(wait, Ev::Job { dev, run, owner, job, result });
    }

    /// A new connection between two running devices, each of which sees the other at its address.
    fn connect(&mut self, devs: [Dev; 2], sees: [Address; 2], path: Path) -> usize {
        let runs = devs.map(|dev| (self.run_number(dev), self.devices[dev].own_tid()));
        let end = |n: usize| {
            let sees = (runs[1 - n].1, sees[n]);
            ConnEnd { dev: devs[n], run: runs[n].0, sees, open: true, held: false, idle_stamp: 0 }
        };
        self.net.conns.push(Conn { ends: [end(0), end(1)], path, up: true, late: false });
        let conn = self.net.conns.len() - 1;
        self.note(|| format!("{} connects to {}: {}", devs[0], devs[1], path.name()));
        for side in [0, 1] {
            self.watch_idle(conn, side);
        }
        for side in [0, 1] {
            let from = self.inbound_of(conn, side);
            self.connected(devs[side], conn_id(conn, side), from);
        }
        conn
    }

    fn inbound_of(&self, conn: usize, side: usize) -> Inbound {
        let at = &self.net.conns[conn];
        let (tid, address) = at.ends[side].sees;
        Inbound { tid, address, path: at.path, local: None }
    }

    /// A hole is punched beside a relayed connection that stands.
    pub(crate) fn punch(&mut self, relayed: usize) {
        let at = &self.net.conns[relayed];
        let devs = [at.ends[0].dev, at.ends[1].dev];
        let stands = at.ends.iter().all(|e| e.open && self.is_running(e.dev, e.run));
        if at.up && stands && !self.is_blocked(devs[0], devs[1]) {
            let addresses = [1, 0].map(|n| self.devices[devs[n]].addresses[0]);
            self.connect(devs, addresses, Path::Direct);
        }
    }

    /// A device tries again.
    pub(super) fn punch_again(&mut self, conn: ConnId) {
        let (conn, _) = split(conn.0);
        if self.dice.chance(self.settings.punches) {
            let wait = self.round_trip() * 2;
            self.later(wait, move |w| w.punch(conn));
        }
    }

    /// A device closes a connection.
    pub(super) fn close_connection(&mut self, conn: ConnId) {
        let (conn, side) = split(conn.0);
        self.shut(conn, side);
    }

    fn shut(&mut self, conn: usize, side: usize) {
        if std::mem::take(&mut self.net.conns[conn].up) {
            self.net.conns[conn].late = true;
            let wait = self.one_way();
            self.schedule(wait, Ev::LossSeen { conn, side: 1 - side });
        }
        self.loss_seen(conn, side);
    }

    pub(super) fn open_stream(&mut self, dev: Dev, owner: Owner, job: JobId, conn: ConnId, protocol: Protocol) {
        let run = self.run_number(dev);
        let (conn, side) = split(conn.0);
        let result = if self.net.conns[conn].ends[side].open {
            let open = StreamEnding { open: true, ..StreamEnding::default() };
            self.net.streams.push(Stream { conn, opener: side, protocol, ends: [open, StreamEnding::default()] });
            JobResult::StreamOpened(local(self.net.streams.len() - 1, 0))
        } else {
            JobResult::StreamFailed
        };
        self.schedule(Duration::ZERO, Ev::Job { dev, run, owner, job, result });
    }

    pub(super) fn send(&mut self, stream: StreamId, frames: Vec<Frame>) {
        for frame in frames {
            self.enqueue(stream, Item::Frame(frame));
        }
    }

    /// The device is done with a stream; the peer learns it after what was sent.
    pub(super) fn close(&mut self, stream: StreamId, end: StreamEnd) {
        let (index, side) = split(stream.0);
        if !self.net.streams[index].ends[side].open {
            return;
        }
        self.enqueue(stream, Item::End(end));
        self.forget_stream(index, side);
    }

    fn forget_stream(&mut self, index: usize, side: usize) {
        self.net.streams[index].ends[side].open = false;
        let (conn, opener) = (self.net.streams[index].conn, self.net.streams[index].opener);
        self.watch_idle(conn, if side == 0 { opener } else { 1 - opener });
    }

    fn enqueue(&mut self, stream: StreamId, item: Item) {
        let (index, side) = split(stream.0);
        let wait = self.one_way();
        let at = &mut self.net.streams[index];
        if !at.ends[side].open || !self.net.conns[at.conn].up {
            return;
        }
        let other = &mut at.ends[1 - side];
        let when = (self.now + wait).max(other.last + Duration::from_nanos(1));
        other.last = when;
        other.queue.push_back(item);
        self.schedule_at(when, Ev::Arrives { stream: index, side: 1 - side });
    }

    pub(super) fn arrives(&mut self, stream: usize, side: usize) {
        let Some(item) = self.net.streams[stream].ends[side].queue.pop_front() else { return };
        let at = &self.net.streams[stream];
        let (conn, protocol) = (at.conn, at.protocol);
        let (up, late) = (self.net.conns[conn].up, self.net.conns[conn].late);
        if !up && !late {
            return;
        }
        let end = self.net.conn_end(stream, side);
        let (dev, run, conn_open) = (end.dev, end.run, end.open);
        let end_index = if side == 0 { self.net.streams[stream].opener } else { 1 - self.net.streams[stream].opener };
        if !conn_open || !self.is_running(dev, run) {
            return;
        }
        let id = local(stream, side);
        match item {
            Item::Frame(frame) => {
                for frame in self.tapped(conn, stream, side, frame) {
                    // The tap may have ended the device.
                    if !self.is_running(dev, run) {
                        return;
                    }
                    let known = &mut self.net.streams[stream].ends[side];
                    let is_new = side == 1 && !known.open && !self.seen.contains(&stream);
                    if is_new {
                        known.open = true;
                        self.seen.insert(stream);
                        let from = self.inbound_of(conn, end_index);
                        self.inbound(dev, id, conn_id(conn, end_index), from, protocol);
                    }
                    if self.net.streams[stream].ends[side].open {
                        self.frame(dev, id, frame, protocol);
                    }
                }
            }
            Item::End(end) => {
                if self.net.streams[stream].ends[side].open {
                    self.forget_stream(stream, side);
                    self.stream_end(dev, id, end, protocol);
                }
            }
        }
    }

    /// Lets the scenario look at a frame that is about to arrive: what does.
    fn tapped(&mut self, conn: usize, stream: usize, side: usize, frame: Frame) -> Vec<Frame> {
        let to = self.net.conn_end(stream, side).dev;
        let from = self.net.conn_end(stream, 1 - side).dev;
        self.note(|| format!("{:?} {from} -> {to}", frame.kind()));
        self.tap_frame(conn, from, to, (stream, side), frame)
    }

    /// A connection stops carrying anything; each end finds out in its own time.
    pub(crate) fn cut(&mut self, conn: usize) {
        if !self.net.conns[conn].up {
            return;
        }
        let late = self.dice.chance(self.settings.late);
        self.net.conns[conn].up = false;
        self.net.conns[conn].late = late;
        self.note(|| format!("connection {conn} cut"));
        for side in [0, 1] {
            let (low, high) = self.settings.detection;
            let wait = self.dice.between(low, high);
            self.schedule(wait, Ev::LossSeen { conn, side });
        }
    }

    /// Cuts everything between two devices.
    pub(crate) fn cut_between(&mut self, a: Dev, b: Dev) {
        for conn in self.net.between(a, b) {
            self.cut(conn);
        }
    }

    /// A device's own end notices that its connection is gone.
    pub(super) fn loss_seen(&mut self, conn: usize, side: usize) {
        let end = &mut self.net.conns[conn].ends[side];
        if !end.open {
            return;
        }
        end.open = false;
        let (dev, run) = (end.dev, end.run);
        let streams: Vec<(usize, usize, Protocol)> = (0..self.net.streams.len())
            .filter(|s| self.net.streams[*s].conn == conn)
            .map(|s| (s, usize::from(self.net.streams[s].opener != side), self.net.streams[s].protocol))
            .collect();
        for (stream, stream_side, protocol) in streams {
            if std::mem::take(&mut self.net.streams[stream].ends[stream_side].open) && self.is_running(dev, run) {
                self.stream_end(dev, local(stream, stream_side), StreamEnd::Lost, protocol);
            }
        }
        if self.is_running(dev, run) {
            self.disconnected(dev, conn_id(conn, side));
        }
    }

    pub(super) fn hold(&mut self, conn: ConnId, hold: bool) {
        let (conn, side) = split(conn.0);
        self.net.conns[conn].ends[side].held = hold;
        self.watch_idle(conn, side);
    }

    fn watch_idle(&mut self, conn: usize, side: usize) {
        let end = &mut self.net.conns[conn].ends[side];
        end.idle_stamp += 1;
        let stamp = end.idle_stamp;
        if end.open && !end.held {
            self.schedule(self.settings.idle, Ev::Idle { conn, side, stamp });
        }
    }

    /// A connection that one end neither holds nor uses is closed by it.
    pub(super) fn idle(&mut self, conn: usize, side: usize, stamp: u64) {
        let at = &self.net.conns[conn];
        let end = &at.ends[side];
        if end.idle_stamp != stamp || end.held || !end.open || !at.up || self.net.has_streams(conn, side) {
            return;
        }
        self.shut(conn, side);
    }

    /// The ends of a device that has stopped: the others find out.
    pub(super) fn drop_connections(&mut self, dev: Dev, run: u64) {
        for conn in 0..self.net.conns.len() {
            let mine = |e: &ConnEnd| e.dev == dev && e.run == run && e.open;
            if self.net.conns[conn].up && self.net.conns[conn].ends.iter().any(mine) {
                self.cut(conn);
            }
        }
    }
}
