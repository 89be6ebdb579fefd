//! Peers that are met on a connection on which no hello has succeeded: the pairing may still run on it.
//!
//! Where two devices pair through a relay, a hole may be punched long before their people have agreed. The direct
//! connection that comes of it is needed only when they have, and is kept until then, or until the relayed one has ended.

use std::collections::BTreeSet;

use crate::addr::Path;
use crate::id::{ConnId, PairingId, Tid};
use crate::limits;
use crate::link::links::paths::rank;
use crate::link::links::{Links, Work};
use crate::link::seek::Target;
use crate::link::{Job, Output};
use crate::session::Inbound;
use crate::time::Now;

impl Links {
    /// Makes a link of the connection on which a handshake with this transport key has just ended well, or of a better one
    /// to the same key. Where that fails, the peer is looked for soon.
    pub fn greet(&mut self, pairing_id: PairingId, tid: Tid, now: Now) {
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        let met = self.direct.iter().chain(&self.relayed).filter(|(_, from)| from.tid == tid);
        let best = met.min_by_key(|(conn, from)| (rank(from.path), **conn)).map(|(conn, from)| (*conn, *from));
        entry.seek.set_target(Target { tid, addresses: entry.peer.addresses.clone(), relays: Vec::new() });
        entry.seek.want(now.time, now.time + limits::HELLO_RETRY);
        if let Some((conn, from)) = best {
            entry.seek.start(now.time + limits::GREETED);
            self.direct.remove(&conn);
            self.job(Job::OpenHello(conn), Work::OpenHello(pairing_id, conn, from));
        }
        self.handle_timeout(now);
    }

    /// A connection through a relay stands: of whoever it is, it may be the one of a pairing.
    pub(super) fn remember_relayed(&mut self, conn: ConnId, from: Inbound) {
        if from.path == Path::Relay && !self.conns.contains_key(&conn) {
            self.relayed.insert(conn, from);
            if self.relayed.len() > limits::MAX_DIRECT {
                self.relayed.pop_first();
            }
        }
    }

    /// Keeps direct connections beside relayed ones on which nothing is proven yet, and no others.
    pub(super) fn settle_met(&mut self) {
        if self.relayed.is_empty() && self.kept.is_empty() {
            return;
        }
        let met: BTreeSet<Tid> = self.relayed.values().map(|from| from.tid).collect();
        let awaited: BTreeSet<ConnId> =
            self.direct.iter().filter(|(_, from)| met.contains(&from.tid)).map(|(conn, _)| *conn).collect();
        for conn in awaited.difference(&self.kept) {
            self.out.push_back(Output::Hold { conn: *conn, hold: true });
        }
        // What a hello has succeeded on is held for that, and what it is tried on by its stream.
        for conn in self.kept.difference(&awaited).filter(|conn| !self.conns.contains_key(conn)) {
            self.out.push_back(Output::Hold { conn: *conn, hold: false });
        }
        self.kept = awaited;
    }
}
