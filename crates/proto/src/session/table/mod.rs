//! The table of sessions: which codes are ours, which we joined, whose stream is whose, and whose question is open.

mod errors;
mod machine;
mod nearby;
mod shared;

use std::time::Duration;

use crate::addr::{Address, RelayAddress};
use crate::code::{Code, CodeInput};
use crate::handshake::Mode;
use crate::handshake::initiator::P1;
use crate::id::{ConnId, JobId, PairingId, SessionId, StreamId};
use crate::keys::CodeKeys;
use crate::lan::{Purpose, Wanted, WindowId};
use crate::limits;
use crate::secret::Rng;
use crate::session::initiator::Initiator;
use crate::session::joiner::{Joiner, Target};
use crate::session::strangers::{Allowance, Strangers};
use crate::session::{
    Answer, Asking, Config, Context, Inbound, JobResult, Options, Output, Reached, Role, SessionStatus, StreamEnd,
    Vicinity, Whereabouts, earlier,
};
use crate::time::{Now, Time};
use crate::wire::frames::{Frame, FrameType};
use crate::wire::record::Topic;

pub use errors::{AnswerError, CancelError, JoinError, NearbyError};
use machine::Machine;
use shared::Shared;

/// All sessions of one device. See the module's text for how to drive it.
pub struct Table {
    shared: Shared,
    own: Whereabouts,
    sessions: Vec<Session>,
    strangers: Strangers,
    /// The same allowance for devices that were met, without a code.
    nearby_strangers: Allowance,
    /// The session whose question is open.
    open_question: Option<u64>,
    /// When a question ended last.
    question_ended: Option<Time>,
    next_key: u64,
}

struct Session {
    key: u64,
    id: SessionId,
    /// What its code is looked up by; none without a code.
    topic: Option<Topic>,
    machine: Machine,
    window: Window,
}

/// What the local network was told of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Window {
    None,
    Open,
    Over,
}

impl Table {
    /// An empty table. `rng` must be seeded from the operating system: codes are drawn from it.
    pub fn new(config: Config, rng: Rng) -> Table {
        Table {
            shared: Shared::new(config, rng),
            own: Whereabouts::default(),
            sessions: Vec::new(),
            strangers: Strangers::default(),
            nearby_strangers: Allowance::default(),
            open_question: None,
            question_ended: None,
            next_key: 0,
        }
    }

    /// Opens a session with a new code, alive for `ttl` (clamped to its bounds).
    pub fn generate(
        &mut self,
        options: impl Into<Options>,
        ttl: Duration,
        now: Now,
    ) -> Result<(SessionId, Code), JoinError> {
        self.check_room()?;
        let options = options.into();
        let code = Code::generate(&mut self.shared.rng);
        let keys = CodeKeys::derive(&code);
        let (id, topic) = (keys.session_id(), keys.topic());
        let ttl = ttl.clamp(limits::MIN_TTL, limits::MAX_TTL);
        let key = self.next_key;
        let machine = self.with_context(key, now, |cx, own| {
            let mut machine = Initiator::new(id.clone(), keys, options, ttl, cx);
            machine.handle_timeout(own, cx);
            machine
        });
        self.insert(Session {
            key,
            id: id.clone(),
            topic: Some(topic),
            machine: Machine::Initiator(Box::new(machine)),
            window: Window::None,
        });
        self.settle(now);
        Ok((id, code))
    }

    /// Joins a code.
    pub fn join(&mut self, input: CodeInput, options: impl Into<Options>, now: Now) -> Result<SessionId, JoinError> {
        let options = options.into();
        let target = target(input);
        let topic = target.keys.topic();
        for session in &self.sessions {
            match &session.machine {
                Machine::Initiator(_) if session.topic == Some(topic) => return Err(JoinError::OwnCode),
                Machine::Joiner(joiner) if session.topic == Some(topic) && joiner.is_live() => {
                    return Err(JoinError::Running(session.id.clone()));
                }
                Machine::Initiator(_) | Machine::Joiner(_) | Machine::Nearby(_) => {}
            }
        }
        self.check_room()?;
        let id = self.fresh_id(target.keys.session_id());
        let key = self.next_key;
        let machine = self.with_context(key, now, |cx, _| Joiner::new(id.clone(), target, options, cx));
        self.insert(Session {
            key,
            id: id.clone(),
            topic: Some(topic),
            machine: Machine::Joiner(Box::new(machine)),
            window: Window::None,
        });
        self.settle(now);
        Ok(id)
    }

