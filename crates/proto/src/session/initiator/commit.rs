//! The joiner that has proven itself: comparison, question, and the two steps in which both sides store.

use super::serving::{Attempt, Step};
use super::{Initiator, Phase};
use crate::cause::Cause;
use crate::handshake::Denial;
use crate::handshake::initiator::H5;
use crate::id::JobId;
use crate::limits;
use crate::session::{Context, Job, Outcome, PeerCard, StoreChange};
use crate::wire::frames::{Frame, FrameType};

impl Initiator {
    pub(super) fn handle_attempt_frame(&mut self, frame: Frame, cx: &mut Context<'_>) {
        let Some(attempt) = self.attempt() else { return };
        // A repeat is known by its bytes and answered with the same bytes; it is never decrypted twice.
        if let Some((last, answer)) = &attempt.answered
            && *last == frame
        {
            if let Some(stream) = attempt.stream {
                cx.send(stream, vec![answer.clone()]);
            }
            return;
        }
        // Whatever we have said since follows from the frame after it.
        if attempt.s3.as_ref() == Some(&frame) {
            return;
        }
        let Some((mut attempt, step)) = self.take_attempt() else { return self.close_ended(cx) };
        let step = match step {
            step if step.is_repeat(&frame) => step,
            Step::AwaitS3 { hs, .. } if frame.kind() == FrameType::S3 => {
                let Ok(hs) = hs.handle(&frame) else { return self.spoiled(&attempt, cx) };
                if self.invitation.is_nearby() {
                    self.connected(&attempt.from, cx);
                }
                let until = cx.now.time + limits::QUESTION;
                attempt.s3 = Some(frame);
                Step::Compare { hs: Box::new(hs), h3: None, asked: false, until }
            }
            // Its person was faster than ours. One such frame is held, and not read before ours has confirmed.
            Step::Compare { hs, h3: None, asked, until } if frame.kind() == FrameType::H3 => {
                Step::Compare { hs, h3: Some(frame), asked, until }
            }
            Step::Confirmed { hs, .. } if frame.kind() == FrameType::H3 => {
                return self.identify(attempt, *hs, frame, cx);
            }
            Step::AwaitH3 { hs, .. } if frame.kind() == FrameType::H3 => {
                let Ok(hs) = hs.handle(&frame, cx.config.identity.public()) else {
                    attempt.close(cx);
                    self.count_failed_proof(cx);
                    return;
                };
                attempt.device = Some(PeerCard::of(hs.peer(), hs.info()));
                Step::Question { hs: Box::new(hs), h3: frame, asked: false, until: cx.now.time + limits::QUESTION }
            }
            Step::AwaitH5 { hs, pairing_id, .. } if frame.kind() == FrameType::H5 => match hs.handle(&frame) {
                Ok(H5::Stored(hs)) => {
                    let job = cx.job(Job::Store(StoreChange::Paired(pairing_id)));
                    Step::StoringPaired { job, hs, h5: frame, pairing_id }
                }
                Ok(H5::Declined) => {
                    cx.job(Job::Store(StoreChange::Forget(pairing_id)));
                    return self.end_with(*attempt, Outcome::Failed(Cause::Rejected), cx);
                }
                Err(_) => return self.end_with(*attempt, Outcome::Failed(Cause::ConnectionLost), cx),
            },
            // Not what the step expects: the stream ends, and what is stored stays as section 8 says.
            Step::AwaitS3 { .. } => return self.spoiled(&attempt, cx),
            Step::AwaitH3 { .. } => return attempt.close(cx),
            Step::Compare { .. } | Step::Confirmed { .. } => {
                return self.end_with(*attempt, Outcome::Failed(Cause::AuthenticationFailed), cx);
            }
            Step::Question { .. } | Step::StoringPending { .. } | Step::AwaitH5 { .. } | Step::StoringPaired { .. } => {
                return self.end_with(*attempt, Outcome::Failed(Cause::ConnectionLost), cx);
            }
        };
        self.phase = Phase::Serving(attempt, step);
    }

    pub(super) fn stored(&mut self, id: JobId, cx: &mut Context<'_>) {
        let Some((mut attempt, step)) = self.take_attempt() else { return };
        let step = match step {
            Step::StoringPending { job, hs, h3, h4, pairing_id } if job == id => {
                if let Some(stream) = attempt.stream {
                    cx.send(stream, vec![h4.clone()]);
                }
                attempt.answered = Some((h3, h4));
                Step::AwaitH5 { hs, pairing_id, until: cx.now.time + limits::PEER_ANSWER }
            }
            Step::StoringPaired { job, hs, h5, pairing_id } if job == id => {
                let h6 = hs.confirm();
                if let Some(stream) = attempt.stream {
                    cx.send(stream, vec![h6.clone()]);
                }
                attempt.answered = Some((h5, h6));
                return self.paired(*attempt, pairing_id, cx);
            }
            step @ (Step::AwaitS3 { .. }
            | Step::Compare { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH5 { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Serving(attempt, step);
    }

    pub(super) fn store_failed(&mut self, id: JobId, cx: &mut Context<'_>) {
        let Some((attempt, step)) = self.take_attempt() else { return };
        let ours = match &step {
            Step::StoringPending { job, .. } | Step::StoringPaired { job, .. } => *job == id,
            Step::AwaitS3 { .. }
            | Step::Compare { .. }
            | Step::Confirmed { .. }
            | Step::AwaitH3 { .. }
            | Step::Question { .. }
            | Step::AwaitH5 { .. } => false,
        };
        if ours {
            return self.end_with(*attempt, Outcome::Failed(Cause::Storage), cx);
        }
        self.phase = Phase::Serving(attempt, step);
    }

    pub(super) fn attempt_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        if let Phase::Over(over) = &mut self.phase {
            let expired = |a: &mut Attempt| a.lost.is_some_and(|lost| now >= lost + limits::RESUME);
            if let Some(attempt) = over.last.take_if(expired) {
                attempt.close(cx);
            }
            return;
        }
        let Some((attempt, step)) = self.take_attempt() else { return };
        if attempt.deadline(&step).is_none_or(|at| now < at) {
            self.phase = Phase::Serving(attempt, step);
            return;
        }
        match step {
            Step::AwaitS3 { .. } | Step::AwaitH3 { .. } => {
                self.phase = Phase::Serving(attempt, step);
                self.forsaken(cx);
            }
            Step::Confirmed { until, .. } if now >= until => {
                self.end_with(*attempt, Outcome::Failed(Cause::TimedOut), cx);
            }
            Step::Compare { until, .. } | Step::Question { until, .. } if now >= until => {
                self.phase = Phase::Serving(attempt, step);
                self.deny(Denial::Unanswered, Cause::TimedOut, cx);
            }
            Step::AwaitH5 { until, .. } if now >= until => {
                self.end_with(*attempt, Outcome::Failed(Cause::TimedOut), cx);
            }
            Step::Compare { .. } | Step::Confirmed { .. } | Step::Question { .. } | Step::AwaitH5 { .. } => {
                self.end_with(*attempt, Outcome::Failed(Cause::ConnectionLost), cx);
            }
            Step::StoringPending { .. } | Step::StoringPaired { .. } => self.phase = Phase::Serving(attempt, step),
        }
    }
}
