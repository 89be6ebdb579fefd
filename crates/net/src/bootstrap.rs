//! Nodes that are known beforehand, in the text form people configure: a multiaddr with `/p2p/ID`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use handfast_proto::addr::Transport;
use handfast_proto::id::Tid;

use crate::swarm::ids;

/// A node of the DHT as somebody configured it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bootstrap {
    /// Where it is.
    pub host: Host,
    /// Its port, not 0.
    pub port: u16,
    /// How to speak there.
    pub transport: Transport,
    /// Its transport identity. Another one at that address is not used.
    pub tid: Tid,
}

/// Where a bootstrap node is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name the system resolves; `/dns`, `/dns4` and `/dns6` differ in the addresses that count.
    Name {
        /// The name, at most 253 characters of letters, digits, `-` and `.`.
        name: String,
        /// Which addresses count.
        family: Family,
    },
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// All of them.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Whether an address belongs to the family.
    pub fn admits(self, ip: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

/// Why a text names no bootstrap node: a mistake of whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBootstrap {
    /// The form is wrong.
    #[error("not of the form /ip4/ADDRESS/udp/PORT/quic-v1/p2p/ID (or /ip6, /dns, /dns4, /dns6; or /tcp/PORT): {0}")]
    Form(String),
    /// The node's id is missing or is no Ed25519 peer id.
    #[error("no valid node id after /p2p/ (it looks like 12D3KooW…): {0}")]
    Id(String),
}

impl FromStr for Bootstrap {
    type Err = BadBootstrap;

    fn from_str(text: &str) -> Result<Bootstrap, BadBootstrap> {
        let form = || BadBootstrap::Form(text.to_owned());
        let (place, id) = text.split_once("/p2p/").ok_or_else(|| BadBootstrap::Id(text.to_owned()))?;
        let tid = ids::tid_from_text(id).ok_or_else(|| BadBootstrap::Id(text.to_owned()))?;
        let parts: Vec<&str> = place.strip_prefix('/').ok_or_else(form)?.split('/').collect();
        let (host, rest) = match parts.as_slice() {
            [kind, host, rest @ ..] => (host_of(kind, host).ok_or_else(form)?, rest),
            [] | [_] => return Err(form()),
        };
        let (port, transport) = match rest {
            ["udp", port, "quic-v1"] => (port, Transport::Quic),
            ["tcp", port] => (port, Transport::Tcp),
            _ => return Err(form()),
        };
        match port.parse() {
            Ok(port) if port != 0 => Ok(Bootstrap { host, port, transport, tid }),
            Ok(_) | Err(_) => Err(form()),
        }
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "/ip4/{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "/ip6/{ip}")?,
            Host::Name { name, family } => match family {
                Family::Any => write!(f, "/dns/{name}")?,
                Family::V4 => write!(f, "/dns4/{name}")?,
                Family::V6 => write!(f, "/dns6/{name}")?,
            },
        }
        match self.transport {
            Transport::Quic => write!(f, "/udp/{}/quic-v1", self.port)?,
            Transport::Tcp => write!(f, "/tcp/{}", self.port)?,
        }
        write!(f, "/p2p/{}", ids::tid_to_text(&self.tid))
    }
}

fn host_of(kind: &str, host: &str) -> Option<Host> {
    let name = |family| is_name(host).then(|| Host::Name { name: host.to_owned(), family });
    match kind {
        "ip4" => Some(Host::Ip(IpAddr::V4(host.parse().ok()?))),
        "ip6" => Some(Host::Ip(IpAddr::V6(host.parse().ok()?))),
        "dns" => name(Family::Any),
        "dns4" => name(Family::V4),
        "dns6" => name(Family::V6),
        _ => None,
    }
}

/// RFC 1123: at most 253 characters, which also bounds what is handed to the resolver.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn every_form_survives_and_nothing_else_is_taken() {
        for place in [
            "/ip4/5.1.7.2/udp/4001/quic-v1",
            "/ip6/2a0a::7/tcp/1",
            "/dns/node.example/udp/4001/quic-v1",
            "/dns4/node.example/tcp/4001",
            "/dns6/a-b_c.example/tcp/65535",
        ] {
            let text = format!("{place}/p2p/{ID}");
            let node: Bootstrap = text.parse().expect("a bootstrap node");
            assert_eq!(node.to_string(), text);
        }
        let long = "a".repeat(254);
        for place in [
            "",
            "/ip4/5.1.7.2",
            "/ip4/5.1.7.2/udp/4001",
            "/ip4/5.1.7.2/tcp/0",
            "/ip4/5.1.7.2/tcp/65536",
            "/ip4/::1/tcp/1",
            "/dns/a b/tcp/1",
            "/dns//tcp/1",
            "/onion/x/tcp/1",
            &format!("/dns/{long}/tcp/1"),
        ] {
            let text = format!("{place}/p2p/{ID}");
            assert_eq!(text.parse::<Bootstrap>(), Err(BadBootstrap::Form(text.clone())), "{text}");
        }
        for text in [
            "/ip4/5.1.7.2/tcp/1".to_owned(),
            "/ip4/5.1.7.2/tcp/1/p2p/".to_owned(),
            format!("/ip4/5.1.7.2/tcp/1/p2p/{}", &ID[1..]),
            format!("/ip4/5.1.7.2/tcp/1/p2p/{ID}/p2p/{ID}"),
            "/ip4/5.1.7.2/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".to_owned(),
        ] {
            assert_eq!(text.parse::<Bootstrap>(), Err(BadBootstrap::Id(text.clone())), "{text}");
        }
    }
}
