//! What may stand between a host and its access link: routers that translate or filter, by what they do in the terms of
//! RFC 4787.
//!
//! The router is the kernel's own. Where it translates, the host behind it has one private IPv4 address. Whether it has
//! IPv6 is another question: some have a network of global addresses behind the router, most none.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Result;
use handfast_proto::stun::behaviour::{Filtering, Mapping};

use crate::host::Host;
use crate::lan::rules::INBOUND_DROP;
use crate::ns::{LabName, Namespace, ip};
use crate::portmap::{self, Speaks};
use crate::process::Running;
use crate::router::{IN, OUT};
use crate::topology::{AccessHost, network_behind};

/// The port of DNS.
const DNS: u16 = 53;

/// The port of the web, which nearly every network lets out to.
pub(crate) const HTTPS: u16 = 443;

/// What stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// Nothing: the host has public addresses, and everybody reaches it.
    Open,
    /// No translation, but the host's firewall lets in only answers.
    Firewall,
    /// One mapping for everybody, and everybody is let in: all ports are forwarded to the host.
    FullCone,
    /// One mapping for everybody; in come the addresses that the host has sent something to.
    AddressRestricted,
    /// One mapping for everybody; in come the addresses and ports that the host has sent something to.
    PortRestricted,
    /// A mapping for each address and port.
    Symmetric,
    /// A home router behind the router of a carrier, both [`Nat::PortRestricted`].
    Carrier,
    /// A [`Nat::PortRestricted`] that maps ports when it is asked to by UPnP.
    Upnp,
    /// A [`Nat::PortRestricted`] in a network that drops all UDP but DNS, both ways and without a word.
    NoUdp,
    /// A [`Nat::PortRestricted`] in a network that lets out TCP to port 443, DNS, and nothing else.
    Only443,
    /// A [`Nat::Symmetric`] beside global IPv6 that everybody reaches.
    Ipv6,
    /// A [`Nat::Symmetric`] beside global IPv6, of which the router lets in only answers.
    Ipv6Firewall,
    /// Global IPv6, of which the router lets in only answers, and no IPv4.
    Ipv6Only,
}

/// What STUN can show of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// How it maps.
    pub mapping: Mapping,
    /// Whom it lets in.
    pub filtering: Filtering,
    /// Whether what is sent to the public address from inside arrives; `None` without a NAT.
    pub hairpin: Option<bool>,
}

impl Nat {
    /// All of them.
    pub const ALL: [Nat; 13] = [
        Nat::Open,
        Nat::Firewall,
        Nat::FullCone,
        Nat::AddressRestricted,
        Nat::PortRestricted,
        Nat::Symmetric,
        Nat::Carrier,
        Nat::Upnp,
        Nat::NoUdp,
        Nat::Only443,
        Nat::Ipv6,
        Nat::Ipv6Firewall,
        Nat::Ipv6Only,
    ];

