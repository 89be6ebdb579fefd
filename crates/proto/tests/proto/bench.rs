//! One device on the bench: its machines are driven by hand, with an attacker for a network.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::addr::{Address, LoopbackPolicy, Path, Transport};
use handfast_proto::cause::Cause;
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::handshake::initiator::{Comparing, Next, P1, ReceivedH1, ReceivedH3, SentH4};
use handfast_proto::handshake::joiner::{self, SentH1};
use handfast_proto::handshake::{Agreement, Mode};
use handfast_proto::id::{ConnId, Identity, JobId, SessionId, StreamId, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::sas::Sas;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::session::{
    Config, Consent, Event, Inbound, Job, JobResult, Options, Output, Reached, StoreChange, StreamEnd, Table, Vicinity,
};
use handfast_proto::time::{Now, Time, UnixTime};
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::info::{DeviceInfo, DeviceName, DeviceType};
use handfast_proto::wire::record::Record;

/// A key for somebody, by number.
pub(crate) fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

pub(crate) fn identity(n: u8) -> Identity {
    Identity::from_seed(Secret::new([n; 32]))
}

pub(crate) fn info(name: &str) -> DeviceInfo {
    DeviceInfo { name: DeviceName::clean(name), kind: DeviceType::Computer, clock: None }
}

/// Somewhere on the internet.
pub(crate) fn address(n: u8) -> Address {
    Address { ip: IpAddr::V4(Ipv4Addr::new(5, 9, 9, n)), port: 4000, transport: Transport::Quic }
}

/// Somebody who comes in under this transport key.
pub(crate) fn inbound(tid: Tid) -> Inbound {
    Inbound { tid, address: address(tid.0[0]), path: Path::Direct, local: None }
}

/// The same frame with one bit of its body flipped.
pub(crate) fn flipped(frame: &Frame, at: usize) -> Frame {
    let mut bytes = frame.to_bytes();
    bytes[3 + at] ^= 1;
    Frame::from_rest(&bytes[2..]).expect("the layout of a frame stays")
}

/// A frame of any bytes.
pub(crate) fn frame(kind: FrameType, fill: u8) -> Frame {
    let mut rest = vec![kind.byte()];
    rest.resize(1 + kind.body_len(), fill);
    Frame::from_rest(&rest).expect("the size of its type")
}

/// A table, its clock, and everything it wanted.
pub(crate) struct Bench {
    pub(crate) table: Table,
    pub(crate) tid: Tid,
    pub(crate) now: Duration,
    pub(crate) unix: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) sent: Vec<(StreamId, Frame)>,
    pub(crate) closed: Vec<StreamId>,
    /// How many of them were abandoned without an orderly end.
    pub(crate) reset: usize,
    /// Streams through relays on which the code is proven.
    pub(crate) proven: Vec<StreamId>,
    /// Connections that it gave up.
    pub(crate) given_up: Vec<ConnId>,
    pub(crate) jobs: Vec<(JobId, Job)>,
    /// Pairings that were made durable as pending.
    pub(crate) stored: Vec<Agreement>,
    /// Where the peer of the last one was.
    pub(crate) stored_at: Vec<Address>,
    pub(crate) paired: usize,
    /// No node answers: publications wait for the test like everything else.
    pub(crate) dht_is_gone: bool,
    next_stream: u64,
}

impl Bench {
    pub(crate) fn new(n: u8) -> Bench {
        Bench::with(n, |_| ())
    }

    /// One whose configuration is another.
    pub(crate) fn with(n: u8, change: impl FnOnce(&mut Config)) -> Bench {
        let tid = Tid([n; 32]);
        let mut config = Config {
            tid,
            identity: identity(n),
            name: DeviceName::clean(&format!("bench {n}")),
            kind: DeviceType::Computer,
            dht: true,
            loopback: LoopbackPolicy::Refuse,
            lan: false,
            alone: Cause::NoBootstrap,
            vicinity: Vicinity::default(),
        };
        change(&mut config);
        let mut table = Table::new(config, rng(n));
        table.set_addresses(vec![address(n)], Now::default());
        Bench {
            table,
            tid,
            now: Duration::ZERO,
            unix: 1_800_000_000,
            events: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            reset: 0,
            proven: Vec::new(),
            given_up: Vec::new(),
            jobs: Vec::new(),
            stored: Vec::new(),
            stored_at: Vec::new(),
            paired: 0,
            dht_is_gone: false,
            next_stream: u64::from(n) * 1_000_000,
        }
    }

