//! A joiner and an initiator that hold the code and sign whatever a test wants: built from the text of the protocol, since
//! the crate's own types cannot be made to lie.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use handfast_proto::code::Code;
use handfast_proto::id::Tid;
use handfast_proto::wire::frames::{Frame, FrameType};

use crate::vectors::spec::{Symmetric, aead, h, hkdf, hmac, label, lp, public, sign, x25519, x25519_public};

const PATTERN: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/// What is signed in H3 or H4, and by whom, if it is not what the protocol says.
#[derive(Clone, Copy, Default)]
pub(crate) struct Lie {
    /// Signs under this label.
    pub(crate) label: Option<&'static str>,
    /// Signs another handshake hash.
    pub(crate) session: Option<[u8; 32]>,
    /// Shows this key, whoever signs.
    pub(crate) shown: Option<[u8; 32]>,
    /// Signs for this key of the other side.
    pub(crate) other: Option<[u8; 32]>,
    /// Signs the bare challenge.
    pub(crate) bare: bool,
    /// Opens the commitment with something else.
    pub(crate) opening: bool,
}

/// One side of a handshake after both proved the code.
pub(crate) struct Sealed {
    pub(crate) hash: [u8; 32],
    /// Frames of the joiner under its key so far.
    sent: u64,
    k_ji: [u8; 32],
    k_ij: [u8; 32],
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
}

/// The fixed numbers of whoever plays by hand; nothing here needs to be unpredictable.
const CHALLENGE_J: [u8; 32] = [0x61; 32];
const CHALLENGE_I: [u8; 32] = [0x62; 32];
const R: [u8; 32] = [0x63; 32];
const RND: [u8; 32] = [0x64; 32];
const E: [u8; 32] = [0x65; 32];
const S: [u8; 32] = [0x66; 32];

fn frame(kind: FrameType, body: &[u8]) -> Frame {
    Frame::from_rest(&[&[kind.byte()][..], body].concat()).expect("the size of its type")
}

fn keys(code: &Code) -> ([u8; 32], [u8; 32]) {
    let expand = |name: &str| hkdf(&label("code"), code.entropy().expose(), &[&label(name)]);
    (expand("psk"), expand("tag"))
}

/// Words, and words with a comparison.
const WORDS: u8 = 2;
const WORDS_COMPARED: u8 = 0x82;

/// For a P1 with its mode.
fn prologue(cb: &[u8; 32], p1: &[u8]) -> Vec<u8> {
    [label("prologue"), vec![1, p1[13]], lp(cb), lp(p1), lp(&[])].concat()
}

fn open(key: &[u8; 32], n: u64, aad: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_le_bytes());
    let payload = Payload { msg: sealed, aad };
    ChaCha20Poly1305::new(&(*key).into()).decrypt(&Nonce::from(nonce), payload).expect("sealed for us")
}

/// P1 and H1 were sent.
pub(crate) struct Joining {
    noise: Symmetric,
    mode: u8,
}

/// Begins a handshake from `own` to `initiator`.
pub(crate) fn join(code: &Code, own: Tid, initiator: Tid) -> (Joining, [Frame; 2]) {
    join_in(WORDS, code, own, initiator)
}

/// The same with a comparison.
pub(crate) fn join_comparing(code: &Code, own: Tid, initiator: Tid) -> (Joining, [Frame; 2]) {
    join_in(WORDS_COMPARED, code, own, initiator)
}

