//! STUN over sockets: the service of a node, and in `client.rs` and `servers.rs` what asks such services about our own NAT. Nothing here
//! decides; `proto::stun` says what is answered and what is asked next.
//!
//! A packet is answered from the address it was sent to, also by a socket that is bound to all of them: otherwise the NAT
//! of whoever asked would throw the answer away.

mod client;
mod servers;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handfast_proto::addr::{Address, Class, classify};
use handfast_proto::stun::service::{Place, Service};
use handfast_proto::stun::{MAX_MESSAGE, PORT};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as System, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use client::discover;
pub use servers::{BadStunServer, StunServer};

use crate::interfaces;
use crate::rate::Rate;

/// Requests of one source address that are answered in a second, at all sockets together. Many devices can share the
/// address of a carrier, and each needs about ten to find out what its NAT does; in an attack by invented addresses it
/// bounds what a victim gets: with all headers 2.2 times the attacker's own bytes at most.
const PER_SOURCE: u8 = 100;

/// Room for datagrams that are read at once. The system may hand over several of one sender together.
const READ_LEN: usize = 16 * MAX_MESSAGE;

/// After the system refuses to read, it is asked again this much later.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// Addresses a service may be told to listen at.
const MAX_LISTEN: usize = 8;

/// Where it cannot listen, and why.
#[derive(Debug, thiserror::Error)]
pub enum StunError {
    /// The system refuses.
    #[error("STUN at {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// More addresses than it takes.
    #[error("STUN listens at {MAX_LISTEN} addresses at most")]
    TooMany,
}

/// What a service has done since its start.
#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    dropped: AtomicU64,
}

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct StunService {
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

/// One socket of the service.
struct Socket {
    bound: SocketAddr,
    system: UdpSocket,
    state: UdpSocketState,
}

/// Everything that the tasks of a service share.
struct Shared {
    sockets: Vec<Socket>,
    services: Vec<Service>,
    rate: Mutex<Rate>,
    counters: Arc<Counters>,
}

impl StunService {
    /// Listens at these addresses, as a rule a wildcard of each family, and answers until it is dropped. Must be called
    /// inside a tokio runtime.
    ///
    /// Of each family in which two addresses are named, both are used on two ports each, so that whoever asks can find out
    /// what its NAT does: the second port is that of the second address, or the one after the first. So are two public
    /// IPv4 addresses of this machine where all are listened at. (IPv6 addresses come and go by themselves.)
    ///
    /// # Errors
    /// When one of the addresses cannot be listened at. The second port may be taken: then there is none.
    pub fn start(listen: &[SocketAddr]) -> Result<StunService, StunError> {
        if listen.len() > MAX_LISTEN {
            return Err(StunError::TooMany);
        }
        let bind = |address: &SocketAddr| {
            Socket::bind(*address).map_err(|error| StunError::Listen { address: *address, error })
        };
        Ok(StunService::of(listen.iter().map(bind).collect::<Result<_, _>>()?))
    }

    /// The same at STUN's own port of the addresses at which a node listens, as far as nothing else has it: none at all
    /// if there is nowhere to listen.
    pub fn beside(listen: &[Address]) -> Option<StunService> {
        let mut wanted: Vec<SocketAddr> = listen.iter().map(|address| SocketAddr::new(address.ip, PORT)).collect();
        wanted.sort();
        wanted.dedup();
        wanted.truncate(MAX_LISTEN);
        let bind = |address: SocketAddr| {
            let failed = |error: &io::Error| {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                tracing::info!(family, port = PORT, %error, "no STUN here");
            };
            Socket::bind(address).inspect_err(failed).ok()
        };
        let sockets: Vec<Socket> = wanted.into_iter().filter_map(bind).collect();
        (!sockets.is_empty()).then(|| StunService::of(sockets))
    }

    fn of(mut sockets: Vec<Socket>) -> StunService {
        let addresses = sockets.iter().map(|socket| socket.bound).collect();
        let services = [true, false].into_iter().filter_map(|ipv4| with_two(&mut sockets, ipv4)).collect();
        let counters = Arc::new(Counters::default());
        let rate = Mutex::new(Rate::new(PER_SOURCE, Instant::now()));
        let shared = Arc::new(Shared { sockets, services, rate, counters: Arc::clone(&counters) });
        let mut tasks = JoinSet::new();
        for index in 0..shared.sockets.len() {
            tasks.spawn(serve(Arc::clone(&shared), index));
        }
        StunService { addresses, counters, _tasks: tasks }
    }

    /// Where it listens, the second ports aside.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.counters.answered.load(Ordering::Relaxed)
    }

    /// Datagrams that were not: no requests, or too many of one source.
    pub fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::Relaxed)
    }
}

