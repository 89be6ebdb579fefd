//! A device: both machines, its disk and its person, driven as the engine drives them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handfast_proto::addr::{Address, LoopbackPolicy, RelayAddress};
use handfast_proto::cause::Cause;
use handfast_proto::id::{ConnId, Identity, JobId, PairingId, StreamId, Tid};
use handfast_proto::link::{self, Links, PairState};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::session::{self, Inbound, JobResult, Role, StreamEnd, Table, Vicinity};
use handfast_proto::time::Now;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::info::{DeviceName, DeviceType};

use super::disk::{Change, Disk, Owner, Row, Write, Writes};
use super::net::{Goal, Protocol};
use super::world::{Dev, DiskMoment, Ev, Person, World, addresses, relay};

/// A device, running or not.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) disk: Disk,
    /// How far its wall clock is off, in seconds.
    pub(crate) clock: i64,
    pub(crate) addresses: Vec<Address>,
    /// Nothing that begins outside reaches it, except through this relay.
    pub(crate) behind: Option<RelayAddress>,
    /// Whether the machine answers when the program does not run.
    pub(crate) host_up: bool,
    pub(crate) dht_up: bool,
    pub(crate) person: Person,
    pub(crate) run: Option<Run>,
    runs: u64,
    pub(crate) events: Vec<(Duration, session::Event)>,
    pub(crate) link_events: Vec<(Duration, link::Event)>,
    pub(crate) moves: u8,
    next_ping: u64,
}

/// One run of the program: everything that a crash takes away.
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) started: Duration,
    pub(crate) tid: Tid,
    pub(crate) table: Table,
    pub(crate) links: Links,
    pub(crate) jobs: BTreeSet<(Owner, JobId)>,
    writes: Writes,
    pub(crate) mirror: BTreeMap<PairingId, Row>,
}

impl Device {
    pub(super) fn new(name: String, identity: Identity, addresses: Vec<Address>, person: Person) -> Device {
        Device {
            name,
            identity,
            disk: Disk::default(),
            clock: 0,
            addresses,
            behind: None,
            host_up: true,
            dht_up: true,
            person,
            run: None,
            runs: 0,
            events: Vec::new(),
            link_events: Vec::new(),
            moves: 0,
            next_ping: 0,
        }
    }

    pub(super) fn own_tid(&self) -> Tid {
        self.run.as_ref().map_or(Tid([0; 32]), |r| r.tid)
    }

    /// When its next timer is due, on the world's clock.
    pub(super) fn due(&self, now: Now) -> Option<Duration> {
        let run = self.run.as_ref()?;
        let at = [run.table.poll_timeout(), run.links.poll_timeout(now)].into_iter().flatten().min()?;
        Some(run.started + at.since_origin())
    }

    /// The state of a pairing on its disk.
    pub(crate) fn stored(&self, id: PairingId) -> Option<PairState> {
        self.disk.rows.get(&id).map(|r| r.state)
    }
}

impl World {
    /// Starts a device with what its disk holds.
    pub(crate) fn start(&mut self, dev: Dev) {
        let seeds = [self.dice.seed(), self.dice.seed(), self.dice.seed()];
        let now = self.now;
        let unix = self.unix(dev);
        let device = &mut self.devices[dev];
        device.runs += 1;
        device.disk.starts += 1;
        let tid = Tid(seeds[0]);
        let table_config = session::Config {
            tid,
            identity: device.identity.clone(),
            name: DeviceName::clean(&device.name),
            kind: DeviceType::Computer,
            dht: true,
            loopback: LoopbackPolicy::Refuse,
            lan: false,
            alone: Cause::NoBootstrap,
            vicinity: Vicinity::default(),
        };
        let links_config = link::Config {
            tid,
            identity: device.identity.clone(),
            dht: true,
            loopback: LoopbackPolicy::Refuse,
            start: device.disk.starts,
        };
        let peers = device.disk.rows.values().map(Row::to_peer).collect();
        let tombstones = device.disk.tombstones.values().cloned().collect();
        let origin = Now { time: handfast_proto::time::Time::ZERO, unix };
        let rng = |seed| Rng::from_seed(Secret::new(seed));
        device.run = Some(Run {
            number: device.runs,
            started: now,
            tid,
            table: Table::new(table_config, rng(seeds[1])),
            links: Links::new(links_config, rng(seeds[2]), peers, tombstones, origin),
            jobs: BTreeSet::new(),
            writes: Writes::default(),
            mirror: device.disk.rows.clone(),
        });
        let number = device.runs;
        self.note(|| format!("{dev} starts, run {number}"));
        let now = self.clocks(dev);
        self.run(dev).links.handle_timeout(now);
        self.set_addresses(dev);
        self.schedule(Duration::from_millis(20), Ev::DhtInReach { dev, run: number });
    }

