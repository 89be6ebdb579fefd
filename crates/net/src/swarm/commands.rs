//! What the driver does for each command.

use handfast_proto::addr::{Address, RelayAddress};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::wire::frames::Frame;

use super::dials::Start;
use super::driver::Driver;
use crate::api::{Command, DialFailure, NetEvent, NetStatus, StreamEnd, StreamFailure, StreamProtocol};

impl Driver {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Put { id, record } => {
                let connected = self.anchors.connected();
                let kad = &mut self.swarm.behaviour_mut().kademlia;
                self.dht.put(id, &record, &connected, kad, &mut self.out);
            }
            Command::Get { id, topic } => {
                let kad = &mut self.swarm.behaviour_mut().kademlia;
                self.dht.get(id, topic, kad, &mut self.out);
            }
            Command::CancelGet { id } => {
                self.dht.cancel_get(id, &mut self.swarm.behaviour_mut().kademlia);
            }
            Command::Dial { id, tid, addresses, relays } => self.dial(id, tid, &addresses, &relays),
            Command::Punch { conn } => self.punch(conn),
            Command::PunchAgain { conn } => self.punch_again(conn),
            Command::Reserve { wanted } => self.reserve(wanted),
            Command::Check { id, conn, addresses } => self.check(id, conn, addresses),
            Command::SeeOverTcp { conn } => self.see_over_tcp(conn),
            Command::CancelDial { id } => {
                for attempt in self.dials.cancel(id) {
                    self.swarm.behaviour_mut().guard.give_up(attempt);
                }
            }
            Command::OpenStream { id, conn, protocol } => self.open_stream(id, conn, protocol),
            Command::Send { stream, frames } => self.send(stream, &frames),
            Command::CloseStream { stream } => self.streams.close(stream),
            Command::ResetStream { stream } => self.streams.reset(stream),
            Command::CloseConnection { conn } => self.close_connection(conn),
            Command::Hold { conn, hold } => self.hold(conn, hold),
            // The asker may be gone by now.
            Command::Status(reply) => drop(reply.send(self.status())),
        }
    }

    pub(super) fn dial(&mut self, id: JobId, tid: Option<Tid>, addresses: &[Address], relays: &[RelayAddress]) {
        if tid == Some(self.own) {
            let failure = DialFailure::Ourselves;
            return self.out.push(NetEvent::DialFailed { id, failure });
        }
        let alive = tid.and_then(|tid| self.conns.alive_to(&tid));
        if let Some(conn) = alive.filter(|conn| !conn.relayed || !relays.is_empty()) {
            let conn = conn.id;
            return self.out.push(NetEvent::Dialled { id, conn });
        }
        match self.dials.start(id, tid, addresses, relays, self.timing.dial) {
            Start::Failed(failure) => self.out.push(NetEvent::DialFailed { id, failure }),
            Start::Attempts(attempts) => {
                for opts in attempts {
                    self.attempt(opts);
                }
            }
        }
    }

    pub(super) fn open_stream(&mut self, id: JobId, conn: ConnId, protocol: StreamProtocol) {
        match self.conns.get(conn).filter(|conn| !conn.closing) {
            Some(found) => {
                let (peer, connection) = (found.peer, found.swarm_id);
                self.streams.asked(id, conn);
                self.swarm.behaviour_mut().streams.open(peer, connection, id, protocol);
            }
            None => self.out.push(NetEvent::StreamFailed { id, cause: StreamFailure::NoConnection }),
        }
    }

    pub(super) fn send(&mut self, stream: StreamId, frames: &[Frame]) {
        match self.streams.send(stream, frames) {
            Some(true) => {
                let bytes: usize = frames.iter().map(|f| 3 + f.body().len()).sum();
                self.counters.bytes_out += bytes as u64;
            }
            Some(false) => self.out.push(NetEvent::StreamClosed { stream, end: StreamEnd::Lost }),
            None => {}
        }
    }

    pub(super) fn close_connection(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.closing = true;
            self.stream_left(conn);
        }
    }

    /// Closes a connection that is to be closed, once nothing is leaving on it any more: closing it would cut off what
    /// is still on its way.
    pub(super) fn stream_left(&mut self, conn: ConnId) {
        if self.streams.any_leaving(conn) {
            return;
        }
        if let Some(found) = self.conns.get(conn).filter(|conn| conn.closing) {
            let connection = found.swarm_id;
            self.swarm.close_connection(connection);
        }
        if !self.streams.any_on(conn)
            && let Some((tid, cause)) = self.departing.remove(&conn)
        {
            self.out.push(NetEvent::Disconnected { conn, tid, cause });
        }
    }

    pub(super) fn hold(&mut self, conn: ConnId, hold: bool) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.held = hold;
            let (peer, connection) = (found.peer, found.swarm_id);
            let hold = hold || self.anchors.holds(connection);
            self.swarm.behaviour_mut().streams.hold(peer, connection, hold);
        }
    }

    pub(super) fn status(&mut self) -> NetStatus {
        let connections = self.conns.len();
        let behaviour = self.swarm.behaviour_mut();
        let known_nodes = behaviour.kademlia.kad().kbuckets().map(|bucket| bucket.num_entries()).sum();
        let records = behaviour.kademlia.records();
        let relay = self.hop.counts();
        NetStatus {
            connections,
            inbound: behaviour.guard.inbound(),
            dht_peers: self.anchors.count(),
            known_nodes,
            streams: self.streams.len(),
            queries: self.dht.len(),
            records: records.len(),
            record_counters: records.counters(),
            lookups_served: self.counters.lookups_served,
            lookups_hit: self.counters.lookups_hit,
            bytes_in: self.counters.bytes_in + self.dht.bytes_in,
            bytes_out: self.counters.bytes_out + self.dht.bytes_out,
            refused_connections: behaviour.guard.refused(),
            relay_reservations: relay.reservations,
            relay_circuits: relay.circuits,
            relay_circuits_total: relay.circuits_total,
            relay_denied: relay.denied,
            checks_called: self.reach.counts().0,
            checks_denied: self.reach.counts().1,
            listening: self.listening.clone(),
            announced: self.announced.clone(),
        }
    }
}
