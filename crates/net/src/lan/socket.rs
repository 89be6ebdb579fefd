//! The system calls of the beacon sockets on Linux: sending from a chosen address of a chosen interface, and receiving
//! with interface, destination and hop limit.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::task::{Context, Poll, ready};

use handfast_proto::lan::io::{Addressed, Destination, Transmit};
use handfast_proto::wire::beacon::{BEACON_LEN, HOP_LIMIT, PORT};
use nix::cmsg_space;
use nix::libc::{c_int, in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
    setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket as System, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The groups that beacons are sent to (protocol, section 6.1).
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4846);

/// Bytes read of a datagram: one more than a beacon has, to tell a longer one.
const READ_LEN: usize = BEACON_LEN + 1;

/// Room for datagrams that wait to be read: some hundred. Whoever sends more sends them to nobody.
const RECEIVE_BUFFER: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

/// A datagram as it was read.
pub(super) struct Read {
    pub(super) interface: u32,
    pub(super) source: SocketAddr,
    pub(super) addressed: Addressed,
    pub(super) hop_limit: u8,
    bytes: [u8; READ_LEN],
    len: usize,
}

impl Read {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A beacon socket.
pub(super) struct Socket {
    system: UdpSocket,
    /// What it is for: one that is bound to the group hears the group alone, the other everything but the group.
    group: bool,
}

impl Socket {
    /// The socket of a family that everything is sent from, and that hears what is for this host or for everybody.
    pub(super) fn host(family: Family) -> io::Result<Socket> {
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let system = bound(SocketAddr::new(ip, PORT))?;
        match family {
            Family::V4 => {
                system.set_broadcast(true)?;
                system.set_ttl_v4(HOP_LIMIT.into())?;
                system.set_multicast_ttl_v4(HOP_LIMIT.into())?;
                system.set_multicast_loop_v4(true)?;
            }
            Family::V6 => {
                system.set_unicast_hops_v6(HOP_LIMIT.into())?;
                system.set_multicast_hops_v6(HOP_LIMIT.into())?;
                system.set_multicast_loop_v6(true)?;
            }
        }
        Ok(Socket { system: UdpSocket::from_std(system.into())?, group: false })
    }

    /// A socket that hears the group of a family on one interface. One for each: the system limits how many
    /// interfaces one socket may listen on (20), and this way an interface that fails fails alone.
    pub(super) fn group(family: Family, interface: u32) -> io::Result<Socket> {
        let system = match family {
            Family::V4 => {
                let system = bound(SocketAddrV4::new(GROUP_V4, PORT).into())?;
                system.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(interface))?;
                system
            }
            Family::V6 => {
                // A group of link scope with an interface as scope: the socket hears that interface alone.
                let system = bound(SocketAddrV6::new(GROUP_V6, PORT, 0, interface).into())?;
                system.join_multicast_v6(&GROUP_V6, interface)?;
                system
            }
        };
        Ok(Socket { system: UdpSocket::from_std(system.into())?, group: true })
    }

    /// Sends from port 18502 of the given address on the given interface, whatever the routes say.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        let index = transmit.interface;
        let fd = self.system.as_raw_fd();
        let bytes = [IoSlice::new(&transmit.bytes)];
        let sent = match (transmit.source, destination(transmit)) {
            (IpAddr::V4(source), Some(IpAddr::V4(to))) => {
                let from = in_pktinfo {
                    ipi_ifindex: c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
                    ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(to, PORT));
                sendmsg(fd, &bytes, &[ControlMessage::Ipv4PacketInfo(&from)], MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            (IpAddr::V6(source), Some(IpAddr::V6(to))) => {
                let from = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: source.octets() }, ipi6_ifindex: index };
                let scoped = to.is_multicast() || to.is_unicast_link_local();
                let to = SockaddrIn6::from(SocketAddrV6::new(to, PORT, 0, if scoped { index } else { 0 }));
                sendmsg(fd, &bytes, &[ControlMessage::Ipv6PacketInfo(&from)], MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            (IpAddr::V4(_), Some(IpAddr::V6(_)) | None) | (IpAddr::V6(_), Some(IpAddr::V4(_)) | None) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "from one family to the other"));
            }
        };
        sent?;
        Ok(())
    }

    /// The next datagram; `None` for one that is of no use, such as an error the system had kept.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<Read>> {
        loop {
            if ready!(self.system.poll_recv_ready(cx)).is_err() {
                // The runtime ends.
                return Poll::Pending;
            }
            match self.system.try_io(Interest::READABLE, || read(&self.system, self.group)) {
                Ok(read) => return Poll::Ready(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::trace!(%error, "beacon socket");
                    return Poll::Ready(None);
                }
            }
        }
    }
}