    /// Ends a device without a word: what is not on its disk is gone.
    pub(crate) fn crash(&mut self, dev: Dev) {
        let Some(run) = self.devices[dev].run.take() else { return };
        self.note(|| format!("{dev} crashes"));
        self.ledger.crashed(dev, run.number);
        self.drop_connections(dev, run.number);
    }

    /// Takes the device to another address, as a change of network does.
    pub(crate) fn roam(&mut self, dev: Dev) {
        let device = &mut self.devices[dev];
        device.moves += 1;
        device.addresses = addresses(dev, device.moves);
        self.note(|| format!("{dev} roams"));
        let run = self.run_number(dev);
        self.drop_connections(dev, run);
        if self.devices[dev].run.is_some() {
            self.set_addresses(dev);
        }
    }

    /// The device is at every address where it ever was.
    pub(crate) fn return_home(&mut self, dev: Dev) {
        self.devices[dev].behind = None;
        self.devices[dev].addresses = (0..=self.devices[dev].moves).flat_map(|n| addresses(dev, n)).collect();
    }

    /// Puts the device behind a NAT that lets nothing in, and gives it a place at the relay.
    pub(crate) fn hide(&mut self, dev: Dev) {
        self.devices[dev].behind = Some(relay());
        self.note(|| format!("{dev} hides"));
        self.set_addresses(dev);
    }

    fn set_addresses(&mut self, dev: Dev) {
        let (now, addresses) = (self.clocks(dev), self.devices[dev].addresses.clone());
        let relays: Vec<RelayAddress> = self.devices[dev].behind.into_iter().collect();
        let run = self.run(dev);
        run.table.set_addresses(addresses.clone(), now);
        run.links.set_addresses(addresses, now);
        run.table.set_relays(relays.clone(), now);
        run.links.set_relays(relays, now);
        self.drain(dev);
    }

    pub(super) fn dht_in_reach(&mut self, dev: Dev, run: u64) {
        if self.is_running(dev, run) {
            let now = self.clocks(dev);
            let run = self.run(dev);
            run.table.dht_reachable(now);
            run.links.dht_reachable(now);
            self.drain(dev);
        }
    }

    pub(super) fn timer(&mut self, dev: Dev) {
        let now = self.clocks(dev);
        let run = self.run(dev);
        run.table.handle_timeout(now);
        run.links.handle_timeout(now);
        self.drain(dev);
    }

    pub(super) fn job_done(&mut self, dev: Dev, run: u64, owner: Owner, job: JobId, result: JobResult) {
        if !self.is_running(dev, run) {
            return;
        }
        let now = self.clocks(dev);
        let goes_on = matches!(result, JobResult::Found(_));
        let run = self.run(dev);
        let wanted = if goes_on { run.jobs.contains(&(owner, job)) } else { run.jobs.remove(&(owner, job)) };
        if !wanted {
            return;
        }
        match owner {
            Owner::Table => run.table.handle_job(job, result, now),
            Owner::Links => run.links.handle_job(job, result, now),
        }
        self.drain(dev);
    }

    pub(super) fn inbound(&mut self, dev: Dev, stream: StreamId, conn: ConnId, from: Inbound, protocol: Protocol) {
        let now = self.clocks(dev);
        let run = self.run(dev);
        match protocol {
            Protocol::Pair => run.table.handle_inbound(stream, from),
            Protocol::Hello => run.links.handle_hello_stream(stream, conn, from, now),
            Protocol::Ping => run.links.handle_ping_stream(stream, conn),
        }
        self.drain(dev);
    }

