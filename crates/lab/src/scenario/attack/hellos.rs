//! Attacks on the hello of paired devices: a device of the attacker is paired with the victim on purpose, and then shows
//! less than it has, or shows it in the wrong place.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use handfast_net::StreamProtocol;
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::{ConnId, DeviceKey, Identity, PairingId, Tid};
use handfast_proto::link::PairState;
use handfast_proto::link::hello::{self, Bond, R2, ReceivedR1, SentR1};
use handfast_proto::secret::Secret;
use handfast_proto::time::UnixTime;
use handfast_proto::wire::frames::{Frame, FrameType};

use super::flips::positions;
use super::forge::{self, Claim};
use super::stage::{ANSWER, Case, PATIENCE, Stage, case, check_store, must_close, must_end, shown_by};
use crate::device::Device;
use crate::peer::{Inbound, Peer, Reply};

pub(super) const CASES: &[Case] = &[
    case("40", "hellos of a thief, replayed, reflected, on other keys", thieves),
    case("6", "a flipped bit in R1 and R3", flipped_by_the_dialler),
    case("6", "R2 and R4 flipped, R2 of a thief, to a device that dials", flipped_by_the_listener),
    case("42", "a ping stream of a paired device before its hello", ping_before_hello),
    case("9", "H3 with the initiator's own identity key", initiators_own_key),
    case("41", "random R1 to devices with 0 and with 1 pairing", probe),
];

/// A hello that is refused ends this long after its frame (protocol section 10.2).
const REFUSAL: Duration = Duration::from_millis(50);

/// What the way and a busy machine may add to it.
const SLACK: Duration = Duration::from_millis(60);

/// How many probes are timed.
const PROBES: usize = 9;

/// How far the medians of the two devices may be apart: a machine with two processors is no laboratory clock.
const PROBE_DIFFERENCE: Duration = Duration::from_millis(8);

/// A victim of its own that is paired with the attacker.
struct Paired {
    carol: Device,
    bond: Bond,
    /// What the pairing is made of, so that its parts can be stolen one by one.
    pairing_id: PairingId,
    peer: DeviceKey,
    tid: Tid,
    addresses: Vec<Address>,
    conn: ConnId,
}

/// Opens a hello; gives what waits for R2, and R1.
pub(super) fn open(peer: &Peer, bond: &Bond, identity: &SigningKey, to: Tid) -> Result<(SentR1, Frame)> {
    let own = DeviceKey(identity.verifying_key().to_bytes());
    Ok(hello::open(bond, own, peer.tid(), to, &mut handfast_net::entropy::rng()?))
}

fn as_identity(key: &SigningKey) -> Identity {
    Identity::from_seed(Secret::new(key.to_bytes()))
}

/// Pairs the attacker with a third device, by the rules, as it would with its owner's consent.
fn befriend(stage: &Stage, name: &str) -> Result<Paired> {
    let mut carol = stage.world.device("carol", name)?;
    carol.start_daemon()?;
    let mut shown = shown_by(&carol, &["--yes"])?;
    // The victim knows the attacker from where it called, which is where it listens by QUIC over IPv4: it does not listen
    // over IPv6 at all, and a call by TCP may come from any port.
    shown.addresses.retain(|address| address.transport == Transport::Quic && address.ip.is_ipv4());
    let (stream, mut proved) = stage.prove(&shown)?;
    let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h3])?;
    let offered = proved.read_h4(&stage.mallory.frame(stream)?)?;
    ensure!(offered.status == 0, "H4 has status {}", offered.status);
    let h5 = proved.h5(1, &offered)?;
    stage.mallory.send(stream, vec![h5.clone()])?;
    let h6 = stage.mallory.frame(stream)?;
    proved.read_h6(&h5, &h6)?;
    // A repeated H5 gets the same H6 (protocol section 8), and nothing else happens.
    stage.mallory.send(stream, vec![h5])?;
    ensure!(stage.mallory.frame(stream)? == h6, "a repeated H5 was answered otherwise");
    shown.process.wait_event("paired", PATIENCE)?;
    ensure!(carol.devices()?.len() == 1, "the victim lists {:?}", carol.devices()?);
    let conn = stage.mallory.dial(Some(shown.tid), &shown.addresses)?;
    Ok(Paired {
        bond: proved.bond(&offered)?,
        pairing_id: PairingId(offered.pairing_id),
        peer: DeviceKey(offered.dik),
        carol,
        tid: shown.tid,
        addresses: shown.addresses,
        conn,
    })
}

