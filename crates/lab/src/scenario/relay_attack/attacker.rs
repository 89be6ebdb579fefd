//! Whoever wants the relay for itself, or down: one host, as many keys as it likes.

use std::io::{self, Error};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use handfast_net::{Bootstrap, Host};
use handfast_proto::addr::Transport;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::raw::hop::{self, HOP, MESSAGE_MAX, OK, STOP};
use crate::raw::{Connection, Stream, read_frame, varint};
use crate::rng::Rng;
use crate::topology::AccessHost;

/// How long an answer is waited for. What the node does not answer by then is not counted as granted.
const ANSWER: Duration = Duration::from_secs(10);

/// Keys that ask for reservations at the same time.
const ASKING: usize = 16;

/// Of those that were given a reservation, how many keep it. With those that ask, and the connections of the other
/// attacks, they stay below what the node takes from one address: it is the relay that must say no.
const KEPT: usize = 32;

/// Circuits that one peer asks for at the same time.
const OPENING: usize = 4;

/// What is written at once to a reader that never reads, how much at most, and how long none of it is taken until the
/// circuit counts as full.
const CHUNK: usize = 16 * 1024;
pub(super) const PUSHED_MAX: usize = 4 << 20;
const FULL: Duration = Duration::from_secs(2);

/// Connections on which garbage is sent, again and again with this pause.
const FEEDERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(100);

/// A giant frame.
const GIANT: usize = 1 << 20;

/// The attacker. Dropping it cuts all it has.
pub(super) struct Attacker {
    runtime: Runtime,
    node: SocketAddr,
    /// Keeps the namespace until the runtime has left it.
    _host: AccessHost,
}

/// How requests were answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answers {
    pub(super) granted: usize,
    pub(super) denied: usize,
    pub(super) unanswered: usize,
}

/// Reservations that are being asked for.
pub(super) struct Flood {
    done: Arc<AtomicUsize>,
    asking: JoinHandle<(Answers, Vec<Connection>)>,
}

/// What a flood has got, as long as it is held.
pub(super) struct Reservations {
    pub(super) answers: Answers,
    _kept: Vec<Connection>,
}

/// Circuits from one attacker to another, who takes them all and never reads.
pub(super) struct Circuits {
    pub(super) answers: Answers,
    streams: Vec<Stream>,
    _source: Connection,
    _sleeper: JoinHandle<()>,
}

/// Garbage that is being sent.
pub(super) struct Garbage {
    stop: Arc<AtomicBool>,
    feeders: Vec<JoinHandle<Fed>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fed {
    pub(super) frames: usize,
    /// Those whose stream the node ended.
    pub(super) ended: usize,
}

impl Attacker {
    /// An attacker on `host`; `addresses` are those of the node.
    pub(super) fn new(host: &AccessHost, addresses: &[String]) -> Result<Attacker> {
        let addresses: Vec<Bootstrap> = addresses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let node = addresses.iter().find_map(|address| match (&address.host, address.transport) {
            (Host::Ip(ip), Transport::Tcp) if ip.is_ipv4() => Some(SocketAddr::new(*ip, address.port)),
            _ => None,
        });
        let node = node.context("the node has no TCP address of IPv4")?;
        // Its threads are in the namespace in which it is made.
        let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Attacker { runtime: host.namespace().enter(make)??, node, _host: host.clone() })
    }

    /// A reservation of its own.
    pub(super) fn reserve(&self) -> Result<Connection> {
        let node = self.node;
        let asking = self.runtime.spawn(async move { timeout(ANSWER, reservation(node)).await });
        let (status, connection) = self.runtime.block_on(asking)?.context("no answer to a request")??;
        ensure!(status == OK, "a first reservation is denied with {status}");
        Ok(connection)
    }

    /// Begins to ask for a reservation under each of so many keys.
    pub(super) fn flood(&self, keys: usize) -> Flood {
        let done = Arc::new(AtomicUsize::new(0));
        let asking = self.runtime.spawn(ask_under(keys, self.node, Arc::clone(&done)));
        Flood { done, asking }
    }

