//! The handshake and the hello: whatever is changed on the way is refused, and so is whatever a holder of the code or of
//! a pairing's secret says that it must not.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use ed25519_dalek::{Signature, VerifyingKey};
use handfast_proto::handshake::initiator::{self, H5, Next, P1};
use handfast_proto::handshake::joiner::{self, H2, H4};
use handfast_proto::handshake::{Agreement, Mode};
use handfast_proto::id::{Identity, PairingId, Tid};
use handfast_proto::link::PairState;
use handfast_proto::link::hello::{self, Bond, R2, ReceivedR1};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::beacon::Nid;
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::info::{DeviceInfo, DeviceName, DeviceType};

use crate::input::Input;
use crate::layout::keys;
use crate::spec::{Symmetric, aead, h, hkdf, hmac, label, lp, public, sign, x25519, x25519_public};

const TID_J: Tid = Tid([0x0a; 32]);
const TID_I: Tid = Tid([0x0b; 32]);
const DIK_J: [u8; 32] = [0x1a; 32];
const DIK_I: [u8; 32] = [0x1b; 32];
const NID: Nid = Nid([0x0c; 16]);
const CODE: u8 = 7;

fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

fn identity(seed: [u8; 32]) -> Identity {
    Identity::from_seed(Secret::new(seed))
}

fn info(name: &str) -> DeviceInfo {
    DeviceInfo { name: DeviceName::clean(name), kind: DeviceType::Phone, clock: Some(UnixTime(1_800_000_000)) }
}

fn frame(kind: FrameType, body: &[u8]) -> Option<Frame> {
    Frame::from_rest(&[&[kind.byte()], body].concat()).ok()
}

/// Changes one frame of those that pass, as the case says.
struct Wire<'a> {
    input: Input<'a>,
    /// Which one.
    victim: FrameType,
    changed: bool,
}

impl<'a> Wire<'a> {
    fn new(mut input: Input<'a>) -> Wire<'a> {
        let victim = FrameType::ALL[input.below(FrameType::ALL.len())];
        Wire { input, victim, changed: false }
    }

    /// What arrives. `None`: nothing that the driver would hand on.
    fn pass(&mut self, sent: Frame) -> Option<Frame> {
        if sent.kind() != self.victim {
            return Some(sent);
        }
        let mut rest = sent.to_bytes()[2..].to_vec();
        self.changed |= self.input.change(&mut rest);
        Frame::from_rest(&rest).ok()
    }
}

/// Both sides are honest, and the network between them changes one frame or none.
pub(crate) fn handshake(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let way = input.byte();
    let mut wire = Wire::new(input);
    let done = play(way, &mut wire);
    assert_eq!(done.is_some(), !wire.changed, "{:?} of way {way} was changed: {}", wire.victim, wire.changed);
    if let Some((joiner, initiator)) = done {
        assert!(
            joiner.pairing_id == initiator.pairing_id && joiner.pair_secret.expose() == initiator.pair_secret.expose()
        );
        assert!(joiner.peer == identity(DIK_I).public() && initiator.peer == identity(DIK_J).public());
    }
}

/// A whole handshake with a code (`way` 0 to 3) or without; what either side would store.
fn play(way: u8, wire: &mut Wire<'_>) -> Option<(Agreement, Agreement)> {
    let (mut rj, mut ri) = (rng(1), rng(2));
    let (keys, verify) = (keys(CODE), way & 2 != 0);
    let (sent, received) = if way & 4 == 0 {
        let mode = if way & 1 == 0 { Mode::Words } else { Mode::Qr };
        let (sent, [p1, h1]) = joiner::start(&keys, mode, verify, TID_J, TID_I, &mut rj);
        let p1 = P1::parse(&wire.pass(p1)?, TID_J, TID_I).ok().filter(|p1| p1.is_for(&keys))?;
        (sent, p1.handle(&keys, &wire.pass(h1)?, &mut ri).ok()?)
    } else {
        let (sent, p1) = joiner::start_nearby(NID, TID_J, TID_I, &mut rj);
        let p1 = P1::parse(&wire.pass(p1)?, TID_J, TID_I).ok().filter(|p1| p1.nid() == Some(NID))?;
        let (answered, p2) = p1.answer(&mut ri)?;
        let (sent, h1) = sent.handle(&wire.pass(p2)?, &mut rj).ok()?;
        (sent, answered.handle(&wire.pass(h1)?, &mut ri).ok()?)
    };
    let (next, h2) = received.go_on(false, &mut ri);
    let (proved, next) = match (sent.handle(&wire.pass(h2)?).ok()?, next) {
        (H2::GoOn(proved), Next::Identity(next)) => (*proved, *next),
        (H2::Compare(comparing, s3), Next::Comparison(asked)) => {
            let own = asked.handle(&wire.pass(s3)?).ok()?;
            assert!(own.sas() == comparing.sas(), "both screens show the same");
            (comparing.matched(), own.matched())
        }
        _ => return None,
    };
    let (sent, h3) = proved.send(&identity(DIK_J), &info("jane"), &mut rj);
    let received = next.handle(&wire.pass(h3)?, identity(DIK_I).public()).ok()?;
    let (waiting, h4, at_initiator) = received.allow(&identity(DIK_I), &info("ian"), &mut ri);
    let H4::Offer(offer) = sent.handle(&wire.pass(h4)?).ok()? else { return None };
    let at_joiner = offer.agreement().clone();
    let (sent, h5) = offer.stored();
    let H5::Stored(received) = waiting.handle(&wire.pass(h5)?).ok()? else { return None };
    sent.handle(&wire.pass(received.confirm())?).ok()?;
    Some((at_joiner, at_initiator))
}

fn expand(name: &str) -> [u8; 32] {
    hkdf(&label("code"), &[CODE; 16], &[&label(name)])
}

fn open(key: &[u8; 32], n: u64, aad: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_le_bytes());
    let cipher = ChaCha20Poly1305::new(&(*key).into());
    cipher.decrypt(&Nonce::from(nonce), Payload { msg: sealed, aad }).expect("sealed by the honest side")
}

