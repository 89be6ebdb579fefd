//! The confirmation messages of the local network (section 6.4): C1, a call to a confirmation listener, and C2, its
//! answer. 160 bytes each, so an answer is never larger than what it answers.

use std::net::IpAddr;

use crate::crypto;
use crate::keys::LanKeys;
use crate::secret::ct_eq;
use crate::wire::beacon::{Nid, Ports};
use crate::wire::info::DeviceName;
use crate::wire::{Malformed, Reader, put_ip, read_ip};

/// Size of C1 and of C2, in bytes.
pub const CONFIRM_LEN: usize = 160;
/// What the MAC covers.
const SIGNED_LEN: usize = 144;
/// Room for the name in C2.
const NAME_LEN: usize = 64;

const MAGIC_C1: [u8; 4] = *b"HFC1";
const MAGIC_C2: [u8; 4] = *b"HFC2";
const VERSION: u8 = 1;

/// What a call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// "I reach you at this address, and this is where I am."
    Ping,
    /// A device calls itself, with a code it has just registered.
    SelfCheck,
}

/// C1. `B` is the device called, `A` the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it wants.
    pub op: Op,
    /// The caller's notifier id.
    pub from: Nid,
    /// The notifier id of the device called, from its beacon.
    pub to: Nid,
    /// The address of B that A dialled.
    pub dialled: IpAddr,
    /// A's own address on this interface: advice, the listener believes only the source it sees.
    pub address: IpAddr,
    /// A's ports.
    pub ports: Ports,
    /// A's confirmation listener (SHA-256 of its SPKI).
    pub spki: [u8; 32],
    /// Random; comes back hashed, and names a self-check.
    pub code: [u8; 32],
}

/// What a listener says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Taken.
    Ok,
    /// The call is for somebody else: another id, an address that is not mine, a code nobody registered.
    NotMine,
    /// Too many calls.
    Busy,
}

/// C2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub status: Status,
    /// The notifier id of the device that answers.
    pub from: Nid,
    /// The caller's address as the listener sees it.
    pub observed: IpAddr,
    /// And its port.
    pub observed_port: u16,
    /// `H(L("c2") ‖ code)`: shows that this call is answered.
    pub echo: [u8; 32],
    /// The name the device wants to be called in a list; only in a window of `pair nearby`, and proven by nothing.
    pub name: Option<DeviceName>,
}

/// C1 or C2 as it came in: of right layout, by nobody known yet.
#[derive(Clone, Debug)]
pub struct Received<T> {
    message: T,
    signed: [u8; SIGNED_LEN],
    mac: [u8; 16],
}

impl Call {
    /// The 160 bytes; without keys (no code yet) the MAC is zero.
    pub fn to_bytes(&self, keys: Option<&LanKeys>) -> [u8; CONFIRM_LEN] {
        let mut out = MAGIC_C1.to_vec();
        let op = match self.op {
            Op::Ping => 1,
            Op::SelfCheck => 2,
        };
        out.extend_from_slice(&[VERSION, op, 0, 0]);
        out.extend_from_slice(&self.from.0);
        out.extend_from_slice(&self.to.0);
        put_ip(&mut out, self.dialled);
        put_ip(&mut out, self.address);
        for port in [self.ports.tcp, self.ports.quic, self.ports.confirm, 0] {
            out.extend_from_slice(&port.to_be_bytes());
        }
        out.extend_from_slice(&self.spki);
        out.extend_from_slice(&self.code);
        whole(out, keys)
    }

    /// Reads C1.
    pub fn parse(bytes: &[u8; CONFIRM_LEN]) -> Result<Received<Call>, Malformed> {
        let mut reader = head(bytes, MAGIC_C1)?;
        let op = match reader.u8()? {
            1 => Op::Ping,
            2 => Op::SelfCheck,
            _ => return Err(Malformed),
        };
        if reader.u16()? != 0 {
            return Err(Malformed);
        }
        let (from, to) = (Nid(reader.array()?), Nid(reader.array()?));
        let (dialled, address) = (read_ip(&mut reader)?, read_ip(&mut reader)?);
        let ports = Ports { tcp: reader.u16()?, quic: reader.u16()?, confirm: reader.u16()? };
        if reader.u16()? != 0 {
            return Err(Malformed);
        }
        let (spki, code) = (reader.array()?, reader.array()?);
        received(Call { op, from, to, dialled, address, ports, spki, code }, reader, bytes)
    }

    /// What the answer to this call must carry.
    pub fn echo(&self) -> [u8; 32] {
        crypto::hash("c2", &[&self.code])
    }
}

impl Answer {
    /// The 160 bytes; without keys (no code yet) the MAC is zero.
    pub fn to_bytes(&self, keys: Option<&LanKeys>) -> [u8; CONFIRM_LEN] {
        let mut out = MAGIC_C2.to_vec();
        let status = match self.status {
            Status::Ok => 0,
            Status::NotMine => 1,
            Status::Busy => 2,
        };
        out.extend_from_slice(&[VERSION, status, 0, 0]);
        out.extend_from_slice(&self.from.0);
        put_ip(&mut out, self.observed);
        out.extend_from_slice(&self.observed_port.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.echo);
        let mut name = self.name.as_ref().map(|n| n.as_str().as_bytes().to_vec()).unwrap_or_default();
        name.resize(NAME_LEN, 0);
        out.extend_from_slice(&name);
        whole(out, keys)
    }

