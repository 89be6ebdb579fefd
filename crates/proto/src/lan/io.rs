//! What crosses between the machine of the local network and its driver: interfaces, datagrams, calls. No decision.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::addr::InterfaceAddress;
use crate::wire::beacon::BEACON_LEN;
use crate::wire::confirm::CONFIRM_LEN;

/// An interface of this machine, as the system has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Up, and with a carrier.
    pub up: bool,
    /// Says that it carries multicast.
    pub multicast: bool,
    /// Its addresses with their prefixes, in the system's order.
    pub addresses: Vec<InterfaceAddress>,
    /// The address for everybody on its first IPv4 network.
    pub broadcast: Option<Ipv4Addr>,
}

/// What kind of interface it is; those that lead to other machines of the same room come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterfaceKind {
    /// A network card, wired or wireless, or one end of a virtual cable.
    Network,
    /// A bridge, as containers and virtual machines of this host hang on.
    Bridge,
    /// A network with this host alone and its virtual machines.
    HostOnly,
    /// A tunnel: a VPN, an overlay.
    Tunnel,
    /// The machine itself.
    Loopback,
}

impl InterfaceKind {
    /// The name used in `status` and logs.
    pub fn name(self) -> &'static str {
        match self {
            InterfaceKind::Network => "network",
            InterfaceKind::Bridge => "bridge",
            InterfaceKind::HostOnly => "host_only",
            InterfaceKind::Tunnel => "tunnel",
            InterfaceKind::Loopback => "loopback",
        }
    }
}

/// Everything the system says about this machine's place in its networks, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces, by number.
    pub interfaces: Vec<Interface>,
    /// The source addresses the system would choose for a far destination, IPv4 and IPv6; none without a default route.
    pub outbound: Vec<IpAddr>,
    /// What could not be read, in words: one bad interface hides no other.
    pub errors: Vec<String>,
}

/// Which address of an interface a datagram leaves from, and for whom it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Everybody who listens to the beacon's group of the source's family, on this link.
    Group,
    /// Everybody on the link, IPv4.
    Broadcast(Ipv4Addr),
    /// One host of the link.
    Unicast(IpAddr),
}

/// A datagram to send: from UDP port [`crate::wire::beacon::PORT`] with hop limit 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// On which interface.
    pub interface: u32,
    /// From which of its addresses.
    pub source: IpAddr,
    /// For whom.
    pub to: Destination,
    /// What.
    pub bytes: [u8; BEACON_LEN],
}

/// How a datagram was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed {
    /// To the beacon's group.
    Group,
    /// To everybody on the link.
    Broadcast,
    /// To this host.
    Unicast,
}

/// A datagram that came in on the beacon's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// On which interface.
    pub interface: u32,
    /// From where.
    pub source: SocketAddr,
    /// How it was addressed.
    pub addressed: Addressed,
    /// Its hop limit, which is 255 if it crossed no router.
    pub hop_limit: u8,
    /// Its bytes; a longer datagram is cut one byte behind the size of a beacon, which no parser takes.
    pub bytes: Vec<u8>,
}

/// Names a confirmation listener, one per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// Names a call to a confirmation listener of another device or of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Names a call that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InCallId(pub u64);

/// A call to make: TLS 1.3 to exactly this key, C1 out, C2 in; 2 s to connect and 2 s to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutCall {
    /// Where to; an IPv6 link-local address has its interface as scope.
    pub to: SocketAddr,
    /// From which of our addresses.
    pub from: IpAddr,
    /// SHA-256 of the public key (SPKI) that must answer.
    pub spki: [u8; 32],
    /// C1.
    pub request: Box<[u8; CONFIRM_LEN]>,
}

/// A call that came in: C1 was read whole within 2 s, over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InCall {
    /// To which listener.
    pub listener: ListenerId,
    /// The local address of the accepted connection.
    pub local: SocketAddr,
    /// Who calls.
    pub remote: SocketAddr,
    /// C1.
    pub request: Box<[u8; CONFIRM_LEN]>,
}

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// Nothing came back in time.
    TimedOut,
    /// The host answers, the port does not.
    Refused,
    /// The link says that there is no such host (no answer to address resolution).
    NoHost,
    /// Somebody else answered: another key, or a handshake that proves nothing.
    WrongKey,
    /// Cut, or not what it should be.
    Broken,
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Joins the groups on every usable interface and keeps doing so as interfaces come and go, or leaves them all.
    /// Idempotent. While on, [`Event::Surroundings`] tells of each change.
    Open(bool),
    /// Sends.
    Send(Transmit),
    /// Starts a confirmation listener with a fresh key and a port of the system's choice, both families; answered by
    /// [`Event::Listening`] or [`Event::ListenFailed`].
    Listen(ListenerId),
    /// Ends one.
    Unlisten(ListenerId),
    /// Calls; answered by [`Event::CallDone`].
    Call(CallId, OutCall),
    /// Gives C2 to a call that came in, or nothing, and closes it.
    Answer(InCallId, Option<Box<[u8; CONFIRM_LEN]>>),
    /// Asks for the hosts of the links that the system knows; answered by [`Event::Neighbours`].
    Neighbours,
}

/// What the driver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Interfaces, addresses or routes are new or have changed; told at the start and while open.
    Surroundings(Surroundings),
    /// A datagram came in. At most 50 a second and source address are told (protocol, section 6.1).
    Received(Datagram),
    /// A datagram could not be sent.
    SendFailed {
        /// On which interface.
        interface: u32,
        /// For whom it was.
        to: Destination,
        /// What the system says.
        error: String,
    },
    /// A confirmation listener stands.
    Listening {
        /// Which.
        id: ListenerId,
        /// Its port.
        port: u16,
        /// SHA-256 of its public key.
        spki: [u8; 32],
    },
    /// It could not be started.
    ListenFailed {
        /// Which.
        id: ListenerId,
        /// What the system says.
        error: String,
    },
    /// Somebody calls; waits 2 s for [`Command::Answer`].
    Called(InCallId, InCall),
    /// A call is over.
    CallDone(CallId, Result<Box<[u8; CONFIRM_LEN]>, CallFailure>),
    /// On-link hosts that the system has an entry for (IPv4), with the interface they are on.
    Neighbours(Vec<(u32, Ipv4Addr)>),
}