    pub(crate) fn clocks(&self) -> Now {
        Now { time: Time::at(self.now), unix: UnixTime(self.unix + self.now.as_secs()) }
    }

    /// A code that is shown here.
    pub(crate) fn code(&mut self, ttl: u64) -> (SessionId, Code) {
        self.code_with(ttl, Consent::Ask)
    }

    pub(crate) fn code_with(&mut self, ttl: u64, options: impl Into<Options>) -> (SessionId, Code) {
        let now = self.clocks();
        let made = self.table.generate(options, Duration::from_secs(ttl), now).expect("room");
        self.drain();
        made
    }

    /// A code that is entered here.
    pub(crate) fn join(&mut self, code: &Code) -> SessionId {
        self.join_with(code, Consent::Ask)
    }

    pub(crate) fn join_with(&mut self, code: &Code, options: impl Into<Options>) -> SessionId {
        let now = self.clocks();
        let session = self.table.join(CodeInput::Words(code.clone()), options, now).expect("may be joined");
        self.drain();
        session
    }

    /// Takes everything it wants. Writes and publications succeed at once, the rest waits for the test.
    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.table.poll_output() {
            let now = self.clocks();
            match output {
                Output::Send { stream, frames } => self.sent.extend(frames.into_iter().map(|f| (stream, f))),
                Output::Finish(stream) => self.closed.push(stream),
                Output::Reset(stream) => {
                    self.closed.push(stream);
                    self.reset += 1;
                }
                Output::Proven(stream) => self.proven.push(stream),
                Output::Close(conn) => self.given_up.push(conn),
                Output::Job(id, Job::Store(change)) => {
                    match change {
                        StoreChange::Pending(pending) => {
                            self.stored.push(pending.agreement);
                            self.stored_at = pending.addresses;
                        }
                        StoreChange::Paired(_) => self.paired += 1,
                        StoreChange::Forget(id) => self.stored.retain(|a| a.pairing_id != id),
                    }
                    self.table.handle_job(id, JobResult::Stored, now);
                }
                Output::Job(id, Job::Publish(_)) if !self.dht_is_gone => {
                    self.table.handle_job(id, JobResult::Published { stored_on: 3 }, now);
                }
                Output::Job(id, job) => self.jobs.push((id, job)),
                Output::Cancel(id) => self.jobs.retain(|(job, _)| *job != id),
                Output::Event(event) => self.events.push(event),
                Output::Window(..) => {}
            }
        }
    }

    /// Time passes, timer by timer.
    pub(crate) fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        loop {
            let due = self.table.poll_timeout().map(|at| at.since_origin().max(self.now)).filter(|at| *at <= end);
            self.now = due.unwrap_or(end);
            let now = self.clocks();
            self.table.handle_timeout(now);
            self.drain();
            if due.is_none() {
                return;
            }
        }
    }

    /// A pairing stream that somebody opens.
    pub(crate) fn open(&mut self, from: Tid) -> StreamId {
        self.open_from(inbound(from))
    }

    pub(crate) fn open_from(&mut self, from: Inbound) -> StreamId {
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        self.table.handle_inbound(stream, from);
        self.drain();
        stream
    }

    pub(crate) fn hand(&mut self, stream: StreamId, frame: Frame) {
        let now = self.clocks();
        self.table.handle_frame(stream, frame, now);
        self.drain();
    }

    pub(crate) fn end(&mut self, stream: StreamId, end: StreamEnd) {
        let now = self.clocks();
        self.table.handle_stream_end(stream, end, now);
        self.drain();
    }

    pub(crate) fn job_done(&mut self, id: JobId, result: JobResult) {
        let now = self.clocks();
        self.jobs.retain(|(job, _)| *job != id || matches!(result, JobResult::Found(_)));
        self.table.handle_job(id, result, now);
        self.drain();
    }

    /// Answers every look-up with this record and every dial of its device with a connection; the stream on which the
    /// handshake begins.
    pub(crate) fn found(&mut self, record: &Record, by: Tid) -> StreamId {
        while let Some((id, _)) = self.jobs.iter().find(|(_, job)| matches!(job, Job::LookUp(_))) {
            let id = *id;
            self.job_done(id, JobResult::Found(record.clone()));
            self.job_done(id, JobResult::LookedUp { answered: 3 });
        }
        self.connected(by)
    }

    /// Answers the dial that is waiting.
    pub(crate) fn connected(&mut self, by: Tid) -> StreamId {
        let dial = self.jobs.iter().find_map(|(id, job)| match job {
            Job::Dial { tid, .. } if *tid == Some(by) => Some(*id),
            _ => None,
        });
        let dialled =
            JobResult::Dialled(Reached { conn: ConnId(9), tid: by, address: address(by.0[0]), path: Path::Direct });
        self.job_done(dial.expect("it dials"), dialled);
        let open = self.jobs.iter().find_map(|(id, job)| matches!(job, Job::OpenStream(_)).then_some(*id));
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        self.job_done(open.expect("it opens a stream"), JobResult::StreamOpened(stream));
        stream
    }

    pub(crate) fn answer(&mut self, session: &SessionId, allow: bool) {
        let now = self.clocks();
        self.table.answer(Some(session), allow, now).expect("a question is open");
        self.drain();
    }

    /// A person says whether the screens match.
    pub(crate) fn compare(&mut self, session: &SessionId, matches: bool) {
        let now = self.clocks();
        self.table.compare(Some(session), matches, now).expect("a comparison is open");
        self.drain();
    }

    /// What its screen showed last.
    pub(crate) fn shown(&self) -> Option<Sas> {
        let sas = |e: &Event| match e {
            Event::ComparisonNeeded { sas, .. } => Some(sas.clone()),
            _ => None,
        };
        self.events.iter().rev().find_map(sas)
    }

    pub(crate) fn cancel(&mut self, session: &SessionId) -> bool {
        let now = self.clocks();
        let done = self.table.cancel(Some(session), now).is_ok();
        self.drain();
        done
    }

    /// What was sent on a stream since the last time.
    pub(crate) fn take_sent(&mut self, stream: StreamId) -> Vec<Frame> {
        let (taken, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(s, _)| *s == stream);
        self.sent = rest;
        let taken: Vec<(StreamId, Frame)> = taken;
        taken.into_iter().map(|(_, frame)| frame).collect()
    }

    pub(crate) fn asked(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::ApprovalNeeded { .. })).count()
    }

    /// What was said to be wrong while it went on.
    pub(crate) fn troubles(&self) -> Vec<Cause> {
        let cause = |e: &Event| match e {
            Event::TroubleNoticed { cause, .. } => Some(*cause),
            _ => None,
        };
        self.events.iter().filter_map(cause).collect()
    }

    /// How its sessions failed.
    pub(crate) fn causes(&self) -> Vec<Cause> {
        let cause = |e: &Event| match e {
            Event::PairingFailed { cause, .. } => Some(*cause),
            _ => None,
        };
        self.events.iter().filter_map(cause).collect()
    }

    pub(crate) fn state(&self) -> &'static str {
        self.table.statuses().last().expect("a session").state
    }
}

