//! Reads pcap files as tcpdump writes them, and puts the bytes of each flow together again.
//!
//! Format: <https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>. Only what tcpdump writes on Linux is known.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};

/// Link types of <https://www.tcpdump.org/linktypes.html> and the length of their headers.
const HEADERS: [(u32, usize); 3] = [(1, 14), (113, 16), (276, 20)];

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The whole packet, link header included.
    pub bytes: Vec<u8>,
    /// Where its network header begins.
    pub network_at: usize,
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
    let big_endian = match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => false,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => true,
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
        packets.push(Packet { bytes: bytes.to_vec(), network_at });
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
        6 => usize::from(segment.get(12)? >> 4) * 4,
        17 => 8,
        _ => return None,
    };
    let mut key = vec![protocol];
    key.extend_from_slice(addresses);
    key.extend_from_slice(segment.get(..4)?);
    Some((key, segment.get(header..)?))
}

#[cfg(test)]
mod tests {
    use super::{flows, read};

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
    fn a_file_that_ends_in_the_middle_of_a_packet_is_an_error() {
        let mut short = file(&[udp(b"x")]);
        short.pop();
        assert!(read(&short).is_err());
        assert!(read(b"GIF8").is_err());
    }
}