fn noise(mode: u8, p1: &[u8]) -> Symmetric {
    let prologue = [label("prologue"), vec![1, mode], lp(&cb()), lp(p1), lp(&[])].concat();
    let mut noise = Symmetric::new(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256", &prologue);
    noise.mix_key_and_hash(&expand("psk"));
    noise
}

fn cb() -> [u8; 32] {
    h(&[&label("cb"), &[1], &TID_J.0, &TID_I.0])
}

fn verifies(key: &[u8], parts: &[&[u8]], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key: &[u8; 32]| VerifyingKey::from_bytes(key).ok());
    let signature = signature.try_into().ok().map(Signature::from_bytes);
    matches!((key, signature), (Some(key), Some(signature)) if key.verify_strict(&parts.concat(), &signature).is_ok())
}

/// `lp(info)` with zeros behind it: the info, if that is what it is.
fn read_info(bytes: &[u8]) -> Option<&[u8]> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    let (info, zeros) = rest.split_at_checked(len)?;
    (len <= 512 && zeros.iter().all(|byte| *byte == 0)).then_some(info)
}

/// A joiner that has the code says in its frames whatever the case wants, sealed as it must be.
pub(crate) fn joiner_with_code(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let _ = joiner_says(&mut input);
}

fn joiner_says(input: &mut Input<'_>) -> Option<()> {
    let (rnd, r, challenge_j, e, s) = ([1; 32], [2; 32], [3; 32], [4; 32], [5; 32]);
    let tag = &hmac(&expand("tag"), &[&label("p1"), &cb(), &rnd])[..16];
    let mode = [1, 2, 0x81, 0x82][input.below(4)];
    let mut p1 =
        [b"HFPR", &[1, 1, 0, 0, 0, 0, 0, 0, 0][..], &[mode], tag, &rnd, &h(&[&label("commit"), &r, &rnd])].concat();
    input.change(&mut p1);
    let read = P1::parse(&frame(FrameType::P1, &p1)?, TID_J, TID_I).ok()?;
    assert!(p1[..4] == *b"HFPR" && p1[4] <= 8 && p1[5..13].contains(&1));
    let mode = p1[13];
    let rnd = &p1[30..62];
    let expected = hmac(&expand("tag"), &[&label("p1"), &cb(), rnd])[..16] == p1[14..30];
    assert_eq!(read.is_for(&keys(CODE)), expected && mode != 3);
    let own = identity(DIK_I);
    let mut ri = rng(2);

    let mut noise = noise(mode, &p1);
    let e_j = x25519_public(&e);
    noise.mix_hash(&e_j);
    noise.mix_key(&e_j);
    let h1 = [&e_j[..], &noise.encrypt_and_hash(&challenge_j)].concat();
    let received = read.handle(&keys(CODE), &frame(FrameType::H1, &h1)?, &mut ri).ok()?;
    let (next, h2) = received.go_on(input.bool(), &mut ri);
    let (e_i, sealed) = h2.body().split_first_chunk::<32>()?;
    noise.mix_hash(e_i);
    noise.mix_key(e_i);
    noise.mix_key(&x25519(&e, e_i));
    let challenge_i = noise.decrypt_and_hash(sealed, open).split_off(1);
    let [k_ji, k_ij] = noise.split();
    let promise = &p1[62..94];
    let mut n = 0;
    let next = match next {
        Next::Identity(next) => *next,
        Next::Comparison(asked) => {
            let mut opening = r.to_vec();
            input.change(&mut opening);
            let shown = asked.handle(&frame(FrameType::S3, &aead(&k_ji, n, &[], &opening))?);
            assert_eq!(shown.is_ok(), h(&[&label("commit"), &opening, rnd]) == *promise, "what was promised");
            n += 1;
            shown.ok()?.matched()
        }
    };
    let bytes = info("jane").to_bytes();
    let mut plain = [&public(&DIK_J)[..], &s, &r, &[0; 64], &lp(&bytes)].concat();
    plain.resize(688, 0);
    let sign_before = input.bool();
    let signed = |plain: &[u8]| {
        let hash = h(&[read_info(&plain[160..]).unwrap_or_default()]);
        [&label("sig J")[..], &noise.h, &challenge_i, &challenge_j, &lp(&plain[..32]), &hash, &plain[32..64]].concat()
    };
    if sign_before {
        let signature = sign(&DIK_J, &[&signed(&plain)]);
        plain[96..160].copy_from_slice(&signature);
    }
    input.change(&mut plain);
    plain.resize(688, 0);
    if !sign_before {
        let signature = sign(&DIK_J, &[&signed(&plain)]);
        plain[96..160].copy_from_slice(&signature);
    }
    let h3 = aead(&k_ji, n, &[], &plain);
    let believed = next.handle(&frame(FrameType::H3, &h3)?, own.public());
    let right = h(&[&label("commit"), &plain[64..96], rnd]) == *promise
        && plain[..32] != own.public().0
        && verifies(&plain[..32], &[&signed(&plain)], &plain[96..160])
        && read_info(&plain[160..]).is_some_and(|info| DeviceInfo::from_bytes(info).is_ok());
    assert_eq!(believed.is_ok(), right, "H3");
    let (waiting, h4, agreement) = believed.ok()?.allow(&own, &info("ian"), &mut ri);
    assert_eq!(agreement.peer.0, plain[..32]);
    assert_eq!(open(&k_ij, 0, &[], h4.body()).len(), 688);

    let mut plain = [&[1][..], &h(&[h4.body()])].concat();
    input.change(&mut plain);
    let verdict = frame(FrameType::H5, &aead(&k_ji, n + 1, &[], &plain)).map(|h5| waiting.handle(&h5))?;
    let hash_is_right = plain[1..] == h(&[h4.body()]);
    match verdict {
        Ok(H5::Stored(_)) => assert!(hash_is_right && plain[0] == 1),
        Ok(H5::Declined) => assert!(hash_is_right && plain[0] == 0),
        Err(_) => assert!(!hash_is_right || plain[0] > 1),
    }
    Some(())
}

