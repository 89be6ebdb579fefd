//! The world: devices, network, DHT and people on one virtual clock, stepped from event to event.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_proto::addr::{Address, RelayAddress, Transport};
use handfast_proto::cause::Cause;
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::id::{Identity, JobId, PairingId, SessionId, Tid};
use handfast_proto::link;
use handfast_proto::secret::Secret;
use handfast_proto::session::{Event, JobResult, Options};
use handfast_proto::time::{Now, Time, UnixTime};
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::{Record, Topic};

use super::device::{Device, Run};
use super::dht::Node;
use super::dice::Dice;
use super::disk::{Owner, Write};
use super::ledger::Ledger;
use super::net::{Goal, Net};
use super::trace::{Tell, Trace};

/// A device, by its number.
pub(crate) type Dev = usize;

/// The wall clock of a world without errors at its start.
const EPOCH: u64 = 1_800_000_000;
/// Steps without time passing after which a world is stuck in a loop.
const MAX_IDLE_STEPS: u32 = 20_000;

/// What is scheduled.
pub(super) enum Ev {
    DiskDone { dev: Dev, run: u64 },
    DiskTold { dev: Dev, run: u64, write: Box<Write>, done: bool },
    Job { dev: Dev, run: u64, owner: Owner, job: JobId, result: JobResult },
    DialArrives { dev: Dev, run: u64, owner: Owner, job: JobId, goal: Goal },
    Put { dev: Dev, run: u64, owner: Owner, job: JobId, record: Record },
    NodeAnswers { dev: Dev, run: u64, owner: Owner, job: JobId, topic: Topic, node: usize },
    Arrives { stream: usize, side: usize },
    LossSeen { conn: usize, side: usize },
    Idle { conn: usize, side: usize, stamp: u64 },
    Answer { dev: Dev, run: u64, session: SessionId, allow: bool, compare: bool },
    DhtInReach { dev: Dev, run: u64 },
    Do(Box<dyn FnOnce(&mut World)>),
}

/// How the world is; the defaults are exact: no jitter, no loss, no delay of a disk.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    pub(crate) disk: (Duration, Duration),
    /// Writes that fail, in a hundred.
    pub(crate) disk_failures: u64,
    /// How long an end needs to notice a lost connection.
    pub(crate) detection: (Duration, Duration),
    pub(crate) idle: Duration,
    pub(crate) dial_limit: Duration,
    pub(crate) look_up_limit: Duration,
    /// Dials and puts that get lost, in a hundred.
    pub(crate) dial_loss: u64,
    pub(crate) put_loss: u64,
    /// Cuts after which what was under way still arrives, in a hundred.
    pub(crate) late: u64,
    /// Relayed connections that get a direct one beside them, in a hundred.
    pub(crate) punches: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            latency: Duration::from_millis(25),
            jitter: Duration::ZERO,
            disk: (Duration::ZERO, Duration::ZERO),
            disk_failures: 0,
            detection: (Duration::from_millis(50), Duration::from_millis(50)),
            idle: Duration::from_secs(20),
            dial_limit: Duration::from_secs(5),
            look_up_limit: Duration::from_secs(10),
            dial_loss: 0,
            put_loss: 0,
            late: 0,
            punches: 0,
        }
    }
}

/// How a person answers questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    Yes(Duration),
    No(Duration),
    Never,
    /// Mostly yes, after anything up to four seconds; sometimes no, late or never.
    Moody,
}

/// A frame that is about to arrive.
pub(crate) struct Passing<'a> {
    pub(crate) frame: &'a Frame,
    /// How many frames arrived before it, in the whole world.
    pub(crate) nth: usize,
    /// How many of its type did.
    pub(crate) nth_of_type: usize,
    /// The stream and the end of it that it arrives at.
    pub(crate) way: (usize, usize),
}

/// What becomes of it.
pub(crate) enum Fate {
    Arrives,
    /// The connection breaks first.
    Cut,
    /// The connection breaks right behind it.
    CutBehind,
    CrashSender,
    CrashReceiver,
    /// The receiver stops right after it took the frame.
    CrashReceiverAfter,
    Becomes(Frame),
    /// Others arrive in its place, or none: lost, held back, repeated, out of order.
    Instead(Vec<Frame>),
}

/// Where a write is when a scenario may stop its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiskMoment {
    /// Not durable yet.
    Before,
    /// Durable, and nobody has been told.
    After,
}

