//! A deliberately naive device, kept so that the attacks can be seen to work: what is refused by the real program must
//! succeed here, or the attack proves nothing.
//!
//! It pairs by the flow that one writes first: the code is the session id, in the DHT in clear; the joiner sends
//! `Request` with a name and a key that it declares itself; the initiator sends `Challenge`; the joiner signs the bare
//! challenge (`Response`); the initiator says `Complete`, unsigned. Nothing proves the code, nothing is bound to the
//! connection, the initiator proves nothing at all, the challenge is one for the session, and a code can be used again.
//!
//! It runs over the real network driver. Its messages travel in frames of the real protocol that have room for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use handfast_net::StreamProtocol;
use handfast_proto::addr::Address;
use handfast_proto::id::{StreamId, Tid};
use handfast_proto::secret::Secret;
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::{Record, RecordKeys};
use sha2::{Digest as _, Sha256};

use crate::peer::{Peer, Reply};
use crate::topology::AccessHost;

/// How long either side waits for the other's next message.
const STEP: Duration = Duration::from_secs(3);

/// How often an initiator that waits looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// Life of its records, seconds.
const TTL: u16 = 300;

/// Its records are sealed with a key that everybody has, since the store of the DHT takes only sealed ones.
const PUBLIC_KEY: [u8; 32] = [0; 32];

/// States in its record.
pub const OPEN: u8 = 0;
/// The session is over.
pub const OVER: u8 = 1;

/// A naive device on a host.
pub struct NaiveDevice {
    peer: Arc<Peer>,
    key: SigningKey,
    name: String,
    paired: Arc<Mutex<Vec<NaivePeer>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Whom a naive device believes to be paired with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaivePeer {
    /// The key it declared.
    pub key: [u8; 32],
    /// The name it declared.
    pub name: String,
}

/// How joining ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NaiveEnd {
    /// It believes to be paired.
    Paired,
    /// It believes that the session is over.
    Over,
    /// Nothing came of it.
    Failed,
}

/// What stands in its record, for everybody to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaiveAdvert {
    /// [`OPEN`] or [`OVER`].
    pub state: u8,
    /// The code.
    pub session: [u8; 16],
    /// The initiator's transport key.
    pub tid: Tid,
    /// Where it is.
    pub addresses: Vec<Address>,
}

/// A message of the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Joiner to initiator.
    Request {
        /// The code.
        session: [u8; 16],
        /// The joiner's key, by its own account.
        key: [u8; 32],
        /// Its name.
        name: String,
    },
    /// Initiator to joiner.
    Challenge {
        /// What is to be signed.
        challenge: [u8; 32],
        /// The initiator's key, by its own account.
        key: [u8; 32],
        /// Its name.
        name: String,
    },
    /// Joiner to initiator: a signature over the bare challenge.
    Response([u8; 64]),
    /// Initiator to joiner.
    Complete(bool),
}

impl NaiveDevice {
    /// A device on `host`.
    ///
    /// # Errors
    /// When its network cannot be started.
    pub fn new(host: &AccessHost, name: &str, bootstrap: &[String]) -> Result<Self> {
        let peer = Peer::device(host, bootstrap)?;
        peer.wait_for_nodes(1)?;
        Ok(Self {
            peer: Arc::new(peer),
            key: SigningKey::from_bytes(handfast_net::entropy::secret()?.expose()),
            name: name.to_owned(),
            paired: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        })
    }

    /// Its transport key and addresses, as whoever it is connected to knows them.
    #[must_use]
    pub fn place(&self) -> (Tid, Vec<Address>) {
        (self.peer.tid(), self.peer.addresses().to_vec())
    }

    /// Whom it believes to be paired with, each time it came to believe so.
    #[must_use]
    pub fn paired(&self) -> Vec<NaivePeer> {
        lock(&self.paired).clone()
    }

