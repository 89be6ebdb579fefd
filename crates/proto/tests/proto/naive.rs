//! The tests can see: the same attacker, which only moves, records and repeats bytes or plays with what everybody can
//! look up, is let loose on a deliberately naive flow (a session id that proves nothing, a signature over a bare
//! challenge, an unsigned completion), where it wins, and on the real one, where it does not.

use handfast_proto::code::Code;
use handfast_proto::id::{StreamId, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::session::Event;
use handfast_proto::wire::advert::AdvertState;
use handfast_proto::wire::frames::Frame;

use crate::bench::{Bench, Guest, record, rng};
use crate::vectors::spec::{h, public, sign};

const TID_I: Tid = Tid([11; 32]);
const TID_J: Tid = Tid([12; 32]);
const EVIL: Tid = Tid([66; 32]);

/// One device in a pairing, as its peer on the wire sees it: bytes in, bytes out.
trait Side {
    /// A connection with `peer` stands; the messages that it sends unasked.
    fn connected(&mut self, peer: Tid) -> Vec<Vec<u8>>;
    /// A message came; its answers.
    fn take(&mut self, message: &[u8]) -> Vec<Vec<u8>>;
    /// The identity keys that it stored as paired or pending.
    fn stored(&self) -> Vec<[u8; 32]>;
}

/// A way to pair.
trait Flow {
    /// Two devices whose people carried a code from one to the other and say yes: initiator and joiner.
    fn honest(&self, run: u8) -> (Box<dyn Side>, Box<dyn Side>);
    /// Somebody who plays the joiner and knows no more than what a node of the DHT sees.
    fn outsider(&self, run: u8) -> Box<dyn Side>;
}

// The naive flow.

struct NaiveInitiator {
    session: [u8; 32],
    challenge: [u8; 32],
    seed: [u8; 32],
    stored: Vec<[u8; 32]>,
}

struct NaiveJoiner {
    session: [u8; 32],
    seed: [u8; 32],
    stored: Vec<[u8; 32]>,
}

impl Side for NaiveInitiator {
    fn connected(&mut self, _: Tid) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn take(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        match message.split_first() {
            // Request{session id, public key}
            Some((b'Q', rest)) if rest[..32] == self.session => vec![[&b"C"[..], &self.challenge].concat()],
            // Response{public key, signature over the challenge}
            Some((b'R', rest)) => {
                let (key, signature) = rest.split_at(32);
                let key: [u8; 32] = key.try_into().expect("32 bytes");
                let signature = ed25519_dalek::Signature::from_bytes(signature.try_into().expect("64 bytes"));
                let verifies = ed25519_dalek::VerifyingKey::from_bytes(&key)
                    .is_ok_and(|k| k.verify_strict(&self.challenge, &signature).is_ok());
                if !verifies {
                    return Vec::new();
                }
                self.stored.push(key);
                // Complete{public key}, signed by nobody.
                vec![[&b"X"[..], &public(&self.seed)].concat()]
            }
            _ => Vec::new(),
        }
    }

    fn stored(&self) -> Vec<[u8; 32]> {
        self.stored.clone()
    }
}

impl Side for NaiveJoiner {
    fn connected(&mut self, _: Tid) -> Vec<Vec<u8>> {
        vec![[&b"Q"[..], &self.session, &public(&self.seed)].concat()]
    }

    fn take(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        match message.split_first() {
            Some((b'C', challenge)) => {
                let signature = sign(&self.seed, &[challenge]);
                vec![[&b"R"[..], &public(&self.seed), &signature].concat()]
            }
            Some((b'X', key)) => {
                self.stored.push(key.try_into().expect("32 bytes"));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn stored(&self) -> Vec<[u8; 32]> {
        self.stored.clone()
    }
}

struct Naive;

impl Flow for Naive {
    fn honest(&self, run: u8) -> (Box<dyn Side>, Box<dyn Side>) {
        let session = h(&[b"session", &[run]]);
        let initiator =
            NaiveInitiator { session, challenge: h(&[b"challenge", &[run]]), seed: [21; 32], stored: Vec::new() };
        (Box::new(initiator), Box::new(NaiveJoiner { session, seed: [22; 32], stored: Vec::new() }))
    }

    /// The session id is the key of the record: every node has it.
    fn outsider(&self, run: u8) -> Box<dyn Side> {
        Box::new(NaiveJoiner { session: h(&[b"session", &[run]]), seed: [66; 32], stored: Vec::new() })
    }
}

// The real flow.

struct RealInitiator {
    bench: Bench,
    stream: Option<StreamId>,
}

struct RealJoiner {
    bench: Bench,
    code: Code,
    stream: Option<StreamId>,
}

/// Says yes to every question, and gives what was sent on the stream meanwhile.
fn agree(bench: &mut Bench, stream: StreamId) -> Vec<Vec<u8>> {
    let asked = bench.events.iter().find_map(|event| match event {
        Event::ApprovalNeeded { session, .. } => Some(session.clone()),
        _ => None,
    });
    if let Some(session) = asked {
        let now = bench.clocks();
        // A question that was answered before is not open any more.
        let _ = bench.table.answer(Some(&session), true, now);
        bench.drain();
    }
    bench.take_sent(stream).iter().map(Frame::to_bytes).collect()
}

fn stored(bench: &Bench) -> Vec<[u8; 32]> {
    bench.stored.iter().map(|agreement| agreement.peer.0).collect()
}

impl Side for RealInitiator {
    fn connected(&mut self, peer: Tid) -> Vec<Vec<u8>> {
        self.stream = Some(self.bench.open(peer));
        Vec::new()
    }

    fn take(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let stream = self.stream.expect("connected");
        if let Ok(frame) = Frame::from_rest(&message[2..]) {
            self.bench.hand(stream, frame);
        }
        agree(&mut self.bench, stream)
    }

    fn stored(&self) -> Vec<[u8; 32]> {
        stored(&self.bench)
    }
}

impl Side for RealJoiner {
    fn connected(&mut self, peer: Tid) -> Vec<Vec<u8>> {
        // Whoever answers under this key: the attacker may have forged even that.
        self.bench.join(&self.code);
        let stream = self.bench.found(&record(&self.code, peer, AdvertState::Open, 1), peer);
        self.stream = Some(stream);
        agree(&mut self.bench, stream)
    }

    fn take(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let stream = self.stream.expect("connected");
        if let Ok(frame) = Frame::from_rest(&message[2..]) {
            self.bench.hand(stream, frame);
        }
        agree(&mut self.bench, stream)
    }

    fn stored(&self) -> Vec<[u8; 32]> {
        stored(&self.bench)
    }
}

/// Plays the joiner with the topic where a tag is due, and a code of its own.
struct RealOutsider {
    topic: [u8; 32],
}

impl Side for RealOutsider {
    fn connected(&mut self, peer: Tid) -> Vec<Vec<u8>> {
        let mut guest = Guest::new(66, &Code::generate(&mut rng(99)));
        let (_, [p1, h1]) = guest.start(peer);
        let mut p1 = p1.to_bytes();
        p1[17..33].copy_from_slice(&self.topic[..16]);
        vec![p1, h1.to_bytes()]
    }

    fn take(&mut self, _: &[u8]) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn stored(&self) -> Vec<[u8; 32]> {
        Vec::new()
    }
}

struct Real;

impl Real {
    fn initiator(run: u8) -> (Bench, Code) {
        let mut bench = Bench::new(11);
        let mut code = None;
        // Another code in each run.
        for _ in 0..=run % 4 {
            if let Some((session, _)) = code.take() {
                assert!(bench.cancel(&session));
            }
            code = Some(bench.code(600));
        }
        bench.events.clear();
        (bench, code.expect("at least one").1)
    }
}

impl Flow for Real {
    fn honest(&self, run: u8) -> (Box<dyn Side>, Box<dyn Side>) {
        let (bench, code) = Real::initiator(run);
        let joiner = RealJoiner { bench: Bench::new(12), code, stream: None };
        (Box::new(RealInitiator { bench, stream: None }), Box::new(joiner))
    }

    fn outsider(&self, run: u8) -> Box<dyn Side> {
        let (_, code) = Real::initiator(run);
        Box::new(RealOutsider { topic: CodeKeys::derive(&code).topic().0 })
    }
}

// The attacker. It knows no format.

/// What passed between two sides, each with the connection it believes to have.
struct Recording {
    to_initiator: Vec<Vec<u8>>,
    to_joiner: Vec<Vec<u8>>,
}

/// Carries messages between an initiator and a joiner until both are silent.
fn carry(initiator: &mut dyn Side, joiner: &mut dyn Side, keys: (Tid, Tid)) -> Recording {
    let mut recording = Recording { to_initiator: Vec::new(), to_joiner: Vec::new() };
    let mut to_joiner = initiator.connected(keys.0);
    let mut to_initiator = joiner.connected(keys.1);
    while !to_initiator.is_empty() || !to_joiner.is_empty() {
        for message in std::mem::take(&mut to_initiator) {
            to_joiner.extend(initiator.take(&message));
            recording.to_initiator.push(message);
        }
        for message in std::mem::take(&mut to_joiner) {
            to_initiator.extend(joiner.take(&message));
            recording.to_joiner.push(message);
        }
    }
    recording
}

/// Sits between the two with a transport key of its own towards each; true if both then have a pairing that runs
/// through it.
fn man_in_the_middle(flow: &dyn Flow) -> bool {
    let (mut initiator, mut joiner) = flow.honest(1);
    carry(&mut *initiator, &mut *joiner, (EVIL, EVIL));
    !initiator.stored().is_empty() && !joiner.stored().is_empty()
}

/// Plays the joiner with what everybody can see; true if the initiator stores it.
fn impersonation(flow: &dyn Flow) -> bool {
    let (mut initiator, _) = flow.honest(2);
    let mut outsider = flow.outsider(2);
    carry(&mut *initiator, &mut *outsider, (EVIL, TID_I));
    !initiator.stored().is_empty()
}

/// Answers a joiner with what an initiator once said to it; true if the joiner stores a pairing that nobody else has.
fn replay_to_the_joiner(flow: &dyn Flow) -> bool {
    let (mut initiator, mut joiner) = flow.honest(1);
    let recording = carry(&mut *initiator, &mut *joiner, (TID_J, TID_I));
    let (_, mut victim) = flow.honest(3);
    victim.connected(EVIL);
    for message in &recording.to_joiner {
        victim.take(message);
    }
    !victim.stored().is_empty()
}

/// Says to an initiator what a joiner once said to it, on a connection of its own; true if that stores another pairing.
fn replay_to_the_initiator(flow: &dyn Flow) -> bool {
    let (mut initiator, mut joiner) = flow.honest(1);
    let recording = carry(&mut *initiator, &mut *joiner, (TID_J, TID_I));
    let before = initiator.stored().len();
    assert_eq!(before, 1, "the honest run pairs");
    initiator.connected(EVIL);
    for message in &recording.to_initiator {
        initiator.take(message);
    }
    initiator.stored().len() > before
}

/// Sends a joiner back what it says; true if it stores anything for it.
fn reflection(flow: &dyn Flow) -> bool {
    let (_, mut joiner) = flow.honest(1);
    let mut said = joiner.connected(EVIL);
    for _ in 0..8 {
        said = said.iter().flat_map(|message| joiner.take(message)).collect();
    }
    !joiner.stored().is_empty()
}

type Attack = fn(&dyn Flow) -> bool;

#[test]
fn attack_52_what_succeeds_against_a_naive_peer_fails_against_this_one() {
    let attacks: [(&str, Attack, bool); 5] = [
        ("man in the middle", man_in_the_middle, true),
        ("impersonation with the session id", impersonation, true),
        ("replay to the joiner", replay_to_the_joiner, true),
        ("replay to the initiator", replay_to_the_initiator, true),
        ("reflection", reflection, false),
    ];
    for (name, attack, beats_naive) in attacks {
        assert_eq!(attack(&Naive), beats_naive, "{name}: against the naive peer");
        assert!(!attack(&Real), "{name}: against the real one");
    }
}

#[test]
fn both_flows_pair_when_nobody_attacks() {
    for flow in [&Naive as &dyn Flow, &Real] {
        let (mut initiator, mut joiner) = flow.honest(1);
        carry(&mut *initiator, &mut *joiner, (TID_J, TID_I));
        assert_eq!((initiator.stored().len(), joiner.stored().len()), (1, 1));
    }
}
