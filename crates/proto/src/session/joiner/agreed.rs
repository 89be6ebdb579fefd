//! The joiner's handshake after both proved the code: its stream, what replaces a broken one, and its steps.

use std::time::Duration;

use crate::addr::{Address, Path, RelayAddress, Transport, other_relays};
use crate::handshake::joiner::{Comparing, ReceivedH4, SentH3, SentH5};
use crate::id::{JobId, PairingId, StreamId, Tid};
use crate::limits;
use crate::session::joiner::refind::{Refind, or_look_up};
use crate::session::joiner::search::Found;
use crate::session::{Context, DialFailure, Job, PeerCard, Reached, earlier};
use crate::time::Time;
use crate::wire::frames::Frame;
use crate::wire::record::Record;

/// A handshake with the initiator that proved the code.
pub(super) struct Agreed {
    tid: Tid,
    pub(super) addresses: Vec<Address>,
    relays: Vec<RelayAddress>,
    pub(super) path: Path,
    /// The relay in between, if there is one.
    via: Option<Address>,
    pub(super) device: Option<PeerCard>,
    /// Our person confirmed a comparison: that was the question.
    pub(super) confirmed: bool,
    /// Our last frame: what a resumed handshake repeats.
    pub(super) last: Frame,
    /// The S3 before it, as long as nothing shows that it arrived.
    pub(super) s3: Option<Frame>,
    link: Link,
    /// Finds the initiator again, where there is a code and a DHT.
    refind: Option<Refind>,
}

/// The stream of the handshake, or how it is being replaced.
enum Link {
    Up { stream: StreamId },
    Lost { since: Time, dials: u32, refused: u32, redial: Redial },
}

/// A new connection for a handshake that lost its own.
enum Redial {
    Waiting {
        until: Time,
    },
    /// TCP is dialled apart from QUIC and relays: a TCP port that refuses says at once that the program is gone, where QUIC
    /// is silent and a relay does not know.
    Dialling {
        others: Option<JobId>,
        tcp: Option<JobId>,
        until: Option<Time>,
    },
    Opening {
        job: JobId,
    },
}

/// What the handshake has reached.
pub(super) enum Step {
    /// S3 is sent; the comparison waits for its turn or for the answer.
    Compare { hs: Box<Comparing>, asked: bool, until: Time },
    /// H3 is sent; the initiator's person is asked.
    AwaitH4 { hs: Box<SentH3>, until: Time },
    /// H4 was right; our person's question waits for its turn or for the answer.
    Question { hs: Box<ReceivedH4>, asked: bool, until: Time },
    /// Allowed; the pending pairing is on its way to the disk.
    StoringPending { job: JobId, hs: Box<ReceivedH4> },
    /// H5 is sent; `until` bounds the silence of one stream, `ends` all of them together.
    AwaitH6 { hs: Box<SentH5>, pairing_id: PairingId, until: Time, ends: Time },
    /// The handshake is gone, the pending pairing is not: the links try a hello.
    Reaching { pairing_id: PairingId, until: Time },
    /// H6 came; our pairing is on its way to the disk.
    StoringPaired { job: JobId, pairing_id: PairingId },
}

impl Agreed {
    /// A handshake whose S3 or H3 (`last`) has just been sent on `stream`.
    pub(super) fn new(found: Found, stream: StreamId, last: Frame) -> Agreed {
        let Found { tid, addresses, relays, path, via } = found;
        let link = Link::Up { stream };
        Agreed { tid, addresses, relays, path, via, device: None, confirmed: false, last, s3: None, link, refind: None }
    }

    /// From now on it is looked up if it is lost.
    pub(super) fn find_again_by(&mut self, refind: Option<Refind>) {
        self.refind = refind;
    }

    /// The transport key that the handshake is bound to.
    pub(super) fn tid(&self) -> Tid {
        self.tid
    }

    /// The stream in use, if the connection stands.
    pub(super) fn stream(&self) -> Option<StreamId> {
        match &self.link {
            Link::Up { stream } => Some(*stream),
            Link::Lost { .. } => None,
        }
    }

    pub(super) fn deadline(&self, step: &Step) -> Option<Time> {
        let lost = match &self.link {
            Link::Up { .. } => None,
            Link::Lost {
                since,
                redial: Redial::Waiting { until } | Redial::Dialling { until: Some(until), .. },
                ..
            } => earlier(Some(*until), Some(*since + limits::RESUME)),
            Link::Lost { since, .. } => Some(*since + limits::RESUME),
        };
        let is_lost = matches!(self.link, Link::Lost { .. }) && step.resume_frame().is_some();
        let lost = or_look_up(lost, self.refind.as_ref().filter(|_| is_lost));
        match step {
            Step::Compare { until, .. } | Step::AwaitH4 { until, .. } | Step::Question { until, .. } => {
                earlier(Some(*until), lost)
            }
            Step::AwaitH6 { until, ends, .. } if self.stream().is_some() => Some((*until).min(*ends)),
            Step::AwaitH6 { ends, .. } => earlier(Some(*ends), lost),
            // Only its own end counts here: the links do the rest.
            Step::Reaching { until, .. } => Some(*until),
            Step::StoringPending { .. } | Step::StoringPaired { .. } => None,
        }
    }