    pub(super) fn frame(&mut self, dev: Dev, stream: StreamId, frame: Frame, protocol: Protocol) {
        let now = self.clocks(dev);
        let run = self.run(dev);
        match protocol {
            Protocol::Pair => run.table.handle_frame(stream, frame, now),
            Protocol::Hello | Protocol::Ping => run.links.handle_frame(stream, &frame, now),
        }
        self.drain(dev);
    }

    pub(super) fn stream_end(&mut self, dev: Dev, stream: StreamId, end: StreamEnd, protocol: Protocol) {
        let now = self.clocks(dev);
        let run = self.run(dev);
        match protocol {
            Protocol::Pair => run.table.handle_stream_end(stream, end, now),
            Protocol::Hello | Protocol::Ping => run.links.handle_stream_end(stream, now),
        }
        self.drain(dev);
    }

    pub(super) fn connected(&mut self, dev: Dev, conn: ConnId, from: Inbound) {
        let now = self.clocks(dev);
        self.run(dev).links.handle_connected(conn, from, now);
        self.drain(dev);
    }

    pub(super) fn disconnected(&mut self, dev: Dev, conn: ConnId) {
        let now = self.clocks(dev);
        self.run(dev).links.handle_disconnected(conn, now);
        self.drain(dev);
    }

    /// Asks for a round trip to the device of a pairing.
    pub(crate) fn ping(&mut self, dev: Dev, id: PairingId, wait: Duration) -> u64 {
        self.devices[dev].next_ping += 1;
        let token = self.devices[dev].next_ping;
        let now = self.clocks(dev);
        assert!(self.run(dev).links.ping(id, token, wait, now), "room for a ping");
        self.drain(dev);
        token
    }

    /// Takes every output of both machines, then looks at what holds.
    pub(super) fn drain(&mut self, dev: Dev) {
        while let Some(run) = self.devices[dev].run.as_mut() {
            if let Some(output) = run.table.poll_output() {
                self.table_output(dev, output);
            } else if let Some(output) = run.links.poll_output() {
                self.links_output(dev, output);
            } else {
                break;
            }
        }
        self.check_bounds(dev);
    }

    fn table_output(&mut self, dev: Dev, output: session::Output) {
        match output {
            session::Output::Send { stream, frames } => self.send(stream, frames),
            session::Output::Finish(stream) => self.close(stream, StreamEnd::Finished),
            // What a peer sees of an abandoned stream differs between transports.
            session::Output::Reset(stream) => {
                let end = if self.dice.chance(50) { StreamEnd::Finished } else { StreamEnd::Lost };
                self.close(stream, end);
            }
            session::Output::Close(conn) => self.close_connection(conn),
            session::Output::Job(id, job) => self.table_job(dev, id, job),
            session::Output::Cancel(id) => {
                self.run(dev).jobs.remove(&(Owner::Table, id));
            }
            session::Output::Event(event) => self.table_event(dev, event),
            // Holes are punched here whether anything is proven or not: the network decides on it, not the machines.
            session::Output::Proven(_) | session::Output::Window(..) => {}
        }
    }

    fn begin(&mut self, dev: Dev, owner: Owner, job: JobId) {
        assert!(self.run(dev).jobs.insert((owner, job)), "a job number is used once");
    }

