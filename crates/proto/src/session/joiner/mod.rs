//! One code that somebody typed or scanned here: finding its initiator, proving the code, agreeing, storing.
//!
//! Without a code it asks one device of the list of `pair nearby` instead (`ask.rs`); the rest is the same.
//!
//! Two phases: searching, in which several candidates are tried at once until one of them proves the code; and agreed,
//! in which the handshake with that one goes on, over a new connection if the old one breaks. If either side wants a
//! comparison, the second phase begins with it, and nothing of our identity is sent before our person confirmed it.

mod agreed;
mod ask;
mod candidate;
mod commit;
mod refind;
mod search;

use crate::addr::{Address, Path};
use crate::cause::Cause;
use crate::handshake::joiner::Proved;
use crate::handshake::{Agreement, Denial, Mode, Refusal};
use crate::id::{JobId, PairingId, SessionId, StreamId, Tid};
use crate::keys::{CodeKeys, LanKeys};
use crate::limits;
use crate::session::{
    Answer, Asking, Consent, Context, DialFailure, Event, JobResult, Options, Outcome, PeerCard, Reached, Role,
    SessionStatus, StreamEnd, Striker,
};
use crate::time::Time;
use crate::wire::advert::AdvertState;
use crate::wire::frames::Frame;

use agreed::{Agreed, Step};
use ask::Ask;
use search::{Proof, Search};

/// The machine of one code that was typed here.
pub(super) struct Joiner {
    id: SessionId,
    consent: Consent,
    started: Time,
    /// The device of the list that is asked, without a code.
    asked: Option<Striker>,
    phase: Phase,
}

/// Where the session stands.
enum Phase {
    Searching(Box<Search>),
    Asking(Box<Ask>),
    Agreed(Box<Agreed>, Step),
    Over { outcome: Outcome, since: Time, device: Option<PeerCard>, path: Option<Path> },
}

/// What a person typed, with everything a QR text adds.
pub(super) struct Target {
    pub(super) keys: CodeKeys,
    pub(super) mode: Mode,
    pub(super) pin: Option<Tid>,
    pub(super) hints: Vec<Address>,
}

impl Joiner {
    pub(super) fn new(id: SessionId, target: Target, options: Options, cx: &mut Context<'_>) -> Joiner {
        let Options { consent, verify } = options;
        let started = cx.now.time;
        let hints = target.hints.clone();
        let unfindable = hints.is_empty() && !cx.config.dht && !cx.config.lan;
        let mut search = Search::new(target, verify, cx.config.dht, cx.config.lan, started);
        search.add_hints(&hints, &id, cx);
        let mut joiner = Joiner { id, consent, started, asked: None, phase: Phase::Searching(Box::new(search)) };
        if unfindable {
            joiner.fail_search(cx.config.alone, cx);
        }
        joiner.drive(cx);
        joiner
    }

    /// Asks a device nearby, at these addresses.
    pub(super) fn nearby(
        id: SessionId,
        whom: Striker,
        addresses: Vec<Address>,
        options: Options,
        cx: &mut Context<'_>,
    ) -> Joiner {
        let started = cx.now.time;
        let phase = Phase::Asking(Box::new(Ask::new(whom, addresses, started)));
        let mut joiner = Joiner { id, consent: options.consent, started, asked: Some(whom), phase };
        joiner.drive(cx);
        joiner
    }

    /// The device that is asked can be dialled at these addresses.
    pub(super) fn learned(&mut self, addresses: Vec<Address>, cx: &mut Context<'_>) {
        if let Phase::Asking(ask) = &mut self.phase {
            ask.learned(addresses, cx.now.time);
            self.drive(cx);
        }
    }

    /// The transport key of the device that is asked or agreed with, as far as one has answered.
    pub(super) fn tid(&self) -> Option<Tid> {
        match &self.phase {
            Phase::Asking(ask) => ask.tid(),
            Phase::Agreed(agreed, _) => Some(agreed.tid()),
            Phase::Searching(_) | Phase::Over { .. } => None,
        }
    }