/// The same for an initiator.
pub(crate) fn initiator_with_code(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let _ = initiator_says(&mut input);
}

fn initiator_says(input: &mut Input<'_>) -> Option<()> {
    let (e, s, challenge_i, pairing_id) = ([4; 32], [5; 32], [6; 32], [7; 16]);
    let verify = input.bool();
    let own = identity(DIK_J);
    let mut rj = rng(1);
    let (sent, [p1, h1]) = joiner::start(&keys(CODE), Mode::Words, verify, TID_J, TID_I, &mut rj);
    let mut noise = noise(if verify { 0x82 } else { 2 }, p1.body());
    let (e_j, sealed) = h1.body().split_first_chunk::<32>()?;
    noise.mix_hash(e_j);
    noise.mix_key(e_j);
    let challenge_j = noise.decrypt_and_hash(sealed, open);
    let e_i = x25519_public(&e);
    noise.mix_hash(&e_i);
    noise.mix_key(&e_i);
    noise.mix_key(&x25519(&e, e_j));
    let mut plain = [&[u8::from(verify)][..], &challenge_i].concat();
    input.change(&mut plain);
    plain.resize(33, 0);
    let h2 = [&e_i[..], &noise.encrypt_and_hash(&plain)].concat();
    let (status, challenge_i) = plain.split_first()?;
    let mut n = 0;
    let proved = match sent.handle(&frame(FrameType::H2, &h2)?) {
        Ok(H2::GoOn(proved)) => {
            assert!(*status == 0 && !verify, "no comparison that was asked for is left out");
            *proved
        }
        Ok(H2::Compare(comparing, s3)) => {
            assert_eq!(*status, 1);
            let [k_ji, _] = noise.split();
            let r = open(&k_ji, 0, &[], s3.body());
            assert_eq!(h(&[&label("commit"), &r, &p1.body()[30..62]]), p1.body()[62..94]);
            n = 1;
            comparing.matched()
        }
        Ok(H2::Refused(_)) => {
            assert!((16..=20).contains(status));
            return None;
        }
        Err(_) => {
            assert!(!matches!(status, 1 | 16..=20) && (*status != 0 || verify));
            return None;
        }
    };
    let (sent, h3) = proved.send(&own, &info("jane"), &mut rj);
    let [k_ji, k_ij] = noise.split();
    assert_eq!(open(&k_ji, n, &[], h3.body())[..32], own.public().0);

    let bytes = info("ian").to_bytes();
    let mut plain = [&[0][..], &public(&DIK_I), &s, &pairing_id, &[0; 64], &lp(&bytes)].concat();
    plain.resize(688, 0);
    if input.byte() == 1 {
        plain = vec![input.byte()];
        plain.resize(688, 0);
    }
    let sign_before = input.bool();
    let signed = |plain: &[u8]| {
        let hash = h(&[read_info(&plain[145..]).unwrap_or_default()]);
        let keys = [lp(&plain[1..33]), lp(&own.public().0)].concat();
        let hashes = [h(&[h3.body()]), hash].concat();
        [&label("sig I")[..], &noise.h, &challenge_j, challenge_i, &keys, &hashes, &plain[33..65], &plain[65..81]]
            .concat()
    };
    if sign_before && plain[0] == 0 {
        let signature = sign(&DIK_I, &[&signed(&plain)]);
        plain[81..145].copy_from_slice(&signature);
    }
    input.change(&mut plain);
    plain.resize(688, 0);
    if !sign_before && plain[0] == 0 {
        let signature = sign(&DIK_I, &[&signed(&plain)]);
        plain[81..145].copy_from_slice(&signature);
    }
    let h4 = aead(&k_ij, 0, &[], &plain);
    let right = plain[0] == 0
        && plain[1..33] != own.public().0
        && verifies(&plain[1..33], &[&signed(&plain)], &plain[81..145])
        && read_info(&plain[145..]).is_some_and(|info| DeviceInfo::from_bytes(info).is_ok());
    let offer = match sent.handle(&frame(FrameType::H4, &h4)?) {
        Ok(H4::Offer(offer)) => {
            assert!(right, "an offer that nobody proved");
            offer
        }
        Ok(H4::Denied(_)) => {
            assert!((1..=4).contains(&plain[0]) && plain[1..].iter().all(|byte| *byte == 0));
            return None;
        }
        Err(_) => {
            assert!(!right, "a right offer is refused");
            return None;
        }
    };
    assert_eq!(offer.agreement().peer.0, plain[1..33]);
    let (sent, h5) = offer.stored();
    let mut plain = [&[2][..], &h(&[h5.body()])].concat();
    let changed = input.change(&mut plain);
    let h6 = frame(FrameType::H6, &aead(&k_ij, 1, &[], &plain))?;
    assert_eq!(sent.handle(&h6).is_ok(), !changed);
    Some(())
}

