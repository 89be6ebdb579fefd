//! Attacks of somebody who has no code: guesses, relays, floods.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::StreamId;
use handfast_proto::wire::frames::{Frame, FrameType};

use super::forge::joiner::{Opening, Started};
use super::forge::{self, CodeSecrets, P1};
use super::is_thorough;
use super::stage::{ANSWER, Case, PATIENCE, Shown, Stage, case, must_close, must_end};
use crate::peer::{Peer, Reply};
use crate::procfs::Sample;
use crate::scenario::pairing::{self, Offer};

pub(super) const CASES: &[Case] = &[
    case("1", "P1 with the record's topic as tag", topic_as_tag),
    case("1", "P1 with a random tag", random_tag),
    case("1", "P1 and H1 made with another code", another_code),
    case("3", "the joiner's P1 and H1 relayed to the initiator", relayed),
    case("4", "man in the middle of both transports", man_in_the_middle),
    case("13", "thousands of wrong tags, then the real joiner", wrong_tags),
    case("42", "a ping stream of a stranger", ping_of_a_stranger),
    case("48", "forty handshakes that stop after P1", half_open_handshakes),
    case("48", "400 TCP connections that say nothing, each renewed when it is closed", half_open_connections),
    case("48", "idle connections of one machine, as many as it can get", idle_connections),
];

/// Wrong tags that are tried, and in a short run.
const WRONG_TAGS: usize = 10_000;
const WRONG_TAGS_SHORT: usize = 1_000;

/// Streams under way at a time: a peer may have eight on a connection, one of them may just be ending.
const WINDOW: usize = 6;

/// How long the wrong tags may take altogether. It is the network's time, three quarters of a round trip each.
const WRONG_TAGS_LIMIT: Duration = Duration::from_secs(120);

/// Memory of all unauthenticated peers (protocol section 12).
const MEMORY_LIMIT_KIB: u64 = 4 * 1024;

/// Peers, and their streams: more half-open handshakes than a code has room for.
const HOLDERS: usize = 5;
const STREAMS_EACH: usize = 8;

/// A handshake may wait for its next frame this long (protocol section 12), and a little more for the way.
const STEP_LIMIT: Duration = Duration::from_secs(12);

/// Connections that say nothing, all from one address: more than a device lets in at once. Several threads renew them,
/// so that a place that gets free is taken at once.
const SILENT_CONNECTIONS: usize = 50;
const FLOODERS: usize = 8;

/// Connections that one machine tries to make and then leaves idle, over IPv4 and over IPv6 each.
const IDLE_CONNECTIONS: usize = 80;

/// How often they are looked at.
const FLOOD_POLL: Duration = Duration::from_millis(20);

/// How long a pairing may take during such a flood: its first try must get through, not one between two waves. Where
/// times do not count, it must come to its end all the same.
const FLOODED_LIMIT: Duration = Duration::from_secs(3);

/// How long the victim keeps a connection that says nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

fn topic_as_tag(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let tag = shown.code.keys.topic().0[..16].try_into()?;
    guess(stage, shown, &CodeSecrets::wrong()?, &Opening { tag: Some(tag), ..Opening::default() })
}

fn random_tag(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    guess(stage, shown, &CodeSecrets::wrong()?, &Opening { tag: Some(forge::random()?), ..Opening::default() })
}

fn another_code(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    guess(stage, shown, &CodeSecrets::wrong()?, &Opening::default())
}

/// Tries P1 and H1 without the code: closed without a word, nobody notices, the code is as good as before.
fn guess(stage: &Stage, shown: Shown, secrets: &CodeSecrets, opening: &Opening) -> Result<String> {
    let started = Started::new(secrets, stage.mallory.tid(), shown.tid, opening)?;
    let (_, reply) = stage.say(&shown, started.frames)?;
    let seen = must_close(&reply)?;
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(seen)
}

fn relayed(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let lured = stage.lure(&shown.code, &["--yes"])?;
    let (_, reply) = stage.say(&shown, vec![lured.p1.clone(), lured.h1.clone()])?;
    let seen = must_close(&reply)?;
    shown.is_untouched()?;
    let joiner = stage.refuse(lured)?;
    Ok(format!("{seen}; the joiner ended with {joiner}"))
}

