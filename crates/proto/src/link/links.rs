//! The machine behind [`super`]: peers, hellos, certified connections, presence and pings.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::addr::{Address, Path, for_advert};
use crate::id::{ConnId, JobId, PairingId, StreamId, Tid};
use crate::limits;
use crate::link::hello::{self, Bond, PairState, R2, ReceivedR1, ReceivedR2, SentR1, SentR2, SentR3, Tombstone};
use crate::link::presence::Presence;
use crate::link::seek::Seek;
use crate::link::{Config, Event, Job, Output, Peer, StoreChange};
use crate::secret::Rng;
use crate::session::{Inbound, JobResult, Role};
use crate::time::{Now, Time, UnixTime};
use crate::wire::advert::{Advert, AdvertState, MAX_ADDRESSES};
use crate::wire::frames::{Frame, FrameType};

/// Presence records being published at once: a device with many pairings must not flood its DHT nodes at start.
const PARALLEL_PUBLISHES: usize = 8;
/// Pause after a presence record reached no node; doubled up to [`limits::PRESENCE_EVERY`] / 10.
const PUBLISH_RETRY: Duration = Duration::from_secs(1);

/// All links of one device.
pub struct Links {
    config: Config,
    rng: Rng,
    peers: BTreeMap<PairingId, Entry>,
    tombstones: Vec<Tombstone>,
    hellos: BTreeMap<StreamId, Hello>,
    refused: Vec<(Time, StreamId)>,
    conns: BTreeMap<ConnId, Certified>,
    pings: Vec<Ping>,
    ping_streams: BTreeMap<StreamId, ConnId>,
    addresses: Vec<Address>,
    queries: QueryBudget,
    published: u32,
    jobs: BTreeMap<JobId, Work>,
    next_job: u64,
    out: VecDeque<Output>,
}

struct Entry {
    peer: Peer,
    bond: Bond,
    presence: Presence,
    seek: Seek,
    publish_at: Option<Time>,
    publish_backoff: Duration,
    publishing: usize,
}

/// A connection on which a hello succeeded: the only thing that gives rights.
struct Certified {
    pairing_id: PairingId,
    address: Address,
    path: Path,
}

/// A hello in progress, with the connection it certifies.
struct Hello {
    conn: ConnId,
    from: Inbound,
    until: Time,
    opened_by_us: bool,
    step: HelloStep,
}

enum HelloStep {
    AwaitR1,
    AwaitR2(PairingId, SentR1),
    /// The commit that R2 allows is on its way to the disk; R3 follows.
    StoringBeforeR3(PairingId, Box<ReceivedR2>),
    AwaitR4(PairingId, SentR3, UnixTime),
    AwaitR3(PairingId, SentR2),
    /// The commit that R3 allows is on its way to the disk; R4 follows.
    StoringBeforeR4(PairingId, UnixTime),
    /// The commit that R4 allows is on its way to the disk.
    StoringAfterR4(PairingId, UnixTime),
    /// We told the peer that the pairing is over; its acknowledgement is due.
    AwaitAcknowledgement(PairingId),
}

/// What a running job is for.
enum Work {
    Publish(PairingId),
    LookUp(PairingId),
    Dial(PairingId),
    OpenHello(PairingId, ConnId, Inbound),
    OpenPing(u64),
    Commit(PairingId, StreamId),
    Forget,
}

struct Ping {
    token: u64,
    pairing_id: PairingId,
    until: Time,
    sent: Option<(StreamId, Time)>,
}

/// A minute's allowance of DHT queries.
struct QueryBudget {
    left: u32,
    refill: Time,
}

impl Links {
    /// The links to `peers`, none of them connected. Searching starts with the first timeout.
    pub fn new(config: Config, rng: Rng, peers: Vec<Peer>, tombstones: Vec<Tombstone>, now: Now) -> Links {
        let mut links = Links {
            config,
            rng,
            peers: BTreeMap::new(),
            tombstones,
            hellos: BTreeMap::new(),
            refused: Vec::new(),
            conns: BTreeMap::new(),
            pings: Vec::new(),
            ping_streams: BTreeMap::new(),
            addresses: Vec::new(),
            queries: QueryBudget { left: limits::PRESENCE_QUERIES_PER_MINUTE, refill: now.time },
            published: 0,
            jobs: BTreeMap::new(),
            next_job: 0,
            out: VecDeque::new(),
        };
        for peer in peers {
            links.add(peer, now);
        }
        for entry in links.peers.values_mut() {
            entry.seek.start(now.time);
        }
        links
    }

