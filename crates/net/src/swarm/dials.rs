//! Trap 12 (a dial that returned `Ok` has not connected): one race over all addresses of a peer, answered once.
//!
//! TCP dials leave from the port of the listener, so that a NAT and the other side know it. The system may refuse to bind
//! that port once more (EADDRINUSE, while another socket has it); the TCP transport then gives up, and the attempt is
//! repeated here from a port of the system's choice.
//!
//! Relays run in the same race, a moment later: a direct way costs nobody else anything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::addr::{Address, RelayAddress};
use handfast_proto::id::{ConnId, JobId, Tid};
use libp2p::core::transport::TransportError;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::ids;
use crate::api::DialFailure;

/// Addresses of one dial that are tried, all at once.
pub const MAX_DIAL_ADDRESSES: usize = 8;

/// Relays of one dial that are tried: those of two adverts.
pub const MAX_DIAL_RELAYS: usize = 4;

/// How long after the addresses of a dial its relays are tried. Two round trips across a continent: whoever can be
/// reached directly mostly has been by then, and who cannot be waits no longer than anybody notices.
pub const DIRECT_FIRST: Duration = Duration::from_millis(200);

/// How soon a relay is asked again that was just being connected to for another reason, and how often: the library gives
/// up the second of two dials to one peer. Each wait is twice the one before, three seconds together.
const RELAY_AGAIN: Duration = Duration::from_millis(50);
const RELAY_TRIES: u32 = 6;

/// Dials that run at once; a device tries eight candidates, three at a time, for a few sessions.
const MAX_DIALS: usize = 64;

/// A dial of the owner.
struct Dial {
    peer: Option<PeerId>,
    attempts: BTreeSet<ConnectionId>,
    failures: Vec<DialFailure>,
    deadline: Instant,
    /// Whether a way through a relay is an answer.
    by_relay: bool,
    /// How often a relay had to be asked again.
    relay_tries: u32,
    /// The relays that have not been tried, and when they will be.
    later: Option<(Instant, Vec<Multiaddr>)>,
}

/// The dials that run.
#[derive(Default)]
pub(crate) struct Dials {
    jobs: BTreeMap<JobId, Dial>,
    attempts: BTreeMap<ConnectionId, Attempt>,
}

/// One dial of the swarm.
struct Attempt {
    job: JobId,
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    /// It is a repetition already.
    again: bool,
}

/// What follows from a failed attempt.
pub(crate) enum Failed {
    /// Others still run, or nobody waits.
    Nothing,
    /// The dial is over.
    Over(Over),
    /// Hand these to the swarm in its place.
    Go(Vec<DialOpts>),
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
    /// starts QUIC and a little later TCP. So is each relay.
    pub(crate) fn start(
        &mut self,
        id: JobId,
        tid: Option<Tid>,
        addresses: &[Address],
        relays: &[RelayAddress],
        limit: Duration,
    ) -> Start {
        if self.jobs.len() >= MAX_DIALS || self.jobs.contains_key(&id) {
            return Start::Failed(DialFailure::Other("too many dials at once".to_owned()));
        }
        let now = Instant::now();
        let peer = tid.as_ref().map(ids::peer_of);
        let circuits: Vec<Multiaddr> = match peer {
            Some(peer) => relays.iter().take(MAX_DIAL_RELAYS).map(|r| ids::circuit_of(r, Some(&peer))).collect(),
            None => Vec::new(),
        };
        let mut attempts = attempts_of(peer, addresses);
        let by_relay = !circuits.is_empty();
        let mut later = by_relay.then(|| (now + DIRECT_FIRST, circuits));
        if attempts.is_empty() {
            attempts = later.take().map(|(_, circuits)| by_relays(peer, circuits)).unwrap_or_default();
        }
        if attempts.is_empty() {
            return Start::Failed(DialFailure::NoAddress);
        }
        let (attempts_of_dial, failures, deadline) = (BTreeSet::new(), Vec::new(), now + limit);
        let dial = Dial { peer, attempts: attempts_of_dial, failures, deadline, by_relay, relay_tries: 0, later };
        self.jobs.insert(id, dial);
        Start::Attempts(self.add(id, peer, attempts))
    }