    /// Reads C2. A name is cleaned: what is not safe to show is dropped.
    pub fn parse(bytes: &[u8; CONFIRM_LEN]) -> Result<Received<Answer>, Malformed> {
        let mut reader = head(bytes, MAGIC_C2)?;
        let status = match reader.u8()? {
            0 => Status::Ok,
            1 => Status::NotMine,
            2 => Status::Busy,
            _ => return Err(Malformed),
        };
        if reader.u16()? != 0 {
            return Err(Malformed);
        }
        let from = Nid(reader.array()?);
        let observed = read_ip(&mut reader)?;
        let observed_port = reader.u16()?;
        if reader.array()? != [0; 6] {
            return Err(Malformed);
        }
        let echo = reader.array()?;
        let name = read_name(&reader.array::<NAME_LEN>()?)?;
        received(Answer { status, from, observed, observed_port, echo, name }, reader, bytes)
    }
}

impl<T> Received<T> {
    /// What it says; in a window with a code believe it only after [`Received::is_by`].
    pub fn message(&self) -> &T {
        &self.message
    }

    /// Whether a holder of the code made it.
    pub fn is_by(&self, keys: &LanKeys) -> bool {
        ct_eq(&crypto::mac16(&keys.confirm, &self.signed), &self.mac)
    }

    /// Whether it claims no code at all.
    pub fn is_open(&self) -> bool {
        self.mac == [0; 16]
    }
}

fn whole(mut out: Vec<u8>, keys: Option<&LanKeys>) -> [u8; CONFIRM_LEN] {
    out.resize(SIGNED_LEN, 0);
    let mac = keys.map_or([0; 16], |keys| crypto::mac16(&keys.confirm, &out));
    out.extend_from_slice(&mac);
    out.try_into().expect("the fields are 144 bytes and the MAC 16")
}

fn head(bytes: &[u8; CONFIRM_LEN], magic: [u8; 4]) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    if reader.array()? != magic || reader.u8()? != VERSION { Err(Malformed) } else { Ok(reader) }
}

fn received<T>(message: T, mut reader: Reader<'_>, bytes: &[u8; CONFIRM_LEN]) -> Result<Received<T>, Malformed> {
    let mac = reader.array()?;
    reader.end()?;
    let signed = bytes[..SIGNED_LEN].try_into().map_err(|_| Malformed)?;
    Ok(Received { message, signed, mac })
}

/// UTF-8 and zeros behind it; all zeros is no name.
fn read_name(field: &[u8; NAME_LEN]) -> Result<Option<DeviceName>, Malformed> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(NAME_LEN);
    if field[end..].iter().any(|b| *b != 0) {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(&field[..end]).map_err(|_| Malformed)?;
    Ok((!text.is_empty()).then(|| DeviceName::clean(text)))
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn call() -> Call {
        Call {
            op: Op::Ping,
            from: Nid([1; 16]),
            to: Nid([2; 16]),
            dialled: ip("192.168.1.7"),
            address: ip("fd00::7"),
            ports: Ports { tcp: 1, quic: 2, confirm: 3 },
            spki: [4; 32],
            code: [5; 32],
        }
    }

    fn answer(name: &str) -> Answer {
        let name = (!name.is_empty()).then(|| DeviceName::clean(name));
        let (observed, observed_port) = (ip("192.168.1.9"), 5000);
        Answer { status: Status::Ok, from: Nid([2; 16]), observed, observed_port, echo: call().echo(), name }
    }

    #[test]
    fn call_and_answer_survive_and_only_a_holder_of_the_code_can_have_made_them() {
        let keys_1 = keys(1);
        let got = Call::parse(&call().to_bytes(Some(keys_1.lan()))).expect("C1");
        assert_eq!(got.message(), &call());
        assert!(got.is_by(keys_1.lan()) && !got.is_by(keys(2).lan()) && !got.is_open());
        for name in ["", "kitchen", "пéт 🐧"] {
            let got = Answer::parse(&answer(name).to_bytes(Some(keys_1.lan()))).expect("C2");
            assert_eq!(got.message(), &answer(name));
            assert!(got.is_by(keys_1.lan()) && !got.is_by(keys(2).lan()));
        }
        let open = Call::parse(&call().to_bytes(None)).expect("C1");
        assert!(open.is_open() && !open.is_by(keys_1.lan()));
    }

    #[test]
    fn any_changed_bit_is_refused_by_the_parser_or_by_the_mac() {
        let keys = keys(1);
        let (c1, c2) = (call().to_bytes(Some(keys.lan())), answer("a").to_bytes(Some(keys.lan())));
        for bit in 0..CONFIRM_LEN * 8 {
            let flip = |mut bytes: [u8; CONFIRM_LEN]| {
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            assert!(!Call::parse(&flip(c1)).is_ok_and(|m| m.is_by(keys.lan())), "C1, bit {bit}");
            assert!(!Answer::parse(&flip(c2)).is_ok_and(|m| m.is_by(keys.lan())), "C2, bit {bit}");
        }
    }

    #[test]
    fn a15_a_hostile_name_is_cleaned_or_refused() {
        let with = |field: &[u8]| {
            let mut bytes = answer("").to_bytes(None);
            bytes[80..80 + field.len()].copy_from_slice(field);
            Answer::parse(&bytes)
        };
        let shown = |field: &[u8]| {
            let parsed = with(field).expect("C2");
            parsed.message().name.as_ref().map(|n| n.as_str().to_owned())
        };
        let cleaned = shown("\u{1b}[31mred\u{202e}x".as_bytes()).expect("a name");
        assert!(!cleaned.contains(['\u{1b}', '\u{202e}']), "{cleaned:?}");
        assert!(with(&[0xff, 0xfe]).is_err());
        assert!(with(b"a\0b").is_err());
        assert_eq!(shown(&[b'x'; 64]).map(|n| n.len() <= 64), Some(true));
    }
}