impl Paired {
    /// Says R1 on a new stream; gives what waits for R2, the stream's R1, and the answer.
    fn hello(
        &self,
        stage: &Stage,
        bond: &Bond,
        identity: &SigningKey,
    ) -> Result<(handfast_proto::id::StreamId, SentR1, Frame, Reply)> {
        let (sent, r1) = open(&stage.mallory, bond, identity, self.tid)?;
        let stream = stage.mallory.say(self.conn, StreamProtocol::Hello, vec![r1.clone()])?;
        let reply = stage.mallory.reply(stream, ANSWER);
        Ok((stream, sent, r1, reply))
    }

    /// A whole hello by the rules; gives R1 and R3.
    fn greet(&self, stage: &Stage) -> Result<(Frame, Frame)> {
        let (stream, sent, r1, reply) = self.hello(stage, &self.bond, &stage.identity)?;
        let r3 = answer(sent, &reply.frame()?, &stage.identity)?;
        stage.mallory.send(stream, vec![r3.clone()])?;
        let r4 = stage.mallory.frame(stream)?;
        ensure!(r4.kind() == FrameType::R4 && r4.body()[0] == 0, "R4 is {:?}", r4.body());
        Ok((r1, r3))
    }

    /// Waits until the victim calls back; gives its stream and its R1. Hellos of earlier victims may be waiting as well.
    fn called_back(&self, stage: &Stage) -> Result<(Inbound, Frame)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let inbound = stage.mallory.accept(StreamProtocol::Hello, left).context("the victim does not call back")?;
            let Ok(r1) = stage.mallory.frame(inbound.stream) else { continue };
            if ReceivedR1::parse(&r1, inbound.tid, stage.mallory.tid())?.is_from(self.bond.tag_key()) {
                return Ok((inbound, r1));
            }
            stage.mallory.close(inbound.stream)?;
        }
    }

    /// The victim does not answer a ping on the attacker's connection.
    fn must_not_pong(&self, stage: &Stage, conn: ConnId) -> Result<()> {
        let ping = forge::frame(FrameType::Ping.byte(), &[7; 8])?;
        let stream = stage.mallory.say(conn, StreamProtocol::Ping, vec![ping])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).map(drop)
    }
}

/// R3 in answer to R2.
fn answer(sent: SentR1, r2: &Frame, identity: &SigningKey) -> Result<Frame> {
    match sent.handle(r2)? {
        R2::Proof(proof) => Ok(proof.send(&as_identity(identity), PairState::Paired, UnixTime(0)).1),
        R2::Revoked { .. } => anyhow::bail!("the victim says that the pairing is over"),
    }
}

