//! Paired devices: finding each other again, the hello under attack, ping, the end of a pairing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use handfast_proto::addr::{LoopbackPolicy, Path};
use handfast_proto::id::{ConnId, JobId, PairingId, StreamId, Tid};
use handfast_proto::limits;
use handfast_proto::link::hello::{self, Bond, R2, ReceivedR1};
use handfast_proto::link::{self, Config, Event, Job, Links, Output, PairState, Peer, StoreChange, Tombstone};
use handfast_proto::secret::Secret;
use handfast_proto::session::{Inbound, JobResult, Reached, Role};
use handfast_proto::time::{Now, Time, UnixTime};
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::{Record, RecordKeys};

use crate::bench::{address, flipped, frame, identity, inbound, rng};
use crate::path::{assert_paired, pairing};
use crate::sim::world::{Person, World};

const DAY: i64 = 86_400;
pub(crate) const ID: PairingId = PairingId([7; 16]);
pub(crate) const OURS: Tid = Tid([1; 32]);
pub(crate) const THEIRS: Tid = Tid([2; 32]);

fn both_up(world: &World) -> bool {
    world.devices.iter().all(|device| {
        let run = device.run.as_ref().expect("runs");
        device.disk.rows.keys().all(|id| run.links.path(*id).is_some())
    })
}

/// Two paired devices whose link is up.
fn paired_world() -> World {
    let mut world = World::of(2);
    pairing(&mut world);
    world.ending(1).0.expect("paired");
    world.run_for(Duration::from_secs(2));
    assert_paired(&world, 0, 1);
    assert!(both_up(&world));
    world
}

#[test]
fn c12_b47_after_both_restarted_elsewhere_they_find_each_other_through_the_dht() {
    let mut world = paired_world();
    for dev in [0, 1] {
        world.crash(dev);
        world.roam(dev);
    }
    world.run_for(Duration::from_secs(20));
    world.start(0);
    world.run_for(Duration::from_secs(5));
    world.start(1);
    assert!(world.run_until(Duration::from_secs(10), both_up));
    let id = *world.devices[0].disk.rows.keys().next().expect("a pairing");
    for dev in [0, 1] {
        let token = world.ping(dev, id, Duration::from_secs(10));
        assert!(world.run_until(Duration::from_secs(11), |w| w.pong(dev, token) == Some(true)));
    }
}

#[test]
fn c24_clocks_a_day_apart_in_either_direction_and_moved_while_off_do_not_keep_them_apart() {
    for (first, second) in [(DAY, 0), (-DAY, 0), (0, DAY), (0, -DAY), (DAY / 2, -DAY / 2)] {
        let mut world = World::of(2);
        world.devices[0].clock = first;
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        world.run_for(Duration::from_secs(2));
        for dev in [0, 1] {
            world.crash(dev);
            world.roam(dev);
        }
        world.devices[1].clock += second;
        world.run_for(Duration::from_secs(20));
        for dev in [0, 1] {
            world.start(dev);
        }
        assert!(world.run_until(Duration::from_secs(60), both_up), "{first} {second}");
    }
}

#[test]
fn c12_day_two_and_day_sixty_need_no_code_and_old_records_are_gone_by_then() {
    let mut world = paired_world();
    for day in [1, 58] {
        for dev in [0, 1] {
            world.crash(dev);
            world.roam(dev);
            world.devices[dev].clock += day * DAY;
        }
        world.run_for(Duration::from_secs(1_000));
        for dev in [0, 1] {
            world.start(dev);
        }
        assert!(world.run_until(Duration::from_secs(60), both_up), "day {day}");
    }
}

#[test]
fn c12_a_device_that_roams_is_found_again_while_both_run() {
    let mut world = paired_world();
    world.roam(0);
    world.roam(1);
    assert!(world.run_until(Duration::from_secs(1), |w| !both_up(w)));
    assert!(world.run_until(Duration::from_secs(60), both_up));
}

#[test]
fn c13_a_quiet_pair_stays_connected_and_sends_only_what_keeps_it_findable() {
    let mut world = paired_world();
    let (frames, events) = (world.frames.clone(), world.devices[0].link_events.len());
    world.run_for(Duration::from_secs(3 * 3_600));
    assert!(both_up(&world));
    assert_eq!(world.frames, frames, "nothing is sent between them");
    assert_eq!(world.devices[0].link_events.len(), events, "the link does not flap");
}