    /// Whether a lost handshake cannot be resumed any more.
    pub(super) fn gave_up(&self, now: Time) -> bool {
        match &self.link {
            Link::Up { .. } => false,
            Link::Lost { since, refused, .. } => {
                now.since(*since) >= limits::RESUME || *refused >= limits::REFUSED_DIALS
            }
        }
    }

    /// The stream broke.
    pub(super) fn lost(&mut self, now: Time) {
        if let Some(refind) = &mut self.refind {
            refind.start(now);
        }
        self.link = Link::Lost { since: now, dials: 0, refused: 0, redial: Redial::Waiting { until: now } };
    }

    /// Abandons the stream, to try another connection.
    pub(super) fn abandon(&mut self, cx: &mut Context<'_>) {
        if let Some(stream) = self.stream() {
            cx.reset(stream);
        }
        self.lost(cx.now.time);
    }

    /// Starts a new connection if one is due, and ends a try that a refusal has made hopeless.
    pub(super) fn redial(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        let Link::Lost { dials, redial, .. } = &mut self.link else { return };
        if let Some(refind) = &mut self.refind {
            refind.run(cx);
        }
        match redial {
            Redial::Waiting { until } if *until <= now => {
                let mut dial = |transport, relays: Vec<RelayAddress>| {
                    let addresses: Vec<Address> =
                        self.addresses.iter().copied().filter(|a| a.transport == transport).collect();
                    let leads_there = !addresses.is_empty() || !relays.is_empty();
                    leads_there.then(|| cx.job(Job::Dial { tid: Some(self.tid), addresses, relays }))
                };
                // It may have been the relay that was lost: first another one is tried alone, for a moment.
                let mut lost: Vec<Address> = self.via.filter(|_| *dials == 0).into_iter().collect();
                let relays = other_relays(&self.relays, &mut lost);
                let until = (relays.len() < self.relays.len()).then_some(now + limits::OTHER_RELAY_FIRST);
                let others = dial(Transport::Quic, relays);
                let tcp = dial(Transport::Tcp, Vec::new());
                *dials += 1;
                *redial = Redial::Dialling { others, tcp, until };
            }
            Redial::Dialling { others, tcp, until: Some(until) } if *until <= now => {
                for job in [*others, *tcp].into_iter().flatten() {
                    cx.cancel(job);
                }
                *redial = Redial::Waiting { until: now + redial_pause(*dials) };
            }
            Redial::Waiting { .. } | Redial::Dialling { .. } | Redial::Opening { .. } => {}
        }
    }

    pub(super) fn dialled(&mut self, id: JobId, reached: Reached, cx: &mut Context<'_>) {
        let Link::Lost { redial, .. } = &mut self.link else { return };
        let Redial::Dialling { others, tcp, .. } = redial else { return };
        if ![*others, *tcp].contains(&Some(id)) {
            return;
        }
        for other in [*others, *tcp].into_iter().flatten().filter(|job| *job != id) {
            cx.cancel(other);
        }
        let job = cx.job(Job::OpenStream(reached.conn));
        *redial = Redial::Opening { job };
        self.path = reached.path;
        self.via = (reached.path == Path::Relay).then_some(reached.address);
    }

    /// A look-up brought a record. If it says something new of where the initiator is, that is tried at once.
    pub(super) fn found(&mut self, id: JobId, record: &Record, cx: &mut Context<'_>) {
        let refind = self.refind.as_mut();
        let Some((addresses, relays)) = refind.and_then(|r| r.found(id, record, self.tid, cx.config.loopback)) else {
            return;
        };
        let known: Vec<Address> = self.addresses.iter().copied().filter(|a| !addresses.contains(a)).collect();
        self.addresses = addresses.into_iter().chain(known).take(limits::MAX_REMEMBERED).collect();
        self.relays = relays;
        if let Link::Lost { dials, refused, redial, .. } = &mut self.link
            && !matches!(redial, Redial::Opening { .. })
        {
            if let Redial::Dialling { others, tcp, .. } = redial {
                for job in [*others, *tcp].into_iter().flatten() {
                    cx.cancel(job);
                }
            }
            (*dials, *refused, *redial) = (0, 0, Redial::Waiting { until: cx.now.time });
        }
    }

