//! The actor: one task that owns the machines, the network and the store's mirror. It hands inputs to the machines and
//! carries out what they want; it tests no state of a protocol.

use std::time::Duration;

use handfast_net::{Clock, Command as NetCommand, NetEvent, StreamProtocol, Transport};
use handfast_proto::addresses::OwnAddresses;
use handfast_proto::id::PairingId;
use handfast_proto::lan::Lan;
use handfast_proto::lan::io::{Command as LanCommand, Event as LanInput};
use handfast_proto::link::{Links, PairState};
use handfast_proto::portmap::{Job, Outcome};
use handfast_proto::reach::{Checker, Node};
use handfast_proto::session::{DialFailure, JobResult, Reached, StreamEnd, Table};
use handfast_proto::stun::behaviour::Behaviour;
use handfast_proto::stun::watch::Look;
use handfast_proto::time::{Now, Time};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Error;
use crate::engine::command::Command;
use crate::engine::comparisons::Comparisons;
use crate::engine::lan::Driver;
use crate::engine::nat::Nat;
use crate::engine::peers::{self, Peers, Pings};
use crate::engine::portmap::Portmap;
use crate::engine::relays::Relays;
use crate::engine::shown::Shown;
use crate::engine::wires::{Kind, Owner, Wires};
use crate::event::{EventKind, Hub};
use crate::status::{AddressStatus, DeviceEntry, OpenSession, Status};
use crate::store::worker::{Asker, Change, Done, Worker};
use crate::store::{PeerRow, Ports};

/// How long a stopping device may take to withdraw its codes from the DHT.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long of it routers may take to forget the ports they map for us.
const UNMAPPING: Duration = Duration::from_secs(1);
/// Inputs handled before commands to the network are sent and the status is published.
const BATCH: usize = 32;

/// Everything a running device is.
pub(super) struct Actor {
    pub(super) clock: Clock,
    pub(super) table: Table,
    pub(super) links: Links,
    pub(super) own: OwnAddresses,
    pub(super) wires: Wires,
    pub(super) worker: Worker,
    pub(super) peers: Peers,
    pub(super) pings: Pings,
    pub(super) hub: Hub,
    pub(super) lan: Lan,
    pub(super) nat: Nat,
    pub(super) relays: Relays,
    pub(super) portmap: Portmap,
    pub(super) reach: Checker,
    pub(super) uses_lan: bool,
    /// A node of the DHT is configured.
    pub(super) knows_nodes: bool,
    /// It was told to use neither the DHT nor the local network.
    pub(super) keeps_to_itself: bool,
    pub(super) comparisons: Comparisons,
    /// The codes that are being shown.
    pub(super) shown: Shown,
    /// Codes asked for before we know where we are.
    pub(super) early: Vec<Command>,
    /// Commands for the local network that the current batch has brought.
    pub(super) lan_commands: Vec<LanCommand>,
    pub(super) ports: Ports,
    pub(super) status: watch::Sender<Status>,
    /// Commands for the network that the current batch has brought.
    pub(super) net_commands: Vec<NetCommand>,
    pub(super) stopping: Option<Stopping>,
}

/// A stop that waits for tombstones, and for routers.
pub(super) struct Stopping {
    until: Time,
    unmapped_by: Time,
    done: Vec<oneshot::Sender<()>>,
}

/// What arrived.
enum Input {
    Command(Command),
    Net(NetEvent),
    Lan(LanInput),
    Stored(Done),
    Nat(Look, Behaviour),
    Portmap(Job, Outcome),
    Timer,
    /// Every handle is gone: nobody can ask for anything any more.
    Abandoned,
}

