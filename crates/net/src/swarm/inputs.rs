//! What the driver does with each event of the behaviours and of the streams.

use handfast_proto::id::StreamId;
use libp2p::relay::HOP_PROTOCOL_NAME;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, identify, kad};
use tokio::time::Instant;

use super::driver::Driver;
use super::stream_io::{FromStream, What};
use super::{candidates, kademlia, reach, streams};
use crate::api::{NetEvent, Role};

impl Driver {
    pub(super) fn on_kademlia(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                let answered = stats.num_successes() as usize;
                let kad = &mut self.swarm.behaviour_mut().kademlia;
                self.dht.progressed(id, result, answered, step.last, kad, &mut self.out);
            }
            kad::Event::InboundRequest { request } => {
                if let kad::InboundRequest::GetRecord { present_locally, .. } = request {
                    self.counters.lookups_served += 1;
                    self.counters.lookups_hit += u64::from(present_locally);
                }
            }
            kad::Event::RoutingUpdated { .. } => {
                self.dht.begin(&mut self.swarm.behaviour_mut().kademlia);
            }
            kad::Event::UnroutablePeer { .. }
            | kad::Event::RoutablePeer { .. }
            | kad::Event::PendingRoutablePeer { .. }
            | kad::Event::ModeChanged { .. } => {}
        }
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { connection_id, peer_id, info } => {
                self.on_identified(connection_id, peer_id, &info)
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } | identify::Event::Error { .. } => {}
        }
    }

    /// Trap 4 (Kademlia learns no addresses from identify): only who says it serves the DHT is entered, so a device
    /// never is.
    pub(super) fn on_identified(&mut self, connection: ConnectionId, peer: PeerId, info: &identify::Info) {
        let Some(conn) = self.conns.of_swarm(connection) else {
            return;
        };
        let (by, from, conn_id) = (conn.tid, conn.address, conn.id);
        // Through a relay a peer sees nothing of where we are, and is no node: it may say what it likes of both.
        if conn.relayed {
            return;
        }
        // Whoever calls a device can say that it is a node: only those that we have called count there.
        let counts = conn.endpoint.is_dialer() || self.role != Role::Device;
        let is_seed = counts && self.anchors.is_seed(&peer);
        if let Some(address) = candidates::observed(info, &conn.endpoint) {
            // One liar is enough to send those who punch with us elsewhere: here the nodes that we were given are asked.
            if is_seed {
                self.swarm.behaviour_mut().punch.reached_at(&address);
            }
            let calls_back = is_seed && info.protocols.contains(&reach::PROTOCOL_NAME);
            self.out.push(NetEvent::Observed { address, by, from, conn: conn_id, calls_back });
        }
        if is_seed {
            self.reach.listens(peer, from.ip, &info.listen_addrs);
        }
        if is_seed && info.protocols.contains(&HOP_PROTOCOL_NAME) {
            self.reservations.offered(peer, by, connection, from, Instant::now());
        }
        if counts && info.protocols.contains(&kademlia::PROTOCOL) {
            self.swarm.behaviour_mut().kademlia.add_node(&peer, &info.listen_addrs);
            self.on_node(peer, connection);
        }
    }

    pub(super) fn on_node(&mut self, peer: PeerId, connection: ConnectionId) {
        if self.anchors.connected_to(peer, connection, Instant::now()) {
            let kad = &mut self.swarm.behaviour_mut().kademlia;
            self.dht.node_connected(peer, kad);
        }
    }

    pub(super) fn on_stream(&mut self, event: streams::Event) {
        match event {
            streams::Event::Inbound { connection, protocol, stream, permit } => {
                let Some(conn) = self.conns.of_swarm(connection).filter(|c| !c.closing) else {
                    return;
                };
                self.streams.inbound(conn, protocol, stream, permit, self.timing.first_frame);
            }
            streams::Event::Outbound { job, result } => {
                // Nobody waits for it any more when its connection was reported gone.
                let asked = self.streams.answered(job);
                let Some(conn) = asked.and_then(|conn| self.conns.get(conn)) else {
                    return;
                };
                self.out.push(match result {
                    Ok(stream) => NetEvent::StreamOpened { id: job, stream: self.streams.outbound(conn, stream) },
                    Err(cause) => NetEvent::StreamFailed { id: job, cause },
                });
            }
        }
    }

    pub(super) fn on_stream_event(&mut self, event: FromStream) {
        let stream = event.stream;
        match event.what {
            What::Frame(frame) => {
                self.counters.bytes_in += 3 + frame.body().len() as u64;
                if let Some((conn, protocol)) = self.streams.heard(stream) {
                    self.out.push(NetEvent::StreamInbound { stream, conn, protocol });
                }
                if self.streams.is_followed(stream) {
                    self.out.push(NetEvent::Frame { stream, frame });
                }
            }
            What::Silent => {
                let conn = self.streams.conn_of(stream);
                if let Some(conn) = conn.and_then(|conn| self.conns.get(conn)) {
                    self.streams.silent(stream, conn.address.ip);
                }
            }
            What::Ended(end) => {
                if self.streams.is_followed(stream) {
                    self.out.push(NetEvent::StreamClosed { stream, end });
                }
                self.stream_ended(stream);
            }
            What::Left => self.stream_ended(stream),
        }
    }

    fn stream_ended(&mut self, stream: StreamId) {
        let Some(conn) = self.streams.ended(stream) else {
            return;
        };
        if let Some(found) = self.conns.get(conn) {
            let (peer, connection) = (found.peer, found.swarm_id);
            self.swarm.behaviour_mut().streams.stream_ended(peer, connection);
        }
        self.stream_left(conn);
    }
}
