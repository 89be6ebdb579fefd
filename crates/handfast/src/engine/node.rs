//! An infrastructure node: the network in server mode, with a transport identity of its own that it keeps.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use handfast_net::stun::{StunError, StunService};
use handfast_net::{Bootstrap, Clock, Command, NetStatus, Role, Transport as _};
use handfast_proto::addr::{Address, Class, classify};
use handfast_proto::cause::Cause;
use handfast_proto::id::Tid;
use handfast_proto::records::RecordLimits;
use handfast_proto::secret::Secret;
use handfast_proto::wire::record::RECORD_LEN;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::engine::failures::not_started;
use crate::store::files::{self, FilesError};

/// How to run a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Folder with the node's identity; made with mode 0700.
    pub data: PathBuf,
    /// Where to listen.
    pub listen: Vec<Address>,
    /// Addresses to announce besides the public ones it listens on.
    pub external: Vec<Address>,
    /// Other nodes of the same DHT.
    pub bootstrap: Vec<Bootstrap>,
    /// Where to answer STUN.
    pub stun: Stun,
}

/// Where a node answers STUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stun {
    /// Nowhere.
    Off,
    /// At STUN's own port, 3478, of the addresses it listens on; where another program has it, nowhere.
    #[default]
    Beside,
    /// There. Two addresses of one family let whoever asks find out what its NAT does (RFC 5780).
    At(Vec<SocketAddr>),
}

/// A running node.
pub struct Node {
    asks: mpsc::Sender<oneshot::Sender<NetStatus>>,
    done: tokio::task::JoinHandle<()>,
    tid: Tid,
    addresses: Vec<Address>,
    stun: Option<StunService>,
    _lock: files::Lock,
}

/// The numbers of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Connections that stand.
    pub connections: usize,
    /// Those that others opened.
    pub inbound: usize,
    /// Nodes of the DHT it is connected to.
    pub dht_peers: usize,
    /// Nodes in its routing table.
    pub known_nodes: usize,
    /// Records it holds.
    pub records: usize,
    /// Bytes of these records.
    pub record_bytes: usize,
    /// Records stored since the start.
    pub stored: u64,
    /// Identical records that were put again, which changes nothing.
    pub repeated: u64,
    /// Records refused since the start, for whatever reason.
    pub refused: u64,
    /// Those that were no valid record of their key.
    pub refused_invalid: u64,
    /// Those that were older than what is stored.
    pub refused_old: u64,
    /// Those of a number under which other bytes are stored.
    pub refused_conflict: u64,
    /// Those of a source that had stored all it may.
    pub refused_source_full: u64,
    /// Records evicted for others since the start.
    pub evicted: u64,
    /// Records that expired since the start.
    pub expired: u64,
    /// Requests for records since the start.
    pub lookups_served: u64,
    /// Those that found one.
    pub lookups_hit: u64,
    /// Bytes of records and frames received.
    pub bytes_in: u64,
    /// Bytes of records and frames sent.
    pub bytes_out: u64,
    /// Connections refused by a limit.
    pub refused_connections: u64,
    /// Peers that can be reached through it as a relay.
    pub relay_reservations: usize,
    /// Connections between others that run through it.
    pub relay_circuits: usize,
    /// Those since the start.
    pub relay_circuits_total: u64,
    /// Reservations and circuits that it has refused.
    pub relay_denied: u64,
    /// Calls made to others to find out whether they can be reached.
    pub checks_called: u64,
    /// Requests for such calls that it has refused.
    pub checks_denied: u64,
    /// STUN requests that were answered.
    pub stun_answered: u64,
    /// Datagrams at the STUN sockets that were not: no requests, or too many of one source.
    pub stun_dropped: u64,
}

impl Node {
    /// Starts a node on the current tokio runtime and waits, at most a few seconds, until it listens.
    ///
    /// # Errors
    /// `already_running` if another process uses the folder, `storage` if it is not safe to use, `no_network` if an address
    /// cannot be listened on.
    pub async fn start(config: NodeConfig) -> Result<Node, Error> {
        let (seed, lock) = identity(&config.data)?;
        let stun = stun(&config)?;
        let wanted = config.listen.len();
        let external = config.external.clone();
        let network = handfast_net::Config {
            listen: config.listen,
            fallback_to_any_port: false,
            bootstrap: config.bootstrap,
            role: Role::Node { external: config.external },
            transport_seed: seed,
            limits: RecordLimits::NODE,
            timing: handfast_net::Timing::default(),
        };
        let mut net = handfast_net::start(network, Clock::start()).map_err(|e| not_started(&e, "--listen"))?;
        let tid = net.tid();
        let mut addresses = external;
        addresses.extend(listening(&mut net, wanted).await);
        addresses.retain(|a| classify(a.ip) != Class::Unusable);
        let (asks, questions) = mpsc::channel(16);
        let done = tokio::spawn(serve(net, questions));
        Ok(Node { asks, done, tid, addresses, stun, _lock: lock })
    }

    /// The multiaddresses others can name as `--bootstrap`, best first: announced ones, public ones, then private ones;
    /// loopback ones only if there is nothing else.
    pub fn addresses(&self) -> Vec<String> {
        let multiaddr = |a: Address| {
            let host = handfast_net::Host::Ip(a.ip);
            Bootstrap { host, port: a.port, transport: a.transport, tid: self.tid }.to_string()
        };
        self.reached().into_iter().map(multiaddr).collect()
    }

    fn reached(&self) -> Vec<Address> {
        let mut list = self.addresses.clone();
        list.sort_by_key(|a| classify(a.ip) != Class::Public);
        list.dedup();
        let off_machine = list.iter().any(|a| !is_local(a));
        list.retain(|a| !off_machine || !is_local(a));
        list
    }

