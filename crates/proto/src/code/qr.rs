//! The QR text (section 4): the code, the initiator's transport key and address hints in upper-case characters that a
//! QR symbol packs tightly and a person can paste.

use std::net::IpAddr;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use crate::addr::{Address, Transport};
use crate::addr::{Class, LoopbackPolicy, classify, may_dial};
use crate::code::Code;
use crate::crypto;
use crate::id::Tid;
use crate::secret::Secret;
use crate::wire::Reader;

const PREFIX: &str = "HANDFAST:";
/// Characters of a text, the prefix included, with no hint, one to three IPv4 hints, one IPv6 hint.
const LENGTHS: [usize; 5] = [94, 101, 107, 113, 120];
const VERSION: u8 = 1;
const FLAG_DHT: u8 = 1;
const FLAG_LAN: u8 = 2;
/// Most IPv4 hints; an IPv6 hint takes the room of four.
const MAX_V4_HINTS: usize = 3;

/// What a QR text says.
#[derive(Clone, PartialEq, Eq)]
pub struct QrText {
    /// The secret.
    pub code: Code,
    /// The transport key of the device that shows it: any other key is the wrong device.
    pub tid: Tid,
    /// The initiator publishes a record in the DHT.
    pub in_dht: bool,
    /// The initiator sends beacons on its local network.
    pub on_lan: bool,
    /// The TCP port of the initiator, if it gives hints.
    pub port: u16,
    /// Addresses to try at that port: up to three IPv4 ones, or one IPv6.
    pub hints: Vec<IpAddr>,
}

/// Why a text with the right prefix is no QR text of ours. Says nothing of what the text holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QrError {
    /// White space inside: it was copied in pieces.
    #[error("this QR text has spaces or line breaks in it: it is one piece, without any")]
    Broken,
    /// A character that no QR text has.
    #[error("this QR text has a character in it that no QR text has")]
    Character,
    /// Made by a later version.
    #[error("this QR text is of version {0}, which this program does not know")]
    Version(u8),
    /// A part is missing, or something was added.
    #[error("this QR text has {0} characters; a whole one has 94, 101, 107, 113 or 120")]
    Length(usize),
    /// Wrong checksum, unknown flag, an address that nobody can have.
    #[error("this QR text is damaged: its parts do not fit together")]
    Damaged,
}

/// Whether `text` claims to be a QR text (any case).
pub fn has_prefix(text: &str) -> bool {
    text.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX))
}

impl QrText {
    /// A text whose hints are the best of `addresses` that a hint can say: TCP, not link-local, three IPv4 ones or, if
    /// there is none, one IPv6.
    pub fn new(
        code: Code,
        tid: Tid,
        in_dht: bool,
        on_lan: bool,
        addresses: &[Address],
        loopback: LoopbackPolicy,
    ) -> QrText {
        let usable: Vec<&Address> =
            addresses.iter().filter(|a| a.transport == Transport::Tcp && may_dial(a, loopback)).collect();
        let port = usable.first().map_or(0, |a| a.port);
        let at_port = || usable.iter().filter(|a| a.port == port).map(|a| a.ip);
        let mut hints: Vec<IpAddr> = at_port().filter(IpAddr::is_ipv4).take(MAX_V4_HINTS).collect();
        if hints.is_empty() {
            hints = at_port().filter(IpAddr::is_ipv6).take(1).collect();
        }
        QrText { code, tid, in_dht, on_lan, port, hints }
    }

    /// The text: 94 to 120 characters of the QR alphanumeric set.
    pub fn to_text(&self) -> String {
        let flags = (u8::from(self.in_dht) * FLAG_DHT) | (u8::from(self.on_lan) * FLAG_LAN);
        let mut bytes = vec![(VERSION << 4) | flags];
        bytes.extend_from_slice(self.code.entropy().expose());
        bytes.extend_from_slice(&self.tid.0);
        bytes.extend_from_slice(&self.port.to_be_bytes());
        for hint in &self.hints {
            match hint {
                IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
            }
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))
    }

    /// Reads a text in any case. Everything that [`QrText::to_text`] cannot have made is refused; white space around it
    /// is not a part of it.
    pub fn parse(text: &str) -> Result<QrText, QrError> {
        let text = text.trim();
        if !has_prefix(text) {
            return Err(QrError::Damaged);
        }
        let body = Zeroizing::new(text[PREFIX.len()..].to_ascii_uppercase());
        if body.contains(char::is_whitespace) {
            return Err(QrError::Broken);
        }
        if !body.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7')) {
            return Err(QrError::Character);
        }
        // A later version may have other lengths: which one it is stands in the first character.
        let version = body.bytes().next().and_then(version_of).unwrap_or(VERSION);
        if version != VERSION {
            return Err(QrError::Version(version));
        }
        if !LENGTHS.contains(&text.len()) {
            return Err(QrError::Length(text.len()));
        }
        // Unused bits that are not zero are refused here.
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| QrError::Damaged)?);
        let (content, sum) = bytes.split_at_checked(bytes.len().saturating_sub(2)).ok_or(QrError::Damaged)?;
        let flags = content.first().ok_or(QrError::Damaged)? & 0x0f;
        if flags & !(FLAG_DHT | FLAG_LAN) != 0 || sum != checksum(content) {
            return Err(QrError::Damaged);
        }
        QrText::read(content).ok_or(QrError::Damaged)
    }

    /// The hints as addresses, none if there is no port.
    pub fn addresses(&self) -> Vec<Address> {
        if self.port == 0 {
            return Vec::new();
        }
        self.hints.iter().map(|ip| Address { ip: *ip, port: self.port, transport: Transport::Tcp }).collect()
    }

    fn read(content: &[u8]) -> Option<QrText> {
        let mut reader = Reader::new(content);
        let flags = reader.u8().ok()?;
        let code = Code::from_entropy(Secret::new(reader.array().ok()?));
        let tid = Tid(reader.array().ok()?);
        let port = reader.u16().ok()?;
        let hints: Vec<IpAddr> = match content.len().checked_sub(51)? {
            n @ (0 | 4 | 8 | 12) => {
                (0..n / 4).map(|_| reader.array::<4>().map(IpAddr::from)).collect::<Result<_, _>>().ok()?
            }
            16 => vec![IpAddr::from(reader.array::<16>().ok()?)],
            _ => return None,
        };
        let sane = |ip: &IpAddr| !matches!(classify(*ip), Class::Unusable | Class::LinkLocal);
        if !hints.iter().all(sane) || (port == 0 && !hints.is_empty()) {
            return None;
        }
        Some(QrText { code, tid, in_dht: flags & FLAG_DHT != 0, on_lan: flags & FLAG_LAN != 0, port, hints })
    }
}