    /// A pairing was stored. It is not searched for yet: its two sides are still connected.
    pub fn add(&mut self, peer: Peer, now: Now) {
        let bond = Bond::new(peer.pairing_id, peer.key, &peer.secret);
        let presence = Presence::new(peer.pairing_id, peer.key, peer.role, &peer.secret);
        let entry = Entry {
            peer,
            bond,
            presence,
            seek: Seek::default(),
            publish_at: Some(now.time),
            publish_backoff: PUBLISH_RETRY,
            publishing: 0,
        };
        self.peers.insert(entry.peer.pairing_id, entry);
    }

    /// The handshake stored pending -> paired.
    pub fn set_paired(&mut self, pairing_id: PairingId) {
        if let Some(entry) = self.peers.get_mut(&pairing_id) {
            entry.peer.state = PairState::Paired;
        }
    }

    /// A pairing is gone from the store.
    pub fn remove(&mut self, pairing_id: PairingId) {
        if let Some(mut entry) = self.peers.remove(&pairing_id) {
            for job in entry.seek.stop() {
                self.cancel(job);
            }
        }
        for (conn, _) in self.conns.extract_if(.., |_, c| c.pairing_id == pairing_id) {
            self.out.push_back(Output::Hold { conn, hold: false });
        }
    }

    /// Searches for a peer now; somebody waits for it until `until`.
    pub fn want(&mut self, pairing_id: PairingId, until: Time, now: Now) {
        if !self.is_up(pairing_id)
            && let Some(entry) = self.peers.get_mut(&pairing_id)
        {
            entry.seek.want(now.time, until);
            self.handle_timeout(now);
        }
    }

    /// Connects to a peer that was just there: after a handshake, or after one that broke.
    pub fn reach(&mut self, pairing_id: PairingId, tid: Tid, addresses: Vec<Address>, now: Now) {
        if let Some(entry) = self.peers.get_mut(&pairing_id) {
            entry.seek.set_target(tid, addresses);
            entry.seek.want(now.time, now.time + limits::HELLO_RETRY);
            self.handle_timeout(now);
        }
    }

    /// Measures the round trip to a peer; answered by [`Event::Pong`] or [`Event::PingLost`] under `token`. False if too
    /// many are waiting.
    pub fn ping(&mut self, pairing_id: PairingId, token: u64, wait: Duration, now: Now) -> bool {
        if self.pings.len() >= limits::MAX_PINGS {
            return false;
        }
        self.pings.push(Ping { token, pairing_id, until: now.time + wait, sent: None });
        if self.is_up(pairing_id) {
            self.send_pings(pairing_id);
        } else {
            self.want(pairing_id, now.time + wait, now);
        }
        true
    }

    /// Our dialable addresses, best first; presence is published anew if they changed.
    pub fn set_addresses(&mut self, addresses: Vec<Address>, now: Now) {
        if addresses != self.addresses {
            self.addresses = addresses;
            self.publish_all(now);
        }
    }

    /// The DHT came within reach.
    pub fn dht_reachable(&mut self, now: Now) {
        self.publish_all(now);
        for (id, entry) in &mut self.peers {
            if !self.conns.values().any(|c| c.pairing_id == *id) {
                entry.seek.start(now.time);
            }
        }
        self.handle_timeout(now);
    }

    /// Which pairing a connection belongs to, if its peer is paired and has proved itself on it. Every protocol of
    /// paired devices asks this and nothing else.
    pub fn authorised(&self, conn: ConnId) -> Option<PairingId> {
        let id = self.conns.get(&conn)?.pairing_id;
        self.peers.get(&id).filter(|e| e.peer.state == PairState::Paired).map(|_| id)
    }

    /// How the link to a peer runs now, if it is up.
    pub fn path(&self, pairing_id: PairingId) -> Option<(Path, Address)> {
        self.conns.values().find(|c| c.pairing_id == pairing_id).map(|c| (c.path, c.address))
    }

