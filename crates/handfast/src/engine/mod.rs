//! The engine: joins the machines of `proto` with the drivers of `net` and the store, in one task.

mod actor;
pub(crate) mod command;
mod comparisons;
mod failures;
mod lan;
mod moving;
mod nat;
mod nearby;
pub(crate) mod node;
mod outputs;
pub(crate) mod peers;
mod portmap;
mod reach;
mod relays;
mod shown;
mod wires;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use handfast_net::stun::StunServer;
use handfast_net::{Clock, Role};
use handfast_proto::addr::{Address, Class, LoopbackPolicy, Transport, classify};
use handfast_proto::addresses::OwnAddresses;
use handfast_proto::cause::Cause;
use handfast_proto::lan::Lan;
use handfast_proto::link::{self, Links};
use handfast_proto::reach::Checker;
use handfast_proto::records::RecordLimits;
use handfast_proto::session::{self, Table};
use handfast_proto::stun::behaviour::Behaviour;
use handfast_proto::time::Now;
use handfast_proto::wire::info::DeviceName;
use tokio::sync::{mpsc, watch};

use crate::event::Hub;
use crate::handle::INBOX;
use crate::status::{NatStatus, Status};
use crate::store::worker::Worker;
use crate::store::{Ports, Store};
use crate::{Builder, Error, Handle};
use actor::Actor;
use comparisons::Comparisons;
use failures::not_started;
use nat::Nat;
use peers::{Peers, Pings};
use portmap::Portmap;
use relays::Relays;
use shown::{Place, Shown};
use wires::Wires;

/// Starts a device.
pub(crate) async fn start(builder: Builder) -> Result<Handle, Error> {
    handfast_net::entropy::warm_up();
    let Builder { home, instance, name, kind, network } = builder;
    let clock = Clock::start();
    let entropy = |e: handfast_net::entropy::EntropyError| Error::because(Cause::Internal, e);
    let store_rng = handfast_net::entropy::rng().map_err(entropy)?;
    let opened = tokio::task::spawn_blocking(move || Store::open(&home, store_rng)).await;
    let (store, loaded) = opened.map_err(|e| Error::because(Cause::Internal, e))?.map_err(|e| Error::from(&e))?;
    let worker = Worker::start(store).map_err(|e| Error::because(Cause::Internal, e))?;

    let loopback = loopback_policy(&network.listen);
    let dht = !network.no_dht && !network.bootstrap.is_empty();
    let stun = match network.stun {
        named if named.is_empty() && dht => StunServer::of_nodes(&network.bootstrap),
        named => named,
    };
    // A device that listens on loopback alone has nothing to say to a network.
    let is_near = |a: &Address| classify(a.ip) != Class::Loopback;
    let uses_lan = !network.no_lan && (network.listen.is_empty() || network.listen.iter().any(is_near));
    let (no_dht, no_relay, no_port_mapping) = (network.no_dht, network.no_relay, network.no_port_mapping);
    let alone = if no_dht { Cause::NotFound } else { Cause::NoBootstrap };
    let lan_driver = if uses_lan {
        // Without it a device still has the DHT and whatever a QR names.
        handfast_net::lan::Lan::start().inspect_err(|error| tracing::error!(%error, "no local network")).ok()
    } else {
        None
    };
    let uses_lan = lan_driver.is_some();
    let listen = if network.listen.is_empty() { wildcards(loaded.ports) } else { network.listen };
    let config = handfast_net::Config {
        listen,
        fallback_to_any_port: true,
        bootstrap: if dht { network.bootstrap } else { Vec::new() },
        role: Role::Device,
        transport_seed: handfast_net::entropy::secret().map_err(entropy)?,
        limits: RecordLimits::DEVICE,
        timing: handfast_net::Timing::default(),
    };
    let net = handfast_net::start(config, clock).map_err(|e| not_started(&e, "--listen"))?;
    let tid = net.tid();

    let now = Now { time: clock.now(), unix: clock.unix() };
    let name = DeviceName::clean(&name);
    let own_key = loaded.identity.public();
    let table_config = session::Config {
        tid,
        identity: loaded.identity.clone(),
        name: name.clone(),
        kind,
        dht,
        loopback,
        lan: uses_lan,
        alone,
        vicinity: session::Vicinity::default(),
    };
    let links_config = link::Config { tid, identity: loaded.identity, dht, loopback, start: loaded.start };
    let known = loaded.peers.iter().map(crate::store::PeerRow::to_peer).collect();
    let hub = Hub::new();
    let feed = hub.feed();
    let (status, status_reader) = watch::channel(Status {
        instance,
        name: name.to_string(),
        id: own_key.id().0,
        fingerprint: own_key.fingerprint().0,
        running: true,
        listen: Vec::new(),
        addresses: Vec::new(),
        nat: NatStatus::new(&Behaviour::default(), Vec::new()),
        dht_nodes: 0,
        sessions: Vec::new(),
        devices: 0,
        lan: crate::status::LanStatus::default(),
        seq: 0,
    });
    let mut table = Table::new(table_config, handfast_net::entropy::rng().map_err(entropy)?);
    let held = loaded.peers.iter().map(|p| p.pairing_id).chain(loaded.tombstones.iter().map(|t| t.pairing_id));
    held.for_each(|id| table.hold(id));
    let (inbox, commands) = mpsc::channel(INBOX);
    let actor = Actor {
        clock,
        table,
        links: Links::new(links_config, handfast_net::entropy::rng().map_err(entropy)?, known, loaded.tombstones, now),
        own: OwnAddresses::new(loopback),
        wires: Wires::default(),
        worker,
        peers: Peers::new(loaded.peers),
        pings: Pings::default(),
        hub,
        lan: Lan::new(handfast_net::entropy::rng().map_err(entropy)?),
        nat: Nat::new(stun, handfast_net::entropy::rng().map_err(entropy)?),
        relays: Relays::new(!no_relay),
        reach: Checker::new(),
        portmap: Portmap::new(!no_port_mapping, loaded.mappings, handfast_net::entropy::rng().map_err(entropy)?),
        uses_lan,
        knows_nodes: dht,
        keeps_to_itself: no_dht && !uses_lan,
        lan_commands: Vec::new(),
        comparisons: Comparisons::default(),
        shown: Shown::new(Place { tid, in_dht: dht, on_lan: uses_lan, loopback }, now.time),
        early: Vec::new(),
        ports: loaded.ports,
        status,
        net_commands: Vec::new(),
        stopping: None,
    };
    tokio::spawn(actor.run(commands, net, lan::Driver(lan_driver)));
    Ok(Handle::new(inbox, feed, status_reader))
}

/// Every interface, both transports and families, at the ports of the last run.
fn wildcards(ports: Ports) -> Vec<Address> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.into_iter()
        .flat_map(|ip| {
            [
                Address { ip, port: ports.udp, transport: Transport::Quic },
                Address { ip, port: ports.tcp, transport: Transport::Tcp },
            ]
        })
        .collect()
}

/// Loopback is for tests on one machine, and only where the configuration itself names it.
fn loopback_policy(listen: &[Address]) -> LoopbackPolicy {
    if listen.iter().any(|a| classify(a.ip) == Class::Loopback) {
        LoopbackPolicy::Allow
    } else {
        LoopbackPolicy::Refuse
    }
}