fn man_in_the_middle(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    stage.advertise_self(&shown.code)?;
    let mut joining = stage.join(&shown.words, &["--yes"])?;
    let mut relayed = 0;
    let start = Instant::now();
    while joining.wait(Duration::ZERO)?.is_none() {
        ensure!(start.elapsed() < PATIENCE, "the joiner still tries after {PATIENCE:?}");
        if let Ok(inbound) = stage.mallory.accept(StreamProtocol::Pair, Duration::from_millis(200)) {
            let conn = stage.connect(&shown)?;
            relayed += stage.mallory.relay(inbound.stream, conn, PATIENCE)?.len();
        }
    }
    shown.is_untouched()?;
    let ending = must_end(joining, 7, &["authentication_failed"])?;
    ensure!(relayed >= 2, "the attacker was given only {relayed} frames to relay");
    Ok(format!("{relayed} frames relayed; the joiner ended with {ending}"))
}

fn wrong_tags(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let count = if is_thorough(&stage.options) { WRONG_TAGS } else { WRONG_TAGS_SHORT };
    let pid = stage.alice.daemon()?.pid();
    let (before, start) = (Sample::of(pid)?, Instant::now());
    let conn = stage.connect(&shown)?;
    let mut waiting = VecDeque::new();
    for _ in 0..count {
        let opening = Opening { tag: Some(forge::random()?), ..Opening::default() };
        let frames = stage.start(&shown, &opening)?.frames;
        waiting.push_back(stage.mallory.say(conn, StreamProtocol::Pair, frames)?);
        if waiting.len() >= WINDOW {
            next_must_close(stage, &mut waiting)?;
        }
    }
    while !waiting.is_empty() {
        next_must_close(stage, &mut waiting)?;
    }
    let (took, after) = (start.elapsed(), Sample::of(pid)?);
    ensure!(took < WRONG_TAGS_LIMIT, "{count} wrong tags took {took:?}");
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    ensure!(grown < MEMORY_LIMIT_KIB, "{count} wrong tags cost {grown} KiB");
    let share = before.cpu_share_until(&after, took);
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(format!("{count} closed in {:.1} s, {:.0} % of a processor, {grown} KiB", took.as_secs_f64(), share * 100.0))
}

fn next_must_close(stage: &Stage, waiting: &mut VecDeque<StreamId>) -> Result<()> {
    let stream = waiting.pop_front().context("a stream waits")?;
    must_close(&stage.mallory.reply(stream, ANSWER)).map(drop)
}

fn ping_of_a_stranger(stage: &Stage) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let conn = stage.connect(&shown)?;
    let ping = forge::frame(FrameType::Ping.byte(), &[7; 8])?;
    let stream = stage.mallory.say(conn, StreamProtocol::Ping, vec![ping])?;
    must_close(&stage.mallory.reply(stream, ANSWER))
}

fn half_open_handshakes(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let pid = stage.alice.daemon()?.pid();
    let before = Sample::of(pid)?;
    let host = stage.world.lab.host("attacker")?;
    let mut peers = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..HOLDERS {
        let peer = Peer::device(&host, &[])?;
        let conn = peer.dial(Some(shown.tid), &shown.addresses)?;
        for _ in 0..STREAMS_EACH {
            let started = Started::new(&shown.code.secrets, peer.tid(), shown.tid, &Opening::default())?;
            let p1: Vec<Frame> = started.frames.into_iter().filter(|frame| frame.kind().byte() == P1).collect();
            streams.push((peers.len(), peer.say(conn, StreamProtocol::Pair, p1)?));
        }
        peers.push(peer);
    }
    // Room is made by giving up the oldest; the newest wait.
    let start = Instant::now();
    let oldest = streams.first().context("streams")?;
    must_close(&peers[oldest.0].reply(oldest.1, ANSWER)).context("the oldest of forty")?;
    let newest = streams.last().context("streams")?;
    let reply = peers[newest.0].reply(newest.1, Duration::from_millis(500));
    ensure!(reply == Reply::Silence, "the newest of forty: {reply}");
    let grown = Sample::of(pid)?.resident_kib.saturating_sub(before.resident_kib);
    ensure!(grown < MEMORY_LIMIT_KIB, "forty half-open handshakes cost {grown} KiB");
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    must_close(&peers[newest.0].reply(newest.1, STEP_LIMIT)).context("the newest, after its time")?;
    Ok(format!("oldest dropped, newest closed after {:.1} s, {grown} KiB", start.elapsed().as_secs_f64()))
}

