//! The attributes of a message: type, length, value, padded to four bytes (RFC 8489, section 14).

use std::net::{IpAddr, SocketAddr};

use super::{COOKIE, Change, HEADER, MAX_NAMED, TransactionId};
use crate::wire::{Malformed, Reader};

const MAPPED_ADDRESS: u16 = 0x0001;
pub(super) const CHANGE_REQUEST: u16 = 0x0003;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PADDING: u16 = 0x0026;
const FINGERPRINT: u16 = 0x8028;
const RESPONSE_ORIGIN: u16 = 0x802b;
const OTHER_ADDRESS: u16 = 0x802c;

/// Types from here on may be skipped by whoever does not know them (RFC 8489, section 14).
const OPTIONAL: u16 = 0x8000;

/// Keeps the checksum apart from that of another protocol on the same port (RFC 8489, section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const FINGERPRINT_LEN: usize = 8;

const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// The bits of CHANGE-REQUEST (RFC 5780, section 7.2).
const CHANGE_IP: u32 = 4;
const CHANGE_PORT: u32 = 2;

/// The attributes of a message that is being written.
#[derive(Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    fn put(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(kind.to_be_bytes());
        self.0.extend(u16::try_from(value.len()).expect("our attributes are short").to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(super) fn change(&mut self, change: Change) {
        let bits = if change.ip { CHANGE_IP } else { 0 } | if change.port { CHANGE_PORT } else { 0 };
        self.put(CHANGE_REQUEST, &bits.to_be_bytes());
    }

    pub(super) fn mapped(&mut self, address: SocketAddr, id: TransactionId) {
        self.put(XOR_MAPPED_ADDRESS, &address_bytes(masked(address, id)));
    }

    pub(super) fn origin(&mut self, address: SocketAddr) {
        self.put(RESPONSE_ORIGIN, &address_bytes(address));
    }

    pub(super) fn other(&mut self, address: SocketAddr) {
        self.put(OTHER_ADDRESS, &address_bytes(address));
    }

    pub(super) fn error(&mut self, code: u16) {
        let class = u8::try_from(code / 100).unwrap_or(u8::MAX);
        let number = u8::try_from(code % 100).unwrap_or(u8::MAX);
        self.put(ERROR_CODE, &[0, 0, class, number]);
    }

    pub(super) fn unknown(&mut self, kinds: &[u16]) {
        let value: Vec<u8> = kinds.iter().take(MAX_NAMED).flat_map(|kind| kind.to_be_bytes()).collect();
        self.put(UNKNOWN_ATTRIBUTES, &value);
    }

    /// The message of this type, with a fingerprint.
    pub(super) fn finish(self, kind: u16, id: TransactionId) -> Vec<u8> {
        let length = u16::try_from(self.0.len() + FINGERPRINT_LEN).expect("our messages are short");
        let mut bytes = Vec::with_capacity(HEADER + usize::from(length));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(COOKIE.to_be_bytes());
        bytes.extend(id.0);
        bytes.extend(self.0);
        let fingerprint = fingerprint(&bytes);
        bytes.extend(FINGERPRINT.to_be_bytes());
        bytes.extend(4u16.to_be_bytes());
        bytes.extend(fingerprint.to_be_bytes());
        bytes
    }
}

/// What the attributes of a message say. Of several of one type the first counts (RFC 8489, section 14).
#[derive(Default)]
pub(super) struct Found {
    pub(super) mapped: Option<SocketAddr>,
    pub(super) origin: Option<SocketAddr>,
    pub(super) other: Option<SocketAddr>,
    pub(super) change: Change,
    pub(super) error: Option<u16>,
    /// What the other side did not know.
    pub(super) refused: Vec<u16>,
    /// What must be understood and is not.
    pub(super) unknown: Vec<u16>,
}

