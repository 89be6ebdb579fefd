//! Puts hosts, a switch and cables together.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::BRIDGE;
use crate::host::Host;
use crate::ns::{LabName, Namespace, ip, ip_batch};

/// A local network in the making.
pub(super) struct Wiring {
    name: LabName,
    pub(super) hosts: Vec<Host>,
    pub(super) switch: Namespace,
    pub(super) dir: TempDir,
}

/// One end of a cable.
pub(super) struct Nic<'a> {
    pub(super) host: &'a str,
    pub(super) interface: &'a str,
    pub(super) addresses: &'a [String],
}

impl Wiring {
    /// An empty switch.
    pub(super) fn new() -> Result<Self> {
        let name = LabName::unique();
        // Short, since a control socket's whole path must fit 107 bytes.
        let dir = tempfile::Builder::new().prefix(&name.prefix()).tempdir().context("a directory for the lab")?;
        let switch = Namespace::create(&name, "switch")?;
        // The switch itself is no party: it has no address and forwards whatever comes.
        switch.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        switch.ip(&["link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0", "forward_delay", "0"])?;
        switch.ip(&["link", "set", BRIDGE, "up"])?;
        Ok(Self { name, hosts: Vec::new(), switch, dir })
    }

    /// Adds a host.
    pub(super) fn host(&mut self, name: &str) -> Result<()> {
        let namespace = Namespace::create(&self.name, name)?;
        self.hosts.push(Host::with_sysfs(name, namespace, self.dir.path())?);
        Ok(())
    }

    /// Adds a host that forwards what is not for itself.
    pub(super) fn router(&mut self, name: &str) -> Result<()> {
        self.host(name)?;
        let namespace = self.namespace(name)?;
        namespace.sysctl("net.ipv4.ip_forward", "1")?;
        namespace.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Adds a router if it is called the gateway, else a host.
    pub(super) fn router_or_host(&mut self, name: &str) -> Result<()> {
        if name == "gateway" { self.router(name) } else { self.host(name) }
    }

    /// Connects an interface of a host to the switch.
    pub(super) fn plug(&self, host: &str, interface: &str, addresses: &[String]) -> Result<()> {
        let port = format!("{host}-{interface}");
        let (switch, namespace) = (self.switch.name(), self.namespace(host)?);
        ip(&[
            "link",
            "add",
            &port,
            "netns",
            switch,
            "type",
            "veth",
            "peer",
            "name",
            interface,
            "netns",
            namespace.name(),
        ])?;
        self.switch.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        up(namespace, interface, addresses)
    }

    /// Connects two hosts directly.
    pub(super) fn cable(&self, one: &Nic<'_>, other: &Nic<'_>) -> Result<()> {
        let (here, there) = (self.namespace(one.host)?, self.namespace(other.host)?);
        let (near, far) = (one.interface, other.interface);
        ip(&["link", "add", near, "netns", here.name(), "type", "veth", "peer", "name", far, "netns", there.name()])?;
        up(here, near, one.addresses)?;
        up(there, far, other.addresses)
    }

    /// Gives a host a bridge as containers hang on, with one container, whose other end is in `container`.
    pub(super) fn container_bridge(&self, host: &str, bridge: &str, address: &str, container: &str) -> Result<()> {
        let namespace = self.namespace(host)?;
        namespace.ip(&["link", "add", bridge, "type", "bridge"])?;
        let (port, inside) = (format!("c-{host}"), format!("from-{host}"));
        let end = |host, interface| Nic { host, interface, addresses: &[] };
        self.cable(&end(host, &port), &end(container, &inside))?;
        namespace.ip(&["link", "set", &port, "master", bridge])?;
        up(namespace, bridge, &[address.to_owned()])
    }

    /// Gives a host one end of a tunnel between two addresses.
    pub(super) fn tunnel(
        &self,
        host: &str,
        interface: &str,
        (ours, theirs): (&str, &str),
        address: &str,
    ) -> Result<()> {
        let namespace = self.namespace(host)?;
        namespace.ip(&[
            "link", "add", interface, "type", "vxlan", "id", "77", "local", ours, "remote", theirs, "dstport", "4789",
        ])?;
        up(namespace, interface, &[address.to_owned()])
    }

    /// Gives a host its default routes.
    pub(super) fn default_route(&self, host: &str, next_hops: &[String]) -> Result<()> {
        next_hops.iter().try_for_each(|next| self.namespace(host)?.ip(&["route", "add", "default", "via", next]))
    }

    /// Takes a host's default routes away.
    pub(super) fn no_default_route(&self, host: &str) -> Result<()> {
        let namespace = self.namespace(host)?;
        namespace.ip(&["route", "del", "default"])?;
        namespace.ip(&["-6", "route", "del", "default"])
    }

    /// Sets rules of nft on a host.
    pub(super) fn host_rules(&self, host: &str, rules: &str) -> Result<()> {
        self.namespace(host)?.nft(rules)
    }

    /// Sets rules of nft on the switch.
    pub(super) fn switch_rules(&self, rules: &str) -> Result<()> {
        self.switch.nft(rules)
    }

    /// Ports of the switch that do not reach each other.
    pub(super) fn isolate(&self, ports: &[&str]) -> Result<()> {
        ports
            .iter()
            .try_for_each(|port| self.switch.tool("bridge", &["link", "set", "dev", port, "isolated", "on"]).map(drop))
    }

    fn namespace(&self, host: &str) -> Result<&Namespace> {
        let found = self.hosts.iter().find(|known| known.name() == host);
        found.map(Host::namespace).with_context(|| format!("the network has no host {host}"))
    }
}

fn up(namespace: &Namespace, interface: &str, addresses: &[String]) -> Result<()> {
    let mut commands = format!("link set {interface} up\n");
    for address in addresses {
        // With a broadcast address, as every DHCP client sets it.
        let broadcast = if address.contains(':') { "nodad" } else { "brd +" };
        // Writing to a String cannot fail.
        let _ = writeln!(commands, "addr add {address} {broadcast} dev {interface}");
    }
    namespace.enter(|| ip_batch(&commands))?
}
