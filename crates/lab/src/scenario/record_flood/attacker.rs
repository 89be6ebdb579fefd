//! Whoever puts records by the ten thousand, of every kind that a node may see, from as many networks as it likes.

use std::io::{self, Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::AsyncWriteExt as _;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _};
use handfast_net::{Bootstrap, Host};
use handfast_proto::addr::Transport;
use handfast_proto::secret::{Rng as Draw, Secret};
use handfast_proto::wire::record::{MAX_TTL, RECORD_LEN, Record, RecordKeys};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::raw::kad::{self, KAD, MESSAGE_MAX, Put};
use crate::raw::{Connection, read_frame};
use crate::rng::Rng;
use crate::topology::{AccessHost, Lab};

/// Records of one source that a node keeps (protocol section 12).
pub(super) const PER_SOURCE: usize = 256;

/// How long a connection with all it carries may take, on a busy machine too.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// Connections at the same time: what one host may begin at once.
const CONNECTIONS: usize = 8;

/// Records that are put on one stream before an answer is read.
const AT_ONCE: usize = 32;

/// Refused puts on one connection. A node says nothing to them, and its streams are used up by them.
const REFUSED_AT_ONCE: usize = 16;

/// Records of the attacker's own that it repeats, contradicts and takes back.
const OWN: u64 = 32;
const OWN_SEQ: u64 = 10;

/// Its networks: 23.0.0.0/8, of which each /24 counts as one source.
const NETWORKS: &str = "23.0.0.0/8";

/// The network of its own records, that of which a node has heard enough, and those of all that takes no room.
const OWN_NETWORK: u16 = 50_000;
const FULL_NETWORK: u16 = 50_001;
const REST_NETWORKS: u16 = 60_000;
const REST_NETWORKS_LEN: u16 = 64;

/// Records that live so short that they are over before the flood is.
const SHORT_NETWORK: u16 = 50_002;
const SHORT: usize = 64;
const SHORT_TTL: u16 = 1;

/// A frame that no node reads to its end.
const GIANT: usize = 64 * 1024;

/// What a put is, and what must come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Valid, under a topic of its own, from a network that has put few.
    Valid,
    /// The same from the network that has put all it may.
    SourceFull,
    /// Bytes that are stored.
    Replayed,
    /// The same, said to be somebody else's.
    Published,
    /// Valid, and said to be the node's own.
    OwnedByNode,
    /// A lower number than is stored.
    Older,
    /// The number that is stored, other bytes.
    Conflict,
    /// One byte too many.
    TooLong,
    /// Bytes that mean nothing.
    Garbage,
    /// A number of an honest record raised, its signature kept.
    Forged,
    /// A record under the key of another one.
    WrongKey,
    /// A life of nothing, or of more than there is.
    WrongTtl,
    /// A frame that is too long for any record.
    Giant,
}

impl Kind {
    /// Those that are put equally often.
    const REST: [Kind; 11] = [
        Kind::SourceFull,
        Kind::Replayed,
        Kind::Published,
        Kind::OwnedByNode,
        Kind::Older,
        Kind::Conflict,
        Kind::TooLong,
        Kind::Garbage,
        Kind::Forged,
        Kind::WrongKey,
        Kind::WrongTtl,
    ];

    /// Is it answered?
    fn is_answered(self) -> bool {
        matches!(self, Kind::Valid | Kind::Replayed | Kind::Published | Kind::OwnedByNode)
    }

    /// Does the node refuse it as no valid record?
    pub(super) fn is_invalid(self) -> bool {
        matches!(self, Kind::TooLong | Kind::Garbage | Kind::Forged | Kind::WrongKey | Kind::WrongTtl)
    }

    /// How many puts one connection carries.
    fn on_a_connection(self) -> usize {
        if self.is_answered() { PER_SOURCE } else { REFUSED_AT_ONCE }
    }
}

/// The attacker. Dropping it cuts all it has.
pub(super) struct Attacker {
    runtime: Runtime,
    means: Arc<Means>,
    /// Keeps the namespace until the runtime has left it.
    _host: AccessHost,
}

/// What its puts are made of.
struct Means {
    node: SocketAddr,
    node_id: Vec<u8>,
    own: Vec<RecordKeys>,
    own_records: Vec<Record>,
    /// A record of somebody honest that has been replaced, and the one that replaced it.
    overheard: [Record; 2],
}

/// Puts under way.
pub(super) struct Flood {
    sent: Arc<AtomicUsize>,
    sending: JoinHandle<Result<Vec<(Kind, usize)>>>,
}

/// Puts of one kind over one connection.
#[derive(Clone, Copy)]
struct Load {
    kind: Kind,
    count: usize,
    network: u16,
    seed: u64,
}