    /// Where it answers STUN: instead of a wildcard, the addresses at which devices reach it.
    pub fn stun(&self) -> Vec<SocketAddr> {
        let bound = self.stun.as_ref().map_or(&[][..], StunService::addresses);
        let mut own: Vec<IpAddr> = self.reached().into_iter().map(|address| address.ip).collect();
        own.dedup();
        let at = |bound: &SocketAddr| -> Vec<SocketAddr> {
            if !bound.ip().is_unspecified() {
                return vec![*bound];
            }
            let of_family = own.iter().filter(|ip| ip.is_ipv4() == bound.is_ipv4());
            of_family.map(|ip| SocketAddr::new(*ip, bound.port())).collect()
        };
        let mut all: Vec<SocketAddr> = bound.iter().flat_map(at).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The numbers of this moment.
    ///
    /// # Errors
    /// `not_running` after the node has ended.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        let (ask, answer) = oneshot::channel();
        let gone = || Error::of(Cause::NotRunning);
        self.asks.send(ask).await.map_err(|_| gone())?;
        let mut status = answer.await.map(NodeStatus::from).map_err(|_| gone())?;
        if let Some(stun) = &self.stun {
            (status.stun_answered, status.stun_dropped) = (stun.answered(), stun.dropped());
        }
        Ok(status)
    }

    /// Stops the node: connections are closed properly, so that others notice at once.
    pub async fn stop(self) {
        drop(self.asks);
        // A node that has crashed has stopped as well.
        let _ = self.done.await;
    }
}

impl From<NetStatus> for NodeStatus {
    fn from(net: NetStatus) -> NodeStatus {
        let records = &net.record_counters;
        NodeStatus {
            connections: net.connections,
            inbound: net.inbound,
            dht_peers: net.dht_peers,
            known_nodes: net.known_nodes,
            records: net.records,
            record_bytes: net.records.saturating_mul(RECORD_LEN),
            stored: records.stored,
            repeated: records.repeated,
            refused: records.refused(),
            refused_invalid: records.refused_invalid,
            refused_old: records.refused_old,
            refused_conflict: records.refused_conflict,
            refused_source_full: records.refused_source_full,
            evicted: records.evicted,
            expired: records.expired,
            lookups_served: net.lookups_served,
            lookups_hit: net.lookups_hit,
            bytes_in: net.bytes_in,
            bytes_out: net.bytes_out,
            refused_connections: net.refused_connections,
            relay_reservations: net.relay_reservations,
            relay_circuits: net.relay_circuits,
            relay_circuits_total: net.relay_circuits_total,
            relay_denied: net.relay_denied,
            checks_called: net.checks_called,
            checks_denied: net.checks_denied,
            stun_answered: 0,
            stun_dropped: 0,
        }
    }
}

/// The STUN service. One that was not asked for by name is comfort: a node without it is a node.
fn stun(config: &NodeConfig) -> Result<Option<StunService>, Error> {
    match &config.stun {
        Stun::Off => Ok(None),
        Stun::At(listen) => StunService::start(listen).map(Some).map_err(|error| match error {
            StunError::Listen { .. } => not_started(&error, "--stun-listen"),
            StunError::TooMany => Error::because(Cause::Usage, error).with_hint("name fewer with --stun-listen"),
        }),
        Stun::Beside => Ok(StunService::beside(&config.listen)),
    }
}

/// The node's transport key, made at the first start. It identifies the node to those who use it and opens nothing.
fn identity(data: &std::path::Path) -> Result<(Secret<32>, files::Lock), Error> {
    let failed = |e: FilesError| match e {
        FilesError::Locked(_) => Error::of(Cause::AlreadyRunning),
        FilesError::Unsafe { .. } | FilesError::Io { .. } => Error::because(Cause::Storage, e),
    };
    files::open_folder(data).map_err(failed)?;
    let lock = files::lock(&data.join("lock")).map_err(failed)?;
    let path = data.join("node.key");
    if let Some(bytes) = files::read_secret::<32>(&path).map_err(failed)? {
        return Ok((Secret::new(*bytes), lock));
    }
    let seed = handfast_net::entropy::secret().map_err(|e| Error::because(Cause::Internal, e))?;
    files::write_secret(&path, seed.expose()).map_err(failed)?;
    Ok((seed, lock))
}

/// Collects the addresses that the listeners report first: a wildcard becomes one address an interface.
async fn listening(net: &mut handfast_net::Network, wanted: usize) -> Vec<Address> {
    /// Interfaces report within milliseconds of each other.
    const QUIET: std::time::Duration = std::time::Duration::from_millis(150);
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(3);
    let mut addresses = Vec::new();
    let collect = async {
        loop {
            let pause = if addresses.len() < wanted { LIMIT } else { QUIET };
            match tokio::time::timeout(pause, net.next()).await {
                Ok(Some(handfast_net::NetEvent::Listening { address })) => addresses.push(address),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    };
    // Whatever has been reported by then is what there is.
    let _ = tokio::time::timeout(LIMIT, collect).await;
    addresses
}

async fn serve(mut net: handfast_net::Network, mut questions: mpsc::Receiver<oneshot::Sender<NetStatus>>) {
    loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(answer) => {
                    if net.send(Command::Status(answer)).await.is_err() {
                        return;
                    }
                }
                None => break,
            },
            event = net.next() => match event {
                Some(event) => tracing::trace!(?event, "node"),
                None => return,
            },
        }
    }
    net.end().await;
}

fn is_local(address: &Address) -> bool {
    matches!(classify(address.ip), Class::Loopback | Class::LinkLocal)
}
