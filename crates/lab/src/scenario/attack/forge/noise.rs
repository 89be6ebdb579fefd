//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256` (Noise revision 34), with every input open to the caller.

use anyhow::{Context as _, Result};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use curve25519_dalek::montgomery::MontgomeryPoint;

use super::{digest, hmac, random};

const NAME: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/// The symmetric state of a handshake.
#[derive(Clone)]
pub(crate) struct Symmetric {
    chain: [u8; 32],
    hash: [u8; 32],
    cipher: Option<Cipher>,
}

/// One direction's key and its counter.
#[derive(Clone)]
pub(crate) struct Cipher {
    key: [u8; 32],
    counter: u64,
}

/// An ephemeral key. The public half can be one that belongs to no secret.
#[derive(Clone)]
pub(crate) struct Ephemeral {
    secret: [u8; 32],
    pub(crate) public: [u8; 32],
}

impl Ephemeral {
    pub(crate) fn new() -> Result<Self> {
        let secret = random()?;
        Ok(Self { secret, public: MontgomeryPoint::mul_base_clamped(secret).to_bytes() })
    }

    /// A key whose public half is `public`, a point of small order: every shared secret with it is zero.
    pub(crate) fn low_order(public: [u8; 32]) -> Result<Self> {
        Ok(Self { secret: random()?, public })
    }

    pub(crate) fn shared(&self, other: &[u8; 32]) -> [u8; 32] {
        MontgomeryPoint(*other).mul_clamped(self.secret).to_bytes()
    }
}

impl Symmetric {
    pub(crate) fn new(prologue: &[u8]) -> Self {
        let hash = digest(&[NAME]);
        let mut state = Self { chain: hash, hash, cipher: None };
        state.mix_hash(prologue);
        state
    }

    pub(crate) fn mix_hash(&mut self, bytes: &[u8]) {
        self.hash = digest(&[&self.hash, bytes]);
    }

    pub(crate) fn mix_key(&mut self, input: &[u8]) -> Result<()> {
        let [chain, key, _] = expand(&self.chain, input)?;
        self.chain = chain;
        self.cipher = Some(Cipher { key, counter: 0 });
        Ok(())
    }

    pub(crate) fn mix_key_and_hash(&mut self, psk: &[u8]) -> Result<()> {
        let [chain, hash, key] = expand(&self.chain, psk)?;
        self.chain = chain;
        self.mix_hash(&hash);
        self.cipher = Some(Cipher { key, counter: 0 });
        Ok(())
    }

    pub(crate) fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.cipher.as_mut().context("no key yet")?.seal(plain, &self.hash)?;
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>> {
        let plain = self.cipher.as_mut().context("no key yet")?.open(sealed, &self.hash)?;
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// The handshake hash, the key of the side that sent first, the key of the other.
    pub(crate) fn split(&self) -> Result<([u8; 32], Cipher, Cipher)> {
        let [first, second, _] = expand(&self.chain, &[])?;
        Ok((self.hash, Cipher { key: first, counter: 0 }, Cipher { key: second, counter: 0 }))
    }
}

impl Cipher {
    pub(crate) fn seal(&mut self, plain: &[u8], ad: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.next_nonce();
        self.aead().encrypt(&nonce, Payload { msg: plain, aad: ad }).ok().context("sealing")
    }

    pub(crate) fn open(&mut self, sealed: &[u8], ad: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.next_nonce();
        self.aead().decrypt(&nonce, Payload { msg: sealed, aad: ad }).ok().context("a sealed message does not open")
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_le_bytes());
        self.counter += 1;
        nonce.into()
    }

    fn aead(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&self.key.into())
    }
}

/// Noise's HKDF with three outputs.
fn expand(chain: &[u8; 32], input: &[u8]) -> Result<[[u8; 32]; 3]> {
    let temporary = hmac(chain, input)?;
    let first = hmac(&temporary, &[1])?;
    let second = hmac(&temporary, &[&first[..], &[2]].concat())?;
    let third = hmac(&temporary, &[&second[..], &[3]].concat())?;
    Ok([first, second, third])
}
