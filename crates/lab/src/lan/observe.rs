//! What the system of a host says: its addresses, and who listens where.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::ns::Namespace;

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The interface.
    pub interface: String,
    /// Its hardware address.
    pub mac: String,
    /// The address.
    pub ip: IpAddr,
    /// How many of its bits are the network's.
    pub prefix: u8,
}

impl OwnAddress {
    /// Is it one that means something on its link only?
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
    }

    /// Is `ip` in its network?
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((own, length), (other, other_length)) = (bits(self.ip), bits(ip));
        let host_bits = 128_u32.saturating_sub(u32::from(self.prefix));
        length == other_length && (own ^ other).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// All addresses of a host but those of loopback.
///
/// # Errors
/// When `ip` fails, or says something else than it did.
pub fn addresses(namespace: &Namespace) -> Result<Vec<OwnAddress>> {
    let text = namespace.tool("ip", &["-j", "addr"])?;
    let links: Vec<Value> = serde_json::from_str(&text).context("ip -j addr")?;
    let mut all = Vec::new();
    for link in links {
        let field = |name: &str| link.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (interface, mac) = (field("ifname"), field("address"));
        if interface == "lo" {
            continue;
        }
        for address in link.get("addr_info").and_then(Value::as_array).into_iter().flatten() {
            let ip = address.get("local").and_then(Value::as_str).context("an address without itself")?;
            let prefix = address.get("prefixlen").and_then(Value::as_u64).context("an address without a prefix")?;
            all.push(OwnAddress {
                interface: interface.clone(),
                mac: mac.clone(),
                ip: ip.parse()?,
                prefix: u8::try_from(prefix)?,
            });
        }
    }
    Ok(all)
}

/// A socket that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its address as `ss` writes it: `0.0.0.0`, `[::]`, `*` for both families at once.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Who has it, as `ss` writes it.
    pub process: String,
}

impl Listener {
    /// Does it wait at every address of a family?
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self.address.as_str(), "0.0.0.0" | "[::]" | "*")
    }
}

/// Everybody who listens on a host, TCP and UDP.
///
/// # Errors
/// When `ss` fails, or says something else than it did.
pub fn listeners(namespace: &Namespace) -> Result<Vec<Listener>> {
    let text = namespace.tool("ss", &["-Hltnup"])?;
    text.lines().map(|line| listener(line).with_context(|| format!("ss said: {line}"))).collect()
}

/// A line of `ss -Hltnup`: protocol, state, two queues, own end, other end, process.
fn listener(line: &str) -> Option<Listener> {
    let mut fields = line.split_whitespace();
    let protocol = fields.next()?.to_owned();
    let (address, port) = fields.nth(3)?.rsplit_once(':')?;
    // An address may be bound to an interface: `[fe80::1]%eth0`.
    let address = address.split('%').next()?.to_owned();
    let process = fields.nth(1).unwrap_or_default().to_owned();
    Some(Listener { protocol, address, port: port.parse().ok()?, process })
}

#[cfg(test)]
mod tests {
    use super::{OwnAddress, listener};

    #[test]
    fn a_line_of_ss_is_a_listener() {
        let line = "tcp   LISTEN 0  128  0.0.0.0:44313  0.0.0.0:*  users:((\"handfast\",pid=4,fd=9))";
        let found = listener(line).expect("it is one");
        assert_eq!((found.protocol.as_str(), found.address.as_str(), found.port), ("tcp", "0.0.0.0", 44313));
        assert!(found.is_wildcard() && found.process.contains("handfast"));
        let scoped = listener("udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*").expect("it is one");
        assert_eq!((scoped.address.as_str(), scoped.port), ("[fe80::1]", 546));
        assert!(!scoped.is_wildcard());
        assert_eq!(listener("garbage"), None);
    }

    #[test]
    fn an_address_knows_what_is_in_its_network() {
        let of = |ip: &str, prefix| OwnAddress {
            interface: String::new(),
            mac: String::new(),
            ip: ip.parse().expect("an address"),
            prefix,
        };
        let parse = |ip: &str| ip.parse().expect("an address");
        assert!(of("192.168.77.11", 24).contains(parse("192.168.77.255")));
        assert!(!of("192.168.77.11", 24).contains(parse("192.168.78.1")));
        assert!(of("10.0.0.1", 32).contains(parse("10.0.0.1")) && !of("10.0.0.1", 32).contains(parse("10.0.0.2")));
        assert!(of("10.0.0.1", 0).contains(parse("1.2.3.4")));
        assert!(of("fd00::1", 64).contains(parse("fd00::2")) && !of("fd00::1", 64).contains(parse("fd00:0:0:1::2")));
        assert!(!of("fd00::1", 0).contains(parse("1.2.3.4")));
    }
}
