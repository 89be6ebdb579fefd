//! Connections that may be dead although nothing has said so.
//!
//! A peer that is connected does not look for us. If it comes on a new connection all the same, it has lost the others: it
//! has moved to another network, say, and here only silence would show that. So the new one is used at once, and the others
//! are asked. Two devices that have called each other at the same moment look alike; then the answer comes a round trip
//! later, and nothing has happened. (Where the new one is the better one, the peer may only have wanted that.)

use crate::id::{ConnId, PairingId, StreamId, Tid};
use crate::limits;
use crate::link::links::paths::rank;
use crate::link::links::{Certified, Links, Work};
use crate::link::{Job, Output};
use crate::time::{Now, Time};
use crate::wire::frames::{Frame, FrameType};

/// What a question to a doubtful connection says: the answer repeats it, and comes on its stream.
const PROBE: [u8; 8] = [0; 8];

impl Links {
    /// The peer has opened a hello on `new`, and it has succeeded.
    pub(super) fn doubt_others(&mut self, id: PairingId, new: ConnId, tid: Tid, now: Now) {
        let Some(path) = self.conns.get(&new).map(|c| c.path) else { return };
        let others = self.conns.iter_mut().filter(|(conn, c)| c.pairing_id == id && **conn != new);
        let (mut dead, mut doubtful) = (Vec::new(), Vec::new());
        for (conn, certified) in others {
            if certified.tid != tid {
                // Another run of the peer, which has ended.
                dead.push(*conn);
            } else if certified.doubt_until.is_none() && rank(certified.path) <= rank(path) {
                certified.doubt_until = Some(now.time + limits::DOUBT);
                doubtful.push(*conn);
            }
        }
        for conn in dead {
            self.give_up(conn, now);
        }
        for conn in doubtful {
            self.job(Job::OpenPing(conn), Work::Probe(conn));
        }
    }

    /// Asks a doubtful connection.
    pub(super) fn probe(&mut self, conn: ConnId, stream: StreamId) {
        if self.conns.get(&conn).is_some_and(|c| c.doubt_until.is_some()) {
            self.probes.insert(stream, conn);
            let frame = Frame::new(FrameType::Ping, PROBE.to_vec());
            self.out.push_back(Output::Send { stream, frames: vec![frame] });
        } else {
            self.out.push_back(Output::Finish(stream));
        }
    }

    /// Whether this frame answers such a question: the connection lives.
    pub(super) fn dispels(&mut self, stream: StreamId, frame: &Frame, now: Now) -> bool {
        let Some(conn) = self.probes.remove(&stream) else { return false };
        self.out.push_back(Output::Finish(stream));
        let asked = self.conns.get(&conn).filter(|_| frame.kind() == FrameType::Pong && frame.body() == PROBE);
        if let Some(id) = asked.map(|c| c.pairing_id) {
            self.conns.entry(conn).and_modify(|c| c.doubt_until = None);
            self.path_changed(id, now);
        }
        true
    }

    /// Gives up the connections that have not answered in time.
    pub(super) fn give_up_doubtful(&mut self, now: Now) {
        let is_due = |(conn, c): (&ConnId, &Certified)| c.doubt_until.filter(|at| *at <= now.time).map(|_| *conn);
        let due: Vec<ConnId> = self.conns.iter().filter_map(is_due).collect();
        for conn in due {
            self.give_up(conn, now);
        }
    }

    /// Gives up what a peer has more of than it can need: the oldest of those that are not used.
    pub(super) fn give_up_surplus(&mut self, id: PairingId, new: ConnId, now: Now) {
        while self.conns.values().filter(|c| c.pairing_id == id).count() > limits::MAX_CONNECTIONS_OF_PEER {
            let best = self.best(id).map(|(conn, _)| conn);
            let is_spare =
                |(conn, c): &(&ConnId, &Certified)| c.pairing_id == id && **conn != new && Some(**conn) != best;
            let oldest = self.conns.iter().filter(is_spare).min_by_key(|(_, c)| c.order).map(|(conn, _)| *conn);
            let Some(oldest) = oldest else { return };
            self.give_up(oldest, now);
        }
    }

    /// When the next one's time is over.
    pub(super) fn doubts_due(&self) -> Option<Time> {
        self.conns.values().filter_map(|c| c.doubt_until).min()
    }

    fn give_up(&mut self, conn: ConnId, now: Now) {
        self.probes.retain(|_, on| *on != conn);
        self.forget_connection(conn, now);
        self.out.push_back(Output::Close(conn));
    }
}