impl Attacker {
    /// An attacker on `host` that has got hold of many networks, and overheard two records of somebody honest.
    pub(super) fn new(lab: &Lab, host: &AccessHost, node: &[String], overheard: [Record; 2]) -> Result<Attacker> {
        let to_host = host.ipv4().to_string();
        lab.backbone().ip(&["route", "add", NETWORKS, "via", &to_host])?;
        // Every address of them is its own.
        host.namespace().ip(&["route", "add", "local", NETWORKS, "dev", "lo"])?;
        let node: Vec<Bootstrap> = node.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let (node, node_id) = node
            .iter()
            .find_map(|node| match (&node.host, node.transport) {
                (Host::Ip(ip), Transport::Tcp) if ip.is_ipv4() => Some((SocketAddr::new(*ip, node.port), node.tid)),
                _ => None,
            })
            .context("the node has no TCP address of IPv4")?;
        let mut rng = Rng::new(u64::from(OWN_NETWORK));
        let own: Vec<RecordKeys> = (0..OWN).map(|_| keys(&mut rng)).collect();
        let own_records = own.iter().map(|keys| seal(keys, OWN_SEQ, MAX_TTL, &mut rng)).collect();
        let node_id = name_of(&node_id.0);
        // Its threads are in the namespace in which it is made.
        let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = host.namespace().enter(make)??;
        let means = Arc::new(Means { node, node_id, own, own_records, overheard });
        Ok(Attacker { runtime, means, _host: host.clone() })
    }

    /// Puts its own records, as many as one network may, and some that are soon over: what is stored at the beginning.
    pub(super) fn prepare(&self) -> Result<usize> {
        let own = self.means.own_records.iter().map(plain).collect();
        let mut rng = Rng::new(u64::from(FULL_NETWORK));
        let full = (0..PER_SOURCE).map(|_| plain(&seal(&keys(&mut rng), 1, MAX_TTL, &mut rng))).collect();
        let short = (0..SHORT).map(|_| plain(&seal(&keys(&mut rng), 1, SHORT_TTL, &mut rng))).collect();
        let mut stored = 0;
        for (network, puts) in [(OWN_NETWORK, own), (FULL_NETWORK, full), (SHORT_NETWORK, short)] {
            let means = Arc::clone(&self.means);
            let sending = self.runtime.spawn(async move { means.put_answered(network, puts).await });
            stored += self.runtime.block_on(sending)??;
        }
        Ok(stored)
    }

    /// How many of what it stored at the beginning are soon over.
    pub(super) const fn short() -> usize {
        SHORT
    }

    /// Begins to put so many records: two thirds valid ones, each network as many as it may, and all other kinds.
    pub(super) fn flood(&self, puts: usize, seed: u64) -> Flood {
        let loads = loads(puts, seed);
        let (means, sent) = (Arc::clone(&self.means), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&sent);
        let sending = self.runtime.spawn(async move {
            let mut all = Vec::new();
            let carry = |load: Load| {
                let (means, sent) = (Arc::clone(&means), Arc::clone(&counted));
                tokio::spawn(async move {
                    let carried = timeout(CONNECTION_LIMIT, means.carry(load)).await;
                    let carried = carried.context("a connection has no end")?;
                    carried.with_context(|| format!("{:?} from network {}", load.kind, load.network))?;
                    sent.fetch_add(load.count, Ordering::Relaxed);
                    anyhow::Ok((load.kind, load.count))
                })
            };
            let mut carried = stream::iter(loads).map(carry).buffer_unordered(CONNECTIONS);
            while let Some(done) = carried.next().await {
                all.push(done??);
            }
            Ok(all)
        });
        Flood { sent, sending }
    }

    /// Waits for the end of a flood; gives how many puts of each kind there were.
    pub(super) fn end_of(&self, flood: Flood) -> Result<Vec<(Kind, usize)>> {
        self.runtime.block_on(flood.sending)?
    }
}

impl Flood {
    /// How many puts the node has had.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Is it over?
    pub(super) fn is_over(&self) -> bool {
        self.sending.is_finished()
    }
}

impl Means {
    async fn carry(&self, load: Load) -> Result<()> {
        let mut rng = Rng::new(load.seed);
        let puts: Vec<Put> = (0..load.count).map(|_| self.put(load.kind, &mut rng)).collect();
        if load.kind.is_answered() {
            self.put_answered(load.network, puts).await?;
        } else {
            self.put_unanswered(load.network, puts).await?;
        }
        Ok(())
    }

    /// One put.
    fn put(&self, kind: Kind, rng: &mut Rng) -> Put {
        let index = usize::try_from(rng.below(OWN)).unwrap_or_default();
        let (own, record) = (&self.own[index], &self.own_records[index]);
        let [replaced, current] = &self.overheard;
        match kind {
            Kind::Valid | Kind::SourceFull => plain(&seal(&keys(rng), 1, MAX_TTL, rng)),
            Kind::Replayed => plain(record),
            Kind::Published => Put { publisher: Some(name_of(&noise(rng, 32))), seconds: Some(1), ..plain(record) },
            Kind::OwnedByNode => {
                Put { publisher: Some(self.node_id.clone()), ..plain(&seal(&keys(rng), 1, MAX_TTL, rng)) }
            }
            Kind::Older if rng.below(2) == 0 => plain(replaced),
            Kind::Older => plain(&seal(own, OWN_SEQ - 1, MAX_TTL, rng)),
            Kind::Conflict => plain(&seal(own, OWN_SEQ, MAX_TTL, rng)),
            Kind::TooLong => {
                let put = plain(&seal(&keys(rng), 1, MAX_TTL, rng));
                Put { value: [put.value.as_slice(), &[0]].concat(), ..put }
            }
            Kind::Garbage => Put { key: noise(rng, 32), value: noise(rng, RECORD_LEN), publisher: None, seconds: None },
            Kind::Forged => {
                let mut put = plain(current);
                // The first byte of its number: far above any that will be.
                put.value[32] = 1;
                put
            }
            Kind::WrongKey => Put { key: noise(rng, 32), ..plain(record) },
            Kind::WrongTtl => {
                let mut put = plain(&seal(&keys(rng), 1, MAX_TTL, rng));
                let wrong = if rng.below(2) == 0 { 0 } else { MAX_TTL + 1 };
                put.value[40..42].copy_from_slice(&wrong.to_be_bytes());
                put
            }
            Kind::Giant => Put { value: noise(rng, GIANT), ..plain(record) },
        }
    }