fn join_in(mode: u8, code: &Code, own: Tid, initiator: Tid) -> (Joining, [Frame; 2]) {
    let (psk, tag_key) = keys(code);
    let cb = h(&[&label("cb"), &[1], &own.0, &initiator.0]);
    let tag = hmac(&tag_key, &[&label("p1"), &cb, &RND]);
    let commitment = h(&[&label("commit"), &R, &RND]);
    let p1 = [b"HFPR", &[1][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[mode], &tag[..16], &RND, &commitment].concat();
    let mut noise = Symmetric::new(PATTERN, &prologue(&cb, &p1));
    noise.mix_key_and_hash(&psk);
    let e = x25519_public(&E);
    noise.mix_hash(&e);
    noise.mix_key(&e);
    let h1 = [&e[..], &noise.encrypt_and_hash(&CHALLENGE_J)].concat();
    (Joining { noise, mode }, [frame(FrameType::P1, &p1), frame(FrameType::H1, &h1)])
}

impl Joining {
    /// Takes H2.
    pub(crate) fn take_h2(mut self, h2: &Frame) -> Sealed {
        let (e, sealed) = h2.body().split_at(32);
        let e: [u8; 32] = e.try_into().expect("32 bytes");
        self.noise.mix_hash(&e);
        self.noise.mix_key(&e);
        self.noise.mix_key(&x25519(&E, &e));
        let plain = self.noise.decrypt_and_hash(sealed, open);
        assert_eq!(plain[0], u8::from(self.mode == WORDS_COMPARED), "told to go on");
        let [k_ji, k_ij] = self.noise.split();
        let challenge_i = plain[1..].try_into().expect("32 bytes");
        Sealed { hash: self.noise.h, sent: 0, k_ji, k_ij, challenge_j: CHALLENGE_J, challenge_i }
    }
}

/// Answers P1 and H1 as an initiator with the code.
pub(crate) fn host(code: &Code, own: Tid, joiner: Tid, p1: &Frame, h1: &Frame) -> (Sealed, Frame) {
    let (psk, _) = keys(code);
    let cb = h(&[&label("cb"), &[1], &joiner.0, &own.0]);
    let mut noise = Symmetric::new(PATTERN, &prologue(&cb, p1.body()));
    noise.mix_key_and_hash(&psk);
    let (e_j, sealed) = h1.body().split_at(32);
    let e_j: [u8; 32] = e_j.try_into().expect("32 bytes");
    noise.mix_hash(&e_j);
    noise.mix_key(&e_j);
    let challenge_j = noise.decrypt_and_hash(sealed, open).try_into().expect("32 bytes");
    let e = x25519_public(&E);
    noise.mix_hash(&e);
    noise.mix_key(&e);
    noise.mix_key(&x25519(&E, &e_j));
    let h2 = [&e[..], &noise.encrypt_and_hash(&[&[0][..], &CHALLENGE_I].concat())].concat();
    let [k_ji, k_ij] = noise.split();
    let sealed = Sealed { hash: noise.h, sent: 0, k_ji, k_ij, challenge_j, challenge_i: CHALLENGE_I };
    (sealed, frame(FrameType::H2, &h2))
}

impl Sealed {
    /// S3, which opens the commitment, or, with a lie, does not.
    pub(crate) fn s3(&mut self, lie: Lie) -> Frame {
        let opening = if lie.opening { [0x77; 32] } else { R };
        self.sent += 1;
        frame(FrameType::S3, &aead(&self.k_ji, self.sent - 1, &[], &opening))
    }

    /// H3 of the holder of `seed`.
    pub(crate) fn h3(&self, seed: &[u8; 32], lie: Lie) -> Frame {
        let dik = lie.shown.unwrap_or(public(seed));
        let info = [1, 1, b'x'];
        let hash = lie.session.unwrap_or(self.hash);
        let name = label(lie.label.unwrap_or("sig J"));
        let parts: [&[u8]; 7] = [&name, &hash, &self.challenge_i, &self.challenge_j, &lp(&dik), &h(&[&info]), &S];
        let signature = if lie.bare { sign(seed, &[&self.challenge_i]) } else { sign(seed, &parts) };
        let opening = if lie.opening { [0x77; 32] } else { R };
        let mut plain = [&dik[..], &S, &opening, &signature, &lp(&info)].concat();
        plain.resize(688, 0);
        frame(FrameType::H3, &aead(&self.k_ji, self.sent, &[], &plain))
    }

    /// H4 of the holder of `seed`, in answer to this H3.
    pub(crate) fn h4(&self, seed: &[u8; 32], h3: &Frame, lie: Lie) -> Frame {
        let dik_j: [u8; 32] = open(&self.k_ji, 0, &[], h3.body())[..32].try_into().expect("32 bytes");
        let dik = lie.shown.unwrap_or(public(seed));
        let info = [1, 1, b'y'];
        let hash = lie.session.unwrap_or(self.hash);
        let name = label(lie.label.unwrap_or("sig I"));
        let for_whom = lie.other.unwrap_or(dik_j);
        let id = [0x67; 16];
        let (h3, info_hash) = (h(&[h3.body()]), h(&[&info]));
        let parts: [&[u8]; 10] =
            [&name, &hash, &self.challenge_j, &self.challenge_i, &lp(&dik), &lp(&for_whom), &h3, &info_hash, &S, &id];
        let signature = if lie.bare { sign(seed, &[&self.challenge_j]) } else { sign(seed, &parts) };
        let mut plain = [&[0][..], &dik, &S, &id, &signature, &lp(&info)].concat();
        plain.resize(688, 0);
        frame(FrameType::H4, &aead(&self.k_ij, 0, &[], &plain))
    }
}
