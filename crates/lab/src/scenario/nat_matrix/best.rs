//! What a pair must come to: computed from what its two networks do, for each family of addresses that both have.

use handfast_proto::stun::behaviour::{Filtering, Mapping};

use super::Pair;
use crate::nat::Nat;

/// What a pair must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Best {
    /// A direct path, at once or after a relay.
    Direct,
    /// The relay at once; this is why there need not be more.
    Relay(&'static str),
}

const NO_HOLES: &str = "without UDP no hole can be counted on";
const ONLY_443: &str = "at port 443 there are only nodes";
const NO_ONE_PORT: &str = "a NAT shows another port to each peer";
const NO_FAMILY: &str = "one has IPv4 alone and the other IPv6 alone";

/// All reasons for the relay.
pub(super) const REASONS: [&str; 4] = [NO_ONE_PORT, NO_HOLES, NO_FAMILY, ONLY_443];

/// What a pair must come to.
pub(super) fn best((one, other): Pair) -> Best {
    if [one, other].contains(&Nat::Only443) {
        return Best::Relay(ONLY_443);
    }
    let of_families: Vec<Best> = [ipv6(one, other), ipv4(one, other)].into_iter().flatten().collect();
    let is_direct = of_families.contains(&Best::Direct);
    if is_direct { Best::Direct } else { of_families.last().copied().unwrap_or(Best::Relay(NO_FAMILY)) }
}

/// By IPv6 nobody translates: where one does not let the other in, both dig.
fn ipv6(one: Nat, other: Nat) -> Option<Best> {
    one.ipv6().zip(other.ipv6()).map(|_| Best::Direct)
}

fn ipv4(one: Nat, other: Nat) -> Option<Best> {
    if !one.has_ipv4() || !other.has_ipv4() {
        return None;
    }
    for host in [one, other] {
        // Whoever lets everybody in, or has a port mapped, is reached by everybody who can speak to it, over TCP as well.
        if host == Nat::Upnp || host.kind().is_some_and(|kind| kind.filtering == Filtering::EndpointIndependent) {
            return Some(Best::Direct);
        }
    }
    let has_one_port = |mapping| matches!(mapping, Mapping::None | Mapping::EndpointIndependent);
    Some(match (one.kind(), other.kind()) {
        (Some(one), Some(other)) if has_one_port(one.mapping) && has_one_port(other.mapping) => Best::Direct,
        (Some(_), Some(_)) => Best::Relay(NO_ONE_PORT),
        (None, _) | (_, None) => Best::Relay(NO_HOLES),
    })
}

#[cfg(test)]
mod tests {
    use super::super::pairs;
    use super::*;

    #[test]
    fn what_a_pair_must_come_to_does_not_depend_on_who_shows_the_code() {
        for (one, other) in pairs(&[], &[], false) {
            assert_eq!(best((one, other)), best((other, one)), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_direct_path_is_asked_for_where_the_two_networks_allow_one() {
        let is_direct = |pair: &Pair| best(*pair) == Best::Direct;
        let all: Vec<Pair> = pairs(&[], &[], true).into_iter().filter(is_direct).collect();
        let of_ipv4 = all.iter().filter(|(one, other)| !one.routes_ipv6() && !other.routes_ipv6()).count();
        // Open with all but one, a mapped port with eight more, full cone with seven more, and any two of firewall,
        // address- and port-restricted, carrier.
        assert_eq!(of_ipv4, 9 + 8 + 7 + 10);
        for (pair, expected) in [
            ((Nat::NoUdp, Nat::Open), Best::Direct),
            ((Nat::NoUdp, Nat::Upnp), Best::Direct),
            ((Nat::Upnp, Nat::Symmetric), Best::Direct),
            ((Nat::FullCone, Nat::Symmetric), Best::Direct),
            ((Nat::FullCone, Nat::NoUdp), Best::Direct),
            ((Nat::Firewall, Nat::NoUdp), Best::Relay(NO_HOLES)),
            ((Nat::Open, Nat::Only443), Best::Relay(ONLY_443)),
            ((Nat::Upnp, Nat::Only443), Best::Relay(ONLY_443)),
            ((Nat::Symmetric, Nat::AddressRestricted), Best::Relay(NO_ONE_PORT)),
            ((Nat::Ipv6, Nat::Ipv6Firewall), Best::Direct),
            ((Nat::Ipv6Only, Nat::Ipv6Firewall), Best::Direct),
            ((Nat::Ipv6Only, Nat::Firewall), Best::Direct),
            ((Nat::Ipv6Only, Nat::FullCone), Best::Relay(NO_FAMILY)),
            ((Nat::Ipv6, Nat::PortRestricted), Best::Relay(NO_ONE_PORT)),
            ((Nat::Ipv6Firewall, Nat::FullCone), Best::Direct),
        ] {
            assert_eq!(best(pair), expected, "{pair:?}");
        }
    }
}
