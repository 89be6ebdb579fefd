//! What a session knows of the networks around its device: enough to name why a device that was found cannot be reached.

use std::net::IpAddr;

use crate::addr::{Address, Class, InterfaceAddress, classify, on_link};
use crate::cause::Cause;
use crate::limits;
use crate::session::{Config, DialFailure};
use crate::time::Time;

/// The networks of this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vicinity {
    /// Our addresses with the networks they are in; loopback is none.
    pub networks: Vec<InterfaceAddress>,
    /// A tunnel takes whatever leads out of our networks.
    pub vpn_default_route: bool,
    /// There is an interface with an address that leads to other machines.
    pub usable: bool,
}

impl Vicinity {
    /// Whether `ip` is in a network of ours.
    pub(super) fn is_near(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|n| on_link(n, ip))
    }

    /// Why none of `addresses` could be connected to, of whose tries the last one ended with `failure`.
    pub(super) fn explain(&self, addresses: &[Address], failure: DialFailure) -> Cause {
        let near = addresses.iter().any(|a| self.is_near(a.ip));
        let local = !addresses.is_empty()
            && addresses.iter().all(|a| matches!(classify(a.ip), Class::Private | Class::Shared | Class::LinkLocal));
        match failure {
            // The link resolves no such neighbour, although it was heard of: the network keeps its hosts apart.
            DialFailure::NoHost if near => Cause::ApIsolation,
            // The host is there and the program too, and nothing comes back.
            DialFailure::NoAnswer if near => Cause::InboundFirewall,
            DialFailure::NoAnswer | DialFailure::NoHost if local && !near && self.vpn_default_route => {
                Cause::VpnDefaultRoute
            }
            DialFailure::NoAnswer | DialFailure::NoHost if local && !near => Cause::DifferentSubnet,
            DialFailure::Refused | DialFailure::NoAnswer | DialFailure::NoHost | DialFailure::WrongPeer => {
                Cause::Unreachable
            }
        }
    }
}

/// Tells once that there is no network, when the interfaces of a device that has just started are known.
pub(super) struct NetworkCheck(Option<Time>);

impl NetworkCheck {
    pub(super) fn new(lan: bool, now: Time) -> NetworkCheck {
        NetworkCheck(lan.then(|| now + limits::SURROUNDINGS))
    }

    /// Whether it is to be said now.
    pub(super) fn is_missing(&mut self, now: Time, config: &Config) -> bool {
        self.0.take_if(|at| *at <= now).is_some() && !config.vicinity.usable
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a52_a_connection_that_fails_has_the_cause_that_the_addresses_and_the_failure_show() {
        let network = |text: &str, prefix_len| InterfaceAddress { ip: text.parse().expect("an address"), prefix_len };
        let home = Vicinity { networks: vec![network("192.168.1.5", 24)], vpn_default_route: false, usable: true };
        let vpn = Vicinity { vpn_default_route: true, ..home.clone() };
        let table = [
            (&home, "/ip4/192.168.1.9/tcp/7", DialFailure::NoAnswer, Cause::InboundFirewall),
            (&home, "/ip4/192.168.1.9/tcp/7", DialFailure::NoHost, Cause::ApIsolation),
            (&home, "/ip4/192.168.1.9/tcp/7", DialFailure::Refused, Cause::Unreachable),
            (&home, "/ip4/10.0.0.9/tcp/7", DialFailure::NoAnswer, Cause::DifferentSubnet),
            (&home, "/ip4/10.0.0.9/tcp/7", DialFailure::NoHost, Cause::DifferentSubnet),
            (&vpn, "/ip4/10.0.0.9/tcp/7", DialFailure::NoAnswer, Cause::VpnDefaultRoute),
            (&home, "/ip4/5.1.2.3/tcp/7", DialFailure::NoAnswer, Cause::Unreachable),
            (&vpn, "/ip4/5.1.2.3/tcp/7", DialFailure::NoAnswer, Cause::Unreachable),
        ];
        for (vicinity, address, failure, cause) in table {
            let addresses = [address.parse().expect("an address")];
            assert_eq!(vicinity.explain(&addresses, failure), cause, "{address} {failure:?}");
        }
    }
}