    /// Somebody opened a hello stream to us.
    pub fn handle_hello_stream(&mut self, stream: StreamId, conn: ConnId, from: Inbound, now: Now) {
        let inbound = self.hellos.iter().filter(|(_, h)| !h.opened_by_us);
        if inbound.clone().count() >= limits::MAX_INBOUND_HELLOS
            && let Some(oldest) = inbound.min_by_key(|(_, h)| h.until).map(|(id, _)| *id)
        {
            self.hellos.remove(&oldest);
            self.out.push_back(Output::Finish(oldest));
        }
        let until = now.time + limits::HELLO;
        self.hellos.insert(stream, Hello { conn, from, until, opened_by_us: false, step: HelloStep::AwaitR1 });
    }

    /// Somebody opened a ping stream to us: only a paired device that has proved itself may.
    pub fn handle_ping_stream(&mut self, stream: StreamId, conn: ConnId) {
        if self.authorised(conn).is_some() && self.ping_streams.len() < limits::MAX_PINGS {
            self.ping_streams.insert(stream, conn);
        } else {
            self.out.push_back(Output::Finish(stream));
        }
    }

    /// A frame arrived on a hello or ping stream.
    pub fn handle_frame(&mut self, stream: StreamId, frame: &Frame, now: Now) {
        if let Some(hello) = self.hellos.remove(&stream) {
            self.handle_hello(stream, hello, frame, now);
        } else if frame.kind() == FrameType::Ping {
            let allowed = self.ping_streams.get(&stream).is_some_and(|conn| self.authorised(*conn).is_some());
            if allowed {
                let pong = Frame::new(FrameType::Pong, frame.body().to_vec());
                self.out.push_back(Output::Send { stream, frames: vec![pong] });
            } else {
                self.out.push_back(Output::Finish(stream));
            }
        } else if frame.kind() == FrameType::Pong {
            self.handle_pong(stream, frame, now);
        }
        self.handle_timeout(now);
    }

    /// A hello or ping stream ended.
    pub fn handle_stream_end(&mut self, stream: StreamId, now: Now) {
        self.ping_streams.remove(&stream);
        self.refused.retain(|(_, id)| *id != stream);
        self.hellos.remove(&stream);
        for ping in self.pings.extract_if(.., |p| p.sent.is_some_and(|(id, _)| id == stream)) {
            self.out.push_back(Output::Event(Event::PingLost { token: ping.token, connected: true }));
        }
        self.handle_timeout(now);
    }

    /// A connection is gone.
    pub fn handle_disconnected(&mut self, conn: ConnId, now: Now) {
        self.hellos.retain(|_, h| h.conn != conn);
        self.ping_streams.retain(|_, c| *c != conn);
        if let Some(lost) = self.conns.remove(&conn) {
            let id = lost.pairing_id;
            match self.conns.iter().find(|(_, c)| c.pairing_id == id) {
                Some((other, _)) => self.out.push_back(Output::Hold { conn: *other, hold: true }),
                None => {
                    self.out.push_back(Output::Event(Event::Down { pairing_id: id }));
                    if let Some(entry) = self.peers.get_mut(&id) {
                        entry.seek.start(now.time);
                    }
                }
            }
        }
        self.handle_timeout(now);
    }