    fn table_job(&mut self, dev: Dev, id: JobId, job: session::Job) {
        let owner = Owner::Table;
        match job {
            session::Job::Publish(record) => {
                self.begin(dev, owner, id);
                self.put(dev, owner, id, record);
            }
            session::Job::LookUp(topic) => {
                self.begin(dev, owner, id);
                self.get(dev, owner, id, topic);
            }
            session::Job::Dial { tid, addresses, relays } => {
                self.begin(dev, owner, id);
                self.dial(dev, owner, id, Goal { tid, addresses, relays });
            }
            session::Job::OpenStream(conn) => {
                self.begin(dev, owner, id);
                self.open_stream(dev, owner, id, conn, Protocol::Pair);
            }
            session::Job::Store(change) => {
                let unix = self.unix(dev);
                let change = match change {
                    session::StoreChange::Pending(pending) => {
                        let row = Row::pending(*pending, unix);
                        self.check_agreed(dev, &row);
                        Change::Put(Box::new(row))
                    }
                    session::StoreChange::Paired(pairing_id) => Change::Paired(pairing_id),
                    session::StoreChange::Forget(pairing_id) => Change::Delete(pairing_id, None),
                };
                self.write(dev, owner, id, change);
            }
            session::Job::Reach { pairing_id, tid, addresses, relays } => {
                let now = self.clocks(dev);
                self.run(dev).links.reach(pairing_id, tid, addresses, relays, now);
            }
        }
    }

    fn table_event(&mut self, dev: Dev, event: session::Event) {
        self.note(|| format!("{dev} tells {event:?}"));
        self.devices[dev].events.push((self.now, event.clone()));
        self.check_event(dev, &event);
        match event {
            session::Event::ApprovalNeeded { session, .. } => self.question(dev, session, false),
            session::Event::ComparisonNeeded { session, .. } => self.question(dev, session, true),
            session::Event::Paired { pairing_id, tid, .. } => self.link_up_after_pairing(dev, pairing_id, tid),
            _ => {}
        }
    }

    /// A person is asked, for an approval or for a comparison. Nobody sits between devices here, so who compares finds
    /// what is true, or does not look.
    fn question(&mut self, dev: Dev, session: handfast_proto::id::SessionId, compare: bool) {
        let run = self.run_number(dev);
        let (allow, wait) = match self.devices[dev].person {
            Person::Yes(wait) => (true, wait),
            Person::No(wait) => (false, wait),
            Person::Never => return,
            Person::Moody => match self.dice.below(20) {
                0 => return,
                1 | 2 => (false, self.dice.millis(0, 4_000)),
                3 => (true, self.dice.millis(0, 140_000)),
                _ => (true, self.dice.millis(0, 4_000)),
            },
        };
        self.schedule(wait, Ev::Answer { dev, run, session, allow, compare });
    }

    fn link_up_after_pairing(&mut self, dev: Dev, id: PairingId, tid: Tid) {
        if self.run(dev).mirror.get(&id).is_some_and(|row| row.role == Role::Joiner) {
            let now = self.clocks(dev);
            self.run(dev).links.greet(id, tid, now);
        }
    }

    fn links_output(&mut self, dev: Dev, output: link::Output) {
        let owner = Owner::Links;
        match output {
            link::Output::Send { stream, frames } => self.send(stream, frames),
            link::Output::Finish(stream) => self.close(stream, StreamEnd::Finished),
            link::Output::Hold { conn, hold } => self.hold(conn, hold),
            link::Output::Proven(_) => {}
            link::Output::PunchAgain(conn) => self.punch_again(conn),
            link::Output::Close(conn) => self.close_connection(conn),
            link::Output::Cancel(id) => {
                self.run(dev).jobs.remove(&(owner, id));
            }
            link::Output::Event(event) => self.links_event(dev, event),
            link::Output::Job(id, link::Job::Store(change)) => self.links_store(dev, id, change),
            link::Output::Job(id, job) => {
                self.begin(dev, owner, id);
                match job {
                    link::Job::OpenHello(conn) => self.open_stream(dev, owner, id, conn, Protocol::Hello),
                    link::Job::OpenPing(conn) => self.open_stream(dev, owner, id, conn, Protocol::Ping),
                    link::Job::Publish(record) => self.put(dev, owner, id, record),
                    link::Job::LookUp(topic) => self.get(dev, owner, id, topic),
                    link::Job::Dial { tid, addresses, relays } => {
                        self.dial(dev, owner, id, Goal { tid, addresses, relays });
                    }
                    link::Job::Store(_) => {}
                }
            }
        }
    }

