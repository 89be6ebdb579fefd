//! Sessions: one pairing attempt each, as initiator or as joiner, and the table that owns them.
//!
//! The table is the machine to drive: hand it commands, frames and finished jobs together with `now`, then drain
//! [`Table::poll_output`] until it is empty and sleep until [`Table::poll_timeout`]. It never waits, never draws the
//! time, and hands out everything that touches the world as [`Job`]s.

mod advertiser;
mod initiator;
mod joiner;
mod nearby;
mod reverse;
mod strangers;
mod strikes;
mod table;
mod vicinity;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{Address, LoopbackPolicy, Path, RelayAddress};
use crate::cause::Cause;
use crate::handshake::Agreement;
use crate::id::{ConnId, DeviceKey, Identity, JobId, PairingId, SessionId, StreamId, Tid};
use crate::lan::{NearbyDevice, Wanted, WindowId};
use crate::limits;
use crate::sas::Sas;
use crate::secret::Rng;
use crate::time::{Now, Time, UnixTime};
use crate::wire::beacon::Nid;
use crate::wire::frames::Frame;
use crate::wire::info::{DeviceInfo, DeviceName, DeviceType};
use crate::wire::record::{Record, Topic};

pub use strikes::{Striker, Strikes};
pub use vicinity::Vicinity;

pub use nearby::SelectError;
pub use table::{AnswerError, CancelError, JoinError, NearbyError, Table};

/// Which side of a pairing we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Shows the code.
    Initiator,
    /// Types or scans it.
    Joiner,
}

impl Role {
    /// The name used in lists.
    pub fn name(self) -> &'static str {
        match self {
            Role::Initiator => "initiator",
            Role::Joiner => "joiner",
        }
    }
}

/// What a table needs to know about its device.
pub struct Config {
    /// Our transport key in this run.
    pub tid: Tid,
    /// Our long-term identity.
    pub identity: Identity,
    /// Our name.
    pub name: DeviceName,
    /// Our type.
    pub kind: DeviceType,
    /// Whether a DHT is configured at all.
    pub dht: bool,
    /// Whether loopback addresses may be used.
    pub loopback: LoopbackPolicy,
    /// Whether the local network is searched.
    pub lan: bool,
    /// What a search that found nobody is called where no DHT is used: [`Cause::NoBootstrap`] if none is configured,
    /// [`Cause::NotFound`] if that is what the user wants.
    pub alone: Cause,
    /// The networks of the device, as far as they are known yet.
    pub vicinity: Vicinity,
}

/// Who answers the question of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// A person, when asked.
    Ask,
    /// The person said yes in advance, for this session alone (`--yes`).
    Given,
}

/// What a person wants of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who answers the question "Allow NAME?". Nobody but a person answers a comparison.
    pub consent: Consent,
    /// Both people compare emoji before either device shows its identity. The other side can ask for that as well.
    pub verify: bool,
}

impl From<Consent> for Options {
    /// Without a comparison of our own wish.
    fn from(consent: Consent) -> Options {
        Options { consent, verify: false }
    }
}

/// What a table wants done.
pub enum Output {
    /// Write these frames to a stream, in one go.
    Send {
        /// To which stream.
        stream: StreamId,
        /// What.
        frames: Vec<Frame>,
    },
    /// Close a stream after what was sent: we are done with this handshake.
    Finish(StreamId),
    /// Abandon a stream: the handshake may go on elsewhere.
    Reset(StreamId),
    /// Whoever is at the other end of this stream has proven the code: he may learn where we are, to make a direct
    /// connection of one through a relay.
    Proven(StreamId),
    /// Close a connection that stands and carries nothing: until then it would be the answer to every dial.
    Close(ConnId),
    /// Do something and report its result under the same id.
    Job(JobId, Job),
    /// The result is no longer wanted.
    Cancel(JobId),
    /// Something happened that people and programs may want to know.
    Event(Event),
    /// Open, end or close a window on the local network.
    Window(WindowId, Wanted),
}

/// Work that only a driver can do. It holds no decision; whether it takes too long is the table's business.
pub enum Job {
    /// Put a record into the DHT; answered by [`JobResult::Published`].
    Publish(Record),
    /// Look a topic up; answered by any number of [`JobResult::Found`] and one [`JobResult::LookedUp`].
    LookUp(Topic),
    /// Connect to a device, racing all ways there.
    Dial {
        /// The transport key to expect; none for a device that was found on the local network, of which only the address
        /// is known. (The handshake binds the key that answers.)
        tid: Option<Tid>,
        /// Where to try.
        addresses: Vec<Address>,
        /// Relays that lead to the device of this transport key; none without a key.
        relays: Vec<RelayAddress>,
    },
    /// Open a pairing stream on a connection.
    OpenStream(ConnId),
    /// Change the store durably: the answer comes after the disk has it.
    Store(StoreChange),
    /// Reach a device of which we hold a pending pairing and finish by hello (section 8); the links answer with
    /// [`Table::completed`], nobody else.
    Reach {
        /// The pairing to finish.
        pairing_id: PairingId,
        /// Its transport key in this run.
        tid: Tid,
        /// Where it was.
        addresses: Vec<Address>,
        /// Relays that lead to it.
        relays: Vec<RelayAddress>,
    },
}