    /// A job is done, or, for a look-up, brought something.
    pub fn handle_job(&mut self, id: JobId, result: JobResult, now: Now) {
        if let JobResult::Found(record) = result {
            self.handle_found(id, &record);
            self.handle_timeout(now);
            return;
        }
        match (self.jobs.remove(&id), result) {
            (Some(Work::Publish(pairing_id)), JobResult::Published { stored_on }) => {
                self.handle_published(pairing_id, stored_on, now);
            }
            (Some(Work::LookUp(pairing_id)), _) => {
                if let Some(entry) = self.peers.get_mut(&pairing_id) {
                    entry.seek.end_job(id);
                }
            }
            (Some(Work::Dial(pairing_id)), JobResult::Dialled { conn, tid, address, path }) => {
                if let Some(entry) = self.peers.get_mut(&pairing_id) {
                    entry.seek.end_job(id);
                }
                let from = Inbound { tid, address, path };
                self.job(Job::OpenHello(conn), Work::OpenHello(pairing_id, conn, from));
            }
            (Some(Work::Dial(pairing_id)), _) => {
                // A remembered address where nobody answers is not forgotten: the device may only be off.
                if let Some(entry) = self.peers.get_mut(&pairing_id) {
                    entry.seek.end_job(id);
                    entry.seek.forget_target();
                }
            }
            (Some(Work::OpenHello(pairing_id, conn, from)), JobResult::StreamOpened(stream)) => {
                self.open_hello(pairing_id, conn, from, stream, now);
            }
            (Some(Work::OpenPing(token)), JobResult::StreamOpened(stream)) => self.send_ping(token, stream, now),
            (Some(Work::Commit(pairing_id, stream)), JobResult::Stored) => self.committed(pairing_id, stream, now),
            (Some(Work::Commit(_, stream)), _) => {
                self.hellos.remove(&stream);
                self.out.push_back(Output::Finish(stream));
            }
            (None, JobResult::StreamOpened(stream)) => self.out.push_back(Output::Finish(stream)),
            (Some(_) | None, _) => {}
        }
        self.handle_timeout(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        for (_, stream) in self.refused.extract_if(.., |(at, _)| *at <= now.time) {
            self.out.push_back(Output::Finish(stream));
        }
        for (stream, _) in self.hellos.extract_if(.., |_, h| h.until <= now.time) {
            self.out.push_back(Output::Finish(stream));
        }
        for ping in self.pings.extract_if(.., |p| p.until <= now.time) {
            let connected = ping.sent.is_some();
            if let Some((stream, _)) = ping.sent {
                self.out.push_back(Output::Finish(stream));
            }
            self.out.push_back(Output::Event(Event::PingLost { token: ping.token, connected }));
        }
        self.expire_pending(now);
        self.seek_all(now);
        self.publish_due(now);
    }

    /// When [`Links::handle_timeout`] is due. Meaningful only while [`Links::poll_output`] returns nothing.
    pub fn poll_timeout(&self, now: Now) -> Option<Time> {
        let hellos = self.hellos.values().map(|h| h.until);
        let refused = self.refused.iter().map(|(at, _)| *at);
        let pings = self.pings.iter().map(|p| p.until);
        let seeks = self.peers.values().filter(|e| !self.is_up(e.peer.pairing_id)).filter_map(|e| e.seek.next());
        let busy = self.peers.values().map(|e| e.publishing).sum::<usize>() >= PARALLEL_PUBLISHES;
        let publishes =
            self.peers.values().filter(|e| self.config.dht && !busy && e.publishing == 0).filter_map(|e| e.publish_at);
        let pending = self.peers.values().filter_map(|e| pending_left(&e.peer, now)).map(|left| now.time + left);
        hellos.chain(refused).chain(pings).chain(seeks).chain(publishes).chain(pending).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn is_up(&self, pairing_id: PairingId) -> bool {
        self.conns.values().any(|c| c.pairing_id == pairing_id)
    }

    fn job(&mut self, job: Job, work: Work) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(id, work);
        self.out.push_back(Output::Job(id, job));
        id
    }

    fn cancel(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.out.push_back(Output::Cancel(job));
    }

    // Searching.

    fn seek_all(&mut self, now: Now) {
        self.queries.refill(now.time);
        let due: Vec<PairingId> = self
            .peers
            .iter()
            .filter(|(id, e)| e.seek.is_due(now.time) && !self.is_up(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.seek(id, now);
        }
    }

    fn seek(&mut self, id: PairingId, now: Now) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let ask_dht = self.config.dht && entry.seek.asks_dht();
        entry.seek.begin(now.time, &mut self.rng);
        let periods = entry.presence.peer_periods(now.unix, entry.peer.clock_offset);
        let topics: Vec<_> =
            periods.iter().take(entry.seek.breadth()).map(|p| (*p, entry.presence.peer_topic(*p))).collect();
        let remembered = entry.peer.addresses.clone();
        let dial = match entry.seek.target() {
            _ if entry.seek.is_dialling() => None,
            Some((tid, addresses)) => Some(Job::Dial { tid: Some(*tid), addresses: addresses.clone() }),
            None if remembered.is_empty() => None,
            None => Some(Job::Dial { tid: None, addresses: remembered }),
        };
        if let Some(dial) = dial {
            let job = self.job(dial, Work::Dial(id));
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.seek.add_dial(job);
            }
        }
        if !ask_dht || !self.queries.take(topics.len()) {
            return;
        }
        for (period, topic) in topics {
            let job = self.job(Job::LookUp(topic), Work::LookUp(id));
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.seek.add_look_up(job, period);
            }
        }
    }

    fn handle_found(&mut self, id: JobId, record: &crate::wire::record::Record) {
        let Some(Work::LookUp(pairing_id)) = self.jobs.get(&id) else { return };
        let pairing_id = *pairing_id;
        if self.is_up(pairing_id) {
            return;
        }
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        let Some(period) = entry.seek.look_up_period(id) else { return };
        // A forged, foreign or old record is a miss.
        let Ok(advert) = entry.presence.open(record, period) else { return };
        let learned = entry.seek.learn(&advert, record.seq(), self.config.loopback);
        if let Some((tid, addresses)) = learned {
            let job = self.job(Job::Dial { tid: Some(tid), addresses }, Work::Dial(pairing_id));
            if let Some(entry) = self.peers.get_mut(&pairing_id) {
                entry.seek.add_dial(job);
            }
        }
    }

    fn expire_pending(&mut self, now: Now) {
        let in_hello = |id: PairingId| self.hellos.values().any(|h| h.step.pairing_id() == Some(id));
        let expired: Vec<PairingId> = self
            .peers
            .iter()
            .filter(|(id, e)| pending_left(&e.peer, now) == Some(Duration::ZERO) && !self.is_up(**id))
            .filter(|(id, _)| !in_hello(**id))
            .map(|(id, _)| *id)
            .collect();
        for pairing_id in expired {
            let tombstone = self.peers.get(&pairing_id).filter(|e| e.peer.role == Role::Joiner).map(|e| {
                let tag = e.bond.tag_key().clone();
                Box::new(Tombstone { pairing_id, peer: e.peer.key, tag, seq: 1 })
            });
            if let Some(tombstone) = &tombstone {
                self.tombstones.push((**tombstone).clone());
                if self.tombstones.len() > limits::MAX_TOMBSTONES {
                    self.tombstones.remove(0);
                }
            }
            self.remove(pairing_id);
            self.job(Job::Store(StoreChange::Expired { pairing_id, tombstone }), Work::Forget);
            self.out.push_back(Output::Event(Event::Gone { pairing_id, by_them: false }));
        }
    }

    // Presence.

    fn publish_all(&mut self, now: Now) {
        for entry in self.peers.values_mut() {
            entry.publish_at = Some(now.time);
        }
        self.publish_due(now);
    }

    fn publish_due(&mut self, now: Now) {
        if !self.config.dht {
            return;
        }
        let mut running: usize = self.peers.values().map(|e| e.publishing).sum();
        let due = |e: &Entry| e.publishing == 0 && e.publish_at.is_some_and(|at| at <= now.time);
        let ids: Vec<PairingId> = self.peers.iter().filter(|(_, e)| due(e)).map(|(id, _)| *id).collect();
        let advert = Advert {
            state: AdvertState::Open,
            not_after: UnixTime(0),
            tid: self.config.tid,
            addresses: for_advert(&self.addresses, self.config.loopback, MAX_ADDRESSES),
            relays: Vec::new(),
        };
        for id in ids {
            if running >= PARALLEL_PUBLISHES {
                return;
            }
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            entry.publish_at = None;
            let periods = entry.presence.own_periods(now.unix, entry.peer.clock_offset);
            let mut records = Vec::new();
            for period in periods {
                self.published += 1;
                let seq = u64::from(self.config.start) << 32 | u64::from(self.published);
                records.push(entry.presence.seal(&advert, period, seq, &self.config.identity, &mut self.rng));
            }
            entry.publishing = records.len();
            running += records.len();
            for record in records {
                self.job(Job::Publish(record), Work::Publish(id));
            }
        }
    }

    fn handle_published(&mut self, pairing_id: PairingId, stored_on: usize, now: Now) {
        let Some(entry) = self.peers.get_mut(&pairing_id) else { return };
        entry.publishing = entry.publishing.saturating_sub(1);
        let next = if stored_on == 0 {
            let pause = entry.publish_backoff;
            entry.publish_backoff = (pause * 2).min(limits::PRESENCE_EVERY / 10);
            now.time + pause
        } else {
            entry.publish_backoff = PUBLISH_RETRY;
            now.time + limits::PRESENCE_EVERY
        };
        entry.publish_at = Some(entry.publish_at.map_or(next, |at| at.min(next)));
    }

    // Hellos.

    fn open_hello(&mut self, pairing_id: PairingId, conn: ConnId, from: Inbound, stream: StreamId, now: Now) {
        let Some(entry) = self.peers.get(&pairing_id) else {
            self.out.push_back(Output::Finish(stream));
            return;
        };
        let own = self.config.identity.public();
        let (sent, r1) = hello::open(&entry.bond, own, self.config.tid, from.tid, &mut self.rng);
        self.out.push_back(Output::Send { stream, frames: vec![r1] });
        let until = now.time + limits::HELLO;
        let step = HelloStep::AwaitR2(pairing_id, sent);
        self.hellos.insert(stream, Hello { conn, from, until, opened_by_us: true, step });
    }

    fn handle_hello(&mut self, stream: StreamId, hello: Hello, frame: &Frame, now: Now) {
        let Hello { conn, from, until, opened_by_us, step } = hello;
        let next = match step {
            HelloStep::AwaitR1 => self.handle_r1(stream, from.tid, frame, now),
            HelloStep::AwaitR2(id, sent) => self.handle_r2(stream, id, sent, frame, now),
            HelloStep::AwaitR3(id, sent) => match sent.handle(frame) {
                Ok(r3) if self.completes(id, r3.state) => {
                    self.commit(id, stream);
                    Some(HelloStep::StoringBeforeR4(id, r3.clock))
                }
                Ok(r3) => {
                    self.send_r4(id, stream);
                    self.certify(id, conn, from, r3.clock, now);
                    None
                }
                Err(_) => self.refuse(stream, now),
            },
            HelloStep::AwaitR4(id, sent, clock) => match sent.handle(frame) {
                Ok(state) if self.completes(id, state) => {
                    self.commit(id, stream);
                    Some(HelloStep::StoringAfterR4(id, clock))
                }
                Ok(_) => {
                    self.out.push_back(Output::Finish(stream));
                    self.certify(id, conn, from, clock, now);
                    None
                }
                Err(_) => self.refuse(stream, now),
            },
            HelloStep::AwaitAcknowledgement(id) => {
                if frame.kind() == FrameType::R3 && frame.body().first() == Some(&0xff) {
                    self.tombstones.retain(|t| t.pairing_id != id);
                    self.job(Job::Store(StoreChange::Acknowledged(id)), Work::Forget);
                }
                self.out.push_back(Output::Finish(stream));
                None
            }
            HelloStep::StoringBeforeR3(..) | HelloStep::StoringBeforeR4(..) | HelloStep::StoringAfterR4(..) => {
                self.refuse(stream, now)
            }
        };
        if let Some(step) = next {
            self.hellos.insert(stream, Hello { conn, from, until, opened_by_us, step });
        }
    }

    fn handle_r1(&mut self, stream: StreamId, tid: Tid, frame: &Frame, now: Now) -> Option<HelloStep> {
        let Ok(r1) = ReceivedR1::parse(frame, tid, self.config.tid) else { return self.refuse(stream, now) };
        // Every pairing and tombstone is tried, so that the time tells nothing about which one fits.
        let known =
            self.peers.values().fold(None, |found, e| if r1.is_from(e.bond.tag_key()) { Some(e) } else { found });
        let ended = self.tombstones.iter().fold(None, |found, t| if r1.is_from(&t.tag) { Some(t) } else { found });
        if let Some(tombstone) = ended {
            let id = tombstone.pairing_id;
            let r2 = r1.revoke(tombstone, &self.config.identity);
            self.out.push_back(Output::Send { stream, frames: vec![r2] });
            return Some(HelloStep::AwaitAcknowledgement(id));
        }
        let Some(entry) = known else { return self.refuse(stream, now) };
        let id = entry.peer.pairing_id;
        let (sent, r2) = r1.answer(&entry.bond, &self.config.identity, entry.peer.state, now.unix, &mut self.rng);
        self.out.push_back(Output::Send { stream, frames: vec![r2] });
        Some(HelloStep::AwaitR3(id, sent))
    }

    fn handle_r2(
        &mut self,
        stream: StreamId,
        id: PairingId,
        sent: SentR1,
        frame: &Frame,
        now: Now,
    ) -> Option<HelloStep> {
        match sent.handle(frame) {
            Ok(R2::Proof(proof)) if self.completes(id, proof.state) => {
                self.commit(id, stream);
                Some(HelloStep::StoringBeforeR3(id, proof))
            }
            Ok(R2::Proof(proof)) => self.send_r3(id, stream, *proof, now),
            Ok(R2::Revoked { acknowledgement }) => {
                self.out.push_back(Output::Send { stream, frames: vec![acknowledgement] });
                self.out.push_back(Output::Finish(stream));
                self.remove(id);
                self.job(Job::Store(StoreChange::Revoked(id)), Work::Forget);
                self.out.push_back(Output::Event(Event::Gone { pairing_id: id, by_them: true }));
                None
            }
            Err(_) => self.refuse(stream, now),
        }
    }

    fn send_r3(&mut self, id: PairingId, stream: StreamId, proof: ReceivedR2, now: Now) -> Option<HelloStep> {
        let state = self.peers.get(&id)?.peer.state;
        let clock = proof.clock;
        let (sent, r3) = proof.send(&self.config.identity, state, now.unix);
        self.out.push_back(Output::Send { stream, frames: vec![r3] });
        Some(HelloStep::AwaitR4(id, sent, clock))
    }

    fn send_r4(&mut self, id: PairingId, stream: StreamId) {
        if let Some(entry) = self.peers.get(&id) {
            let r4 = hello::accept(entry.peer.state);
            self.out.push_back(Output::Send { stream, frames: vec![r4] });
        }
    }

    /// Whether the peer's state lets our pending pairing become a paired one: the initiator needs to know that the joiner
    /// holds the secret durably, which its proof shows; the joiner needs the initiator to say "paired".
    fn completes(&self, id: PairingId, theirs: PairState) -> bool {
        self.peers.get(&id).is_some_and(|e| {
            e.peer.state == PairState::Pending && (e.peer.role == Role::Initiator || theirs == PairState::Paired)
        })
    }

    fn commit(&mut self, id: PairingId, stream: StreamId) {
        self.job(Job::Store(StoreChange::Paired(id)), Work::Commit(id, stream));
    }

    fn committed(&mut self, id: PairingId, stream: StreamId, now: Now) {
        self.set_paired(id);
        let hello = self.hellos.remove(&stream);
        let path = hello.as_ref().map_or(Path::Direct, |h| h.from.path);
        self.out.push_back(Output::Event(Event::Completed { pairing_id: id, path }));
        let Some(Hello { conn, from, until, opened_by_us, step }) = hello else { return };
        match step {
            HelloStep::StoringBeforeR3(id, proof) => {
                if let Some(step) = self.send_r3(id, stream, *proof, now) {
                    self.hellos.insert(stream, Hello { conn, from, until, opened_by_us, step });
                }
            }
            HelloStep::StoringBeforeR4(id, clock) => {
                self.send_r4(id, stream);
                self.certify(id, conn, from, clock, now);
            }
            HelloStep::StoringAfterR4(id, clock) => {
                self.out.push_back(Output::Finish(stream));
                self.certify(id, conn, from, clock, now);
            }
            HelloStep::AwaitR1
            | HelloStep::AwaitR2(..)
            | HelloStep::AwaitR3(..)
            | HelloStep::AwaitR4(..)
            | HelloStep::AwaitAcknowledgement(_) => {}
        }
    }

    fn certify(&mut self, id: PairingId, conn: ConnId, from: Inbound, clock: UnixTime, now: Now) {
        let was_up = self.is_up(id);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.clock_offset = now.unix.offset_to(clock);
        let known = entry.seek.target().filter(|(tid, _)| *tid == from.tid).map(|(_, a)| a.as_slice());
        let others = known.unwrap_or(&entry.peer.addresses).iter().copied().filter(|a| *a != from.address);
        let mut addresses: Vec<Address> = std::iter::once(from.address).chain(others).collect();
        addresses.truncate(limits::MAX_REMEMBERED);
        entry.peer.addresses.clone_from(&addresses);
        let clock_offset = entry.peer.clock_offset;
        for job in entry.seek.stop() {
            self.cancel(job);
        }
        let path = from.path;
        let contact = StoreChange::Contact { pairing_id: id, addresses, clock_offset, path };
        self.job(Job::Store(contact), Work::Forget);
        self.conns.insert(conn, Certified { pairing_id: id, address: from.address, path });
        if !was_up {
            self.out.push_back(Output::Hold { conn, hold: true });
            self.out.push_back(Output::Event(Event::Up { pairing_id: id, path, address: from.address }));
        }
        self.send_pings(id);
    }

    fn refuse(&mut self, stream: StreamId, now: Now) -> Option<HelloStep> {
        self.refused.push((now.time + limits::HELLO_REFUSAL, stream));
        None
    }

    // Pings.

    fn send_pings(&mut self, id: PairingId) {
        let Some(conn) = self.conns.iter().find(|(_, c)| c.pairing_id == id).map(|(conn, _)| *conn) else { return };
        let waiting: Vec<u64> =
            self.pings.iter().filter(|p| p.pairing_id == id && p.sent.is_none()).map(|p| p.token).collect();
        for token in waiting {
            self.job(Job::OpenPing(conn), Work::OpenPing(token));
        }
    }

    fn send_ping(&mut self, token: u64, stream: StreamId, now: Now) {
        match self.pings.iter_mut().find(|p| p.token == token && p.sent.is_none()) {
            Some(ping) => {
                ping.sent = Some((stream, now.time));
                let frame = Frame::new(FrameType::Ping, token.to_be_bytes().to_vec());
                self.out.push_back(Output::Send { stream, frames: vec![frame] });
            }
            None => self.out.push_back(Output::Finish(stream)),
        }
    }

    fn handle_pong(&mut self, stream: StreamId, frame: &Frame, now: Now) {
        let mine = |p: &Ping| p.sent.is_some_and(|(id, _)| id == stream) && frame.body() == p.token.to_be_bytes();
        if let Some(index) = self.pings.iter().position(mine) {
            let ping = self.pings.remove(index);
            let sent = ping.sent.map_or(now.time, |(_, at)| at);
            if let Some((path, address)) = self.path(ping.pairing_id) {
                let rtt = now.time.since(sent);
                self.out.push_back(Output::Event(Event::Pong { token: ping.token, rtt, path, address }));
            }
        }
        self.out.push_back(Output::Finish(stream));
    }
}

