//! Links: how paired devices find each other again, prove who they are on every connection, and measure it.
//!
//! [`Links`] is driven like the session table: hand it inputs with `now`, drain [`Links::poll_output`], sleep until
//! [`Links::poll_timeout`]. It owns the only place that says whether a connection may use a paired device's protocols.

pub mod hello;
mod links;
mod presence;
mod seek;

use std::time::Duration;

use crate::addr::{Address, LoopbackPolicy, Path, RelayAddress};
use crate::id::{ConnId, DeviceKey, Identity, JobId, PairingId, StreamId, Tid};
use crate::secret::Secret;
use crate::session::Role;
use crate::time::UnixTime;
use crate::wire::frames::Frame;
use crate::wire::record::{Record, Topic};

pub use hello::{PairState, Tombstone};
pub use links::Links;

/// What the links need to know about their device.
pub struct Config {
    /// Our transport key in this run.
    pub tid: Tid,
    /// Our long-term identity.
    pub identity: Identity,
    /// Whether a DHT is configured at all.
    pub dht: bool,
    /// Whether loopback addresses may be used.
    pub loopback: LoopbackPolicy,
    /// Counts the starts of this device; orders the presence records of its runs.
    pub start: u32,
}

/// A pairing as the store holds it.
#[derive(Clone)]
pub struct Peer {
    /// Name of the pairing.
    pub pairing_id: PairingId,
    /// The peer's identity key.
    pub key: DeviceKey,
    /// Which side we were.
    pub role: Role,
    /// How far our commit got.
    pub state: PairState,
    /// Key material of the pairing.
    pub secret: Secret<32>,
    /// How far the peer's clock is ahead of ours, in seconds, when last heard.
    pub clock_offset: i64,
    /// Where the peer was last; never the address of a relay.
    pub addresses: Vec<Address>,
    /// When a pending pairing was stored, on our wall clock.
    pub since: UnixTime,
}

/// What the links want done.
pub enum Output {
    /// Write these frames to a stream, in one go.
    Send {
        /// To which stream.
        stream: StreamId,
        /// What.
        frames: Vec<Frame>,
    },
    /// Close a stream after what was sent.
    Finish(StreamId),
    /// Keep a connection alive although no stream is open, or stop doing so.
    Hold {
        /// Which.
        conn: ConnId,
        /// Whether.
        hold: bool,
    },
    /// The peer has proven itself on a connection through a relay: it may learn where we are, to make a direct one.
    Proven(ConnId),
    /// Try again to make a direct connection of this one, which runs through a relay.
    PunchAgain(ConnId),
    /// Close a connection that is not needed any more; its end is reported like any other.
    Close(ConnId),
    /// Do something and report its result under the same id.
    Job(JobId, Job),
    /// The result is no longer wanted.
    Cancel(JobId),
    /// Something happened.
    Event(Event),
}

/// Work that only a driver can do.
pub enum Job {
    /// Put a record into the DHT.
    Publish(Record),
    /// Look a topic up.
    LookUp(Topic),
    /// Connect. Without a key, whoever answers must prove itself by the hello: transport keys are random per start, so a
    /// remembered address says nothing of the key that answers there today.
    Dial {
        /// The key to expect, if known.
        tid: Option<Tid>,
        /// Where to try.
        addresses: Vec<Address>,
        /// Relays that lead to the device of this transport key; none without a key.
        relays: Vec<RelayAddress>,
    },
    /// Open a hello stream on a connection.
    OpenHello(ConnId),
    /// Open a ping stream on a connection.
    OpenPing(ConnId),
    /// Change the store durably.
    Store(StoreChange),
}

/// A change of the store.
pub enum StoreChange {
    /// pending -> paired: the next frame waits for it.
    Paired(PairingId),
    /// Delete a pending pairing whose time is over; with a tombstone if the peer may hold it as paired.
    Expired {
        /// Which.
        pairing_id: PairingId,
        /// What tells the peer later.
        tombstone: Option<Box<Tombstone>>,
    },
    /// Delete a pairing that the peer has ended, provably.
    Revoked(PairingId),
    /// The peer has read our notice; its tombstone needs no tag key any more.
    Acknowledged(PairingId),
    /// The peer was reached: remember where, and its clock. Nothing waits for it.
    Contact {
        /// Which pairing.
        pairing_id: PairingId,
        /// Where it was, best first; never the address of a relay.
        addresses: Vec<Address>,
        /// How far its clock is ahead of ours, in seconds.
        clock_offset: i64,
        /// How its link runs now.
        path: Path,
    },
}

/// A fact about a link. No secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A paired device is connected and has proved itself.
    Up {
        /// Which pairing.
        pairing_id: PairingId,
        /// How it runs.
        path: Path,
        /// Over which address: the relay's on [`Path::Relay`].
        address: Address,
    },
    /// The link to a paired device, which stayed up, runs another way from now on.
    PathChanged {
        /// Which pairing.
        pairing_id: PairingId,
        /// How it ran.
        from: Path,
        /// How it runs.
        to: Path,
        /// Over which address: the relay's on [`Path::Relay`].
        address: Address,
    },
    /// The last connection to a paired device is gone.
    Down {
        /// Which pairing.
        pairing_id: PairingId,
    },
    /// A pending pairing is stored on both sides now.
    Completed {
        /// Which pairing.
        pairing_id: PairingId,
        /// On which path it was finished.
        path: Path,
    },
    /// A pairing ended without us: its pending time is over, or the peer removed us.
    Gone {
        /// Which pairing.
        pairing_id: PairingId,
        /// Whether the peer ended it.
        by_them: bool,
    },
    /// A ping came back.
    Pong {
        /// The asker's number.
        token: u64,
        /// Round trip.
        rtt: Duration,
        /// How the connection that it took runs.
        path: Path,
        /// Over which address: the relay's on [`Path::Relay`].
        address: Address,
    },
    /// A ping got no answer in time.
    PingLost {
        /// The asker's number.
        token: u64,
        /// Whether the device was connected at all.
        connected: bool,
    },
}