fn thieves(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-40")?;
    let host = stage.world.lab.host("attacker")?;
    let thief = forge::identity()?;

    // The secret of the pairing without the identity key: R2 comes, R3 convinces nobody.
    let (stream, sent, _, reply) = paired.hello(stage, &paired.bond, &stage.identity)?;
    stage.mallory.send(stream, vec![answer(sent, &reply.frame()?, &thief)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER)).context("the pairing's secret only")?;
    paired.must_not_pong(stage, paired.conn).context("the pairing's secret only")?;

    // The identity key without the secret: not even R2.
    let guess = Bond::new(paired.pairing_id, paired.peer, &Secret::new(forge::random()?));
    let (_, _, _, reply) = paired.hello(stage, &guess, &stage.identity)?;
    must_close(&reply).context("the identity key only")?;
    paired.must_not_pong(stage, paired.conn).context("the identity key only")?;

    // Recorded frames of a right hello, on the same transport keys and on others.
    let (r1, r3) = paired.greet(stage)?;
    let stream = stage.mallory.say(paired.conn, StreamProtocol::Hello, vec![r1.clone()])?;
    stage.mallory.frame(stream).context("R1 again, on the same keys")?;
    stage.mallory.send(stream, vec![r3])?;
    must_close(&stage.mallory.reply(stream, ANSWER)).context("R3 of an earlier hello")?;
    let other = Peer::device(&host, &[])?;
    let conn = other.dial(Some(paired.tid), &paired.addresses)?;
    let stream = other.say(conn, StreamProtocol::Hello, vec![r1])?;
    must_close(&other.reply(stream, ANSWER)).context("R1 on other transport keys")?;
    let ping = forge::frame(FrameType::Ping.byte(), &[7; 8])?;
    let stream = other.say(conn, StreamProtocol::Ping, vec![ping])?;
    must_close(&other.reply(stream, ANSWER)).context("a ping on other transport keys")?;

    // The victim's own hello, thrown back at it.
    stage.mallory.hang_up(paired.conn)?;
    let pinging = paired.carol.spawn(&["ping", "mallory", "--count", "1", "--json"], None)?;
    let (inbound, r1) = paired.called_back(stage)?;
    let stream = stage.mallory.say(inbound.conn, StreamProtocol::Hello, vec![r1])?;
    must_close(&stage.mallory.reply(stream, ANSWER)).context("the victim's own R1")?;
    stage.mallory.close(inbound.stream)?;
    drop(pinging);
    stop(paired)
}

fn stop(mut paired: Paired) -> Result<String> {
    paired.carol.stop()?;
    Ok("refused without a word".to_owned())
}