impl HelloStep {
    fn pairing_id(&self) -> Option<PairingId> {
        match self {
            HelloStep::AwaitR1 => None,
            HelloStep::AwaitR2(id, _)
            | HelloStep::StoringBeforeR3(id, _)
            | HelloStep::AwaitR4(id, ..)
            | HelloStep::AwaitR3(id, _)
            | HelloStep::StoringBeforeR4(id, _)
            | HelloStep::StoringAfterR4(id, _)
            | HelloStep::AwaitAcknowledgement(id) => Some(*id),
        }
    }
}

impl QueryBudget {
    fn refill(&mut self, now: Time) {
        if now >= self.refill {
            self.left = limits::PRESENCE_QUERIES_PER_MINUTE;
            self.refill = now + Duration::from_secs(60);
        }
    }

    fn take(&mut self, n: usize) -> bool {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let enough = self.left >= n;
        if enough {
            self.left -= n;
        } else {
            self.left = 0;
        }
        enough
    }
}

/// How long a pending pairing may still wait; none for a paired one. A wall clock that was set back makes it wait longer,
/// one set forward makes it end: both are visible and neither stores a wrong device.
fn pending_left(peer: &Peer, now: Now) -> Option<Duration> {
    let end = UnixTime(peer.since.0.saturating_add(limits::PENDING.as_secs()));
    let left = Duration::from_secs(u64::try_from(now.unix.offset_to(end)).unwrap_or(0));
    (peer.state == PairState::Pending).then_some(left)
}
