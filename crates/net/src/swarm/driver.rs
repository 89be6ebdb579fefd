//! The task that owns the swarm: one call per kind of input, translated and forwarded.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use handfast_proto::addr::{Address, Class, classify};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::secret::Rng;
use handfast_proto::wire::frames::Frame;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionError, ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, kad};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::anchors::{Action, Anchors};
use super::behaviour::{Behaviour, Event};
use super::conns::Conns;
use super::dht::Dht;
use super::dials::{Dials, Over, Start};
use super::open_streams::OpenStreams;
use super::outbox::Outbox;
use super::resolve::{self, Resolved};
use super::stream_io::{FromStream, What};
use super::{candidates, ids, kademlia, streams};
use crate::api::{
    Command, DialFailure, DisconnectCause, NetEvent, NetStatus, Role, StreamEnd, StreamFailure, StreamProtocol, Timing,
};
use crate::interfaces;

/// How often Kademlia is asked whether a request has timed out, while queries run: it sets no timer of its own.
const QUERY_TICK: Duration = Duration::from_millis(250);

/// How often expired records are swept (protocol, section 5).
const SWEEP: Duration = Duration::from_secs(30);

/// Time for streams and connections to be closed properly at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything the task owns.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) out: Outbox,
    pub(super) from_streams: mpsc::Receiver<FromStream>,
    pub(super) resolved: mpsc::Receiver<Resolved>,
    pub(super) resolver: mpsc::Sender<Resolved>,
    pub(super) conns: Conns,
    pub(super) streams: OpenStreams,
    pub(super) dials: Dials,
    pub(super) dht: Dht,
    pub(super) anchors: Anchors,
    pub(super) role: Role,
    pub(super) timing: Timing,
    pub(super) own: Tid,
    pub(super) rng: Rng,
    pub(super) listening: Vec<Address>,
    /// Listen addresses that the configuration names without a wildcard: a node announces them whatever their class.
    pub(super) named: Vec<Address>,
    pub(super) announced: Vec<Address>,
    /// Connections that are gone while their streams still hand over what came.
    pub(super) departing: BTreeMap<ConnId, (Tid, DisconnectCause)>,
    pub(super) told_dht_peers: usize,
    pub(super) next_sweep: Instant,
    pub(super) counters: Counters,
}

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    lookups_served: u64,
    lookups_hit: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Driver {
    /// Runs until the owner drops its end.
    pub(super) async fn run(mut self) {
        self.start();
        loop {
            self.out.flush();
            let wake = self.next_wake();
            tokio::select! {
                alive = self.out.hand_over(), if !self.out.is_empty() => {
                    if !alive {
                        break;
                    }
                }
                command = self.commands.recv(), if self.out.takes_commands() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some(), if self.out.has_room() => {
                    self.on_swarm_event(event);
                }
                Some(event) = self.from_streams.recv(), if self.out.has_room() => {
                    self.on_stream_event(event);
                }
                Some(answer) = self.resolved.recv() => self.on_resolved(&answer),
                () = sleep_until(wake) => self.on_time(),
            }
            self.after_input();
        }
        self.farewell().await;
    }

    fn start(&mut self) {
        self.out.push(NetEvent::Interfaces(interfaces::list()));
        if let Role::Node { external } = &self.role {
            for address in external.clone() {
                self.announce(address);
            }
        }
        for address in self.listening_classes() {
            self.swarm.behaviour_mut().kademlia.allow(address);
        }
        self.anchors.enter(&mut self.swarm.behaviour_mut().kademlia);
        self.after_input();
    }

    fn listening_classes(&self) -> Vec<Class> {
        self.named.iter().chain(&self.announced).map(|address| classify(address.ip)).collect()
    }

    fn next_wake(&self) -> Instant {
        let query = (self.dht.len() > 0).then(|| Instant::now() + QUERY_TICK);
        [self.dials.next_deadline(), self.anchors.next_due(), query]
            .into_iter()
            .flatten()
            .fold(self.next_sweep, Instant::min)
    }

    // ---- commands ----

    fn on_command(&mut self, command: Command) {
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
            Command::Dial { id, tid, addresses } => self.dial(id, tid, &addresses),
            Command::CancelDial { id } => {
                for attempt in self.dials.cancel(id) {
                    self.swarm.behaviour_mut().guard.give_up(attempt);
                }
            }
            Command::OpenStream { id, conn, protocol } => self.open_stream(id, conn, protocol),
            Command::Send { stream, frames } => self.send(stream, &frames),
            Command::CloseStream { stream } => self.streams.close(stream),
            Command::ResetStream { stream } => self.reset_stream(stream),
            Command::CloseConnection { conn } => self.close_connection(conn),
            Command::Hold { conn, hold } => self.hold(conn, hold),
            // The asker may be gone by now.
            Command::Status(reply) => drop(reply.send(self.status())),
        }
    }

    fn dial(&mut self, id: JobId, tid: Option<Tid>, addresses: &[Address]) {
        if tid == Some(self.own) {
            let failure = DialFailure::Ourselves;
            return self.out.push(NetEvent::DialFailed { id, failure });
        }
        if let Some(conn) = tid.and_then(|tid| self.conns.alive_to(&tid)) {
            let conn = conn.id;
            return self.out.push(NetEvent::Dialled { id, conn });
        }
        match self.dials.start(id, tid, addresses, self.timing.dial) {
            Start::Failed(failure) => self.out.push(NetEvent::DialFailed { id, failure }),
            Start::Attempts(attempts) => {
                for opts in attempts {
                    let attempt = opts.connection_id();
                    if let Err(error) = self.swarm.dial(opts) {
                        self.attempt_failed(attempt, &error);
                    }
                }
            }
        }
    }

    fn open_stream(&mut self, id: JobId, conn: ConnId, protocol: StreamProtocol) {
        match self.conns.get(conn).filter(|conn| !conn.closing) {
            Some(found) => {
                let (peer, connection) = (found.peer, found.swarm_id);
                self.streams.asked(id, conn);
                self.swarm.behaviour_mut().streams.open(peer, connection, id, protocol);
            }
            None => self.out.push(NetEvent::StreamFailed { id, cause: StreamFailure::NoConnection }),
        }
    }

    fn send(&mut self, stream: StreamId, frames: &[Frame]) {
        match self.streams.send(stream, frames) {
            Some(true) => {
                let bytes: usize = frames.iter().map(|f| 3 + f.body().len()).sum();
                self.counters.bytes_out += bytes as u64;
            }
            Some(false) => self.out.push(NetEvent::StreamClosed { stream, end: StreamEnd::Lost }),
            None => {}
        }
    }

    fn reset_stream(&mut self, stream: StreamId) {
        if let Some(conn) = self.streams.ended(stream) {
            self.stream_left(conn);
        }
    }

    fn close_connection(&mut self, conn: ConnId) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.closing = true;
            self.stream_left(conn);
        }
    }

    /// Closes a connection that is to be closed, once nothing is leaving on it any more: closing it would cut off what
    /// is still on its way.
    fn stream_left(&mut self, conn: ConnId) {
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

    fn hold(&mut self, conn: ConnId, hold: bool) {
        if let Some(found) = self.conns.get_mut(conn) {
            found.held = hold;
            let (peer, connection) = (found.peer, found.swarm_id);
            let hold = hold || self.anchors.holds(connection);
            self.swarm.behaviour_mut().streams.hold(peer, connection, hold);
        }
    }

    fn status(&mut self) -> NetStatus {
        let connections = self.conns.len();
        let behaviour = self.swarm.behaviour_mut();
        let known_nodes = behaviour.kademlia.kad().kbuckets().map(|bucket| bucket.num_entries()).sum();
        let records = behaviour.kademlia.records();
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
            listening: self.listening.clone(),
            announced: self.announced.clone(),
        }
    }

    // ---- the swarm ----

    fn on_swarm_event(&mut self, event: SwarmEvent<Event>) {
        match event {
            SwarmEvent::Behaviour(Event::Kademlia(event)) => self.on_kademlia(event),
            SwarmEvent::Behaviour(Event::Identify(event)) => self.on_identify(*event),
            SwarmEvent::Behaviour(Event::Silent(silent)) => {
                if let Some(conn) = self.conns.of_swarm(silent.0) {
                    let (conn, tid) = (conn.id, conn.tid);
                    self.departing.insert(conn, (tid, DisconnectCause::TimedOut));
                    self.swarm.close_connection(silent.0);
                }
            }
            SwarmEvent::Behaviour(Event::Streams(event)) => self.on_stream(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, endpoint)
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.on_closed(peer_id, connection_id, cause.as_ref())
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.attempt_failed(connection_id, &error)
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(&address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_listener_gone(&address),
            SwarmEvent::ListenerClosed { addresses, .. } => {
                for address in &addresses {
                    self.on_listener_gone(address);
                }
            }
            SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::IncomingConnectionError { .. }
            | SwarmEvent::ListenerError { .. }
            | SwarmEvent::Dialing { .. }
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. }
            | _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: ConnectedPoint) {
        let address = ids::address_of(endpoint.get_remote_address());
        let (Some(tid), Some(address)) = (ids::tid_of(&peer), address) else {
            self.swarm.close_connection(connection);
            return;
        };
        let dialled = endpoint.is_dialer();
        let conn = self.conns.add(connection, peer, tid, address, endpoint);
        self.out.push(NetEvent::Connected { conn, tid, address, dialled });
        for over in self.dials.connected(connection, &peer, conn) {
            self.dial_over(over);
        }
        if self.anchors.is_seed(&peer) {
            self.on_node(peer, connection);
        }
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, cause: Option<&ConnectionError>) {
        self.anchors.disconnected(peer, connection, Instant::now());
        let Some(conn) = self.conns.remove(connection) else {
            return;
        };
        for id in self.streams.unanswerable(conn.id) {
            self.out.push(NetEvent::StreamFailed { id, cause: StreamFailure::NoConnection });
        }
        self.departing.entry(conn.id).or_insert_with(|| (conn.tid, disconnect_cause(cause)));
        self.stream_left(conn.id);
    }

    fn attempt_failed(&mut self, attempt: ConnectionId, error: &DialError) {
        self.anchors.dial_failed(attempt, Instant::now(), &mut self.rng);
        if let Some(over) = self.dials.attempt_failed(attempt, error) {
            self.dial_over(over);
        }
    }

    fn dial_over(&mut self, over: Over) {
        for attempt in over.give_up {
            self.swarm.behaviour_mut().guard.give_up(attempt);
        }
        let id = over.id;
        self.out.push(match over.result {
            Ok(conn) => NetEvent::Dialled { id, conn },
            Err(failure) => NetEvent::DialFailed { id, failure },
        });
    }

    fn on_listening(&mut self, address: &Multiaddr) {
        let Some(address) = ids::address_of(address) else {
            return;
        };
        if !self.listening.contains(&address) {
            self.listening.push(address);
            self.out.push(NetEvent::Listening { address });
            self.out.push(NetEvent::Interfaces(interfaces::list()));
            let named = self.named.iter().any(|a| a.ip == address.ip && a.transport == address.transport);
            if matches!(self.role, Role::Node { .. }) && (named || classify(address.ip) == Class::Public) {
                self.announce(address);
            }
        }
    }

    fn on_listener_gone(&mut self, address: &Multiaddr) {
        let Some(address) = ids::address_of(address) else {
            return;
        };
        if self.listening.contains(&address) {
            self.listening.retain(|known| *known != address);
            self.out.push(NetEvent::ListenerGone { address });
            self.out.push(NetEvent::Interfaces(interfaces::list()));
            if self.announced.contains(&address) && !self.is_external(&address) {
                self.announced.retain(|known| *known != address);
                self.swarm.remove_external_address(&ids::multiaddr_of(&address));
                self.tell_peers();
            }
        }
    }

    fn is_external(&self, address: &Address) -> bool {
        match &self.role {
            Role::Device => false,
            Role::Node { external } => external.contains(address),
        }
    }

    fn announce(&mut self, address: Address) {
        if !self.announced.contains(&address) {
            self.announced.push(address);
            self.swarm.add_external_address(ids::multiaddr_of(&address));
            self.tell_peers();
        }
    }

    fn tell_peers(&mut self) {
        let peers: Vec<PeerId> = self.conns.iter().map(|conn| conn.peer).collect();
        self.swarm.behaviour_mut().identify.push(peers);
    }

    // ---- behaviours ----

    fn on_kademlia(&mut self, event: kad::Event) {
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

    fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { connection_id, peer_id, info } => {
                self.on_identified(connection_id, peer_id, &info)
            }
            identify::Event::Sent { .. } | identify::Event::Pushed { .. } | identify::Event::Error { .. } => {}
        }
    }

    /// Trap 4 (Kademlia learns no addresses from identify): only who says it serves the DHT is entered, so a device
    /// never is.
    fn on_identified(&mut self, connection: ConnectionId, peer: PeerId, info: &identify::Info) {
        let Some(conn) = self.conns.of_swarm(connection) else {
            return;
        };
        let by = conn.tid;
        if let Some(address) = candidates::observed(info, &conn.endpoint) {
            self.out.push(NetEvent::Observed { address, by });
        }
        if info.protocols.contains(&kademlia::PROTOCOL) {
            self.swarm.behaviour_mut().kademlia.add_node(&peer, &info.listen_addrs);
            self.on_node(peer, connection);
        }
    }

    fn on_node(&mut self, peer: PeerId, connection: ConnectionId) {
        if self.anchors.connected_to(peer, connection, Instant::now()) {
            let kad = &mut self.swarm.behaviour_mut().kademlia;
            self.dht.node_connected(peer, kad);
        }
    }

    fn on_stream(&mut self, event: streams::Event) {
        match event {
            streams::Event::Inbound { connection, protocol, stream, permit } => {
                let Some(conn) = self.conns.of_swarm(connection).filter(|c| !c.closing) else {
                    return;
                };
                let (conn, ip) = (conn.id, conn.address.ip);
                if let Some(stream) = self.streams.inbound(conn, ip, stream, permit, self.timing.first_frame) {
                    self.out.push(NetEvent::StreamInbound { stream, conn, protocol });
                }
            }
            streams::Event::Outbound { job, result } => {
                // Nobody waits for it any more when its connection was reported gone.
                let Some(conn) = self.streams.answered(job) else {
                    return;
                };
                self.out.push(match result {
                    Ok(stream) => NetEvent::StreamOpened { id: job, stream: self.streams.outbound(conn, stream) },
                    Err(cause) => NetEvent::StreamFailed { id: job, cause },
                });
            }
        }
    }

    fn on_stream_event(&mut self, event: FromStream) {
        let stream = event.stream;
        match event.what {
            What::Frame(frame) => {
                self.counters.bytes_in += 3 + frame.body().len() as u64;
                self.streams.spoke(stream);
                if self.streams.is_heard(stream) {
                    self.out.push(NetEvent::Frame { stream, frame });
                }
            }
            What::Ended(end) => {
                let heard = self.streams.is_heard(stream);
                let conn = self.streams.ended(stream);
                if heard {
                    self.out.push(NetEvent::StreamClosed { stream, end });
                }
                if let Some(conn) = conn {
                    self.stream_left(conn);
                }
            }
            What::Closed => {
                if let Some(conn) = self.streams.ended(stream) {
                    self.stream_left(conn);
                }
            }
        }
    }

    // ---- time ----

    fn on_resolved(&mut self, answer: &Resolved) {
        let now = Instant::now();
        let kad = &mut self.swarm.behaviour_mut().kademlia;
        let call = self.anchors.resolved(answer.seed, &answer.addresses, now, &mut self.rng, kad);
        self.dht.begin(kad);
        if let Some(opts) = call {
            self.call_node(opts);
        }
    }

    fn call_node(&mut self, opts: libp2p::swarm::dial_opts::DialOpts) {
        let attempt = opts.connection_id();
        if let Err(error) = self.swarm.dial(opts) {
            self.attempt_failed(attempt, &error);
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        for over in self.dials.expire(now) {
            self.dial_over(over);
        }
        let kad = &mut self.swarm.behaviour_mut().kademlia;
        self.dht.expire(now, kad, &mut self.out);
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            kad.sweep();
        }
    }

    fn after_input(&mut self) {
        let now = Instant::now();
        for action in self.anchors.due(now, &mut self.rng) {
            match action {
                Action::Resolve(request) => resolve::spawn(request, self.resolver.clone()),
                Action::Dial(opts) => self.call_node(opts),
                Action::Explore => {
                    // Without any node in the table there is nobody to ask; the next round tries again.
                    let _ = self.swarm.behaviour_mut().kademlia.kad().bootstrap();
                }
                Action::Hold(peer, connection, hold) => self.swarm.behaviour_mut().streams.hold(peer, connection, hold),
            }
        }
        let connected = self.anchors.count();
        if connected != self.told_dht_peers {
            self.told_dht_peers = connected;
            self.out.push(NetEvent::DhtPeers(connected));
        }
        let pace = self.dht.pace(connected > 0);
        self.swarm.behaviour_mut().kademlia.set_pace(pace);
    }

    /// Lets closing streams leave, then closes every connection, so that peers notice at once.
    async fn farewell(mut self) {
        self.out.flush();
        self.streams.reset_all();
        let leave = async {
            while self.streams.any_leaving_at_all() {
                tokio::select! {
                    _ = self.swarm.select_next_some() => {}
                    Some(event) = self.from_streams.recv() => match event.what {
                        What::Frame(_) => {}
                        What::Ended(_) | What::Closed => {
                            self.streams.ended(event.stream);
                        }
                    },
                }
            }
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            for peer in peers {
                // An error means that it is gone already.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // What has not left by then stays behind.
        let _ = timeout(FAREWELL, leave).await;
    }
}

fn disconnect_cause(cause: Option<&ConnectionError>) -> DisconnectCause {
    match cause {
        None | Some(ConnectionError::KeepAliveTimeout) => DisconnectCause::Closed,
        Some(ConnectionError::IO(error)) => {
            // The transports box their errors: only the text says what it was.
            let text = error.to_string();
            if text.contains("timed out") {
                DisconnectCause::TimedOut
            } else if text.contains("closed") {
                DisconnectCause::Closed
            } else {
                DisconnectCause::Broken
            }
        }
    }
}
