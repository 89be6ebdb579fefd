//! Asking a device of the list of `pair nearby` (mode 3): to its observed address over TCP, up to the comparison.
//!
//! Nothing is known of the device but where it was heard. What answers there is only believed once both people have
//! compared, or a QR of it was scanned.

use crate::addr::{Address, Path};
use crate::cause::Cause;
use crate::handshake::Refusal;
use crate::handshake::joiner::{self as hs, H2, SentH1, SentP1};
use crate::id::{JobId, StreamId, Tid};
use crate::limits;
use crate::session::joiner::search::{Found, Proof};
use crate::session::{
    Config, Context, DialFailure, Event, Job, Reached, SessionId, StreamEnd, Striker, best_first, earlier,
};
use crate::time::Time;
use crate::wire::frames::Frame;

/// The search for one device.
pub(super) struct Ask {
    whom: Striker,
    addresses: Vec<Address>,
    tid: Option<Tid>,
    state: State,
    started: Time,
    dials: u32,
    unproven: u32,
    dial_failure: Option<DialFailure>,
    busy_since: Option<Time>,
    announced: bool,
}

/// What is being tried.
enum State {
    Waiting { until: Time },
    Dialling { job: JobId },
    Opening { job: JobId, address: Address, path: Path },
    AwaitP2 { stream: StreamId, address: Address, path: Path, hs: Box<SentP1>, until: Time },
    AwaitH2 { stream: StreamId, address: Address, path: Path, hs: Box<SentH1>, until: Time },
    Dead(Cause),
}

impl Ask {
    pub(super) fn new(whom: Striker, addresses: Vec<Address>, now: Time) -> Ask {
        Ask {
            whom,
            addresses,
            tid: None,
            state: State::Waiting { until: now },
            started: now,
            dials: 0,
            unproven: 0,
            dial_failure: None,
            busy_since: None,
            announced: false,
        }
    }

    /// The device says more of where it is. It may have been chosen before it knew its own ports.
    pub(super) fn learned(&mut self, addresses: Vec<Address>, now: Time) {
        let was_nowhere = self.addresses.is_empty();
        self.addresses = addresses;
        if let (true, State::Waiting { until }) = (was_nowhere, &mut self.state) {
            *until = now;
        }
    }

    /// The transport key that answered, once one did.
    pub(super) fn tid(&self) -> Option<Tid> {
        self.tid
    }

    pub(super) fn owns_stream(&self, id: StreamId) -> bool {
        self.stream() == Some(id)
    }