    /// Its name in tables, and of the host behind it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Nat::Open => "open",
            Nat::Firewall => "firewall",
            Nat::FullCone => "full-cone",
            Nat::AddressRestricted => "addr-restr",
            Nat::PortRestricted => "port-restr",
            Nat::Symmetric => "symmetric",
            Nat::Carrier => "carrier",
            Nat::Upnp => "upnp",
            Nat::NoUdp => "no-udp",
            Nat::Only443 => "only-443",
            Nat::Ipv6 => "ipv6",
            Nat::Ipv6Firewall => "ipv6-fw",
            Nat::Ipv6Only => "ipv6-only",
        }
    }

    /// What it is made to be for IPv4; `None` where STUN, which is UDP, can show nothing.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        let kind = |mapping, filtering, hairpin| Some(Kind { mapping, filtering, hairpin });
        let (independent, same) = (Filtering::EndpointIndependent, Mapping::EndpointIndependent);
        let both = Filtering::AddressAndPortDependent;
        match self {
            Nat::Open => kind(Mapping::None, independent, None),
            Nat::Firewall => kind(Mapping::None, both, None),
            Nat::FullCone => kind(same, independent, Some(true)),
            Nat::AddressRestricted => kind(same, Filtering::AddressDependent, Some(false)),
            Nat::PortRestricted | Nat::Carrier | Nat::Upnp => kind(same, both, Some(false)),
            Nat::Symmetric | Nat::Ipv6 | Nat::Ipv6Firewall => kind(Mapping::AddressAndPortDependent, both, Some(false)),
            Nat::NoUdp | Nat::Only443 | Nat::Ipv6Only => None,
        }
    }

    /// Whom it lets in by IPv6, which nobody translates; `None` where there is none.
    #[must_use]
    pub fn ipv6(self) -> Option<Filtering> {
        match self {
            Nat::Open | Nat::Ipv6 => Some(Filtering::EndpointIndependent),
            Nat::Firewall | Nat::Ipv6Firewall | Nat::Ipv6Only => Some(Filtering::AddressAndPortDependent),
            Nat::FullCone
            | Nat::AddressRestricted
            | Nat::PortRestricted
            | Nat::Symmetric
            | Nat::Carrier
            | Nat::Upnp
            | Nat::NoUdp
            | Nat::Only443 => None,
        }
    }

    /// Whether the host has IPv4 at all.
    #[must_use]
    pub fn has_ipv4(self) -> bool {
        self != Nat::Ipv6Only
    }

    /// Whether the IPv4 address of the host behind it is one of its own network.
    #[must_use]
    pub fn translates(self) -> bool {
        self.has_ipv4() && !matches!(self, Nat::Open | Nat::Firewall)
    }

    /// Whether a network of global IPv6 addresses is behind the router.
    pub(crate) fn routes_ipv6(self) -> bool {
        matches!(self, Nat::Ipv6 | Nat::Ipv6Firewall | Nat::Ipv6Only)
    }

    /// The rules of the outermost router; those of a home router behind it are of [`Nat::PortRestricted`].
    fn rules(self, public: Ipv4Addr, inside: Ipv4Addr) -> String {
        let (mut known, mut masquerade, mut forwarded) = (String::new(), "masquerade".to_owned(), String::new());
        let mut blocked = String::new();
        match self {
            Nat::Upnp => return portmap::rules(),
            Nat::Open | Nat::Firewall | Nat::PortRestricted | Nat::Carrier | Nat::Ipv6Only => {}
            Nat::FullCone => {
                forwarded = format!("ip daddr {public} meta l4proto {{ tcp, udp }} dnat to {inside}");
            }
            Nat::AddressRestricted => {
                known = format!(
                    "set known {{ type ipv4_addr; size 4096; flags dynamic,timeout; timeout 2m; }}
                    chain leaving {{
                        type filter hook forward priority filter;
                        iifname \"{IN}\" oifname \"{OUT}\" update @known {{ ip daddr }}
                    }}"
                );
                forwarded = format!("iifname \"{OUT}\" ip saddr @known meta l4proto {{ tcp, udp }} dnat to {inside}");
            }
            Nat::Symmetric | Nat::Ipv6 | Nat::Ipv6Firewall => masquerade.push_str(" random,fully-random"),
            Nat::NoUdp | Nat::Only443 => {
                blocked = format!(
                    "iifname \"{IN}\" udp dport != {DNS} drop
                    iifname \"{OUT}\" udp sport != {DNS} drop"
                );
                if self == Nat::Only443 {
                    blocked.push_str(&format!("\niifname \"{IN}\" tcp dport != {{ {DNS}, {HTTPS} }} drop"));
                }
            }
        }
        // What nobody has asked for is dropped and not answered: an answer would tell a hole puncher to give up.
        format!(
            "table ip nat {{
                {known}
                chain arriving {{
                    type nat hook prerouting priority dstnat;
                    {forwarded}
                }}
                chain translated {{
                    type nat hook postrouting priority srcnat;
                    oifname \"{OUT}\" {masquerade}
                    oifname \"{IN}\" ip saddr {inside} snat to {public}
                }}
                chain own {{
                    type filter hook input priority filter;
                    iifname \"{OUT}\" ct state new,invalid drop
                }}
                chain passing {{
                    type filter hook forward priority filter;
                    {blocked}
                    iifname \"{OUT}\" ct status & dnat == 0 ct state new,invalid drop
                }}
            }}"
        )
    }
}

/// The address of a host behind a home router, with its prefix, and that of the router. The host's network is told by
/// the third byte of its public address.
pub(crate) fn inside(host: &AccessHost) -> (String, String) {
    let number = host.ipv4().octets()[2];
    (format!("{}/24", home(number, 2)), home(number, 1).to_string())
}

fn home(number: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, last)
}

/// What a router lets in by IPv6 that lets in only answers, and the messages without which no network works.
fn guard_ipv6() -> String {
    format!(
        "table ip6 guard {{
            chain own {{
                type filter hook input priority filter;
                iifname \"{OUT}\" meta l4proto != icmpv6 ct state new,invalid drop
            }}
            chain passing {{
                type filter hook forward priority filter;
                iifname \"{OUT}\" meta l4proto != icmpv6 ct state new,invalid drop
            }}
        }}"
    )
}