    /// Gives way to what both people do otherwise: everything ends without a word and without news.
    pub(super) fn retire(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(_) | Phase::Over { .. } => {}
            Phase::Asking(ask) => ask.close(cx),
            Phase::Agreed(agreed, _) => agreed.close(cx),
        }
    }

    /// While our person compares: where the other device is, and the stream to it if there is one.
    pub(super) fn comparing_at(&self) -> Option<(&[Address], Option<StreamId>)> {
        match &self.phase {
            Phase::Agreed(agreed, Step::Compare { .. }) => Some((&agreed.addresses, agreed.stream())),
            Phase::Agreed(..) | Phase::Searching(_) | Phase::Asking(_) | Phase::Over { .. } => None,
        }
    }

    /// Whether it has got no answer yet that counts.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asking(_))
    }

    /// Ends with `cause`, which our person has found out.
    pub(super) fn refuse(&mut self, cause: Cause, cx: &mut Context<'_>) {
        match self.take_agreed() {
            Some((agreed, _)) => self.fail(*agreed, cause, cx),
            None => self.fail_search(cause, cx),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Over { .. })
    }

    pub(super) fn wiped_at(&self) -> Option<Time> {
        match &self.phase {
            Phase::Over { since, .. } => Some(*since + limits::KEEP_ENDED),
            Phase::Searching(_) | Phase::Asking(_) | Phase::Agreed(..) => None,
        }
    }

    pub(super) fn status(&self) -> SessionStatus {
        let mut status = SessionStatus {
            session: self.id.clone(),
            role: Role::Joiner,
            state: "searching",
            expires_at: None,
            device: None,
            path: None,
            sas: None,
            cause: None,
        };
        match &self.phase {
            Phase::Searching(search) if search.has_found() => status.state = "connecting",
            Phase::Searching(_) => {}
            Phase::Asking(_) => status.state = "connecting",
            Phase::Agreed(agreed, step) => {
                status.state = step.name();
                status.device = agreed.device.clone();
                status.path = Some(agreed.path);
                if let Step::Compare { hs, asked: true, .. } = step {
                    status.sas = Some(hs.sas().clone());
                }
            }
            Phase::Over { outcome, device, path, .. } => {
                status.device = device.clone();
                status.path = *path;
                match outcome {
                    Outcome::Paired => status.state = "paired",
                    Outcome::Failed(cause) => {
                        status.state = "failed";
                        status.cause = Some(*cause);
                    }
                }
            }
        }
        status
    }

    pub(super) fn wants_to_ask(&self) -> bool {
        matches!(
            &self.phase,
            Phase::Agreed(_, Step::Question { asked: false, .. } | Step::Compare { asked: false, .. })
        )
    }

    /// What its open question is about, if one is open.
    pub(super) fn asking(&self) -> Option<Asking> {
        match &self.phase {
            Phase::Agreed(_, Step::Question { asked: true, .. }) => Some(Asking::Approval),
            Phase::Agreed(_, Step::Compare { asked: true, .. }) => Some(Asking::Comparison),
            Phase::Agreed(..) | Phase::Searching(_) | Phase::Asking(_) | Phase::Over { .. } => None,
        }
    }

    /// Whether it has a comparison going, shown or not.
    pub(super) fn is_comparing(&self) -> bool {
        matches!(&self.phase, Phase::Agreed(_, Step::Compare { .. }))
    }

    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        let Phase::Agreed(agreed, step) = &mut self.phase else {
            return;
        };
        match step {
            Step::Question { hs, asked, .. } => {
                *asked = true;
                let device = card(hs.agreement());
                cx.event(Event::ApprovalNeeded { session: self.id.clone(), device, path: agreed.path });
                if self.consent == Consent::Given {
                    self.answer(Answer::Allow, cx);
                }
            }
            // Consent given in advance says nothing about two screens.
            Step::Compare { hs, asked, .. } => {
                *asked = true;
                let sas = hs.sas().clone();
                cx.event(Event::ComparisonNeeded { session: self.id.clone(), sas, path: agreed.path });
            }
            Step::AwaitH4 { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. } => {}
        }
    }

    /// Takes the person's answer to the open question; one that asks for a comparison can only be turned down here.
    pub(super) fn answer(&mut self, answer: Answer, cx: &mut Context<'_>) {
        match (self.asking(), answer) {
            (Some(Asking::Approval), Answer::Allow) => self.allow(cx),
            (Some(_), Answer::Deny) => self.decline(Cause::Rejected, cx),
            (Some(Asking::Comparison), Answer::Allow) | (None, _) => {}
        }
    }

    /// Takes what the person says of the two screens.
    pub(super) fn compared(&mut self, matches: bool, cx: &mut Context<'_>) {
        if self.asking() != Some(Asking::Comparison) {
            return;
        }
        if matches { self.confirm(cx) } else { self.decline(Cause::AuthenticationFailed, cx) }
    }

    /// Gives up. False once our person agreed: then only the commit can end it.
    pub(super) fn cancel(&mut self, cx: &mut Context<'_>) -> bool {
        match &self.phase {
            Phase::Over { .. } => false,
            Phase::Searching(_) | Phase::Asking(_) => {
                self.fail_search(Cause::Cancelled, cx);
                true
            }
            Phase::Agreed(_, step) => match step {
                Step::AwaitH4 { .. } => {
                    if let Some((agreed, _)) = self.take_agreed() {
                        self.fail(*agreed, Cause::Cancelled, cx);
                    }
                    true
                }
                Step::Compare { .. } | Step::Question { .. } => {
                    self.decline(Cause::Cancelled, cx);
                    true
                }
                Step::StoringPending { .. }
                | Step::AwaitH6 { .. }
                | Step::Reaching { .. }
                | Step::StoringPaired { .. } => false,
            },
        }
    }

    pub(super) fn owns_stream(&self, id: StreamId) -> bool {
        match &self.phase {
            Phase::Searching(search) => search.owns_stream(id),
            Phase::Asking(ask) => ask.owns_stream(id),
            Phase::Agreed(agreed, _) => agreed.stream() == Some(id),
            Phase::Over { .. } => false,
        }
    }

    pub(super) fn handle_frame(&mut self, stream: StreamId, frame: Frame, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(_) | Phase::Asking(_) => self.handle_h2(stream, &frame, cx),
            Phase::Agreed(..) => self.handle_agreed(&frame, cx),
            Phase::Over { .. } => {}
        }
        self.drive(cx);
    }

    pub(super) fn handle_stream_end(&mut self, id: StreamId, end: StreamEnd, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.stream_ended(id, end, cx.now.time),
            Phase::Asking(ask) => ask.stream_ended(id, end, cx.now.time),
            Phase::Agreed(..) => self.agreed_stream_end(end, cx),
            Phase::Over { .. } => {}
        }
        self.drive(cx);
    }

    pub(super) fn handle_job(&mut self, id: JobId, result: JobResult, cx: &mut Context<'_>) {
        match result {
            JobResult::Found(record) => match &mut self.phase {
                Phase::Searching(search) => search.found(id, &record, &self.id, cx),
                Phase::Agreed(agreed, _) => agreed.found(id, &record, cx),
                Phase::Asking(_) | Phase::Over { .. } => {}
            },
            JobResult::LookedUp { answered } => match &mut self.phase {
                Phase::Searching(search) => search.looked_up(id, answered),
                Phase::Agreed(agreed, _) => agreed.looked_up(id),
                Phase::Asking(_) | Phase::Over { .. } => {}
            },
            JobResult::Dialled(reached) => self.dialled(id, reached, cx),
            JobResult::DialFailed(failure) => self.dial_failed(id, failure, cx),
            JobResult::StreamOpened(stream) => self.stream_opened(id, stream, cx),
            JobResult::StreamFailed => self.stream_failed(id, cx),
            JobResult::Stored => self.stored(id, cx),
            JobResult::StoreFailed => self.store_failed(id, cx),
            JobResult::Published { .. } => {}
        }
        self.drive(cx);
    }

    /// A hello between the two finished the pairing.
    pub(super) fn completed(&mut self, pairing_id: PairingId, cx: &mut Context<'_>) -> bool {
        let Phase::Agreed(_, step) = &self.phase else {
            return false;
        };
        let ours = match step {
            Step::AwaitH6 { pairing_id: id, .. } | Step::Reaching { pairing_id: id, .. } => *id == pairing_id,
            Step::Compare { .. }
            | Step::AwaitH4 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::StoringPaired { .. } => false,
        };
        if ours && let Some((agreed, _)) = self.take_agreed() {
            self.paired(*agreed, pairing_id, cx);
        }
        ours
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.drive(cx);
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        match &self.phase {
            Phase::Searching(search) => search.deadline(),
            Phase::Asking(ask) => ask.deadline(),
            Phase::Agreed(agreed, step) => agreed.deadline(step),
            Phase::Over { since, .. } => Some(*since + limits::KEEP_ENDED),
        }
    }

    /// Starts whatever is due, and ends what has had its time.
    fn drive(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => {
                search.look_up(cx);
                search.try_candidates(cx);
                if let Some(cause) = search.trouble(cx.now.time, cx.config) {
                    cx.event(Event::TroubleNoticed { session: self.id.clone(), cause });
                }
                if let Some(cause) = search.verdict(cx.now.time, cx.config) {
                    self.fail_search(cause, cx);
                }
            }
            Phase::Asking(ask) => {
                ask.drive(cx);
                if let Some(cause) = ask.verdict(cx.now.time, cx.config) {
                    self.fail_search(cause, cx);
                }
            }
            Phase::Agreed(..) => self.drive_agreed(cx),
            Phase::Over { .. } => {}
        }
    }

    /// A holder of the code is on the local network.
    pub(super) fn heard(&mut self, addresses: &[Address], cx: &mut Context<'_>) {
        if let Phase::Searching(search) = &mut self.phase {
            search.heard(addresses, &self.id, cx);
        }
        self.drive(cx);
    }

    /// Somebody connected to us.
    pub(super) fn reached(&mut self, by: Reached, cx: &mut Context<'_>) {
        if let Phase::Searching(search) = &mut self.phase {
            search.reached(by, &self.id, cx);
        }
        self.drive(cx);
    }

    /// Whether it still looks for the initiator.
    pub(super) fn is_searching(&self) -> bool {
        matches!(self.phase, Phase::Searching(_))
    }

    /// What proves the code on the local network, while it is searched.
    pub(super) fn lan_keys(&self) -> Option<&LanKeys> {
        match &self.phase {
            Phase::Searching(search) => Some(search.keys().lan()),
            Phase::Asking(_) | Phase::Agreed(..) | Phase::Over { .. } => None,
        }
    }

    fn dialled(&mut self, id: JobId, reached: Reached, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.dialled(id, reached, &self.id, cx),
            Phase::Asking(ask) => ask.dialled(id, reached, &self.id, cx),
            Phase::Agreed(agreed, _) => agreed.dialled(id, reached, cx),
            Phase::Over { .. } => {}
        }
    }

    fn dial_failed(&mut self, id: JobId, failure: DialFailure, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.dial_failed(id, failure, cx),
            Phase::Asking(ask) => ask.dial_failed(id, failure, cx.now.time),
            Phase::Agreed(agreed, _) => agreed.dial_failed(id, failure, cx.now.time),
            Phase::Over { .. } => {}
        }
    }

    fn stream_opened(&mut self, id: JobId, stream: StreamId, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.stream_opened(id, stream, cx),
            Phase::Asking(ask) => ask.stream_opened(id, stream, cx),
            Phase::Agreed(agreed, step) => agreed.stream_opened(id, stream, step, cx),
            Phase::Over { .. } => cx.finish(stream),
        }
    }

    fn stream_failed(&mut self, id: JobId, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.stream_failed(id, cx.now.time),
            Phase::Asking(ask) => ask.stream_failed(id, cx.now.time),
            Phase::Agreed(agreed, _) => agreed.stream_failed(id, cx.now.time),
            Phase::Over { .. } => {}
        }
    }

    fn handle_h2(&mut self, stream: StreamId, frame: &Frame, cx: &mut Context<'_>) {
        let proof = match &mut self.phase {
            Phase::Searching(search) => search.handle_h2(stream, frame, cx),
            Phase::Asking(ask) => ask.handle_frame(stream, frame, cx),
            Phase::Agreed(..) | Phase::Over { .. } => None,
        };
        match proof {
            Some(Proof::GoOn(proved, found)) => {
                let (step, h3) = introduce(*proved, cx);
                cx.send(stream, vec![h3.clone()]);
                self.agree(Agreed::new(found, stream, h3), step);
            }
            Some(Proof::Compare(hs, s3, found)) => {
                cx.send(stream, vec![s3.clone()]);
                let step = Step::Compare { hs, asked: false, until: cx.now.time + limits::QUESTION };
                self.agree(Agreed::new(found, stream, s3), step);
            }
            Some(Proof::Over(refusal)) => self.fail_search(over_cause(refusal), cx),
            None => {}
        }
    }

    /// The search is over; what is left of it finds the initiator again.
    fn agree(&mut self, agreed: Agreed, step: Step) {
        let before = std::mem::replace(&mut self.phase, Phase::Agreed(Box::new(agreed), step));
        if let (Phase::Searching(search), Phase::Agreed(agreed, _)) = (before, &mut self.phase) {
            agreed.find_again_by(search.into_refind());
        }
    }

    fn paired(&mut self, mut agreed: Agreed, pairing_id: PairingId, cx: &mut Context<'_>) {
        agreed.close(cx);
        if let Some(device) = agreed.device.clone() {
            let elapsed = cx.now.time.since(self.started);
            let (tid, path) = (agreed.tid(), agreed.path);
            cx.event(Event::Paired { session: self.id.clone(), pairing_id, device, tid, path, elapsed });
        }
        self.finish(Outcome::Paired, agreed.device, Some(agreed.path), cx);
    }

    fn fail(&mut self, mut agreed: Agreed, cause: Cause, cx: &mut Context<'_>) {
        // Before it said who it is there was nothing but the comparison.
        if let (Some(whom), None) = (self.asked, &agreed.device)
            && matches!(cause, Cause::AuthenticationFailed | Cause::ConnectionLost)
        {
            let address = agreed.addresses.first().map_or(whom.address, |a| a.ip);
            cx.strikes.strike(Striker { address, ..whom }, cx.now.time);
        }
        agreed.close(cx);
        self.finish(Outcome::Failed(cause), agreed.device, Some(agreed.path), cx);
    }

    fn fail_search(&mut self, cause: Cause, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Searching(search) => search.drop_others(None, cx),
            Phase::Asking(ask) => ask.close(cx),
            Phase::Agreed(..) | Phase::Over { .. } => return,
        }
        self.finish(Outcome::Failed(cause), None, None, cx);
    }

    fn finish(&mut self, outcome: Outcome, device: Option<PeerCard>, path: Option<Path>, cx: &mut Context<'_>) {
        if let Outcome::Failed(cause) = outcome {
            cx.event(Event::PairingFailed { session: self.id.clone(), cause });
        }
        self.phase = Phase::Over { outcome, since: cx.now.time, device, path };
    }

    /// Takes the handshake out of its phase to change it; whoever takes it puts a phase back.
    fn take_agreed(&mut self) -> Option<(Box<Agreed>, Step)> {
        let failed = Outcome::Failed(Cause::Internal);
        let gone = Phase::Over { outcome: failed, since: self.started, device: None, path: None };
        match std::mem::replace(&mut self.phase, gone) {
            Phase::Agreed(agreed, step) => Some((agreed, step)),
            other @ (Phase::Searching(_) | Phase::Asking(_) | Phase::Over { .. }) => {
                self.phase = other;
                None
            }
        }
    }
}

