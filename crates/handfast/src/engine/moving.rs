//! Another network, or the same one after a sleep.

use handfast_proto::time::Now;

use crate::engine::actor::Actor;

impl Actor {
    /// What was known of where we are does not hold any more.
    pub(super) fn moved(&mut self, now: Now) {
        self.own.moved();
        self.reach.moved();
        self.nat.moved(now.time);
        self.portmap.moved(now.time);
        self.addresses_changed(now);
        self.links.moved(now);
    }

    /// What was known may hold or not: routers, nodes and paired devices may have forgotten us.
    pub(super) fn resumed(&mut self, now: Now) {
        self.reach.moved();
        self.nat.moved(now.time);
        self.portmap.resumed(now.time);
        self.table.dht_reachable(now);
        self.links.dht_reachable(now);
        self.links.moved(now);
    }
}
