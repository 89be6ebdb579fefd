//! The local network's part of the actor: what its machine wants goes to its driver, what it finds to the sessions and to
//! the list of our own addresses.

use handfast_net::lan::{Lan as LanDriver, LanTransport};
use handfast_proto::addr::{Address, InterfaceAddress};
use handfast_proto::addresses::Evidence;
use handfast_proto::lan::io::{Event as LanInput, InterfaceKind, Surroundings};
use handfast_proto::lan::{Event, Output, Wanted, WindowId, place};
use handfast_proto::session::Vicinity;
use handfast_proto::time::Now;

use crate::engine::actor::Actor;
use crate::event::EventKind;
use crate::status::{Acquisition, LanStatus};

/// The driver, or nothing where the local network is switched off or cannot be used.
pub(super) struct Driver(pub(super) Option<LanDriver>);

impl Driver {
    /// The next thing it tells; never, if there is none or it has ended: a device lives without it.
    pub(super) async fn next(&mut self) -> LanInput {
        match &mut self.0 {
            Some(driver) => match driver.next().await {
                Some(event) => event,
                None => {
                    tracing::error!("the driver of the local network has ended");
                    self.0 = None;
                    std::future::pending().await
                }
            },
            None => std::future::pending().await,
        }
    }

    pub(super) async fn end(self) {
        if let Some(driver) = self.0 {
            driver.end().await;
        }
    }
}

impl Actor {
    /// Hands the driver what the machine wants from it.
    pub(super) async fn carry_out_lan(&mut self, driver: &Driver) {
        let commands = std::mem::take(&mut self.lan_commands);
        let Some(driver) = &driver.0 else { return };
        for command in commands {
            if driver.send(command).await.is_err() {
                return;
            }
        }
    }

    /// A session wants a window.
    pub(super) fn lan_window(&mut self, id: WindowId, wanted: Wanted) {
        let now = self.now().time;
        self.lan.set_window(id, wanted, now);
    }

    /// The driver tells something.
    pub(super) fn lan_input(&mut self, event: LanInput) {
        let now = self.now();
        if let LanInput::SendFailed { interface, error, .. } = &event {
            tracing::debug!(interface, %error, "a beacon could not be sent");
        }
        self.lan.handle_event(event, now.time);
    }

    pub(super) fn lan_output(&mut self, output: Output) {
        match output {
            Output::Command(command) => self.lan_commands.push(command),
            Output::Event(event) => self.lan_event(event),
        }
    }

    fn lan_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Heard { window, addresses } => self.table.handle_heard(window, addresses, now),
            Event::Ready { window, device } => self.table.handle_ready(window, device, now),
            Event::Gone { window, nid, ip } => self.table.handle_gone(window, nid, ip, now),
            Event::Named { window, nid } => self.table.handle_named(window, nid, now),
            Event::Evidence { ip, evidence } => {
                if self.own.confirm(ip, evidence) {
                    let confirmed: Vec<Address> = self.own.listeners().into_iter().filter(|a| a.ip == ip).collect();
                    for address in confirmed {
                        let (address, evidence) = (address.to_string(), evidence.name().to_owned());
                        self.hub.publish(EventKind::AddressConfirmed { address, evidence });
                    }
                    self.addresses_changed(now);
                }
            }
            Event::SelfCheckFailed { ip } => {
                tracing::debug!(%ip, "a call to our own address did not come back");
                self.own.self_check_failed(ip);
                self.addresses_changed(now);
            }
            Event::SeenAs { ip } => {
                self.own.seen_as(ip);
            }
            Event::Surroundings => self.surroundings(now),
        }
    }

    /// Interfaces or addresses have changed.
    fn surroundings(&mut self, now: Now) {
        let place = self.lan.surroundings();
        let vicinity = vicinity(place, self.lan.has_network());
        tracing::debug!(interfaces = place.interfaces.len(), outbound = ?place.outbound, errors = ?place.errors, "surroundings");
        for interface in &place.interfaces {
            for address in &interface.addresses {
                tracing::debug!(
                    interface = interface.name, kind = interface.kind.name(), up = interface.up,
                    address = %address.ip, "an address of this machine"
                );
            }
        }
        let kinds = place.interfaces.iter().flat_map(|i| i.addresses.iter().map(|a| (a.ip, i.kind))).collect();
        self.own.set_kinds(kinds);
        self.wires.set_interfaces(vicinity.networks.clone());
        self.table.set_vicinity(vicinity);
        self.addresses_changed(now);
    }

    /// The same of a device that does not use the local network: less is known of what is around it.
    pub(super) fn interfaces_alone(&mut self, networks: Vec<InterfaceAddress>) {
        self.wires.set_interfaces(networks.clone());
        self.table.set_vicinity(Vicinity { usable: !networks.is_empty(), networks, ..Vicinity::default() });
    }

    /// The three stages in which a device learns its own addresses, with what came of each.
    pub(super) fn lan_status(&self) -> LanStatus {
        let place = self.lan.surroundings();
        let listed: Vec<String> =
            place::usable(place).into_iter().flat_map(place::sources).map(|ip| ip.to_string()).collect();
        let outbound: Vec<String> = place.outbound.iter().map(ToString::to_string).collect();
        let found: Vec<String> = self.own.seen().map(|ip| ip.to_string()).collect();
        let checked = self.own.with_evidence(Evidence::SelfCheck).count();
        let confirmed = self.own.with_evidence(Evidence::PeerConfirmed).count();
        let stage = |stage: &str, addresses: Vec<String>, outcome: String| Acquisition {
            stage: stage.to_owned(),
            outcome,
            addresses,
        };
        let outbound_outcome = match (outbound.is_empty(), vpn_owns_default_route(place)) {
            (true, _) => "no default route".to_owned(),
            (false, true) => "named by the system; a tunnel takes the default route".to_owned(),
            (false, false) => "named by the system".to_owned(),
        };
        let listed_outcome = format!("{} listed, {checked} reached by ourselves, {confirmed} by others", listed.len());
        let found_outcome = if found.is_empty() { "nobody has told us" } else { "told by a device nearby" };
        LanStatus {
            enabled: self.uses_lan,
            acquisition: vec![
                stage("outbound", outbound, outbound_outcome),
                stage("interfaces", listed, listed_outcome),
                stage("discovery", found, found_outcome.to_owned()),
            ],
            errors: place.errors.iter().cloned().chain(self.lan.send_errors().values().cloned()).collect(),
        }
    }
}

fn vicinity(place: &Surroundings, usable: bool) -> Vicinity {
    let real = place.interfaces.iter().filter(|i| i.up && i.kind != InterfaceKind::Loopback);
    Vicinity {
        networks: real.flat_map(|i| i.addresses.iter().copied()).collect(),
        vpn_default_route: vpn_owns_default_route(place),
        usable,
    }
}

fn vpn_owns_default_route(place: &Surroundings) -> bool {
    let tunnels = place.interfaces.iter().filter(|i| i.kind == InterfaceKind::Tunnel);
    tunnels.flat_map(|i| &i.addresses).any(|a| place.outbound.contains(&a.ip))
}
