//! Carries out what the machines want: one call per kind of output.

use handfast_net::{Command as NetCommand, StreamProtocol};
use handfast_proto::cause::Cause;
use handfast_proto::id::{JobId, PairingId, Tid};
use handfast_proto::link::{self, PairState};
use handfast_proto::session::{self, JobResult, PeerCard, PendingPairing, Role};

use crate::Error;
use crate::engine::actor::Actor;
use crate::engine::peers::pending_session;
use crate::engine::relays::place;
use crate::engine::wires::{Kind, Owner};
use crate::event::{Comparison, DeviceCard, EventKind, SeenDevice};
use crate::handle::RoundTrip;
use crate::store::worker::{Asker, Change};
use crate::store::{Contact, PeerRow};

impl Actor {
    /// Takes every output of the machines.
    pub(super) fn drain(&mut self) {
        loop {
            if let Some(output) = self.table.poll_output() {
                self.table_output(output);
            } else if let Some(output) = self.links.poll_output() {
                self.links_output(output);
            } else if let Some(output) = self.lan.poll_output() {
                self.lan_output(output);
            } else if !self.settle_portmap() && !self.settle_reach() {
                break;
            }
        }
        self.settle_relays();
    }

    fn table_output(&mut self, output: session::Output) {
        match output {
            session::Output::Send { stream, frames } => self.net_commands.push(NetCommand::Send { stream, frames }),
            session::Output::Finish(stream) => self.close_stream(stream),
            session::Output::Reset(stream) => {
                self.wires.remove_stream(stream);
                self.net_commands.push(NetCommand::ResetStream { stream });
            }
            session::Output::Proven(stream) => {
                if let Some(conn) = self.wires.conn_of(stream) {
                    self.net_commands.push(NetCommand::Punch { conn });
                }
            }
            session::Output::Close(conn) => self.net_commands.push(NetCommand::CloseConnection { conn }),
            session::Output::Job(id, job) => self.table_job(id, job),
            session::Output::Cancel(id) => self.cancel(Owner::Table, id),
            session::Output::Event(event) => self.table_event(event),
            session::Output::Window(id, wanted) => self.lan_window(id, wanted),
        }
    }

    fn table_job(&mut self, id: JobId, job: session::Job) {
        match job {
            session::Job::Publish(record) => {
                let id = self.wires.job(Owner::Table, id, Kind::Put);
                self.net_commands.push(NetCommand::Put { id, record });
            }
            session::Job::LookUp(topic) => {
                let now = self.now();
                self.links.code_was_looked_up(now);
                let id = self.wires.job(Owner::Table, id, Kind::Get);
                self.net_commands.push(NetCommand::Get { id, topic });
            }
            session::Job::Dial { tid, addresses, relays } => {
                let id = self.wires.job(Owner::Table, id, Kind::Dial);
                let relays = self.relays.usable(relays);
                self.net_commands.push(NetCommand::Dial { id, tid, addresses, relays });
            }
            session::Job::OpenStream(conn) => {
                let protocol = StreamProtocol::Pair;
                let id = self.wires.job(Owner::Table, id, Kind::Open(protocol));
                self.net_commands.push(NetCommand::OpenStream { id, conn, protocol });
            }
            session::Job::Store(change) => {
                let change = match change {
                    session::StoreChange::Pending(pending) => Change::Add(Box::new(self.new_row(*pending))),
                    session::StoreChange::Paired(pairing_id) => Change::Paired(pairing_id),
                    session::StoreChange::Forget(pairing_id) => Change::Delete(pairing_id, None),
                };
                if !self.worker.submit(Asker::Table(id), change) {
                    let now = self.now();
                    self.table.handle_job(id, JobResult::StoreFailed, now);
                }
            }
            session::Job::Reach { pairing_id, tid, addresses, relays } => {
                let now = self.now();
                self.links.reach(pairing_id, tid, addresses, relays, now);
            }
        }
    }

    fn new_row(&self, pending: PendingPairing) -> PeerRow {
        let PendingPairing { agreement, role, path, addresses } = pending;
        let now = self.clock.unix();
        PeerRow {
            pairing_id: agreement.pairing_id,
            key: agreement.peer,
            role,
            state: PairState::Pending,
            secret: agreement.pair_secret,
            name: agreement.info.name.to_string(),
            label: None,
            kind: agreement.info.kind,
            since: now,
            last_seen: Some(now),
            path: Some(path.name().to_owned()),
            addresses,
            clock_offset: agreement.info.clock.map_or(0, |theirs| now.offset_to(theirs)),
        }
    }

