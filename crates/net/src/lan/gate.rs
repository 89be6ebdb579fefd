//! Who may call our confirmation listeners: hosts of the link, few at a time (protocol, sections 6.4 and 12).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use handfast_proto::addr::InterfaceAddress;
use handfast_proto::lan::io::{InCallId, Interface};
use tokio::time::Instant;

/// Connections of others at once, all listeners together. Calls of our own to ourselves are as many again: a stranger
/// must not be able to keep us from checking our addresses, nor the check keep peers out.
pub(super) const MAX_CONNECTIONS: usize = 8;

/// Connections of one source at once.
const MAX_PER_SOURCE: usize = 2;

/// Time after which a source has regained one new connection. It has two to begin with, so that a call that broke can be
/// made again at once, and two devices behind one address each get through.
const REGAIN: Duration = Duration::from_secs(5);

/// Sources whose new connections are remembered; each is forgotten after ten seconds. To fill this takes as many hosts
/// that answer on the link; then the one that will be forgotten first gives way.
const MAX_SOURCES: usize = 256;

/// Connections that are let in, and who made them lately.
#[derive(Default)]
pub(super) struct Gate {
    open: BTreeMap<InCallId, Caller>,
    /// When each source will have all its new connections back.
    full_at: BTreeMap<IpAddr, Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// The machine itself: the source is the very address that was called. The system lets nobody else use it.
    Ourselves,
    Other(IpAddr),
}

impl Gate {
    /// Lets a connection in, until [`Gate::release`], or refuses it.
    pub(super) fn admit(
        &mut self,
        id: InCallId,
        local: SocketAddr,
        remote: SocketAddr,
        interfaces: &[Interface],
        now: Instant,
    ) -> bool {
        let caller = if remote.ip() == local.ip() { Caller::Ourselves } else { Caller::Other(remote.ip()) };
        let admitted = match caller {
            Caller::Ourselves => self.count(|c| c == Caller::Ourselves) < MAX_CONNECTIONS,
            Caller::Other(source) => {
                on_link(local, remote, interfaces)
                    && self.count(|c| c != Caller::Ourselves) < MAX_CONNECTIONS
                    && self.count(|c| c == caller) < MAX_PER_SOURCE
                    && self.spend(source, now)
            }
        };
        if admitted {
            self.open.insert(id, caller);
        }
        admitted
    }

    /// The connection is over.
    pub(super) fn release(&mut self, id: InCallId) {
        self.open.remove(&id);
    }

    fn spend(&mut self, source: IpAddr, now: Instant) -> bool {
        self.full_at.retain(|_, at| *at > now);
        let full_at = self.full_at.get(&source).copied().unwrap_or(now);
        if full_at > now + REGAIN {
            return false;
        }
        if self.full_at.len() >= MAX_SOURCES
            && !self.full_at.contains_key(&source)
            && let Some(first) = self.full_at.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip)
        {
            self.full_at.remove(&first);
        }
        self.full_at.insert(source, full_at + REGAIN);
        true
    }

    fn count(&self, which: impl Fn(Caller) -> bool) -> usize {
        self.open.values().filter(|c| which(**c)).count()
    }
}