/// Two addresses of a family, and their second sockets, where there are two. Without them nothing is missing but this.
fn with_two(sockets: &mut Vec<Socket>, ipv4: bool) -> Option<Service> {
    let of_family: Vec<SocketAddr> = sockets.iter().map(|s| s.bound).filter(|bound| bound.is_ipv4() == ipv4).collect();
    let first = of_family.first()?;
    let ips: Vec<IpAddr> = if first.ip().is_unspecified() && !ipv4 {
        Vec::new()
    } else if first.ip().is_unspecified() {
        let ours = interfaces::list().into_iter().map(|interface| interface.address.ip);
        ours.filter(|ip| ip.is_ipv4() == ipv4 && classify(*ip) == Class::Public).collect()
    } else {
        of_family.iter().map(SocketAddr::ip).collect()
    };
    let ips = [*ips.first()?, *ips.iter().find(|ip| **ip != ips[0])?];
    let named = of_family.iter().map(SocketAddr::port).find(|port| *port != first.port());
    let ports = [first.port(), named.or(first.port().checked_add(1))?];
    let at = if first.ip().is_unspecified() { vec![first.ip()] } else { ips.to_vec() };
    let wanted = at.into_iter().flat_map(|ip| ports.map(|port| SocketAddr::new(ip, port)));
    let missing = wanted.filter(|address| sockets.iter().all(|socket| socket.bound != *address));
    let failed = |error: &io::Error| tracing::info!(%error, "STUN has no second port");
    let more: Vec<Socket> = missing.map(Socket::bind).collect::<Result<_, _>>().inspect_err(failed).ok()?;
    sockets.extend(more);
    Some(Service::Two { ips, ports })
}

/// Answers what comes in at one of the sockets.
async fn serve(shared: Arc<Shared>, index: usize) {
    let socket = &shared.sockets[index];
    let mut buffer = vec![0; READ_LEN];
    loop {
        let meta = match socket.receive(&mut buffer).await {
            Ok(meta) => meta,
            Err(error) => {
                tracing::debug!(%error, "STUN cannot read");
                sleep(READ_AGAIN).await;
                continue;
            }
        };
        for datagram in buffer[..meta.len.min(READ_LEN)].chunks(meta.stride.max(1)) {
            let count = if shared.admits(&meta) && shared.answer(socket, &meta, datagram) {
                &shared.counters.answered
            } else {
                &shared.counters.dropped
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn admits(&self, meta: &RecvMeta) -> bool {
        // Whoever has panicked while holding it has left a counter as it was.
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.admit(meta.addr.ip(), Instant::now())
    }

    /// Answers a datagram; `false` if there is nothing to answer, or the system does not take it.
    fn answer(&self, socket: &Socket, meta: &RecvMeta, datagram: &[u8]) -> bool {
        let here = SocketAddr::new(meta.dst_ip.unwrap_or(socket.bound.ip()), socket.bound.port());
        let at = |service: &Service| Place::ALL.into_iter().find(|place| service.at(*place) == Some(here));
        let found = self.services.iter().find_map(|service| Some((*service, at(service)?)));
        let (service, place) = found.unwrap_or((Service::One, Place::PRIMARY));
        let Some(answer) = service.answer(place, meta.addr, datagram) else { return false };
        let from = service.at(answer.from).unwrap_or(here);
        let fits = |socket: &&Socket| {
            let bound = socket.bound;
            bound.port() == from.port() && (bound.ip() == from.ip() || is_wildcard_for(bound.ip(), from.ip()))
        };
        let Some(sender) = self.sockets.iter().find(fits) else { return false };
        sender.send(from.ip(), meta.addr, &answer.bytes)
    }
}

fn is_wildcard_for(bound: IpAddr, ip: IpAddr) -> bool {
    bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4()
}

impl Socket {
    fn bind(address: SocketAddr) -> io::Result<Socket> {
        let socket = System::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // Each family has a socket of its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let system = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new(UdpSockRef::from(&system))?;
        Ok(Socket { bound: system.local_addr()?, system, state })
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let read = || {
            let mut metas = [RecvMeta::default()];
            self.state.recv(UdpSockRef::from(&self.system), &mut [IoSliceMut::new(buffer)], &mut metas)?;
            Ok(metas[0])
        };
        self.system.async_io(Interest::READABLE, read).await
    }

    /// Sends from one of the addresses that it is bound to. What does not fit is lost, as it would be on the way.
    fn send(&self, from: IpAddr, destination: SocketAddr, contents: &[u8]) -> bool {
        let src_ip = self.bound.ip().is_unspecified().then_some(from);
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        self.system
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.system), &transmit))
            .is_ok()
    }
}

#[cfg(test)]
mod tests;