/// The routers between a host and its access link.
pub(crate) struct Routers {
    /// From the outside in.
    chain: Vec<Host>,
    number: u8,
    nat: Nat,
}

impl Routers {
    /// Makes those of the host with this number and name; what they write is in `dir`.
    pub(crate) fn new(nat: Nat, lab: &LabName, number: u8, host: &str, dir: &Path) -> Result<Routers> {
        let names: &[&str] = match nat {
            Nat::Open | Nat::Firewall => &[],
            Nat::FullCone
            | Nat::AddressRestricted
            | Nat::PortRestricted
            | Nat::Symmetric
            | Nat::Upnp
            | Nat::NoUdp
            | Nat::Only443
            | Nat::Ipv6
            | Nat::Ipv6Firewall
            | Nat::Ipv6Only => &["nat"],
            Nat::Carrier => &["isp", "nat"],
        };
        let router = |name: &&str| {
            let name = format!("{host}-{name}");
            let router = Namespace::create(lab, &name)?;
            router.sysctl("net.ipv4.ip_forward", "1")?;
            Host::new(&name, router, dir)
        };
        Ok(Routers { chain: names.iter().map(router).collect::<Result<_>>()?, number, nat })
    }

    /// Whose the access link is: the outermost router's, or the host's.
    pub(crate) fn outermost<'a>(&'a self, host: &'a Namespace) -> &'a Namespace {
        self.chain.first().map_or(host, Host::namespace)
    }

    /// Wires them to each other and to the host, once the outermost has its access link with the address `public`. What
    /// maps ports on one of them is to end before they are taken away.
    pub(crate) fn wire(&self, host: &Namespace, public: Ipv4Addr) -> Result<Option<Running>> {
        if self.nat == Nat::Firewall {
            host.nft(INBOUND_DROP)?;
        }
        let mut outside = public;
        for (depth, router) in self.chain.iter().map(Host::namespace).enumerate() {
            let next = self.chain.get(depth + 1).map(Host::namespace);
            // Between a carrier and its customers: shared addresses (RFC 6598). At home: private ones.
            let inside = |last| match next {
                Some(_) => Ipv4Addr::new(100, 64, self.number, last),
                None => home(self.number, last),
            };
            let behind = next.unwrap_or(host);
            ip(&[
                "link",
                "add",
                IN,
                "netns",
                router.name(),
                "type",
                "veth",
                "peer",
                "name",
                OUT,
                "netns",
                behind.name(),
            ])?;
            for (namespace, interface, last) in [(router, IN, 1), (behind, OUT, 2)] {
                if self.nat.has_ipv4() {
                    namespace.ip(&["addr", "add", &format!("{}/24", inside(last)), "dev", interface])?;
                }
                namespace.ip(&["link", "set", interface, "up"])?;
            }
            if self.nat.has_ipv4() {
                behind.ip(&["route", "add", "default", "via", &inside(1).to_string()])?;
                let nat = if depth == 0 { self.nat } else { Nat::PortRestricted };
                router.nft(&nat.rules(outside, inside(2)))?;
            }
            if self.nat.routes_ipv6() {
                self.route_ipv6(router, behind)?;
            }
            outside = inside(2);
        }
        let mapper = self.chain.first().filter(|_| self.nat == Nat::Upnp);
        mapper.map(|router| portmap::start(router, home(self.number, 0), Speaks::Upnp)).transpose()
    }

    /// Gives the network behind a router global addresses.
    fn route_ipv6(&self, router: &Namespace, behind: &Namespace) -> Result<()> {
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let address = |last| global(self.number, last).to_string();
        for (namespace, interface, last) in [(router, IN, 1), (behind, OUT, 2)] {
            namespace.ip(&["addr", "add", &format!("{}/64", address(last)), "dev", interface, "nodad"])?;
        }
        behind.ip(&["route", "add", "default", "via", &address(1)])?;
        if self.nat.ipv6() == Some(Filtering::EndpointIndependent) { Ok(()) } else { router.nft(&guard_ipv6()) }
    }
}

fn global(number: u8, last: u8) -> Ipv6Addr {
    let mut segments = network_behind(number).segments();
    segments[7] = last.into();
    segments.into()
}

/// The global IPv6 address of a host whose router has such a network behind it.
pub(crate) fn global_inside(number: u8) -> Ipv6Addr {
    global(number, 2)
}
