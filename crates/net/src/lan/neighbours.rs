//! Hosts of the links that the system knows: what address resolution has found. IPv4 and Linux; elsewhere nobody.

use std::net::{IpAddr, Ipv4Addr};

use handfast_proto::lan::io::Interface;

/// Most neighbours that are told: more than a whole /24.
const MAX_NEIGHBOURS: usize = 512;

/// Most bytes of the system's table that are read; a line has about 80.
const MAX_TABLE: u64 = 256 * 1024;

/// Set in an entry whose hardware address is known.
const COMPLETE: u32 = 0x2;

/// Hosts with an interface of ours that leads to them.
pub(super) fn list(interfaces: &[Interface]) -> Vec<(u32, Ipv4Addr)> {
    let index = |name: &str| interfaces.iter().find(|i| i.name == name).map(|i| i.index);
    parse(&table())
        .filter(|entry| entry.complete)
        .filter_map(|entry| Some((index(entry.device)?, entry.ip)))
        .take(MAX_NEIGHBOURS)
        .collect()
}

/// Whether the link has been asked for `ip` and nobody has answered.
pub(super) fn is_missing(ip: IpAddr) -> bool {
    parse(&table()).any(|entry| IpAddr::V4(entry.ip) == ip && !entry.complete)
}

#[cfg(target_os = "linux")]
fn table() -> String {
    use std::io::Read as _;
    let mut text = String::new();
    // A table that cannot be read is an empty one: these are hints.
    if let Ok(file) = std::fs::File::open("/proc/net/arp") {
        let _ = file.take(MAX_TABLE).read_to_string(&mut text);
    }
    text
}

#[cfg(not(target_os = "linux"))]
fn table() -> String {
    String::new()
}

struct Entry<'a> {
    ip: Ipv4Addr,
    complete: bool,
    device: &'a str,
}

/// Columns: address, hardware type, flags, hardware address, mask, device.
fn parse(table: &str) -> impl Iterator<Item = Entry<'_>> {
    table.lines().filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let ip = columns.next()?.parse().ok()?;
        let flags = u32::from_str_radix(columns.nth(1)?.strip_prefix("0x")?, 16).ok()?;
        let device = columns.nth(2)?;
        Some(Entry { ip, complete: flags & COMPLETE != 0, device })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_entries_are_neighbours_and_the_others_are_missing() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.168.1.7      0x1         0x2         02:00:00:00:00:07     *        eth0\n\
                     192.168.1.8      0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     10.0.0.3         0x1         0x6         02:00:00:00:00:03     *        wlan0\n\
                     nonsense\n";
        let entries: Vec<_> = parse(table).map(|e| (e.ip.to_string(), e.complete, e.device)).collect();
        assert_eq!(
            entries,
            [
                ("192.168.1.7".to_owned(), true, "eth0"),
                ("192.168.1.8".to_owned(), false, "eth0"),
                ("10.0.0.3".to_owned(), true, "wlan0")
            ]
        );
    }
}
