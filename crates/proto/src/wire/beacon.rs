//! The beacon of the local network (section 6.1): 112 bytes that name nobody, all kinds alike.

use std::net::IpAddr;

use data_encoding::HEXLOWER;

use crate::crypto;
use crate::keys::LanKeys;
use crate::secret::ct_eq;
use crate::wire::{Malformed, Reader, put_ip, read_ip};

/// Size of every beacon, in bytes.
pub const BEACON_LEN: usize = 112;
/// The UDP port of beacons.
pub const PORT: u16 = 18502;
/// The time to live (IPv4) or hop limit (IPv6) that is sent and required: a datagram that crossed a router has less.
pub const HOP_LIMIT: u8 = 255;

const MAGIC: [u8; 4] = *b"HFLB";
const VERSION: u8 = 1;
const FROM_JOINER: u8 = 1;
/// What the MAC covers.
const SIGNED_LEN: usize = 96;

/// A notifier id: what a device is called during one window, random and linked to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nid(pub [u8; 16]);

impl Nid {
    /// What a device without a name is called in a list: the first 6 bytes of `H(L("nid") ‖ nid)` as 12 hex digits.
    pub fn shown(&self) -> String {
        HEXLOWER.encode(&crypto::hash("nid", &[&self.0])[..6])
    }
}

/// What a beacon is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeaconKind {
    /// Holders of one code look for each other.
    Code {
        /// The sender entered the code; otherwise it shows it.
        from_joiner: bool,
    },
    /// A device that is ready to pair with a device nearby; no secret exists yet.
    Nearby,
    /// A paired device looks for its peers.
    Presence,
}

/// Where a sender accepts connections; 0 where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The libp2p TCP port.
    pub tcp: u16,
    /// The libp2p QUIC port.
    pub quic: u16,
    /// The TCP port of the confirmation listener.
    pub confirm: u16,
}

/// What a beacon says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// What it is for.
    pub kind: BeaconKind,
    /// What the sender is called in this window.
    pub nid: Nid,
    /// Random in every beacon, so that no two have the same MAC.
    pub nonce: [u8; 16],
    /// The sender's address on the interface it sends on.
    pub address: IpAddr,
    /// Its ports.
    pub ports: Ports,
    /// SHA-256 of the confirmation listener's public key (SPKI); zero without a listener.
    pub spki: [u8; 32],
}

/// A beacon as it came in: of right layout, by nobody known yet.
#[derive(Clone, Debug)]
pub struct ReceivedBeacon {
    beacon: Beacon,
    signed: [u8; SIGNED_LEN],
    mac: [u8; 16],
}

impl Beacon {
    /// The 112 bytes, with the MAC of a code.
    pub fn sealed(&self, keys: &LanKeys) -> [u8; BEACON_LEN] {
        let signed = self.signed();
        whole(signed, crypto::mac16(&keys.beacon, &signed))
    }

    /// The 112 bytes without a MAC, for a window in which no secret exists.
    pub fn open(&self) -> [u8; BEACON_LEN] {
        whole(self.signed(), [0; 16])
    }

    fn signed(&self) -> [u8; SIGNED_LEN] {
        let (kind, flags) = match self.kind {
            BeaconKind::Code { from_joiner } => (1, u8::from(from_joiner) * FROM_JOINER),
            BeaconKind::Nearby => (2, 0),
            BeaconKind::Presence => (3, 0),
        };
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[VERSION, kind, flags, 0]);
        out.extend_from_slice(&self.nid.0);
        out.extend_from_slice(&self.nonce);
        put_ip(&mut out, self.address);
        for port in [self.ports.tcp, self.ports.quic, self.ports.confirm, 0] {
            out.extend_from_slice(&port.to_be_bytes());
        }
        out.extend_from_slice(&self.spki);
        out.try_into().expect("the fields are 96 bytes")
    }
}

