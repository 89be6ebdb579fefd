//! The swarm: how it is built, and the handle its owner holds. Each trap of the network stack is handled in one file
//! here, whose first line names it.

mod anchors;
mod behaviour;
mod candidates;
mod circuits;
mod commands;
mod connections;
mod conns;
mod dht;
mod dials;
mod driver;
mod guard;
mod hop;
pub(crate) mod ids;
mod inputs;
mod kademlia;
mod liveness;
mod open_streams;
mod outbox;
mod probe;
mod punch;
mod reach;
mod records;
mod relays;
mod reservations;
mod resolve;
mod roaming;
mod stream_io;
mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::addr::Address;
use handfast_proto::id::Tid;
use handfast_proto::secret::Secret;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{Swarm, SwarmBuilder, tcp, tls, yamux};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::{Command, Config, DisconnectCause, NetEvent, NetworkGone, Role, StartError, Timing, Transport};
use crate::clock::Clock;
use crate::entropy;
use crate::slumber::Slumber;
use behaviour::Behaviour;
use driver::Driver;

pub use dht::MAX_LOOKUPS;
pub use dials::{DIRECT_FIRST, MAX_DIAL_ADDRESSES, MAX_DIAL_RELAYS};

/// Commands that wait: one batch of a busy moment of the owner.
const COMMAND_QUEUE: usize = 256;

/// Messages of stream tasks that wait: few, since each holds a frame and a full queue is what peers should feel.
const STREAM_QUEUE: usize = 64;

/// Lookups of names that wait.
const RESOLVER_QUEUE: usize = 16;

/// Time for the handshakes of a connection, from either side.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Streams one peer may have open: ours, Kademlia's and the small ones of the stack.
const MAX_STREAMS: usize = 64;

/// Unread bytes of one stream and of one connection that a peer may have under way. The longest message is an answer of
/// Kademlia with twenty nodes, about 8 KiB.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Addresses of one dial that are tried at once where the swarm does not rank them.
const DIAL_CONCURRENCY: std::num::NonZeroU8 = std::num::NonZeroU8::new(8).expect("8 is not 0");

/// The network of one device or node: takes commands, tells events. Dropping it ends the network.
pub struct Network {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<NetEvent>,
    tid: Tid,
}

impl Network {
    /// Our own transport identity.
    pub fn tid(&self) -> Tid {
        self.tid
    }
}

impl Transport for Network {
    async fn send(&self, command: Command) -> Result<(), NetworkGone> {
        self.commands.send(command).await.map_err(|_| NetworkGone)
    }

    async fn next(&mut self) -> Option<NetEvent> {
        self.events.recv().await
    }

    async fn end(self) {
        let Network { commands, mut events, .. } = self;
        drop(commands);
        while events.recv().await.is_some() {}
    }
}

/// The transport identity that a seed stands for.
pub fn tid_of_seed(seed: &Secret<32>) -> Tid {
    let peer = keypair(seed).public().to_peer_id();
    ids::tid_of(&peer).expect("an Ed25519 key is its own peer id")
}

/// Listens and starts the network in a task of its own. Must be called inside a tokio runtime.
///
/// Fails if an address cannot be listened on; with [`Config::fallback_to_any_port`] only if no other port works
/// either. An IPv6 wildcard on a machine without IPv6 is skipped as long as something else works.
pub fn start(config: Config, clock: Clock) -> Result<Network, StartError> {
    let key = keypair(&config.transport_seed);
    let own = ids::tid_of(&key.public().to_peer_id()).expect("an Ed25519 key is its own peer id");
    let records = records::Records::new(config.limits, clock);
    let mut swarm = build(key, &config.role, config.timing, records)?;
    listen(&mut swarm, &config)?;

    let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
    let (event_sender, events) = mpsc::channel(outbox::EVENT_QUEUE);
    let (stream_sender, from_streams) = mpsc::channel(STREAM_QUEUE);
    let (resolver, resolved) = mpsc::channel(RESOLVER_QUEUE);
    let now = Instant::now();
    let serves = matches!(config.role, Role::Node { .. });
    let named = config.listen.iter().filter(|address| !address.ip.is_unspecified()).copied().collect();
    let driver = Driver {
        anchors: anchors::Anchors::new(config.bootstrap, &ids::peer_of(&own), serves, now),
        swarm,
        commands,
        out: outbox::Outbox::new(event_sender),
        from_streams,
        resolved,
        resolver,
        conns: conns::Conns::default(),
        streams: open_streams::OpenStreams::new(stream_sender),
        dials: dials::Dials::default(),
        dht: dht::Dht::default(),
        reservations: reservations::Reservations::default(),
        hop: hop::Hop::default(),
        reach: reach::Reach::new(&config.role),
        role: config.role,
        timing: config.timing,
        own,
        rng: entropy::rng()?,
        listening: Vec::new(),
        named,
        announced: Vec::new(),
        departing: BTreeMap::<_, (Tid, DisconnectCause)>::new(),
        told_dht_peers: 0,
        told_interfaces: None,
        next_sweep: serves.then_some(now),
        roaming: roaming::Roaming::start(serves),
        slumber: Slumber::start(!serves),
        counters: driver::Counters::default(),
    };
    tokio::spawn(driver.run());
    Ok(Network { commands: command_sender, events, tid: own })
}

