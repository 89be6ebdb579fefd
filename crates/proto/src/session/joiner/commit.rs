//! The joiner whose initiator has proven itself: comparison, question, and the two steps in which both sides store.

use super::agreed::Step;
use super::{Joiner, Phase, card, denial_cause, introduce};
use crate::cause::Cause;
use crate::handshake::joiner::H4;
use crate::id::JobId;
use crate::limits;
use crate::session::{Context, Job, PendingPairing, Role, StoreChange, StreamEnd};
use crate::wire::frames::Frame;

impl Joiner {
    /// Both screens show the same: our person has answered, and our identity may be shown.
    pub(super) fn confirm(&mut self, cx: &mut Context<'_>) {
        let Some((mut agreed, step)) = self.take_agreed() else { return };
        let step = match step {
            Step::Compare { hs, .. } => {
                let (step, h3) = introduce(hs.matched(), cx);
                agreed.confirmed = true;
                agreed.s3 = Some(std::mem::replace(&mut agreed.last, h3.clone()));
                // Without a stream it follows the resume.
                if let Some(stream) = agreed.stream() {
                    cx.send(stream, vec![h3]);
                }
                step
            }
            step @ (Step::AwaitH4 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Agreed(agreed, step);
    }

    pub(super) fn handle_agreed(&mut self, frame: &Frame, cx: &mut Context<'_>) {
        let Some((mut agreed, step)) = self.take_agreed() else { return };
        let now = cx.now.time;
        let step = match step {
            // Nothing is due from the initiator: it breaks the comparison off.
            Step::Compare { .. } => return self.fail(*agreed, Cause::AuthenticationFailed, cx),
            Step::AwaitH4 { hs, .. } => match hs.handle(frame) {
                // An initiator draws a new name for each pairing; a second pairing of one name would take the first
                // one's place, or be buried by its tombstone.
                Ok(H4::Offer(hs)) if cx.held.contains(&hs.agreement().pairing_id) => {
                    return self.fail(*agreed, Cause::AuthenticationFailed, cx);
                }
                Ok(H4::Offer(hs)) => {
                    agreed.device = Some(card(hs.agreement()));
                    agreed.s3 = None;
                    let confirmed = agreed.confirmed;
                    let step = Step::Question { hs, asked: false, until: now + limits::QUESTION };
                    self.phase = Phase::Agreed(agreed, step);
                    if confirmed {
                        self.allow(cx);
                    }
                    return;
                }
                Ok(H4::Denied(denial)) => return self.fail(*agreed, denial_cause(denial), cx),
                Err(_) => return self.fail(*agreed, Cause::AuthenticationFailed, cx),
            },
            Step::AwaitH6 { hs, pairing_id, .. } => match hs.handle(frame) {
                Ok(()) => {
                    let job = cx.job(Job::Store(StoreChange::Paired(pairing_id)));
                    Step::StoringPaired { job, pairing_id }
                }
                Err(_) => {
                    agreed.close(cx);
                    agreed.reaching(pairing_id, cx)
                }
            },
            // A repeated H4 is ignored.
            step @ (Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Agreed(agreed, step);
    }

    pub(super) fn agreed_stream_end(&mut self, end: StreamEnd, cx: &mut Context<'_>) {
        let Some((mut agreed, step)) = self.take_agreed() else { return };
        agreed.lost(cx.now.time);
        // If the initiator closed on purpose, it has wiped its side of the handshake.
        let step = match (end, step) {
            // While one of the two compares, that says that the screens differ.
            (StreamEnd::Finished, Step::Compare { .. }) => return self.fail(*agreed, Cause::AuthenticationFailed, cx),
            (StreamEnd::Finished, Step::AwaitH4 { .. }) if agreed.confirmed => {
                return self.fail(*agreed, Cause::AuthenticationFailed, cx);
            }
            (StreamEnd::Finished, Step::AwaitH4 { .. } | Step::Question { .. }) => {
                return self.fail(*agreed, Cause::ConnectionLost, cx);
            }
            (StreamEnd::Finished, Step::AwaitH6 { pairing_id, .. }) => agreed.reaching(pairing_id, cx),
            (StreamEnd::Finished | StreamEnd::Lost, step) => step,
        };
        self.phase = Phase::Agreed(agreed, step);
    }

    pub(super) fn allow(&mut self, cx: &mut Context<'_>) {
        let Some((agreed, step)) = self.take_agreed() else { return };
        let step = match step {
            Step::Question { hs, .. } => {
                let pending = PendingPairing {
                    agreement: hs.agreement().clone(),
                    role: Role::Joiner,
                    path: agreed.path,
                    addresses: agreed.addresses.clone(),
                };
                let job = cx.job(Job::Store(StoreChange::Pending(Box::new(pending))));
                Step::StoringPending { job, hs }
            }
            step @ (Step::Compare { .. }
            | Step::AwaitH4 { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Agreed(agreed, step);
    }

    /// Our person says no: to the device, or to the comparison, which has no word for that but a closed stream.
    pub(super) fn decline(&mut self, cause: Cause, cx: &mut Context<'_>) {
        let Some((agreed, step)) = self.take_agreed() else { return };
        if let (Some(stream), Step::Question { hs, .. }) = (agreed.stream(), step) {
            cx.send(stream, vec![hs.declined()]);
        }
        self.fail(*agreed, cause, cx);
    }

    pub(super) fn stored(&mut self, id: JobId, cx: &mut Context<'_>) {
        let Some((mut agreed, step)) = self.take_agreed() else { return };
        let step = match step {
            Step::StoringPending { job, hs } if job == id => {
                let pairing_id = hs.agreement().pairing_id;
                let (hs, h5) = hs.stored();
                agreed.last = h5.clone();
                if let Some(stream) = agreed.stream() {
                    cx.send(stream, vec![h5]);
                }
                let until = cx.now.time + limits::CONFIRMATION;
                Step::AwaitH6 { hs: Box::new(hs), pairing_id, until, ends: until + limits::RESUME }
            }
            Step::StoringPaired { job, pairing_id } if job == id => return self.paired(*agreed, pairing_id, cx),
            step @ (Step::Compare { .. }
            | Step::AwaitH4 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. }) => step,
        };
        self.phase = Phase::Agreed(agreed, step);
    }

    pub(super) fn store_failed(&mut self, id: JobId, cx: &mut Context<'_>) {
        let Some((agreed, step)) = self.take_agreed() else { return };
        let ours = match &step {
            Step::StoringPending { job, .. } | Step::StoringPaired { job, .. } => *job == id,
            Step::Compare { .. }
            | Step::AwaitH4 { .. }
            | Step::Question { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. } => false,
        };
        if ours {
            return self.fail(*agreed, Cause::Storage, cx);
        }
        self.phase = Phase::Agreed(agreed, step);
    }

    pub(super) fn drive_agreed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        let Some((mut agreed, step)) = self.take_agreed() else { return };
        let gave_up = agreed.gave_up(now);
        let step = match step {
            Step::AwaitH4 { until, .. } if now >= until => return self.fail(*agreed, Cause::TimedOut, cx),
            Step::Compare { .. } | Step::AwaitH4 { .. } | Step::Question { .. } if gave_up => {
                return self.fail(*agreed, Cause::ConnectionLost, cx);
            }
            Step::Compare { until, .. } | Step::Question { until, .. } if now >= until => {
                self.phase = Phase::Agreed(agreed, step);
                return self.decline(Cause::TimedOut, cx);
            }
            Step::AwaitH6 { pairing_id, ends, .. } if gave_up || now >= ends => {
                agreed.close(cx);
                agreed.reaching(pairing_id, cx)
            }
            Step::AwaitH6 { hs, pairing_id, until, ends } if now >= until && agreed.stream().is_some() => {
                // Silence on a connection that looks alive: try another one.
                agreed.abandon(cx);
                Step::AwaitH6 { hs, pairing_id, until, ends }
            }
            Step::Reaching { until, .. } if now >= until => {
                return self.fail(*agreed, Cause::ConnectionLost, cx);
            }
            step @ (Step::Compare { .. }
            | Step::AwaitH4 { .. }
            | Step::Question { .. }
            | Step::StoringPending { .. }
            | Step::AwaitH6 { .. }
            | Step::Reaching { .. }
            | Step::StoringPaired { .. }) => step,
        };
        if step.resume_frame().is_some() {
            agreed.redial(cx);
        }
        self.phase = Phase::Agreed(agreed, step);
    }
}