    /// Waits for the end of a flood.
    pub(super) fn end_of(&self, flood: Flood) -> Result<Reservations> {
        let (answers, kept) = self.runtime.block_on(flood.asking)?;
        Ok(Reservations { answers, _kept: kept })
    }

    /// Asks under one key for so many circuits to `target`, which has a reservation.
    pub(super) fn circuits(&self, target: Connection, count: usize) -> Result<Circuits> {
        self.runtime.block_on(self.runtime.spawn(circuits(self.node, target, count)))?
    }

    /// Writes on each circuit until no more is taken; gives how much that was.
    pub(super) fn fill(&self, circuits: &mut Circuits) -> Result<Vec<usize>> {
        let streams = std::mem::take(&mut circuits.streams);
        let filled = self.runtime.block_on(self.runtime.spawn(join_all(streams.into_iter().map(push))))?;
        let (taken, streams): (Vec<usize>, Vec<Stream>) = filled.into_iter().unzip();
        circuits.streams = streams;
        Ok(taken)
    }

    /// Begins to send garbage, drawn from `seed`.
    pub(super) fn garbage(&self, seed: u64) -> Garbage {
        let stop = Arc::new(AtomicBool::new(false));
        let feed = |feeder: usize| {
            let rng = Rng::new(seed.wrapping_add(feeder as u64));
            self.runtime.spawn(feed(self.node, rng, Arc::clone(&stop)))
        };
        let feeders = (0..FEEDERS).map(feed).collect();
        Garbage { stop, feeders }
    }

    /// Stops sending garbage.
    pub(super) fn end_of_garbage(&self, garbage: Garbage) -> Result<Fed> {
        garbage.stop.store(true, Ordering::Relaxed);
        let mut all = Fed::default();
        for feeder in garbage.feeders {
            let Fed { frames, ended } = self.runtime.block_on(feeder)?;
            all = Fed { frames: all.frames + frames, ended: all.ended + ended };
        }
        Ok(all)
    }
}

impl Answers {
    fn count(&mut self, status: Option<u64>) {
        match status {
            Some(OK) => self.granted += 1,
            Some(_) => self.denied += 1,
            None => self.unanswered += 1,
        }
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} granted, {} denied, {} not answered", self.granted, self.denied, self.unanswered)
    }
}