    fn stream(&self) -> Option<StreamId> {
        match &self.state {
            State::AwaitP2 { stream, .. } | State::AwaitH2 { stream, .. } => Some(*stream),
            State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } | State::Dead(_) => None,
        }
    }

    /// Dials if that is due, and ends what has had its time.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        match &self.state {
            State::Waiting { until } if *until <= now && self.addresses.is_empty() => {
                self.state = State::Waiting { until: now + limits::REDIAL_MAX };
            }
            State::Waiting { until } if *until <= now => {
                self.dials += 1;
                let job = cx.job(Job::Dial { tid: self.tid, addresses: self.addresses.clone(), relays: Vec::new() });
                self.state = State::Dialling { job };
            }
            State::AwaitP2 { stream, until, .. } | State::AwaitH2 { stream, until, .. } if *until <= now => {
                cx.reset(*stream);
                self.state = State::Dead(Cause::TimedOut);
            }
            State::Waiting { .. }
            | State::Dialling { .. }
            | State::Opening { .. }
            | State::AwaitP2 { .. }
            | State::AwaitH2 { .. }
            | State::Dead(_) => {}
        }
    }

    pub(super) fn dialled(&mut self, id: JobId, reached: Reached, session: &SessionId, cx: &mut Context<'_>) {
        let Reached { conn, tid, address, path } = reached;
        if !matches!(self.state, State::Dialling { job } if job == id) {
            return;
        }
        self.tid = Some(tid);
        let job = cx.job(Job::OpenStream(conn));
        self.state = State::Opening { job, address, path };
        if !self.announced {
            self.announced = true;
            cx.event(Event::Connected { session: session.clone(), path, address });
        }
    }

    pub(super) fn dial_failed(&mut self, id: JobId, failure: DialFailure, now: Time) {
        if matches!(self.state, State::Dialling { job } if job == id) {
            self.dial_failure = Some(failure);
            let pause = limits::REDIAL_MIN * 2u32.saturating_pow(self.dials.saturating_sub(1).min(8));
            self.state = State::Waiting { until: now + pause.min(limits::REDIAL_MAX) };
        }
    }

    pub(super) fn stream_opened(&mut self, id: JobId, stream: StreamId, cx: &mut Context<'_>) {
        match (&self.state, self.tid) {
            (State::Opening { job, address, path }, Some(tid)) if *job == id => {
                let (address, path) = (*address, *path);
                let (hs, p1) = hs::start_nearby(self.whom.nid, cx.config.tid, tid, cx.rng);
                cx.send(stream, vec![p1]);
                let until = cx.now.time + limits::HANDSHAKE_STEP;
                self.state = State::AwaitP2 { stream, address, path, hs: Box::new(hs), until };
            }
            _ => cx.finish(stream),
        }
    }

    pub(super) fn stream_failed(&mut self, id: JobId, now: Time) {
        if matches!(&self.state, State::Opening { job, .. } if *job == id) {
            self.unproven(StreamEnd::Lost, now);
        }
    }

    pub(super) fn stream_ended(&mut self, id: StreamId, end: StreamEnd, now: Time) {
        if self.owns_stream(id) {
            self.unproven(end, now);
        }
    }

    /// Closed before a valid H2. It may have been asking us at the same moment, so it is tried again.
    fn unproven(&mut self, end: StreamEnd, now: Time) {
        self.unproven += 1;
        // Whoever is not ready to pair (any more) closes in answer to P1, before there is anything to prove.
        let is_ready = matches!(self.state, State::AwaitH2 { .. });
        self.state = if self.unproven < limits::UNPROVEN_TRIES {
            State::Waiting { until: now + limits::REDIAL_MIN * self.unproven }
        } else {
            State::Dead(match end {
                StreamEnd::Finished if is_ready => Cause::AuthenticationFailed,
                StreamEnd::Finished => Cause::Unreachable,
                StreamEnd::Lost => Cause::ConnectionLost,
            })
        };
    }

    /// Takes P2 or H2.
    pub(super) fn handle_frame(&mut self, id: StreamId, frame: &Frame, cx: &mut Context<'_>) -> Option<Proof> {
        if !self.owns_stream(id) {
            return None;
        }
        let now = cx.now.time;
        match std::mem::replace(&mut self.state, State::Dead(Cause::AuthenticationFailed)) {
            State::AwaitP2 { stream, address, path, hs, .. } => match hs.handle(frame, cx.rng) {
                Ok((hs, h1)) => {
                    cx.send(stream, vec![h1]);
                    let until = now + limits::HANDSHAKE_STEP;
                    self.state = State::AwaitH2 { stream, address, path, hs: Box::new(hs), until };
                    None
                }
                Err(_) => {
                    cx.finish(stream);
                    None
                }
            },
            State::AwaitH2 { stream, address, path, hs, .. } => match hs.handle(frame) {
                Ok(H2::Compare(comparing, s3)) => {
                    let addresses = best_first(path.own_address(address), &self.addresses);
                    let found = Found { tid: self.tid?, addresses, relays: Vec::new(), path, via: None };
                    Some(Proof::Compare(comparing, s3, found))
                }
                Ok(H2::Refused(Refusal::Busy)) => {
                    cx.finish(stream);
                    self.busy_since.get_or_insert(now);
                    self.state = State::Waiting { until: now + limits::BUSY_RETRY };
                    None
                }
                // Without a comparison there is nothing to trust, and a device without a code has none that could be over.
                Ok(H2::GoOn(_) | H2::Refused(_)) | Err(_) => {
                    cx.finish(stream);
                    None
                }
            },
            other @ (State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } | State::Dead(_)) => {
                self.state = other;
                None
            }
        }
    }

    /// Why it is over, if it is.
    pub(super) fn verdict(&self, now: Time, config: &Config) -> Option<Cause> {
        match &self.state {
            State::Dead(cause) => return Some(*cause),
            // Whoever answers has its own time.
            State::AwaitP2 { .. } | State::AwaitH2 { .. } => return None,
            State::Waiting { .. } | State::Dialling { .. } | State::Opening { .. } => {}
        }
        match self.busy_since {
            Some(since) => (now.since(since) >= limits::BUSY).then_some(Cause::TimedOut),
            None if now.since(self.started) < limits::CONNECT => None,
            None => Some(match self.dial_failure {
                Some(failure) => config.vicinity.explain(&self.addresses, failure),
                None => Cause::Unreachable,
            }),
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let limit = match self.busy_since {
            Some(since) => since + limits::BUSY,
            None => self.started + limits::CONNECT,
        };
        match &self.state {
            State::AwaitP2 { until, .. } | State::AwaitH2 { until, .. } => Some(*until),
            State::Waiting { until } => earlier(Some(*until), Some(limit)),
            State::Dialling { .. } | State::Opening { .. } => Some(limit),
            State::Dead(_) => Some(self.started),
        }
    }

    /// Ends whatever it has begun.
    pub(super) fn close(&self, cx: &mut Context<'_>) {
        match &self.state {
            State::Dialling { job } | State::Opening { job, .. } => cx.cancel(*job),
            State::AwaitP2 { stream, .. } | State::AwaitH2 { stream, .. } => cx.finish(*stream),
            State::Waiting { .. } | State::Dead(_) => {}
        }
    }
}
