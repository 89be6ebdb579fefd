//! A room with devices that have met each other on its network: their tables, the connections between them, virtual time.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::addr::{Address, LoopbackPolicy, Path, Transport};
use handfast_proto::cause::Cause;
use handfast_proto::handshake::Agreement;
use handfast_proto::id::{ConnId, JobId, SessionId, StreamId, Tid};
use handfast_proto::lan::{NearbyDevice, Purpose, Wanted, WindowId};
use handfast_proto::sas::Sas;
use handfast_proto::session::{
    Config, Consent, DialFailure, Event, Inbound, Job, JobResult, Options, Output, Reached, SelectError, StoreChange,
    StreamEnd, Table, Vicinity,
};
use handfast_proto::time::{Now, Time, UnixTime};
use handfast_proto::wire::beacon::Nid;
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::info::{DeviceName, DeviceType};

use crate::bench::{flipped, identity, rng};

pub(crate) const ASK: Options = Options { consent: Consent::Ask, verify: false };

/// Rounds of deliveries after which something goes in circles.
const ENOUGH: usize = 10_000;

/// One device.
pub(crate) struct Device {
    pub(crate) table: Table,
    pub(crate) tid: Tid,
    pub(crate) ip: IpAddr,
    /// Where it listens, and where its connections come from.
    pub(crate) port: u16,
    pub(crate) nid: Nid,
    pub(crate) events: Vec<Event>,
    pub(crate) stored: Vec<Agreement>,
    pub(crate) paired: usize,
    pub(crate) session: Option<SessionId>,
    /// The address of ours at which others arrive, if not the one at which they met us, and whether over QUIC.
    pub(crate) arrives_at: Option<IpAddr>,
    pub(crate) over_quic: bool,
    /// Nobody reaches it, and it reaches nobody.
    pub(crate) gone: bool,
    /// Frames of this kind that it sends are lost, or arrive with a bit changed.
    pub(crate) loses: Option<FrameType>,
    pub(crate) spoils: Option<FrameType>,
    /// Its firewall lets nobody in.
    pub(crate) is_closed: bool,
    /// The addresses of each dial.
    pub(crate) dialled: Vec<Vec<IpAddr>>,
    window: Option<WindowId>,
}

/// One end of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
struct End {
    device: usize,
    stream: StreamId,
}

/// What is on its way to a device.
enum Delivery {
    Frame(End, Frame),
    Ended(End, StreamEnd),
    Job(usize, JobId, JobResult),
    Inbound(End, Inbound),
}

/// The room.
pub(crate) struct Room {
    pub(crate) now: Duration,
    pub(crate) devices: Vec<Device>,
    conns: Vec<(usize, usize)>,
    streams: Vec<(End, End)>,
    on_the_way: VecDeque<Delivery>,
    /// Ends of streams that no table holds.
    intruders: Vec<StreamId>,
    next: u64,
}

fn ip(n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10 + n as u8))
}

impl Room {
    /// So many devices, all in `pair nearby`, which have met each other. The first has the smallest transport key.
    pub(crate) fn of(count: usize) -> Room {
        let mut room = Room {
            now: Duration::ZERO,
            devices: (0..count).map(|n| Device::new(n, true)).collect(),
            conns: Vec::new(),
            streams: Vec::new(),
            on_the_way: VecDeque::new(),
            intruders: Vec::new(),
            next: 0,
        };
        for n in 0..count {
            room.open(n);
        }
        room.everybody_meets();
        room
    }

    pub(crate) fn clocks(&self) -> Now {
        Now { time: Time::at(self.now), unix: UnixTime(1_800_000_000 + self.now.as_secs()) }
    }

    /// Begins `pair nearby` on a device.
    pub(crate) fn open(&mut self, n: usize) {
        let now = self.clocks();
        self.devices[n].session = Some(self.devices[n].table.nearby(ASK, now).expect("may begin"));
        self.settle();
    }

    /// A device is called by another id from now on.
    pub(crate) fn rename(&mut self, n: usize, nid: Nid) {
        let now = self.clocks();
        let device = &mut self.devices[n];
        device.nid = nid;
        device.table.handle_named(device.window.expect("an open window"), nid, now);
    }