fn destination(transmit: &Transmit) -> Option<IpAddr> {
    Some(match (transmit.to, transmit.source) {
        (Destination::Group, IpAddr::V4(_)) => GROUP_V4.into(),
        (Destination::Group, IpAddr::V6(_)) => GROUP_V6.into(),
        (Destination::Broadcast(ip), IpAddr::V4(_)) => ip.into(),
        (Destination::Unicast(ip), IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        (Destination::Broadcast(_), IpAddr::V6(_)) => return None,
    })
}

/// A socket on the beacon's port, which several instances on a host share: each gets every datagram to the group or to
/// everybody. Only groups that this very socket has joined are heard, not those of other programs.
fn bound(address: SocketAddr) -> io::Result<System> {
    let system = System::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    system.set_nonblocking(true)?;
    system.set_reuse_address(true)?;
    system.set_reuse_port(true)?;
    system.set_recv_buffer_size(RECEIVE_BUFFER)?;
    match address {
        SocketAddr::V4(_) => {
            system.set_multicast_all_v4(false)?;
            setsockopt(&system, sockopt::Ipv4PacketInfo, &true)?;
            setsockopt(&system, sockopt::Ipv4RecvTtl, &true)?;
        }
        SocketAddr::V6(_) => {
            system.set_only_v6(true)?;
            // Kernels before 4.20 do not have it; `read` drops what comes through without it.
            let _ = system.set_multicast_all_v6(false);
            setsockopt(&system, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&system, sockopt::Ipv6RecvHopLimit, &true)?;
        }
    }
    system.bind(&address.into())?;
    Ok(system)
}

/// What the system says about a datagram.
#[derive(Default)]
struct About {
    interface: Option<u32>,
    addressed: Option<Addressed>,
    hop_limit: Option<u8>,
}

fn read(system: &UdpSocket, group: bool) -> io::Result<Option<Read>> {
    let mut bytes = [0; READ_LEN];
    let mut space = cmsg_space!(in6_pktinfo, c_int);
    let mut about = About::default();
    let (len, source) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<SockaddrStorage>(system.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
        for control in message.cmsgs()? {
            about.add(&control);
        }
        (message.bytes, message.address.and_then(socket_address))
    };
    let About { interface: Some(interface), addressed: Some(addressed), hop_limit: Some(hop_limit) } = about else {
        return Ok(None);
    };
    let Some(source) = source.filter(|_| group == (addressed == Addressed::Group)) else {
        return Ok(None);
    };
    Ok(Some(Read { interface, source, addressed, hop_limit, bytes, len }))
}

impl About {
    fn add(&mut self, control: &ControlMessageOwned) {
        // Only what was asked for comes.
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list is open")]
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let ip = |address: in_addr| Ipv4Addr::from(address.s_addr.to_ne_bytes());
                let (to, ours) = (ip(info.ipi_addr), ip(info.ipi_spec_dst));
                self.interface = u32::try_from(info.ipi_ifindex).ok();
                self.addressed = if to.is_multicast() {
                    (to == GROUP_V4).then_some(Addressed::Group)
                } else {
                    // The address an answer would come from: the very one the datagram was for, if that is ours.
                    Some(if to == ours { Addressed::Unicast } else { Addressed::Broadcast })
                };
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                self.interface = Some(info.ipi6_ifindex);
                self.addressed = if to.is_multicast() {
                    (to == GROUP_V6).then_some(Addressed::Group)
                } else {
                    Some(Addressed::Unicast)
                };
            }
            ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
                self.hop_limit = u8::try_from(*limit).ok();
            }
            _ => {}
        }
    }
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}