type FrameTap = Box<dyn FnMut(&Passing<'_>) -> Fate>;
type DiskTap = Box<dyn FnMut(Dev, &'static str, DiskMoment) -> bool>;

/// Everything.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: Duration,
    pub(crate) settings: Settings,
    pub(crate) devices: Vec<Device>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) ledger: Ledger,
    pub(crate) frame_tap: Option<FrameTap>,
    pub(crate) disk_tap: Option<DiskTap>,
    pub(crate) blocked: BTreeSet<(Dev, Dev)>,
    pub(crate) frames: BTreeMap<FrameType, usize>,
    pub(super) seen: BTreeSet<usize>,
    trace: Trace,
    queue: BTreeMap<(Duration, u64), Ev>,
    serial: u64,
    idle_steps: u32,
}

impl World {
    /// An empty world.
    pub(crate) fn new(seed: u64) -> World {
        World::told(seed, Tell::Nothing)
    }

    pub(crate) fn told(seed: u64, tell: Tell) -> World {
        World {
            dice: Dice::new(seed),
            now: Duration::ZERO,
            settings: Settings::default(),
            devices: Vec::new(),
            nodes: Vec::new(),
            net: Net::default(),
            ledger: Ledger::default(),
            frame_tap: None,
            disk_tap: None,
            blocked: BTreeSet::new(),
            frames: BTreeMap::new(),
            seen: BTreeSet::new(),
            trace: Trace::new(tell),
            queue: BTreeMap::new(),
            serial: 0,
            idle_steps: 0,
        }
    }

    /// A world of `n` devices that say yes at once, and three honest nodes; all of them running.
    pub(crate) fn of(n: usize) -> World {
        let mut world = World::new(1);
        world.add_nodes(3);
        for index in 0..n {
            let dev = world.add_device(Person::Yes(Duration::ZERO));
            assert_eq!(dev, index);
        }
        world
    }

