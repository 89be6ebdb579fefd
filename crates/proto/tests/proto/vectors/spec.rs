//! The protocol once more, written from its text with nothing but the primitives: what an independent implementation
//! would compute. Whatever the crate and this file disagree on, one of them has wrong.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, XChaCha20Poly1305, XNonce};
use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// `L("x")`.
pub(crate) fn label(name: &str) -> Vec<u8> {
    [b"handfast/1 ", name.as_bytes(), &[0]].concat()
}

/// `lp(x)`.
pub(crate) fn lp(x: &[u8]) -> Vec<u8> {
    [&(x.len() as u16).to_be_bytes()[..], x].concat()
}

/// SHA-256 of everything joined.
pub(crate) fn h(parts: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(parts.concat()).into()
}

/// HMAC-SHA-256 of everything joined.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("any length");
    mac.update(&parts.concat());
    mac.finalize().into_bytes().into()
}

/// `Expand(Extract(salt, ikm), info, 32)`.
pub(crate) fn hkdf(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(&info.concat(), &mut out).expect("32 bytes");
    out
}

/// The Ed25519 public key of a seed.
pub(crate) fn public(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}

/// Ed25519 over everything joined.
pub(crate) fn sign(seed: &[u8; 32], parts: &[&[u8]]) -> [u8; 64] {
    SigningKey::from_bytes(seed).sign(&parts.concat()).to_bytes()
}

/// XChaCha20-Poly1305.
pub(crate) fn seal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad };
    XChaCha20Poly1305::new(&(*key).into()).encrypt(&XNonce::from(*nonce), payload).expect("short")
}

/// X25519 of a secret scalar and a point.
pub(crate) fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint(*point).mul_clamped(*scalar).0
}

/// The X25519 public key of a scalar.
pub(crate) fn x25519_public(scalar: &[u8; 32]) -> [u8; 32] {
    let mut base = [0; 32];
    base[0] = 9;
    x25519(scalar, &base)
}

/// ChaCha20-Poly1305 as Noise uses it: four zero bytes, then the counter, little-endian.
pub(crate) fn aead(key: &[u8; 32], n: u64, aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_le_bytes());
    let payload = Payload { msg: plain, aad };
    ChaCha20Poly1305::new(&(*key).into()).encrypt(&Nonce::from(nonce), payload).expect("short")
}

/// Noise's symmetric state (revision 34, section 5.2), for SHA-256.
pub(crate) struct Symmetric {
    ck: [u8; 32],
    pub(crate) h: [u8; 32],
    k: [u8; 32],
    n: u64,
}

impl Symmetric {
    pub(crate) fn new(name: &[u8], prologue: &[u8]) -> Symmetric {
        // The name of the pattern is longer than a hash.
        let first = h(&[name]);
        Symmetric { ck: first, h: h(&[&first, prologue]), k: [0; 32], n: 0 }
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.h = h(&[&self.h, data]);
    }

    /// Noise's HKDF with three outputs.
    fn outputs(&self, ikm: &[u8]) -> [[u8; 32]; 3] {
        let temp = hmac(&self.ck, &[ikm]);
        let first = hmac(&temp, &[&[1]]);
        let second = hmac(&temp, &[&first, &[2]]);
        let third = hmac(&temp, &[&second, &[3]]);
        [first, second, third]
    }

    pub(crate) fn mix_key(&mut self, ikm: &[u8]) {
        let [ck, k, _] = self.outputs(ikm);
        (self.ck, self.k, self.n) = (ck, k, 0);
    }

    pub(crate) fn mix_key_and_hash(&mut self, psk: &[u8]) {
        let [ck, temp, k] = self.outputs(psk);
        self.ck = ck;
        self.mix_hash(&temp);
        (self.k, self.n) = (k, 0);
    }

    pub(crate) fn encrypt_and_hash(&mut self, plain: &[u8]) -> Vec<u8> {
        let sealed = aead(&self.k, self.n, &self.h, plain);
        self.n += 1;
        self.mix_hash(&sealed);
        sealed
    }

    pub(crate) fn decrypt_and_hash(
        &mut self,
        sealed: &[u8],
        open: impl FnOnce(&[u8; 32], u64, &[u8], &[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let plain = open(&self.k, self.n, &self.h, sealed);
        self.n += 1;
        self.mix_hash(sealed);
        plain
    }

    /// The keys of both directions, that of the side which began first.
    pub(crate) fn split(&self) -> [[u8; 32]; 2] {
        let [first, second, _] = self.outputs(&[]);
        [first, second]
    }
}
