//! What a STUN server answers, and from which of its sockets (RFC 8489, section 6.3; RFC 5780, section 6.1).

use std::net::{IpAddr, SocketAddr};

use super::attributes::CHANGE_REQUEST;
use super::{Message, Request, Response, Seen, UNKNOWN_ATTRIBUTE};

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one that is announced.
    Primary,
    /// The other one.
    Other,
}

impl Side {
    fn changed(self, change: bool) -> Side {
        match (self, change) {
            (side, false) => side,
            (Side::Primary, true) => Side::Other,
            (Side::Other, true) => Side::Primary,
        }
    }
}

/// One of the up to four sockets of a service: which of its addresses, and which of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The address.
    pub ip: Side,
    /// The port.
    pub port: Side,
}

impl Place {
    /// The socket everybody asks first.
    pub const PRIMARY: Place = Place { ip: Side::Primary, port: Side::Primary };

    /// All four.
    pub const ALL: [Place; 4] = [
        Place::PRIMARY,
        Place { ip: Side::Primary, port: Side::Other },
        Place { ip: Side::Other, port: Side::Primary },
        Place { ip: Side::Other, port: Side::Other },
    ];
}

/// Where a service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One socket: it says where a request came from. A wildcard will do.
    One,
    /// Two addresses of one family with the same two ports each: it also helps to find out what a NAT does.
    Two {
        /// The announced address and the other one.
        ips: [IpAddr; 2],
        /// The announced port and the other one.
        ports: [u16; 2],
    },
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From which socket. Its destination is where the request came from.
    pub from: Place,
    /// The datagram. With two addresses it is longer than the smallest request, by at most 80 bytes.
    pub bytes: Vec<u8>,
}

impl Service {
    /// The address of one of its sockets, if it is not a wildcard.
    pub fn at(&self, place: Place) -> Option<SocketAddr> {
        let of = |side| usize::from(side == Side::Other);
        match self {
            Service::One => None,
            Service::Two { ips, ports } => Some(SocketAddr::new(ips[of(place.ip)], ports[of(place.port)])),
        }
    }

    /// The answer to a datagram that came `from` there to the socket `here`. Only requests are answered: two servers that
    /// are made to talk to each other fall silent at once.
    pub fn answer(&self, here: Place, from: SocketAddr, datagram: &[u8]) -> Option<Answer> {
        let Ok(Message::Request(request)) = Message::parse(datagram) else { return None };
        if from.port() == 0 || from.ip().is_unspecified() || from.ip().is_multicast() {
            return None;
        }
        let Request { id, change, mut unknown } = request;
        if matches!(self, Service::One) && (change.ip || change.port) {
            unknown.push(CHANGE_REQUEST);
        }
        if !unknown.is_empty() {
            let response = Response::Failure { id, code: UNKNOWN_ATTRIBUTE, unknown };
            return Some(Answer { from: here, bytes: response.to_bytes() });
        }
        let from_place = Place { ip: here.ip.changed(change.ip), port: here.port.changed(change.port) };
        let opposite = Place { ip: here.ip.changed(true), port: here.port.changed(true) };
        // An IPv6 socket that takes both families calls an IPv4 address by its IPv6 form.
        let mapped = SocketAddr::new(from.ip().to_canonical(), from.port());
        let seen = Seen { id, mapped, origin: self.at(from_place), other: self.at(opposite) };
        Some(Answer { from: from_place, bytes: Response::Success(seen).to_bytes() })
    }
}
