//! One code of ours, from the moment it is shown until nobody can have it any more; or, without a code, a device that
//! waits to be selected in somebody's list of `pair nearby` ([`Invitation`]).
//!
//! Its life has three phases: open (waiting for somebody who proves the code), serving (one joiner is past H1), over
//! (only told to who still proves the code). What the joiner being served has reached is a [`Step`]; what people say is
//! in `answers.rs`.
//!
//! With a comparison, the joiner may be faster than our person: its H3 is then held, unread, until ours has confirmed.

mod answers;
mod commit;
mod invitation;
mod serving;

use std::time::Duration;

use crate::addr::{Address, Path, Subscriber};
use crate::cause::Cause;
use crate::handshake::Refusal;
use crate::handshake::initiator::{Next, P1};
use crate::id::{JobId, PairingId, SessionId, StreamId, Tid};
use crate::keys::CodeKeys;
use crate::limits;
use crate::session::advertiser::Advertiser;
use crate::session::reverse::Reverse;
use crate::session::vicinity::NetworkCheck;
use crate::session::{
    Context, Event, Inbound, JobResult, Options, Outcome, Role, SessionStatus, StreamEnd, Striker, Whereabouts, earlier,
};
use crate::time::{Time, UnixTime};
use crate::wire::advert::AdvertState;
use crate::wire::frames::{Frame, FrameType};

use invitation::{CodeInvitation, Invitation, Knock};
use serving::{Attempt, Step};

/// The machine of one invitation.
pub(super) struct Initiator {
    id: SessionId,
    invitation: Invitation,
    options: Options,
    phase: Phase,
    half_open: Vec<HalfOpen>,
    reverse: Reverse,
    network: NetworkCheck,
}

/// Where the code stands.
enum Phase {
    Open,
    Serving(Box<Attempt>, Step),
    Over(Box<Over>),
}

/// The end, and the handshake that is kept for a joiner who has not heard of it.
struct Over {
    outcome: Outcome,
    refusal: Refusal,
    since: Time,
    last: Option<Attempt>,
}

/// A stream whose P1 fits; H1 is due.
struct HalfOpen {
    stream: StreamId,
    from: Inbound,
    /// Which device of the list it is, without a code.
    who: Option<Striker>,
    knock: Knock,
    until: Time,
}

/// A joiner that is past H1.
pub(super) struct Served {
    pub(super) tid: Tid,
    /// Which device of the list it is, without a code.
    pub(super) who: Option<Striker>,
    /// Our person has been asked about it.
    pub(super) shown: bool,
}

impl Initiator {
    /// A new code, open for `ttl`.
    pub(super) fn new(id: SessionId, keys: CodeKeys, options: Options, ttl: Duration, cx: &mut Context<'_>) -> Self {
        if !cx.config.dht && cx.config.alone == Cause::NoBootstrap {
            cx.event(Event::TroubleNoticed { session: id.clone(), cause: Cause::NoBootstrap });
        }
        let invitation = Invitation::Code(Box::new(CodeInvitation {
            keys,
            ends: cx.now.time + ttl,
            not_after: UnixTime(cx.now.unix.0.saturating_add(ttl.as_secs())),
            failed_proofs: 0,
            advertiser: Advertiser::new(cx.now.time, cx.config.dht),
        }));
        Initiator::of(id, invitation, options, cx)
    }

    /// Waits for a device nearby that selects this one.
    pub(super) fn nearby(id: SessionId, options: Options, cx: &Context<'_>) -> Self {
        Initiator::of(id, Invitation::Nearby, options, cx)
    }

    fn of(id: SessionId, invitation: Invitation, options: Options, cx: &Context<'_>) -> Self {
        let (phase, half_open, reverse) = (Phase::Open, Vec::new(), Reverse::default());
        let network = NetworkCheck::new(cx.config.lan, cx.now.time);
        Initiator { id, invitation, options, phase, half_open, reverse, network }
    }

    /// The keys of its code, if it has one.
    pub(super) fn keys(&self) -> Option<&CodeKeys> {
        self.invitation.code().map(|code| &code.keys)
    }

