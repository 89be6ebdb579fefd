//! Frames of the attacker's own making: UDP over IPv4 and IPv6 with any source address and any hop limit.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};

use crate::link::Port;
use crate::ns::Namespace;

/// EtherTypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Protocol number of UDP.
const UDP: u8 = 17;

/// Sends frames out of an interface, whatever they say.
pub struct Injector(Port);

/// A hardware address.
pub type Mac = [u8; 6];

/// A UDP datagram to be made.
#[derive(Clone, Copy, Debug)]
pub struct Forged<'a> {
    /// Hardware address of the sender.
    pub mac: Mac,
    /// Hardware address of the receiver; for a group [`group_mac`] gives it.
    pub to_mac: Mac,
    /// Sender, true or not.
    pub from: SocketAddr,
    /// Receiver, of the same family.
    pub to: SocketAddr,
    /// Time to live, or hop limit.
    pub hop_limit: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Injector {
    /// Opens an interface of a host.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| Port::open(interface))?.map(Self)
    }

    /// Sends a frame; false when the interface has no room for it now.
    #[must_use]
    pub fn send(&self, frame: &[u8]) -> bool {
        self.0.write(frame)
    }
}

impl Forged<'_> {
    /// The frame.
    ///
    /// # Errors
    /// When the ends are of different families, or the payload does not fit a frame.
    pub fn frame(&self) -> Result<Vec<u8>> {
        let udp_length = u16::try_from(8 + self.payload.len())?;
        let mut udp = Vec::with_capacity(usize::from(udp_length));
        udp.extend_from_slice(&self.from.port().to_be_bytes());
        udp.extend_from_slice(&self.to.port().to_be_bytes());
        udp.extend_from_slice(&udp_length.to_be_bytes());
        udp.extend_from_slice(&[0, 0]);
        udp.extend_from_slice(self.payload);

        let mut frame = [self.to_mac, self.mac].concat();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend_from_slice(&IPV4);
                let mut header = vec![0x45, 0];
                header.extend_from_slice(&(20 + udp_length).to_be_bytes());
                header.extend_from_slice(&[0, 0, 0, 0, self.hop_limit, UDP, 0, 0]);
                header.extend_from_slice(&from.octets());
                header.extend_from_slice(&to.octets());
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum);
                frame.extend_from_slice(&header);
                let sum = checksum(&[&from.octets(), &to.octets(), &[0, UDP], &udp_length.to_be_bytes(), &udp]);
                udp[6..8].copy_from_slice(&sum);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend_from_slice(&IPV6);
                frame.extend_from_slice(&[0x60, 0, 0, 0]);
                frame.extend_from_slice(&udp_length.to_be_bytes());
                frame.extend_from_slice(&[UDP, self.hop_limit]);
                frame.extend_from_slice(&from.octets());
                frame.extend_from_slice(&to.octets());
                let sum = checksum(&[&from.octets(), &to.octets(), &[0, UDP], &udp_length.to_be_bytes(), &udp]);
                udp[6..8].copy_from_slice(&sum);
            }
            (from, to) => anyhow::bail!("{from} and {to} are of different families"),
        }
        frame.extend_from_slice(&udp);
        ensure!(frame.len() <= 1514, "a frame of {} bytes", frame.len());
        Ok(frame)
    }
}

/// The hardware address of a multicast group (RFC 1112, RFC 2464), and that of everybody for an IPv4 address that is none.
#[must_use]
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V4(_) => [0xff; 6],
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// Reads `02:68:66:00:00:01`.
///
/// # Errors
/// When it is something else.
pub fn parse_mac(text: &str) -> Result<Mac> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    bytes?.try_into().ok().with_context(|| format!("no hardware address: {text}"))
}

/// The Internet checksum (RFC 1071), never zero, which for UDP would mean that there is none.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let all = parts.concat();
    let mut sum: u32 = 0;
    for pair in all.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap_or(0);
    (if sum == 0 { 0xffff } else { sum }).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::{Forged, checksum, group_mac, parse_mac};

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), [0x22, 0x0d]);
        assert_eq!(checksum(&[&[0xff, 0xff]]), [0xff, 0xff], "zero would mean that there is none");
    }

    #[test]
    fn groups_have_the_hardware_addresses_of_their_rfcs() {
        let mac = |ip: &str| group_mac(ip.parse().expect("an address"));
        assert_eq!(mac("224.0.0.254"), [0x01, 0x00, 0x5e, 0, 0, 0xfe]);
        assert_eq!(mac("ff12::4846"), [0x33, 0x33, 0, 0, 0x48, 0x46]);
        assert_eq!(mac("192.168.77.255"), [0xff; 6]);
        assert_eq!(parse_mac("02:68:66:00:00:01").expect("it is one"), [2, 0x68, 0x66, 0, 0, 1]);
        assert!(parse_mac("02:68").is_err());
    }

    #[test]
    fn two_families_do_not_make_a_datagram() {
        let forged = Forged {
            mac: [2; 6],
            to_mac: [4; 6],
            from: "10.0.0.1:1".parse().expect("an address"),
            to: "[fd00::1]:2".parse().expect("an address"),
            hop_limit: 255,
            payload: b"x",
        };
        assert!(forged.frame().is_err());
        let frame = Forged { to: "10.0.0.2:2".parse().expect("an address"), ..forged }.frame().expect("a frame");
        assert_eq!((frame.len(), frame[14], frame[22]), (14 + 20 + 8 + 1, 0x45, 255));
    }
}