    pub(crate) fn everybody_meets(&mut self) {
        for a in 0..self.devices.len() {
            for b in 0..self.devices.len() {
                if a != b {
                    self.meets(a, b);
                }
            }
        }
    }

    /// `b` moves to the machine of `a`; everybody hears of it.
    pub(crate) fn moves_to(&mut self, b: usize, a: usize) {
        let (nid, left) = (self.devices[b].nid, self.devices[b].ip);
        (self.devices[b].ip, self.devices[b].port) = (self.devices[a].ip, self.devices[a].port + 1);
        for n in (0..self.devices.len()).filter(|n| *n != b) {
            self.leaves(n, nid, left);
        }
        self.everybody_meets();
    }

    /// `a` hears of `b`.
    pub(crate) fn meets(&mut self, a: usize, b: usize) {
        let device = self.seen(a, b);
        self.hears(a, device);
    }

    /// `a` hears of a device, real or not.
    pub(crate) fn hears(&mut self, a: usize, device: NearbyDevice) {
        let (now, window) = (self.clocks(), self.devices[a].window.expect("an open window"));
        self.devices[a].table.handle_ready(window, device, now);
        self.settle();
    }

    /// `a` does not hear any more of the device that has this id here.
    pub(crate) fn leaves(&mut self, a: usize, nid: Nid, ip: IpAddr) {
        let (now, window) = (self.clocks(), self.devices[a].window.expect("an open window"));
        self.devices[a].table.handle_gone(window, nid, ip, now);
        self.settle();
    }

    /// `b`, as `a` hears of it.
    pub(crate) fn seen(&self, a: usize, b: usize) -> NearbyDevice {
        let (us, them) = (&self.devices[a], &self.devices[b]);
        let quic = Address { transport: Transport::Quic, ..them.tcp() };
        NearbyDevice {
            nid: them.nid,
            name: Some(DeviceName::clean(&format!("device {b}"))),
            ip: them.ip,
            own: vec![us.ip],
            addresses: vec![quic, them.tcp()],
            spki: them.tid.0,
            answered: true,
        }
    }

    /// The person at `a` chooses `b`.
    pub(crate) fn select(&mut self, a: usize, b: usize) -> Result<(), SelectError> {
        let (now, nid) = (self.clocks(), self.devices[b].nid);
        let selected = self.devices[a].table.select(nid, now).map(drop);
        self.settle();
        selected
    }

    pub(crate) fn compare(&mut self, n: usize, matches: bool) {
        let now = self.clocks();
        let session = self.devices[n].session.clone();
        self.devices[n].table.compare(session.as_ref(), matches, now).expect("a comparison is open");
        self.settle();
    }

    pub(crate) fn answer(&mut self, n: usize, allow: bool) -> bool {
        let now = self.clocks();
        let session = self.devices[n].session.clone();
        let done = self.devices[n].table.answer(session.as_ref(), allow, now).is_ok();
        self.settle();
        done
    }

    /// The program ends: its streams break and its host answers nobody.
    pub(crate) fn vanish(&mut self, n: usize) {
        self.devices[n].gone = true;
        for (a, b) in std::mem::take(&mut self.streams) {
            if a.device == n || b.device == n {
                let other = if a.device == n { b } else { a };
                self.on_the_way.push_back(Delivery::Ended(other, StreamEnd::Lost));
            } else {
                self.streams.push((a, b));
            }
        }
        self.settle();
    }

