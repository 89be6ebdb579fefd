//! The rendezvous record (section 5): 784 bytes that a DHT node can check and nobody without the code can read.
//!
//! The same outer form carries the record of a code and the presence record of a pairing, so a node cannot tell them
//! apart. A node validates with [`Record::validate`]; a holder of the keys makes and opens records with [`RecordKeys`].

use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::crypto::{self, SignKey, label};
use crate::secret::{Rng, Secret};
use crate::wire::{Malformed, Reader};

/// Size of every record, in bytes.
pub const RECORD_LEN: usize = 784;
/// Longest life a node grants, in seconds: it bounds how long a withdrawn code can be replayed from a store.
pub const MAX_TTL: u16 = 900;
/// Size of the sealed plaintext: the longest presence advert (616 bytes) with room to grow.
pub const PLAIN_LEN: usize = 638;
const HEAD_LEN: usize = 106;

/// The key of a record in the DHT: `H(L("topic") ‖ pk_r)`. Public; derived one-way from the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(pub [u8; 32]);

/// A record whose length, topic, life and signature were checked. What it seals may still be nonsense.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Box<[u8; RECORD_LEN]>,
    topic: Topic,
    seq: u64,
    ttl: u16,
}

impl Record {
    /// Checks what a DHT node must check before it stores or returns a value: the length, `key` = topic of the record's
    /// own key, a life of 1..=900 s, and the signature. Cheap checks come first.
    pub fn validate(key: &[u8], value: &[u8]) -> Result<Record, Malformed> {
        let key: [u8; 32] = key.try_into().map_err(|_| Malformed)?;
        let bytes: [u8; RECORD_LEN] = value.try_into().map_err(|_| Malformed)?;
        let mut reader = Reader::new(&bytes);
        let pk = reader.array::<32>()?;
        let seq = reader.u64()?;
        let ttl = reader.u16()?;
        let topic = topic_of(&pk);
        if topic.0 != key || ttl == 0 || ttl > MAX_TTL {
            return Err(Malformed);
        }
        let signature = reader.array::<64>()?;
        let sealed = &bytes[HEAD_LEN..];
        if !crypto::verify(&pk, "rec", &[&topic.0, &pk, &seq.to_be_bytes(), &ttl.to_be_bytes(), sealed], &signature) {
            return Err(Malformed);
        }
        Ok(Record { bytes: Box::new(bytes), topic, seq, ttl })
    }

    /// The 784 bytes.
    pub fn as_bytes(&self) -> &[u8; RECORD_LEN] {
        &self.bytes
    }

    /// The DHT key.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// The number of this publication; a higher one replaces a lower one.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How long a node keeps the record after it first saw this `seq`.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.ttl))
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record {{ topic: {:?}, seq: {}, ttl: {} }}", self.topic, self.seq, self.ttl)
    }
}

/// The two secret keys of a record: one signs it, one seals it.
pub struct RecordKeys {
    sign: SignKey,
    seal: Secret<32>,
    topic: Topic,
}

impl RecordKeys {
    /// The keys from an Ed25519 seed and a sealing key.
    pub fn new(sign_seed: &Secret<32>, seal: Secret<32>) -> RecordKeys {
        let sign = SignKey::from_seed(sign_seed);
        let topic = topic_of(&sign.public());
        RecordKeys { sign, seal, topic }
    }

    /// The DHT key of every record under these keys.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Seals and signs `plain` (at most [`PLAIN_LEN`] bytes, zero-padded) as publication `seq` with a life of `ttl`
    /// seconds, clamped to 1..=900.
    pub fn seal(&self, plain: &[u8], seq: u64, ttl: u16, rng: &mut Rng) -> Record {
        let ttl = ttl.clamp(1, MAX_TTL);
        let mut padded = [0; PLAIN_LEN];
        padded[..plain.len()].copy_from_slice(plain);
        let nonce: [u8; 24] = rng.bytes();
        let pk = self.sign.public();
        let aad = seal_aad(&self.topic, &pk, seq, ttl);
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: &padded, aad: &aad })
            .expect("638 bytes are within the cipher's limit");
        let mut body = nonce.to_vec();
        body.extend_from_slice(&sealed);
        let (seq_be, ttl_be) = (seq.to_be_bytes(), ttl.to_be_bytes());
        let signature = self.sign.sign("rec", &[&self.topic.0, &pk, &seq_be, &ttl_be, &body]);
        let mut bytes = Vec::with_capacity(RECORD_LEN);
        for part in [&pk[..], &seq_be, &ttl_be, &signature, &body] {
            bytes.extend_from_slice(part);
        }
        let bytes: [u8; RECORD_LEN] = bytes.try_into().expect("the parts add up to 784 bytes");
        Record { bytes: Box::new(bytes), topic: self.topic, seq, ttl }
    }

    /// Opens a record made under these keys: the padded plaintext. A record of another topic or key is [`Malformed`].
    pub fn open(&self, record: &Record) -> Result<[u8; PLAIN_LEN], Malformed> {
        if record.topic != self.topic {
            return Err(Malformed);
        }
        let nonce: [u8; 24] = record.bytes[HEAD_LEN..HEAD_LEN + 24].try_into().map_err(|_| Malformed)?;
        let aad = seal_aad(&self.topic, &self.sign.public(), record.seq, record.ttl);
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: &record.bytes[HEAD_LEN + 24..], aad: &aad })
            .map_err(|_| Malformed)?;
        plain.try_into().map_err(|_| Malformed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.seal.expose()).into())
    }
}

fn topic_of(pk: &[u8; 32]) -> Topic {
    Topic(crypto::hash("topic", &[pk]))
}

fn seal_aad(topic: &Topic, pk: &[u8; 32], seq: u64, ttl: u16) -> Vec<u8> {
    let mut aad = label("adv");
    for part in [&topic.0[..], pk, &seq.to_be_bytes(), &ttl.to_be_bytes()] {
        aad.extend_from_slice(part);
    }
    aad
}