/// The version in the first base32 character: the upper four of its five bits.
fn version_of(first: u8) -> Option<u8> {
    let value = match first {
        b'A'..=b'Z' => first - b'A',
        b'2'..=b'7' => first - b'2' + 26,
        _ => return None,
    };
    Some(value >> 1)
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let h = crypto::hash("qr", &[bytes]);
    [h[0], h[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hints: &[&str]) -> QrText {
        QrText {
            code: Code::from_entropy(Secret::new([0x7f; 16])),
            tid: Tid([9; 32]),
            in_dht: true,
            on_lan: false,
            port: if hints.is_empty() { 0 } else { 4001 },
            hints: hints.iter().map(|h| h.parse().expect("an address")).collect(),
        }
    }

    #[test]
    fn every_size_of_section_4_survives_in_upper_and_lower_case() {
        let cases: [(&[&str], usize); 5] = [
            (&[], 94),
            (&["192.168.1.2"], 101),
            (&["192.168.1.2", "10.0.0.1"], 107),
            (&["192.168.1.2", "10.0.0.1", "5.1.2.3"], 113),
            (&["2a0a::7"], 120),
        ];
        for (hints, len) in cases {
            let qr = sample(hints);
            let text = qr.to_text();
            assert_eq!(text.len(), len);
            assert!(text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ':'));
            assert!(QrText::parse(&text) == Ok(qr.clone()));
            assert!(QrText::parse(&text.to_lowercase()) == Ok(qr));
        }
    }

    /// Attack 34.
    #[test]
    fn attack_34_damaged_texts_are_refused_before_anything_is_sent() {
        let text = sample(&["192.168.1.2"]).to_text();
        for i in PREFIX.len()..text.len() {
            let mut chars: Vec<char> = text.chars().collect();
            chars[i] = if chars[i] == 'A' { 'B' } else { 'A' };
            let changed: String = chars.into_iter().collect();
            assert!(QrText::parse(&changed).is_err(), "character {i}");
        }
        let refused = |text: &str| QrText::parse(text).err();
        assert_eq!(refused(&text[..text.len() - 1]), Some(QrError::Length(100)));
        assert_eq!(refused(&format!("{text}A")), Some(QrError::Length(102)));
        assert_eq!(refused(&format!("{}A", sample(&["2a0a::7"]).to_text())), Some(QrError::Length(121)));
        assert_eq!(refused("HANDFAST:"), Some(QrError::Length(9)));
        assert_eq!(refused(&format!("{}1", &text[..text.len() - 1])), Some(QrError::Character));
        assert_eq!(refused(&sample(&["169.254.1.1"]).to_text()), Some(QrError::Damaged));
    }

    /// Attack 34: white space around a text is no part of it, white space inside is not repaired.
    #[test]
    fn a_pasted_text_may_have_white_space_around_it_but_not_inside() {
        let qr = sample(&["192.168.1.2"]);
        let text = qr.to_text();
        for around in [format!("  {text}\n"), format!("\r\n\t{text}\r\n"), format!("\u{a0}{text}\u{3000}")] {
            assert!(QrText::parse(&around) == Ok(qr.clone()));
        }
        for inside in [text.replace(':', ": "), format!("{}\n{}", &text[..60], &text[60..])] {
            assert_eq!(QrText::parse(&inside).err(), Some(QrError::Broken));
        }
    }

    /// Attack 34: base32 of 57 bytes leaves four bits of the last character unused.
    #[test]
    fn unused_bits_that_are_not_zero_are_refused() {
        let text = sample(&["192.168.1.2"]).to_text();
        let (rest, last) = text.split_at(text.len() - 1);
        let at = BASE32.find(last).expect("a base32 character");
        assert_eq!(at % 16, 0, "they are zero as written");
        for unused in 1..16 {
            assert_eq!(
                QrText::parse(&format!("{rest}{}", &BASE32[at + unused..=at + unused])).err(),
                Some(QrError::Damaged)
            );
        }
    }

    const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    #[test]
    fn a_flag_of_the_future_is_refused_although_the_checksum_is_right() {
        let mut bytes = vec![(VERSION << 4) | 4];
        bytes.extend_from_slice(&[0; 50]);
        bytes.extend_from_slice(&checksum(&bytes));
        let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes));
        assert_eq!(QrText::parse(&text).err(), Some(QrError::Damaged));
    }

    #[test]
    fn every_later_version_is_told_apart_from_damage_whatever_its_length() {
        for version in 2..16 {
            let mut bytes = vec![version << 4];
            bytes.extend_from_slice(&[0; 40]);
            let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes));
            assert_eq!(QrText::parse(&text).err(), Some(QrError::Version(version)));
        }
    }
}
