//! The messages of PCP and of NAT-PMP that ask for a mapping and take it back, and their answers.
//!
//! A reader says nothing (`None`) of what does not answer its question: another answer may still come.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::{Granted, Mapping, Refusal, Task};
use crate::addr::Transport;
use crate::wire::{Malformed, Reader};

/// The port of a router for either protocol.
pub const PORT: u16 = 5351;

/// The longest answer of PCP (RFC 6887, section 7).
pub const MAX_ANSWER: usize = 1_100;

const PCP: u8 = 2;
const PCP_MAP: u8 = 1;
const ANSWER: u8 = 0x80;

/// Results of PCP (RFC 6887, section 7.4).
const UNSUPPORTED_VERSION: u8 = 1;
const UNSUPPORTED_OPCODE: u8 = 4;
const CANNOT_PROVIDE_EXTERNAL: u8 = 11;

/// The results of NAT-PMP that say that it is not spoken (RFC 6886, section 3.5).
const PMP_UNSUPPORTED_VERSION: u16 = 1;
const PMP_UNSUPPORTED_OPCODE: u16 = 5;

/// A request of PCP.
pub fn pcp_request(mapping: &Mapping, task: Task) -> [u8; 60] {
    let mut out = [0; 60];
    let (lease, port, any) = match task {
        Task::Map { lease } => (lease, mapping.outside_port, Ipv4Addr::UNSPECIFIED),
        Task::Unmap => (0, 0, Ipv4Addr::UNSPECIFIED),
    };
    out[..2].copy_from_slice(&[PCP, PCP_MAP]);
    out[4..8].copy_from_slice(&lease.to_be_bytes());
    out[8..24].copy_from_slice(&mapping.inside.ip().to_ipv6_mapped().octets());
    out[24..36].copy_from_slice(&mapping.nonce);
    out[36] = protocol(mapping.transport);
    out[40..42].copy_from_slice(&mapping.inside.port().to_be_bytes());
    out[42..44].copy_from_slice(&port.to_be_bytes());
    out[44..60].copy_from_slice(&any.to_ipv6_mapped().octets());
    out
}

/// What an answer says to [`pcp_request`]. A router that speaks NAT-PMP alone answers in its own version.
pub fn pcp_answer(bytes: &[u8], mapping: &Mapping) -> Option<Result<Granted, Refusal>> {
    let (&version, &opcode) = (bytes.first()?, bytes.get(1)?);
    if version != PCP {
        return (opcode & ANSWER != 0).then_some(Err(Refusal::Unsupported));
    }
    let result = *bytes.get(3)?;
    if opcode & ANSWER != 0 && matches!(result, UNSUPPORTED_VERSION | UNSUPPORTED_OPCODE) {
        return Some(Err(Refusal::Unsupported));
    }
    let (granted, is_ours) = read_pcp(bytes, mapping).ok()?;
    if !is_ours || bytes.len() > MAX_ANSWER {
        return None;
    }
    Some(match result {
        0 => granted.ok_or(Refusal::Refused),
        CANNOT_PROVIDE_EXTERNAL => Err(Refusal::Taken),
        _ => Err(Refusal::Refused),
    })
}

/// What is granted, if that is an IPv4 address, and whether it answers the request for this mapping.
fn read_pcp(bytes: &[u8], mapping: &Mapping) -> Result<(Option<Granted>, bool), Malformed> {
    let mut reader = Reader::new(bytes);
    reader.u8()?;
    let is_map = reader.u8()? == PCP_MAP | ANSWER;
    reader.u16()?;
    let lease = reader.u32()?;
    reader.take(16)?;
    let is_nonce = reader.array()? == mapping.nonce;
    let is_protocol = reader.u8()? == protocol(mapping.transport);
    reader.take(3)?;
    let is_port = reader.u16()? == mapping.inside.port();
    let port = reader.u16()?;
    let ip = Ipv6Addr::from(reader.array::<16>()?).to_ipv4_mapped();
    let granted = ip.map(|ip| Granted { outside: SocketAddrV4::new(ip, port), lease });
    Ok((granted, is_map && is_nonce && is_protocol && is_port))
}

