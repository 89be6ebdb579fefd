//! Several connections to one peer: which of them is used, how a relayed link gets a direct one, and when the relay is
//! given up.
//!
//! Holes are punched by the network, which reports what comes of it like any other connection. It has no rights until a
//! hello has succeeded on it. One side opens that hello, the one with the smaller transport key, so that two do not cross.

use crate::addr::Path;
use crate::id::{ConnId, PairingId};
use crate::limits;
use crate::link::links::{Certified, Links, Work};
use crate::link::{Event, Job, Output};
use crate::session::Inbound;
use crate::time::{Now, Time};

impl Links {
    /// The connection by which a peer is spoken to.
    pub(super) fn best(&self, pairing_id: PairingId) -> Option<(ConnId, &Certified)> {
        let all = self.conns.iter().filter(|(_, c)| c.pairing_id == pairing_id);
        all.min_by_key(|(_, c)| (c.doubt_until.is_some(), rank(c.path), c.order)).map(|(conn, c)| (*conn, c))
    }

    /// A connection that runs through no relay may be a better way to a peer that is, or will be, connected through one.
    pub(super) fn remember_direct(&mut self, conn: ConnId, from: Inbound) {
        if from.path == Path::Relay || self.conns.contains_key(&conn) {
            return;
        }
        self.direct.insert(conn, from);
        if self.direct.len() > limits::MAX_DIRECT {
            self.direct.pop_first();
        }
    }

    /// Opens a hello for every peer that is up through a relay alone and has a direct connection to us as well, if it is
    /// ours to open. Each such connection is tried once: where that fails, the relay stays.
    pub(super) fn improve(&mut self) {
        let relayed = self.conns.values().filter(|c| c.path == Path::Relay && self.config.tid < c.tid);
        let found = relayed.filter(|c| self.best(c.pairing_id).is_some_and(|(_, best)| best.path == Path::Relay));
        let mut to_try: Vec<(PairingId, ConnId, Inbound)> = Vec::new();
        for certified in found {
            let id = certified.pairing_id;
            if to_try.iter().any(|(known, ..)| *known == id) || self.is_improving(id) {
                continue;
            }
            let direct = self.direct.iter().filter(|(_, from)| from.tid == certified.tid);
            let best = direct.min_by_key(|(conn, from)| (rank(from.path), **conn));
            to_try.extend(best.map(|(conn, from)| (id, *conn, *from)));
        }
        for (id, conn, from) in to_try {
            self.direct.remove(&conn);
            self.job(Job::OpenHello(conn), Work::OpenHello(id, conn, from));
        }
    }

    /// Whether a hello with this peer runs on a direct connection, whoever opened it.
    fn is_improving(&self, id: PairingId) -> bool {
        let opening = |w: &Work| matches!(w, Work::OpenHello(of, _, from) if *of == id && from.path != Path::Relay);
        self.jobs.values().any(opening)
            || self.hellos.values().any(|h| h.step.pairing_id() == Some(id) && h.from.path != Path::Relay)
    }

    /// A connection of this peer came, went or is doubted: tells what that means for its link, and which relays are spare
    /// now. While one is doubted no other path is told: mostly it is the same again a round trip later.
    pub(super) fn path_changed(&mut self, pairing_id: PairingId, now: Now) {
        let after = self.path(pairing_id);
        let is_settled = !self.conns.values().any(|c| c.pairing_id == pairing_id && c.doubt_until.is_some());
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        entry.again.runs(after.map(|(path, _)| path), now.time);
        entry.punching.settle(after.is_some_and(|(path, _)| path == Path::Relay), now.time, &mut self.rng);
        let before = entry.told;
        if before.is_none() || after.is_none() || is_settled {
            entry.told = after;
        }
        match (before, after) {
            (None, Some((path, address))) => {
                self.out.push_back(Output::Event(Event::Up { pairing_id, path, address }));
            }
            (Some((from, _)), Some((to, address))) if from != to && is_settled => {
                self.out.push_back(Output::Event(Event::PathChanged { pairing_id, from, to, address }));
            }
            (Some(_), None) => {
                self.out.push_back(Output::Event(Event::Down { pairing_id }));
                entry.seek.start(now.time);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        let has_better = after.is_some_and(|(path, _)| path != Path::Relay);
        for certified in self.conns.values_mut().filter(|c| c.pairing_id == pairing_id && c.path == Path::Relay) {
            let until = certified.spare_until.unwrap_or(now.time + limits::SPARE_RELAY);
            certified.spare_until = has_better.then_some(until);
        }
    }

    /// Gives up the relayed connections that nobody has needed for long enough.
    pub(super) fn give_up_spares(&mut self, now: Now) {
        let due = |(conn, c): (&ConnId, &Certified)| c.spare_until.filter(|at| *at <= now.time).map(|_| *conn);
        let due: Vec<ConnId> = self.conns.iter().filter_map(due).filter(|conn| !self.is_in_use(*conn)).collect();
        for conn in due {
            self.conns.remove(&conn);
            self.out.push_back(Output::Close(conn));
        }
    }

    /// When the next ones are due. One that is over and still in use waits for the end of that, which is an input.
    pub(super) fn spares_due(&self, now: Now) -> Option<Time> {
        self.conns.values().filter_map(|c| c.spare_until).filter(|at| *at > now.time).min()
    }

    /// Whether something is under way on a connection.
    fn is_in_use(&self, conn: ConnId) -> bool {
        let opening = |w: &Work| matches!(w, Work::OpenHello(_, on, _) if *on == conn);
        self.hellos.values().any(|h| h.conn == conn)
            || self.jobs.values().any(opening)
            || self.pings.iter().any(|p| p.uses(conn))
            || self.ping_streams.values().any(|on| *on == conn)
    }
}

/// The better path first.
pub(super) fn rank(path: Path) -> u8 {
    match path {
        Path::Lan => 0,
        Path::Direct => 1,
        Path::Relay => 2,
    }
}
