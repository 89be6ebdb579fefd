//! Hosts that are far from each other: the profile `two-networks` ([`crate::lan`] has those that share a room).
//!
//! Every host is alone in a public /24 and /64 of its own, on an access link to one backbone router, or behind a NAT that
//! has these ([`crate::nat`]). The backbone is the observer's place; there is no DNS, no way out.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::host::Host;
use crate::link::{Emulator, EmulatorBuilder, End, Link};
use crate::nat::{self, Nat, Routers};
use crate::ns::{LabName, Namespace};
use crate::process::Running;

/// Delay of an access link in each direction: 25 ms one way between any two hosts, 50 ms a round trip.
pub const ACCESS_DELAY: Duration = Duration::from_micros(12_500);

/// Hosts of a lab: their number is a byte of their addresses, and 1 to 250 leaves broadcast and network alone.
const HOSTS_MAX: usize = 250;

/// The interface of every host.
const HOST_INTERFACE: &str = "eth0";

/// Puts a lab together.
pub struct LabBuilder {
    hosts: Vec<(String, Duration)>,
    nats: Vec<(String, Nat)>,
    delay: Duration,
    seed: u64,
}

/// A running lab. What it made is taken away when it and all its hosts are dropped.
pub struct Lab {
    hosts: Vec<AccessHost>,
    _emulator: Emulator,
    router: Namespace,
    dir: TempDir,
}

/// A host alone in a network of its own, at the end of an access link.
#[derive(Clone)]
pub struct AccessHost(Arc<AccessHostInner>);

struct AccessHostInner {
    host: Host,
    number: u8,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    link: Link,
    _mapper: Option<Running>,
    _routers: Routers,
}

impl Lab {
    /// The profile of two devices on different networks: hosts `alice`, `bob`, `attacker`, and `nodes` hosts for the
    /// DHT called `node-0` and so on.
    #[must_use]
    pub fn two_networks(nodes: usize) -> LabBuilder {
        let mut builder = Lab::empty();
        for name in ["alice", "bob", "attacker"] {
            builder = builder.host(name);
        }
        for index in 0..nodes {
            builder = builder.host(&format!("node-{index}"));
        }
        builder
    }

    /// No hosts yet.
    #[must_use]
    pub fn empty() -> LabBuilder {
        LabBuilder { hosts: Vec::new(), nats: Vec::new(), delay: ACCESS_DELAY, seed: 1 }
    }

    /// The host called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, name: &str) -> Result<AccessHost> {
        let host = self.hosts.iter().find(|host| host.name() == name);
        host.cloned().with_context(|| format!("the lab has no host {name}"))
    }

    /// The hosts meant for DHT nodes, in their order.
    #[must_use]
    pub fn nodes(&self) -> Vec<AccessHost> {
        self.hosts.iter().filter(|host| host.name().starts_with("node-")).cloned().collect()
    }

    /// The backbone router, which every packet between two hosts crosses.
    #[must_use]
    pub fn backbone(&self) -> &Namespace {
        &self.router
    }

    /// The directory that holds everything the lab's hosts and programs write.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl LabBuilder {
    /// Adds a host with the lab's usual access delay.
    #[must_use]
    pub fn host(mut self, name: &str) -> Self {
        self.hosts.push((name.to_owned(), self.delay));
        self
    }

    /// Adds a host with the lab's usual access delay, and this in front of it.
    #[must_use]
    pub fn behind(mut self, nat: Nat, name: &str) -> Self {
        self.nats.push((name.to_owned(), nat));
        self.host(name)
    }

    /// Sets the access delay of all hosts, those already added and those to come.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        for (_, of_host) in &mut self.hosts {
            *of_host = delay;
        }
        self
    }

    /// Sets the access delay of one host; zero is allowed.
    #[must_use]
    pub fn host_delay(mut self, name: &str, delay: Duration) -> Self {
        for (host, of_host) in &mut self.hosts {
            if host == name {
                *of_host = delay;
            }
        }
        self
    }

    /// Sets the seed that decides which frames are lost.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes namespaces, links, addresses and routes.
    ///
    /// # Errors
    /// When a part cannot be made; what was made is removed again.
    pub fn build(self) -> Result<Lab> {
        ensure!(self.hosts.len() <= HOSTS_MAX, "a lab has at most {HOSTS_MAX} hosts");
        let name = LabName::unique();
        // Short, since a control socket's whole path must fit 107 bytes.
        let dir = tempfile::Builder::new().prefix(&name.prefix()).tempdir().context("a directory for the lab")?;
        let router = Namespace::create(&name, "backbone")?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let mut links = EmulatorBuilder::new(Namespace::create(&name, "links")?, self.seed)?;
        let mut hosts = Vec::new();
        for (index, (host, delay)) in self.hosts.iter().enumerate() {
            let number = u8::try_from(index + 1).context("too many hosts")?;
            let namespace = Namespace::create(&name, host)?;
            let nat = self.nats.iter().find(|(behind, _)| behind == host).map_or(Nat::Open, |(_, nat)| *nat);
            let routers = Routers::new(nat, &name, number, host, dir.path())?;
            let link = connect(&mut links, number, routers.outermost(&namespace), &router)?;
            link.set_delay(*delay);
            let mapper = routers.wire(&namespace, ipv4(number, 2))?;
            let mut global = ipv6(number, 2);
            if nat.routes_ipv6() {
                let network = format!("{}/64", network_behind(number));
                router.ip(&["route", "add", &network, "via", &global.to_string()])?;
                global = nat::global_inside(number);
            }
            hosts.push(AccessHost(Arc::new(AccessHostInner {
                host: Host::new(host, namespace, dir.path())?,
                number,
                ipv4: ipv4(number, 2),
                ipv6: global,
                link,
                _mapper: mapper,
                _routers: routers,
            })));
        }
        Ok(Lab { hosts, _emulator: links.start()?, router, dir })
    }
}

