//! Which way packets to an address leave this machine, and a watch that tells when that may have changed.
//!
//! Nobody tells a connection that its way is gone: the other end goes on sending to where we were, and only silence shows
//! it. The system knows at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};

use handfast_proto::addr::{InterfaceAddress, Path};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tokio::io::unix::AsyncFd;

use crate::interfaces;

/// Of rtnetlink(7): links, and the addresses and routes of both families.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// One message, or as much of it as does not matter: what changed is looked at, not read.
const MESSAGE: usize = 4_096;

/// Messages that are taken at once: one change of a network brings a few dozen.
const AT_ONCE: usize = 256;

/// The way of packets to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The address of ours that they come from.
    pub(crate) source: IpAddr,
    /// The router that leads out of our networks, for the family; none for what is in one of them.
    pub(crate) gateway: Option<IpAddr>,
}

/// The way to `ip`; `None` as long as there is none. Nothing is sent.
pub(crate) fn way_to(ip: IpAddr) -> Option<Way> {
    let source = source_for(SocketAddr::new(ip, 9))?;
    let own: Vec<InterfaceAddress> = interfaces::list().into_iter().map(|interface| interface.address).collect();
    let is_near = ip.is_loopback() || Path::of(ip, &own) == Path::Lan;
    let gateway = if is_near { None } else { gateway(ip.is_ipv4()) };
    Some(Way { source, gateway })
}

/// The source address for `far`: connecting a UDP socket asks the routes and sends nothing.
fn source_for(far: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The next hops of the default routes of IPv4, the best first.
pub(crate) fn gateways_v4() -> Vec<Ipv4Addr> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut routes: Vec<(u32, IpAddr)> = text.lines().filter_map(default_v4).collect();
    routes.sort_by_key(|(metric, _)| *metric);
    let v4 = |(_, gateway)| match gateway {
        IpAddr::V4(gateway) => Some(gateway),
        IpAddr::V6(_) => None,
    };
    routes.into_iter().filter_map(v4).collect()
}

/// The address of ours from which packets go to a host of IPv4.
pub(crate) fn source_v4(far: Ipv4Addr) -> Option<Ipv4Addr> {
    match source_for(SocketAddr::new(far.into(), 9))? {
        IpAddr::V4(source) => Some(source),
        IpAddr::V6(_) => None,
    }
}

/// The next hop of the best default route.
fn gateway(v4: bool) -> Option<IpAddr> {
    let text = std::fs::read_to_string(if v4 { "/proc/net/route" } else { "/proc/net/ipv6_route" }).ok()?;
    let routes = text.lines().filter_map(if v4 { default_v4 } else { default_v6 });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, addresses as the machine stores them.
fn default_v4(line: &str) -> Option<(u32, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let is_default = hex(1)? == 0 && hex(7)? == 0;
    let gateway = Ipv4Addr::from(hex(2)?.to_ne_bytes());
    let metric = fields.get(6)?.parse().ok()?;
    (is_default && !gateway.is_unspecified()).then_some((metric, gateway.into()))
}

/// `destination length source length next_hop metric …`, addresses in the order of the network.
fn default_v6(line: &str) -> Option<(u32, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_default = u128::from_str_radix(fields.first()?, 16).ok()? == 0 && *fields.get(1)? == "00";
    let gateway = Ipv6Addr::from(u128::from_str_radix(fields.get(4)?, 16).ok()?);
    let metric = u32::from_str_radix(fields.get(5)?, 16).ok()?;
    (is_default && !gateway.is_unspecified()).then_some((metric, gateway.into()))
}

/// Tells that links, addresses or routes have changed.
pub(crate) struct Watch(Option<AsyncFd<OwnedFd>>);

impl Watch {
    /// Without it a lost network is still noticed, by silence.
    pub(crate) fn start() -> Watch {
        let watch = subscribe().inspect_err(|error| tracing::warn!(%error, "no watch on routes"));
        Watch(watch.ok())
    }

    /// Waits for the next change; never returns where nothing is told. Safe to drop before it is ready.
    pub(crate) async fn changed(&mut self) {
        let Some(fd) = &self.0 else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = fd.readable().await else { return std::future::pending().await };
            let mut taken = 0;
            while taken < AT_ONCE {
                let mut buffer = [0; MESSAGE];
                match recv(fd.get_ref().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(_) => taken += 1,
                    // More than it holds has come: something has changed.
                    Err(nix::errno::Errno::ENOBUFS) => taken += 1,
                    Err(_) => {
                        ready.clear_ready();
                        break;
                    }
                }
            }
            if taken > 0 {
                return;
            }
        }
    }
}

#[expect(deprecated, reason = "what replaces it is unsafe; nobody else closes a descriptor that we own")]
fn subscribe() -> std::io::Result<AsyncFd<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    AsyncFd::new(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_comes_from_there() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let way = way_to(loopback).expect("loopback is up");
        assert_eq!(way.source, loopback);
        assert_eq!(way_to(loopback), Some(way));
    }

    #[test]
    fn default_routes_are_found_in_the_tables_of_the_system() {
        let bytes = u32::from_ne_bytes([10, 0, 2, 2]);
        let line = format!("eth0\t00000000\t{bytes:08X}\t0003\t0\t0\t100\t00000000\t0\t0\t0");
        assert_eq!(default_v4(&line), Some((100, IpAddr::from([10, 0, 2, 2]))));
        for other in [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
            "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "wg0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
            "",
        ] {
            assert_eq!(default_v4(other), None, "{other}");
        }
        let zero = "0".repeat(32);
        let hop = "fe800000000000000000000000000001";
        let line = format!("{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00000003 eth0");
        assert_eq!(default_v6(&line), Some((0x400, "fe80::1".parse().expect("an address"))));
        let reject = format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo");
        assert_eq!(default_v6(&reject), None);
    }
}
