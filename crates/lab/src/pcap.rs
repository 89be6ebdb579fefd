//! Reads pcap files as tcpdump writes them, and puts the bytes of each flow together again.
//!
//! Format: <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>. Only what tcpdump writes on Linux is known.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Link types of <https://www.tcpdump.org/linktypes.html> and the length of their headers.
const HEADERS: [(u32, usize); 3] = [(1, 14), (113, 16), (276, 20)];

/// Protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The whole packet, link header included.
    pub bytes: Vec<u8>,
    /// Where its network header begins.
    pub network_at: usize,
    /// When it was captured, since 1970.
    pub at: Duration,
}

/// What a UDP packet carries, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// From whom to whom.
    pub ends: Ends,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// The two ends of a TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

impl Packet {
    /// Did the captured host send it? Told only by a capture on all interfaces.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        const OUTGOING: u8 = 4;
        match self.network_at {
            16 => self.bytes.get(1) == Some(&OUTGOING),
            20 => self.bytes.get(10) == Some(&OUTGOING),
            _ => false,
        }
    }

    /// The packet as a UDP datagram, if it is a whole one.
    #[must_use]
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        let ip = self.bytes.get(self.network_at..)?;
        let (protocol, hop_limit) = match ip.first()? >> 4 {
            // A fragment is no datagram.
            4 if u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff == 0 => (*ip.get(9)?, *ip.get(8)?),
            6 => (*ip.get(6)?, *ip.get(7)?),
            _ => return None,
        };
        let (_, payload) = transport(ip).filter(|_| protocol == UDP)?;
        Some(Datagram { ends: self.ends()?, hop_limit, payload })
    }

    /// The IPv4 address whose hardware address an ARP packet asks for; told only by a capture on all interfaces.
    #[must_use]
    pub fn arp_target(&self) -> Option<Ipv4Addr> {
        const ARP: [u8; 2] = [0x08, 0x06];
        const REQUEST: [u8; 2] = [0, 1];
        const SLL2: usize = 20;
        if self.network_at != SLL2 || self.bytes.get(..2)? != ARP {
            return None;
        }
        let arp = self.bytes.get(self.network_at..)?;
        let target: [u8; 4] = arp.get(24..28)?.try_into().ok()?;
        (arp.get(6..8)? == REQUEST).then(|| target.into())
    }

    /// The IPv6 address whose hardware address a neighbour solicitation asks for.
    #[must_use]
    pub fn neighbour_target(&self) -> Option<Ipv6Addr> {
        const ICMPV6: u8 = 58;
        const NEIGHBOUR_SOLICITATION: u8 = 135;
        let ip = self.bytes.get(self.network_at..)?;
        let is_question = ip.first()? >> 4 == 6 && *ip.get(6)? == ICMPV6 && *ip.get(40)? == NEIGHBOUR_SOLICITATION;
        let target: [u8; 16] = ip.get(48..64)?.try_into().ok()?;
        is_question.then(|| target.into())
    }

    /// Is it the first packet of a TCP connection?
    #[must_use]
    pub fn is_tcp_start(&self) -> bool {
        const FLAGS_AT: usize = 13;
        const SYN_OF_SYN_ACK: u8 = 0x12;
        const SYN: u8 = 0x02;
        let ip = self.bytes.get(self.network_at..).unwrap_or_default();
        let at = match ip.first().map(|first| first >> 4) {
            Some(4) if ip.get(9) == Some(&TCP) => usize::from(ip[0] & 15) * 4,
            Some(6) if ip.get(6) == Some(&TCP) => 40,
            _ => return false,
        };
        ip.get(at + FLAGS_AT).is_some_and(|flags| flags & SYN_OF_SYN_ACK == SYN)
    }

    /// The ends of the packet, if it is one of TCP or UDP.
    #[must_use]
    pub fn ends(&self) -> Option<Ends> {
        let (key, _) = transport(self.bytes.get(self.network_at..)?)?;
        let length = if key.len() == 1 + 8 + 4 { 4 } else { 16 };
        let ip = |at: usize| -> Option<IpAddr> {
            let bytes = key.get(at..at + length)?;
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
        };
        let port = |at: usize| Some(u16::from_be_bytes(key.get(at..at + 2)?.try_into().ok()?));
        let ports = 1 + 2 * length;
        Some(Ends {
            from: SocketAddr::new(ip(1)?, port(ports)?),
            to: SocketAddr::new(ip(1 + length)?, port(ports + 2)?),
        })
    }
}

/// Packets of one pcap file.
///
/// # Errors
/// When it is no pcap file, or a packet was cut off.
pub fn read(file: &[u8]) -> Result<Vec<Packet>> {
    let magic = file.get(..4).context("an empty capture")?;
    // Fractions of a second are micro- or nanoseconds.
    let (big_endian, nanoseconds) = match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1_000),
        [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1),
        [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1_000),
        [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1),
        _ => bail!("not a pcap file"),
    };
    let number = |at: usize| -> Result<u32> {
        let bytes: [u8; 4] = file.get(at..at + 4).context("a short pcap file")?.try_into()?;
        Ok(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let link_type = number(20)?;
    let (_, network_at) =
        HEADERS.into_iter().find(|(known, _)| *known == link_type).with_context(|| format!("link type {link_type}"))?;
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let (kept, length) = (number(at + 8)? as usize, number(at + 12)? as usize);
        ensure!(kept == length, "a packet of {length} bytes was cut off at {kept}");
        let bytes = file.get(at + 16..at + 16 + kept).context("the last packet is incomplete")?;
        let (seconds, fraction) = (number(at)?, number(at + 4)?);
        let time = Duration::from_secs(seconds.into()) + Duration::from_nanos(fraction.into()) * nanoseconds;
        packets.push(Packet { bytes: bytes.to_vec(), network_at, at: time });
        at += 16 + kept;
    }
    Ok(packets)
}