/// Whether `remote` is in a prefix of the interface that holds `local`. Loopback is no link: nobody else is on it.
fn on_link(local: SocketAddr, remote: SocketAddr, interfaces: &[Interface]) -> bool {
    let scope = |address: SocketAddr| match address {
        SocketAddr::V6(a) if a.ip().is_unicast_link_local() => Some(a.scope_id()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    };
    if remote.ip().is_loopback() || local.ip().is_loopback() {
        return false;
    }
    interfaces.iter().any(|interface| {
        interface.addresses.iter().any(|own| own.ip == local.ip())
            && interface.addresses.iter().any(|own| contains(own, remote.ip()))
            && [local, remote].into_iter().filter_map(scope).all(|index| index == interface.index)
    })
}

fn contains(own: &InterfaceAddress, ip: IpAddr) -> bool {
    let outside = match (own.ip, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() < u32::from(own.prefix_len),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() < u32::from(own.prefix_len),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => true,
    };
    !outside
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use handfast_proto::lan::io::InterfaceKind;

    use super::*;

    fn interfaces() -> Vec<Interface> {
        let interface = |index, addresses: &[(&str, u8)]| Interface {
            index,
            name: format!("eth{index}"),
            kind: InterfaceKind::Network,
            up: true,
            multicast: true,
            addresses: addresses
                .iter()
                .map(|(ip, prefix_len)| InterfaceAddress {
                    ip: ip.parse().expect("an address"),
                    prefix_len: *prefix_len,
                })
                .collect(),
            broadcast: None,
        };
        vec![
            interface(1, &[("127.0.0.1", 8), ("::1", 128)]),
            interface(2, &[("192.168.1.7", 24), ("fe80::7", 64), ("fd00::7", 64)]),
            interface(3, &[("10.0.0.7", 30), ("fe80::8", 64)]),
        ]
    }

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().expect("an address"), 5000)
    }

    fn link_local(text: &str, scope: u32) -> SocketAddr {
        SocketAddr::V6(SocketAddrV6::new(text.parse::<Ipv6Addr>().expect("an address"), 5000, 0, scope))
    }

    struct Test {
        gate: Gate,
        next: u64,
        now: Instant,
    }

    impl Test {
        fn new() -> Test {
            Test { gate: Gate::default(), next: 0, now: Instant::now() }
        }

        fn admit(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<InCallId> {
            self.next += 1;
            let id = InCallId(self.next);
            self.gate.admit(id, local, remote, &interfaces(), self.now).then_some(id)
        }
    }

    #[test]
    fn only_hosts_of_the_link_that_was_called_come_in() {
        let allowed = |local, remote| Test::new().admit(local, remote).is_some();
        assert!(allowed(at("192.168.1.7"), at("192.168.1.200")));
        assert!(!allowed(at("192.168.1.7"), at("192.168.2.1")));
        assert!(!allowed(at("192.168.1.7"), at("10.0.0.6")), "on the link of another interface");
        assert!(allowed(at("10.0.0.7"), at("10.0.0.6")));
        assert!(!allowed(at("10.0.0.7"), at("10.0.0.8")), "behind the prefix of 30 bits");
        assert!(!allowed(at("192.168.9.9"), at("192.168.9.1")), "an address that is not ours");
        assert!(allowed(at("fd00::7"), at("fd00::1")));
        assert!(!allowed(at("fd00::7"), at("2001:db8::1")));
        assert!(allowed(link_local("fe80::7", 2), link_local("fe80::1", 2)));
        assert!(!allowed(link_local("fe80::7", 2), link_local("fe80::1", 3)));
        assert!(!allowed(at("fd00::7"), link_local("fe80::1", 3)));
    }

    #[test]
    fn a38_of_loopback_only_the_called_address_itself_comes_in() {
        let allowed = |local, remote| Test::new().admit(local, remote).is_some();
        assert!(allowed(at("127.0.0.1"), at("127.0.0.1")));
        assert!(allowed(at("192.168.1.7"), at("192.168.1.7")));
        assert!(!allowed(at("127.0.0.1"), at("127.0.0.2")));
        assert!(!allowed(at("192.168.1.7"), at("127.0.0.1")));
    }

    #[test]
    fn a_third_connection_of_one_source_is_refused_and_a_ninth_of_all() {
        let mut test = Test::new();
        let (local, one) = (at("192.168.1.7"), at("192.168.1.100"));
        let first = test.admit(local, one).expect("the first");
        assert!(test.admit(local, one).is_some());
        assert!(test.admit(local, one).is_none());
        for n in 0..6 {
            assert!(test.admit(local, at(&format!("192.168.1.{n}"))).is_some(), "{n}");
        }
        assert!(test.admit(local, at("192.168.1.99")).is_none());
        for n in 0..MAX_CONNECTIONS {
            assert!(test.admit(local, local).is_some(), "our own, {n}");
        }
        assert!(test.admit(local, local).is_none());
        test.gate.release(first);
        assert!(test.admit(local, at("192.168.1.99")).is_some());
    }

    #[test]
    fn a_source_gets_two_new_connections_and_then_one_every_five_seconds() {
        let mut test = Test::new();
        let (local, one) = (at("192.168.1.7"), at("192.168.1.100"));
        let try_once = |test: &mut Test, seconds| {
            test.now += Duration::from_secs(seconds);
            let id = test.admit(local, one);
            id.map(|id| test.gate.release(id)).is_some()
        };
        let got: Vec<bool> = [0, 0, 0, 4, 1, 0, 5, 20, 0, 0].map(|s| try_once(&mut test, s)).to_vec();
        assert_eq!(got, [true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn the_memory_of_sources_is_bounded_and_forgets_by_itself() {
        let mut test = Test::new();
        let wide = Interface {
            addresses: vec![InterfaceAddress { ip: at("10.1.0.1").ip(), prefix_len: 8 }],
            ..interfaces().remove(2)
        };
        for n in 0..2_000_u32 {
            let source = SocketAddr::new(IpAddr::V4((0x0a02_0000 + n).into()), 1);
            let id = InCallId(u64::from(n));
            let interfaces = std::slice::from_ref(&wide);
            assert!(test.gate.admit(id, at("10.1.0.1"), source, interfaces, test.now), "{n}");
            test.gate.release(id);
        }
        assert_eq!(test.gate.full_at.len(), MAX_SOURCES);
        test.now += 2 * REGAIN;
        assert!(test.admit(at("192.168.1.7"), at("192.168.1.8")).is_some());
        assert_eq!(test.gate.full_at.len(), 1);
    }
}