    fn table_event(&mut self, event: session::Event) {
        match event {
            session::Event::CodeAdvertised { session, nodes } => {
                self.hub.publish(EventKind::CodeAdvertised { session: session.0, nodes });
            }
            session::Event::TroubleNoticed { session, cause } => {
                let error = self.explained(cause);
                self.hub.publish(EventKind::trouble(session.0, &error));
            }
            session::Event::SessionDiscovered { session, found_by, addresses } => {
                self.hub.publish(EventKind::SessionDiscovered {
                    session: session.0,
                    found_by: found_by.name().to_owned(),
                    addresses: addresses.iter().map(ToString::to_string).collect(),
                });
            }
            session::Event::Connected { session, path, address } => self.hub.publish(EventKind::Connected {
                session: session.0,
                path: path.name().to_owned(),
                address: place(path, address),
            }),
            session::Event::ApprovalNeeded { session, device, path } => {
                let known = self.peers.with_key(device.key).is_some();
                let warning = self.name_warning(&device);
                self.hub.publish(EventKind::ApprovalNeeded {
                    session: session.0,
                    device: DeviceCard::from(&device),
                    path: path.name().to_owned(),
                    known,
                    warning,
                });
            }
            session::Event::ComparisonNeeded { session, sas, path } => {
                self.comparisons.shown(&session);
                let (comparison, path) = (Comparison::from(&sas), path.name().to_owned());
                self.hub.publish(EventKind::ComparisonNeeded { session: session.0, comparison, path });
            }
            session::Event::DeviceSeen { session, device } => {
                self.hub.publish(EventKind::DeviceSeen { session: session.0, device: SeenDevice::from(&device) });
            }
            session::Event::DeviceGone { session, nid } => {
                self.hub.publish(EventKind::DeviceGone { session: session.0, id: nid.shown() });
            }
            session::Event::RequestRejected { session } => {
                self.comparisons.end(&session);
                self.hub.publish(EventKind::RequestRejected { session: session.0 });
            }
            session::Event::Paired { session, pairing_id, device, tid, path, elapsed } => {
                self.shown.end(&session.0);
                self.comparisons.end(&session);
                let warning = self.name_warning(&device);
                self.hub.publish(EventKind::Paired {
                    session: session.0,
                    device: DeviceCard::from(&device),
                    path: path.name().to_owned(),
                    elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                    warning,
                });
                self.link_up_after_pairing(pairing_id, tid);
            }
            session::Event::PairingFailed { session, cause } => {
                self.shown.end(&session.0);
                tracing::info!(%session, %cause, "the pairing failed");
                let error = self.failure(&session, cause);
                self.comparisons.end(&session);
                self.hub.publish(EventKind::failed_because(Some(session.0), &error));
            }
            _ => {}
        }
    }

    /// What a person must see before they trust a device with a name that they know: it has another key. After a
    /// comparison there is no question to show it with, so it stands beside the result as well.
    fn name_warning(&self, device: &PeerCard) -> Option<String> {
        self.peers.with_name(device.name.as_str(), device.key).map(|other| {
            format!(
                "another device with the name \"{}\" and the fingerprint {} is paired already: this is not that device, \
                 or its key has changed",
                device.name,
                other.key.fingerprint()
            )
        })
    }

    /// The joiner, which made the connection of the handshake, makes it a link at once: the hello is due on every
    /// connection of paired devices before anything else.
    fn link_up_after_pairing(&mut self, pairing_id: PairingId, tid: Tid) {
        if self.peers.get(pairing_id).is_some_and(|row| row.role == Role::Joiner) {
            let now = self.now();
            self.links.greet(pairing_id, tid, now);
        }
    }

    fn links_output(&mut self, output: link::Output) {
        match output {
            link::Output::Send { stream, frames } => self.net_commands.push(NetCommand::Send { stream, frames }),
            link::Output::Finish(stream) => self.close_stream(stream),
            link::Output::Proven(conn) => self.net_commands.push(NetCommand::Punch { conn }),
            link::Output::PunchAgain(conn) => self.net_commands.push(NetCommand::PunchAgain { conn }),
            link::Output::Close(conn) => self.net_commands.push(NetCommand::CloseConnection { conn }),
            link::Output::Hold { conn, hold } => self.net_commands.push(NetCommand::Hold { conn, hold }),
            link::Output::Job(id, job) => self.links_job(id, job),
            link::Output::Cancel(id) => self.cancel(Owner::Links, id),
            link::Output::Event(event) => self.links_event(event),
        }
    }

