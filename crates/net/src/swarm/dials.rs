//! Trap 12 (a dial that returned `Ok` has not connected): one race over all addresses of a peer, answered once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::addr::Address;
use handfast_proto::id::{ConnId, JobId, Tid};
use libp2p::core::transport::TransportError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::ids;
use crate::api::DialFailure;

/// Addresses of one dial that are tried, all at once.
pub const MAX_DIAL_ADDRESSES: usize = 8;

/// Dials that run at once; a device tries eight candidates, three at a time, for a few sessions.
const MAX_DIALS: usize = 64;

/// A dial of the owner.
struct Dial {
    peer: Option<PeerId>,
    attempts: BTreeSet<ConnectionId>,
    failures: Vec<DialFailure>,
    deadline: Instant,
}

/// The dials that run.
#[derive(Default)]
pub(crate) struct Dials {
    jobs: BTreeMap<JobId, Dial>,
    attempts: BTreeMap<ConnectionId, JobId>,
}

/// What the driver is to do for a new dial.
pub(crate) enum Start {
    /// It failed already.
    Failed(DialFailure),
    /// Hand these to the swarm, one attempt each, and tell [`Dials::attempt_failed`] what it refuses.
    Attempts(Vec<DialOpts>),
}

/// A dial that is over, and the attempts that are not wanted any more.
pub(crate) struct Over {
    pub(crate) id: JobId,
    pub(crate) result: Result<ConnId, DialFailure>,
    pub(crate) give_up: BTreeSet<ConnectionId>,
}

impl Dials {
    /// Starts a dial. Each IP address is an attempt of its own, so that they all start at once; within it the swarm
    /// starts QUIC and a little later TCP.
    pub(crate) fn start(&mut self, id: JobId, tid: Option<Tid>, addresses: &[Address], limit: Duration) -> Start {
        if self.jobs.len() >= MAX_DIALS || self.jobs.contains_key(&id) {
            return Start::Failed(DialFailure::Other("too many dials at once".to_owned()));
        }
        let peer = tid.as_ref().map(ids::peer_of);
        let attempts = attempts_of(peer, addresses);
        if attempts.is_empty() {
            return Start::Failed(DialFailure::NoAddress);
        }
        let ids: BTreeSet<ConnectionId> = attempts.iter().map(DialOpts::connection_id).collect();
        for attempt in &ids {
            self.attempts.insert(*attempt, id);
        }
        self.jobs.insert(id, Dial { peer, attempts: ids, failures: Vec::new(), deadline: Instant::now() + limit });
        Start::Attempts(attempts)
    }

    /// An attempt failed; the dial is over when it was the last.
    pub(crate) fn attempt_failed(&mut self, attempt: ConnectionId, error: &DialError) -> Option<Over> {
        let id = self.attempts.remove(&attempt)?;
        let dial = self.jobs.get_mut(&id)?;
        dial.attempts.remove(&attempt);
        dial.failures.push(failure_of(error));
        if !dial.attempts.is_empty() {
            return None;
        }
        let dial = self.jobs.remove(&id)?;
        Some(Over { id, result: Err(worst(dial.failures)), give_up: BTreeSet::new() })
    }

    /// A connection to `peer` stands: every dial to it is answered, whoever made the connection.
    pub(crate) fn connected(&mut self, attempt: ConnectionId, peer: &PeerId, conn: ConnId) -> Vec<Over> {
        let own = self.attempts.get(&attempt).copied();
        let answered: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(id, dial)| Some(**id) == own || dial.peer.as_ref() == Some(peer))
            .map(|(id, _)| *id)
            .collect();
        answered
            .into_iter()
            .filter_map(|id| self.end(id, Ok(conn)))
            .map(|mut over| {
                over.give_up.remove(&attempt);
                over
            })
            .collect()
    }

    /// Forgets a dial; gives the attempts that are not wanted any more.
    pub(crate) fn cancel(&mut self, id: JobId) -> BTreeSet<ConnectionId> {
        self.end(id, Err(DialFailure::TimedOut)).map(|over| over.give_up).unwrap_or_default()
    }

    /// Dials whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Over> {
        let late: Vec<JobId> = self.jobs.iter().filter(|(_, dial)| dial.deadline <= now).map(|(id, _)| *id).collect();
        late.into_iter()
            .filter_map(|id| {
                let mut failures = self.jobs.get(&id)?.failures.clone();
                failures.push(DialFailure::TimedOut);
                self.end(id, Err(worst(failures)))
            })
            .collect()
    }

    /// When the next dial runs out of time.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.jobs.values().map(|dial| dial.deadline).min()
    }

    fn end(&mut self, id: JobId, result: Result<ConnId, DialFailure>) -> Option<Over> {
        let dial = self.jobs.remove(&id)?;
        for attempt in &dial.attempts {
            self.attempts.remove(attempt);
        }
        Some(Over { id, result, give_up: dial.attempts })
    }
}

