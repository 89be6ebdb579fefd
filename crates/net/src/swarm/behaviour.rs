//! The behaviours of the swarm and their settings.

use std::time::Duration;

use libp2p::identity::PublicKey;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{dcutr, identify, kad, relay};

use super::records::Records;
use super::{circuits, guard, hop, kademlia, liveness, probe, punch, reach, streams};
use crate::api::{Role, Timing};

/// What is told about us: neutral on purpose, the same for every version and platform.
const AGENT: &str = "handfast";
const IDENTIFY_PROTOCOL: &str = "/handfast/1";

/// All behaviours. The guard is first: what it refuses nobody else prepares for.
#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "Event")]
pub(crate) struct Behaviour {
    pub(crate) guard: guard::Behaviour,
    pub(crate) kademlia: kademlia::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) liveness: liveness::Behaviour,
    pub(crate) probe: probe::Behaviour,
    pub(crate) streams: streams::Behaviour,
    pub(crate) hop: hop::Behaviour,
    pub(crate) circuits: circuits::Behaviour,
    pub(crate) punch: punch::Behaviour,
    pub(crate) reach: reach::Behaviour,
}

/// What the behaviours report.
pub(crate) enum Event {
    Kademlia(Box<kad::Event>),
    Identify(Box<identify::Event>),
    Silent(liveness::Silent),
    Streams(streams::Event),
    Hop(relay::Event),
    Punch(dcutr::Event),
    Reach(reach::Event),
}

impl Behaviour {
    pub(crate) fn new(
        key: PublicKey,
        role: &Role,
        timing: &Timing,
        records: Records,
        circuits: relay::client::Behaviour,
    ) -> Behaviour {
        let own = key.to_peer_id();
        let (limits, is_node) = match role {
            Role::Device => (guard::Limits::DEVICE, false),
            Role::Node { .. } => (guard::Limits::NODE, true),
        };
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.clone())
            .with_agent_version(AGENT.to_owned())
            // Nobody learns our private addresses by connecting; a node's external addresses are still told.
            .with_hide_listen_addrs(true)
            .with_push_listen_addr_updates(false)
            // Once a connection: a device has nothing new to tell, and a node pushes changes.
            .with_interval(Duration::from_secs(3600))
            .with_cache_size(0);
        Behaviour {
            guard: guard::Behaviour::new(limits),
            kademlia: kademlia::Behaviour::new(own, role, records),
            identify: identify::Behaviour::new(identify),
            liveness: liveness::Behaviour::new(timing.silence),
            probe: probe::Behaviour::default(),
            streams: streams::Behaviour::new(is_node),
            hop: hop::behaviour(own, is_node),
            circuits: circuits::Behaviour::new(circuits),
            punch: punch::Behaviour::new(own),
            reach: reach::behaviour(is_node),
        }
    }
}

impl From<std::convert::Infallible> for Event {
    fn from(never: std::convert::Infallible) -> Event {
        match never {}
    }
}

impl From<kad::Event> for Event {
    fn from(event: kad::Event) -> Event {
        Event::Kademlia(Box::new(event))
    }
}

impl From<identify::Event> for Event {
    fn from(event: identify::Event) -> Event {
        Event::Identify(Box::new(event))
    }
}

impl From<liveness::Silent> for Event {
    fn from(event: liveness::Silent) -> Event {
        Event::Silent(event)
    }
}

impl From<streams::Event> for Event {
    fn from(event: streams::Event) -> Event {
        Event::Streams(event)
    }
}

impl From<relay::Event> for Event {
    fn from(event: relay::Event) -> Event {
        Event::Hop(event)
    }
}

impl From<reach::Event> for Event {
    fn from(event: reach::Event) -> Event {
        Event::Reach(event)
    }
}

impl From<dcutr::Event> for Event {
    fn from(event: dcutr::Event) -> Event {
        Event::Punch(event)
    }
}