    /// Puts what the node answers, many on one stream; gives how many it said it has stored.
    async fn put_answered(&self, network: u16, puts: Vec<Put>) -> Result<usize> {
        let connection = self.connect(network).await?;
        let mut stream = connection.open(KAD).await?;
        let mut stored = 0;
        for some in puts.chunks(AT_ONCE) {
            let requests: Vec<u8> = some.iter().flat_map(Put::request).collect();
            stream.write_all(&requests).await?;
            stream.flush().await?;
            for put in some {
                let answer = read_frame(&mut stream, MESSAGE_MAX).await?;
                ensure!(kad::value(&answer).as_ref() == Some(&put.value), "another answer than the record");
                stored += 1;
            }
        }
        Ok(stored)
    }

    /// Puts what the node says nothing to, each on a stream of its own, and asks it something at the end: with that
    /// answer it has seen all before.
    async fn put_unanswered(&self, network: u16, puts: Vec<Put>) -> Result<()> {
        let connection = self.connect(network).await?;
        let put = async |put: &Put| {
            let mut stream = connection.open(KAD).await?;
            // A frame that is too long is not taken to its end.
            let written = stream.write_all(&put.request()).await;
            if put.value.len() < GIANT {
                written?;
                stream.flush().await?;
            }
            Ok::<_, Error>(stream)
        };
        let _open = try_join_all(puts.iter().map(put)).await?;
        let mut stream = connection.open(KAD).await?;
        stream.write_all(&kad::get(&self.own_records[0].topic().0)).await?;
        stream.flush().await?;
        let answer = read_frame(&mut stream, MESSAGE_MAX).await?;
        ensure!(kad::value(&answer).as_deref() == Some(self.own_records[0].as_bytes()), "a record of its own is gone");
        Ok(())
    }

    async fn connect(&self, network: u16) -> io::Result<Connection> {
        let [high, low] = network.to_be_bytes();
        Connection::dial_from(Some(IpAddr::V4(Ipv4Addr::new(23, high, low, 1))), self.node, KAD).await
    }
}

/// What is put over which connection, in an order that is drawn.
fn loads(puts: usize, seed: u64) -> Vec<Load> {
    let (mut rng, mut loads) = (Rng::new(seed), Vec::new());
    let valid = puts * 2 / 3;
    let each = (puts - valid).div_ceil(Kind::REST.len());
    let rest = Kind::REST.iter().map(|kind| (*kind, each)).chain([(Kind::Giant, REFUSED_AT_ONCE)]);
    let mut networks = 0;
    for (kind, mut left) in std::iter::once((Kind::Valid, valid)).chain(rest) {
        while left > 0 {
            let count = left.min(kind.on_a_connection());
            left -= count;
            networks += 1;
            let network = if kind == Kind::Valid {
                networks
            } else if kind == Kind::SourceFull {
                FULL_NETWORK
            } else {
                REST_NETWORKS + networks % REST_NETWORKS_LEN
            };
            loads.push(Load { kind, count, network, seed: rng.next_u64() });
        }
    }
    loads.sort_by_key(|load| load.seed);
    loads
}

fn keys(rng: &mut Rng) -> RecordKeys {
    let mut draw = || Secret::new(noise(rng, 32).try_into().unwrap_or([0; 32]));
    RecordKeys::new(&draw(), draw())
}

fn seal(keys: &RecordKeys, seq: u64, ttl: u16, rng: &mut Rng) -> Record {
    let seed = Secret::new(noise(rng, 32).try_into().unwrap_or([0; 32]));
    keys.seal(b"flood", seq, ttl, &mut Draw::from_seed(seed))
}

/// A record as everybody puts it.
fn plain(record: &Record) -> Put {
    Put { key: record.topic().0.to_vec(), value: record.as_bytes().to_vec(), publisher: None, seconds: None }
}

/// The name of an Ed25519 key: the key behind what says so.
fn name_of(key: &[u8]) -> Vec<u8> {
    [&[0, 36, 8, 1, 18, 32], key].concat()
}

fn noise(rng: &mut Rng, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.next_u64().to_le_bytes()).flatten().take(length).collect()
}
