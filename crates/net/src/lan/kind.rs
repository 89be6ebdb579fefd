//! What an interface is: a card, a bridge of this host, a network with this host alone, a tunnel. Read from the system
//! where it says so, and guessed from the name where it does not.

use handfast_proto::lan::io::InterfaceKind;

/// Numbers of `linux/if_arp.h` for links that carry no Ethernet: what ends in them is the far end of a tunnel.
const TUNNEL_TYPES: [u32; 7] = [
    65534, // nothing below IP: tun, WireGuard
    512,   // PPP
    768,   // IPv4 in IPv4
    769,   // IPv6 in IPv6
    776,   // IPv6 in IPv4
    778,   // GRE
    823,   // GRE over IPv6
];

/// Device types that are tunnels although they carry Ethernet.
const TUNNEL_DEVTYPES: [&str; 4] = ["wireguard", "vxlan", "geneve", "gretap"];

/// What the system says about an interface, as far as it tells the kind.
#[derive(Debug, Default)]
pub(super) struct Traits {
    pub(super) loopback: bool,
    pub(super) point_to_point: bool,
    /// It has other interfaces behind it.
    pub(super) bridge: bool,
    /// A program is at its other end.
    pub(super) tun: bool,
    /// Number of the link layer.
    pub(super) link_type: Option<u32>,
    /// What its driver calls it.
    pub(super) devtype: Option<String>,
}

impl Traits {
    /// Adds what Linux tells in its device tree.
    #[cfg(target_os = "linux")]
    pub(super) fn read(mut self, name: &str) -> Traits {
        let dir = std::path::Path::new("/sys/class/net").join(name);
        // What cannot be read is not there: the interface may have gone meanwhile.
        self.bridge = dir.join("bridge").exists();
        self.tun = dir.join("tun_flags").exists();
        let text = |file: &str| std::fs::read_to_string(dir.join(file)).ok();
        self.link_type = text("type").and_then(|t| t.trim().parse().ok());
        self.devtype =
            text("uevent").and_then(|t| t.lines().find_map(|l| l.strip_prefix("DEVTYPE=")).map(str::to_owned));
        self
    }

    /// Adds nothing: other systems have no such files.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn read(self, _name: &str) -> Traits {
        self
    }
}

/// The kind. An end of a virtual cable (veth) has no trait of its own and is a card: the one a container sees.
pub(super) fn kind_of(name: &str, traits: &Traits) -> InterfaceKind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    let devtype = traits.devtype.as_deref().unwrap_or_default();
    if traits.loopback {
        InterfaceKind::Loopback
    } else if starts(&["vboxnet", "vmnet", "dummy"]) {
        InterfaceKind::HostOnly
    } else if traits.bridge || devtype == "bridge" || starts(&["docker", "br-", "virbr"]) {
        InterfaceKind::Bridge
    } else if traits.tun
        || traits.point_to_point
        || traits.link_type.is_some_and(|t| TUNNEL_TYPES.contains(&t))
        || TUNNEL_DEVTYPES.contains(&devtype)
        || starts(&["tun", "utun", "tap", "wg", "ppp", "ipsec", "tailscale", "zt"])
    {
        InterfaceKind::Tunnel
    } else {
        InterfaceKind::Network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str, traits: Traits) -> &'static str {
        kind_of(name, &traits).name()
    }

    #[test]
    fn a24_what_the_system_says_comes_before_the_name() {
        let ethernet = || Traits { link_type: Some(1), ..Traits::default() };
        let devtype = |text: &str| Traits { devtype: Some(text.to_owned()), ..ethernet() };
        assert_eq!(kind("lo", Traits { loopback: true, link_type: Some(772), ..Traits::default() }), "loopback");
        for name in ["eth0", "enp3s0", "wlan0", "veth1a2b", "A-lan", "bond0"] {
            assert_eq!(kind(name, ethernet()), "network", "{name}");
        }
        assert_eq!(kind("wlp2s0", devtype("wlan")), "network");
        assert_eq!(kind("eth0.7", devtype("vlan")), "network");
        assert_eq!(kind("lan", Traits { bridge: true, ..ethernet() }), "bridge");
        for name in ["docker0", "br-0a1b2c", "virbr0"] {
            assert_eq!(kind(name, ethernet()), "bridge", "{name}");
        }
        for name in ["vboxnet0", "vmnet8", "dummy0"] {
            assert_eq!(kind(name, ethernet()), "host_only", "{name}");
        }
        assert_eq!(kind("corp", Traits { tun: true, link_type: Some(65534), ..Traits::default() }), "tunnel");
        assert_eq!(kind("corp", devtype("wireguard")), "tunnel");
        assert_eq!(kind("corp", Traits { link_type: Some(512), ..Traits::default() }), "tunnel");
        assert_eq!(kind("corp", Traits { point_to_point: true, ..ethernet() }), "tunnel");
        assert_eq!(kind("utun3", Traits::default()), "tunnel");
    }
}