    fn links_job(&mut self, id: JobId, job: link::Job) {
        let mut open = |id, conn, protocol| {
            let id = self.wires.job(Owner::Links, id, Kind::Open(protocol));
            self.net_commands.push(NetCommand::OpenStream { id, conn, protocol });
        };
        match job {
            link::Job::OpenHello(conn) => open(id, conn, StreamProtocol::Hello),
            link::Job::OpenPing(conn) => open(id, conn, StreamProtocol::Ping),
            link::Job::Publish(record) => {
                let id = self.wires.job(Owner::Links, id, Kind::Put);
                self.net_commands.push(NetCommand::Put { id, record });
            }
            link::Job::LookUp(topic) => {
                let id = self.wires.job(Owner::Links, id, Kind::Get);
                self.net_commands.push(NetCommand::Get { id, topic });
            }
            link::Job::Dial { tid, addresses, relays } => {
                let id = self.wires.job(Owner::Links, id, Kind::Dial);
                let relays = self.relays.usable(relays);
                self.net_commands.push(NetCommand::Dial { id, tid, addresses, relays });
            }
            link::Job::Store(change) => self.links_store(id, change),
        }
    }

    fn links_store(&mut self, id: JobId, change: link::StoreChange) {
        let change = match change {
            link::StoreChange::Paired(pairing_id) => Change::Paired(pairing_id),
            link::StoreChange::Expired { pairing_id, tombstone } => Change::Delete(pairing_id, tombstone),
            link::StoreChange::Revoked(pairing_id) => Change::Delete(pairing_id, None),
            link::StoreChange::Acknowledged(pairing_id) => Change::Acknowledged(pairing_id),
            link::StoreChange::Contact { pairing_id, addresses, clock_offset, path } => {
                let (seen, path) = (self.clock.unix(), path.name().to_owned());
                Change::Contact(pairing_id, Contact { addresses, clock_offset, seen, path })
            }
        };
        if !self.worker.submit(Asker::Links(id), change) {
            let now = self.now();
            self.links.handle_job(id, JobResult::StoreFailed, now);
        }
    }

    fn links_event(&mut self, event: link::Event) {
        match event {
            link::Event::Up { pairing_id, path, address } => {
                if let Some(device) = self.peers.name_of(pairing_id) {
                    let (path, address) = (path.name().to_owned(), place(path, address));
                    self.hub.publish(EventKind::DeviceConnected { device, path, address });
                }
            }
            link::Event::PathChanged { pairing_id, from, to, .. } => {
                if let Some(device) = self.peers.name_of(pairing_id) {
                    let (from, to) = (from.name().to_owned(), to.name().to_owned());
                    self.hub.publish(EventKind::PathChanged { device, from, to });
                }
            }
            link::Event::Down { pairing_id } => {
                if let Some(device) = self.peers.name_of(pairing_id) {
                    self.hub.publish(EventKind::DeviceDisconnected { device });
                }
            }
            link::Event::Completed { pairing_id, path } => self.completed(pairing_id, path),
            link::Event::Gone { pairing_id, by_them } => {
                if let Some(device) = self.peers.name_of(pairing_id) {
                    let by = if by_them { "them" } else { "us" };
                    self.hub.publish(EventKind::DeviceRemoved { device, by: by.to_owned() });
                }
            }
            link::Event::Pong { token, rtt, path, address } => {
                if let Some((id, reply)) = self.pings.take(token)
                    && let Some(device) = self.peers.name_of(id)
                {
                    let (path, address) = (path.name().to_owned(), place(path, address));
                    drop(reply.send(Ok(RoundTrip { device, rtt, path, address })));
                }
            }
            link::Event::PingLost { token, connected } => {
                if let Some((_, reply)) = self.pings.take(token) {
                    let error = if connected {
                        Error::because(Cause::TimedOut, "the device is connected but did not answer the ping")
                    } else {
                        Error::because(Cause::NotFound, "the device was not found")
                            .with_hint("check that `handfast start` runs on it; away from where the two met last, both need the same bootstrap nodes")
                    };
                    drop(reply.send(Err(error)));
                }
            }
            _ => {}
        }
    }

    /// A hello finished a pending pairing: the session that waits for it ends with it, or it is a session of its own.
    fn completed(&mut self, pairing_id: PairingId, path: handfast_proto::addr::Path) {
        let now = self.now();
        if self.table.completed(pairing_id, now) {
            return;
        }
        if let Some(row) = self.peers.get(pairing_id) {
            let session = pending_session(pairing_id);
            let card = row.card();
            let (device, warning) = (DeviceCard::from(&card), self.name_warning(&card));
            let path = path.name().to_owned();
            self.hub.publish(EventKind::Paired { session, device, path, elapsed_ms: 0, warning });
        }
    }

    fn close_stream(&mut self, stream: handfast_proto::id::StreamId) {
        self.wires.remove_stream(stream);
        self.net_commands.push(NetCommand::CloseStream { stream });
    }

    fn cancel(&mut self, owner: Owner, job: JobId) {
        match self.wires.cancel(owner, job) {
            Some((id, Kind::Get)) => self.net_commands.push(NetCommand::CancelGet { id }),
            Some((id, Kind::Dial)) => self.net_commands.push(NetCommand::CancelDial { id }),
            Some((_, Kind::Put | Kind::Open(_))) | None => {}
        }
    }
}
