//! What the crate takes and what it tells: configuration, commands, events. Own types only; no type of the network
//! stack appears here.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use handfast_proto::addr::{Address, InterfaceAddress, RelayAddress};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::reach::Verdict;
use handfast_proto::records::{RecordCounters, RecordLimits};
use handfast_proto::secret::Secret;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::record::{Record, Topic};
use tokio::sync::oneshot;

use crate::bootstrap::Bootstrap;

/// How a device or node takes part in the network.
pub struct Config {
    /// Where to listen. Port 0 lets the system choose; wildcard addresses listen on every interface.
    pub listen: Vec<Address>,
    /// Whether a named port that is taken is replaced by one the system chooses. Devices want that (they remember a
    /// port and can live without it), nodes do not (others know the port).
    pub fallback_to_any_port: bool,
    /// Nodes of the DHT that are known beforehand, each at one place or several; at most [`MAX_BOOTSTRAP`] nodes are
    /// used.
    pub bootstrap: Vec<Bootstrap>,
    /// What we are in the DHT.
    pub role: Role,
    /// Ed25519 seed of the transport identity: fresh at every start of a device, stored on a node.
    pub transport_seed: Secret<32>,
    /// Limits of the record store; only a node's store is ever filled.
    pub limits: RecordLimits,
    /// Timers that tests make small; everybody else takes the default.
    pub timing: Timing,
}

/// Most bootstrap nodes that are used; more would only cost connections, since three live ones suffice.
pub const MAX_BOOTSTRAP: usize = 16;

/// What we are in the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks others and stores nothing: never in anybody's routing table.
    Device,
    /// Stores records for others and is found by them.
    Node {
        /// Addresses to announce besides the public ones we listen on: a port forwarded to us, or the addresses of a
        /// network of one's own.
        external: Vec<Address>,
    },
}

/// Timers of connections, and of the record store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a connection lives that nobody holds and on which no stream is open. 20 s: a joiner that lost its
    /// stream comes back on the same connection, and a person who reads a question has a stream open.
    pub idle: Duration,
    /// Time for the first whole frame of a stream that a peer opened (protocol, section 12).
    pub first_frame: Duration,
    /// Time for a whole dial, all addresses together.
    pub dial: Duration,
    /// After how long a peer from which nothing comes is lost. 8 s over QUIC, an eighth more over TCP: a lost peer is
    /// noticed in less than 10 s. A device that is alive sends something in three eighths of it, which also keeps address
    /// translations open, the shortest of which forget UDP after some seconds; a node within half of it.
    pub silence: Duration,
    /// How often expired records are swept (protocol, section 5). They are not told before either; it is for the memory.
    pub sweep: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            idle: Duration::from_secs(20),
            first_frame: Duration::from_secs(10),
            dial: Duration::from_secs(5),
            silence: Duration::from_secs(8),
            sweep: Duration::from_secs(30),
        }
    }
}

/// The protocols that run on streams of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamProtocol {
    /// `/handfast/pair/1`: the handshake of a pairing.
    Pair,
    /// `/handfast/hello/1`: the proof that a connection belongs to a paired device.
    Hello,
    /// `/handfast/ping/1`: round trips of a paired device.
    Ping,
}

impl StreamProtocol {
    /// Every protocol.
    pub const ALL: [StreamProtocol; 3] = [StreamProtocol::Pair, StreamProtocol::Hello, StreamProtocol::Ping];

    /// The name that is negotiated.
    pub const fn name(self) -> &'static str {
        match self {
            StreamProtocol::Pair => "/handfast/pair/1",
            StreamProtocol::Hello => "/handfast/hello/1",
            StreamProtocol::Ping => "/handfast/ping/1",
        }
    }
}