    /// Time passes, timer by timer.
    pub(crate) fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        loop {
            let due = self.devices.iter().filter(|d| !d.gone).filter_map(|d| d.table.poll_timeout()).min();
            let due = due.map(|at| at.since_origin().max(self.now)).filter(|at| *at <= end);
            self.now = due.unwrap_or(end);
            let now = self.clocks();
            for device in self.devices.iter_mut().filter(|d| !d.gone) {
                device.table.handle_timeout(now);
            }
            self.settle();
            if due.is_none() {
                return;
            }
        }
    }

    /// Delivers until nothing is on its way.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ENOUGH {
            for n in 0..self.devices.len() {
                while let Some(output) = self.devices[n].table.poll_output() {
                    self.output(n, output);
                }
            }
            let Some(delivery) = self.on_the_way.pop_front() else { return };
            self.deliver(delivery);
        }
        panic!("the devices never come to rest");
    }

    fn output(&mut self, n: usize, output: Output) {
        if self.devices[n].gone {
            return;
        }
        match output {
            Output::Send { stream, frames } => {
                if let Some(peer) = self.peer(n, stream) {
                    let (lost, spoiled) = (self.devices[n].loses, self.devices[n].spoils);
                    let frames = frames.into_iter().filter(|frame| Some(frame.kind()) != lost);
                    let spoil = |frame: Frame| if Some(frame.kind()) == spoiled { flipped(&frame, 9) } else { frame };
                    let frames = frames.map(spoil);
                    self.on_the_way.extend(frames.map(|frame| Delivery::Frame(peer, frame)));
                }
            }
            Output::Finish(stream) => self.end(n, stream, StreamEnd::Finished),
            // Over TCP the multiplexer tells its reader the same in both cases.
            Output::Reset(stream) => self.end(n, stream, StreamEnd::Finished),
            Output::Job(id, job) => self.job(n, id, job),
            Output::Cancel(_) | Output::Proven(_) | Output::Close(_) => {}
            Output::Event(event) => self.devices[n].events.push(event),
            Output::Window(id, Wanted::Open(Purpose::Nearby { .. })) => {
                self.devices[n].window = Some(id);
                let nid = self.devices[n].nid;
                self.rename(n, nid);
            }
            Output::Window(..) => {}
        }
    }

    fn job(&mut self, n: usize, id: JobId, job: Job) {
        let result = match job {
            Job::Dial { tid, addresses, relays } => {
                assert!(relays.is_empty(), "nobody nearby is behind a relay");
                self.devices[n].dialled.push(addresses.iter().map(|a| a.ip).collect());
                assert!(addresses.iter().all(|a| a.transport == Transport::Tcp), "over TCP");
                let there = |d: &Device| !d.gone && !d.is_closed && addresses.contains(&d.tcp());
                match self.devices.iter().position(there) {
                    Some(to) if tid.is_none_or(|tid| tid == self.devices[to].tid) => {
                        self.conns.push((n, to));
                        let conn = ConnId(self.conns.len() as u64 - 1);
                        let (tid, address) = (self.devices[to].tid, self.devices[to].tcp());
                        JobResult::Dialled(Reached { conn, tid, address, path: Path::Lan })
                    }
                    Some(_) => JobResult::DialFailed(DialFailure::WrongPeer),
                    None => JobResult::DialFailed(DialFailure::Refused),
                }
            }
            Job::OpenStream(conn) => {
                let (from, to) = self.conns[conn.0 as usize];
                if self.devices[to].gone { JobResult::StreamFailed } else { self.open_stream(from, to) }
            }
            Job::Store(change) => {
                match change {
                    StoreChange::Pending(pending) => self.devices[n].stored.push(pending.agreement),
                    StoreChange::Paired(_) => self.devices[n].paired += 1,
                    StoreChange::Forget(id) => self.devices[n].stored.retain(|a| a.pairing_id != id),
                }
                JobResult::Stored
            }
            Job::Publish(_) => JobResult::Published { stored_on: 1 },
            Job::LookUp(_) => JobResult::LookedUp { answered: 1 },
            Job::Reach { .. } => return,
        };
        self.on_the_way.push_back(Delivery::Job(n, id, result));
    }

    fn open_stream(&mut self, from: usize, to: usize) -> JobResult {
        self.next += 2;
        let near = End { device: from, stream: StreamId(self.next) };
        let far = End { device: to, stream: StreamId(self.next + 1) };
        self.streams.push((near, far));
        let target = &self.devices[to];
        let transport = if target.over_quic { Transport::Quic } else { Transport::Tcp };
        let address = Address { transport, ..self.devices[from].tcp() };
        let local = (!target.over_quic).then(|| target.arrives_at.unwrap_or(target.ip));
        let inbound = Inbound { tid: self.devices[from].tid, address, path: Path::Lan, local };
        self.on_the_way.push_back(Delivery::Inbound(far, inbound));
        JobResult::StreamOpened(near.stream)
    }

    /// Somebody on the machine of `from` opens a stream to `to`, sends this and nothing more; whether it was let in.
    pub(crate) fn intrude(&mut self, from: usize, to: usize, frame: Frame) -> bool {
        let JobResult::StreamOpened(stream) = self.open_stream(from, to) else { return false };
        self.intruders.push(stream);
        let far = self.peer(from, stream).expect("it was opened just now");
        self.on_the_way.push_back(Delivery::Frame(far, frame));
        self.settle();
        self.peer(from, stream).is_some()
    }

    fn deliver(&mut self, delivery: Delivery) {
        let now = self.clocks();
        match delivery {
            Delivery::Frame(end, _) | Delivery::Ended(end, _) if self.intruders.contains(&end.stream) => {}
            Delivery::Frame(end, frame) if self.is_open(end) => {
                self.devices[end.device].table.handle_frame(end.stream, frame, now);
            }
            Delivery::Ended(end, how) if !self.devices[end.device].gone => {
                self.devices[end.device].table.handle_stream_end(end.stream, how, now);
            }
            Delivery::Job(n, id, result) => self.devices[n].table.handle_job(id, result, now),
            Delivery::Inbound(end, from) => self.devices[end.device].table.handle_inbound(end.stream, from),
            Delivery::Frame(..) | Delivery::Ended(..) => {}
        }
    }

    fn is_open(&self, end: End) -> bool {
        self.streams.iter().any(|(a, b)| *a == end || *b == end)
    }

    fn peer(&self, n: usize, stream: StreamId) -> Option<End> {
        let own = End { device: n, stream };
        self.streams.iter().find_map(|(a, b)| match own {
            _ if *a == own => Some(*b),
            _ if *b == own => Some(*a),
            _ => None,
        })
    }

    /// What was sent before arrives before the end.
    fn end(&mut self, n: usize, stream: StreamId, how: StreamEnd) {
        let Some(peer) = self.peer(n, stream) else { return };
        let is_its_frame = |d: &Delivery| matches!(d, Delivery::Frame(end, _) if *end == peer);
        let (before, rest): (Vec<_>, Vec<_>) = self.on_the_way.drain(..).partition(is_its_frame);
        self.on_the_way = rest.into();
        for frame in before {
            self.deliver(frame);
        }
        self.streams.retain(|(a, b)| *a != peer && *b != peer);
        self.on_the_way.push_back(Delivery::Ended(peer, how));
    }
}