/// A change of the store that must be on disk before the next frame is sent.
pub enum StoreChange {
    /// Store a pending pairing.
    Pending(Box<PendingPairing>),
    /// pending -> paired.
    Paired(PairingId),
    /// pending -> none: the joiner declined.
    Forget(PairingId),
}

/// A pairing that one side holds and the other may not yet.
#[derive(Clone)]
pub struct PendingPairing {
    /// Peer, secret and name of the pairing.
    pub agreement: Agreement,
    /// Which side we were.
    pub role: Role,
    /// The path on which it was made.
    pub path: Path,
    /// Where the peer was; never the address of a relay.
    pub addresses: Vec<Address>,
}

/// What came of a job.
pub enum JobResult {
    /// So many nodes stored the record.
    Published {
        /// Zero is not an error: it is tried again.
        stored_on: usize,
    },
    /// A look-up brought a record (and goes on).
    Found(Record),
    /// A look-up ended.
    LookedUp {
        /// Nodes that answered, with or without a record.
        answered: usize,
    },
    /// Connected.
    Dialled(Reached),
    /// Not connected.
    DialFailed(DialFailure),
    /// The stream is open.
    StreamOpened(StreamId),
    /// The stream could not be opened.
    StreamFailed,
    /// The change is on disk.
    Stored,
    /// The change is not on disk.
    StoreFailed,
}

/// Why a dial brought no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Every address refused: a machine answers, the program does not.
    Refused,
    /// No answer in time, or no way there.
    NoAnswer,
    /// The link knows no host of this address.
    NoHost,
    /// Somebody answered under another key.
    WrongPeer,
}

/// How a stream ended on the peer's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer closed it on purpose: it has wiped its side of the handshake.
    Finished,
    /// The connection broke, or the peer abandoned the stream: the handshake may be resumed.
    Lost,
}

/// A stream that somebody opened to us, and over what it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The transport key of who opened it, verified by the transport.
    pub tid: Tid,
    /// The address it comes from: the relay's on [`Path::Relay`].
    pub address: Address,
    /// How the connection runs.
    pub path: Path,
    /// The address of ours at which it came in; only of a connection over TCP that the other side has made. (QUIC knows
    /// no more than that it listens on all.)
    pub local: Option<IpAddr>,
}

impl Inbound {
    /// The peer's own address, if it is known: see [`Path::own_address`].
    pub fn own_address(&self) -> Option<Address> {
        self.path.own_address(self.address)
    }
}

/// A connection to another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The connection.
    pub conn: ConnId,
    /// The transport key of the other side, verified by the transport.
    pub tid: Tid,
    /// The address it runs over: the relay's on [`Path::Relay`].
    pub address: Address,
    /// How it runs.
    pub path: Path,
}

impl Reached {
    /// The peer's own address, if it is known: see [`Path::own_address`].
    pub fn own_address(&self) -> Option<Address> {
        self.path.own_address(self.address)
    }
}

/// How a device was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// By its record in the DHT.
    Dht,
    /// By the address hints of its QR text.
    Qr,
    /// By its beacon, or its call, on the local network.
    Lan,
}

impl FoundBy {
    /// The name used in events.
    pub fn name(self) -> &'static str {
        match self {
            FoundBy::Dht => "dht",
            FoundBy::Qr => "qr",
            FoundBy::Lan => "lan",
        }
    }
}

/// A device as shown to people before and after they agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCard {
    /// Its identity key; id and fingerprint follow from it.
    pub key: DeviceKey,
    /// The name it claims.
    pub name: DeviceName,
    /// The type it claims.
    pub kind: DeviceType,
}

impl PeerCard {
    fn of(key: DeviceKey, info: &DeviceInfo) -> PeerCard {
        PeerCard { key, name: info.name.clone(), kind: info.kind }
    }
}