/// Shows our identity: H3, and the wait for H4.
fn introduce(proved: Proved, cx: &mut Context<'_>) -> (Step, Frame) {
    let info = cx.own_info();
    let (hs, h3) = proved.send(&cx.config.identity, &info, cx.rng);
    (Step::AwaitH4 { hs: Box::new(hs), until: cx.now.time + limits::PEER_ANSWER }, h3)
}

fn card(agreement: &Agreement) -> PeerCard {
    PeerCard::of(agreement.peer, &agreement.info)
}

fn over_cause(refusal: Refusal) -> Cause {
    match refusal {
        Refusal::Expired => Cause::CodeExpired,
        Refusal::Used | Refusal::Busy => Cause::CodeUsed,
        Refusal::Cancelled => Cause::Cancelled,
        Refusal::Burned => Cause::TooManyAttempts,
    }
}

fn tombstone_cause(state: AdvertState) -> Cause {
    match state {
        AdvertState::Open | AdvertState::Used => Cause::CodeUsed,
        AdvertState::Expired => Cause::CodeExpired,
        AdvertState::Cancelled => Cause::Cancelled,
        AdvertState::Burned => Cause::TooManyAttempts,
    }
}

fn denial_cause(denial: Denial) -> Cause {
    match denial {
        Denial::Denied => Cause::Rejected,
        Denial::Failed => Cause::ConnectionLost,
        Denial::Unanswered => Cause::TimedOut,
        Denial::Cancelled => Cause::Cancelled,
    }
}