    pub(super) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Over(_))
    }

    /// When the keys may be wiped, for a code that is over.
    pub(super) fn wiped_at(&self) -> Option<Time> {
        match &self.phase {
            Phase::Over(over) => Some(over.since + limits::KEEP_ENDED),
            Phase::Open | Phase::Serving(..) => None,
        }
    }

    pub(super) fn status(&self) -> SessionStatus {
        let mut status = SessionStatus {
            session: self.id.clone(),
            role: Role::Initiator,
            state: "open",
            expires_at: self.invitation.code().filter(|_| self.is_live()).map(|code| code.not_after),
            device: None,
            path: None,
            sas: None,
            cause: None,
        };
        match &self.phase {
            Phase::Open => {}
            Phase::Serving(attempt, step) => {
                status.state = step.name();
                status.path = Some(attempt.from.path);
                status.device = attempt.device.clone();
                if let Step::Compare { hs, asked: true, .. } = step {
                    status.sas = Some(hs.sas().clone());
                }
            }
            Phase::Over(over) => {
                status.device = over.last.as_ref().and_then(|a| a.device.clone());
                status.path = over.last.as_ref().map(|a| a.from.path);
                match over.outcome {
                    Outcome::Paired => status.state = "paired",
                    Outcome::Failed(cause) => {
                        status.state = "failed";
                        status.cause = Some(cause);
                    }
                }
            }
        }
        status
    }

    /// Lets this P1, which has our code, wait for its H1.
    pub(super) fn admit(&mut self, stream: StreamId, from: Inbound, p1: P1, cx: &mut Context<'_>) {
        if let Some(address) = from.own_address() {
            self.reverse.arrived(address.ip, cx);
        }
        self.wait_for_h1(stream, from, None, Knock::Code(p1), cx);
    }

    /// Answers this P1 of a device nearby, which has nothing to prove yet: there are fewer of one subscriber. False if it
    /// names no device.
    pub(super) fn admit_nearby(
        &mut self,
        stream: StreamId,
        from: Inbound,
        who: Striker,
        p1: P1,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some((hs, p2)) = p1.answer(cx.rng) else { return false };
        let subscriber = Subscriber::of(from.address.ip);
        let same = |h: &HalfOpen| Subscriber::of(h.from.address.ip) == subscriber;
        if self.half_open.iter().filter(|h| same(h)).count() >= limits::MAX_FRESH_PER_SUBSCRIBER
            && let Some(oldest) = self.half_open.iter().position(same)
        {
            cx.finish(self.half_open.remove(oldest).stream);
        }
        cx.send(stream, vec![p2]);
        self.wait_for_h1(stream, from, Some(who), Knock::Nearby(hs), cx);
        true
    }

    fn wait_for_h1(
        &mut self,
        stream: StreamId,
        from: Inbound,
        who: Option<Striker>,
        knock: Knock,
        cx: &mut Context<'_>,
    ) {
        if self.half_open.len() >= limits::MAX_HALF_OPEN {
            let oldest = self.half_open.remove(0);
            cx.finish(oldest.stream);
        }
        self.half_open.push(HalfOpen { stream, from, who, knock, until: cx.now.time + limits::HANDSHAKE_STEP });
    }

    /// Who waits for its H2 on this stream.
    pub(super) fn half_open(&self, stream: StreamId) -> Option<Inbound> {
        self.half_open.iter().find(|h| h.stream == stream).map(|h| h.from)
    }

    /// The joiner being served, if one is.
    pub(super) fn serves(&self) -> Option<Served> {
        match &self.phase {
            Phase::Serving(attempt, step) => {
                let shown = !matches!(step, Step::AwaitS3 { .. } | Step::AwaitH3 { .. });
                Some(Served { tid: attempt.from.tid, who: attempt.who, shown })
            }
            Phase::Open | Phase::Over(_) => None,
        }
    }

    /// Drops every joiner, of whom nothing is stored yet. What is being stored is left alone; false then.
    pub(super) fn drop_joiners(&mut self, cx: &mut Context<'_>) -> bool {
        if let Phase::Serving(_, Step::StoringPending { .. } | Step::AwaitH5 { .. } | Step::StoringPaired { .. }) =
            &self.phase
        {
            return false;
        }
        for half in self.half_open.drain(..) {
            cx.finish(half.stream);
        }
        self.close_attempt(cx);
        true
    }

    /// Whether `stream` belongs to this code.
    pub(super) fn owns_stream(&self, stream: StreamId) -> bool {
        self.half_open.iter().any(|h| h.stream == stream) || self.attempt().is_some_and(|a| a.stream == Some(stream))
    }

    /// Takes a frame of one of its streams.
    pub(super) fn handle_frame(&mut self, stream: StreamId, frame: Frame, cx: &mut Context<'_>) {
        if let Some(index) = self.half_open.iter().position(|h| h.stream == stream) {
            let half = self.half_open.remove(index);
            self.handle_h1(half, &frame, cx);
        } else {
            self.handle_attempt_frame(frame, cx);
        }
    }

    /// A stream of this code ended.
    pub(super) fn handle_stream_end(&mut self, stream: StreamId, end: StreamEnd, cx: &mut Context<'_>) {
        self.half_open.retain(|h| h.stream != stream);
        let now = cx.now.time;
        let Some(attempt) = self.attempt_mut().filter(|a| a.stream == Some(stream)) else {
            return;
        };
        attempt.stream = None;
        attempt.lost = Some(now);
        if end == StreamEnd::Lost {
            return;
        }
        // The joiner wiped its side: nothing can be resumed.
        let Phase::Serving(_, step) = &self.phase else { return };
        match step {
            Step::AwaitS3 { .. } | Step::AwaitH3 { .. } => self.forsaken(cx),
            // While one of the two compares, that says that the screens differ, unless the time for an answer is over.
            Step::Compare { until, .. } if now + limits::ANSWER_WAY < *until => {
                self.end(Outcome::Failed(Cause::AuthenticationFailed), cx);
            }
            Step::Confirmed { until, .. } if now + limits::ANSWER_WAY * 2 < *until => {
                self.end(Outcome::Failed(Cause::AuthenticationFailed), cx);
            }
            Step::Compare { .. } | Step::Confirmed { .. } => self.end(Outcome::Failed(Cause::TimedOut), cx),
            Step::Question { .. } => self.end(Outcome::Failed(Cause::Cancelled), cx),
            // Once the pairing is pending, the joiner may have stored it: it can come back, on a resumed stream or by hello.
            Step::AwaitH5 { .. } | Step::StoringPending { .. } | Step::StoringPaired { .. } => {}
        }
    }

    /// Continues the handshake named by `token` on a new stream of the same joiner.
    pub(super) fn resume(&mut self, token: &[u8; 32], stream: StreamId, from: Inbound, cx: &mut Context<'_>) -> bool {
        let Some(attempt) = self.attempt_mut() else {
            return false;
        };
        if attempt.from.tid != from.tid || !crate::secret::ct_eq(&attempt.token, token) {
            return false;
        }
        if let Some(old) = attempt.stream.replace(stream) {
            cx.reset(old);
        }
        attempt.lost = None;
        attempt.from = from;
        proven(stream, &from, cx);
        if let Phase::Serving(_, Step::AwaitS3 { until, .. } | Step::AwaitH3 { until, .. }) = &mut self.phase {
            *until = cx.now.time + limits::HANDSHAKE_STEP;
        }
        true
    }

    /// A job of this code is done.
    pub(super) fn handle_job(&mut self, id: JobId, result: JobResult, own: &Whereabouts, cx: &mut Context<'_>) {
        match result {
            JobResult::Published { stored_on } => {
                if self.invitation.published(id, stored_on, cx.now.time) && self.is_live() {
                    cx.event(Event::CodeAdvertised { session: self.id.clone(), nodes: stored_on });
                }
            }
            JobResult::Stored => self.stored(id, cx),
            JobResult::StoreFailed => self.store_failed(id, cx),
            JobResult::Dialled(_) | JobResult::DialFailed(_) => self.reverse.done(id, cx.now.time),
            JobResult::Found(_) | JobResult::LookedUp { .. } | JobResult::StreamOpened(_) | JobResult::StreamFailed => {
            }
        }
        self.advertise(own, cx);
    }

    /// A joiner is on the local network.
    pub(super) fn heard(&mut self, addresses: Vec<Address>, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Open) && self.half_open.is_empty() {
            self.reverse.heard(addresses, cx.now.time);
        }
    }

    /// A hello between the two finished the pairing.
    pub(super) fn completed(&mut self, pairing_id: PairingId, cx: &mut Context<'_>) -> bool {
        let ours = match &self.phase {
            Phase::Serving(_, Step::AwaitH5 { pairing_id: id, .. }) => *id == pairing_id,
            // While H5 is being stored, the disk's answer ends the session.
            Phase::Serving(..) | Phase::Open | Phase::Over(_) => false,
        };
        if ours && let Some((attempt, _)) = self.take_attempt() {
            self.paired(*attempt, pairing_id, cx);
        }
        ours
    }

    /// What leads to us changed, or the DHT came within reach.
    pub(super) fn advertise_anew(&mut self, own: &Whereabouts, cx: &mut Context<'_>) {
        if self.is_live() {
            self.invitation.advertise_anew(cx.now.time);
            self.advertise(own, cx);
        }
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, own: &Whereabouts, cx: &mut Context<'_>) {
        let now = cx.now.time;
        for half in self.half_open.extract_if(.., |h| h.until <= now) {
            cx.finish(half.stream);
        }
        self.attempt_timeout(cx);
        if matches!(self.phase, Phase::Open) {
            self.reverse.run(cx);
        }
        if self.network.is_missing(now, cx.config) && matches!(self.phase, Phase::Open) {
            cx.event(Event::TroubleNoticed { session: self.id.clone(), cause: Cause::NoNetwork });
        }
        if self.invitation.is_unheard(now) {
            cx.event(Event::TroubleNoticed { session: self.id.clone(), cause: Cause::NoBootstrap });
        }
        if self.invitation.has_expired(now) && matches!(self.phase, Phase::Open) {
            self.end(Outcome::Failed(Cause::CodeExpired), cx);
        }
        self.advertise(own, cx);
    }

    /// When [`Initiator::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let mut at = self.half_open.iter().map(|h| h.until).min();
        match &self.phase {
            Phase::Open => {
                let waits = [self.invitation.ends(), self.reverse.deadline(), self.network.due()];
                at = waits.into_iter().fold(at, earlier);
            }
            Phase::Serving(attempt, step) => at = earlier(at, attempt.deadline(step)),
            Phase::Over(over) => {
                at = earlier(at, over.last.as_ref().and_then(|a| a.lost).map(|lost| lost + limits::RESUME));
                at = earlier(at, Some(over.since + limits::KEEP_ENDED));
            }
        }
        earlier(at, self.invitation.next_advert())
    }

    // What follows changes phases; everything above only routes.

    fn handle_h1(&mut self, half: HalfOpen, frame: &Frame, cx: &mut Context<'_>) {
        let HalfOpen { stream, from, who, knock, .. } = half;
        if frame.kind() != FrameType::H1 {
            cx.finish(stream);
            return;
        }
        let Ok(received) = knock.handle(&self.invitation, frame, cx.rng) else {
            cx.finish(stream);
            self.count_failed_proof(cx);
            return;
        };
        let is_over = self.invitation.has_expired(cx.now.time);
        let is_nearby = self.invitation.is_nearby();
        let makes_room = match &self.phase {
            // Without a code anybody can begin, and whoever does not go on must not keep others out.
            Phase::Serving(attempt, step) => {
                attempt.may_be_replaced_by(from.tid, step) || is_nearby && attempt.dawdles(step, cx.now.time)
            }
            Phase::Open | Phase::Over(_) => false,
        };
        if makes_room && !is_over {
            self.forsaken(cx);
        }
        let refusal = match &self.phase {
            // The life has ended, perhaps while somebody past H2 is still being served: nobody new is let in.
            Phase::Open | Phase::Serving(..) if is_over => Some(Refusal::Expired),
            // One comparison at a time on a screen: two could be taken for each other.
            Phase::Open if cx.others_compare && (self.options.verify || received.wants_comparison()) => {
                Some(Refusal::Busy)
            }
            Phase::Open => None,
            Phase::Over(over) => Some(over.refusal),
            Phase::Serving(..) => Some(Refusal::Busy),
        };
        if let Some(refusal) = refusal {
            let h2 = received.refuse(refusal, cx.rng);
            cx.send(stream, vec![h2]);
            cx.finish(stream);
            return;
        }
        let (next, h2) = received.go_on(self.options.verify, cx.rng);
        cx.send(stream, vec![h2]);
        proven(stream, &from, cx);
        if !is_nearby {
            self.connected(&from, cx);
        }
        let until = cx.now.time + limits::HANDSHAKE_STEP;
        let (token, step) = match next {
            Next::Identity(hs) => (hs.resume_token(), Step::AwaitH3 { hs, until }),
            Next::Comparison(hs) => (hs.resume_token(), Step::AwaitS3 { hs, until }),
        };
        let attempt = Attempt {
            stream: Some(stream),
            lost: None,
            from,
            who,
            token,
            started: cx.now.time,
            device: None,
            s3: None,
            answered: None,
        };
        self.phase = Phase::Serving(Box::new(attempt), step);
    }

    /// Somebody who proved the code is there, or who has begun a comparison; without a code anybody can do less.
    fn connected(&self, from: &Inbound, cx: &mut Context<'_>) {
        cx.event(Event::Connected { session: self.id.clone(), path: from.path, address: from.address });
    }

    fn paired(&mut self, attempt: Attempt, pairing_id: PairingId, cx: &mut Context<'_>) {
        if let Some(device) = attempt.device.clone() {
            let elapsed = cx.now.time.since(attempt.started);
            let Inbound { tid, path, .. } = attempt.from;
            cx.event(Event::Paired { session: self.id.clone(), pairing_id, device, tid, path, elapsed });
        }
        self.over(Some(attempt), Outcome::Paired, cx);
    }

    fn count_failed_proof(&mut self, cx: &mut Context<'_>) {
        if !self.is_live() {
            return;
        }
        if self.invitation.count_failed_proof() >= limits::MAX_FAILED_PROOFS && self.may_burn() {
            self.close_attempt(cx);
            self.end(Outcome::Failed(Cause::TooManyAttempts), cx);
        }
    }

    /// The joiner being served does not go on.
    pub(super) fn forsaken(&mut self, cx: &mut Context<'_>) {
        match self.take_attempt() {
            Some((attempt, Step::AwaitS3 { .. })) => self.spoiled(&attempt, cx),
            Some((attempt, _)) => attempt.close(cx),
            None => {}
        }
    }

    /// This joiner was told to compare, and did not open what it had committed itself to. It knows what our screen would
    /// have shown: one that could begin as often as it likes would take the run whose emoji suit it. So that counts, like
    /// a wrong proof.
    fn spoiled(&mut self, attempt: &Attempt, cx: &mut Context<'_>) {
        attempt.close(cx);
        match attempt.who {
            Some(who) => cx.strikes.strike(who, cx.now.time),
            None => self.count_failed_proof(cx),
        }
    }

    /// A code burns until its question was answered; then it is used, and the commit must not be torn apart.
    fn may_burn(&self) -> bool {
        match &self.phase {
            Phase::Open
            | Phase::Serving(
                _,
                Step::AwaitS3 { .. } | Step::Compare { .. } | Step::AwaitH3 { .. } | Step::Question { .. },
            ) => true,
            Phase::Over(_) | Phase::Serving(..) => false,
        }
    }

    /// Drops the joiner being served, whose handshake has touched nothing durable, and opens the code again.
    fn close_attempt(&mut self, cx: &mut Context<'_>) {
        if let Some((attempt, _)) = self.take_attempt() {
            attempt.close(cx);
        }
    }

    /// The joiner goes on where we have ended: without a word it would wait for an answer that nobody can give.
    fn close_ended(&mut self, cx: &mut Context<'_>) {
        if let Phase::Over(over) = &mut self.phase
            && let Some(attempt) = over.last.take()
        {
            attempt.close(cx);
        }
    }

    /// Ends the session together with the joiner being served, to whom a closed stream says enough.
    fn end_attempt(&mut self, cause: Cause, cx: &mut Context<'_>) {
        if let Some((attempt, _)) = self.take_attempt() {
            self.end_with(*attempt, Outcome::Failed(cause), cx);
        }
    }

    /// Ends the session and the handshake that led there.
    fn end_with(&mut self, mut attempt: Attempt, outcome: Outcome, cx: &mut Context<'_>) {
        attempt.close(cx);
        attempt.stream = None;
        self.over(Some(attempt), outcome, cx);
    }

    /// Ends the session.
    fn end(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let attempt = self.take_attempt().map(|(attempt, _)| *attempt);
        self.over(attempt, outcome, cx);
    }

    fn over(&mut self, attempt: Option<Attempt>, outcome: Outcome, cx: &mut Context<'_>) {
        if let Outcome::Failed(cause) = outcome {
            cx.event(Event::PairingFailed { session: self.id.clone(), cause });
        }
        let now = cx.now.time;
        // Before it said who it is there was nothing but the comparison.
        if let (Outcome::Failed(Cause::AuthenticationFailed | Cause::ConnectionLost), Some(attempt)) =
            (outcome, &attempt)
            && let (Some(who), None) = (attempt.who, &attempt.device)
        {
            cx.strikes.strike(who, now);
        }
        // An answer that may not have arrived is kept as long as if the connection had been lost just now.
        let last = attempt.filter(|a| a.answered.is_some()).map(|mut attempt| {
            attempt.lost.get_or_insert(now);
            attempt
        });
        self.reverse.end(cx);
        let (refusal, state) = ending(outcome);
        self.phase = Phase::Over(Box::new(Over { outcome, refusal, since: now, last }));
        self.invitation.bury(state, now);
    }

    /// Publishes the record, or buries it, if that is due.
    pub(super) fn advertise(&mut self, own: &Whereabouts, cx: &mut Context<'_>) {
        self.invitation.advertise(own, cx);
    }

    fn attempt(&self) -> Option<&Attempt> {
        match &self.phase {
            Phase::Open => None,
            Phase::Serving(attempt, _) => Some(attempt),
            Phase::Over(over) => over.last.as_ref(),
        }
    }

    fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match &mut self.phase {
            Phase::Open => None,
            Phase::Serving(attempt, _) => Some(attempt),
            Phase::Over(over) => over.last.as_mut(),
        }
    }

    /// Takes the joiner being served out of its phase, which is open until somebody puts another one back.
    fn take_attempt(&mut self) -> Option<(Box<Attempt>, Step)> {
        match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Serving(attempt, step) => Some((attempt, step)),
            other @ (Phase::Open | Phase::Over(_)) => {
                self.phase = other;
                None
            }
        }
    }
}

/// What an ended code answers, in H2 and in its tombstone.
fn ending(outcome: Outcome) -> (Refusal, AdvertState) {
    match outcome {
        Outcome::Failed(Cause::CodeExpired) => (Refusal::Expired, AdvertState::Expired),
        Outcome::Failed(Cause::TooManyAttempts) => (Refusal::Burned, AdvertState::Burned),
        Outcome::Failed(Cause::Cancelled) => (Refusal::Cancelled, AdvertState::Cancelled),
        Outcome::Paired | Outcome::Failed(_) => (Refusal::Used, AdvertState::Used),
    }
}

/// Through a relay both may now try a direct connection.
fn proven(stream: StreamId, from: &Inbound, cx: &mut Context<'_>) {
    if from.path == Path::Relay {
        cx.proven(stream);
    }
}
