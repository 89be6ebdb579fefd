//! STUN: who asks learns under which address and port its packets arrive (RFC 8489), and, where the server has two
//! addresses, what its NAT does (RFC 5780).
//!
//! The part of it that a binding request over UDP needs: no credentials, no other methods. `service.rs` answers,
//! `behaviour.rs` asks, `watch.rs` says when.

mod attributes;
pub mod behaviour;
pub mod service;
pub mod watch;

use std::net::SocketAddr;

use crate::wire::{Malformed, Reader};
use attributes::Attributes;

/// The port of STUN over UDP (RFC 8489, section 18.6).
pub const PORT: u16 = 3478;

/// A longer message is none of ours: a packet of this size passes every network unbroken (RFC 8489, section 6.1).
pub const MAX_MESSAGE: usize = 1_280;

/// Tells STUN from everything else on a port (RFC 8489, section 5).
const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;

const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const FAILURE: u16 = 0x0111;

/// An attribute in a request that the server must understand and does not (RFC 8489, section 14.8).
pub const UNKNOWN_ATTRIBUTE: u16 = 420;

/// Names one request and its answer: 96 random bits, which a stranger who does not see the request cannot guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 12]);

/// From where a server is to answer (RFC 5780, section 7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// From its other address.
    pub ip: bool,
    /// From its other port.
    pub port: bool,
}

/// A binding request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which one.
    pub id: TransactionId,
    /// From where it is to be answered.
    pub change: Change,
    /// Attributes that must be understood and are not: the answer is a refusal that names them, at most
    /// [`MAX_NAMED`].
    pub unknown: Vec<u16>,
}

/// Unknown attributes that a refusal names.
pub const MAX_NAMED: usize = 8;

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Where the request came from.
    Success(Seen),
    /// The server refuses.
    Failure {
        /// Which request.
        id: TransactionId,
        /// Why, as in HTTP.
        code: u16,
        /// The attributes that it does not know.
        unknown: Vec<u16>,
    },
}

/// The answer to a binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which request.
    pub id: TransactionId,
    /// Where the request came from, as the server saw it.
    pub mapped: SocketAddr,
    /// From where the answer was sent, as the server says.
    pub origin: Option<SocketAddr>,
    /// The server's other address and other port (RFC 5780, section 7.4).
    pub other: Option<SocketAddr>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A binding request.
    Request(Request),
    /// An answer to one.
    Response(Response),
}

impl Request {
    /// A request that is answered from where it went.
    pub fn new(id: TransactionId) -> Request {
        Request { id, change: Change::default(), unknown: Vec::new() }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut attributes = Attributes::default();
        if self.change != Change::default() {
            attributes.change(self.change);
        }
        attributes.finish(REQUEST, self.id)
    }
}

impl Response {
    /// Which request it answers.
    pub fn id(&self) -> TransactionId {
        match self {
            Response::Success(seen) => seen.id,
            Response::Failure { id, .. } => *id,
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut attributes = Attributes::default();
        match self {
            Response::Success(seen) => {
                attributes.mapped(seen.mapped, seen.id);
                if let Some(origin) = seen.origin {
                    attributes.origin(origin);
                }
                if let Some(other) = seen.other {
                    attributes.other(other);
                }
                attributes.finish(SUCCESS, seen.id)
            }
            Response::Failure { id, code, unknown } => {
                attributes.error(*code);
                if !unknown.is_empty() {
                    attributes.unknown(unknown);
                }
                attributes.finish(FAILURE, *id)
            }
        }
    }
}

impl Message {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is no binding message of RFC 8489: another method or class, another cookie, a length that does not fit, a
    /// broken attribute, a wrong fingerprint, or an answer without an address or with an attribute that must be
    /// understood and is not.
    pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Malformed);
        }
        let mut header = Reader::new(bytes);
        let (kind, length, cookie) = (header.u16()?, usize::from(header.u16()?), header.u32()?);
        let id = TransactionId(header.array()?);
        if cookie != COOKIE || length % 4 != 0 || length != bytes.len() - HEADER {
            return Err(Malformed);
        }
        let found = attributes::Found::read(bytes, id)?;
        match kind {
            REQUEST => Ok(Message::Request(Request { id, change: found.change, unknown: found.unknown })),
            SUCCESS if found.unknown.is_empty() => {
                let mapped = found.mapped.ok_or(Malformed)?;
                Ok(Message::Response(Response::Success(Seen { id, mapped, origin: found.origin, other: found.other })))
            }
            FAILURE => {
                let code = found.error.ok_or(Malformed)?;
                Ok(Message::Response(Response::Failure { id, code, unknown: found.refused }))
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