    /// A look-up has ended.
    pub(super) fn looked_up(&mut self, id: JobId) {
        if let Some(refind) = &mut self.refind {
            refind.looked_up(id);
        }
    }

    pub(super) fn dial_failed(&mut self, id: JobId, failure: DialFailure, now: Time) {
        let Link::Lost { dials, refused, redial, .. } = &mut self.link else { return };
        let Redial::Dialling { others, tcp, until } = redial else { return };
        if *tcp == Some(id) {
            *tcp = None;
            // Another transport key at its address means the same: the run that we knew has ended. But where it was reached
            // through a relay, what refuses at its address may be a router.
            let silent = matches!(failure, DialFailure::NoAnswer | DialFailure::NoHost) || self.path == Path::Relay;
            *refused = if silent { 0 } else { *refused + 1 };
            if !silent {
                let soon = now + limits::AFTER_REFUSAL;
                *until = Some(until.map_or(soon, |other| other.min(soon)));
            }
        } else if *others == Some(id) {
            *others = None;
        } else {
            return;
        }
        if others.is_none() && tcp.is_none() {
            *redial = Redial::Waiting { until: now + redial_pause(*dials) };
        }
    }

    pub(super) fn stream_opened(&mut self, id: JobId, stream: StreamId, step: &mut Step, cx: &mut Context<'_>) {
        let opening = matches!(&self.link, Link::Lost { redial: Redial::Opening { job }, .. } if *job == id);
        match step.resume_frame() {
            Some(resume) if opening => {
                cx.send(stream, [resume].into_iter().chain(self.s3.clone()).chain([self.last.clone()]).collect());
                self.link = Link::Up { stream };
                if let Some(refind) = &mut self.refind {
                    refind.stop(cx);
                }
                if let Step::AwaitH6 { until, .. } = step {
                    *until = cx.now.time + limits::CONFIRMATION;
                }
            }
            _ => cx.finish(stream),
        }
    }

    pub(super) fn stream_failed(&mut self, id: JobId, now: Time) {
        if let Link::Lost { redial, .. } = &mut self.link
            && matches!(redial, Redial::Opening { job } if *job == id)
        {
            *redial = Redial::Waiting { until: now + limits::REDIAL_MIN };
        }
    }

    /// Hands a pending pairing whose handshake is gone to the links.
    pub(super) fn reaching(&self, pairing_id: PairingId, cx: &mut Context<'_>) -> Step {
        let (addresses, relays) = (self.addresses.clone(), self.relays.clone());
        cx.errand(Job::Reach { pairing_id, tid: self.tid, addresses, relays });
        Step::Reaching { pairing_id, until: cx.now.time + limits::HELLO_RETRY }
    }

    /// Ends whatever the handshake holds.
    pub(super) fn close(&mut self, cx: &mut Context<'_>) {
        if let Some(refind) = &mut self.refind {
            refind.stop(cx);
        }
        match &self.link {
            Link::Up { stream } => cx.finish(*stream),
            Link::Lost { redial: Redial::Dialling { others, tcp, .. }, .. } => {
                for job in [*others, *tcp].into_iter().flatten() {
                    cx.cancel(job);
                }
            }
            Link::Lost { redial: Redial::Opening { job }, .. } => cx.cancel(*job),
            Link::Lost { redial: Redial::Waiting { .. }, .. } => {}
        }
    }
}

/// The pause after the `dials`th try.
fn redial_pause(dials: u32) -> Duration {
    (limits::RESUME_REDIAL_MIN * 2u32.saturating_pow(dials.saturating_sub(1))).min(limits::RESUME_REDIAL_MAX)
}

impl Step {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Compare { .. } => "comparison",
            Step::AwaitH4 { .. } => "waiting_for_peer",
            Step::Question { .. } => "approval",
            Step::StoringPending { .. } | Step::AwaitH6 { .. } | Step::StoringPaired { .. } => "committing",
            Step::Reaching { .. } => "pending",
        }
    }

    /// What continues this step on a new connection.
    pub(super) fn resume_frame(&self) -> Option<Frame> {
        match self {
            Step::Compare { hs, .. } => Some(hs.resume_frame()),
            Step::AwaitH4 { hs, .. } => Some(hs.resume_frame()),
            Step::Question { hs, .. } => Some(hs.resume_frame()),
            Step::AwaitH6 { hs, .. } => Some(hs.resume_frame()),
            Step::StoringPending { .. } | Step::Reaching { .. } | Step::StoringPaired { .. } => None,
        }
    }
}
