//! A device that may be the initiator, and what is being tried with it.

use crate::addr::{Address, Path, RelayAddress, Transport};
use crate::cause::Cause;
use crate::handshake::joiner::SentH1;
use crate::id::{JobId, StreamId, Tid};
use crate::limits;
use crate::session::{Context, DialFailure, FoundBy, StreamEnd};
use crate::time::Time;

/// A device that may be the initiator.
pub(super) struct Candidate {
    /// Its transport key; of a device found on the local network it is known once a connection stands.
    pub(super) tid: Option<Tid>,
    pub(super) found_by: FoundBy,
    /// Its addresses are on one link with us; those that are not make another candidate.
    pub(super) near: bool,
    pub(super) addresses: Vec<Address>,
    /// The relays that lead to it: they make a candidate of their own, without addresses.
    pub(super) relayed: Vec<RelayAddress>,
    pub(super) state: State,
    pub(super) dials: u32,
    pub(super) unproven: u32,
    pub(super) failure: Option<Cause>,
    pub(super) dial_failure: Option<DialFailure>,
    pub(super) announced: bool,
    /// It proved the code and said that it is busy.
    pub(super) busy: bool,
    /// When it came in, if it is a connection that somebody else opened: with one try and no say in why a search fails.
    pub(super) came: Option<Time>,
}

/// What is being tried with a candidate.
pub(super) enum State {
    Waiting { until: Time },
    Dialling { job: JobId },
    Opening { job: JobId, address: Address, path: Path },
    AwaitH2 { stream: StreamId, address: Address, path: Path, hs: Box<SentH1>, until: Time },
    Dead,
}

impl Candidate {
    pub(super) fn new(tid: Option<Tid>, found_by: FoundBy, near: bool, addresses: Vec<Address>, at: Time) -> Candidate {
        Candidate {
            tid,
            found_by,
            near,
            addresses,
            relayed: Vec::new(),
            state: State::Waiting { until: at },
            dials: 0,
            unproven: 0,
            failure: None,
            dial_failure: None,
            announced: false,
            busy: false,
            came: None,
        }
    }

    /// The device with this transport key, through these relays. What is on the way to a relay says nothing of how near the
    /// device is.
    pub(super) fn through(relayed: Vec<RelayAddress>, tid: Tid, at: Time) -> Candidate {
        Candidate { relayed, ..Candidate::new(Some(tid), FoundBy::Dht, false, Vec::new(), at) }
    }

    /// Whether relays are the way to it.
    pub(super) fn is_relayed(&self) -> bool {
        !self.relayed.is_empty()
    }

    /// Somebody who connected to us from there.
    pub(super) fn caller(&self, now: Time) -> Candidate {
        let new = Candidate::new(None, self.found_by, self.near, self.addresses.clone(), now);
        Candidate { came: Some(now), announced: self.announced, ..new }
    }

    /// Ends whatever is being tried with it.
    pub(super) fn drop(&mut self, cx: &mut Context<'_>) {
        match &self.state {
            State::Dialling { job } | State::Opening { job, .. } => cx.cancel(*job),
            State::AwaitH2 { stream, .. } => cx.finish(*stream),
            State::Waiting { .. } | State::Dead => {}
        }
        self.state = State::Dead;
    }

    /// What the next dial tries: everything, or every other time TCP alone, which a host refuses at once when the program is
    /// gone, where QUIC is silent and as good as blocked.
    pub(super) fn next_addresses(&self) -> Vec<Address> {
        let tcp: Vec<Address> = self.addresses.iter().copied().filter(|a| a.transport == Transport::Tcp).collect();
        if self.dials.is_multiple_of(2) && !tcp.is_empty() { tcp } else { self.addresses.clone() }
    }

    pub(super) fn is_dialled_by(&self, id: JobId) -> bool {
        matches!(self.state, State::Dialling { job } if job == id)
    }

    pub(super) fn is_opened_by(&self, id: JobId) -> bool {
        matches!(self.state, State::Opening { job, .. } if job == id)
    }

    pub(super) fn awaits_on(&self, id: StreamId) -> bool {
        matches!(self.state, State::AwaitH2 { stream, .. } if stream == id)
    }

    /// Closed, or failed to open, before a valid H2. It may be busy, so it is tried again; closing on purpose each time
    /// means that it cannot prove the code.
    pub(super) fn unproven(&mut self, end: StreamEnd, now: Time) {
        self.unproven += 1;
        let cause = match end {
            StreamEnd::Finished => Cause::AuthenticationFailed,
            // Found, and cut before it said anything: as good as no connection.
            StreamEnd::Lost => Cause::Unreachable,
        };
        if self.came.is_some() || end == StreamEnd::Finished && self.unproven >= limits::UNPROVEN_TRIES {
            self.kill(cause);
            return;
        }
        self.failure = Some(cause);
        let pause = limits::REDIAL_MIN * self.unproven.min(4);
        self.state = State::Waiting { until: now + pause };
    }

    pub(super) fn dial_failed(&mut self, failure: DialFailure, pinned: bool, now: Time) {
        // A relay that is gone, or has another key by now, is no word of the device behind it.
        let failure = if self.is_relayed() { DialFailure::NoAnswer } else { failure };
        match failure {
            DialFailure::WrongPeer if pinned => self.kill(Cause::WrongDevice),
            DialFailure::Refused | DialFailure::NoAnswer | DialFailure::NoHost | DialFailure::WrongPeer => {
                self.dial_failure = Some(failure);
                self.failure = Some(Cause::Unreachable);
                let pause = limits::REDIAL_MIN * 2u32.saturating_pow(self.dials.saturating_sub(1).min(8));
                self.state = State::Waiting { until: now + pause.min(limits::REDIAL_MAX) };
            }
        }
    }

    pub(super) fn kill(&mut self, cause: Cause) {
        self.failure = self.came.is_none().then_some(cause);
        self.state = State::Dead;
    }
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        match self {
            State::Dialling { .. } | State::Opening { .. } | State::AwaitH2 { .. } => true,
            State::Waiting { .. } | State::Dead => false,
        }
    }
}

/// How the tries of a candidate end, those that got further last: of several candidates' failures the furthest explains
/// a search best.
const BY_PROGRESS: [Cause; 4] = [Cause::Unreachable, Cause::TimedOut, Cause::AuthenticationFailed, Cause::WrongDevice];

pub(super) fn progress(cause: Cause) -> Option<usize> {
    BY_PROGRESS.iter().position(|c| *c == cause)
}
