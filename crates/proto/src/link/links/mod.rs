//! The machine behind [`super`]: peers, hellos, certified connections, presence and pings.

mod again;
mod doubts;
mod hellos;
mod met;
mod paths;
mod pings;
mod publishing;
mod punching;
mod seeking;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::addr::{Address, Path, RelayAddress};
use crate::id::{ConnId, JobId, PairingId, StreamId, Tid};
use crate::limits;
use crate::link::hello::{Bond, PairState, Tombstone};
use crate::link::presence::Presence;
use crate::link::seek::{Seek, Target};
use crate::link::{Config, Event, Job, Output, Peer};
use crate::secret::Rng;
use crate::session::{Inbound, JobResult, Reached};
use crate::time::{Now, Time, UnixTime};
use crate::wire::frames::{Frame, FrameType};

use again::Again;
use hellos::{Hello, HelloStep};
use punching::Punching;

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
    /// How many connections were certified.
    certified: u64,
    /// Direct connections on which nobody has proved itself and no hello of ours was tried.
    direct: BTreeMap<ConnId, Inbound>,
    /// Connections through relays on which no hello has succeeded.
    relayed: BTreeMap<ConnId, Inbound>,
    /// Those of the direct ones that are kept for what runs on a relayed one.
    kept: BTreeSet<ConnId>,
    /// Questions to doubtful connections that wait for their answer.
    probes: BTreeMap<StreamId, ConnId>,
    pings: Vec<Ping>,
    ping_streams: BTreeMap<StreamId, ConnId>,
    addresses: Vec<Address>,
    relays: Vec<RelayAddress>,
    queries: QueryBudget,
    published: u32,
    jobs: BTreeMap<JobId, Work>,
    next_job: u64,
    out: VecDeque<Output>,
}

struct Entry {
    peer: Peer,
    /// When it ends if it is still pending by then.
    pending_until: Time,
    bond: Bond,
    presence: Presence,
    seek: Seek,
    again: Again,
    publish_at: Option<Time>,
    publish_backoff: Duration,
    publishing: usize,
    /// How its link runs, as it was told last; none while it is down.
    told: Option<(Path, Address)>,
    punching: Punching,
}

/// A connection on which a hello succeeded: the only thing that gives rights.
struct Certified {
    pairing_id: PairingId,
    /// The transport key of the peer.
    tid: Tid,
    address: Address,
    path: Path,
    /// Counts up: of equally good connections the oldest is used, so that the path does not flap.
    order: u64,
    /// When it is given up, if it runs through a relay and a better one stands.
    spare_until: Option<Time>,
    /// Until when it must have answered, if there is reason to doubt that it lives.
    doubt_until: Option<Time>,
}

/// What a running job is for.
enum Work {
    Publish(PairingId),
    LookUp(PairingId),
    Dial(PairingId),
    /// A look where a peer is that is up through a relay alone, for this period.
    LookAgain(PairingId, u32),
    OpenHello(PairingId, ConnId, Inbound),
    OpenPing(u64, ConnId),
    /// A stream on which a doubtful connection is asked whether it lives.
    Probe(ConnId),
    Commit(PairingId, StreamId),
    /// The tombstone that tells the peer, from when the disk has it.
    Expire(Option<Box<Tombstone>>),
    Revoke(StreamId),
    Forget,
}

struct Ping {
    token: u64,
    pairing_id: PairingId,
    until: Time,
    state: PingState,
}

/// How far a ping got.
enum PingState {
    /// The peer is not connected.
    Waiting,
    Opening(ConnId),
    Sent {
        stream: StreamId,
        at: Time,
        conn: ConnId,
        path: Path,
        address: Address,
    },
}

/// What a minute's allowance of DHT queries was used for.
struct QueryBudget {
    presence: u32,
    codes: u32,
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
            certified: 0,
            direct: BTreeMap::new(),
            relayed: BTreeMap::new(),
            kept: BTreeSet::new(),
            probes: BTreeMap::new(),
            pings: Vec::new(),
            ping_streams: BTreeMap::new(),
            addresses: Vec::new(),
            relays: Vec::new(),
            queries: QueryBudget::new(now.time),
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

