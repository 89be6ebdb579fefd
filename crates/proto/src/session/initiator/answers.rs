//! What the person at this device is asked about the joiner being served, and what the answer leads to.

use crate::cause::Cause;
use crate::handshake::initiator::SentH2;
use crate::handshake::{Agreement, Denial};
use crate::limits;
use crate::session::initiator::serving::{Attempt, Step};
use crate::session::initiator::{Initiator, Phase};
use crate::session::{
    Answer, Asking, Consent, Context, Event, Inbound, Job, Outcome, PeerCard, PendingPairing, Role, StoreChange,
};
use crate::wire::frames::Frame;

impl Initiator {
    /// Whether a question waits for its turn.
    pub(in crate::session) fn wants_to_ask(&self) -> bool {
        matches!(
            &self.phase,
            Phase::Serving(_, Step::Question { asked: false, .. } | Step::Compare { asked: false, .. })
        )
    }

    /// What its open question is about, if one is open.
    pub(in crate::session) fn asking(&self) -> Option<Asking> {
        match &self.phase {
            Phase::Serving(_, Step::Question { asked: true, .. }) => Some(Asking::Approval),
            Phase::Serving(_, Step::Compare { asked: true, .. }) => Some(Asking::Comparison),
            Phase::Serving(..) | Phase::Open | Phase::Over(_) => None,
        }
    }

    /// Whether it has a comparison going, shown or not.
    pub(in crate::session) fn is_comparing(&self) -> bool {
        matches!(&self.phase, Phase::Serving(_, Step::AwaitS3 { .. } | Step::Compare { .. }))
    }