#[test]
fn c13_links_that_cross_do_not_tear_each_other_down() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        world.settings.jitter = Duration::from_millis(30);
        world.add_nodes(3);
        for _ in 0..2 {
            world.add_device(Person::Yes(Duration::ZERO));
        }
        pairing(&mut world);
        world.ending(1).0.expect("paired");
        world.run_for(Duration::from_secs(1));
        // Both lose the connection at the same moment, and both look for the other at once.
        world.cut_between(0, 1);
        assert!(world.run_until(Duration::from_secs(60), both_up));
        world.run_for(Duration::from_secs(5));
        let told = world.devices[0].link_events.len() + world.devices[1].link_events.len();
        world.run_for(Duration::from_secs(600));
        assert!(both_up(&world));
        let later = world.devices[0].link_events.len() + world.devices[1].link_events.len();
        assert_eq!(told, later, "seed {seed}");
    }
}

// One device, its links driven by hand.

pub(crate) struct Desk {
    pub(crate) links: Links,
    own: Tid,
    now: Duration,
    pub(crate) sent: Vec<(StreamId, Frame)>,
    closed: Vec<StreamId>,
    /// Connections that it gave up.
    pub(crate) given_up: Vec<ConnId>,
    /// Connections through relays on which the peer may learn where we are.
    pub(crate) proven: Vec<ConnId>,
    /// When it has tried again to get a direct connection of which one.
    pub(crate) punched: Vec<(Duration, ConnId)>,
    /// Connections that it keeps although nothing runs on them.
    pub(crate) held: BTreeSet<ConnId>,
    pub(crate) jobs: Vec<(JobId, Job)>,
    pub(crate) events: Vec<Event>,
    next: u64,
}

fn secret() -> Secret<32> {
    Secret::new([9; 32])
}

pub(crate) fn peer(state: PairState, role: Role) -> Peer {
    Peer {
        pairing_id: ID,
        key: identity(2).public(),
        role,
        state,
        secret: secret(),
        clock_offset: 0,
        addresses: vec![address(2)],
        since: UnixTime(1_800_000_000),
    }
}

/// The other side of the pairing.
pub(crate) fn their_bond() -> Bond {
    Bond::new(ID, identity(1).public(), &secret())
}

impl Desk {
    fn new(peers: Vec<Peer>, tombstones: Vec<Tombstone>) -> Desk {
        Desk::of(1, OURS, peers, tombstones)
    }

    /// The desk of this device, under this transport key.
    pub(crate) fn of(n: u8, own: Tid, peers: Vec<Peer>, tombstones: Vec<Tombstone>) -> Desk {
        let (identity, loopback) = (identity(n), LoopbackPolicy::Refuse);
        let config = Config { tid: own, identity, dht: true, loopback, start: 3 };
        let now = Now { time: Time::ZERO, unix: UnixTime(1_800_000_000) };
        let mut links = Links::new(config, rng(n), peers, tombstones, now);
        links.set_addresses(vec![address(n)], now);
        let mut desk = Desk {
            links,
            own,
            given_up: Vec::new(),
            proven: Vec::new(),
            punched: Vec::new(),
            held: BTreeSet::new(),
            now: Duration::ZERO,
            sent: Vec::new(),
            closed: Vec::new(),
            jobs: Vec::new(),
            events: Vec::new(),
            next: 100,
        };
        desk.drain();
        desk
    }

