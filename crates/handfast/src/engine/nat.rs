//! What stands between this device and the internet: the machine says when to look, a task of its own looks.

use std::net::IpAddr;

use handfast_net::stun::{StunServer, discover};
use handfast_proto::secret::Rng;
use handfast_proto::stun::behaviour::{Behaviour, Filtering};
use handfast_proto::stun::watch::{Family, Look, Watch};
use handfast_proto::time::Time;
use tokio::task::{Id, JoinSet};

use crate::status::NatStatus;

/// The looks of one device. Those under way end with it.
pub(super) struct Nat {
    watch: Watch,
    servers: Vec<StunServer>,
    rng: Rng,
    looks: JoinSet<Behaviour>,
    running: Vec<(Id, Look)>,
}

impl Nat {
    /// Asks these servers, or nobody if there are none.
    pub(super) fn new(servers: Vec<StunServer>, rng: Rng) -> Nat {
        Nat { watch: Watch::new(!servers.is_empty()), servers, rng, looks: JoinSet::new(), running: Vec::new() }
    }

    /// The addresses of this machine.
    pub(super) fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>, now: Time) {
        self.watch.set_addresses(addresses, now);
    }

    /// Another router may be in front of this machine.
    pub(super) fn moved(&mut self, now: Time) {
        self.watch.moved(now);
    }

    /// When [`Nat::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.watch.poll_timeout()
    }

    /// Begins the looks that are due.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        while let Some(look) = self.watch.poll_look(now) {
            let (servers, rng) = (self.servers.clone(), self.rng.child());
            let task = self.looks.spawn(async move {
                let found = discover(&servers, look.family == Family::V4, rng).await;
                let failed = |error: &std::io::Error| tracing::debug!(%error, "no socket for STUN");
                found.inspect_err(failed).unwrap_or_default()
            });
            self.running.push((task.id(), look));
        }
    }

    /// The end of a look; never, as long as there is none. Safe to drop before it is ready.
    pub(super) async fn next(&mut self) -> (Look, Behaviour) {
        loop {
            let (id, found) = match self.looks.join_next_with_id().await {
                Some(Ok(looked)) => looked,
                // Nothing depends on it: nobody has answered.
                Some(Err(error)) => {
                    tracing::error!(%error, "a look at the NAT has crashed");
                    (error.id(), Behaviour::default())
                }
                None => std::future::pending().await,
            };
            if let Some(at) = self.running.iter().position(|(running, _)| *running == id) {
                return (self.running.swap_remove(at).1, found);
            }
        }
    }

    /// What came of a look.
    pub(super) fn looked(&mut self, look: Look, found: Behaviour, now: Time) {
        tracing::info!(
            family = ?look.family, mapping = ?found.mapping, filtering = ?found.filtering, hairpin = ?found.hairpin,
            answered = found.answered, contradiction = found.contradiction, "looked at the NAT"
        );
        self.watch.looked(look, found, now);
    }

    /// The public addresses that servers see us at.
    pub(super) fn public(&self) -> impl Iterator<Item = IpAddr> {
        self.watch.behaviour().public.iter().map(|seen| seen.ip())
    }

    /// Whether only those are let in that something was sent to, at whatever port: a node that we speak to can then tell
    /// nothing about others.
    pub(super) fn lets_in_acquaintances(&self) -> bool {
        self.watch.behaviour().filtering == Some(Filtering::AddressDependent)
    }

    /// What is known, as `status` tells it.
    pub(super) fn status(&self, public_addresses: Vec<String>) -> NatStatus {
        NatStatus::new(self.watch.behaviour(), public_addresses)
    }
}
