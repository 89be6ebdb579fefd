//! The relays that lead to this device, and whether it wants any.

use handfast_net::{Bootstrap, Command as NetCommand, Host};
use handfast_proto::addr::{Address, Path, RelayAddress};
use handfast_proto::addresses::{Evidence, Source};
use handfast_proto::time::Now;

use crate::engine::actor::Actor;
use crate::status::{AddressStatus, scope_name};

/// What is known of relays.
pub(super) struct Relays {
    /// Whether they are used at all, in either direction.
    enabled: bool,
    /// What the network was told last.
    wanted: bool,
    /// Those that lead to us.
    given: Vec<RelayAddress>,
}

impl Relays {
    pub(super) fn new(enabled: bool) -> Relays {
        Relays { enabled, wanted: false, given: Vec::new() }
    }

    /// The relays to dial of those that lead to a peer.
    pub(super) fn usable(&self, relays: Vec<RelayAddress>) -> Vec<RelayAddress> {
        if self.enabled { relays } else { Vec::new() }
    }

    /// Those that lead to us, as `status` shows them.
    pub(super) fn status(&self) -> impl Iterator<Item = AddressStatus> {
        self.given.iter().map(|via| AddressStatus {
            address: circuit(via),
            scope: scope_name(via.relay.ip).to_owned(),
            source: Source::Relay.name().to_owned(),
            evidence: Evidence::Listed.name().to_owned(),
        })
    }
}

impl Actor {
    /// Tells the network whether somebody may need a relay to reach us, if that has changed.
    pub(super) fn settle_relays(&mut self) {
        let wanted = self.relays.enabled && self.wants_to_be_reached();
        if wanted != self.relays.wanted {
            self.relays.wanted = wanted;
            self.net_commands.push(NetCommand::Reserve { wanted });
        }
    }

    /// Whether somebody may want to connect to us from another network.
    pub(super) fn wants_to_be_reached(&self) -> bool {
        self.table.wants_relays() || self.links.wants_relays()
    }

    /// Other relays lead to us now.
    pub(super) fn relays_changed(&mut self, relays: Vec<RelayAddress>, now: Now) {
        self.relays.given.clone_from(&relays);
        self.table.set_relays(relays.clone(), now);
        self.links.set_relays(relays, now);
    }
}

fn circuit(via: &RelayAddress) -> String {
    let Address { ip, port, transport } = via.relay;
    format!("{}/p2p-circuit", Bootstrap { host: Host::Ip(ip), port, transport, tid: via.relay_tid })
}

/// Where a peer is, as people read it: through a relay, that of the relay.
pub(super) fn place(path: Path, address: Address) -> String {
    match path {
        Path::Relay => format!("{address}/p2p-circuit"),
        Path::Lan | Path::Direct => address.to_string(),
    }
}