    pub(crate) fn clocks(&self) -> Now {
        Now { time: Time::at(self.now), unix: UnixTime(1_800_000_000 + self.now.as_secs()) }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.links.poll_output() {
            match output {
                Output::Send { stream, frames } => self.sent.extend(frames.into_iter().map(|f| (stream, f))),
                Output::Finish(stream) => self.closed.push(stream),
                Output::Hold { conn, hold: true } => drop(self.held.insert(conn)),
                Output::Hold { conn, hold: false } => drop(self.held.remove(&conn)),
                Output::Proven(conn) => self.proven.push(conn),
                Output::PunchAgain(conn) => self.punched.push((self.now, conn)),
                Output::Close(conn) => self.given_up.push(conn),
                Output::Job(id, job) => self.jobs.push((id, job)),
                Output::Cancel(id) => self.jobs.retain(|(job, _)| *job != id),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(crate) fn wait(&mut self, wait: Duration) {
        self.now += wait;
        let now = self.clocks();
        self.links.handle_timeout(now);
        self.drain();
    }

    fn open(&mut self, conn: u64, from: Tid) -> StreamId {
        self.open_from(conn, inbound(from))
    }

    pub(crate) fn open_from(&mut self, conn: u64, from: Inbound) -> StreamId {
        self.next += 1;
        let stream = StreamId(self.next);
        let now = self.clocks();
        self.links.handle_hello_stream(stream, ConnId(conn), from, now);
        self.drain();
        stream
    }

    pub(crate) fn hand(&mut self, stream: StreamId, frame: &Frame) -> Vec<Frame> {
        let now = self.clocks();
        self.links.handle_frame(stream, frame, now);
        self.drain();
        self.sent.drain(..).filter(|(s, _)| *s == stream).map(|(_, f)| f).collect()
    }

    pub(crate) fn done(&mut self, id: JobId, result: JobResult) {
        let now = self.clocks();
        self.jobs.retain(|(job, _)| *job != id || matches!(result, JobResult::Found(_)));
        self.links.handle_job(id, result, now);
        self.drain();
    }

    /// The first job of some sort.
    pub(crate) fn find(&self, is: fn(&Job) -> bool) -> Option<JobId> {
        self.jobs.iter().find(|(_, job)| is(job)).map(|(id, _)| *id)
    }

    /// A whole hello of the right peer on a connection.
    fn welcome(&mut self, conn: u64) {
        self.welcome_from(conn, inbound(THEIRS));
    }

    pub(crate) fn welcome_from(&mut self, conn: u64, from: Inbound) {
        let (sent, r1) = hello::open(&their_bond(), identity(2).public(), from.tid, self.own, &mut rng(4));
        let stream = self.open_from(conn, from);
        let r2 = self.hand(stream, &r1);
        let Ok(R2::Proof(proof)) = sent.handle(&r2[0]) else { panic!("a proof") };
        let (_, r3) = proof.send(&identity(2), PairState::Paired, UnixTime(1_800_000_000));
        let r4 = self.hand(stream, &r3);
        assert_eq!(r4[0].kind(), FrameType::R4);
    }

    pub(crate) fn ping_on(&mut self, conn: u64) -> (StreamId, Vec<Frame>) {
        self.next += 1;
        let stream = StreamId(self.next);
        self.links.handle_ping_stream(stream, ConnId(conn));
        self.drain();
        let answer = self.hand(stream, &frame(FrameType::Ping, 5));
        (stream, answer)
    }
}

#[test]
fn attack_41_a_stranger_is_refused_after_fifty_milliseconds_however_many_pairings_there_are() {
    for peers in [Vec::new(), peers(limits::MAX_PAIRINGS)] {
        let mut desk = Desk::new(peers, Vec::new());
        let stream = desk.open(1, THEIRS);
        let answer = desk.hand(stream, &frame(FrameType::R1, 1));
        assert!(answer.is_empty() && !desk.closed.contains(&stream));
        desk.wait(Duration::from_millis(49));
        assert!(!desk.closed.contains(&stream));
        desk.wait(Duration::from_millis(1));
        assert!(desk.closed.contains(&stream));
    }
}

#[test]
fn attack_40_42_only_a_whole_hello_gives_rights_and_only_to_its_connection() {
    let mut desk = Desk::new(vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    // Before any hello.
    let (stream, answer) = desk.ping_on(1);
    assert!(answer.is_empty() && desk.closed.contains(&stream));
    // A hello that stops before R3, and one whose R3 is wrong.
    let (sent, r1) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(4));
    let hello_stream = desk.open(1, THEIRS);
    let r2 = desk.hand(hello_stream, &r1);
    let Ok(R2::Proof(proof)) = sent.handle(&r2[0]) else { panic!("a proof") };
    assert!(desk.links.authorised(ConnId(1)).is_none());
    let (_, r3) = proof.send(&identity(2), PairState::Paired, UnixTime(5));
    assert!(desk.hand(hello_stream, &flipped(&r3, 60)).is_empty());
    assert!(desk.links.authorised(ConnId(1)).is_none());
    // The right R3 on a stream where R1 is due, and the recorded R1 and R3 again on a new stream: the nonce is new.
    let stream = desk.open(1, THEIRS);
    assert!(desk.hand(stream, &r3).is_empty());
    let stream = desk.open(1, THEIRS);
    assert_eq!(desk.hand(stream, &r1).len(), 1);
    assert!(desk.hand(stream, &r3).is_empty());
    assert!(desk.links.authorised(ConnId(1)).is_none());
    // The same R1 from another transport key.
    let stream = desk.open(1, Tid([3; 32]));
    assert!(desk.hand(stream, &r1).is_empty());
    // The real one, on its own connection and nowhere else; gone with the connection.
    desk.welcome(2);
    assert_eq!(desk.links.authorised(ConnId(2)), Some(ID));
    assert!(desk.links.authorised(ConnId(1)).is_none());
    assert_eq!(desk.ping_on(2).1[0].kind(), FrameType::Pong);
    assert!(desk.ping_on(1).1.is_empty());
    let now = desk.clocks();
    desk.links.handle_disconnected(ConnId(2), now);
    desk.drain();
    assert!(desk.links.authorised(ConnId(2)).is_none());
    assert!(desk.ping_on(2).1.is_empty());
}

#[test]
fn attack_40_a_reflected_hello_is_refused() {
    let mut desk = Desk::new(vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    desk.wait(Duration::from_secs(5));
    // We dial; the attacker sends our own R1 back to us over the connection that it has with us.
    let dial = desk.find(|job| matches!(job, Job::Dial { .. })).expect("it looks for its peer");
    let dialled = JobResult::Dialled(Reached { conn: ConnId(1), tid: THEIRS, address: address(2), path: Path::Direct });
    desk.done(dial, dialled);
    let open = desk.find(|job| matches!(job, Job::OpenHello(_))).expect("a hello is due");
    desk.done(open, JobResult::StreamOpened(StreamId(1)));
    let r1 = desk.sent.pop().expect("R1").1;
    let stream = desk.open(1, THEIRS);
    assert!(desk.hand(stream, &r1).is_empty());
    assert!(desk.links.authorised(ConnId(1)).is_none());
}

#[test]
fn a_pending_pairing_has_no_rights_until_the_disk_says_paired() {
    let mut desk = Desk::new(vec![peer(PairState::Pending, Role::Initiator)], Vec::new());
    let (sent, r1) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(4));
    let stream = desk.open(1, THEIRS);
    let r2 = desk.hand(stream, &r1);
    let Ok(R2::Proof(proof)) = sent.handle(&r2[0]) else { panic!("a proof") };
    assert_eq!(proof.state, PairState::Pending);
    let (sent, r3) = proof.send(&identity(2), PairState::Pending, UnixTime(1_800_000_000));
    assert!(desk.hand(stream, &r3).is_empty(), "R4 waits for the disk");
    assert!(desk.links.authorised(ConnId(1)).is_none());
    let write = desk.find(|job| matches!(job, Job::Store(StoreChange::Paired(_)))).expect("a write");
    desk.done(write, JobResult::Stored);
    let r4 = desk.sent.pop().expect("R4").1;
    assert_eq!(sent.handle(&r4), Ok(PairState::Paired));
    assert_eq!(desk.links.authorised(ConnId(1)), Some(ID));
}

#[test]
fn a_pending_joiner_stays_pending_while_the_initiator_only_says_pending() {
    let mut desk = Desk::new(vec![peer(PairState::Pending, Role::Joiner)], Vec::new());
    let (sent, r1) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(4));
    let stream = desk.open(1, THEIRS);
    let r2 = desk.hand(stream, &r1);
    let Ok(R2::Proof(proof)) = sent.handle(&r2[0]) else { panic!("a proof") };
    let (_, r3) = proof.send(&identity(2), PairState::Pending, UnixTime(1_800_000_000));
    desk.hand(stream, &r3);
    assert!(desk.find(|job| matches!(job, Job::Store(StoreChange::Paired(_)))).is_none());
    assert!(desk.links.authorised(ConnId(1)).is_none(), "a pending peer has no rights");
}

#[test]
fn attack_43_a_notice_is_told_to_who_fits_the_tombstone_and_believed_only_from_the_peer() {
    // We have ended it: the peer is told at its next hello, and its answer ends the notice.
    let tombstone = Tombstone { pairing_id: ID, peer: identity(2).public(), tag: tag(), seq: 4 };
    let mut desk = Desk::new(Vec::new(), vec![tombstone]);
    let (sent, r1) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(4));
    let stream = desk.open(1, THEIRS);
    let r2 = desk.hand(stream, &r1);
    let Ok(R2::Revoked { acknowledgement }) = sent.handle(&r2[0]) else { panic!("a notice") };
    assert!(desk.links.authorised(ConnId(1)).is_none());
    // An answer with anything behind its first byte is none.
    let (_, again) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(5));
    let other = desk.open(1, THEIRS);
    assert_eq!(desk.hand(other, &again).len(), 1);
    desk.hand(other, &flipped(&acknowledgement, 50));
    assert!(desk.find(|job| matches!(job, Job::Store(_))).is_none());
    desk.hand(stream, &acknowledgement);
    assert!(desk.find(|job| matches!(job, Job::Store(StoreChange::Acknowledged(ID)))).is_some());
    let stream = desk.open(1, THEIRS);
    assert!(desk.hand(stream, &r1).is_empty(), "forgotten: a stranger now");

