//! The addresses of this machine's interfaces, as the system lists them.

use std::net::IpAddr;

use handfast_proto::addr::InterfaceAddress;

use crate::api::Interface;

/// Most addresses that are reported: a host with more (container hosts) is described well enough by these.
const MAX_INTERFACE_ADDRESSES: usize = 256;

/// The list of this moment, sorted by name and address; empty if the system gives none.
pub(crate) fn list() -> Vec<Interface> {
    let mut list: Vec<Interface> = if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|i| Interface { address: InterfaceAddress { ip: i.ip(), prefix_len: prefix_len(&i.addr) }, name: i.name })
        .collect();
    list.sort_by(|a, b| (&a.name, a.address.ip).cmp(&(&b.name, b.address.ip)));
    list.truncate(MAX_INTERFACE_ADDRESSES);
    list
}

fn prefix_len(address: &if_addrs::IfAddr) -> u8 {
    match address {
        if_addrs::IfAddr::V4(v4) => leading_ones(IpAddr::V4(v4.netmask)),
        if_addrs::IfAddr::V6(v6) => leading_ones(IpAddr::V6(v6.netmask)),
    }
}

fn leading_ones(mask: IpAddr) -> u8 {
    let bits = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(bits).expect("at most 128 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_the_run_of_ones_in_the_mask() {
        for (mask, len) in
            [("255.255.252.0", 22), ("0.0.0.0", 0), ("255.255.255.255", 32), ("ffff:ffff:ffff:ffff::", 64)]
        {
            assert_eq!(leading_ones(mask.parse().expect("a mask")), len, "{mask}");
        }
    }

    #[test]
    fn loopback_is_listed_with_its_prefix() {
        let loopback: IpAddr = "127.0.0.1".parse().expect("an address");
        let found = list().into_iter().find(|i| i.address.ip == loopback);
        assert_eq!(found.map(|i| i.address.prefix_len), Some(8));
    }
}
