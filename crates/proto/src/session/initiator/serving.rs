//! The joiner that is past H1, and what it has reached.

use crate::handshake::initiator::{AskedToCompare, Comparing, ReceivedH3, ReceivedH5, SentH2, SentH4};
use crate::id::{JobId, PairingId, StreamId, Tid};
use crate::limits;
use crate::session::{Context, Inbound, PeerCard, Striker, earlier};
use crate::time::Time;
use crate::wire::frames::{Frame, FrameType};

/// The joiner that is past H1.
pub(super) struct Attempt {
    pub(super) stream: Option<StreamId>,
    pub(super) lost: Option<Time>,
    pub(super) from: Inbound,
    /// Which device of the list it is, without a code.
    pub(super) who: Option<Striker>,
    pub(super) token: [u8; 32],
    pub(super) started: Time,
    pub(super) device: Option<PeerCard>,
    /// The S3 that was right: a joiner that lost its connection may repeat it at any later step.
    pub(super) s3: Option<Frame>,
    pub(super) answered: Option<(Frame, Frame)>,
}

/// What the joiner being served has reached.
pub(super) enum Step {
    /// H2 asked for a comparison.
    AwaitS3 { hs: Box<AskedToCompare>, until: Time },
    /// S3 was right; the comparison waits for its turn or for the answer. `h3`: what a faster joiner has sent meanwhile.
    Compare { hs: Box<Comparing>, h3: Option<Frame>, asked: bool, until: Time },
    /// Our person confirmed; the joiner's is still comparing.
    Confirmed { hs: Box<SentH2>, until: Time },
    /// H2 is sent, without a comparison.
    AwaitH3 { hs: Box<SentH2>, until: Time },
    /// H3 was right; the question waits for its turn or for the answer.
    Question { hs: Box<ReceivedH3>, h3: Frame, asked: bool, until: Time },
    /// Allowed; the pending pairing is on its way to the disk.
    StoringPending { job: JobId, hs: Box<SentH4>, h3: Frame, h4: Frame, pairing_id: PairingId },
    /// H4 is sent; the joiner's person is asked.
    AwaitH5 { hs: Box<SentH4>, pairing_id: PairingId, until: Time },
    /// The joiner has stored; our pairing is on its way to the disk.
    StoringPaired { job: JobId, hs: Box<ReceivedH5>, h5: Frame, pairing_id: PairingId },
}

impl Attempt {
    /// A newcomer who proved the code takes the place of a joiner that has gone before anything of it was shown, and of its
    /// own earlier try.
    pub(super) fn may_be_replaced_by(&self, tid: Tid, step: &Step) -> bool {
        matches!(step, Step::AwaitS3 { .. } | Step::AwaitH3 { .. }) && (self.stream.is_none() || self.from.tid == tid)
    }

    /// Whether it was told to go on a while ago and nothing came, although S3 needs nobody's answer.
    pub(super) fn dawdles(&self, step: &Step, now: Time) -> bool {
        matches!(step, Step::AwaitS3 { .. }) && now.since(self.started) >= limits::NEARBY_S3
    }

    pub(super) fn deadline(&self, step: &Step) -> Option<Time> {
        let resume = self.lost.map(|lost| lost + limits::RESUME);
        match step {
            // A joiner whose S3 or H3 was lost with the connection may come back and repeat it.
            // Coming back again and again must not keep the code alive.
            Step::AwaitS3 { until, .. } | Step::AwaitH3 { until, .. } => {
                earlier(resume.or(Some(*until)), Some(self.started + limits::RESUME))
            }
            Step::Compare { until, .. }
            | Step::Confirmed { until, .. }
            | Step::Question { until, .. }
            | Step::AwaitH5 { until, .. } => earlier(Some(*until), resume),
            Step::StoringPending { .. } | Step::StoringPaired { .. } => None,
        }
    }

    pub(super) fn close(&self, cx: &mut Context<'_>) {
        if let Some(stream) = self.stream {
            cx.finish(stream);
        }
    }
}

impl Step {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::AwaitS3 { .. } | Step::AwaitH3 { .. } => "handshake",
            Step::Compare { .. } => "comparison",
            Step::Confirmed { .. } => "waiting_for_peer",
            Step::Question { .. } => "approval",
            Step::StoringPending { .. } | Step::AwaitH5 { .. } => "waiting_for_peer",
            Step::StoringPaired { .. } => "committing",
        }
    }

    /// A frame that was taken before and whose answer is not ready, or that is older than the last one.
    pub(super) fn is_repeat(&self, frame: &Frame) -> bool {
        match self {
            Step::AwaitS3 { .. } | Step::Confirmed { .. } | Step::AwaitH3 { .. } | Step::AwaitH5 { .. } => false,
            Step::Compare { h3, .. } => h3.as_ref() == Some(frame),
            Step::Question { h3, .. } | Step::StoringPending { h3, .. } => h3 == frame,
            Step::StoringPaired { h5, .. } => h5 == frame || frame.kind() == FrameType::H3,
        }
    }
}