    /// A pairing was stored. Its two sides are still connected; the search begins when they have had their time and no
    /// hello has succeeded.
    pub fn add(&mut self, peer: Peer, now: Now) {
        let bond = Bond::new(peer.pairing_id, peer.key, &peer.secret);
        let presence = Presence::new(peer.pairing_id, peer.key, peer.role, &peer.secret);
        let pending_until = now.time + pending_left(&peer, now);
        let mut seek = Seek::default();
        seek.start(now.time + limits::PEER_ANSWER);
        let entry = Entry {
            peer,
            pending_until,
            bond,
            presence,
            seek,
            again: Again::default(),
            publish_at: Some(now.time),
            publish_backoff: PUBLISH_RETRY,
            publishing: 0,
            told: None,
            punching: Punching::default(),
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
    pub fn reach(
        &mut self,
        pairing_id: PairingId,
        tid: Tid,
        addresses: Vec<Address>,
        relays: Vec<RelayAddress>,
        now: Now,
    ) {
        if let Some(entry) = self.peers.get_mut(&pairing_id) {
            entry.seek.set_target(Target { tid, addresses, relays });
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
        self.pings.push(Ping { token, pairing_id, until: now.time + wait, state: PingState::Waiting });
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
            self.punch_soon(now);
            self.publish_all(now);
        }
    }

    /// The relays that lead to us, best first; presence is published anew if they changed.
    pub fn set_relays(&mut self, relays: Vec<RelayAddress>, now: Now) {
        if relays != self.relays {
            self.relays = relays;
            self.publish_all(now);
        }
    }

    /// Whether a peer may need a relay to reach us.
    pub fn wants_relays(&self) -> bool {
        !self.peers.is_empty()
    }

    /// The DHT was asked for a code: that comes first, and leaves less for the search for paired devices.
    pub fn code_was_looked_up(&mut self, now: Now) {
        self.queries.refill(now.time);
        self.queries.codes = self.queries.codes.saturating_add(1);
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

    /// We are elsewhere: whoever is not connected is looked for anew, without the pauses that earlier failures have
    /// brought. Who is on a relay may be reached directly from here.
    pub fn moved(&mut self, now: Now) {
        for (id, entry) in &mut self.peers {
            if !self.conns.values().any(|c| c.pairing_id == *id) {
                entry.seek.restart(now.time);
            }
        }
        self.punch_soon(now);
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
        self.best(pairing_id).map(|(_, c)| (c.path, c.address))
    }

    /// A connection stands: each one, whoever dialled and however it runs.
    pub fn handle_connected(&mut self, conn: ConnId, from: Inbound, now: Now) {
        self.remember_direct(conn, from);
        self.remember_relayed(conn, from);
        self.handle_timeout(now);
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
        let id = self.authorised(conn);
        let of_peer = self.ping_streams.values().filter(|on| self.authorised(**on) == id).count();
        if id.is_some() && of_peer < limits::MAX_PING_STREAMS {
            self.ping_streams.insert(stream, conn);
        } else {
            self.out.push_back(Output::Finish(stream));
        }
    }

    /// A frame arrived on a hello or ping stream.
    pub fn handle_frame(&mut self, stream: StreamId, frame: &Frame, now: Now) {
        if let Some(hello) = self.hellos.remove(&stream) {
            self.handle_hello(stream, hello, frame, now);
        } else if self.dispels(stream, frame, now) {
            // It was a question of ours.
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
        self.probes.remove(&stream);
        self.refused.retain(|(_, id)| *id != stream);
        self.hellos.remove(&stream);
        for ping in self.pings.extract_if(.., |p| p.is_on(stream)) {
            self.out.push_back(Output::Event(Event::PingLost { token: ping.token, connected: true }));
        }
        self.handle_timeout(now);
    }

    /// A connection is gone.
    pub fn handle_disconnected(&mut self, conn: ConnId, now: Now) {
        self.hellos.retain(|_, h| h.conn != conn);
        self.ping_streams.retain(|_, c| *c != conn);
        self.probes.retain(|_, c| *c != conn);
        self.direct.remove(&conn);
        self.relayed.remove(&conn);
        self.kept.remove(&conn);
        self.forget_connection(conn, now);
        self.handle_timeout(now);
    }

    /// A connection has no rights any more, and nothing is sent on it.
    fn forget_connection(&mut self, conn: ConnId, now: Now) {
        if let Some(id) = self.conns.get(&conn).map(|c| c.pairing_id) {
            self.conns.remove(&conn);
            self.ping_elsewhere(id, conn);
            self.path_changed(id, now);
        }
    }

    /// A job is done, or, for a look-up, brought something.
    pub fn handle_job(&mut self, id: JobId, result: JobResult, now: Now) {
        if let JobResult::Found(record) = result {
            self.handle_found(id, &record);
            self.found_again(id, &record);
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
            (Some(Work::Dial(pairing_id)), JobResult::Dialled(Reached { conn, tid, address, path })) => {
                if let Some(entry) = self.peers.get_mut(&pairing_id) {
                    entry.seek.end_job(id);
                }
                let from = Inbound { tid, address, path, local: None };
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
            (Some(Work::OpenPing(token, conn)), JobResult::StreamOpened(stream)) => {
                self.send_ping(token, conn, stream, now);
            }
            (Some(Work::Probe(conn)), JobResult::StreamOpened(stream)) => self.probe(conn, stream),
            (Some(Work::OpenPing(token, conn)), _) => self.wait_to_ping(token, conn),
            (Some(Work::Commit(pairing_id, stream)), JobResult::Stored) => self.committed(pairing_id, stream, now),
            (Some(Work::Expire(Some(tombstone))), JobResult::Stored) => self.bury(*tombstone),
            (Some(Work::Revoke(stream)), JobResult::Stored) => self.acknowledge(stream),
            (Some(Work::Commit(_, stream) | Work::Revoke(stream)), _) => {
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
        self.end_late_hellos(now);
        for ping in self.pings.extract_if(.., |p| p.until <= now.time) {
            let connected = match ping.state {
                PingState::Sent { stream, .. } => {
                    self.out.push_back(Output::Finish(stream));
                    true
                }
                PingState::Waiting | PingState::Opening(_) => false,
            };
            self.out.push_back(Output::Event(Event::PingLost { token: ping.token, connected }));
        }
        self.improve();
        self.settle_met();
        self.give_up_spares(now);
        self.give_up_doubtful(now);
        self.punch_due(now);
        self.expire_pending(now);
        self.seek_all(now);
        self.look_again(now);
        self.publish_due(now);
    }

    /// When [`Links::handle_timeout`] is due. Meaningful only while [`Links::poll_output`] returns nothing.
    pub fn poll_timeout(&self, now: Now) -> Option<Time> {
        let hellos = self.hellos.values().map(|h| h.until);
        let refused = self.refused.iter().map(|(at, _)| *at);
        let pings = self.pings.iter().map(|p| p.until);
        let seeks = self.peers.values().filter(|e| !self.is_up(e.peer.pairing_id)).filter_map(|e| e.seek.next());
        let looks = self.peers.values().filter(|_| self.config.dht).filter_map(|e| e.again.due());
        let busy = self.peers.values().map(|e| e.publishing).sum::<usize>() >= PARALLEL_PUBLISHES;
        let publishes =
            self.peers.values().filter(|e| self.config.dht && !busy && e.publishing == 0).filter_map(|e| e.publish_at);
        // One that is over and still here waits for a hello or a write to end, which are inputs of their own.
        let pending = self.peers.values().filter(|e| e.is_pending() && e.pending_until > now.time);
        let pending = pending.map(|e| e.pending_until);
        let (spares, doubts) = (self.spares_due(now), self.doubts_due());
        let all = hellos.chain(refused).chain(pings).chain(seeks).chain(publishes).chain(pending);
        all.chain(looks).chain(spares).chain(doubts).chain(self.punches_due()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// How much is going on: jobs, hellos, refusals that wait, certified connections, pings. For bounds and leak tests.
    pub fn load(&self) -> usize {
        let streams = self.hellos.len() + self.refused.len() + self.ping_streams.len() + self.probes.len();
        self.jobs.len() + streams + self.conns.len() + self.pings.len()
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
}

impl Entry {
    fn is_pending(&self) -> bool {
        self.peer.state == PairState::Pending
    }
}

impl QueryBudget {
    fn new(now: Time) -> QueryBudget {
        QueryBudget { presence: 0, codes: 0, refill: now }
    }

    fn refill(&mut self, now: Time) {
        if now >= self.refill {
            *self = QueryBudget { presence: 0, codes: 0, refill: now + Duration::from_secs(60) };
        }
    }

    fn take(&mut self, n: usize) -> bool {
        let presence = self.presence.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        let enough = presence <= limits::PRESENCE_QUERIES_PER_MINUTE
            && presence.saturating_add(self.codes) <= limits::DHT_QUERIES_PER_MINUTE;
        // Once it is not enough for one, the others wait as well, so that all get their turn.
        self.presence = if enough { presence } else { limits::PRESENCE_QUERIES_PER_MINUTE };
        enough
    }
}

/// How long a pending pairing may still wait. The wall clock is asked once, when the pairing comes from the store or from
/// a session; from then on it may be set without ending a pairing that is just being finished.
fn pending_left(peer: &Peer, now: Now) -> Duration {
    let end = UnixTime(peer.since.0.saturating_add(limits::PENDING.as_secs()));
    Duration::from_secs(u64::try_from(now.unix.offset_to(end)).unwrap_or(0)).min(limits::PENDING)
}