/// Asks a router that speaks NAT-PMP for its address.
pub const PMP_ADDRESS_REQUEST: [u8; 2] = [0, 0];

/// The answer to [`PMP_ADDRESS_REQUEST`].
pub fn pmp_address(bytes: &[u8]) -> Option<Result<Ipv4Addr, Refusal>> {
    match pmp_result(bytes, 0)? {
        Ok(()) => {
            let ip: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
            (bytes.len() == 12).then(|| Ok(ip.into()))
        }
        Err(refusal) => Some(Err(refusal)),
    }
}

/// A request of NAT-PMP.
pub fn pmp_request(mapping: &Mapping, task: Task) -> [u8; 12] {
    let mut out = [0; 12];
    let (lease, port) = match task {
        Task::Map { lease } => (lease, mapping.outside_port),
        Task::Unmap => (0, 0),
    };
    out[1] = pmp_opcode(mapping.transport);
    out[4..6].copy_from_slice(&mapping.inside.port().to_be_bytes());
    out[6..8].copy_from_slice(&port.to_be_bytes());
    out[8..12].copy_from_slice(&lease.to_be_bytes());
    out
}

/// The port and the seconds of an answer to [`pmp_request`].
pub fn pmp_answer(bytes: &[u8], mapping: &Mapping) -> Option<Result<(u16, u32), Refusal>> {
    if let Err(refusal) = pmp_result(bytes, pmp_opcode(mapping.transport))? {
        return Some(Err(refusal));
    }
    let mut reader = Reader::new(bytes.get(8..)?);
    let (inside, outside, lease) = (reader.u16().ok()?, reader.u16().ok()?, reader.u32().ok()?);
    (reader.end().is_ok() && inside == mapping.inside.port()).then_some(Ok((outside, lease)))
}

/// The result of an answer to the request with this opcode, or to one that the router does not know.
fn pmp_result(bytes: &[u8], opcode: u8) -> Option<Result<(), Refusal>> {
    let &[version, answered, high, low, ..] = bytes else { return None };
    let result = u16::from_be_bytes([high, low]);
    if answered & ANSWER == 0 {
        return None;
    }
    match result {
        PMP_UNSUPPORTED_VERSION | PMP_UNSUPPORTED_OPCODE => Some(Err(Refusal::Unsupported)),
        _ if version != 0 || answered != opcode | ANSWER => None,
        0 => Some(Ok(())),
        _ => Some(Err(Refusal::Refused)),
    }
}

/// Its number at IANA.
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Quic => 17,
        Transport::Tcp => 6,
    }
}