    fn links_store(&mut self, dev: Dev, id: JobId, change: link::StoreChange) {
        let change = match change {
            link::StoreChange::Paired(pairing_id) => Change::Paired(pairing_id),
            link::StoreChange::Expired { pairing_id, tombstone } => Change::Delete(pairing_id, tombstone),
            link::StoreChange::Revoked(pairing_id) => Change::Delete(pairing_id, None),
            link::StoreChange::Acknowledged(pairing_id) => Change::Acknowledged(pairing_id),
            link::StoreChange::Contact { pairing_id, addresses, clock_offset, .. } => {
                let Some(row) = self.run(dev).mirror.get_mut(&pairing_id) else { return };
                row.addresses = addresses;
                row.clock_offset = clock_offset;
                Change::Put(Box::new(row.clone()))
            }
        };
        self.write(dev, Owner::Links, id, change);
    }

    fn links_event(&mut self, dev: Dev, event: link::Event) {
        self.note(|| format!("{dev} tells {event:?}"));
        self.devices[dev].link_events.push((self.now, event.clone()));
        self.check_link_event(dev, &event);
        if let link::Event::Completed { pairing_id, .. } = event {
            let now = self.clocks(dev);
            self.run(dev).table.completed(pairing_id, now);
        }
    }

    // The disk.

    fn write(&mut self, dev: Dev, owner: Owner, job: JobId, change: Change) {
        self.begin(dev, owner, job);
        self.run(dev).writes.queue.push_back(Write { owner, job, change });
        self.next_write(dev);
    }

    fn next_write(&mut self, dev: Dev) {
        let run = self.run(dev);
        let number = run.number;
        if run.writes.busy || run.writes.queue.is_empty() {
            return;
        }
        run.writes.busy = true;
        let (low, high) = self.settings.disk;
        let wait = self.dice.between(low, high);
        self.schedule(wait, Ev::DiskDone { dev, run: number });
    }

    pub(super) fn disk_done(&mut self, dev: Dev, run: u64) {
        if !self.is_running(dev, run) {
            return;
        }
        let Some(write) = self.run(dev).writes.queue.pop_front() else { return };
        self.run(dev).writes.busy = false;
        let name = write.change.name();
        if self.disk_tapped(dev, name, DiskMoment::Before) {
            return;
        }
        let fails = self.dice.chance(self.settings.disk_failures);
        let done = !fails && self.devices[dev].disk.apply(&write.change);
        self.note(|| format!("{dev} disk: {name}, done: {done}"));
        if done {
            self.check_durable(dev, &write.change);
        }
        if self.disk_tapped(dev, name, DiskMoment::After) {
            return;
        }
        self.schedule(Duration::from_micros(50), Ev::DiskTold { dev, run, write: Box::new(write), done });
        self.next_write(dev);
    }

    fn disk_tapped(&mut self, dev: Dev, name: &'static str, moment: DiskMoment) -> bool {
        let crash = self.disk_tap.as_mut().is_some_and(|tap| tap(dev, name, moment));
        if crash {
            self.crash(dev);
        }
        crash
    }

    /// The disk has answered: now memory may have the change too.
    pub(super) fn disk_told(&mut self, dev: Dev, run: u64, write: Write, done: bool) {
        if !self.is_running(dev, run) {
            return;
        }
        let answer = if done {
            self.apply(dev, write.change);
            JobResult::Stored
        } else {
            JobResult::StoreFailed
        };
        self.job_done(dev, run, write.owner, write.job, answer);
    }

    fn apply(&mut self, dev: Dev, change: Change) {
        let now = self.clocks(dev);
        let run = self.run(dev);
        match change {
            Change::Put(row) => {
                if !run.mirror.contains_key(&row.pairing_id) && row.state == PairState::Pending {
                    run.links.add(row.to_peer(), now);
                    run.mirror.insert(row.pairing_id, *row);
                }
            }
            Change::Paired(id) => {
                if let Some(row) = run.mirror.get_mut(&id) {
                    row.state = PairState::Paired;
                }
                run.links.set_paired(id);
            }
            Change::Delete(id, _) => {
                run.mirror.remove(&id);
                run.links.remove(id);
            }
            Change::Acknowledged(_) => {}
        }
    }
}