    /// Adds a device and starts it.
    pub(crate) fn add_device(&mut self, person: Person) -> Dev {
        let dev = self.devices.len();
        let identity = Identity::from_seed(Secret::new(self.dice.seed()));
        let device = Device::new(format!("device {dev}"), identity, addresses(dev, 0), person);
        self.devices.push(device);
        self.start(dev);
        dev
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    /// The hash of the run so far, and its steps.
    pub(crate) fn digest(&self) -> (u64, u64) {
        self.trace.digest()
    }

    /// Both clocks of a running device.
    pub(crate) fn clocks(&self, dev: Dev) -> Now {
        let started = self.devices[dev].run.as_ref().map_or(Duration::ZERO, |r| r.started);
        Now { time: Time::at(self.now.saturating_sub(started)), unix: self.unix(dev) }
    }

    /// The wall clock of a device.
    pub(crate) fn unix(&self, dev: Dev) -> UnixTime {
        UnixTime(EPOCH + self.now.as_secs()).moved_by(self.devices[dev].clock)
    }

    pub(crate) fn is_running(&self, dev: Dev, run: u64) -> bool {
        self.devices[dev].run.as_ref().is_some_and(|r| r.number == run)
    }

    pub(super) fn run_number(&self, dev: Dev) -> u64 {
        self.devices[dev].run.as_ref().map_or(0, |r| r.number)
    }

    pub(crate) fn is_blocked(&self, a: Dev, b: Dev) -> bool {
        self.blocked.contains(&(a.min(b), a.max(b)))
    }

    /// Stops everything between two devices, or lets it through again.
    pub(crate) fn block(&mut self, a: Dev, b: Dev, blocked: bool) {
        self.note(|| format!("path {a} {b} blocked: {blocked}"));
        if blocked {
            self.blocked.insert((a.min(b), a.max(b)));
            self.cut_between(a, b);
        } else {
            self.blocked.remove(&(a.min(b), a.max(b)));
        }
    }

    // Commands of people.

    pub(crate) fn generate(&mut self, dev: Dev, ttl: Duration, options: impl Into<Options>) -> (SessionId, Code) {
        let options = options.into();
        let now = self.clocks(dev);
        let run = self.run(dev);
        let (session, code) = run.table.generate(options, ttl, now).expect("room for a session");
        let key = (dev, self.run_number(dev), session.clone());
        self.ledger.generated(key, self.now, ttl, options.verify);
        self.note(|| format!("{dev} generates {session}"));
        self.drain(dev);
        (session, code)
    }

    pub(crate) fn join(&mut self, dev: Dev, code: &Code, options: impl Into<Options>) -> SessionId {
        self.try_join(dev, CodeInput::Words(code.clone()), options).expect("the code may be joined")
    }

    pub(crate) fn try_join(
        &mut self,
        dev: Dev,
        code: CodeInput,
        options: impl Into<Options>,
    ) -> Result<SessionId, handfast_proto::session::JoinError> {
        let (now, options) = (self.clocks(dev), options.into());
        let session = self.run(dev).table.join(code, options, now)?;
        self.ledger.joined((dev, self.run_number(dev), session.clone()), self.now, options.verify);
        self.note(|| format!("{dev} joins {session}"));
        self.drain(dev);
        Ok(session)
    }

    /// Withdraws a session; whether that was still possible.
    pub(crate) fn cancel(&mut self, dev: Dev, session: &SessionId) -> bool {
        let now = self.clocks(dev);
        let done = self.run(dev).table.cancel(Some(session), now).is_ok();
        if done {
            self.ledger.said_no(dev, self.run_number(dev), session);
        }
        self.note(|| format!("{dev} cancels {session}: {done}"));
        self.drain(dev);
        done
    }

    pub(crate) fn answer(&mut self, dev: Dev, session: &SessionId, allow: bool) -> bool {
        let now = self.clocks(dev);
        let Some(run) = self.devices[dev].run.as_mut() else { return false };
        let answered = run.table.answer(Some(session), allow, now).is_ok();
        if answered && !allow {
            self.ledger.said_no(dev, self.run_number(dev), session);
        }
        self.note(|| format!("{dev} answers {allow} in {session}: {answered}"));
        self.drain(dev);
        answered
    }

    /// A person says whether the screens match; whether that was asked.
    pub(crate) fn compare(&mut self, dev: Dev, session: &SessionId, matches: bool) -> bool {
        let (now, run) = (self.clocks(dev), self.run_number(dev));
        if self.devices[dev].run.is_none() {
            return false;
        }
        let asked = self.run(dev).table.statuses().iter().any(|s| s.session == *session && s.sas.is_some());
        if asked && let Some(facts) = self.ledger.sessions.get_mut(&(dev, run, session.clone())) {
            (facts.matched, facts.said_no) = (matches, !matches);
        }
        let answered = self.run(dev).table.compare(Some(session), matches, now).is_ok();
        assert_eq!(answered, asked, "a comparison is answered while it is shown");
        self.note(|| format!("{dev} compares in {session}, matches: {matches}, asked: {answered}"));
        self.drain(dev);
        answered
    }

    // Time.

    pub(super) fn schedule(&mut self, wait: Duration, ev: Ev) {
        self.schedule_at(self.now + wait, ev);
    }

    pub(super) fn schedule_at(&mut self, when: Duration, ev: Ev) {
        self.serial += 1;
        self.queue.insert((when, self.serial), ev);
    }

    /// Something a scenario does later.
    pub(crate) fn later(&mut self, wait: Duration, f: impl FnOnce(&mut World) + 'static) {
        self.schedule(wait, Ev::Do(Box::new(f)));
    }

    /// What was planned with [`World::later`] does not happen.
    pub(crate) fn forget_plans(&mut self) {
        self.queue.retain(|_, ev| !matches!(ev, Ev::Do(_)));
    }

    /// One step, if there is one before `end`.
    fn step(&mut self, end: Duration) -> bool {
        let timer = self.devices.iter().enumerate().filter_map(|(dev, d)| Some((d.due(self.clocks(dev))?, dev))).min();
        let first = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = timer.map(|(at, dev)| (at.max(self.now), dev)).filter(|(at, _)| first.is_none_or(|f| *at < f));
        let at = timer.map(|(at, _)| at).or(first);
        let Some(at) = at.filter(|at| *at <= end) else {
            self.now = end;
            return false;
        };
        self.idle_steps = if at > self.now { 0 } else { self.idle_steps + 1 };
        assert!(self.idle_steps < MAX_IDLE_STEPS, "time stands still: a timer that is past and does nothing");
        self.now = at;
        match timer {
            Some((_, dev)) => self.timer(dev),
            None => {
                if let Some((_, ev)) = self.queue.pop_first() {
                    self.happen(ev);
                }
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, wait: Duration) {
        let end = self.now + wait;
        while self.step(end) {}
    }

    /// Runs until `done`, at most for `limit`. Whether it is done.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::DiskDone { dev, run } => self.disk_done(dev, run),
            Ev::DiskTold { dev, run, write, done } => self.disk_told(dev, run, *write, done),
            Ev::Job { dev, run, owner, job, result } => self.job_done(dev, run, owner, job, result),
            Ev::DialArrives { dev, run, owner, job, goal } => self.dial_arrives(dev, run, owner, job, &goal),
            Ev::Put { dev, run, owner, job, record } => self.put_done(dev, run, owner, job, &record),
            Ev::NodeAnswers { dev, run, owner, job, topic, node } => {
                self.node_answers(dev, run, owner, job, topic, node);
            }
            Ev::Arrives { stream, side } => self.arrives(stream, side),
            Ev::LossSeen { conn, side } => self.loss_seen(conn, side),
            Ev::Idle { conn, side, stamp } => self.idle(conn, side, stamp),
            Ev::Answer { dev, run, session, allow, compare } => {
                if self.is_running(dev, run) {
                    if compare {
                        self.compare(dev, &session, allow);
                    } else {
                        self.answer(dev, &session, allow);
                    }
                }
            }
            Ev::DhtInReach { dev, run } => self.dht_in_reach(dev, run),
            Ev::Do(f) => f(self),
        }
    }

    /// What a scenario wants done to a frame that is about to arrive: what arrives in its place.
    pub(super) fn tap_frame(
        &mut self,
        conn: usize,
        from: Dev,
        to: Dev,
        way: (usize, usize),
        frame: Frame,
    ) -> Vec<Frame> {
        let nth = self.frames.values().sum();
        let count = self.frames.entry(frame.kind()).or_default();
        let nth_of_type = *count;
        *count += 1;
        let fate = match &mut self.frame_tap {
            Some(tap) => tap(&Passing { frame: &frame, nth, nth_of_type, way }),
            None => Fate::Arrives,
        };
        match fate {
            Fate::Arrives => vec![frame],
            Fate::Cut => {
                self.cut(conn);
                Vec::new()
            }
            Fate::CutBehind => {
                self.later(Duration::ZERO, move |w| w.cut(conn));
                vec![frame]
            }
            Fate::CrashSender => {
                self.crash(from);
                vec![frame]
            }
            Fate::CrashReceiver => {
                self.crash(to);
                Vec::new()
            }
            Fate::CrashReceiverAfter => {
                self.later(Duration::ZERO, move |w| w.crash(to));
                vec![frame]
            }
            Fate::Becomes(other) => vec![other],
            Fate::Instead(others) => others,
        }
    }

    // Looking.

    pub(crate) fn run(&mut self, dev: Dev) -> &mut Run {
        self.devices[dev].run.as_mut().expect("the device runs")
    }

    /// Events of a device's sessions.
    pub(crate) fn events(&self, dev: Dev) -> Vec<&Event> {
        self.devices[dev].events.iter().map(|(_, event)| event).collect()
    }

    /// How the sessions of a device ended, in order.
    pub(crate) fn endings(&self, dev: Dev) -> Vec<Result<PairingId, Cause>> {
        let ending = |event: &&Event| match event {
            Event::Paired { pairing_id, .. } => Some(Ok(*pairing_id)),
            Event::PairingFailed { cause, .. } => Some(Err(*cause)),
            _ => None,
        };
        self.events(dev).iter().filter_map(ending).collect()
    }

    /// What became of a ping: whether it came back, once that is known.
    pub(crate) fn pong(&self, dev: Dev, token: u64) -> Option<bool> {
        self.devices[dev].link_events.iter().find_map(|(_, event)| match event {
            link::Event::Pong { token: t, .. } if *t == token => Some(true),
            link::Event::PingLost { token: t, .. } if *t == token => Some(false),
            _ => None,
        })
    }

    /// Runs until a session of the device has ended, at most ten minutes; how, and how long that took.
    pub(crate) fn ending(&mut self, dev: Dev) -> (Result<PairingId, Cause>, Duration) {
        let before = self.endings(dev).len();
        let start = self.now;
        assert!(
            self.run_until(Duration::from_secs(4_000), |w| w.endings(dev).len() > before),
            "no session of device {dev} ended"
        );
        (self.endings(dev)[before], self.now - start)
    }
}

/// The relay of all who need one.
pub(crate) fn relay() -> RelayAddress {
    let ip = IpAddr::V4(Ipv4Addr::new(5, 8, 8, 8));
    RelayAddress { relay: Address { ip, port: 4000, transport: Transport::Quic }, relay_tid: Tid([250; 32]) }
}

/// The addresses of a device; `n` differs after it moved.
pub(crate) fn addresses(dev: Dev, n: u8) -> Vec<Address> {
    let ip = IpAddr::V4(Ipv4Addr::new(5, 1, dev as u8 + 1, n + 1));
    [Transport::Quic, Transport::Tcp].map(|transport| Address { ip, port: 4000, transport }).to_vec()
}
