//! Systems on which the hop limit of a datagram cannot be read without unsafe code: no beacons, and an error that says
//! so. Confirmation calls work everywhere.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use handfast_proto::lan::io::{Addressed, Transmit};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

/// A datagram as it was read: there is none.
pub(super) struct Read {
    pub(super) interface: u32,
    pub(super) source: SocketAddr,
    pub(super) addressed: Addressed,
    pub(super) hop_limit: u8,
    never: Infallible,
}

impl Read {
    pub(super) fn bytes(&self) -> &[u8] {
        match self.never {}
    }
}

/// A beacon socket: there is none.
pub(super) struct Socket(Infallible);

impl Socket {
    pub(super) fn host(_family: Family) -> io::Result<Socket> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "beacons are not supported on this system"))
    }

    pub(super) fn group(family: Family, _interface: u32) -> io::Result<Socket> {
        Socket::host(family)
    }

    pub(super) fn send(&self, _transmit: &Transmit) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn poll_read(&self, _cx: &mut Context<'_>) -> Poll<Option<Read>> {
        match self.0 {}
    }
}