    // We still have it: a right notice removes it, acknowledged when the disk has forgotten it; wrong ones do nothing.
    for (signer, pairing, believed) in [(2, 7, true), (3, 7, false), (2, 8, false), (1, 7, false)] {
        let mut desk = Desk::new(vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
        desk.wait(Duration::from_secs(5));
        let dial = desk.find(|job| matches!(job, Job::Dial { .. })).expect("it looks for its peer");
        let dialled =
            JobResult::Dialled(Reached { conn: ConnId(1), tid: THEIRS, address: address(2), path: Path::Direct });
        desk.done(dial, dialled);
        let open = desk.find(|job| matches!(job, Job::OpenHello(_))).expect("a hello is due");
        desk.done(open, JobResult::StreamOpened(StreamId(1)));
        let r1 = desk.sent.pop().expect("R1").1;
        let tombstone =
            Tombstone { pairing_id: PairingId([pairing; 16]), peer: identity(1).public(), tag: tag(), seq: 4 };
        let r2 = ReceivedR1::parse(&r1, OURS, THEIRS).expect("R1").revoke(&tombstone, &identity(signer));
        let answer = desk.hand(StreamId(1), &r2);
        assert!(answer.is_empty());
        let write = desk.find(|job| matches!(job, Job::Store(StoreChange::Revoked(ID))));
        assert_eq!(write.is_some(), believed, "signed by {signer}, for {pairing}");
        assert_eq!(desk.events.contains(&Event::Gone { pairing_id: ID, by_them: true }), believed);
        if let Some(write) = write {
            desk.done(write, JobResult::Stored);
            assert_eq!(desk.sent.pop().expect("an answer").1.body()[0], 0xff);
        }
    }
}

fn tag() -> Secret<32> {
    their_bond().tag_key().clone()
}

#[test]
fn attack_48_a_flood_of_hellos_keeps_thirty_two_and_the_newest_still_works() {
    let mut desk = Desk::new(vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let before = desk.links.load();
    for n in 0..1_000 {
        desk.open(n, Tid([5; 32]));
        assert!(desk.links.load() <= before + limits::MAX_INBOUND_HELLOS);
    }
    assert_eq!(desk.closed.len(), 1_000 - limits::MAX_INBOUND_HELLOS);
    desk.welcome(5_000);
    assert_eq!(desk.links.authorised(ConnId(5_000)), Some(ID));
    // What stays silent is closed after ten seconds.
    desk.wait(limits::HELLO);
    assert_eq!(desk.closed.len(), 1_000);
    // Refused ones wait for their 50 ms, no longer.
    let base = desk.links.load();
    for n in 0..1_000 {
        let stream = desk.open(n, Tid([5; 32]));
        desk.hand(stream, &frame(FrameType::R1, 3));
        desk.wait(Duration::from_millis(2));
        assert!(desk.links.load() <= base + 64, "{}", desk.links.load());
    }
}

#[test]
fn c6_attack_46_a_presence_record_that_is_not_the_peers_is_a_miss_and_nobody_is_dialled() {
    let mut desk =
        Desk::new(vec![Peer { addresses: Vec::new(), ..peer(PairState::Paired, Role::Initiator) }], Vec::new());
    desk.wait(Duration::from_secs(5));
    let look_up = desk.jobs.iter().find_map(|(id, job)| match job {
        Job::LookUp(topic) => Some((*id, *topic)),
        _ => None,
    });
    let (id, topic) = look_up.expect("it looks its peer up");
    // Somebody's valid record, our own record, and the peer's direction made by a thief of the secret with another key.
    let foreign = RecordKeys::new(&Secret::new([1; 32]), Secret::new([2; 32])).seal(&[1; 100], 9, 900, &mut rng(1));
    let own: Vec<Record> = desk
        .jobs
        .iter()
        .filter_map(|(_, job)| match job {
            Job::Publish(record) => Some(record.clone()),
            _ => None,
        })
        .collect();
    assert!(!own.is_empty());
    for record in own.into_iter().chain([foreign, presence_by(3, topic.0, 5), presence_by(2, [0; 32], 5)]) {
        desk.done(id, JobResult::Found(record));
        assert!(desk.find(|job| matches!(job, Job::Dial { .. })).is_none());
    }
    let real = presence_by(2, topic.0, 5);
    assert_eq!(real.topic(), topic);
    desk.done(id, JobResult::Found(real));
    assert!(desk.find(|job| matches!(job, Job::Dial { tid: Some(THEIRS), .. })).is_some());
    // The same again, and an older one, start no second dial.
    let dials = |d: &Desk| d.jobs.iter().filter(|(_, job)| matches!(job, Job::Dial { .. })).count();
    desk.done(id, JobResult::Found(presence_by(2, topic.0, 5)));
    desk.done(id, JobResult::Found(presence_by(2, topic.0, 4)));
    assert_eq!(dials(&desk), 1);
}

/// The peer's presence record, signed by `signer` over `topic`. (The peer was the joiner: direction 1.)
pub(crate) fn presence_by(signer: u8, topic: [u8; 32], seq: u64) -> Record {
    crate::vectors::presence::record(&secret(), 1, 1_800_000_000 / 86_400, signer, ID, topic, THEIRS, seq)
}

#[test]
fn a_ping_without_a_connection_waits_for_one_and_then_says_that_there_was_none() {
    let mut desk = Desk::new(vec![peer(PairState::Paired, Role::Initiator)], Vec::new());
    let now = desk.clocks();
    assert!(desk.links.ping(ID, 1, Duration::from_secs(10), now));
    desk.wait(Duration::from_secs(10));
    assert!(desk.events.contains(&Event::PingLost { token: 1, connected: false }));
    for token in 0..limits::MAX_PINGS as u64 {
        assert!(desk.links.ping(ID, 100 + token, Duration::from_secs(10), desk.clocks()));
    }
    assert!(!desk.links.ping(ID, 1_000, Duration::from_secs(10), desk.clocks()), "bounded");
}

/// Peers with nothing in common but their device.
fn peers(n: usize) -> Vec<Peer> {
    let peer = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let secret = Secret::new([n as u8; 32]);
        Peer { pairing_id: PairingId(id), secret, ..peer(PairState::Paired, Role::Initiator) }
    };
    (0..n).map(peer).collect()
}

/// Look-ups by minute while nobody is there, for so long.
fn look_ups(desk: &mut Desk, minutes: u64) -> BTreeMap<u64, usize> {
    look_ups_beside(desk, minutes, 0)
}

/// The same while the device joins codes, with so many look-ups at the start of each minute.
fn look_ups_beside(desk: &mut Desk, minutes: u64, of_codes: usize) -> BTreeMap<u64, usize> {
    let mut per_minute: BTreeMap<u64, usize> = BTreeMap::new();
    let mut last = None;
    while desk.now < Duration::from_secs(60 * minutes) {
        if last.replace(desk.now.as_secs() / 60) != Some(desk.now.as_secs() / 60) {
            let now = desk.clocks();
            (0..of_codes).for_each(|_| desk.links.code_was_looked_up(now));
        }
        desk.wait(Duration::from_millis(100));
        for (id, job) in std::mem::take(&mut desk.jobs) {
            let result = match job {
                Job::LookUp(_) => {
                    *per_minute.entry(desk.now.as_secs() / 60).or_default() += 1;
                    JobResult::LookedUp { answered: 3 }
                }
                Job::Publish(_) => JobResult::Published { stored_on: 3 },
                Job::Dial { .. } => JobResult::DialFailed(handfast_proto::session::DialFailure::NoAnswer),
                Job::OpenHello(_) | Job::OpenPing(_) | Job::Store(_) => JobResult::Stored,
            };
            desk.done(id, result);
        }
    }
    per_minute
}

#[test]
fn a_search_asks_the_dht_less_and_less_and_all_of_them_never_more_than_their_share() {
    let mut desk = Desk::new(peers(1), Vec::new());
    let per_minute = look_ups(&mut desk, 60);
    let late: usize = per_minute.range(30..).map(|(_, n)| n).sum();
    assert!(late > 0 && late <= 6 * 9, "{late} look-ups in the second half hour");
    let mut desk = Desk::new(peers(30), Vec::new());
    let per_minute = look_ups(&mut desk, 10);
    // A minute of the clock may hold parts of two minutes of the allowance.
    let share = 2 * limits::PRESENCE_QUERIES_PER_MINUTE as usize;
    assert!(per_minute.values().all(|n| *n <= share), "{per_minute:?}");
    assert!(per_minute.values().sum::<usize>() <= 10 * limits::PRESENCE_QUERIES_PER_MINUTE as usize);
}

#[test]
fn what_codes_ask_the_dht_is_not_left_for_presence() {
    for (of_codes, left) in [(6, 24), (20, 10), (40, 0)] {
        let mut desk = Desk::new(peers(30), Vec::new());
        let per_minute = look_ups_beside(&mut desk, 10, of_codes);
        let of_presence: usize = per_minute.values().sum();
        // Ten minutes of the clock touch eleven of the allowance, and a search that does not fit is not made in part.
        assert!(of_presence <= 11 * left, "{left} left: {per_minute:?}");
        assert!(of_presence > 5 * left || left == 0, "{left} left: {per_minute:?}");
    }
}

#[test]
fn a_pending_pairing_that_a_hello_is_finishing_does_not_end_under_it() {
    // Its 24 h are over in five seconds; the hello began a second before.
    let since = UnixTime(1_800_000_000 - limits::PENDING.as_secs() + 5);
    let mut desk = Desk::new(vec![Peer { since, ..peer(PairState::Pending, Role::Initiator) }], Vec::new());
    desk.wait(Duration::from_secs(4));
    let (sent, r1) = hello::open(&their_bond(), identity(2).public(), THEIRS, OURS, &mut rng(4));
    let stream = desk.open(1, THEIRS);
    let r2 = desk.hand(stream, &r1);
    desk.wait(Duration::from_secs(4));
    let Ok(R2::Proof(proof)) = sent.handle(&r2[0]) else { panic!("a proof") };
    let (_, r3) = proof.send(&identity(2), PairState::Pending, UnixTime(1_800_000_000));
    desk.hand(stream, &r3);
    // The stream breaks while the disk is busy: what is written there counts, not what the clock says.
    let now = desk.clocks();
    desk.links.handle_stream_end(stream, now);
    desk.wait(Duration::from_secs(1));
    assert!(desk.events.is_empty(), "not gone");
    let write = desk.find(|job| matches!(job, Job::Store(StoreChange::Paired(_)))).expect("a write");
    desk.done(write, JobResult::Stored);
    assert!(desk.events.iter().any(|e| matches!(e, Event::Completed { .. })));
    desk.wait(Duration::from_secs(100));
    assert!(!desk.events.iter().any(|e| matches!(e, Event::Gone { .. })));

    // Without a hello it ends on the second; the joiner leaves a notice, told from when the disk has it.
    let mut desk = Desk::new(vec![Peer { since, ..peer(PairState::Pending, Role::Joiner) }], Vec::new());
    desk.wait(Duration::from_millis(4_999));
    assert!(desk.events.is_empty());
    desk.wait(Duration::from_millis(1));
    assert_eq!(desk.events, [Event::Gone { pairing_id: ID, by_them: false }]);
    let stream = desk.open(1, THEIRS);
    assert!(desk.hand(stream, &r1).is_empty(), "not on the disk yet");
    let write = desk.find(|job| matches!(job, Job::Store(StoreChange::Expired { tombstone: Some(_), .. })));
    desk.done(write.expect("a write"), JobResult::Stored);
    let stream = desk.open(1, THEIRS);
    assert_eq!(desk.hand(stream, &r1)[0].body()[0], 1, "revoked");
}

#[test]
fn a_link_event_names_only_pairings_of_ours() {
    let mut world = paired_world();
    world.run_for(Duration::from_secs(60));
    let ids: Vec<PairingId> = world.devices[0].disk.rows.keys().copied().collect();
    for (_, event) in &world.devices[0].link_events {
        if let link::Event::Up { pairing_id, .. } | link::Event::Down { pairing_id } = event {
            assert!(ids.contains(pairing_id));
        }
    }
    let _: Inbound = inbound(THEIRS);
}
