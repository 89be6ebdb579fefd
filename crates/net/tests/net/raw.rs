//! Bare libp2p swarms: the network stack as it is, to show that a trap is still there, and nodes that lie.

use std::time::Duration;

use futures::StreamExt as _;
use handfast_net::{Bootstrap, Host};
use handfast_proto::addr::Transport;
use handfast_proto::id::Tid;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, RecordStore as _};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, kad, multiaddr};
use tokio::time::timeout;

use crate::support::{STEP, pick};

pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/handfast/kad/1");

#[derive(NetworkBehaviour)]
pub(crate) struct Plain {
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) identify: identify::Behaviour,
}

/// Default behaviours on one QUIC address of loopback; waits until it listens.
pub(crate) async fn swarm(seed: u8) -> (Swarm<Plain>, Multiaddr) {
    let mut bytes = [seed; 32];
    let key = Keypair::ed25519_from_bytes(&mut bytes).expect("a seed");
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            Plain {
                kad: kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(KAD)),
                identify: identify::Behaviour::new(identify::Config::new("/handfast/1".to_owned(), key.public())),
            }
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")).expect("listens");
    let address = until(&mut swarm, pick!(SwarmEvent::NewListenAddr { address, .. } => address.clone())).await;
    (swarm, address)
}

/// Drives a swarm until an event is picked.
pub(crate) async fn until<B: NetworkBehaviour, T>(
    swarm: &mut Swarm<B>,
    pick: impl Fn(&SwarmEvent<B::ToSwarm>) -> Option<T>,
) -> T {
    timeout(STEP, async {
        loop {
            if let Some(found) = pick(&swarm.select_next_some().await) {
                return found;
            }
        }
    })
    .await
    .expect("it happens in time")
}

/// A node that serves `value` under `key`, whatever it is, in a task of its own.
pub(crate) async fn liar(seed: u8, key: &[u8], value: Vec<u8>) -> Bootstrap {
    let (mut swarm, address) = swarm(seed).await;
    let kad = &mut swarm.behaviour_mut().kad;
    kad.set_mode(Some(kad::Mode::Server));
    kad.store_mut().put(kad::Record::new(kad::RecordKey::new(&key), value)).expect("room");
    let node = bootstrap(swarm.local_peer_id(), &address);
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    node
}

pub(crate) fn bootstrap(peer: &PeerId, address: &Multiaddr) -> Bootstrap {
    let mut ip = None;
    let mut port = None;
    for part in address.iter() {
        if let multiaddr::Protocol::Ip4(found) = part {
            ip = Some(found.into());
        } else if let multiaddr::Protocol::Udp(found) = part {
            port = Some(found);
        }
    }
    let key = peer.to_bytes();
    Bootstrap {
        host: Host::Ip(ip.expect("an IPv4 address")),
        port: port.expect("a port"),
        transport: Transport::Quic,
        tid: Tid(key[6..].try_into().expect("an Ed25519 peer id")),
    }
}

pub(crate) fn peer_id(node: &Bootstrap) -> PeerId {
    let text = node.to_string();
    let (_, id) = text.split_once("/p2p/").expect("an id");
    id.parse().expect("a peer id")
}
