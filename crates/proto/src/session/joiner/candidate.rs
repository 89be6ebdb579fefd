//! A device that may be the initiator, and what is being tried with it.

use crate::addr::{Address, Path, RelayAddress, Transport, other_relays};
use crate::cause::Cause;
use crate::handshake::joiner::SentH1;
use crate::id::{JobId, StreamId, Tid};
use crate::limits;
use crate::session::{Context, DialFailure, FoundBy, Job, Reached, StreamEnd};
use crate::time::Time;

/// Addresses kept for one candidate: those of two adverts.
const MAX_ADDRESSES: usize = 12;

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
    /// Those of them that have connected us and carried nothing.
    stalled: Vec<Address>,
    pub(super) state: State,
    /// Ways that only a newer record names than the one that is being dialled by.
    fresh: Fresh,
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

/// Ways to a device that have never been tried.
#[derive(Default)]
struct Fresh {
    addresses: Vec<Address>,
    relays: Vec<RelayAddress>,
}

/// What is being tried with a candidate.
pub(super) enum State {
    Waiting {
        until: Time,
    },
    /// The dial of everything that was known, and those beside it of what has been learned since.
    Dialling {
        jobs: Vec<JobId>,
    },
    Opening {
        job: JobId,
        reached: Reached,
    },
    AwaitH2 {
        stream: StreamId,
        reached: Reached,
        hs: Box<SentH1>,
        until: Time,
    },
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
            stalled: Vec::new(),
            state: State::Waiting { until: at },
            fresh: Fresh::default(),
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
            State::Dialling { jobs } => jobs.iter().for_each(|job| cx.cancel(*job)),
            State::Opening { job, .. } => cx.cancel(*job),
            State::AwaitH2 { stream, .. } => cx.finish(*stream),
            State::Waiting { .. } | State::Dead => {}
        }
        self.state = State::Dead;
    }

    /// Takes what a newer record says of where this is. It is tried at once, since what was known may be where nobody answers;
    /// but who has closed, or asked us to wait, is left its time.
    pub(super) fn learn(&mut self, newer: Candidate, now: Time) {
        let Candidate { addresses, relayed, .. } = newer;
        let unknown: Vec<Address> = addresses.into_iter().filter(|a| !self.addresses.contains(a)).collect();
        let relays: Vec<RelayAddress> = relayed.iter().copied().filter(|r| !self.relayed.contains(r)).collect();
        let is_news = !unknown.is_empty() || !relays.is_empty();
        match &mut self.state {
            State::Dialling { .. } => {
                self.fresh.addresses.splice(0..0, unknown.iter().copied());
                self.fresh.addresses.truncate(MAX_ADDRESSES);
                if !relays.is_empty() {
                    self.fresh.relays = relays;
                }
            }
            State::Waiting { until } if is_news && self.dial_failure.is_some() && self.unproven == 0 && !self.busy => {
                *until = now.min(*until);
                self.dials = 0;
            }
            State::Waiting { .. } | State::Opening { .. } | State::AwaitH2 { .. } | State::Dead => {}
        }
        // The newest first: a dial tries only so many.
        self.addresses.splice(0..0, unknown);
        self.addresses.truncate(MAX_ADDRESSES);
        // A device has few relays at a time, so those of its newest record alone lead to it.
        self.relayed = relayed;
    }

    /// A dial is due.
    pub(super) fn dial(&mut self, cx: &mut Context<'_>) {
        self.dials += 1;
        self.fresh = Fresh::default();
        let (addresses, relays) = (self.next_addresses(), other_relays(&self.relayed, &mut self.stalled));
        let job = cx.job(Job::Dial { tid: self.tid, addresses, relays });
        self.state = State::Dialling { jobs: vec![job] };
    }

    /// H1 is sent; when H2 must be here. A relay that may carry nothing has less time, if there is another one.
    pub(super) fn proof_due(&self, reached: &Reached, now: Time) -> Time {
        now + if self.may_be_stalled(reached) { limits::RELAY_STALL } else { limits::HANDSHAKE_STEP }
    }

    /// H2 has not come in time.
    pub(super) fn unanswered(&mut self, stream: StreamId, reached: &Reached, cx: &mut Context<'_>) {
        cx.reset(stream);
        if !self.may_be_stalled(reached) {
            self.kill(Cause::TimedOut);
            return;
        }
        // Closed, or else it would be the answer to the next dial.
        cx.close(reached.conn);
        self.stalled.push(reached.address);
        self.failure = Some(Cause::TimedOut);
        self.dial(cx);
    }

    /// Whether it was reached through a relay and there is another one that has not failed this way.
    fn may_be_stalled(&self, reached: &Reached) -> bool {
        let untried = |r: &RelayAddress| r.relay != reached.address && !self.stalled.contains(&r.relay);
        reached.path == Path::Relay && self.relayed.iter().any(untried)
    }

    /// Dials what has been learned since the dial under way began, beside it.
    pub(super) fn dial_fresh(&mut self, cx: &mut Context<'_>) {
        if let State::Dialling { jobs } = &mut self.state
            && jobs.len() < limits::DIALS_OF_CANDIDATE
            && (!self.fresh.addresses.is_empty() || !self.fresh.relays.is_empty())
        {
            let Fresh { addresses, relays } = std::mem::take(&mut self.fresh);
            jobs.push(cx.job(Job::Dial { tid: self.tid, addresses, relays }));
        }
    }

    /// One of its dials has connected: the others are not needed any more.
    pub(super) fn end_other_dials(&self, id: JobId, cx: &mut Context<'_>) {
        if let State::Dialling { jobs } = &self.state {
            jobs.iter().filter(|job| **job != id).for_each(|job| cx.cancel(*job));
        }
    }

    /// What the next dial tries: everything, or every other time TCP alone, which a host refuses at once when the program is
    /// gone, where QUIC is silent and as good as blocked.
    fn next_addresses(&self) -> Vec<Address> {
        let tcp: Vec<Address> = self.addresses.iter().copied().filter(|a| a.transport == Transport::Tcp).collect();
        if self.dials.is_multiple_of(2) && !tcp.is_empty() { tcp } else { self.addresses.clone() }
    }

    pub(super) fn is_dialled_by(&self, id: JobId) -> bool {
        matches!(&self.state, State::Dialling { jobs } if jobs.contains(&id))
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

    /// One of its dials failed.
    pub(super) fn dial_failed(&mut self, id: JobId, failure: DialFailure, pinned: bool, cx: &mut Context<'_>) {
        let State::Dialling { jobs } = &mut self.state else { return };
        jobs.retain(|job| *job != id);
        // A relay that is gone, or has another key by now, is no word of the device behind it.
        let failure = if self.is_relayed() { DialFailure::NoAnswer } else { failure };
        match failure {
            DialFailure::WrongPeer if pinned => {
                self.drop(cx);
                self.kill(Cause::WrongDevice);
            }
            DialFailure::Refused | DialFailure::NoAnswer | DialFailure::NoHost | DialFailure::WrongPeer => {
                self.dial_failure = Some(failure);
                self.failure = Some(Cause::Unreachable);
                if matches!(&self.state, State::Dialling { jobs } if jobs.is_empty()) {
                    let pause = limits::REDIAL_MIN * 2u32.saturating_pow(self.dials.saturating_sub(1).min(8));
                    self.state = State::Waiting { until: cx.now.time + pause.min(limits::REDIAL_MAX) };
                }
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