    /// Shows a code, publishes where it is and answers whoever comes, until it is dropped; gives the code.
    ///
    /// # Errors
    /// When no node takes its record.
    pub fn offer(&mut self) -> Result<[u8; 16]> {
        let session: [u8; 16] = handfast_net::entropy::rng()?.bytes();
        let (tid, addresses) = self.place();
        let record = seal(&NaiveAdvert { state: OPEN, session, tid, addresses }, 1)?;
        ensure!(self.peer.put(&record)? > 0, "no node stored the naive record");
        let challenge: [u8; 32] = handfast_net::entropy::rng()?.bytes();
        let (peer, paired, stop) = (Arc::clone(&self.peer), Arc::clone(&self.paired), Arc::clone(&self.stop));
        let own = Message::Challenge { challenge, key: self.key.verifying_key().to_bytes(), name: self.name.clone() };
        self.threads.push(std::thread::Builder::new().name("lab-naive".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(inbound) = peer.accept(StreamProtocol::Pair, POLL) {
                    // Whoever breaks off or says nonsense is not paired, and that is all.
                    if let Ok(who) = initiate(&peer, inbound.stream, session, &own) {
                        lock(&paired).push(who);
                    }
                    let _ = peer.close(inbound.stream);
                }
            }
        })?);
        Ok(session)
    }

    /// Joins a code.
    ///
    /// # Errors
    /// When its network has ended.
    pub fn join(&self, session: [u8; 16]) -> Result<NaiveEnd> {
        let (found, _) = self.peer.get(keys(&session).topic())?;
        let Some(newest) = found.into_iter().max_by_key(Record::seq) else { return Ok(NaiveEnd::Failed) };
        let advert = read(&newest)?;
        if advert.state != OPEN {
            return Ok(NaiveEnd::Over);
        }
        let conn = self.peer.dial(Some(advert.tid), &advert.addresses)?;
        let key = self.key.verifying_key().to_bytes();
        let request = Message::Request { session, key, name: self.name.clone() };
        let stream = self.peer.say(conn, StreamProtocol::Pair, vec![request.frame()?])?;
        let mut who = NaivePeer { key: [0; 32], name: String::new() };
        while let Reply::Frame(frame) = self.peer.reply(stream, STEP) {
            match Message::read(&frame) {
                Ok(Message::Challenge { challenge, key, name }) => {
                    who = NaivePeer { key, name };
                    let response = Message::Response(self.key.sign(&challenge).to_bytes());
                    self.peer.send(stream, vec![response.frame()?])?;
                }
                Ok(Message::Complete(true)) => {
                    lock(&self.paired).push(who);
                    return Ok(NaiveEnd::Paired);
                }
                Ok(Message::Complete(false) | Message::Request { .. } | Message::Response(_)) | Err(_) => break,
            }
        }
        Ok(NaiveEnd::Failed)
    }
}

