//! Routers with networks behind them, on hosts of the lab that have a public address: what several hosts share, or one
//! moves between. ([`crate::nat`] has those in front of one host each.)

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::ns::{LabName, Namespace, ip};
use crate::topology::AccessHost;

/// The interface of a router that leads out.
pub(crate) const OUT: &str = "eth0";

/// The one to what is behind it, where that is one network.
pub(crate) const IN: &str = "lan0";

/// Bridges, each of them the switch of one network.
pub(crate) struct Switches {
    namespace: Namespace,
    bridges: Vec<String>,
    ports: usize,
}

impl Switches {
    /// None yet.
    pub(crate) fn new(lab: &LabName) -> Result<Switches> {
        let namespace = Namespace::create(lab, "switches")?;
        // A switch itself is no party: it has no address and forwards whatever comes.
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        Ok(Switches { namespace, bridges: Vec::new(), ports: 0 })
    }

    /// Connects a new interface, which stays down, to the switch of this name.
    pub(crate) fn plug(&mut self, switch: &str, end: &Namespace, interface: &str) -> Result<()> {
        if !self.bridges.iter().any(|known| known == switch) {
            self.namespace.ip(&[
                "link",
                "add",
                switch,
                "type",
                "bridge",
                "mcast_snooping",
                "0",
                "forward_delay",
                "0",
            ])?;
            self.namespace.ip(&["link", "set", switch, "up"])?;
            self.bridges.push(switch.to_owned());
        }
        let port = format!("port{}", self.ports);
        self.ports += 1;
        let (inside, outside) = (self.namespace.name(), end.name());
        ip(&["link", "add", &port, "netns", inside, "type", "veth", "peer", "name", interface, "netns", outside])?;
        self.namespace.ip(&["link", "set", &port, "master", switch, "up"])
    }
}

/// Makes a host of the lab a router that translates: whatever is behind it leaves with its address, only answers come in,
/// and nobody inside reaches that address. `between` are rules for what passes from one of its networks to another, which
/// it forwards without them.
pub(crate) fn translate(host: &AccessHost, between: &str) -> Result<()> {
    let public = host.ipv4();
    host.namespace().sysctl("net.ipv4.ip_forward", "1")?;
    // What nobody has asked for is dropped and not answered: an answer would tell a hole puncher to give up.
    host.namespace().nft(&format!(
        "table ip router {{
            chain translated {{
                type nat hook postrouting priority srcnat;
                oifname \"{OUT}\" masquerade
            }}
            chain own {{
                type filter hook input priority filter;
                iifname \"{OUT}\" ct state new,invalid drop
                iifname != {{ \"{OUT}\", \"lo\" }} ip daddr {public} drop
            }}
            chain passing {{
                type filter hook forward priority filter;
                iifname \"{OUT}\" ct state new,invalid drop
                {between}
            }}
        }}"
    ))
}

/// Makes a host of the lab a router that leaves addresses as they are: the backbone finds the network behind it there.
pub(crate) fn forward(host: &AccessHost, network: &str, backbone: &Namespace) -> Result<()> {
    host.namespace().sysctl("net.ipv4.ip_forward", "1")?;
    backbone.ip(&["route", "add", network, "via", &host.ipv4().to_string()])
}

/// Sets an interface up with one address.
pub(crate) fn up(namespace: &Namespace, interface: &str, address: Ipv4Addr) -> Result<()> {
    namespace.ip(&["link", "set", interface, "up"])?;
    namespace.ip(&["addr", "add", &format!("{address}/24"), "brd", "+", "dev", interface])
}