impl Device {
    fn new(n: usize, lan: bool) -> Device {
        let number = n as u8 + 1;
        let tid = Tid([number; 32]);
        let config = Config {
            tid,
            identity: identity(number),
            name: DeviceName::clean(&format!("device {n}")),
            kind: DeviceType::Computer,
            dht: false,
            loopback: LoopbackPolicy::Refuse,
            lan,
            alone: Cause::NotFound,
            vicinity: Vicinity { usable: true, ..Vicinity::default() },
        };
        Device {
            table: Table::new(config, rng(number)),
            tid,
            ip: ip(n),
            port: 4000,
            nid: Nid([100 + number; 16]),
            events: Vec::new(),
            stored: Vec::new(),
            paired: 0,
            session: None,
            arrives_at: None,
            over_quic: false,
            gone: false,
            loses: None,
            spoils: None,
            is_closed: false,
            dialled: Vec::new(),
            window: None,
        }
    }

    fn tcp(&self) -> Address {
        Address { ip: self.ip, port: self.port, transport: Transport::Tcp }
    }

    /// What its screen showed last.
    pub(crate) fn shown(&self) -> Option<Sas> {
        self.events.iter().rev().find_map(|e| match e {
            Event::ComparisonNeeded { sas, .. } => Some(sas.clone()),
            _ => None,
        })
    }

    /// How often a comparison was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::ComparisonNeeded { .. })).count()
    }

    /// How its sessions ended.
    pub(crate) fn endings(&self) -> Vec<Result<(), Cause>> {
        let ending = |e: &Event| match e {
            Event::PairingFailed { cause, .. } => Some(Err(*cause)),
            Event::Paired { .. } => Some(Ok(())),
            _ => None,
        };
        self.events.iter().filter_map(ending).collect()
    }

    pub(crate) fn rejected(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::RequestRejected { .. })).count()
    }

    pub(crate) fn state(&self) -> &'static str {
        self.table.statuses().last().expect("a session").state
    }

    pub(crate) fn dials(&self) -> usize {
        self.dialled.len()
    }
}

/// A device that does not use the local network.
pub(crate) fn without_lan() -> Table {
    Device::new(0, false).table
}