    /// The relays whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<DialOpts> {
        let is_due = |dial: &Dial| dial.later.as_ref().is_some_and(|(at, _)| *at <= now);
        let due: Vec<JobId> = self.jobs.iter().filter(|(_, dial)| is_due(dial)).map(|(id, _)| *id).collect();
        due.into_iter().flat_map(|id| self.go_by_relay(id)).collect()
    }

    fn go_by_relay(&mut self, id: JobId) -> Vec<DialOpts> {
        let Some(dial) = self.jobs.get_mut(&id) else { return Vec::new() };
        let peer = dial.peer;
        let attempts = dial.later.take().map(|(_, circuits)| by_relays(peer, circuits)).unwrap_or_default();
        self.add(id, peer, attempts)
    }

    fn add(&mut self, id: JobId, peer: Option<PeerId>, attempts: Vec<(DialOpts, Vec<Multiaddr>)>) -> Vec<DialOpts> {
        let opts = attempts.into_iter().map(|(opts, addresses)| {
            let attempt = opts.connection_id();
            self.attempts.insert(attempt, Attempt { job: id, peer, addresses, again: false });
            if let Some(dial) = self.jobs.get_mut(&id) {
                dial.attempts.insert(attempt);
            }
            opts
        });
        opts.collect()
    }

    /// An attempt failed; the dial is over when it was the last.
    pub(crate) fn attempt_failed(&mut self, attempt: ConnectionId, error: &DialError) -> Failed {
        let Some(Attempt { job: id, peer, addresses, again }) = self.attempts.remove(&attempt) else {
            return Failed::Nothing;
        };
        let Some(dial) = self.jobs.get_mut(&id) else { return Failed::Nothing };
        dial.attempts.remove(&attempt);
        let refused = taken_ports(error);
        let taken: Vec<Multiaddr> = addresses.iter().filter(|a| refused.contains(a)).cloned().collect();
        if !again && !taken.is_empty() {
            let opts = from_another_port(peer, &taken);
            dial.attempts.insert(opts.connection_id());
            dial.failures.extend(failures_elsewhere(error));
            self.attempts.insert(opts.connection_id(), Attempt { job: id, peer, addresses: taken, again: true });
            return Failed::Go(vec![opts]);
        }
        if is_in_the_way(error) && dial.relay_tries < RELAY_TRIES {
            let at = Instant::now() + RELAY_AGAIN * 2u32.pow(dial.relay_tries);
            dial.relay_tries += 1;
            dial.later.get_or_insert((at, Vec::new())).1.extend(addresses);
            return Failed::Nothing;
        }
        dial.failures.push(failure_of(error));
        if !dial.attempts.is_empty() {
            return Failed::Nothing;
        }
        if dial.later.is_some() {
            return Failed::Go(self.go_by_relay(id));
        }
        match self.jobs.remove(&id) {
            Some(dial) => Failed::Over(Over { id, result: Err(worst(dial.failures)), give_up: BTreeSet::new() }),
            None => Failed::Nothing,
        }
    }

    /// A connection to `peer` stands: every dial to it is answered, whoever made the connection; those that name no relay
    /// only by a direct one.
    pub(crate) fn connected(&mut self, attempt: ConnectionId, peer: &PeerId, conn: ConnId, relayed: bool) -> Vec<Over> {
        let own = self.attempts.get(&attempt).map(|attempt| attempt.job);
        let fits = |dial: &Dial| dial.peer.as_ref() == Some(peer) && (dial.by_relay || !relayed);
        let answered: Vec<JobId> =
            self.jobs.iter().filter(|(id, dial)| Some(**id) == own || fits(dial)).map(|(id, _)| *id).collect();
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

    /// When the next dial runs out of time, or goes on to its relays.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let later = self.jobs.values().filter_map(|dial| dial.later.as_ref().map(|(at, _)| *at));
        self.jobs.values().map(|dial| dial.deadline).chain(later).min()
    }

    fn end(&mut self, id: JobId, result: Result<ConnId, DialFailure>) -> Option<Over> {
        let dial = self.jobs.remove(&id)?;
        for attempt in &dial.attempts {
            self.attempts.remove(attempt);
        }
        Some(Over { id, result, give_up: dial.attempts })
    }
}