impl ReceivedBeacon {
    /// Reads a datagram. Reserved bytes must be zero, and a beacon without MAC must have none.
    pub fn parse(bytes: &[u8]) -> Result<ReceivedBeacon, Malformed> {
        let bytes: &[u8; BEACON_LEN] = bytes.try_into().map_err(|_| Malformed)?;
        let mut reader = Reader::new(bytes);
        if reader.array()? != MAGIC || reader.u8()? != VERSION {
            return Err(Malformed);
        }
        let kind = match (reader.u8()?, reader.u8()?) {
            (1, flags @ (0 | FROM_JOINER)) => BeaconKind::Code { from_joiner: flags == FROM_JOINER },
            (2, 0) => BeaconKind::Nearby,
            (3, 0) => BeaconKind::Presence,
            _ => return Err(Malformed),
        };
        if reader.u8()? != 0 {
            return Err(Malformed);
        }
        let (nid, nonce) = (Nid(reader.array()?), reader.array()?);
        let address = read_ip(&mut reader)?;
        let ports = Ports { tcp: reader.u16()?, quic: reader.u16()?, confirm: reader.u16()? };
        if reader.u16()? != 0 {
            return Err(Malformed);
        }
        let spki = reader.array()?;
        let mac = reader.array()?;
        reader.end()?;
        if kind == BeaconKind::Nearby && mac != [0; 16] {
            return Err(Malformed);
        }
        let signed = bytes[..SIGNED_LEN].try_into().map_err(|_| Malformed)?;
        Ok(ReceivedBeacon { beacon: Beacon { kind, nid, nonce, address, ports, spki }, signed, mac })
    }

    /// What it says; for kinds with a MAC believe it only after [`ReceivedBeacon::is_by`].
    pub fn beacon(&self) -> &Beacon {
        &self.beacon
    }

    /// Whether a holder of the code made it.
    pub fn is_by(&self, keys: &LanKeys) -> bool {
        ct_eq(&crypto::mac16(&keys.beacon, &self.signed), &self.mac)
    }
}

fn whole(signed: [u8; SIGNED_LEN], mac: [u8; 16]) -> [u8; BEACON_LEN] {
    let mut out = [0; BEACON_LEN];
    out[..SIGNED_LEN].copy_from_slice(&signed);
    out[SIGNED_LEN..].copy_from_slice(&mac);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;
    use crate::keys::CodeKeys;
    use crate::secret::Secret;

    fn keys(n: u8) -> CodeKeys {
        CodeKeys::derive(&Code::from_entropy(Secret::new([n; 16])))
    }

    fn beacon(kind: BeaconKind) -> Beacon {
        Beacon {
            kind,
            nid: Nid([1; 16]),
            nonce: [2; 16],
            address: "192.168.1.7".parse().expect("an address"),
            ports: Ports { tcp: 4001, quic: 4002, confirm: 4003 },
            spki: [3; 32],
        }
    }

    #[test]
    fn a_beacon_of_each_kind_survives_and_only_a_holder_of_the_code_can_have_made_it() {
        for kind in [BeaconKind::Code { from_joiner: true }, BeaconKind::Code { from_joiner: false }] {
            let sent = beacon(kind).sealed(keys(1).lan());
            let got = ReceivedBeacon::parse(&sent).expect("a beacon");
            assert_eq!(got.beacon(), &beacon(kind));
            assert!(got.is_by(keys(1).lan()));
            assert!(!got.is_by(keys(2).lan()));
        }
        let open = ReceivedBeacon::parse(&beacon(BeaconKind::Nearby).open()).expect("a beacon");
        assert_eq!(open.beacon(), &beacon(BeaconKind::Nearby));
        assert!(!open.is_by(keys(1).lan()));
    }

    #[test]
    fn any_changed_bit_is_refused_by_the_parser_or_by_the_mac() {
        let sent = beacon(BeaconKind::Code { from_joiner: true }).sealed(keys(1).lan());
        for bit in 0..BEACON_LEN * 8 {
            let mut bytes = sent;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let believed = ReceivedBeacon::parse(&bytes).is_ok_and(|b| b.is_by(keys(1).lan()));
            assert!(!believed, "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_and_every_reserved_byte_is_refused() {
        let sent = beacon(BeaconKind::Nearby).open();
        assert!(ReceivedBeacon::parse(&sent[..BEACON_LEN - 1]).is_err());
        let mut long = sent.to_vec();
        long.push(0);
        assert!(ReceivedBeacon::parse(&long).is_err());
        for at in [6, 7, 62, 63, 96, 111] {
            let mut bytes = sent;
            bytes[at] = 0x40;
            assert!(ReceivedBeacon::parse(&bytes).is_err(), "byte {at}");
        }
    }
}