/// The payloads of each one-way flow of TCP or UDP, one after the other in order of arrival, so that what was split
/// over two packets is found too. A packet seen on two interfaces of the router counts once.
#[must_use]
pub fn flows(packets: &[Packet]) -> Vec<Vec<u8>> {
    let mut flows: BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    for packet in packets {
        if let Some((key, payload)) = transport(packet.bytes.get(packet.network_at..).unwrap_or_default()) {
            let (bytes, last) = flows.entry(key).or_default();
            if last != payload {
                bytes.extend_from_slice(payload);
                payload.clone_into(last);
            }
        }
    }
    flows.into_values().map(|(bytes, _)| bytes).collect()
}

/// Addresses, protocol and ports of an IP packet as one key, and its payload.
fn transport(ip: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (protocol, addresses, end, transport_at) = match ip.first()? >> 4 {
        4 => {
            let header = usize::from(ip[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            (*ip.get(9)?, ip.get(12..20)?, total, header)
        }
        6 => {
            let payload = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            (*ip.get(6)?, ip.get(8..40)?, 40 + payload, 40)
        }
        _ => return None,
    };
    let segment = ip.get(transport_at..end)?;
    let header = match protocol {
        TCP => usize::from(segment.get(12)? >> 4) * 4,
        UDP => 8,
        _ => return None,
    };
    let mut key = vec![protocol];
    key.extend_from_slice(addresses);
    key.extend_from_slice(segment.get(..4)?);
    Some((key, segment.get(header..)?))
}

#[cfg(test)]
mod tests {
    use super::{Duration, Packet, flows, read};

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 14];
        let total = u16::try_from(28 + payload.len()).expect("it is short");
        packet.extend_from_slice(&[0x45, 0]);
        packet.extend_from_slice(&total.to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 5, 1, 1, 2, 5, 1, 2, 2]);
        packet.extend_from_slice(&[0, 1, 0, 2, 0, 0, 0, 0]);
        packet.extend_from_slice(payload);
        packet
    }

    fn file(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        for packet in packets {
            let length = u32::try_from(packet.len()).expect("it is short").to_le_bytes();
            file.extend_from_slice(&[0; 8]);
            file.extend_from_slice(&length);
            file.extend_from_slice(&length);
            file.extend_from_slice(packet);
        }
        file
    }

    #[test]
    fn what_two_packets_share_is_one_flow_and_a_packet_seen_twice_counts_once() {
        let first = udp(b"abandon ab");
        let packets = read(&file(&[first.clone(), first, udp(b"ility able")])).expect("it is well formed");
        assert_eq!(packets.len(), 3);
        assert_eq!(flows(&packets), vec![b"abandon ability able".to_vec()]);
    }

    #[test]
    fn the_ends_of_a_packet_are_its_addresses_and_ports() {
        let packets = read(&file(&[udp(b"x"), vec![0; 60]])).expect("it is well formed");
        let ends = packets[0].ends().expect("it is UDP");
        assert_eq!((ends.from.to_string(), ends.to.to_string()), ("5.1.1.2:1".to_owned(), "5.1.2.2:2".to_owned()));
        assert_eq!(packets[1].ends(), None);
    }

    #[test]
    fn a_packet_knows_its_time_and_its_datagram() {
        let mut bytes = file(&[udp(b"hello")]);
        bytes[24..32].copy_from_slice(&[3, 0, 0, 0, 0x40, 0x42, 0x0f, 0]);
        let packets = read(&bytes).expect("it is well formed");
        assert_eq!(packets[0].at, Duration::from_secs(4), "three seconds and a million microseconds");
        let datagram = packets[0].datagram().expect("it is UDP");
        assert_eq!((datagram.hop_limit, datagram.payload), (64, &b"hello"[..]));
        assert!(!packets[0].is_sent() && !packets[0].is_tcp_start());
        let fragment = read(&file(&[{
            let mut packet = udp(b"hello");
            packet[14 + 6] = 0x20;
            packet
        }]));
        assert_eq!(fragment.expect("it is well formed")[0].datagram(), None, "the rest is to come");
    }

    #[test]
    fn only_a_syn_starts_a_connection_and_only_an_outgoing_packet_was_sent() {
        let tcp = |flags: u8| {
            let mut packet = vec![0; 20];
            packet[10] = 4;
            packet.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 5, 1, 1, 2, 5, 1, 2, 2]);
            packet.extend_from_slice(&[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            Packet { bytes: packet, network_at: 20, at: Duration::ZERO }
        };
        assert!(tcp(0x02).is_tcp_start() && !tcp(0x12).is_tcp_start() && !tcp(0x10).is_tcp_start());
        assert!(tcp(0x02).is_sent());
    }

    #[test]
    fn a_file_that_ends_in_the_middle_of_a_packet_is_an_error() {
        let mut short = file(&[udp(b"x")]);
        short.pop();
        assert!(read(&short).is_err());
        assert!(read(b"GIF8").is_err());
    }
}