fn attempts_of(peer: Option<PeerId>, addresses: &[Address]) -> Vec<DialOpts> {
    let usable: BTreeSet<Address> = addresses
        .iter()
        .filter(|a| a.port != 0 && !a.ip.is_unspecified() && !a.ip.is_multicast())
        .copied()
        .take(MAX_DIAL_ADDRESSES)
        .collect();
    match peer {
        Some(peer) => {
            let mut by_ip: BTreeMap<IpAddr, Vec<Multiaddr>> = BTreeMap::new();
            for address in &usable {
                by_ip.entry(address.ip).or_default().push(ids::multiaddr_of(address));
            }
            by_ip
                .into_values()
                .map(|addresses| DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build())
                .collect()
        }
        None => usable
            .iter()
            .map(|address| DialOpts::unknown_peer_id().address(ids::multiaddr_of(address)).build())
            .collect(),
    }
}

/// Of several failures the one that says most: what a wrong device is, nobody needs to hear that another address of it
/// timed out.
fn worst(failures: Vec<DialFailure>) -> DialFailure {
    let rank = |failure: &DialFailure| match failure {
        DialFailure::WrongPeer(_) => 0,
        DialFailure::Ourselves => 1,
        DialFailure::NoHost => 2,
        DialFailure::TimedOut => 3,
        DialFailure::Other(_) => 4,
        DialFailure::Refused => 5,
        DialFailure::NoAddress => 6,
    };
    failures.into_iter().min_by_key(rank).unwrap_or(DialFailure::NoAddress)
}

fn failure_of(error: &DialError) -> DialFailure {
    match error {
        DialError::LocalPeerId { .. } => DialFailure::Ourselves,
        // The swarm drops our own listen addresses from a dial; nothing else can leave it empty.
        DialError::NoAddresses => DialFailure::Ourselves,
        DialError::WrongPeerId { obtained, .. } => match ids::tid_of(obtained) {
            Some(tid) => DialFailure::WrongPeer(tid),
            None => DialFailure::Other("the peer has no Ed25519 identity".to_owned()),
        },
        DialError::Transport(errors) => worst(errors.iter().map(|(_, e)| transport(e)).collect()),
        DialError::Aborted | DialError::DialPeerConditionFalse(_) | DialError::Denied { .. } => {
            DialFailure::Other(error.to_string())
        }
    }
}

fn transport(error: &TransportError<std::io::Error>) -> DialFailure {
    let TransportError::Other(error) = error else {
        return DialFailure::Other(error.to_string());
    };
    if let Some(failure) = by_kind(error) {
        return failure;
    }
    // The combinators of the transports hide QUIC's own error from the chain of sources, so its text has to do; a test
    // notices when it changes.
    let text = error.to_string();
    if text.contains("timed out") || text.contains("Timeout") {
        DialFailure::TimedOut
    } else if text.contains("refused") {
        DialFailure::Refused
    } else if text.contains("No route to host") {
        // What a link says when nobody answers its address resolution.
        DialFailure::NoHost
    } else {
        DialFailure::Other(text)
    }
}

fn by_kind(error: &std::io::Error) -> Option<DialFailure> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        let io = e.downcast_ref::<std::io::Error>();
        match io.map(std::io::Error::kind) {
            Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
                return Some(DialFailure::Refused);
            }
            Some(ErrorKind::HostUnreachable) => return Some(DialFailure::NoHost),
            Some(ErrorKind::TimedOut | ErrorKind::NetworkUnreachable) => {
                return Some(DialFailure::TimedOut);
            }
            Some(_) | None => {}
        }
        // A wrapping io::Error names as its source the source of what it wraps, and skips that itself.
        cause = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}
