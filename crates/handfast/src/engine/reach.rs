//! Whether others can reach us from outside: the machine says which node is asked when, the network asks.

use handfast_net::Command as NetCommand;
use handfast_proto::addresses::Evidence;
use handfast_proto::id::{ConnId, JobId};
use handfast_proto::reach::{Node, Verdict};
use handfast_proto::time::Now;

use crate::engine::actor::Actor;
use crate::event::EventKind;

impl Actor {
    /// A peer that we have called says where it sees us.
    pub(super) fn observed(&mut self, node: Node, calls_back: bool, now: Now) {
        self.own.observed(node.sees, node.at, node.conn);
        if calls_back {
            self.reach.set_node(node, now.time);
        }
        self.addresses_changed(now);
    }

    /// What was said over a connection that is gone counts for a while longer.
    pub(super) fn observer_gone(&mut self, conn: ConnId, now: Now) {
        self.own.disconnected(conn, now.time);
        self.reach.disconnected(conn);
    }

    /// What came of a question.
    pub(super) fn checked(&mut self, id: JobId, verdict: &Verdict, now: Now) {
        tracing::debug!(?verdict, "a node was asked whether others can reach us");
        self.reach.answered(id, verdict, now.time);
    }

    /// Tells the machine which addresses may be ours, and carries out what it wants. True if others reach us elsewhere from
    /// now on.
    pub(super) fn settle_reach(&mut self) -> bool {
        let now = self.now();
        let has_expired = self.own.handle_timeout(now.time);
        self.reach.set_candidates(&self.own.candidates(), now.time);
        self.reach.set_in_doubt(self.nat.lets_in_acquaintances());
        if let Some(question) = self.reach.poll_question(now.time) {
            let (id, conn, addresses) = (question.id, question.conn, question.addresses);
            self.net_commands.push(NetCommand::Check { id, conn, addresses });
        }
        if let Some(conn) = self.reach.poll_sight(now.time) {
            self.net_commands.push(NetCommand::SeeOverTcp { conn });
        }
        let has_changed = self.reach.take_change();
        if has_changed {
            for address in self.reach.reachable().filter(|address| !self.own.is_reachable(address)) {
                let (address, evidence) = (address.to_string(), Evidence::PeerConfirmed.name().to_owned());
                self.hub.publish(EventKind::AddressConfirmed { address, evidence });
            }
            self.own.set_checked(self.reach.reachable(), self.reach.unreachable());
            let (reachable, unreachable) = (self.reach.reachable().count(), self.reach.unreachable().count());
            tracing::info!(reachable, unreachable, "nodes have called us from outside");
        }
        if has_changed || has_expired {
            self.addresses_changed(now);
        }
        has_changed || has_expired
    }
}
