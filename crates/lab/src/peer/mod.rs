//! A peer made by hand: the program's own network driver on a host of the lab, told frame by frame what to say.
//!
//! It is what an attacker speaks through, and the naive device too. It lives on a thread of its own inside the host's
//! namespace; its calls block, so that a scenario reads as the list of what happens.

mod inbox;
mod relay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use handfast_net::{Command, Config, NetEvent, Role, StreamEnd, StreamProtocol, Timing};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::records::RecordLimits;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::record::{Record, Topic};
use tokio::sync::mpsc;

use crate::topology::AccessHost;
use inbox::Inbox;

/// A closure that gives a value for the events it wants and leaves the others.
macro_rules! pick {
    ($($pattern:pat if $guard:expr => $value:expr),+ $(,)?) => {
        |event: &NetEvent| {
            $(if let $pattern = event
                && $guard
            {
                return Some($value);
            })+
            None
        }
    };
}

use pick;

/// The longest any single step takes, on a busy machine too; longer means that it does not come.
const STEP: Duration = Duration::from_secs(20);

/// Commands that wait for the driver.
const COMMANDS: usize = 1024;

/// A hand-driven peer. Dropping it ends its network.
pub struct Peer {
    tid: Tid,
    addresses: Vec<Address>,
    commands: Option<mpsc::Sender<Command>>,
    inbox: Arc<Inbox>,
    jobs: AtomicU64,
    thread: Option<JoinHandle<()>>,
    /// Keeps the namespace until the thread has left it.
    _host: AccessHost,
}

/// What came on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A frame.
    Frame(Frame),
    /// The other side closed the stream, or it was lost.
    Closed(StreamEnd),
    /// Nothing within the time.
    Silence,
}

/// A stream that somebody opened to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The stream.
    pub stream: StreamId,
    /// The connection it runs on.
    pub conn: ConnId,
    /// Who is at its other end.
    pub tid: Tid,
}

impl Reply {
    /// The frame.
    ///
    /// # Errors
    /// When it is none.
    pub fn frame(self) -> Result<Frame> {
        match self {
            Reply::Frame(frame) => Ok(frame),
            Reply::Closed(end) => bail!("the stream was closed ({end:?}) where a frame was expected"),
            Reply::Silence => bail!("nothing came where a frame was expected"),
        }
    }

    /// Was the stream closed by the other side, without a frame?
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Reply::Closed(_))
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Frame(frame) => write!(f, "answered with {:?}", frame.kind()),
            Reply::Closed(_) => write!(f, "closed without a word"),
            Reply::Silence => write!(f, "silent"),
        }
    }
}

impl Peer {
    /// A device on `host` with a fresh transport key; `bootstrap` are nodes of the DHT as multiaddresses.
    ///
    /// # Errors
    /// When it cannot listen, or an address is none.
    pub fn device(host: &AccessHost, bootstrap: &[String]) -> Result<Self> {
        Self::start(host, Role::Device, bootstrap)
    }

    /// A node of the DHT on `host`.
    ///
    /// # Errors
    /// As [`Peer::device`].
    pub fn node(host: &AccessHost, bootstrap: &[String]) -> Result<Self> {
        Self::start(host, Role::Node { external: Vec::new() }, bootstrap)
    }

    fn start(host: &AccessHost, role: Role, bootstrap: &[String]) -> Result<Self> {
        let ip = host.ipv4().into();
        let listen = [Transport::Quic, Transport::Tcp].map(|transport| Address { ip, port: 0, transport });
        let config = Config {
            listen: listen.to_vec(),
            fallback_to_any_port: true,
            bootstrap: bootstrap.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
            role,
            transport_seed: handfast_net::entropy::secret()?,
            limits: RecordLimits::NODE,
            timing: Timing::default(),
        };
        let tid = handfast_net::tid_of_seed(&config.transport_seed);
        let (commands, to_driver) = mpsc::channel(COMMANDS);
        let inbox = Arc::new(Inbox::default());
        let (on, of) = (host.clone(), Arc::clone(&inbox));
        let thread = std::thread::Builder::new().name("lab-peer".to_owned()).spawn(move || {
            // A peer that does not start is noticed by its first step, which says why nothing comes.
            let _ = inbox::drive(&on, config, to_driver, &of);
            of.lock().ended = true;
            of.changed.notify_all();
        })?;
        let mut peer = Self {
            tid,
            addresses: Vec::new(),
            commands: Some(commands),
            inbox,
            jobs: AtomicU64::new(0),
            thread: Some(thread),
            _host: host.clone(),
        };
        while peer.addresses.len() < listen.len() {
            let address = peer.inbox.take(STEP, match_listening).context("a peer does not listen")?;
            peer.addresses.push(address);
        }
        Ok(peer)
    }

    /// Its transport key.
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// How others bootstrap from it, as multiaddresses.
    #[must_use]
    pub fn bootstrap(&self) -> Vec<String> {
        let form = |address: &Address| {
            let (host, port, transport) = (handfast_net::Host::Ip(address.ip), address.port, address.transport);
            handfast_net::Bootstrap { host, port, transport, tid: self.tid }.to_string()
        };
        self.addresses.iter().map(form).collect()
    }