/// One attempt for each IP address of a known peer, each address of an unknown one, with what it tries.
fn attempts_of(peer: Option<PeerId>, addresses: &[Address]) -> Vec<(DialOpts, Vec<Multiaddr>)> {
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
                .map(|addresses| {
                    let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses.clone());
                    (opts.build(), addresses)
                })
                .collect()
        }
        None => usable
            .iter()
            .map(|address| {
                let address = ids::multiaddr_of(address);
                (DialOpts::unknown_peer_id().address(address.clone()).build(), vec![address])
            })
            .collect(),
    }
}

/// One attempt for each way through a relay.
fn by_relays(peer: Option<PeerId>, circuits: Vec<Multiaddr>) -> Vec<(DialOpts, Vec<Multiaddr>)> {
    let Some(peer) = peer else { return Vec::new() };
    let attempt = |circuit: Multiaddr| {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![circuit.clone()]);
        (opts.build(), vec![circuit])
    };
    circuits.into_iter().map(attempt).collect()
}

/// A repetition from a port of the system's choice. An unknown peer has one address.
#[expect(clippy::disallowed_methods, reason = "the port that dials keep is refused here")]
fn from_another_port(peer: Option<PeerId>, addresses: &[Multiaddr]) -> DialOpts {
    match (peer, addresses) {
        (None, [address, ..]) => DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build(),
        (None, []) => DialOpts::unknown_peer_id().address(Multiaddr::empty()).build(),
        (Some(peer), _) => DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses.to_vec())
            .allocate_new_port()
            .build(),
    }
}

/// The addresses that could not be dialled from the port of the listener.
fn taken_ports(error: &DialError) -> Vec<Multiaddr> {
    let DialError::Transport(errors) = error else { return Vec::new() };
    // The swarm has added the peer's id.
    let without_peer = |address: &Multiaddr| address.iter().filter(|p| !matches!(p, Protocol::P2p(_))).collect();
    errors.iter().filter(|(_, e)| is_taken(e)).map(|(address, _)| without_peer(address)).collect()
}

/// What became of the other addresses.
fn failures_elsewhere(error: &DialError) -> Vec<DialFailure> {
    let DialError::Transport(errors) = error else { return Vec::new() };
    errors.iter().filter(|(_, e)| !is_taken(e)).map(|(_, e)| transport(e)).collect()
}

