//! What gets through between alice and bob, measured with sockets of the lab's own: the network is judged before the
//! program is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_ip_multicast_if;

use super::LanLab;
use super::observe::{OwnAddress, addresses};
use crate::host::Host;
use crate::ns::Namespace;

/// How long a probe may be under way; over these cables everything that arrives does so within a millisecond.
const PROBE_LIMIT: Duration = Duration::from_millis(300);

/// Groups of the link, as beacons use them.
const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 254);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4846);

/// An address that is nobody's neighbour.
const FAR4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), 53);
const FAR6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)), 53);

/// Something from alice to bob, and from bob to alice.
pub type Both = [bool; 2];

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// ICMP to an IPv4 address, and back.
    pub ping4: Both,
    /// ICMP to an IPv6 address, and back.
    pub ping6: Both,
    /// A TCP connection.
    pub tcp: Both,
    /// A datagram to an IPv4 group.
    pub multicast4: Both,
    /// A datagram to an IPv6 group.
    pub multicast6: Both,
    /// A datagram to everybody on the link.
    pub broadcast: Both,
    /// Has alice, and has bob, a route to far addresses?
    pub default_route: Both,
}

/// A device as the other one meets it.
struct End {
    host: Host,
    interface: &'static str,
    v4: Option<OwnAddress>,
    v6: Option<OwnAddress>,
}

/// Measures what gets through between alice and bob.
///
/// # Errors
/// When a socket cannot be made; that nothing arrives is no error.
pub fn measure(lab: &LanLab) -> Result<Reach> {
    let (alice, bob) = (End::of(lab, "alice")?, End::of(lab, "bob")?);
    let both = |way: fn(&End, &End) -> Result<bool>| -> Result<Both> { Ok([way(&alice, &bob)?, way(&bob, &alice)?]) };
    Ok(Reach {
        ping4: both(|from, to| Ok(to.v4.as_ref().is_some_and(|to| ping(from.host.namespace(), to.ip))))?,
        ping6: both(|from, to| Ok(to.v6.as_ref().is_some_and(|to| ping(from.host.namespace(), to.ip))))?,
        tcp: both(|from, to| connects(from.host.namespace(), to.host.namespace(), to.ip()?))?,
        multicast4: both(multicast4)?,
        multicast6: both(multicast6)?,
        broadcast: both(broadcast)?,
        default_route: [has_default_route(&alice)?, has_default_route(&bob)?],
    })
}

/// Does an address answer an ICMP echo? It is asked again after a second, and after another one: a busy machine may need
/// longer than that to find out who has the address.
#[must_use]
pub fn ping(from: &Namespace, to: IpAddr) -> bool {
    from.tool("ping", &["-n", "-q", "-c", "1", "-w", "3", &to.to_string()]).is_ok()
}

/// Does a TCP connection to a listener there come about?
///
/// # Errors
/// When a socket cannot be made.
pub fn connects(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<bool> {
    let listener = to.enter(|| TcpListener::bind((address, 0)))??;
    let address = listener.local_addr()?;
    Ok(from.enter(|| TcpStream::connect_timeout(&address, PROBE_LIMIT))?.is_ok())
}

fn multicast4(from: &End, to: &End) -> Result<bool> {
    let (Some(source), Some(target)) = (from.ipv4(), to.ipv4()) else { return Ok(false) };
    let sender = bound(from.host.namespace(), SocketAddr::new(source.into(), 0))?;
    // Always by interface: without a default route there would be no way to a group.
    set_ip_multicast_if(&sender, &source)?;
    let receiver = bound(to.host.namespace(), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?;
    receiver.join_multicast_v4(&GROUP4, &target)?;
    let port = receiver.local_addr()?.port();
    arrives(&sender, &receiver, SocketAddr::new(GROUP4.into(), port))
}

fn multicast6(from: &End, to: &End) -> Result<bool> {
    let Some(source) = &from.v6 else { return Ok(false) };
    let sender = bound(from.host.namespace(), SocketAddr::new(source.ip, 0))?;
    let receiver = bound(to.host.namespace(), SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0))?;
    let index = to.host.namespace().enter(|| name_to_index(&receiver, to.interface))??;
    receiver.join_multicast_v6(&GROUP6, index)?;
    let scope = from.host.namespace().enter(|| name_to_index(&sender, from.interface))??;
    let group = SocketAddrV6::new(GROUP6, receiver.local_addr()?.port(), 0, scope);
    arrives(&sender, &receiver, group.into())
}

fn broadcast(from: &End, to: &End) -> Result<bool> {
    let (Some(source), Some(_)) = (&from.v4, &to.v4) else { return Ok(false) };
    let IpAddr::V4(own) = source.ip else { return Ok(false) };
    let everybody = Ipv4Addr::from_bits(own.to_bits() | u32::MAX.checked_shr(u32::from(source.prefix)).unwrap_or(0));
    let sender = bound(from.host.namespace(), SocketAddr::new(source.ip, 0))?;
    sender.set_broadcast(true)?;
    let receiver = bound(to.host.namespace(), SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))?;
    let port = receiver.local_addr()?.port();
    arrives(&sender, &receiver, SocketAddr::new(everybody.into(), port))
}

/// Two datagrams, the second in case the first only taught somebody an address.
fn arrives(sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) -> Result<bool> {
    for _ in 0..2 {
        sender.send_to(b"probe", to).context("sending a probe")?;
        let mut buffer = [0; 16];
        if receiver.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *b"probe") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Connecting a UDP socket asks the routes and sends nothing.
fn has_default_route(end: &End) -> Result<bool> {
    let knows = |own: SocketAddr, far: SocketAddr| {
        let found = end.host.namespace().enter(|| UdpSocket::bind(own).and_then(|socket| socket.connect(far)));
        found.map(|way| way.is_ok())
    };
    let v4 = knows(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), FAR4)?;
    Ok(v4 || knows(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), FAR6)?)
}

fn bound(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    let socket = namespace.enter(|| UdpSocket::bind(address))?.with_context(|| format!("binding {address}"))?;
    socket.set_read_timeout(Some(PROBE_LIMIT))?;
    Ok(socket)
}

impl End {
    fn of(lab: &LanLab, name: &str) -> Result<Self> {
        let (host, interface) = (lab.host(name)?, lab.profile().shared_interface(name));
        let own = addresses(host.namespace())?;
        let first = |v4: bool| {
            let mut usable = own.iter().filter(|a| a.interface == interface && !a.is_link_local());
            usable.find(|a| a.ip.is_ipv4() == v4).cloned()
        };
        Ok(Self { v4: first(true), v6: first(false), host, interface })
    }

    fn ip(&self) -> Result<IpAddr> {
        let address = self.v4.as_ref().or(self.v6.as_ref());
        address.map(|address| address.ip).with_context(|| format!("{} has no address", self.host.name()))
    }

    fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.v4.as_ref()?.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        }
    }
}
