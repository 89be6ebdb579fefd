//! Translation between our identifiers and addresses and those of the network stack.

use std::net::IpAddr;

use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::Tid;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// A peer id of an Ed25519 key is the identity multihash of its protobuf form: these bytes, then the key.
const PEER_ID_HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The peer id of a transport identity.
pub(crate) fn peer_of(tid: &Tid) -> PeerId {
    let mut bytes = PEER_ID_HEAD.to_vec();
    bytes.extend_from_slice(&tid.0);
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
}

/// The transport identity behind a peer id; `None` unless it is an Ed25519 key.
pub(crate) fn tid_of(peer: &PeerId) -> Option<Tid> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PEER_ID_HEAD)?;
    Some(Tid(key.try_into().ok()?))
}

/// Reads the text form of a peer id, such as `12D3KooW…`.
pub(crate) fn tid_from_text(text: &str) -> Option<Tid> {
    tid_of(&text.parse().ok()?)
}

/// The text form of a transport identity.
pub(crate) fn tid_to_text(tid: &Tid) -> String {
    peer_of(tid).to_base58()
}

/// The multiaddr of an address.
pub(crate) fn multiaddr_of(address: &Address) -> Multiaddr {
    let out = match address.ip {
        IpAddr::V4(ip) => Multiaddr::empty().with(Protocol::Ip4(ip)),
        IpAddr::V6(ip) => Multiaddr::empty().with(Protocol::Ip6(ip)),
    };
    match address.transport {
        Transport::Quic => out.with(Protocol::Udp(address.port)).with(Protocol::QuicV1),
        Transport::Tcp => out.with(Protocol::Tcp(address.port)),
    }
}

/// The address in a multiaddr of exactly the two forms we speak, a trailing `/p2p/…` aside. Port 0 passes: whoever
/// dials checks it.
pub(crate) fn address_of(multiaddr: &Multiaddr) -> Option<Address> {
    let mut parts = multiaddr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (port, transport) = match parts.next()? {
        Protocol::Tcp(port) => (port, Transport::Tcp),
        Protocol::Udp(port) => match parts.next()? {
            Protocol::QuicV1 => (port, Transport::Quic),
            _ => return None,
        },
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None, None) | (Some(Protocol::P2p(_)), None) => Some(Address { ip, port, transport }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_identities_survive_the_translation() {
        let tid = tid_from_text("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN").expect("an Ed25519 peer id");
        assert_eq!(tid_of(&peer_of(&tid)), Some(tid));
        for text in ["/ip4/5.1.7.2/udp/4001/quic-v1", "/ip6/2a0a::7/tcp/1"] {
            let address: Address = text.parse().expect("an address");
            let multiaddr = multiaddr_of(&address);
            assert_eq!(multiaddr.to_string(), text);
            assert_eq!(address_of(&multiaddr), Some(address));
            let named = multiaddr.with(Protocol::P2p(peer_of(&tid)));
            assert_eq!(address_of(&named), Some(address));
        }
        for text in [
            "/dns4/a.example/tcp/1",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/1.2.3.4/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        ] {
            let multiaddr: Multiaddr = text.parse().expect("a multiaddr");
            assert_eq!(address_of(&multiaddr), None, "{text}");
        }
    }
}