impl Actor {
    /// Runs the device until it is stopped.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Command>, mut net: impl Transport, mut lan: Driver) {
        let now = self.now();
        self.links.handle_timeout(now);
        while self.carry_out(&net).await && !self.has_stopped() {
            self.carry_out_lan(&lan).await;
            let Some(input) = self.next_input(&mut inbox, &mut net, &mut lan).await else { break };
            self.turn(input);
            for _ in 0..BATCH {
                self.drain();
                let Some(input) = self.ready_input(&mut inbox) else { break };
                self.turn(input);
            }
        }
        self.finish(net, lan).await;
    }

    /// Hands the network what the machines want from it. False if the network is gone.
    async fn carry_out(&mut self, net: &impl Transport) -> bool {
        self.drain();
        for command in std::mem::take(&mut self.net_commands) {
            if net.send(command).await.is_err() {
                return false;
            }
        }
        self.publish_status();
        true
    }

    /// The moment, on both clocks.
    pub(super) fn now(&self) -> Now {
        Now { time: self.clock.now(), unix: self.clock.unix() }
    }

    async fn next_input(
        &mut self,
        inbox: &mut mpsc::Receiver<Command>,
        net: &mut impl Transport,
        lan: &mut Driver,
    ) -> Option<Input> {
        let deadline = self.deadline();
        let timer = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(self.clock.instant(at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = self.worker.done.recv() => done.map(Input::Stored),
            () = timer => Some(Input::Timer),
            command = inbox.recv(), if self.stopping.is_none() => Some(command.map_or(Input::Abandoned, Input::Command)),
            // In no fixed order: a flood on one network must not silence the other.
            input = async { tokio::select! {
                event = net.next() => event.map(Input::Net),
                event = lan.next() => Some(Input::Lan(event)),
                (look, found) = self.nat.next() => Some(Input::Nat(look, found)),
                (job, outcome) = self.portmap.next() => Some(Input::Portmap(job, outcome)),
            } } => input,
        }
    }

    /// An input that is there already; the network's come through [`Actor::next_input`], one a turn, so that a busy
    /// network cannot keep commands waiting.
    fn ready_input(&mut self, inbox: &mut mpsc::Receiver<Command>) -> Option<Input> {
        self.worker.done.try_recv().ok().map(Input::Stored).or_else(|| inbox.try_recv().ok().map(Input::Command))
    }

    /// Hands an input to whom it concerns.
    fn turn(&mut self, input: Input) {
        match input {
            Input::Command(command) => self.command(command),
            Input::Net(event) => self.net_event(event),
            Input::Lan(event) => self.lan_input(event),
            Input::Stored(done) => self.stored(done),
            Input::Nat(look, found) => {
                let now = self.now();
                self.nat.looked(look, found, now.time);
                if self.own.set_public(self.nat.public().collect()) {
                    self.addresses_changed(now);
                }
            }
            Input::Portmap(job, outcome) => {
                let now = self.now();
                self.portmap.done(job, outcome, now.time);
            }
            Input::Timer => {
                let now = self.now();
                self.nat.handle_timeout(now.time);
                self.table.handle_timeout(now);
                self.links.handle_timeout(now);
                self.lan.handle_timeout(now.time);
                self.serve_early(now);
            }
            Input::Abandoned => self.stop(None),
        }
    }

    fn deadline(&self) -> Option<Time> {
        let stopping =
            self.stopping.as_ref().map(|s| if s.unmapped_by > self.clock.now() { s.unmapped_by } else { s.until });
        let now = self.now();
        let machines = [
            self.table.poll_timeout(),
            self.links.poll_timeout(now),
            self.lan.poll_timeout(now.time),
            self.nat.poll_timeout(),
            self.portmap.poll_timeout(),
            self.reach.poll_timeout(),
            self.own.poll_timeout(),
        ];
        let early = (!self.early.is_empty()).then(|| self.shown.settled_by());
        machines.into_iter().chain([stopping, early]).flatten().min()
    }

    fn net_event(&mut self, event: NetEvent) {
        let now = self.now();
        match event {
            NetEvent::Listening { address } => {
                self.own.listening(address);
                self.remember_port(address);
                self.addresses_changed(now);
            }
            NetEvent::ListenerGone { address } => {
                let evidence = self.own.evidence_of(&address).name().to_owned();
                self.own.listener_gone(&address);
                self.hub.publish(EventKind::AddressLost { address: address.to_string(), evidence });
                self.addresses_changed(now);
            }
            NetEvent::Interfaces(list) => {
                self.nat.set_addresses(list.iter().map(|i| i.address.ip), now.time);
                self.portmap.look_around();
                // While it looks, the local network's driver knows more of them.
                if !self.uses_lan {
                    self.interfaces_alone(list.into_iter().map(|i| i.address).collect());
                }
            }
            NetEvent::Moved => self.moved(now),
            NetEvent::Resumed => self.resumed(now),
            NetEvent::Observed { address, from, conn, calls_back, .. } => {
                self.observed(Node { conn, at: from.ip, sees: address }, calls_back, now);
            }
            NetEvent::Checked { id, verdict } => self.checked(id, &verdict, now),
            NetEvent::Connected { conn, tid, address, relayed, dialled, local } => {
                self.wires.connected(conn, tid, address, relayed, local);
                if let Some(from) = self.wires.peer(conn) {
                    self.links.handle_connected(conn, from, now);
                    if !dialled {
                        self.table.handle_connected(conn, from, now);
                    }
                }
            }
            NetEvent::Disconnected { conn, .. } => {
                self.wires.disconnected(conn);
                self.observer_gone(conn, now);
                self.links.handle_disconnected(conn, now);
            }
            NetEvent::Dialled { id, conn } => {
                let result = match self.wires.peer(conn) {
                    Some(peer) => {
                        JobResult::Dialled(Reached { conn, tid: peer.tid, address: peer.address, path: peer.path })
                    }
                    None => JobResult::DialFailed(DialFailure::NoAnswer),
                };
                self.job_done(id, result, now);
            }
            NetEvent::DialFailed { id, failure } => {
                self.job_done(id, JobResult::DialFailed(dial_failure(&failure)), now);
            }
            NetEvent::StreamOpened { id, stream } => self.stream_opened(id, stream, now),
            NetEvent::StreamFailed { id, .. } => self.job_done(id, JobResult::StreamFailed, now),
            NetEvent::StreamInbound { stream, conn, protocol } => self.stream_inbound(stream, conn, protocol, now),
            NetEvent::Frame { stream, frame } => match self.wires.protocol(stream) {
                Some(StreamProtocol::Pair) => self.table.handle_frame(stream, frame, now),
                Some(StreamProtocol::Hello | StreamProtocol::Ping) => self.links.handle_frame(stream, &frame, now),
                None => {}
            },
            NetEvent::StreamClosed { stream, end } => match self.wires.remove_stream(stream) {
                Some(StreamProtocol::Pair) => self.table.handle_stream_end(stream, stream_end(end), now),
                Some(StreamProtocol::Hello | StreamProtocol::Ping) => self.links.handle_stream_end(stream, now),
                None => {}
            },
            NetEvent::Stored { .. } => {}
            NetEvent::PutDone { id, stored_on } => self.job_done(id, JobResult::Published { stored_on }, now),
            NetEvent::Found { id, record } => match self.wires.owner(id) {
                Some((Owner::Table, job)) => self.table.handle_job(job, JobResult::Found(record), now),
                Some((Owner::Links, job)) => self.links.handle_job(job, JobResult::Found(record), now),
                None => {}
            },
            NetEvent::GetDone { id, answered } => self.job_done(id, JobResult::LookedUp { answered }, now),
            NetEvent::DhtPeers(n) => self.dht_peers(n, now),
            NetEvent::Relays(relays) => self.relays_changed(relays, now),
        }
    }

    fn job_done(&mut self, id: handfast_proto::id::JobId, result: JobResult, now: Now) {
        match self.wires.end(id) {
            Some((Owner::Table, job, _)) => self.table.handle_job(job, result, now),
            Some((Owner::Links, job, _)) => self.links.handle_job(job, result, now),
            None => {}
        }
    }

    fn stream_opened(&mut self, id: handfast_proto::id::JobId, stream: handfast_proto::id::StreamId, now: Now) {
        match self.wires.end(id) {
            Some((owner, job, Kind::Open(protocol))) => {
                self.wires.add_stream(stream, protocol);
                match owner {
                    Owner::Table => self.table.handle_job(job, JobResult::StreamOpened(stream), now),
                    Owner::Links => self.links.handle_job(job, JobResult::StreamOpened(stream), now),
                }
            }
            Some((_, _, Kind::Put | Kind::Get | Kind::Dial)) | None => {
                self.net_commands.push(NetCommand::CloseStream { stream });
            }
        }
    }

    fn stream_inbound(
        &mut self,
        stream: handfast_proto::id::StreamId,
        conn: handfast_proto::id::ConnId,
        protocol: StreamProtocol,
        now: Now,
    ) {
        let Some(from) = self.wires.peer(conn) else {
            self.net_commands.push(NetCommand::ResetStream { stream });
            return;
        };
        self.wires.add_inbound(stream, protocol, conn);
        match protocol {
            StreamProtocol::Pair => self.table.handle_inbound(stream, from),
            StreamProtocol::Hello => self.links.handle_hello_stream(stream, conn, from, now),
            StreamProtocol::Ping => self.links.handle_ping_stream(stream, conn),
        }
    }

    fn dht_peers(&mut self, n: usize, now: Now) {
        let before = self.status.borrow().dht_nodes;
        self.status.send_modify(|s| s.dht_nodes = n);
        if before == 0 && n > 0 {
            self.table.dht_reachable(now);
            self.links.dht_reachable(now);
        }
    }

    pub(super) fn addresses_changed(&mut self, now: Now) {
        self.lan.set_ports(self.own.ports(), now.time);
        for session in self.shown.set_hints(self.own.hints()) {
            self.hub.publish(EventKind::CodeRedrawn { session });
        }
        self.serve_early(now);
        let addresses = self.own.publishable();
        self.table.set_addresses(addresses.clone(), now);
        self.links.set_addresses(addresses, now);
    }

    /// Makes the codes that were asked for before we knew where we are.
    fn serve_early(&mut self, now: Now) {
        if self.shown.is_settled(now.time) {
            for command in std::mem::take(&mut self.early) {
                self.command(command);
            }
        }
    }

    fn remember_port(&mut self, address: handfast_proto::addr::Address) {
        let port = match address.transport {
            handfast_proto::addr::Transport::Quic => &mut self.ports.udp,
            handfast_proto::addr::Transport::Tcp => &mut self.ports.tcp,
        };
        // At the first start the two families have ports of their own, and one is kept for both: the one at which a peer on
        // this network has most likely met us.
        if *port != address.port && (address.ip.is_ipv4() || *port == 0) {
            *port = address.port;
            // Losing this costs a new port at the next start, nothing else.
            self.worker.submit(Asker::Nobody, Change::Ports(self.ports));
        }
    }

    fn stored(&mut self, done: Done) {
        let now = self.now();
        let result = match &done.result {
            Ok(replaced) => {
                self.apply(done.change, replaced, now);
                JobResult::Stored
            }
            Err(error) => {
                tracing::error!(%error, "the store failed");
                done.change.failed(&Error::from(error));
                JobResult::StoreFailed
            }
        };
        match done.asker {
            Asker::Table(job) => self.table.handle_job(job, result, now),
            Asker::Links(job) => self.links.handle_job(job, result, now),
            Asker::Nobody => {}
        }
    }

    /// The disk has a change: now memory may have it too.
    fn apply(&mut self, change: Change, replaced: &[PairingId], now: Now) {
        match change {
            Change::Add(row) => {
                self.table.hold(row.pairing_id);
                self.links.add(row.to_peer(), now);
                self.peers.insert(*row);
            }
            Change::Contact(id, contact) => {
                if let Some(row) = self.peers.get_mut(id) {
                    contact.apply(row);
                }
            }
            Change::Label(id, label, reply) => {
                if let Some(row) = self.peers.get_mut(id) {
                    row.label = Some(label);
                    drop(reply.send(Ok(self.device_entry(id))));
                }
            }
            Change::Paired(id) => {
                if let Some(row) = self.peers.get_mut(id) {
                    row.state = PairState::Paired;
                    row.last_seen = Some(now.unix);
                }
                self.links.set_paired(id);
                for old in replaced {
                    let label = self.peers.remove(*old).and_then(|r| r.label);
                    if let (Some(row), Some(label)) = (self.peers.get_mut(id), label) {
                        row.label.get_or_insert(label);
                    }
                    self.links.remove(*old);
                }
            }
            Change::Delete(id, _) => {
                self.peers.remove(id);
                self.links.remove(id);
            }
            Change::Mappings(mappings) => self.portmap.kept(mappings),
            Change::Acknowledged(_) | Change::Ports(_) => {}
        }
    }

    /// Begins to stop: open codes are withdrawn, which takes a moment in the DHT.
    pub(super) fn stop(&mut self, done: Option<oneshot::Sender<()>>) {
        let now = self.now();
        if self.stopping.is_none() {
            self.table.shutdown(now);
            let (until, unmapped_by) = (now.time + FAREWELL, now.time + UNMAPPING);
            self.stopping = Some(Stopping { until, unmapped_by, done: Vec::new() });
        }
        if let (Some(stopping), Some(done)) = (&mut self.stopping, done) {
            stopping.done.push(done);
        }
    }

    /// Whether nothing more is to be waited for: the tombstones are out and no router lets others in, or their time is
    /// over.
    fn has_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let (jobs, _, live) = self.table.load();
        let now = self.clock.now();
        let is_unmapped = self.portmap.is_idle(now) || now >= stopping.unmapped_by;
        (jobs == 0 && live == 0 && is_unmapped) || now >= stopping.until
    }

    async fn finish(self, net: impl Transport, lan: Driver) {
        let (jobs, streams, conns) = self.wires.load();
        tracing::info!(jobs, streams, conns, "the device stops");
        lan.end().await;
        net.end().await;
        let Actor { worker, stopping, .. } = self;
        worker.close().await;
        for done in stopping.into_iter().flat_map(|s| s.done) {
            // Whoever asked may have gone away.
            let _ = done.send(());
        }
    }

    /// The paired devices as a list.
    pub(super) fn device_entries(&self) -> Vec<DeviceEntry> {
        self.peers.paired().map(|row| self.entry(row)).collect()
    }

    /// One paired device; the caller has just found it.
    pub(super) fn device_entry(&self, id: PairingId) -> DeviceEntry {
        let row = self.peers.get(id).expect("the caller found it in this turn");
        self.entry(row)
    }

    fn entry(&self, row: &PeerRow) -> DeviceEntry {
        let path = self.links.path(row.pairing_id).map(|(path, _)| path.name());
        peers::entry(row, path)
    }

    fn publish_status(&mut self) {
        let sessions: Vec<OpenSession> = self
            .table
            .statuses()
            .iter()
            .filter(|s| s.cause.is_none() && s.state != "paired")
            .map(|s| OpenSession {
                session: s.session.0.clone(),
                role: s.role.name().to_owned(),
                state: s.state.to_owned(),
                expires_at: s.expires_at.map(|at| crate::status::rfc3339(at.0)),
            })
            .collect();
        let own = self.own.all();
        let addresses: Vec<AddressStatus> = own.iter().map(AddressStatus::from).chain(self.relays.status()).collect();
        let listen: Vec<String> = self.own.listeners().iter().map(ToString::to_string).collect();
        let devices = self.peers.paired().count();
        let lan = self.lan_status();
        let is_public = |a: &&AddressStatus| a.scope == "internet" && a.source == "observed";
        let nat = self.nat.status(addresses.iter().filter(is_public).map(|a| a.address.clone()).collect());
        self.status.send_if_modified(|status| {
            let changed = status.sessions != sessions
                || status.addresses != addresses
                || status.listen != listen
                || status.devices != devices
                || status.nat != nat
                || status.lan != lan;
            if changed {
                status.sessions = sessions;
                status.nat = nat;
                status.addresses = addresses;
                status.listen = listen;
                status.devices = devices;
                status.lan = lan;
            }
            changed
        });
    }
}

fn dial_failure(failure: &handfast_net::DialFailure) -> DialFailure {
    match failure {
        handfast_net::DialFailure::Refused => DialFailure::Refused,
        handfast_net::DialFailure::NoHost => DialFailure::NoHost,
        handfast_net::DialFailure::WrongPeer(_) | handfast_net::DialFailure::Ourselves => DialFailure::WrongPeer,
        handfast_net::DialFailure::TimedOut
        | handfast_net::DialFailure::NoAddress
        | handfast_net::DialFailure::Other(_) => DialFailure::NoAnswer,
    }
}

/// A peer that sends garbage has ended the handshake on purpose, as far as we are concerned.
fn stream_end(end: handfast_net::StreamEnd) -> StreamEnd {
    match end {
        handfast_net::StreamEnd::Finished | handfast_net::StreamEnd::Garbage => StreamEnd::Finished,
        handfast_net::StreamEnd::Lost => StreamEnd::Lost,
    }
}