    /// Waits until it is connected to so many nodes of the DHT.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for_nodes(&self, at_least: usize) -> Result<()> {
        let deadline = Instant::now() + STEP;
        let mut state = self.inbox.lock();
        while state.dht_peers < at_least {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                bail!("connected to {} nodes of the DHT, not {at_least}", state.dht_peers);
            }
            state = self.inbox.wait(state, left);
        }
        Ok(())
    }

    /// Connects to `tid` at any of `addresses`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn dial(&self, tid: Option<Tid>, addresses: &[Address]) -> Result<ConnId> {
        let id = self.job();
        self.command(Command::Dial { id, tid, addresses: addresses.to_vec(), relays: Vec::new() })?;
        self.inbox
            .take(
                STEP,
                pick!(
                    NetEvent::Dialled { id: of, conn } if *of == id => Ok(*conn),
                    NetEvent::DialFailed { id: of, failure } if *of == id => Err(failure.clone()),
                ),
            )
            .context("a dial had no end")?
            .context("a dial failed")
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn open(&self, conn: ConnId, protocol: StreamProtocol) -> Result<StreamId> {
        let id = self.job();
        self.command(Command::OpenStream { id, conn, protocol })?;
        self.inbox
            .take(
                STEP,
                pick!(
                    NetEvent::StreamOpened { id: of, stream } if *of == id => Ok(*stream),
                    NetEvent::StreamFailed { id: of, cause } if *of == id => Err(*cause),
                ),
            )
            .context("a stream was not opened")?
            .context("a stream was refused")
    }

    /// Opens a stream and writes frames on it at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn say(&self, conn: ConnId, protocol: StreamProtocol, frames: Vec<Frame>) -> Result<StreamId> {
        let stream = self.open(conn, protocol)?;
        self.send(stream, frames)?;
        Ok(stream)
    }

    /// Writes frames in one go.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn send(&self, stream: StreamId, frames: Vec<Frame>) -> Result<()> {
        self.command(Command::Send { stream, frames })
    }

    /// Closes a stream after what was sent.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn close(&self, stream: StreamId) -> Result<()> {
        self.command(Command::CloseStream { stream })
    }

    /// Closes a connection.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn hang_up(&self, conn: ConnId) -> Result<()> {
        self.command(Command::CloseConnection { conn })
    }

    /// Waits for the next stream of `protocol` that somebody opens here.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn accept(&self, protocol: StreamProtocol, limit: Duration) -> Result<Inbound> {
        let inbound =
            pick!(NetEvent::StreamInbound { stream, conn, protocol: of } if *of == protocol => (*stream, *conn));
        let (stream, conn) =
            self.inbox.take(limit, inbound).with_context(|| format!("nobody opened a stream {}", protocol.name()))?;
        let tid = self.tid_of(conn).context("a stream on an unknown connection")?;
        Ok(Inbound { stream, conn, tid })
    }

    /// What comes next on a stream within `limit`.
    #[must_use]
    pub fn reply(&self, of: StreamId, limit: Duration) -> Reply {
        let next = self.inbox.take(
            limit,
            pick!(
                NetEvent::Frame { stream, frame } if *stream == of => Reply::Frame(frame.clone()),
                NetEvent::StreamClosed { stream, end } if *stream == of => Reply::Closed(*end),
            ),
        );
        next.unwrap_or(Reply::Silence)
    }

    /// The next frame of a stream, whenever it comes.
    ///
    /// # Errors
    /// When the stream ends or stays silent.
    pub fn frame(&self, of: StreamId) -> Result<Frame> {
        self.reply(of, STEP).frame()
    }

    /// Puts a record into the DHT; gives how many nodes stored it.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn put(&self, record: &Record) -> Result<usize> {
        let id = self.job();
        self.command(Command::Put { id, record: record.clone() })?;
        self.inbox
            .take(STEP, pick!(NetEvent::PutDone { id: of, stored_on } if *of == id => *stored_on))
            .context("a put had no end")
    }

    /// Puts many records, some at a time; gives for each how many nodes stored it.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn put_all(&self, records: &[Record]) -> Result<Vec<usize>> {
        let mut stored = Vec::new();
        for some in records.chunks(handfast_net::MAX_LOOKUPS) {
            let mut jobs = Vec::new();
            for record in some {
                let id = self.job();
                self.command(Command::Put { id, record: record.clone() })?;
                jobs.push(id);
            }
            for id in jobs {
                let done = pick!(NetEvent::PutDone { id: of, stored_on } if *of == id => *stored_on);
                stored.push(self.inbox.take(STEP, done).context("a put had no end")?);
            }
        }
        Ok(stored)
    }

    /// Looks a topic up to the end: what was found, and how many nodes answered.
    ///
    /// # Errors
    /// When the network has ended.
    pub fn get(&self, topic: Topic) -> Result<(Vec<Record>, usize)> {
        let id = self.job();
        self.command(Command::Get { id, topic })?;
        let answered = self
            .inbox
            .take(STEP, pick!(NetEvent::GetDone { id: of, answered } if *of == id => *answered))
            .context("a look-up had no end")?;
        let next = pick!(NetEvent::Found { id: of, record } if *of == id => record.clone());
        let found = std::iter::from_fn(|| self.inbox.take(Duration::ZERO, next));
        Ok((found.collect(), answered))
    }

    /// The transport key at the other end of a connection.
    #[must_use]
    pub fn tid_of(&self, conn: ConnId) -> Option<Tid> {
        self.inbox.lock().conns.get(&conn).map(|(tid, _)| *tid)
    }

    fn job(&self) -> JobId {
        JobId(self.jobs.fetch_add(1, Ordering::Relaxed))
    }

    fn command(&self, command: Command) -> Result<()> {
        let commands = self.commands.as_ref().context("the peer has ended")?;
        commands.blocking_send(command).ok().context("the peer has ended")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

fn match_listening(event: &NetEvent) -> Option<Address> {
    if let NetEvent::Listening { address } = event { Some(*address) } else { None }
}