/// A fact about a session, in the past tense. No secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The record of a code lies on so many nodes.
    CodeAdvertised {
        /// Which session.
        session: SessionId,
        /// On how many nodes of the DHT.
        nodes: usize,
    },
    /// Something is known to be wrong, while the search still goes on.
    TroubleNoticed {
        /// Which session.
        session: SessionId,
        /// What it will be called if nothing else helps.
        cause: Cause,
    },
    /// The other device was found.
    SessionDiscovered {
        /// Which session.
        session: SessionId,
        /// How.
        found_by: FoundBy,
        /// Where it says it is, without the relays that lead to it.
        addresses: Vec<Address>,
    },
    /// A connection to the other device stands.
    Connected {
        /// Which session.
        session: SessionId,
        /// How it runs.
        path: Path,
        /// Over which address: the relay's on [`Path::Relay`].
        address: Address,
    },
    /// A person must answer.
    ApprovalNeeded {
        /// Which session.
        session: SessionId,
        /// Who asks.
        device: PeerCard,
        /// How the connection runs.
        path: Path,
    },
    /// A person must compare both screens, and answer with [`Table::compare`]. It is the session's question: after a match
    /// nothing more is asked.
    ComparisonNeeded {
        /// Which session.
        session: SessionId,
        /// What this screen shows.
        sas: Sas,
        /// How the connection runs.
        path: Path,
    },
    /// A device that is ready to pair is near, or more is known of it than before. Nothing of it is proven.
    DeviceSeen {
        /// Which session of `pair nearby`.
        session: SessionId,
        /// The device.
        device: NearbyDevice,
    },
    /// A device that was seen is silent or says that it is not ready any more.
    DeviceGone {
        /// Which session of `pair nearby`.
        session: SessionId,
        /// Which device.
        nid: Nid,
    },
    /// The comparison that somebody nearby asked for was turned down here; the session goes on waiting.
    RequestRejected {
        /// Which session of `pair nearby`.
        session: SessionId,
    },
    /// Both sides have stored the pairing. Ends the session.
    Paired {
        /// Which session.
        session: SessionId,
        /// The pairing.
        pairing_id: PairingId,
        /// With whom.
        device: PeerCard,
        /// The transport key of the device on the connection where the pairing was finished.
        tid: Tid,
        /// On which path.
        path: Path,
        /// Since the joiner's start, or since the joiner reached the initiator.
        elapsed: Duration,
    },
    /// The session ended without a pairing.
    PairingFailed {
        /// Which session.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
}

/// What `pair status` shows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which.
    pub session: SessionId,
    /// Which side we are.
    pub role: Role,
    /// Where it stands, one word.
    pub state: &'static str,
    /// When its code ends on our wall clock; for an initiator's open session.
    pub expires_at: Option<UnixTime>,
    /// The peer, once it proved itself.
    pub device: Option<PeerCard>,
    /// The path, once connected.
    pub path: Option<Path>,
    /// What a person is asked to compare now.
    pub sas: Option<Sas>,
    /// Why it failed, if it did.
    pub cause: Option<Cause>,
}

/// What leads to this device.
#[derive(Default)]
struct Whereabouts {
    /// Our dialable addresses, best first.
    addresses: Vec<Address>,
    /// The relays at which we have a place.
    relays: Vec<RelayAddress>,
}

/// What a session's handler may use: the moment, the generator, and where to put what it wants done.
struct Context<'a> {
    now: Now,
    config: &'a Config,
    rng: &'a mut Rng,
    out: &'a mut VecDeque<Output>,
    next_job: &'a mut u64,
    owners: &'a mut BTreeMap<JobId, u64>,
    owner: u64,
    strikes: &'a mut Strikes,
    /// Pairings that exist or existed.
    held: &'a BTreeSet<PairingId>,
    /// Another session of this device has a comparison going.
    others_compare: bool,
}

impl Context<'_> {
    fn job(&mut self, job: Job) -> JobId {
        let id = JobId(*self.next_job);
        *self.next_job += 1;
        self.owners.insert(id, self.owner);
        self.out.push_back(Output::Job(id, job));
        id
    }

    /// A job that has no answer of its own.
    fn errand(&mut self, job: Job) {
        let id = JobId(*self.next_job);
        *self.next_job += 1;
        self.out.push_back(Output::Job(id, job));
    }

    fn send(&mut self, stream: StreamId, frames: Vec<Frame>) {
        self.out.push_back(Output::Send { stream, frames });
    }

    fn proven(&mut self, stream: StreamId) {
        self.out.push_back(Output::Proven(stream));
    }

    fn close(&mut self, conn: ConnId) {
        self.out.push_back(Output::Close(conn));
    }

    fn finish(&mut self, stream: StreamId) {
        self.out.push_back(Output::Finish(stream));
    }

    fn reset(&mut self, stream: StreamId) {
        self.out.push_back(Output::Reset(stream));
    }

    fn cancel(&mut self, job: JobId) {
        self.owners.remove(&job);
        self.out.push_back(Output::Cancel(job));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn own_info(&self) -> DeviceInfo {
        DeviceInfo { name: self.config.name.clone(), kind: self.config.kind, clock: Some(self.now.unix) }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Paired,
    Failed(Cause),
}

/// The earlier of two optional moments.
pub(crate) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// The addresses to remember of a peer: the one at which it is, if that is known, then the others.
pub(crate) fn best_first(best: Option<Address>, all: &[Address]) -> Vec<Address> {
    let mut out: Vec<Address> = Vec::new();
    for address in best.iter().chain(all) {
        if out.len() < limits::MAX_REMEMBERED && !out.contains(address) {
            out.push(*address);
        }
    }
    out
}

/// What the person at this device said to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allow,
    Deny,
}

/// Which question of a session a person can answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// "Allow NAME?"
    Approval,
    /// "Do both devices show the same?"
    Comparison,
}
