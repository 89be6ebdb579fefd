//! STUN servers as somebody configured them, and where they are.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use handfast_proto::stun::PORT;
use handfast_proto::stun::behaviour::MAX_SERVERS;
use tokio::time::timeout;

use crate::bootstrap::{self, Bootstrap, Family, Host};

/// Time for one name. A server whose name is not found is not asked.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Configured servers that are looked at; more are left out.
const MAX_CONFIGURED: usize = 16;

/// A STUN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StunServer {
    /// Where it is.
    pub host: Host,
    /// Its UDP port, not 0.
    pub port: u16,
}

/// Why a text names no STUN server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form HOST:PORT, with a name or an IP address ([IPv6]:PORT): {0}")]
pub struct BadStunServer(String);

impl FromStr for StunServer {
    type Err = BadStunServer;

    /// `HOST:PORT`.
    fn from_str(text: &str) -> Result<StunServer, BadStunServer> {
        let bad = || BadStunServer(text.to_owned());
        if let Ok(address) = text.parse::<SocketAddr>() {
            let port = Some(address.port()).filter(|port| *port != 0).ok_or_else(bad)?;
            return Ok(StunServer { host: Host::Ip(address.ip()), port });
        }
        let (name, port) = text.split_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        if !bootstrap::is_name(name) {
            return Err(bad());
        }
        Ok(StunServer { host: Host::Name { name: name.to_owned(), family: Family::Any }, port })
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name { name, .. } => write!(f, "{name}:{}", self.port),
        }
    }
}

impl StunServer {
    /// Those that nodes offer: STUN's own port, once for each host.
    pub fn of_nodes(nodes: &[Bootstrap]) -> Vec<StunServer> {
        let mut servers: Vec<StunServer> = Vec::new();
        for node in nodes {
            let server = StunServer { host: node.host.clone(), port: PORT };
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers
    }
}

/// One address of each server in this family, for the first few that have one. The names are looked up at the same time;
/// one that is not found within seconds is left out.
pub(super) async fn resolve(servers: &[StunServer], ipv4: bool) -> Vec<SocketAddr> {
    let looked_up = join_all(servers.iter().take(MAX_CONFIGURED).map(|server| one_of(server, ipv4))).await;
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in looked_up.into_iter().flatten() {
        if found.len() < MAX_SERVERS && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

async fn one_of(server: &StunServer, ipv4: bool) -> Option<SocketAddr> {
    match &server.host {
        Host::Ip(ip) => Some(SocketAddr::new(*ip, server.port)).filter(|_| ip.is_ipv4() == ipv4),
        Host::Name { name, family } => {
            let lookup = tokio::net::lookup_host((name.as_str(), server.port));
            let of_family = |address: &SocketAddr| address.is_ipv4() == ipv4 && family.admits(address.ip());
            timeout(LOOKUP_TIMEOUT, lookup).await.ok()?.ok()?.find(of_family)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for text in ["stun.example:3479", "5.1.2.3:9", "[2a0a:4840:1::2]:9"] {
            let server: StunServer = text.parse().expect(text);
            assert_eq!(server.to_string(), text);
        }
        for text in [
            "",
            ":9",
            "stun.example",
            "5.1.2.3",
            "2a0a:4840:1::2",
            "a b:9",
            "stun.example:0",
            "5.1.2.3:0",
            "stun.example:70000",
            "stun:stun.example:9",
            "[::1",
        ] {
            let error = text.parse::<StunServer>().expect_err(text);
            assert!(error.to_string().ends_with(&format!(": {text}")), "{error}");
        }
    }

    #[test]
    fn each_host_of_the_nodes_is_one_server() {
        let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let node = |place: &str| format!("{place}/p2p/{id}").parse::<Bootstrap>().expect("a node");
        let nodes = ["/ip4/5.1.2.3/udp/4001/quic-v1", "/ip4/5.1.2.3/tcp/4001", "/dns/node.example/tcp/4001"].map(node);
        let servers: Vec<String> = StunServer::of_nodes(&nodes).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["5.1.2.3:3478", "node.example:3478"]);
    }

    #[tokio::test]
    async fn of_each_server_one_address_of_the_family_is_asked_and_never_more_than_a_few() {
        let servers: Vec<StunServer> = (1..9).map(|n| format!("5.1.2.{n}:3478").parse().expect("one")).collect();
        assert_eq!(resolve(&servers, true).await.len(), MAX_SERVERS);
        assert!(resolve(&servers, false).await.is_empty());
        let twice = [servers[0].clone(), servers[0].clone()];
        assert_eq!(resolve(&twice, true).await.len(), 1);
    }
}
