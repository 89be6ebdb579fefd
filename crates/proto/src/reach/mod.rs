//! Whether others can reach us: a node is asked to call us back at addresses of ours, from a port that we have never sent
//! anything to. What AutoNAT v2 of libp2p is for, and why it is not that: `docs/decisions/0016`.
//!
//! A node calls nobody but whoever asks, at the address at which it sees him, so that nothing can be made to knock at
//! somebody else's door. What it says is believed only of calls that came in here meanwhile.

mod checker;

pub use checker::{Checker, Node, Question, Verdict};

use std::net::{IpAddr, Ipv6Addr};

use crate::addr::Transport;
use crate::wire::Malformed;

/// The name that is negotiated.
pub const PROTOCOL: &str = "/handfast/reach/1";

/// Ports of one question.
pub const MAX_PORTS: usize = 4;

/// Below this only the port of HTTPS is called: behind the NAT of a carrier the address of whoever asks is that of others
/// as well, and what listens at such a port is nobody's device.
const FIRST_PORT: u16 = 1024;
/// See [`FIRST_PORT`].
const HTTPS: u16 = 443;

/// Bytes of a question.
pub const ASK_LEN: usize = 1 + 3 * MAX_PORTS;
/// Bytes of an answer.
pub const ANSWER_LEN: usize = 16 + 1;

/// A question: `n u8 ‖ 4 × (transport u8 ‖ port u16)`, what is not used 0. Transport 1 is QUIC, 2 is TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    ports: Vec<(Transport, u16)>,
}

impl Ask {
    /// Asks about these ports, the first [`MAX_PORTS`] of them; nothing if there is none.
    pub fn new(ports: impl IntoIterator<Item = (Transport, u16)>) -> Option<Ask> {
        let ports: Vec<_> = ports.into_iter().filter(|(_, port)| may_be_called(*port)).take(MAX_PORTS).collect();
        (!ports.is_empty()).then_some(Ask { ports })
    }

    /// The ports, one to [`MAX_PORTS`], 443 or at least 1024.
    pub fn ports(&self) -> &[(Transport, u16)] {
        &self.ports
    }

    /// The bytes.
    pub fn to_bytes(&self) -> [u8; ASK_LEN] {
        let mut bytes = [0; ASK_LEN];
        bytes[0] = u8::try_from(self.ports.len()).expect("at most four");
        for (place, (transport, port)) in bytes[1..].chunks_exact_mut(3).zip(&self.ports) {
            place[0] = match transport {
                Transport::Quic => 1,
                Transport::Tcp => 2,
            };
            place[1..].copy_from_slice(&port.to_be_bytes());
        }
        bytes
    }

    /// Reads a question.
    ///
    /// # Errors
    /// `Malformed`: no port or too many, one that is not called, an unknown transport, or something where nothing should be.
    pub fn from_bytes(bytes: &[u8; ASK_LEN]) -> Result<Ask, Malformed> {
        let n = usize::from(bytes[0]);
        if n == 0 || n > MAX_PORTS {
            return Err(Malformed);
        }
        let (used, rest) = bytes[1..].split_at(3 * n);
        if rest.iter().any(|byte| *byte != 0) {
            return Err(Malformed);
        }
        let port = |place: &[u8]| {
            let transport = match place[0] {
                1 => Transport::Quic,
                2 => Transport::Tcp,
                _ => return Err(Malformed),
            };
            let port = u16::from_be_bytes([place[1], place[2]]);
            if may_be_called(port) { Ok((transport, port)) } else { Err(Malformed) }
        };
        Ok(Ask { ports: used.chunks_exact(3).map(port).collect::<Result<_, _>>()? })
    }
}

/// Whether a port can be asked about: 443, or at least 1024.
pub fn may_be_called(port: u16) -> bool {
    port >= FIRST_PORT || port == HTTPS
}

/// An answer: `address 16 ‖ reached u8`. The address is that at which the ports were called, an IPv4 address mapped into
/// IPv6; bit n of the rest says that the nth port was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the node has called.
    pub ip: IpAddr,
    /// Which of the ports were reached.
    pub reached: u8,
}

impl Answer {
    /// The bytes.
    pub fn to_bytes(self) -> [u8; ANSWER_LEN] {
        let ip = match self.ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut bytes = [0; ANSWER_LEN];
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16] = self.reached;
        bytes
    }

    /// Reads an answer; every sequence of this length is one.
    pub fn from_bytes(bytes: &[u8; ANSWER_LEN]) -> Answer {
        let (ip, rest) = bytes.split_first_chunk::<16>().expect("17 bytes begin with 16");
        Answer { ip: IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical(), reached: rest[0] }
    }

    /// Whether the nth port was reached.
    pub fn has_reached(self, n: usize) -> bool {
        n < MAX_PORTS && self.reached & (1 << n) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_has_these_bytes_and_no_others() {
        let ask = Ask::new([(Transport::Quic, 4001), (Transport::Tcp, 443)]).expect("two ports");
        let bytes = [2, 1, 0x0f, 0xa1, 2, 1, 0xbb, 0, 0, 0, 0, 0, 0];
        assert_eq!(ask.to_bytes(), bytes);
        assert_eq!(Ask::from_bytes(&bytes), Ok(ask));
        for (at, byte) in [(0, 0), (0, 5), (0, 3), (0, 1), (1, 0), (1, 3), (2, 0), (5, 0), (12, 1)] {
            let mut bad = bytes;
            bad[at] = byte;
            assert_eq!(Ask::from_bytes(&bad), Err(Malformed), "{at} {byte}");
        }
        assert_eq!(Ask::new([(Transport::Tcp, 0)]), None);
        assert_eq!(
            Ask::new((4001..4009).map(|port| (Transport::Tcp, port))).map(|ask| ask.ports().len()),
            Some(MAX_PORTS)
        );
    }

    #[test]
    fn an_answer_has_these_bytes() {
        let answer = Answer { ip: [5, 1, 2, 3].into(), reached: 0b10 };
        let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 5, 1, 2, 3, 2];
        assert_eq!(answer.to_bytes(), bytes);
        assert_eq!(Answer::from_bytes(&bytes), answer);
        assert_eq!([0, 1, 2, 8].map(|n| answer.has_reached(n)), [false, true, false, false]);
    }

    proptest! {
        #[test]
        fn whatever_is_read_as_a_question_is_written_the_same(bytes: [u8; ASK_LEN]) {
            if let Ok(ask) = Ask::from_bytes(&bytes) {
                prop_assert_eq!(ask.to_bytes(), bytes);
            }
        }
    }
}