/// Somebody with a code and nothing else: a joiner whose every message is made by hand.
pub(crate) struct Guest {
    pub(crate) tid: Tid,
    pub(crate) keys: CodeKeys,
    pub(crate) identity: Identity,
    /// Asks for a comparison.
    pub(crate) verify: bool,
    rng: Rng,
}

impl Guest {
    pub(crate) fn new(n: u8, code: &Code) -> Guest {
        Guest { tid: Tid([n; 32]), keys: CodeKeys::derive(code), identity: identity(n), verify: false, rng: rng(n) }
    }

    /// P1 and H1 for a connection to `to`.
    pub(crate) fn start(&mut self, to: Tid) -> (SentH1, [Frame; 2]) {
        joiner::start(&self.keys, Mode::Words, self.verify, self.tid, to, &mut self.rng)
    }

    /// P1 and H1 handed in on a new stream; that stream and what is needed for H2.
    pub(crate) fn knock(&mut self, at: &mut Bench) -> (StreamId, SentH1) {
        let (sent, [p1, h1]) = self.start(at.tid);
        let stream = at.open(self.tid);
        at.hand(stream, p1);
        at.hand(stream, h1);
        (stream, sent)
    }

    /// The answer to a knock, as far as it is one.
    pub(crate) fn h2(at: &mut Bench, stream: StreamId, sent: SentH1) -> Option<joiner::H2> {
        let frames = at.take_sent(stream);
        sent.handle(frames.first()?).ok()
    }