/// A hello between honest devices, of which the network changes one frame or none, and one with a thief of the secret.
pub(crate) fn hello(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte() % 3;
    if kind == 0 {
        let mut wire = Wire::new(input);
        let done = greet(&identity(DIK_J), &identity(DIK_I), &mut wire);
        // R4 is under no MAC: it says how far the commit got, over a connection that both have proven.
        assert!(done.is_some() != wire.changed || wire.victim == FrameType::R4, "{:?}", wire.victim);
    } else {
        let thief = identity([0x1c; 32]);
        let mut wire = Wire::new(input);
        let (a, b) = if kind == 1 { (thief, identity(DIK_I)) } else { (identity(DIK_J), thief) };
        assert!(greet(&a, &b, &mut wire).is_none(), "a pairing's secret without its identity proves nothing");
    }
}

/// A whole hello: what each side learns of the other's commit.
fn greet(a: &Identity, b: &Identity, wire: &mut Wire<'_>) -> Option<(PairState, PairState)> {
    let id = PairingId([7; 16]);
    let bond = |peer: [u8; 32]| Bond::new(id, identity(peer).public(), &Secret::new([9; 32]));
    let (bond_a, bond_b) = (bond(DIK_I), bond(DIK_J));
    let (sent, r1) = hello::open(&bond_a, a.public(), TID_J, TID_I, &mut rng(1));
    let received = ReceivedR1::parse(&wire.pass(r1)?, TID_J, TID_I).ok()?;
    if !received.is_from(bond_b.tag_key()) {
        return None;
    }
    let (waiting, r2) = received.answer(&bond_b, b, PairState::Pending, UnixTime(5), &mut rng(2));
    let R2::Proof(proof) = sent.handle(&wire.pass(r2)?).ok()? else { return None };
    let at_b = proof.state;
    let (sent, r3) = proof.send(a, PairState::Paired, UnixTime(6));
    let got = waiting.handle(&wire.pass(r3)?).ok()?;
    sent.handle(&wire.pass(hello::accept(PairState::Paired))?).ok()?;
    Some((at_b, got.state))
}

