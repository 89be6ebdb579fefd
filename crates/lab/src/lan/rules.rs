//! Rules of nft: what a switch or a host drops.

use std::fmt::Write as _;

/// A host's firewall: answers, the host itself, and the messages without which no network works; nothing else comes in.
pub(crate) const INBOUND_DROP: &str = "\
table inet guard {
    chain inbound {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, icmpv6 } accept
    }
}";

/// Whoever shares its way out: its guests leave with its IPv4 address, and have no IPv6 beyond it.
pub(super) const MASQUERADE: &str = "\
table ip share {
    chain out {
        type nat hook postrouting priority srcnat;
        oifname \"wwan0\" masquerade
    }
}";

/// A switch that forwards no multicast and no broadcast of IP from these ports, or from any; ARP and the discovery of
/// neighbours pass, without which not even a unicast packet would.
pub(super) fn no_announcements(ports: &[&str]) -> String {
    let mut from = String::new();
    if !ports.is_empty() {
        let quoted: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
        // Writing to a String cannot fail.
        let _ = write!(from, "iifname {{ {} }} ", quoted.join(", "));
    }
    format!(
        "table bridge quiet {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        {from}ether type ip ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop
        {from}ether type ip6 meta l4proto udp ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 drop
    }}
}}"
    )
}
