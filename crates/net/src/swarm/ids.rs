//! Translation between our identifiers and addresses and those of the network stack.

use handfast_proto::addr::{Address, RelayAddress};
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
    Multiaddr::try_from(address.to_bytes()).expect("both forms of an address are multiaddrs")
}

/// The address in a multiaddr of exactly the two forms we speak, a trailing `/p2p/…` aside. Port 0 is none.
pub(crate) fn address_of(multiaddr: &Multiaddr) -> Option<Address> {
    let mut multiaddr = multiaddr.clone();
    if let Some(Protocol::P2p(_)) = multiaddr.iter().last() {
        multiaddr.pop();
    }
    Address::from_bytes(multiaddr.as_ref()).ok()
}

/// The multiaddr of a way through a relay: to `peer`, or to ourselves, which is where one listens.
pub(crate) fn circuit_of(relay: &RelayAddress, peer: Option<&PeerId>) -> Multiaddr {
    let mut circuit = multiaddr_of(&relay.relay);
    circuit.push(Protocol::P2p(peer_of(&relay.relay_tid)));
    circuit.push(Protocol::P2pCircuit);
    match peer {
        Some(peer) => circuit.with(Protocol::P2p(*peer)),
        None => circuit,
    }
}

/// Whether it leads through a relay, in whatever form.
pub(crate) fn is_circuit(multiaddr: &Multiaddr) -> bool {
    multiaddr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Where the relay of a circuit is: `<address>[/p2p/…]/p2p-circuit[/p2p/…]`. `None` for any other multiaddr.
pub(crate) fn relay_of(multiaddr: &Multiaddr) -> Option<Address> {
    let mut parts = multiaddr.iter();
    let relay: Multiaddr = parts.by_ref().take_while(|part| *part != Protocol::P2pCircuit).collect();
    let has_end = parts.next().is_none_or(|part| matches!(part, Protocol::P2p(_))) && parts.next().is_none();
    address_of(&relay).filter(|_| is_circuit(multiaddr) && has_end)
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
        let relay =
            RelayAddress { relay: "/ip4/5.1.7.2/udp/4001/quic-v1".parse().expect("an address"), relay_tid: tid };
        for peer in [None, Some(peer_of(&Tid([7; 32])))] {
            assert_eq!(relay_of(&circuit_of(&relay, peer.as_ref())), Some(relay.relay));
        }
        assert_eq!(relay_of(&multiaddr_of(&relay.relay)), None);
        for text in [
            "/dns4/a.example/tcp/1",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/1.2.3.4/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        ] {
            let multiaddr: Multiaddr = text.parse().expect("a multiaddr");
            assert_eq!(address_of(&multiaddr), None, "{text}");
            let twice = multiaddr.with(Protocol::P2pCircuit);
            assert_eq!(relay_of(&twice.clone().with(Protocol::P2pCircuit)), None, "{twice}");
        }
    }
}