impl Drop for NaiveDevice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Message {
    /// The frame it travels in.
    ///
    /// # Errors
    /// When a name is too long.
    pub fn frame(&self) -> Result<Frame> {
        let (kind, body) = match self {
            Self::Request { session, key, name } => {
                (FrameType::H3, [&session[..], key, &[u8::try_from(name.len())?], name.as_bytes()].concat())
            }
            Self::Challenge { challenge, key, name } => {
                (FrameType::H4, [&challenge[..], key, &[u8::try_from(name.len())?], name.as_bytes()].concat())
            }
            Self::Response(signature) => (FrameType::R3, signature.to_vec()),
            Self::Complete(success) => (FrameType::R4, vec![u8::from(*success)]),
        };
        let mut rest = vec![kind.byte()];
        rest.extend_from_slice(&body);
        rest.resize(1 + kind.body_len(), 0);
        Ok(Frame::from_rest(&rest)?)
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(frame: &Frame) -> Result<Self> {
        let body = frame.body();
        let named = |at: usize| -> Result<([u8; 32], String)> {
            let key = body[at..at + 32].try_into()?;
            let length = usize::from(body[at + 32]);
            Ok((key, String::from_utf8(body[at + 33..at + 33 + length].to_vec())?))
        };
        if frame.kind() == FrameType::H3 {
            let (key, name) = named(16)?;
            Ok(Self::Request { session: body[..16].try_into()?, key, name })
        } else if frame.kind() == FrameType::H4 {
            let (key, name) = named(32)?;
            Ok(Self::Challenge { challenge: body[..32].try_into()?, key, name })
        } else if frame.kind() == FrameType::R3 {
            Ok(Self::Response(body[..64].try_into()?))
        } else {
            ensure!(frame.kind() == FrameType::R4, "no message of the naive flow: {:?}", frame.kind());
            Ok(Self::Complete(body[0] == 1))
        }
    }
}

/// The record of an advert. Everybody who has read one can make the next.
///
/// # Errors
/// When the system gives no randomness.
pub fn seal(advert: &NaiveAdvert, seq: u64) -> Result<Record> {
    let mut plain = vec![advert.state];
    plain.extend_from_slice(&advert.session);
    plain.extend_from_slice(&advert.tid.0);
    plain.push(u8::try_from(advert.addresses.len())?);
    for address in &advert.addresses {
        let bytes = address.to_bytes();
        plain.push(u8::try_from(bytes.len())?);
        plain.extend_from_slice(&bytes);
    }
    Ok(keys(&advert.session).seal(&plain, seq, TTL, &mut handfast_net::entropy::rng()?))
}

/// What a record says, read by anybody.
///
/// # Errors
/// When it is none of a naive device.
pub fn read(record: &Record) -> Result<NaiveAdvert> {
    let bytes = record.as_bytes();
    let nonce: [u8; 24] = bytes[106..130].try_into()?;
    let aad = [b"handfast/1 adv\0", &record.topic().0[..], &bytes[..42]].concat();
    let plain = XChaCha20Poly1305::new(&PUBLIC_KEY.into())
        .decrypt(&XNonce::from(nonce), Payload { msg: &bytes[130..], aad: &aad })
        .ok()
        .context("not for everybody to read")?;
    let (state, session, tid) = (plain[0], plain[1..17].try_into()?, Tid(plain[17..49].try_into()?));
    let (mut addresses, mut at) = (Vec::new(), 50);
    for _ in 0..plain[49] {
        let length = usize::from(*plain.get(at).context("short")?);
        addresses.push(Address::from_bytes(plain.get(at + 1..at + 1 + length).context("short")?)?);
        at += 1 + length;
    }
    Ok(NaiveAdvert { state, session, tid, addresses })
}

/// The keys of a session's record, from what stands in it.
fn keys(session: &[u8; 16]) -> RecordKeys {
    RecordKeys::new(&Secret::new(Sha256::digest(session).into()), Secret::new(PUBLIC_KEY))
}

/// The initiator's side of one stream: whoever signs the challenge with the key it declared is paired.
fn initiate(peer: &Peer, stream: StreamId, session: [u8; 16], own: &Message) -> Result<NaivePeer> {
    let Message::Request { session: asked, key, name } = Message::read(&peer.reply(stream, STEP).frame()?)? else {
        anyhow::bail!("no request")
    };
    ensure!(asked == session, "another session");
    peer.send(stream, vec![own.frame()?])?;
    let Message::Challenge { challenge, .. } = own else { anyhow::bail!("no challenge") };
    let Message::Response(signature) = Message::read(&peer.reply(stream, STEP).frame()?)? else {
        anyhow::bail!("no response")
    };
    VerifyingKey::from_bytes(&key)?.verify_strict(challenge, &Signature::from_bytes(&signature))?;
    peer.send(stream, vec![Message::Complete(true).frame()?])?;
    Ok(NaivePeer { key, name })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Message, NaiveAdvert, OPEN, read, seal};
    use handfast_proto::id::Tid;

    #[test]
    fn messages_survive_their_frames() {
        let (key, name) = ([7; 32], "alice".to_owned());
        for message in [
            Message::Request { session: [1; 16], key, name: name.clone() },
            Message::Challenge { challenge: [2; 32], key, name },
            Message::Response([3; 64]),
            Message::Complete(true),
            Message::Complete(false),
        ] {
            assert_eq!(Message::read(&message.frame().expect("it fits")).expect("a message"), message);
        }
    }

    #[test]
    fn anybody_reads_a_record_and_makes_the_next() {
        let addresses = vec!["/ip4/5.1.1.2/tcp/7".parse().expect("an address")];
        let advert = NaiveAdvert { state: OPEN, session: [5; 16], tid: Tid([9; 32]), addresses };
        let record = seal(&advert, 1).expect("sealed");
        let seen = read(&record).expect("readable");
        assert_eq!(seen, advert);
        assert_eq!(seal(&seen, 2).expect("sealed").topic(), record.topic());
    }
}