fn half_open_connections(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let pid = stage.alice.daemon()?.pid();
    let before = Sample::of(pid)?;
    // Each transport has a port of its own, and they are listed in no order.
    let tcp = |of: &&Address| of.transport == Transport::Tcp;
    let address = shown.addresses.iter().find(tcp).context("the device has no TCP address")?;
    let target = SocketAddr::new(address.ip, address.port);
    let attacker = stage.world.lab.host("attacker")?;
    let reached = attacker.namespace().enter(|| TcpStream::connect_timeout(&target, ANSWER).map(drop))?;
    reached.with_context(|| format!("nobody listens at {target}"))?;
    let (stop, closed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (paired, grown) = std::thread::scope(|scope| {
        let flood = || attacker.namespace().enter(|| keep_silent_connections(target, &stop, &closed));
        let floods: Vec<_> = (0..FLOODERS).map(|_| scope.spawn(flood)).collect();
        let watched = watch_flood(stage, shown, &closed, pid, &before);
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().ok().context("the flood panicked")??;
        }
        watched
    })?;
    Ok(format!(
        "{} closed by the device meanwhile, {grown} KiB; the real joiner paired in {:.1} s",
        closed.load(Ordering::Relaxed),
        paired.as_secs_f64()
    ))
}

/// Lets the real joiner pair in the middle of the flood; gives how long that took, and what the flood cost.
fn watch_flood(
    stage: &Stage,
    shown: Shown,
    closed: &AtomicUsize,
    pid: u32,
    before: &Sample,
) -> Result<(Duration, u64)> {
    let start = Instant::now();
    while closed.load(Ordering::Relaxed) < SILENT_CONNECTIONS {
        ensure!(start.elapsed() < SILENCE_LIMIT, "connections that say nothing live for {:?}", start.elapsed());
        std::thread::sleep(FLOOD_POLL);
    }
    let grown = Sample::of(pid)?.resident_kib.saturating_sub(before.resident_kib);
    ensure!(grown < MEMORY_LIMIT_KIB, "silent connections cost {grown} KiB");
    shown.is_untouched()?;
    Ok((newcomer_pairs(stage, shown, "flooded")?, grown))
}

/// A device that has no connection to the victim yet enters the code; gives how long that took.
fn newcomer_pairs(stage: &Stage, shown: Shown, name: &str) -> Result<Duration> {
    let mut carol = stage.world.device("carol", name)?;
    carol.start_daemon()?;
    stage.trust(carol.status()?.id);
    let start = Instant::now();
    let offer = Offer { process: shown.process, words: shown.words, qr: shown.qr, session: shown.session };
    pairing::finish(offer, |words| pairing::join(&carol, words, &["--yes"])).context("the honest pairing")?;
    let took = start.elapsed();
    ensure!(took < FLOODED_LIMIT || !stage.options.limits, "the honest pairing took {took:?}");
    carol.stop()?;
    Ok(took)
}

fn idle_connections(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let advert = stage.wait_for_record(&shown.code)?;
    let addresses = forge::addresses_in(&shown.code.keys.record().open(&advert)?)?;
    let peer = Peer::device(&stage.world.lab.host("attacker")?, &[])?;
    let mut open = 0;
    for ipv4 in [true, false] {
        let tcp = |of: &&Address| of.transport == Transport::Tcp && of.ip.is_ipv4() == ipv4;
        let Some(address) = addresses.iter().find(tcp) else { continue };
        for _ in 0..IDLE_CONNECTIONS {
            // Without a key to expect, each dial is a connection of its own. One that is refused is no failure here.
            open += usize::from(peer.dial(None, &[*address]).is_ok());
        }
    }
    ensure!(open >= IDLE_CONNECTIONS / 8, "only {open} connections stand");
    let took = newcomer_pairs(stage, shown, "crowded")?;
    Ok(format!("{open} connections stand; the real joiner paired in {:.1} s", took.as_secs_f64()))
}

/// Keeps that many connections open, and opens a new one for each that is closed, until told to stop.
fn keep_silent_connections(target: SocketAddr, stop: &AtomicBool, closed: &AtomicUsize) {
    let mut silent: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        silent.retain(|stream| {
            let mut byte = [0; 64];
            let waits = stream.peek(&mut byte).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            closed.fetch_add(usize::from(!waits), Ordering::Relaxed);
            waits
        });
        while silent.len() < SILENT_CONNECTIONS && !stop.load(Ordering::Relaxed) {
            // What is not let in is tried again.
            let Ok(stream) = TcpStream::connect_timeout(&target, ANSWER) else { break };
            if stream.set_nonblocking(true).is_ok() {
                silent.push(stream);
            }
        }
        std::thread::sleep(FLOOD_POLL);
    }
}
