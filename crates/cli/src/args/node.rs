//! A node to meet others by, as it is typed or stands in `config.toml`.

use std::net::SocketAddr;

use handfast::Bootstrap;

/// Reads a node.
///
/// # Errors
/// What is wrong with the text. Where it is what other programs take, a host and a port, the right form is made of it.
pub(crate) fn node(text: &str) -> Result<Bootstrap, String> {
    text.parse().map_err(|error| match place(text) {
        Some(place) => format!(
            "{text} lacks the id of the node: write {place}/p2p/ID, which is one of the first lines of \
             `handfast serve` there"
        ),
        None => format!("{error}"),
    })
}

/// The multiaddress of a host and a port, without the id.
fn place(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        return Some(format!("/{family}/{}/udp/{}/quic-v1", address.ip(), address.port()));
    }
    let (host, port) = text.split_once(':')?;
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let port: u16 = port.parse().ok().filter(|_| is_name)?;
    Some(format!("/dns/{host}/udp/{port}/quic-v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn a_host_and_a_port_are_answered_with_the_right_form_of_them() {
        for (typed, place) in [
            ("10.88.0.1:4001", "/ip4/10.88.0.1/udp/4001/quic-v1"),
            ("[fd00::7]:4001", "/ip6/fd00::7/udp/4001/quic-v1"),
            ("node.example:4001", "/dns/node.example/udp/4001/quic-v1"),
        ] {
            let error = node(typed).expect_err(typed);
            assert!(error.contains(typed) && error.contains(&format!("write {place}/p2p/ID, ")), "{error}");
            let right = format!("{place}/p2p/{ID}");
            assert_eq!(node(&right).expect("the form is right").to_string(), right);
        }
        for other in ["/ip4/5.1.2.3/tcp/1", "node.example", "a b:1", ":4001", "node.example:x", "node.example:70000"] {
            let error = node(other).expect_err(other);
            assert!(error.contains(other) && !error.contains("write /"), "{error}");
        }
    }
}