impl Found {
    /// Reads those of a message whose header fits its size.
    pub(super) fn read(message: &[u8], id: TransactionId) -> Result<Found, Malformed> {
        let mut found = Found::default();
        let (mut plain, mut change) = (None, None);
        let mut at = HEADER;
        while at < message.len() {
            let mut reader = Reader::new(&message[at..]);
            let (kind, length) = (reader.u16()?, usize::from(reader.u16()?));
            let value = reader.take(length.next_multiple_of(4))?.get(..length).ok_or(Malformed)?;
            match kind {
                XOR_MAPPED_ADDRESS if found.mapped.is_none() => found.mapped = Some(masked(address(value)?, id)),
                MAPPED_ADDRESS if plain.is_none() => plain = Some(address(value)?),
                RESPONSE_ORIGIN if found.origin.is_none() => found.origin = Some(address(value)?),
                OTHER_ADDRESS if found.other.is_none() => found.other = Some(address(value)?),
                CHANGE_REQUEST if change.is_none() => change = Some(change_of(value)?),
                ERROR_CODE if found.error.is_none() => found.error = Some(error_of(value)?),
                UNKNOWN_ATTRIBUTES => {
                    let (kinds, _) = value.as_chunks::<2>();
                    let room = MAX_NAMED - found.refused.len();
                    found.refused.extend(kinds.iter().take(room).map(|kind| u16::from_be_bytes(*kind)));
                }
                FINGERPRINT => {
                    let mut value = Reader::new(value);
                    let right = value.u32()? == fingerprint(&message[..at]);
                    // It is the last one (RFC 8489, section 14.7).
                    if !right || at + FINGERPRINT_LEN != message.len() {
                        return Err(Malformed);
                    }
                }
                // Nobody shares a secret with us, and padding says nothing. A second one of a type is skipped.
                MAPPED_ADDRESS
                | XOR_MAPPED_ADDRESS
                | CHANGE_REQUEST
                | ERROR_CODE
                | MESSAGE_INTEGRITY
                | MESSAGE_INTEGRITY_SHA256
                | PADDING => {}
                unknown if unknown < OPTIONAL && found.unknown.len() < MAX_NAMED => found.unknown.push(unknown),
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        // What servers older than RFC 5389 say. Routers were seen to rewrite it, so the masked one counts more.
        found.mapped = found.mapped.or(plain);
        found.change = change.unwrap_or_default();
        Ok(found)
    }
}

/// The checksum of a message up to its fingerprint, whose length the header already counts.
fn fingerprint(message: &[u8]) -> u32 {
    crc32fast::hash(message) ^ FINGERPRINT_XOR
}

fn address(value: &[u8]) -> Result<SocketAddr, Malformed> {
    let mut reader = Reader::new(value);
    // The first byte is reserved, and ignored (RFC 8489, section 14.1).
    let (_, family, port) = (reader.u8()?, reader.u8()?, reader.u16()?);
    let ip = match family {
        IPV4 => IpAddr::from(reader.array::<4>()?),
        IPV6 => IpAddr::from(reader.array::<16>()?),
        _ => return Err(Malformed),
    };
    reader.end()?;
    Ok(SocketAddr::new(ip, port))
}

fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { IPV4 } else { IPV6 };
    let mut bytes = vec![0, family];
    bytes.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes
}

/// Masks an address, or takes the mask off (RFC 8489, section 14.2): routers rewrite what looks like their own address.
fn masked(address: SocketAddr, id: TransactionId) -> SocketAddr {
    let cookie = COOKIE.to_be_bytes();
    let port = address.port() ^ u16::from_be_bytes([cookie[0], cookie[1]]);
    let mask = cookie.into_iter().chain(id.0);
    let ip = match address.ip() {
        IpAddr::V4(ip) => {
            let mut octets = ip.octets();
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            IpAddr::from(octets)
        }
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            IpAddr::from(octets)
        }
    };
    SocketAddr::new(ip, port)
}

fn change_of(value: &[u8]) -> Result<Change, Malformed> {
    let mut reader = Reader::new(value);
    let bits = reader.u32()?;
    reader.end()?;
    Ok(Change { ip: bits & CHANGE_IP != 0, port: bits & CHANGE_PORT != 0 })
}

/// A code of 300 to 699 (RFC 8489, section 14.8); the text after it is for people and not read.
fn error_of(value: &[u8]) -> Result<u16, Malformed> {
    let mut reader = Reader::new(value);
    let (_, class, number) = (reader.u16()?, u16::from(reader.u8()? & 7), u16::from(reader.u8()?));
    if (3..=6).contains(&class) && number < 100 { Ok(class * 100 + number) } else { Err(Malformed) }
}