fn flipped_by_the_dialler(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-6a")?;
    for at in positions(stage, FrameType::R1.body_len()) {
        let (_, r1) = open(&stage.mallory, &paired.bond, &stage.identity, paired.tid)?;
        let stream = stage.mallory.say(paired.conn, StreamProtocol::Hello, vec![forge::flipped(&r1, at)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("R1 byte {at}"))?;
    }
    for at in positions(stage, FrameType::R3.body_len()) {
        let (stream, sent, _, reply) = paired.hello(stage, &paired.bond, &stage.identity)?;
        let r3 = answer(sent, &reply.frame()?, &stage.identity)?;
        stage.mallory.send(stream, vec![forge::flipped(&r3, at)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("R3 byte {at}"))?;
    }
    paired.must_not_pong(stage, paired.conn)?;
    paired.greet(stage).context("the right hello afterwards")?;
    stop(paired)
}

fn flipped_by_the_listener(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-6b")?;
    stage.mallory.hang_up(paired.conn)?;
    let thief = forge::identity()?;
    let mut plans: Vec<(&str, Option<usize>)> = vec![("R2 of a thief", None)];
    plans.extend(positions(stage, FrameType::R2.body_len()).into_iter().take(2).map(|at| ("R2", Some(at))));
    plans.push(("R4", Some(0)));
    let mut pinging = paired.carol.spawn(&["ping", "mallory", "--count", "1", "--json"], None)?;
    for (what, at) in plans {
        let (inbound, r1) = paired.called_back(stage)?;
        let received = ReceivedR1::parse(&r1, inbound.tid, stage.mallory.tid())?;
        let signer = as_identity(if at.is_none() { &thief } else { &stage.identity });
        let mut rng = handfast_net::entropy::rng()?;
        let (_, r2) = received.answer(&paired.bond, &signer, PairState::Paired, UnixTime(0), &mut rng);
        let r2 = if what == "R2" { forge::flipped(&r2, at.unwrap_or_default())? } else { r2 };
        stage.mallory.send(inbound.stream, vec![r2])?;
        let next = stage.mallory.reply(inbound.stream, ANSWER);
        if what == "R4" {
            next.frame().context("R3")?;
            stage.mallory.send(inbound.stream, vec![forge::flipped(&hello::accept(PairState::Paired), 0)?])?;
            must_close(&stage.mallory.reply(inbound.stream, ANSWER)).context("R4")?;
        } else {
            must_close(&next).with_context(|| format!("{what} {at:?}"))?;
        }
        stage.mallory.hang_up(inbound.conn)?;
        if pinging.wait(Duration::ZERO)?.is_some() {
            ensure!(pinging.event("pong").is_none(), "{what}: the victim got a pong");
            pinging = paired.carol.spawn(&["ping", "mallory", "--count", "1", "--json"], None)?;
        }
    }
    ensure!(pinging.event("pong").is_none(), "the victim got a pong");
    drop(pinging);
    stop(paired)
}

fn ping_before_hello(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-42")?;
    // A fresh connection: the one of the pairing may have been certified already.
    let peer = Peer::device(&stage.world.lab.host("attacker")?, &[])?;
    let conn = peer.dial(Some(paired.tid), &paired.addresses)?;
    let ping = forge::frame(FrameType::Ping.byte(), &[7; 8])?;
    let stream = peer.say(conn, StreamProtocol::Ping, vec![ping.clone()])?;
    must_close(&peer.reply(stream, ANSWER)).context("before the hello")?;
    let (sent, r1) = open(&peer, &paired.bond, &stage.identity, paired.tid)?;
    let stream = peer.say(conn, StreamProtocol::Hello, vec![r1])?;
    let r3 = answer(sent, &peer.frame(stream)?, &stage.identity)?;
    // Between R2 and R4 the connection has no rights either.
    let early = peer.say(conn, StreamProtocol::Ping, vec![ping.clone()])?;
    must_close(&peer.reply(early, ANSWER)).context("during the hello")?;
    peer.send(stream, vec![r3])?;
    peer.frame(stream)?;
    let stream = peer.say(conn, StreamProtocol::Ping, vec![ping])?;
    ensure!(peer.frame(stream)?.kind() == FrameType::Pong, "no pong after the hello");
    stop(paired)
}

fn initiators_own_key(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-9")?;
    let known = std::collections::BTreeSet::from([forge::id_of(&stage.identity)]);
    let shown = shown_by(&paired.carol, &[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let claim = proved.claim(&stage.identity, "mallory");
    let dik = paired.peer.0;
    let claim = Claim { dik, signed: proved.signed(&dik, &claim.info), ..claim };
    stage.mallory.send(stream, vec![proved.h3(&claim)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    shown.was_not_asked()?;
    check_store(&paired.carol, &known)?;
    paired.carol.run(&["pair", "cancel", &shown.session], None, PATIENCE)?;
    must_end(shown.process, 6, &["cancelled"])?;
    stop(paired)
}

fn probe(stage: &Stage) -> Result<String> {
    let paired = befriend(stage, "carol-41")?;
    let mut lonely = stage.world.device("carol", "carol-41-lonely")?;
    lonely.start_daemon()?;
    let shown = shown_by(&lonely, &["--yes"])?;
    ensure!(lonely.devices()?.is_empty(), "the lonely device has pairings");
    let lonely_conn = stage.connect(&shown)?;
    let (mut with_none, mut with_one) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does falls on both.
    for _ in 0..PROBES {
        with_none.push(time_probe(stage, lonely_conn)?);
        with_one.push(time_probe(stage, paired.conn)?);
    }
    lonely.run(&["pair", "cancel", &shown.session], None, PATIENCE)?;
    lonely.stop()?;
    let (none, one) = (median(with_none), median(with_one));
    for (pairings, took) in [(0, none), (1, one)] {
        ensure!((REFUSAL..REFUSAL + SLACK).contains(&took), "with {pairings} pairings closed after {took:?}");
    }
    ensure!(none.abs_diff(one) < PROBE_DIFFERENCE, "closed after {none:?} with none, {one:?} with one pairing");
    stop(paired)?;
    Ok(format!("closed after {:.1} ms with none, {:.1} ms with one", none.as_secs_f64() * 1e3, one.as_secs_f64() * 1e3))
}

/// How long the victim takes to close a hello of random bytes.
fn time_probe(stage: &Stage, conn: ConnId) -> Result<Duration> {
    let mut body = forge::random::<49>()?;
    body[0] = 1;
    let stream = stage.mallory.open(conn, StreamProtocol::Hello)?;
    let start = Instant::now();
    stage.mallory.send(stream, vec![forge::frame(FrameType::R1.byte(), &body)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
