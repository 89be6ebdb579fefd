//! Beacons and confirmation messages of the attacker's own making, written from sections 6.1 and 6.4 of the protocol.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustls::{ClientConnection, StreamOwned};

use super::tls;
use crate::ns::Namespace;
use crate::scenario::attack::forge::{hmac, labelled, random};

/// Lengths of a beacon and of what its MAC covers.
const BEACON_SIGNED: usize = 96;

/// Lengths of C1 and C2, and of what their MAC covers.
pub(super) const CALL_LEN: usize = 160;
const CALL_SIGNED: usize = 144;

/// How long the victim may take to accept, and to answer.
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// Kinds of beacons.
pub(super) const CODE: u8 = 1;
pub(super) const NEARBY: u8 = 2;

/// The sender of a beacon entered the code.
pub(super) const FROM_JOINER: u8 = 1;

/// Operations of C1.
pub(super) const PING: u8 = 1;
pub(super) const SELF_CHECK: u8 = 2;

/// Status of C2.
pub(super) const OK: u8 = 0;
pub(super) const NOT_MINE: u8 = 1;

/// What a device says of itself.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) address: IpAddr,
    pub(super) tcp: u16,
    pub(super) quic: u16,
    pub(super) confirm: u16,
    pub(super) spki: [u8; 32],
}

/// C1.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) op: u8,
    pub(super) from: [u8; 16],
    pub(super) to: [u8; 16],
    pub(super) dialled: IpAddr,
    pub(super) told: Told,
    pub(super) code: [u8; 32],
}

/// A beacon of a fresh window; without a key its MAC is random.
pub(super) fn beacon(kind: u8, flags: u8, told: &Told, key: Option<&[u8; 32]>) -> Result<Vec<u8>> {
    let mut bytes = [b"HFLB".as_slice(), &[1, kind, flags, 0]].concat();
    bytes.extend_from_slice(&random::<16>()?);
    bytes.extend_from_slice(&random::<16>()?);
    put_told(&mut bytes, told);
    ensure!(bytes.len() == BEACON_SIGNED, "{} bytes are signed", bytes.len());
    let mac = match key {
        Some(key) => hmac(key, &bytes)?[..16].to_vec(),
        None => random::<16>()?.to_vec(),
    };
    bytes.extend_from_slice(&mac);
    Ok(bytes)
}

impl Call {
    /// The bytes; with a zero MAC if there is no key.
    pub(super) fn bytes(&self, key: Option<&[u8; 32]>) -> Result<Vec<u8>> {
        let mut bytes = [b"HFC1".as_slice(), &[1, self.op, 0, 0], &self.from, &self.to].concat();
        bytes.extend_from_slice(&octets(self.dialled));
        put_told(&mut bytes, &self.told);
        bytes.extend_from_slice(&self.code);
        ensure!(bytes.len() == CALL_SIGNED, "{} bytes are signed", bytes.len());
        let mac = match key {
            Some(key) => hmac(key, &bytes)?[..16].to_vec(),
            None => vec![0; 16],
        };
        bytes.extend_from_slice(&mac);
        Ok(bytes)
    }
}

/// C2 to a call without a code, with these bytes for a name.
pub(super) fn reply(call: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    ensure!(call.len() == CALL_LEN && call.starts_with(b"HFC1\x01"), "no C1: {call:02x?}");
    let mut bytes = [b"HFC2\x01".as_slice(), &[OK, 0, 0], &call[24..40], &call[56..72], &[0; 8]].concat();
    bytes.extend_from_slice(&labelled("c2", &[&call[112..144]]));
    bytes.extend_from_slice(name);
    ensure!(bytes.len() <= CALL_SIGNED, "the name has {} bytes", name.len());
    bytes.resize(CALL_LEN, 0);
    Ok(bytes)
}

/// C2, as far as it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u8,
    pub(super) observed: SocketAddr,
}

impl Answer {
    /// Reads C2, which must answer this very call and have been made by a holder of the code.
    pub(super) fn read(bytes: &[u8], call: &Call, key: &[u8; 32]) -> Result<Self> {
        ensure!(bytes.len() == CALL_LEN && bytes.starts_with(b"HFC2\x01"), "no C2: {bytes:02x?}");
        ensure!(hmac(key, &bytes[..CALL_SIGNED])?[..16] == bytes[CALL_SIGNED..], "C2 has a wrong MAC");
        ensure!(bytes[8..24] == call.to, "C2 is of another window");
        ensure!(bytes[48..80] == labelled("c2", &[&call.code]), "C2 answers another call");
        let ip = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[24..40])?).to_canonical();
        let port = u16::from_be_bytes([bytes[40], bytes[41]]);
        Ok(Self { status: bytes[5], observed: SocketAddr::new(ip, port) })
    }
}

/// A TLS connection to a confirmation listener.
pub(super) struct Caller {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Caller {
    /// Connects from one of the host's addresses, and believes whatever certificate is shown.
    pub(super) fn connect(host: &Namespace, from: IpAddr, to: SocketAddr) -> Result<Self> {
        let stream = plain(host, from, to)?;
        Ok(Self { stream: StreamOwned::new(tls::client(to.ip())?, stream) })
    }

    /// Our end.
    pub(super) fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.sock.local_addr()?)
    }

    /// Sends bytes and gives everything that comes back before the other end closes.
    pub(super) fn say(mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.stream.write_all(bytes).context("sending C1")?;
        self.stream.flush()?;
        let mut answer = Vec::new();
        let mut buffer = [0; 512];
        // A connection that is cut without a farewell has said what it had to say.
        while let Ok(length @ 1..) = self.stream.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..length]);
        }
        Ok(answer)
    }
}

/// A TCP connection from one of the host's addresses, without a word of TLS.
pub(super) fn plain(host: &Namespace, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let connect = || -> rustix::io::Result<TcpStream> {
        let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&fd, &SocketAddr::new(from, 0))?;
        rustix::net::connect(&fd, &to)?;
        Ok(fd.into())
    };
    let stream = host.enter(connect)?.with_context(|| format!("connecting from {from} to {to}"))?;
    stream.set_read_timeout(Some(CALL_LIMIT))?;
    stream.set_write_timeout(Some(CALL_LIMIT))?;
    Ok(stream)
}

/// Address, ports and key, as beacons and calls have them.
fn put_told(bytes: &mut Vec<u8>, told: &Told) {
    bytes.extend_from_slice(&octets(told.address));
    for port in [told.tcp, told.quic, told.confirm, 0] {
        bytes.extend_from_slice(&port.to_be_bytes());
    }
    bytes.extend_from_slice(&told.spki);
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
