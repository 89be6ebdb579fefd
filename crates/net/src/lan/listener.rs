//! A confirmation listener: one port of the system's choice, both families (A25, A34).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::tls::{Identity, Tls, TlsError};

/// Connections the system keeps for us: as many as are let in at once.
const BACKLOG: i32 = 16;

/// Attempts to get a port that is free in both families: that one is free in one and taken in the other is rare.
const ATTEMPTS: usize = 8;

/// A listener that stands; dropping it closes its port.
pub(super) struct Listener {
    sockets: Vec<TcpListener>,
    pub(super) port: u16,
    pub(super) spki: [u8; 32],
    pub(super) acceptor: TlsAcceptor,
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    System(#[from] io::Error),
    #[error("too many listeners")]
    TooMany,
}

impl Listener {
    pub(super) fn open(tls: &Tls) -> Result<Listener, ListenError> {
        let Identity { spki, acceptor } = tls.identity()?;
        let sockets = both_families()?;
        let port =
            sockets.first().ok_or(io::ErrorKind::AddrNotAvailable).map_err(io::Error::from)?.local_addr()?.port();
        Ok(Listener { sockets, port, spki, acceptor })
    }

    /// The next connection.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for socket in &self.sockets {
            if let Poll::Ready(result) = socket.poll_accept(cx) {
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }
}

fn both_families() -> io::Result<Vec<TcpListener>> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let first = bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)?;
        let port = first.local_addr()?.port();
        match bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            Err(error) => {
                tracing::debug!(%error, "confirmation listener without IPv6");
                return Ok(vec![first]);
            }
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn bind(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