fn pmp_opcode(transport: Transport) -> u8 {
    match transport {
        Transport::Quic => 1,
        Transport::Tcp => 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Method;
    use super::*;

    const MAP: Task = Task::Map { lease: 1_800 };

    fn mapping(transport: Transport) -> Mapping {
        Mapping {
            gateway: Ipv4Addr::new(192, 168, 1, 1),
            method: Method::Pcp,
            inside: SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 5), 4001),
            transport,
            outside_port: 4001,
            nonce: *b"twelve bytes",
        }
    }

    /// The answer of an honest router to `request`.
    fn pcp_from(request: [u8; 60], outside: SocketAddrV4, lease: u32) -> [u8; 60] {
        let mut out = request;
        out[1] |= ANSWER;
        out[4..8].copy_from_slice(&lease.to_be_bytes());
        out[8..24].fill(0);
        out[42..44].copy_from_slice(&outside.port().to_be_bytes());
        out[44..60].copy_from_slice(&outside.ip().to_ipv6_mapped().octets());
        out
    }

    #[test]
    fn pcp_asks_as_rfc_6887_has_it_and_reads_the_answer() {
        let mapping = mapping(Transport::Quic);
        let request = pcp_request(&mapping, MAP);
        assert_eq!(request[..8], [2, 1, 0, 0, 0, 0, 0x07, 0x08]);
        assert_eq!(request[18..24], [0xff, 0xff, 192, 168, 1, 5]);
        assert_eq!(request[36..44], [17, 0, 0, 0, 0x0f, 0xa1, 0x0f, 0xa1]);
        let outside = SocketAddrV4::new(Ipv4Addr::new(5, 1, 2, 3), 61_000);
        let answer = pcp_from(request, outside, 600);
        assert_eq!(pcp_answer(&answer, &mapping), Some(Ok(Granted { outside, lease: 600 })));
        assert_eq!(pcp_request(&mapping, Task::Unmap)[4..8], [0; 4]);
        for (result, refusal) in [(2, Refusal::Refused), (11, Refusal::Taken), (1, Refusal::Unsupported)] {
            let mut answer = answer;
            answer[3] = result;
            assert_eq!(pcp_answer(&answer, &mapping), Some(Err(refusal)));
        }
        // Another mapping's, a question, one that breaks off; an address of IPv6; a router that is older.
        for at in [1, 24, 36, 41] {
            let mut other = answer;
            other[at] ^= 0x80;
            assert_eq!(pcp_answer(&other, &mapping), None, "{at}");
        }
        assert_eq!(pcp_answer(&answer[..59], &mapping), None);
        let mut v6 = answer;
        v6[44] = 0x20;
        assert_eq!(pcp_answer(&v6, &mapping), Some(Err(Refusal::Refused)));
        assert_eq!(pcp_answer(&[0, 128, 0, 1, 0, 0, 0, 9], &mapping), Some(Err(Refusal::Unsupported)));
    }

    #[test]
    fn nat_pmp_asks_as_rfc_6886_has_it_and_reads_the_answers() {
        let mapping = mapping(Transport::Tcp);
        assert_eq!(pmp_request(&mapping, MAP), [0, 2, 0, 0, 0x0f, 0xa1, 0x0f, 0xa1, 0, 0, 0x07, 0x08]);
        assert_eq!(pmp_request(&mapping, Task::Unmap), [0, 2, 0, 0, 0x0f, 0xa1, 0, 0, 0, 0, 0, 0]);
        let answer = [0, 130, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0xee, 0x48, 0, 0, 2, 0x58];
        assert_eq!(pmp_answer(&answer, &mapping), Some(Ok((61_000, 600))));
        assert_eq!(pmp_answer(&answer[..15], &mapping), None);
        assert_eq!(pmp_answer(&[0, 129, 0, 0, 0, 0, 0, 9], &mapping), None, "of another request");
        assert_eq!(pmp_answer(&[0, 130, 0, 2, 0, 0, 0, 9], &mapping), Some(Err(Refusal::Refused)));
        assert_eq!(pmp_answer(&[2, 130, 0, 1], &mapping), Some(Err(Refusal::Unsupported)));
        let address = [0, 128, 0, 0, 0, 0, 0, 9, 5, 1, 2, 3];
        assert_eq!(pmp_address(&address), Some(Ok(Ipv4Addr::new(5, 1, 2, 3))));
        assert_eq!(pmp_address(&[address.as_slice(), &[0]].concat()), None);
        assert_eq!(pmp_address(&[0, 128, 0, 3, 0, 0, 0, 9]), Some(Err(Refusal::Refused)));
    }

    proptest! {
        #[test]
        fn whatever_a_router_sends_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
            for transport in [Transport::Quic, Transport::Tcp] {
                let mapping = mapping(transport);
                let granted = pcp_answer(&bytes, &mapping).is_some_and(|answer| answer.is_ok());
                prop_assert!(!granted, "without the nonce");
                let _ = (pmp_answer(&bytes, &mapping), pmp_address(&bytes));
            }
        }

        #[test]
        fn an_answer_with_wrong_bytes_is_read_without_harm(
            wrong in proptest::collection::vec((0usize..60, any::<u8>()), 0..6), len in 0usize..=60,
        ) {
            let mapping = mapping(Transport::Quic);
            let outside = SocketAddrV4::new(Ipv4Addr::new(5, 1, 2, 3), 61_000);
            let mut answer = pcp_from(pcp_request(&mapping, MAP), outside, 600);
            for (at, byte) in wrong {
                answer[at] = byte;
            }
            if let Some(Ok(_)) = pcp_answer(&answer[..len], &mapping) {
                prop_assert_eq!(&answer[24..36], &mapping.nonce);
                prop_assert_eq!(len, 60);
            }
        }
    }
}