    /// Asks the person now.
    pub(in crate::session) fn ask(&mut self, cx: &mut Context<'_>) {
        let Phase::Serving(attempt, step) = &mut self.phase else { return };
        let path = attempt.from.path;
        match step {
            Step::Question { hs, asked, .. } => {
                *asked = true;
                let device = PeerCard::of(hs.peer(), hs.info());
                cx.event(Event::ApprovalNeeded { session: self.id.clone(), device, path });
                if self.options.consent == Consent::Given {
                    self.answer(Answer::Allow, cx);
                }
            }
            // Consent given in advance says nothing about two screens.
            Step::Compare { hs, asked, .. } => {
                *asked = true;
                let sas = hs.sas().clone();
                cx.event(Event::ComparisonNeeded { session: self.id.clone(), sas, path });
            }
            Step::AwaitS3 { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH5 { .. }
            | Step::StoringPaired { .. } => {}
        }
    }

    /// Takes the person's answer to the open question; one that asks for a comparison can only be turned down here.
    pub(in crate::session) fn answer(&mut self, answer: Answer, cx: &mut Context<'_>) {
        match (self.asking(), answer) {
            (Some(Asking::Approval), Answer::Allow) => self.allow(cx),
            (Some(Asking::Approval), Answer::Deny) => self.deny(Denial::Denied, Cause::Rejected, cx),
            // Who merely waits goes on waiting for the right one.
            (Some(Asking::Comparison), Answer::Deny) if self.invitation.is_nearby() => {
                self.close_attempt(cx);
                cx.event(Event::RequestRejected { session: self.id.clone() });
            }
            // There is no word for it but a closed stream.
            (Some(Asking::Comparison), Answer::Deny) => self.end_attempt(Cause::Rejected, cx),
            (Some(Asking::Comparison), Answer::Allow) | (None, _) => {}
        }
    }

    /// Takes what the person says of the two screens.
    pub(in crate::session) fn compared(&mut self, matches: bool, cx: &mut Context<'_>) {
        if self.asking() != Some(Asking::Comparison) {
            return;
        }
        if matches { self.confirm(cx) } else { self.end_attempt(Cause::AuthenticationFailed, cx) }
    }

    /// Withdraws the code. False once both persons agreed: then only the commit can end it.
    pub(in crate::session) fn cancel(&mut self, cx: &mut Context<'_>) -> bool {
        match &self.phase {
            Phase::Over(_) => false,
            Phase::Open => {
                self.end(Outcome::Failed(Cause::Cancelled), cx);
                true
            }
            Phase::Serving(_, step) => match step {
                Step::AwaitS3 { .. } | Step::Confirmed { .. } | Step::AwaitH3 { .. } => {
                    self.end_attempt(Cause::Cancelled, cx);
                    true
                }
                Step::Compare { .. } | Step::Question { .. } => {
                    self.deny(Denial::Cancelled, Cause::Cancelled, cx);
                    true
                }
                Step::StoringPending { .. } | Step::AwaitH5 { .. } | Step::StoringPaired { .. } => false,
            },
        }
    }

    /// Both screens show the same: our person has answered, and the joiner's H3 may be read.
    fn confirm(&mut self, cx: &mut Context<'_>) {
        let Some((attempt, step)) = self.take_attempt() else { return };
        let step = match step {
            Step::Compare { hs, h3: Some(h3), .. } => return self.identify(attempt, hs.matched(), h3, cx),
            // Its person has had as long as ours; the rest is for the way.
            Step::Compare { hs, h3: None, until, .. } => {
                Step::Confirmed { hs: Box::new(hs.matched()), until: until + limits::ANSWER_WAY }
            }
            step @ (Step::AwaitS3 { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH5 { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Serving(attempt, step);
    }

    /// Takes the H3 of a joiner with whom our person has compared: that was the question, so it is allowed.
    pub(super) fn identify(&mut self, mut attempt: Box<Attempt>, hs: SentH2, h3: Frame, cx: &mut Context<'_>) {
        let Ok(hs) = hs.handle(&h3, cx.config.identity.public()) else {
            return self.end_with(*attempt, Outcome::Failed(Cause::AuthenticationFailed), cx);
        };
        attempt.device = Some(PeerCard::of(hs.peer(), hs.info()));
        self.phase = Phase::Serving(attempt, Step::Question { hs: Box::new(hs), h3, asked: true, until: cx.now.time });
        self.allow(cx);
    }

    fn allow(&mut self, cx: &mut Context<'_>) {
        let Some((attempt, step)) = self.take_attempt() else { return };
        let step = match step {
            Step::Question { hs, h3, .. } => {
                let info = cx.own_info();
                let (hs, h4, agreement) = hs.allow(&cx.config.identity, &info, cx.rng);
                let pairing_id = agreement.pairing_id;
                let pending = pending(agreement, &attempt.from);
                let job = cx.job(Job::Store(StoreChange::Pending(Box::new(pending))));
                Step::StoringPending { job, hs: Box::new(hs), h3, h4, pairing_id }
            }
            step @ (Step::AwaitS3 { .. }
            | Step::Compare { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH5 { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Serving(attempt, step);
    }

    pub(super) fn deny(&mut self, denial: Denial, cause: Cause, cx: &mut Context<'_>) {
        let Some((mut attempt, step)) = self.take_attempt() else { return };
        let answer = match step {
            Step::Question { hs, h3, .. } => Some((h3, hs.deny(denial))),
            // The joiner's person has confirmed, so the joiner takes an H4.
            Step::Compare { hs, h3: Some(h3), .. } => Some((h3, hs.deny(denial))),
            Step::Compare { h3: None, .. }
            | Step::AwaitS3 { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH5 { .. }
            | Step::StoringPaired { .. } => None,
        };
        if let Some((h3, h4)) = answer {
            if let Some(stream) = attempt.stream {
                cx.send(stream, vec![h4.clone()]);
            }
            attempt.answered = Some((h3, h4));
        }
        self.end_with(*attempt, Outcome::Failed(cause), cx);
    }
}

fn pending(agreement: Agreement, from: &Inbound) -> PendingPairing {
    let addresses = from.own_address().into_iter().collect();
    PendingPairing { agreement, role: Role::Initiator, path: from.path, addresses }
}