/// What the owner of a [`crate::Network`] can ask for. Each job is answered under its id.
#[derive(Debug)]
pub enum Command {
    /// Stores `record` at the nodes we are connected to at once, and at the nodes closest to its topic as soon as they
    /// are known. Answered by [`NetEvent::Stored`] as it goes and once by [`NetEvent::PutDone`], within 10 s.
    Put {
        /// The job.
        id: JobId,
        /// The record.
        record: Record,
    },
    /// Looks `topic` up. Every distinct valid record is a [`NetEvent::Found`]; the end is one [`NetEvent::GetDone`],
    /// within 10 s. At most [`crate::MAX_LOOKUPS`] run at once, more end at once with nobody having answered.
    Get {
        /// The job.
        id: JobId,
        /// The key of the record.
        topic: Topic,
    },
    /// Ends a lookup; nothing more is told about it. Unknown ids are ignored.
    CancelGet {
        /// The job of the [`Command::Get`].
        id: JobId,
    },
    /// Connects to `tid` at the first of `addresses` that works; without a `tid` to whoever is there. All IP addresses
    /// are tried at once, QUIC a moment before TCP, and the relays [`crate::DIRECT_FIRST`] later, or at once where there
    /// is no address or none is left. At most [`crate::MAX_DIAL_ADDRESSES`] and [`crate::MAX_DIAL_RELAYS`] are tried. A
    /// live connection to `tid` is the answer at once, one through a relay only where a relay is asked for. Answered by
    /// [`NetEvent::Dialled`] or [`NetEvent::DialFailed`].
    Dial {
        /// The job.
        id: JobId,
        /// The transport identity to expect.
        tid: Option<Tid>,
        /// Where to try.
        addresses: Vec<Address>,
        /// Relays that may lead to `tid`; none of them is used without it.
        relays: Vec<RelayAddress>,
    },
    /// Who is at the other end of this connection has proven himself: if it runs through a relay, he may learn at which
    /// public addresses we are seen, and both try a direct connection. Whom we have called ourselves may so from the
    /// start. Comes of it what may, it is told as [`NetEvent::Connected`].
    Punch {
        /// The connection.
        conn: ConnId,
    },
    /// Tries once more to make a direct connection of one through a relay on which [`Command::Punch`] was said; nothing
    /// comes of it at the end that has called, which only answers, with what is known by now of where it is seen.
    PunchAgain {
        /// The connection.
        conn: ConnId,
    },
    /// Whether we want to be reached through relays: those of our bootstrap nodes that offer it are asked. What they
    /// have given stays with them until we disconnect; [`NetEvent::Relays`] tells what there is.
    Reserve {
        /// Whether.
        wanted: bool,
    },
    /// Asks the node at the other end of a connection to call us at these addresses, which it does at the one at which it
    /// sees us and from another port. The first [`handfast_proto::reach::MAX_PORTS`] count. Answered by
    /// [`NetEvent::Checked`] within ten seconds.
    Check {
        /// The job.
        id: JobId,
        /// The connection.
        conn: ConnId,
        /// Where it is to call.
        addresses: Vec<Address>,
    },
    /// Calls the node at the other end of a connection over TCP as well, from the port we listen on, and keeps that
    /// connection: it tells where a NAT shows our TCP port, which comes as [`NetEvent::Observed`]. Nothing comes of it
    /// where the node is not known to listen on TCP.
    SeeOverTcp {
        /// The connection.
        conn: ConnId,
    },
    /// Gives a dial up; nothing more is told about it. Unknown ids are ignored.
    CancelDial {
        /// The job of the [`Command::Dial`].
        id: JobId,
    },
    /// Opens a stream on `conn`, which costs no round trip: what is sent first travels with the request. Answered by
    /// [`NetEvent::StreamOpened`] or [`NetEvent::StreamFailed`]. A peer that does not speak `protocol` shows only
    /// later, as [`NetEvent::StreamClosed`].
    OpenStream {
        /// The job.
        id: JobId,
        /// The connection.
        conn: ConnId,
        /// The protocol.
        protocol: StreamProtocol,
    },
    /// Sends frames in one write.
    Send {
        /// The stream.
        stream: StreamId,
        /// The frames, in order.
        frames: Vec<Frame>,
    },
    /// Closes a stream after what was sent on it has left. Nothing more is told about it.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Drops a stream with whatever was still to be sent. Nothing more is told about it.
    ResetStream {
        /// The stream.
        stream: StreamId,
    },
    /// Closes a connection, once the streams that are being closed on it have left. Ends with
    /// [`NetEvent::Disconnected`].
    CloseConnection {
        /// The connection.
        conn: ConnId,
    },
    /// Keeps a connection although no stream is open on it, or stops keeping it. Each end decides for itself: a
    /// connection lives as long as both ends keep it. (Nodes keep those that devices opened.)
    Hold {
        /// The connection.
        conn: ConnId,
        /// Whether to keep it.
        hold: bool,
    },
    /// Asks for the numbers of this moment.
    Status(oneshot::Sender<NetStatus>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// We accept connections at this address now.
    Listening {
        /// The address, with its real port.
        address: Address,
    },
    /// We no longer accept connections at this address.
    ListenerGone {
        /// The address.
        address: Address,
    },
    /// The addresses of this machine, at start and when they have changed along with the listen addresses.
    Interfaces(Vec<Interface>),
    /// Packets leave this machine another way than before: by another address or router. What others saw of us does not
    /// hold any more. Connections whose way is gone are ended, which is told after this.
    Moved,
    /// This machine or this program has slept. Where it is may be the same; whoever it was connected to may have given it up,
    /// which is being found out: connections on which nobody answers are ended soon, which is told.
    Resumed,
    /// A peer that we dialled sees us at this address: raw, as it is after every address translation on the way.
    Observed {
        /// Our address as the peer sees it.
        address: Address,
        /// Who says so. Nothing proves it.
        by: Tid,
        /// Where it is: keys are free, addresses are not.
        from: Address,
        /// Over which connection.
        conn: ConnId,
        /// Whether it is one of the nodes that we were given, and calls back: see [`Command::Check`].
        calls_back: bool,
    },
    /// What came of a [`Command::Check`].
    Checked {
        /// The job.
        id: JobId,
        /// The outcome. A call counts only if it has come in here.
        verdict: Verdict,
    },
    /// A connection stands; its other end has proven `tid`.
    Connected {
        /// The connection.
        conn: ConnId,
        /// The peer's transport identity, as verified by the transport.
        tid: Tid,
        /// The peer's address; through a relay, that of the relay.
        address: Address,
        /// Whether it runs through a relay.
        relayed: bool,
        /// Whether we dialled.
        dialled: bool,
        /// The address of ours at which it came in, if it did and over TCP: QUIC listens on all and does not say at which.
        local: Option<IpAddr>,
    },
    /// A connection is over. Streams on it were reported closed before.
    Disconnected {
        /// The connection.
        conn: ConnId,
        /// The peer.
        tid: Tid,
        /// Why.
        cause: DisconnectCause,
    },
    /// A dial succeeded. [`NetEvent::Connected`] for `conn` came before.
    Dialled {
        /// The job.
        id: JobId,
        /// The connection.
        conn: ConnId,
    },
    /// A dial failed.
    DialFailed {
        /// The job.
        id: JobId,
        /// Why.
        failure: DialFailure,
    },
    /// A stream is open.
    StreamOpened {
        /// The job.
        id: JobId,
        /// The stream.
        stream: StreamId,
    },
    /// A stream could not be opened.
    StreamFailed {
        /// The job.
        id: JobId,
        /// Why.
        cause: StreamFailure,
    },
    /// A peer opened a stream and has sent a first whole frame, which follows. Streams on which none comes in time are
    /// never told, and an address has only few of them.
    StreamInbound {
        /// The stream.
        stream: StreamId,
        /// On which connection.
        conn: ConnId,
        /// For which protocol.
        protocol: StreamProtocol,
    },
    /// A frame came in.
    Frame {
        /// On which stream.
        stream: StreamId,
        /// The frame: a known type with a body of the right size, nothing else is checked.
        frame: Frame,
    },
    /// A stream is over. Not told for streams that were closed or reset from here.
    StreamClosed {
        /// The stream.
        stream: StreamId,
        /// How it ended.
        end: StreamEnd,
    },
    /// One more node has stored the record of a [`Command::Put`].
    Stored {
        /// The job.
        id: JobId,
        /// How many distinct nodes have stored it so far.
        stored_on: usize,
    },
    /// A [`Command::Put`] is over.
    PutDone {
        /// The job.
        id: JobId,
        /// How many distinct nodes have stored the record: data, not success.
        stored_on: usize,
    },
    /// A lookup found a record that is valid as far as a node can tell.
    Found {
        /// The job.
        id: JobId,
        /// The record, of the topic asked for; not yet told under this job.
        record: Record,
    },
    /// A lookup is over.
    GetDone {
        /// The job.
        id: JobId,
        /// How many nodes answered, with or without a record. 0: the DHT could not be reached.
        answered: usize,
    },
    /// How many nodes of the DHT we are connected to, at each change.
    DhtPeers(usize),
    /// The relays that lead to us, at each change; empty while nobody wants them.
    Relays(Vec<RelayAddress>),
}

/// An address of an interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface's name as the system has it.
    pub name: String,
    /// Address and prefix.
    pub address: InterfaceAddress,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectCause {
    /// Nobody needed it, here or at the other end, one end closed it, or the other end no longer knows it.
    Closed,
    /// Nothing came from the peer for too long.
    TimedOut,
    /// It broke.
    Broken,
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// Every address answered, and refused.
    #[error("every address refused")]
    Refused,
    /// Not every address answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The link knows no host of any of the addresses.
    #[error("no such host on the link")]
    NoHost,
    /// Another identity is at the address.
    #[error("another device answers there: {0:?}")]
    WrongPeer(Tid),
    /// We would have called ourselves.
    #[error("that is this device itself")]
    Ourselves,
    /// There was no address to try.
    #[error("no address to try")]
    NoAddress,
    /// Something local, such as no route or too many connections.
    #[error("{0}")]
    Other(String),
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFailure {
    /// The connection is gone.
    #[error("the connection is gone")]
    NoConnection,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak the protocol")]
    Unsupported,
    /// The peer let no stream be opened within 10 s, or the connection broke meanwhile.
    #[error("the stream could not be opened in time")]
    TimedOut,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer closed it or gave it up, which looks the same.
    Finished,
    /// The connection is gone, or the peer stopped reading.
    Lost,
    /// The peer sent what is no frame, or more frames than it may; or no first frame in time.
    Garbage,
}

/// The numbers of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetStatus {
    /// Connections that stand.
    pub connections: usize,
    /// Those of them that others opened.
    pub inbound: usize,
    /// Nodes of the DHT we are connected to.
    pub dht_peers: usize,
    /// Nodes in the routing table.
    pub known_nodes: usize,
    /// Streams that are open.
    pub streams: usize,
    /// Lookups and publications that run.
    pub queries: usize,
    /// Records stored for others.
    pub records: usize,
    /// What the record store has done since the start.
    pub record_counters: RecordCounters,
    /// Requests for records that others made of us: all, and those we had an answer to.
    pub lookups_served: u64,
    /// Those of the requests that found a record.
    pub lookups_hit: u64,
    /// Bytes of frames and of records received since the start.
    pub bytes_in: u64,
    /// Bytes of frames and of records sent since the start.
    pub bytes_out: u64,
    /// Connections refused by a limit since the start.
    pub refused_connections: u64,
    /// Peers that can be reached through us, where we are a relay.
    pub relay_reservations: usize,
    /// Connections between others that run through us.
    pub relay_circuits: usize,
    /// Those since the start.
    pub relay_circuits_total: u64,
    /// Reservations and circuits that we have refused since the start.
    pub relay_denied: u64,
    /// Calls to others to find out whether they can be reached, since the start.
    pub checks_called: u64,
    /// Requests for such calls that were refused by a limit.
    pub checks_denied: u64,
    /// Addresses we listen on.
    pub listening: Vec<Address>,
    /// Addresses we announce to other nodes; empty on a device.
    pub announced: Vec<Address>,
}

/// The network is gone: its task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network has ended")]
pub struct NetworkGone;

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on: the caller's choice, or another program's.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Address,
        /// What the system says.
        reason: String,
    },
    /// The transports could not be set up.
    #[error("cannot set up the transports: {0}")]
    Transport(String),
    /// The system's source of randomness failed.
    #[error(transparent)]
    Entropy(#[from] crate::entropy::EntropyError),
}

/// Something that carries commands out and tells what happened: [`crate::Network`], or a model of it in tests.
pub trait Transport: Send {
    /// Hands a command over. Waits while too many are waiting already.
    fn send(&self, command: Command) -> impl Future<Output = Result<(), NetworkGone>> + Send;

    /// The next event; `None` when there will be no more. Safe to drop before it is ready.
    fn next(&mut self) -> impl Future<Output = Option<NetEvent>> + Send;

    /// Ends it and waits until everything is closed, at most a few seconds. Events that were not taken are lost.
    fn end(self) -> impl Future<Output = ()> + Send;
}