fn is_taken(error: &TransportError<std::io::Error>) -> bool {
    match error {
        // The combinators of the transports hide the kind.
        TransportError::Other(e) => e.to_string().contains("Address already in use"),
        TransportError::MultiaddrNotSupported(_) => false,
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
        DialError::Transport(errors) => {
            let failure = |(address, error): &(Multiaddr, TransportError<std::io::Error>)| match ids::relay_of(address)
            {
                Some(_) => by_relay(error),
                None => transport(error),
            };
            worst(errors.iter().map(failure).collect())
        }
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

/// Trap 15: the relay client dials a relay only if nobody else is dialling it, and says no more of it than that it gave
/// up.
fn is_in_the_way(error: &DialError) -> bool {
    let DialError::Transport(errors) = error else { return false };
    let is_given_up =
        |error: &TransportError<std::io::Error>| format!("{error:?}").contains("ResponseFromBehaviourCanceled");
    errors.iter().any(|(address, error)| ids::relay_of(address).is_some() && is_given_up(error))
}

/// A relay that answers "nobody of that name is here" has answered for a peer that is gone.
fn by_relay(error: &TransportError<std::io::Error>) -> DialFailure {
    // What the relay said is in the chain of sources, which the combinators of the transports hide.
    if format!("{error:?}").contains("NoReservation") { DialFailure::Refused } else { DialFailure::TimedOut }
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

#[cfg(test)]
mod tests {
    use handfast_proto::addr::Transport;

    use super::*;

    const ID: JobId = JobId(7);

    fn failed(address: &Multiaddr, errno: i32) -> DialError {
        let error = std::io::Error::other(std::io::Error::from_raw_os_error(errno));
        DialError::Transport(vec![(address.clone(), TransportError::Other(error))])
    }

    #[test]
    fn a_port_that_the_system_does_not_lend_again_is_replaced_once() {
        const IN_USE: i32 = 98;
        const REFUSED: i32 = 111;
        for tid in [None, Some(Tid([3; 32]))] {
            for (second, failure) in [
                (IN_USE, DialFailure::Other("Address already in use (os error 98)".to_owned())),
                (REFUSED, DialFailure::Refused),
            ] {
                let ip = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
                let address = Address { ip, port: 4001, transport: Transport::Tcp };
                let mut dials = Dials::default();
                let Start::Attempts(attempts) = dials.start(ID, tid, &[address], &[], Duration::from_secs(5)) else {
                    panic!("it has an address")
                };
                let mut whole = ids::multiaddr_of(&address);
                tid.iter().for_each(|tid| whole.push(Protocol::P2p(ids::peer_of(tid))));
                let first = attempts[0].connection_id();
                let Failed::Go(again) = dials.attempt_failed(first, &failed(&whole, IN_USE)) else {
                    panic!("it is tried again")
                };
                let again = &again[0];
                assert!(matches!(dials.attempt_failed(first, &failed(&whole, IN_USE)), Failed::Nothing), "once");
                let Failed::Over(over) = dials.attempt_failed(again.connection_id(), &failed(&whole, second)) else {
                    panic!("it is over")
                };
                assert_eq!((over.id, over.result), (ID, Err(failure)));
                assert_eq!((dials.jobs.len(), dials.attempts.len()), (0, 0));
            }
        }
    }

    #[test]
    fn what_another_address_has_told_is_not_forgotten_when_a_port_is_replaced() {
        let ip = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let tcp = Address { ip, port: 4001, transport: Transport::Tcp };
        let quic = Address { transport: Transport::Quic, ..tcp };
        let mut dials = Dials::default();
        let Start::Attempts(attempts) = dials.start(ID, Some(Tid([3; 32])), &[quic, tcp], &[], Duration::from_secs(5))
        else {
            panic!("it has addresses")
        };
        let failed_both = |tcp_errno| {
            DialError::Transport(
                [(quic, 110), (tcp, tcp_errno)]
                    .map(|(address, errno)| {
                        let error = std::io::Error::other(std::io::Error::from_raw_os_error(errno));
                        (ids::multiaddr_of(&address), TransportError::Other(error))
                    })
                    .into(),
            )
        };
        let Failed::Go(again) = dials.attempt_failed(attempts[0].connection_id(), &failed_both(98)) else {
            panic!("it is tried again")
        };
        let refused = failed(&ids::multiaddr_of(&tcp), 111);
        let Failed::Over(over) = dials.attempt_failed(again[0].connection_id(), &refused) else { panic!("it is over") };
        assert_eq!(over.result, Err(DialFailure::TimedOut));
    }

    #[test]
    fn other_failures_end_the_dial_at_once() {
        let ip = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let address = Address { ip, port: 4001, transport: Transport::Tcp };
        let mut dials = Dials::default();
        let Start::Attempts(attempts) = dials.start(ID, None, &[address], &[], Duration::from_secs(5)) else {
            panic!("it has an address")
        };
        let error = failed(&ids::multiaddr_of(&address), 111);
        assert!(matches!(dials.attempt_failed(attempts[0].connection_id(), &error), Failed::Over(_)));
    }
}