impl Flood {
    /// How many keys have had their answer.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

/// Asks under fresh keys, some at a time, and keeps some of what is granted.
async fn ask_under(keys: usize, node: SocketAddr, done: Arc<AtomicUsize>) -> (Answers, Vec<Connection>) {
    let (mut answers, mut kept) = (Answers::default(), Vec::new());
    let mut asked = stream::iter(0..keys).map(|_| timeout(ANSWER, reservation(node))).buffer_unordered(ASKING);
    while let Some(answer) = asked.next().await {
        done.fetch_add(1, Ordering::Relaxed);
        let (status, connection) = answer.ok().and_then(Result::ok).unzip();
        answers.count(status);
        if status == Some(OK) && kept.len() < KEPT {
            kept.extend(connection);
        }
    }
    (answers, kept)
}

/// Asks for a reservation under a fresh key.
async fn reservation(node: SocketAddr) -> io::Result<(u64, Connection)> {
    let connection = Connection::dial(node, STOP).await?;
    let mut stream = connection.open(HOP).await?;
    Ok((ask(&mut stream, &hop::reserve()).await?, connection))
}

/// Sends a request and gives the status of the answer.
async fn ask(stream: &mut Stream, request: &[u8]) -> io::Result<u64> {
    stream.write_all(request).await?;
    stream.flush().await?;
    hop::status(&read_frame(stream, MESSAGE_MAX).await?).ok_or_else(|| Error::other("an answer without a status"))
}

async fn circuits(node: SocketAddr, target: Connection, count: usize) -> Result<Circuits> {
    let id = target.id().to_vec();
    let sleeper = tokio::spawn(never_read(target));
    let source = timeout(ANSWER, Connection::dial(node, STOP)).await.context("no connection")??;
    let (mut answers, mut streams) = (Answers::default(), Vec::new());
    for first in (0..count).step_by(OPENING) {
        let some = (first..count.min(first + OPENING)).map(|_| timeout(ANSWER, circuit(&source, &id)));
        for answer in join_all(some).await {
            let (status, stream) = answer.ok().and_then(Result::ok).unzip();
            answers.count(status);
            streams.extend(stream.filter(|_| status == Some(OK)));
        }
    }
    Ok(Circuits { answers, streams, _source: source, _sleeper: sleeper })
}

async fn circuit(source: &Connection, to: &[u8]) -> io::Result<(u64, Stream)> {
    let mut stream = source.open(HOP).await?;
    Ok((ask(&mut stream, &hop::connect(to)).await?, stream))
}

/// Takes each circuit and reads nothing of it, until the connection ends.
async fn never_read(mut target: Connection) {
    let mut held = Vec::new();
    while let Some(mut stream) = target.accept().await {
        if matches!(timeout(ANSWER, take(&mut stream)).await, Ok(Ok(()))) {
            held.push(stream);
        }
    }
}

async fn take(stream: &mut Stream) -> io::Result<()> {
    read_frame(stream, MESSAGE_MAX).await?;
    stream.write_all(&hop::take()).await?;
    stream.flush().await
}

/// Writes until nothing more is taken.
async fn push(mut stream: Stream) -> (usize, Stream) {
    let (chunk, mut taken) = (vec![0x5a; CHUNK], 0);
    while taken < PUSHED_MAX
        && let Ok(Ok(written @ 1..)) = timeout(FULL, stream.write(&chunk)).await
    {
        taken += written;
    }
    (taken, stream)
}

/// What is wrong with a message that never ends well.
enum Wrong {
    /// On a stream of the relay's protocol.
    Message(Vec<u8>),
    /// Where the name of a protocol is expected.
    Name(Vec<u8>),
}

fn wrong_messages(rng: &mut Rng) -> [Wrong; 5] {
    let noise = |rng: &mut Rng, length: usize| -> Vec<u8> {
        std::iter::repeat_with(|| rng.next_u64().to_le_bytes()).flatten().take(length).collect()
    };
    let behind = |length: u64, bytes: Vec<u8>| [varint(length), bytes].concat();
    [
        Wrong::Message(noise(rng, GIANT)),
        // A length of seventeen bytes that goes on.
        Wrong::Message(vec![0xff; 17]),
        Wrong::Message(behind(1 << 30, vec![0; GIANT])),
        Wrong::Message(behind(MESSAGE_MAX as u64, [vec![0xff; 16], noise(rng, MESSAGE_MAX - 16)].concat())),
        Wrong::Name(behind(1 << 28, noise(rng, GIANT))),
    ]
}

/// Sends what is wrong until told to stop. The node may cut a whole connection for it: each round has one of its own.
async fn feed(node: SocketAddr, mut rng: Rng, stop: Arc<AtomicBool>) -> Fed {
    let mut fed = Fed::default();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(Ok(connection)) = timeout(ANSWER, Connection::dial(node, STOP)).await {
            for wrong in wrong_messages(&mut rng) {
                fed.frames += 1;
                fed.ended += usize::from(timeout(ANSWER, send_wrong(&connection, wrong)).await.is_ok());
            }
        }
        sleep(PAUSE).await;
    }
    fed
}

/// Sends it; over when the node has ended the stream.
async fn send_wrong(connection: &Connection, wrong: Wrong) {
    let (stream, bytes) = match wrong {
        Wrong::Message(bytes) => (connection.open(HOP).await, bytes),
        Wrong::Name(bytes) => (connection.open_bare().await, bytes),
    };
    let Ok(stream) = stream else { return };
    let (mut reading, mut writing) = stream.split();
    // The end may come before all is written, which it should.
    let write = async {
        let _ = writing.write_all(&bytes).await;
        let _ = writing.flush().await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let _ = reading.read_to_end(&mut Vec::new()).await;
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}
