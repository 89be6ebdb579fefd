//! Port mapping: a router is asked to let others in at a port of its own, and to forget it again.
//!
//! `mapper.rs` says what is asked of which router, when, and what is believed of its answers; `messages.rs` has the
//! messages of PCP (RFC 6887) and NAT-PMP (RFC 6886). UPnP-IGD is spoken by a library, in `net`
//! (decision 0015).

mod mapper;
pub mod messages;

use std::net::{Ipv4Addr, SocketAddrV4};

pub use mapper::{MAX_KEPT, Mapper, Uplink};

use crate::addr::Transport;
use crate::wire::{Malformed, Reader};

/// How a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Port Control Protocol: the newest, and one that carriers' NATs may speak as well.
    Pcp,
    /// Its predecessor.
    NatPmp,
    /// UPnP Internet Gateway Device: what most routers at home have.
    Upnp,
}

impl Method {
    /// What is tried when this one comes to nothing; after the last the first.
    fn next(self) -> Method {
        match self {
            Method::Pcp => Method::NatPmp,
            Method::NatPmp => Method::Upnp,
            Method::Upnp => Method::Pcp,
        }
    }
}

/// A mapping that a router has, may have, or is to have: everything that is needed to ask for it, and to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The router.
    pub gateway: Ipv4Addr,
    /// How it is asked.
    pub method: Method,
    /// Our address and port, where it leads.
    pub inside: SocketAddrV4,
    /// What listens there.
    pub transport: Transport,
    /// The router's port that is wanted; PCP and NAT-PMP may give another one.
    pub outside_port: u16,
    /// Tells PCP that it is we who ask again.
    pub nonce: [u8; 12],
}

impl Mapping {
    /// Bytes of [`Mapping::to_bytes`].
    pub const LEN: usize = 26;

    /// As it is stored.
    pub fn to_bytes(&self) -> [u8; Mapping::LEN] {
        let mut out = [0; Mapping::LEN];
        let method = match self.method {
            Method::Pcp => 0,
            Method::NatPmp => 1,
            Method::Upnp => 2,
        };
        out[..4].copy_from_slice(&self.gateway.octets());
        out[4] = method;
        out[5..9].copy_from_slice(&self.inside.ip().octets());
        out[9..11].copy_from_slice(&self.inside.port().to_be_bytes());
        out[11] = u8::from(self.transport == Transport::Tcp);
        out[12..14].copy_from_slice(&self.outside_port.to_be_bytes());
        out[14..26].copy_from_slice(&self.nonce);
        out
    }

    /// Reads what [`Mapping::to_bytes`] writes and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Mapping, Malformed> {
        let mut reader = Reader::new(bytes);
        let gateway = Ipv4Addr::from(reader.array::<4>()?);
        let method = match reader.u8()? {
            0 => Method::Pcp,
            1 => Method::NatPmp,
            2 => Method::Upnp,
            _ => return Err(Malformed),
        };
        let inside = SocketAddrV4::new(Ipv4Addr::from(reader.array::<4>()?), reader.u16()?);
        let transport = match reader.u8()? {
            0 => Transport::Quic,
            1 => Transport::Tcp,
            _ => return Err(Malformed),
        };
        let (outside_port, nonce) = (reader.u16()?, reader.array()?);
        reader.end()?;
        Ok(Mapping { gateway, method, inside, transport, outside_port, nonce })
    }
}

/// What is to be done about a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Ask for it, or for more time. 0 seconds are for ever.
    Map {
        /// Seconds.
        lease: u32,
    },
    /// Take it back.
    Unmap,
}

/// One job of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which mapping.
    pub mapping: Mapping,
    /// What is to be done.
    pub task: Task,
}

/// What a router says it has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its address and port.
    pub outside: SocketAddrV4,
    /// For how many seconds; 0 is for ever.
    pub lease: u32,
}

/// Why a job came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No answer in time.
    Silent,
    /// Nobody there speaks this.
    Unsupported,
    /// The router does not want to, or answers nonsense.
    Refused,
    /// Somebody else has the port.
    Taken,
    /// It gives ports for ever only.
    OnlyPermanent,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The router has mapped, it says.
    Mapped(Granted),
    /// The mapping is gone.
    Removed,
    /// Nothing came of it.
    Failed(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_as_it_was_stored_and_anything_else_refused() {
        let inside = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 5), 4001);
        for (method, transport) in
            [(Method::Pcp, Transport::Quic), (Method::NatPmp, Transport::Tcp), (Method::Upnp, Transport::Quic)]
        {
            let gateway = Ipv4Addr::new(192, 168, 1, 1);
            let mapping = Mapping { gateway, method, inside, transport, outside_port: 4002, nonce: [7; 12] };
            let bytes = mapping.to_bytes();
            assert_eq!(Mapping::from_bytes(&bytes), Ok(mapping));
            assert!(
                Mapping::from_bytes(&bytes[1..]).is_err() && Mapping::from_bytes(&[bytes, bytes].concat()).is_err()
            );
            for (at, wrong) in [(4, 3), (11, 2)] {
                let mut bytes = bytes;
                bytes[at] = wrong;
                assert!(Mapping::from_bytes(&bytes).is_err());
            }
        }
    }
}