/// A device that has a pairing's secret but for its identity key, or all of it, writes R2 and R3 as it likes.
pub(crate) fn hello_with_secret(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let seed = if input.bool() { DIK_I } else { [0x1c; 32] };
    let (id, secret, own) = ([7; 16], [9; 32], identity(DIK_J));
    let key = hkdf(&label("pairing"), &secret, &[&label("hello key")]);
    let bond = Bond::new(PairingId(id), identity(DIK_I).public(), &Secret::new(secret));
    let (sent, r1) = hello::open(&bond, own.public(), TID_J, TID_I, &mut rng(1));
    let nonce_a = &r1.body()[1..33];
    let mut head = [&[0, 1][..], &5u64.to_be_bytes(), &[8; 32]].concat();
    if input.bool() {
        let seq: [u8; 8] = input.array();
        let notice = sign(&seed, &[&label("revoked"), &id, &own.public().0, &cb(), nonce_a, &seq]);
        let mut body = [&[1, 0][..], &seq, &[0; 64], &notice].concat();
        let changed = input.change(&mut body);
        let Some(r2) = frame(FrameType::R2, &body) else { return };
        let believed = matches!(sent.handle(&r2), Ok(R2::Revoked { .. }));
        assert!(!believed || seed == DIK_I && !changed, "an end that the peer did not say");
        return;
    }
    input.change(&mut head);
    head.resize(42, 0);
    let mac = hmac(&key, &[&label("hello B"), &id, &cb(), r1.body(), &head]);
    let signature = sign(&seed, &[&label("tid B"), &id, &own.public().0, &cb(), nonce_a, &head[10..42], &mac]);
    let Some(r2) = frame(FrameType::R2, &[&head[..], &mac, &signature].concat()) else { return };
    match sent.handle(&r2) {
        Ok(R2::Proof(proof)) => {
            assert!(seed == DIK_I && head[0] == 0 && matches!(head[1], 1 | 2));
            assert_eq!(proof.clock.0.to_be_bytes(), head[2..10]);
        }
        Ok(R2::Revoked { .. }) => panic!("nobody said that it is over"),
        Err(_) => assert!(seed != DIK_I || head[0] != 0 || !matches!(head[1], 1 | 2)),
    }
}

/// First frames of strangers.
pub(crate) fn stranger(bytes: &[u8]) {
    for kind in [FrameType::P1, FrameType::R1] {
        let mut body = bytes.to_vec();
        body.resize(kind.body_len(), 0);
        let Some(first) = frame(kind, &body) else { continue };
        if let Ok(p1) = P1::parse(&first, TID_J, TID_I) {
            assert!(!p1.is_for(&keys(CODE)) || joiner_tag(&body), "a tag without the code");
            let is_nearby = p1.nid().is_some();
            assert_eq!(initiator_answers(p1), is_nearby);
        }
        if let Ok(r1) = ReceivedR1::parse(&first, TID_J, TID_I) {
            assert!(!r1.is_from(&Secret::new([9; 32])));
        }
    }
}

fn joiner_tag(p1: &[u8]) -> bool {
    hmac(&expand("tag"), &[&label("p1"), &cb(), &p1[30..62]])[..16] == p1[14..30]
}

fn initiator_answers(p1: initiator::P1) -> bool {
    p1.answer(&mut rng(2)).is_some()
}