fn keypair(seed: &Secret<32>) -> Keypair {
    // The copy is zeroed by the key type, which takes it by mutable reference for that purpose.
    let mut copy = *seed.expose();
    Keypair::ed25519_from_bytes(&mut copy).expect("32 bytes are an Ed25519 seed")
}

/// How long an end may be silent. A node waits longer than a device: it hears the device's sign of life first, which it
/// answers, so that an idle connection is woken for one of them and not for two that cross.
fn keep_alive(role: &Role, silence: Duration) -> Duration {
    match role {
        Role::Device => silence * 3 / 8,
        Role::Node { .. } => silence / 2,
    }
}

/// Trap 11: smart dialling and the idle timeout are set on purpose, and streams open without a round trip.
fn build(key: Keypair, role: &Role, timing: Timing, records: records::Records) -> Result<Swarm<Behaviour>, StartError> {
    let streams = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let failed = |e: &dyn std::error::Error| StartError::Transport(e.to_string());
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), tls::Config::new, streams)
        .map_err(|e| failed(&e))?
        .with_quic_config(|mut config| {
            config.handshake_timeout = HANDSHAKE;
            config.keep_alive_interval = keep_alive(role, timing.silence);
            config.max_idle_timeout = u32::try_from(timing.silence.as_millis()).unwrap_or(u32::MAX);
            config.max_concurrent_stream_limit = MAX_STREAMS as u32;
            config.max_stream_data = STREAM_WINDOW;
            config.max_connection_data = CONNECTION_WINDOW;
            config
        })
        .with_relay_client(tls::Config::new, streams)
        .map_err(|e| failed(&e))?;
    let result: Result<_, Infallible> =
        builder.with_behaviour(|key, circuits| Behaviour::new(key.public(), role, &timing, records, circuits));
    let Ok(builder) = result;
    Ok(builder
        .with_swarm_config(|config| {
            config
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
                .with_smart_dial()
                .with_dial_concurrency_factor(DIAL_CONCURRENCY)
                .with_idle_connection_timeout(timing.idle)
                .with_max_negotiating_inbound_streams(MAX_STREAMS)
        })
        .with_connection_timeout(HANDSHAKE)
        .build())
}

fn listen(swarm: &mut Swarm<Behaviour>, config: &Config) -> Result<(), StartError> {
    // All of them before the first is used: the IPv6 wildcard would meet our own IPv4 one.
    let free: Vec<std::io::Result<()>> = config.listen.iter().map(free).collect();
    let mut listening = 0;
    let mut skipped = None;
    for (address, free) in config.listen.iter().zip(free) {
        match listen_on(swarm, *address, free, config.fallback_to_any_port) {
            Ok(()) => listening += 1,
            Err(error) if is_v6_wildcard(address) => skipped = Some(error),
            Err(error) => return Err(error),
        }
    }
    match skipped {
        Some(error) if listening == 0 => Err(error),
        Some(_) | None => Ok(()),
    }
}

/// Whether a TCP port is free. libp2p shares ports on purpose (hole punching dials from the port it listens on), so it
/// would listen beside another program of the same user and get half of its connections.
fn free(address: &Address) -> std::io::Result<()> {
    match address.transport {
        handfast_proto::addr::Transport::Tcp => std::net::TcpListener::bind((address.ip, address.port)).map(drop),
        handfast_proto::addr::Transport::Quic => Ok(()),
    }
}

fn is_v6_wildcard(address: &Address) -> bool {
    match address.ip {
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(_) => false,
    }
}

fn listen_on(
    swarm: &mut Swarm<Behaviour>,
    address: Address,
    free: std::io::Result<()>,
    fallback: bool,
) -> Result<(), StartError> {
    let mut try_port = |port| {
        let multiaddr = ids::multiaddr_of(&Address { port, ..address });
        swarm.listen_on(multiaddr).map(drop).map_err(|error| innermost(&error))
    };
    let first = free.map_err(|error| error.to_string()).and_then(|()| try_port(address.port));
    match first {
        Err(_) if fallback && address.port != 0 => try_port(0),
        other => other,
    }
    .map_err(|reason| StartError::Listen { address, reason })
}

/// What the system says: the wrappers around it have no text of their own.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let inner = e.to_string();
        if !inner.is_empty() {
            text = inner;
        }
        cause = e.source();
    }
    text
}
