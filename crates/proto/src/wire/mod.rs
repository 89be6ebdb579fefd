//! Byte layouts. Parsers are total and canonical: fixed sizes, padding checked to be zero, bytes left over refused.

pub mod advert;
pub mod beacon;
pub mod confirm;
pub mod frames;
pub mod info;
pub mod record;

/// Bytes that are not what their layout says. There is no detail on purpose: a peer that sends them is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes do not match the layout of the protocol")]
pub struct Malformed;

/// Reads fixed fields from the front of a slice.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// `lp(x)` with at most `max` bytes.
    pub(crate) fn lp(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(Malformed);
        }
        self.take(len)
    }

    /// The rest must be zero padding.
    pub(crate) fn zeros(self) -> Result<(), Malformed> {
        if self.0.iter().all(|b| *b == 0) { Ok(()) } else { Err(Malformed) }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// An IP address in 16 bytes, IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn put_ip(out: &mut Vec<u8>, ip: std::net::IpAddr) {
    let v6 = match ip {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        std::net::IpAddr::V6(v6) => v6,
    };
    out.extend_from_slice(&v6.octets());
}

/// The inverse of [`put_ip`].
pub(crate) fn read_ip(reader: &mut Reader<'_>) -> Result<std::net::IpAddr, Malformed> {
    Ok(std::net::IpAddr::from(reader.array::<16>()?).to_canonical())
}

/// Appends `lp(x)`; `x` is one of our own bounded fields.
pub(crate) fn put_lp(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&crate::crypto::lp(bytes));
}