    /// Answers the open question, of the named session or of the only one that asks. A comparison is not answered by
    /// "allow"; it can be turned down, without saying that anything differs.
    pub fn answer(&mut self, session: Option<&SessionId>, allow: bool, now: Now) -> Result<SessionId, AnswerError> {
        let (index, asking) = self.asking(session, now)?;
        let id = self.sessions[index].id.clone();
        if asking == Asking::Comparison && allow {
            return Err(AnswerError::Comparison(id));
        }
        let answer = if allow { Answer::Allow } else { Answer::Deny };
        self.on_session(index, now, |machine, _, cx| machine.answer(answer, cx));
        self.settle(now);
        Ok(id)
    }

    /// Answers the open comparison, of the named session or of the only one that asks: whether both screens show the same.
    pub fn compare(&mut self, session: Option<&SessionId>, matches: bool, now: Now) -> Result<SessionId, AnswerError> {
        let (index, asking) = self.asking(session, now)?;
        let id = self.sessions[index].id.clone();
        match asking {
            Asking::Approval => return Err(AnswerError::NoComparison(id)),
            Asking::Comparison => self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.compared(matches, cx),
                Machine::Joiner(m) => m.compared(matches, cx),
                Machine::Nearby(m) => m.compared(matches, cx),
            }),
        }
        self.settle(now);
        Ok(id)
    }

    /// Withdraws a session: the named one, or the only one that is open.
    pub fn cancel(&mut self, session: Option<&SessionId>, now: Now) -> Result<SessionId, CancelError> {
        let mut live = self
            .sessions
            .iter()
            .enumerate()
            .filter(|(_, s)| s.machine.is_live() && session.is_none_or(|id| s.id == *id));
        let (index, id) = live.next().map(|(i, s)| (i, s.id.clone())).ok_or(CancelError::Unknown)?;
        if live.next().is_some() {
            return Err(CancelError::Ambiguous);
        }
        let done = self.on_session(index, now, |machine, _, cx| machine.cancel(cx));
        self.settle(now);
        if done { Ok(id) } else { Err(CancelError::TooLate) }
    }

    /// The device stops: withdraws what can be withdrawn. What is being stored stays pending and finishes by hello.
    pub fn shutdown(&mut self, now: Now) {
        for index in 0..self.sessions.len() {
            self.on_session(index, now, |machine, _, cx| machine.cancel(cx));
        }
        self.settle(now);
    }

    /// A pairing is stored, or was: an initiator that offers its name again is refused. (Each name is one that a person
    /// agreed to, at most [`limits::MAX_PAIRINGS`] at a time.)
    pub fn hold(&mut self, pairing_id: PairingId) {
        self.shared.held.insert(pairing_id);
    }

    /// Our dialable addresses, best first; open codes are advertised anew if they changed.
    pub fn set_addresses(&mut self, addresses: Vec<Address>, now: Now) {
        if addresses == self.own.addresses {
            return;
        }
        self.own.addresses = addresses;
        self.advertise_anew(now);
    }

    /// The relays that lead to us, best first; open codes are advertised anew if they changed.
    pub fn set_relays(&mut self, relays: Vec<RelayAddress>, now: Now) {
        if relays == self.own.relays {
            return;
        }
        self.own.relays = relays;
        self.advertise_anew(now);
    }

    /// Whether somebody may need a relay to reach us: while a code of ours can be used or its joiner is being served. Who
    /// joins dials itself.
    pub fn wants_relays(&self) -> bool {
        self.sessions.iter().any(|s| matches!(&s.machine, Machine::Initiator(m) if m.is_live()))
    }

    /// The networks around us.
    pub fn set_vicinity(&mut self, vicinity: Vicinity) {
        self.shared.config.vicinity = vicinity;
    }

    /// A holder of the code of this window was heard on the local network, at these addresses.
    pub fn handle_heard(&mut self, window: WindowId, addresses: Vec<Address>, now: Now) {
        if let Some(index) = self.sessions.iter().position(|s| s.key == window.0) {
            self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.heard(addresses, cx),
                Machine::Joiner(m) => m.heard(&addresses, cx),
                Machine::Nearby(_) => {}
            });
        }
        self.settle(now);
    }

    /// Somebody connected to us. A joiner whose initiator it may be opens its stream there.
    pub fn handle_connected(&mut self, conn: ConnId, from: Inbound, now: Now) {
        let by = Reached { conn, tid: from.tid, address: from.address, path: from.path };
        for index in 0..self.sessions.len() {
            self.on_session(index, now, |machine, _, cx| {
                if let Machine::Joiner(m) = machine
                    && m.is_searching()
                {
                    m.reached(by, cx);
                }
            });
        }
        self.settle(now);
    }

    /// The DHT came within reach.
    pub fn dht_reachable(&mut self, now: Now) {
        self.advertise_anew(now);
    }

    /// Somebody opened a pairing stream to us.
    pub fn handle_inbound(&mut self, stream: StreamId, from: Inbound) {
        if let Some(oldest) = self.strangers.arrived(stream, from) {
            self.shared.out.push_back(Output::Reset(oldest));
        }
    }

    /// A frame arrived on a pairing stream.
    pub fn handle_frame(&mut self, stream: StreamId, frame: Frame, now: Now) {
        if let Some(from) = self.strangers.take(stream) {
            self.handle_first_frame(stream, from, &frame, now);
        } else if let Some(index) = self.owner_of(stream) {
            self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.handle_frame(stream, frame, cx),
                Machine::Joiner(m) => m.handle_frame(stream, frame, cx),
                Machine::Nearby(m) => m.handle_frame(stream, frame, cx),
            });
        } else {
            self.shared.out.push_back(Output::Finish(stream));
        }
        self.settle(now);
    }

    /// A pairing stream ended.
    pub fn handle_stream_end(&mut self, stream: StreamId, end: StreamEnd, now: Now) {
        self.strangers.take(stream);
        if let Some(index) = self.owner_of(stream) {
            self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.handle_stream_end(stream, end, cx),
                Machine::Joiner(m) => m.handle_stream_end(stream, end, cx),
                Machine::Nearby(m) => m.handle_stream_end(stream, end, cx),
            });
        }
        self.settle(now);
    }

    /// A job is done, or, for a look-up, brought something.
    pub fn handle_job(&mut self, id: JobId, result: JobResult, now: Now) {
        let goes_on = matches!(result, JobResult::Found(_));
        let owner = if goes_on { self.shared.owners.get(&id).copied() } else { self.shared.owners.remove(&id) };
        let index = owner.and_then(|key| self.sessions.iter().position(|s| s.key == key));
        if let Some(index) = index {
            self.on_session(index, now, |machine, own, cx| match machine {
                Machine::Initiator(m) => m.handle_job(id, result, own, cx),
                Machine::Joiner(m) => m.handle_job(id, result, cx),
                Machine::Nearby(m) => m.handle_job(id, result, own, cx),
            });
        } else if let JobResult::StreamOpened(stream) = result {
            self.shared.out.push_back(Output::Finish(stream));
        }
        self.settle(now);
    }

    /// A hello finished a pending pairing. True if a session was waiting for it and has now ended with `paired`.
    pub fn completed(&mut self, pairing_id: PairingId, now: Now) -> bool {
        let mut waited = false;
        for index in 0..self.sessions.len() {
            waited |= self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.completed(pairing_id, cx),
                Machine::Joiner(m) => m.completed(pairing_id, cx),
                Machine::Nearby(m) => m.completed(pairing_id, cx),
            });
        }
        self.settle(now);
        waited
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        for index in 0..self.sessions.len() {
            self.on_session(index, now, |machine, own, cx| match machine {
                Machine::Initiator(m) => m.handle_timeout(own, cx),
                Machine::Joiner(m) => m.handle_timeout(cx),
                Machine::Nearby(m) => m.handle_timeout(own, cx),
            });
        }
        let wiped = |s: &mut Session| s.machine.wiped_at().is_some_and(|at| now.time >= at);
        let gone: Vec<Session> = self.sessions.extract_if(.., wiped).collect();
        for session in &gone {
            self.close_window(session);
        }
        self.settle(now);
    }

    /// When [`Table::handle_timeout`] is due. Meaningful only while [`Table::poll_output`] returns nothing.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.sessions.iter().fold(None, |at, s| {
            earlier(
                at,
                match &s.machine {
                    Machine::Initiator(m) => m.poll_timeout(),
                    Machine::Joiner(m) => m.poll_timeout(),
                    Machine::Nearby(m) => m.poll_timeout(),
                },
            )
        })
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.out.pop_front()
    }

    /// All sessions, oldest first.
    pub fn statuses(&self) -> Vec<SessionStatus> {
        self.sessions
            .iter()
            .map(|s| match &s.machine {
                Machine::Initiator(m) => m.status(),
                Machine::Joiner(m) => m.status(),
                Machine::Nearby(m) => m.status(),
            })
            .collect()
    }

    /// Jobs handed out and not answered, streams not attributed yet, live sessions: for bounds and leak tests.
    pub fn load(&self) -> (usize, usize, usize) {
        let live = self.sessions.iter().filter(|s| s.machine.is_live()).count();
        (self.shared.owners.len(), self.strangers.len(), live)
    }

    fn handle_first_frame(&mut self, stream: StreamId, from: Inbound, frame: &Frame, now: Now) {
        let taken = match frame.kind() {
            FrameType::P1 => self.admit(stream, from, frame, now),
            FrameType::Resume => frame.fixed::<32>().is_ok_and(|token| self.resume(stream, from, &token, now)),
            FrameType::P2
            | FrameType::H1
            | FrameType::H2
            | FrameType::S3
            | FrameType::H3
            | FrameType::H4
            | FrameType::H5
            | FrameType::H6
            | FrameType::R1
            | FrameType::R2
            | FrameType::R3
            | FrameType::R4
            | FrameType::Ping
            | FrameType::Pong => false,
        };
        if !taken {
            // Silently: whoever has no code learns nothing. Above the allowance not even what was received is kept
            // until an orderly end.
            let heard = self.strangers.hear(now.time);
            self.shared.out.push_back(if heard { Output::Finish(stream) } else { Output::Reset(stream) });
        }
    }

    fn admit(&mut self, stream: StreamId, from: Inbound, frame: &Frame, now: Now) -> bool {
        let Ok(p1) = P1::parse(frame, from.tid, self.shared.config.tid) else {
            return false;
        };
        if p1.nid().is_some() {
            return self.admit_nearby(stream, from, p1, now);
        }
        let has_code = |m: &Initiator| m.keys().is_some_and(|keys| p1.is_for(keys));
        let fits = |s: &Session| matches!(&s.machine, Machine::Initiator(m) if has_code(m));
        let Some(index) = self.sessions.iter().position(fits) else {
            return false;
        };
        // The code of `pair nearby` may be scanned by the very device that is being compared with.
        if let Some(nearby) = self.sessions.iter().position(|s| s.machine.live_nearby().is_some()) {
            self.on_session(nearby, now, |machine, _, cx| {
                if let Machine::Nearby(m) = machine {
                    m.proved_otherwise(from.tid, cx);
                }
            });
        }
        self.on_session(index, now, |machine, _, cx| {
            if let Machine::Initiator(m) = machine {
                m.admit(stream, from, p1, cx);
            }
        });
        true
    }

    fn resume(&mut self, stream: StreamId, from: Inbound, token: &[u8; 32], now: Now) -> bool {
        (0..self.sessions.len()).any(|index| {
            self.on_session(index, now, |machine, _, cx| match machine {
                Machine::Initiator(m) => m.resume(token, stream, from, cx),
                Machine::Joiner(_) => false,
                Machine::Nearby(m) => m.resume(token, stream, from, cx),
            })
        })
    }

    fn advertise_anew(&mut self, now: Now) {
        for index in 0..self.sessions.len() {
            self.on_session(index, now, |machine, own, cx| {
                if let Machine::Initiator(m) = machine {
                    m.advertise_anew(own, cx);
                }
            });
        }
        self.settle(now);
    }

    /// Lets the next session ask if no question is open, and puts tombstones and the like on their way.
    fn settle(&mut self, now: Now) {
        // Each turn answers or opens a question; a session asks once, so this ends.
        while !self.sessions.iter().any(|s| s.machine.asking().is_some()) {
            let Some(index) = self.sessions.iter().position(|s| s.machine.wants_to_ask()) else {
                break;
            };
            self.on_session(index, now, |machine, _, cx| machine.ask(cx));
        }
        let open = self.sessions.iter().find(|s| s.machine.asking().is_some()).map(|s| s.key);
        if self.open_question.is_some() && self.open_question != open {
            self.question_ended = Some(now.time);
        }
        self.open_question = open;
        for index in 0..self.sessions.len() {
            self.on_session(index, now, |machine, own, cx| {
                if let Machine::Initiator(m) = machine {
                    m.advertise(own, cx);
                }
            });
        }
        let ended = self.sessions.iter().filter(|s| !s.machine.is_live()).count();
        for _ in limits::MAX_ENDED..ended {
            if let Some(oldest) = self.sessions.iter().position(|s| !s.machine.is_live()) {
                let session = self.sessions.remove(oldest);
                self.close_window(&session);
            }
        }
        self.settle_windows();
    }

    /// Tells the local network of every session that began or ended.
    fn settle_windows(&mut self) {
        if !self.shared.config.lan {
            return;
        }
        for session in &mut self.sessions {
            let (window, wanted) = match (&session.machine, session.window) {
                (Machine::Initiator(m), Window::None) if m.is_live() => match m.keys() {
                    Some(keys) => {
                        let purpose = Purpose::Code { role: Role::Initiator, keys: keys.lan().clone() };
                        (Window::Open, Wanted::Open(purpose))
                    }
                    None => continue,
                },
                (Machine::Initiator(m), Window::Open) if !m.is_live() => (Window::Over, Wanted::Over),
                (Machine::Joiner(m), Window::None) => match m.lan_keys() {
                    Some(keys) => {
                        (Window::Open, Wanted::Open(Purpose::Code { role: Role::Joiner, keys: keys.clone() }))
                    }
                    None => continue,
                },
                (Machine::Joiner(m), Window::Open) if !m.is_searching() => (Window::None, Wanted::Closed),
                (Machine::Nearby(m), Window::None) if m.is_live() => {
                    (Window::Open, Wanted::Open(Purpose::Nearby { name: self.shared.config.name.clone() }))
                }
                (Machine::Nearby(m), Window::Open) if !m.is_live() => (Window::None, Wanted::Closed),
                (Machine::Initiator(_) | Machine::Joiner(_) | Machine::Nearby(_), _) => continue,
            };
            session.window = window;
            self.shared.out.push_back(Output::Window(WindowId(session.key), wanted));
        }
    }

    fn close_window(&mut self, session: &Session) {
        if session.window != Window::None {
            self.shared.out.push_back(Output::Window(WindowId(session.key), Wanted::Closed));
        }
    }

    /// The session whose question is meant, and what it asks.
    fn asking(&self, session: Option<&SessionId>, now: Now) -> Result<(usize, Asking), AnswerError> {
        let named = |s: &Session| session.is_none_or(|id| s.id == *id);
        if session.is_some() && !self.sessions.iter().any(named) {
            return Err(AnswerError::Unknown);
        }
        let mut asking = self.sessions.iter().enumerate().filter(|(_, s)| named(s));
        let asking = asking.find_map(|(index, s)| Some((index, s.machine.asking()?)));
        let (index, asking) = asking.ok_or_else(|| AnswerError::NoQuestion(session.cloned()))?;
        if session.is_none() && self.question_ended.is_some_and(|at| now.time < at + limits::QUESTION_SETTLES) {
            return Err(AnswerError::JustChanged(self.sessions[index].id.clone()));
        }
        Ok((index, asking))
    }

    fn check_room(&self) -> Result<(), JoinError> {
        let live = self.sessions.iter().filter(|s| s.machine.is_live()).count();
        if live < limits::MAX_SESSIONS { Ok(()) } else { Err(JoinError::TooMany) }
    }

    /// The code's session id, with a counter if this device has used it before.
    fn fresh_id(&self, base: SessionId) -> SessionId {
        let taken = |id: &SessionId| self.sessions.iter().any(|s| s.id == *id);
        if !taken(&base) {
            return base;
        }
        (2u32..).map(|n| SessionId(format!("{base}-{n}"))).find(|id| !taken(id)).unwrap_or(base)
    }

    fn insert(&mut self, session: Session) {
        self.next_key += 1;
        self.sessions.push(session);
    }

    fn owner_of(&self, stream: StreamId) -> Option<usize> {
        self.sessions.iter().position(|s| match &s.machine {
            Machine::Initiator(m) => m.owns_stream(stream),
            Machine::Joiner(m) => m.owns_stream(stream),
            Machine::Nearby(m) => m.owns_stream(stream),
        })
    }

    fn on_session<T>(
        &mut self,
        index: usize,
        now: Now,
        f: impl FnOnce(&mut Machine, &Whereabouts, &mut Context<'_>) -> T,
    ) -> T {
        let others_compare = self.sessions.iter().enumerate().any(|(n, s)| n != index && s.machine.is_comparing());
        let session = &mut self.sessions[index];
        let mut cx = self.shared.context(session.key, others_compare, now);
        f(&mut session.machine, &self.own, &mut cx)
    }

    fn with_context<T>(&mut self, owner: u64, now: Now, f: impl FnOnce(&mut Context<'_>, &Whereabouts) -> T) -> T {
        let others_compare = self.sessions.iter().any(|s| s.machine.is_comparing());
        f(&mut self.shared.context(owner, others_compare, now), &self.own)
    }
}

fn target(input: CodeInput) -> Target {
    match input {
        CodeInput::Words(code) => {
            Target { keys: CodeKeys::derive(&code), mode: Mode::Words, pin: None, hints: Vec::new() }
        }
        CodeInput::Qr(qr) => {
            Target { keys: CodeKeys::derive(&qr.code), mode: Mode::Qr, pin: Some(qr.tid), hints: qr.addresses() }
        }
    }
}