impl AccessHost {
    /// Its public IPv4 address: that of its outermost router, if there is one.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.0.ipv4
    }

    /// Its IPv6 address, unless there is a router behind which is none.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        self.0.ipv6
    }

    /// Gives it other addresses of its network, which end in `last`; in the beginning that is 2. Not for a host behind a
    /// router.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn renumber(&self, last: u8) -> Result<()> {
        let network = self.0.number;
        let mut commands = format!("addr flush dev {HOST_INTERFACE} scope global\n");
        // Writing to a String cannot fail.
        let _ = writeln!(commands, "addr add {}/24 dev {HOST_INTERFACE}", ipv4(network, last));
        let _ = writeln!(commands, "addr add {}/64 dev {HOST_INTERFACE} nodad", ipv6(network, last));
        for router in [IpAddr::from(ipv4(network, 1)), IpAddr::from(ipv6(network, 1))] {
            let _ = writeln!(commands, "route replace default via {router} dev {HOST_INTERFACE}");
        }
        self.namespace().enter(|| crate::ns::ip_batch(&commands))?
    }

    /// Its access link; end `a` is the host, end `b` the backbone.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.0.link
    }
}

impl Deref for AccessHost {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.0.host
    }
}

fn ipv4(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(5, 1, network, host)
}

fn ipv6(network: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2a0a, 0x4840, u16::from(network), 0, 0, 0, 0, u16::from(host))
}

/// The global IPv6 network behind a host's router, where there is one.
pub(crate) fn network_behind(network: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2a0a, 0x4840, network.into(), 1, 0, 0, 0, 0)
}

/// Gives a host its access link, addresses and routes. The neighbour entries are fixed: finding out who has an address
/// is not part of what is measured.
fn connect(links: &mut EmulatorBuilder, number: u8, host: &Namespace, router: &Namespace) -> Result<Link> {
    let router_interface = format!("h{number}");
    let (host_mac, router_mac) = (format!("02:68:66:00:{number:02x}:02"), format!("02:68:66:00:{number:02x}:01"));
    let link = links.link(
        &End { namespace: host, interface: HOST_INTERFACE, mac: &host_mac },
        &End { namespace: router, interface: &router_interface, mac: &router_mac },
    )?;
    configure(host, HOST_INTERFACE, number, (2, 1), &router_mac, true)?;
    configure(router, &router_interface, number, (1, 2), &host_mac, false)?;
    Ok(link)
}

fn configure(
    namespace: &Namespace,
    interface: &str,
    network: u8,
    (own, other): (u8, u8),
    other_mac: &str,
    with_default_route: bool,
) -> Result<()> {
    let (own4, own6) = (ipv4(network, own), ipv6(network, own));
    let (other4, other6) = (ipv4(network, other), ipv6(network, other));
    let mut commands = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(commands, "addr add {own4}/24 dev {interface}");
    let _ = writeln!(commands, "addr add {own6}/64 dev {interface} nodad");
    for other in [other4.to_string(), other6.to_string()] {
        let _ = writeln!(commands, "neigh replace {other} lladdr {other_mac} dev {interface} nud permanent");
        if with_default_route {
            let _ = writeln!(commands, "route add default via {other}");
        }
    }
    namespace.enter(|| crate::ns::ip_batch(&commands))?
}