    /// Goes up to the comparison, S3 sent; the stream, and what is needed for H3.
    pub(crate) fn up_to_comparison(&mut self, at: &mut Bench) -> (StreamId, Box<joiner::Comparing>, Frame) {
        let (stream, sent) = self.knock(at);
        let Some(joiner::H2::Compare(comparing, s3)) = Guest::h2(at, stream, sent) else { panic!("asked to compare") };
        at.hand(stream, s3.clone());
        (stream, comparing, s3)
    }

    /// H3 of somebody whose person has confirmed, or who says so.
    pub(crate) fn h3(&mut self, comparing: joiner::Comparing) -> (joiner::SentH3, Frame) {
        comparing.matched().send(&self.identity, &info("guest"), &mut self.rng)
    }

    /// Goes up to H3; the stream, and what is needed for H4.
    pub(crate) fn introduce(&mut self, at: &mut Bench) -> (StreamId, joiner::SentH3, Frame) {
        let (stream, sent) = self.knock(at);
        let Some(joiner::H2::GoOn(proved)) = Guest::h2(at, stream, sent) else { panic!("told to go on") };
        let (sent, h3) = proved.send(&self.identity, &info("guest"), &mut self.rng);
        at.hand(stream, h3.clone());
        (stream, sent, h3)
    }
}

/// Somebody with a code who plays its initiator, every message made by hand.
pub(crate) struct Host {
    pub(crate) tid: Tid,
    pub(crate) keys: CodeKeys,
    pub(crate) identity: Identity,
    rng: Rng,
}

impl Host {
    pub(crate) fn new(code: &Code, tid: Tid) -> Host {
        Host { tid, keys: CodeKeys::derive(code), identity: identity(tid.0[0]), rng: rng(tid.0[0]) }
    }

    /// Takes the P1 and H1 that a joiner has just sent.
    pub(crate) fn take_h1(&mut self, joiner: &mut Bench, stream: StreamId) -> ReceivedH1 {
        let sent = joiner.take_sent(stream);
        let p1 = P1::parse(&sent[0], joiner.tid, self.tid).expect("a P1");
        assert!(p1.is_for(&self.keys), "made for this connection and code");
        p1.handle(&self.keys, &sent[1], &mut self.rng).expect("a proof")
    }

    /// Goes on until the joiner has something to compare; what its own screen would show.
    pub(crate) fn up_to_comparison(&mut self, joiner: &mut Bench, stream: StreamId) -> Comparing {
        let (Next::Comparison(asked), h2) = self.take_h1(joiner, stream).go_on(true, &mut self.rng) else {
            panic!("it asks for a comparison itself")
        };
        joiner.hand(stream, h2);
        let s3 = joiner.take_sent(stream);
        asked.handle(&s3[0]).expect("the commitment opens")
    }

    /// Goes on until the joiner has said who it is.
    pub(crate) fn up_to_h3(&mut self, joiner: &mut Bench, stream: StreamId) -> ReceivedH3 {
        let (Next::Identity(hs), h2) = self.take_h1(joiner, stream).go_on(false, &mut self.rng) else {
            panic!("nobody asked for a comparison")
        };
        joiner.hand(stream, h2);
        let h3 = joiner.take_sent(stream);
        hs.handle(&h3[0], self.identity.public()).expect("an identity")
    }

    /// Goes on until H4 is ready.
    pub(crate) fn up_to_h4(&mut self, joiner: &mut Bench, stream: StreamId) -> (SentH4, Frame) {
        let hs = self.up_to_h3(joiner, stream);
        let (hs, h4, _) = hs.allow(&self.identity, &info("host"), &mut self.rng);
        (hs, h4)
    }
}

/// A record under a code, as whoever has the code can make one.
pub(crate) fn record(code: &Code, tid: Tid, state: AdvertState, seq: u64) -> Record {
    let advert = match state {
        AdvertState::Open => {
            Advert { state, not_after: UnixTime(0), tid, addresses: vec![address(tid.0[0])], relays: Vec::new() }
        }
        AdvertState::Used | AdvertState::Expired | AdvertState::Cancelled | AdvertState::Burned => {
            Advert::tombstone(state)
        }
    };
    CodeKeys::derive(code).record().seal(&advert.to_bytes([7; 16]), seq, 600, &mut rng(seq as u8))
}
