//! The core handshake (section 7): Noise NNpsk0 keyed by the code, then identities and signatures of both sides.
//!
//! States are types that are consumed by the frame they wait for, so a message out of order cannot be expressed. Nothing
//! here waits, retries or stores: that is `session`'s.

pub mod initiator;
pub mod joiner;
mod noise;

use crate::crypto::{self, Kdf};
use crate::id::{DeviceKey, PairingId, Tid};
use crate::secret::Secret;
use crate::wire::info::DeviceInfo;
use crate::wire::{Malformed, Reader, put_lp};

/// The protocol version spoken here.
pub const VERSION: u8 = 1;
/// `kind` of a channel binding made of both transport keys.
const CB_TIDS: u8 = 1;
/// Plaintext size of H3 and H4.
const IDENTITY_PLAIN_LEN: usize = 688;

/// How the joiner got the code; part of what both sides prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A QR text, which also pins the transport key.
    Qr,
    /// Twelve words.
    Words,
}

/// What P1 proposes, as its mode byte says it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Proposal {
    /// A code, and on top of it a comparison if the joiner asks for one.
    Code { mode: Mode, verify: bool },
    /// No code: the comparison is all there is.
    Nearby,
}

/// The bit of the mode byte by which a joiner asks for a comparison.
const VERIFY_BIT: u8 = 0x80;

impl Proposal {
    fn byte(self) -> u8 {
        match self {
            Proposal::Code { mode, verify } => {
                let mode = match mode {
                    Mode::Qr => 1,
                    Mode::Words => 2,
                };
                if verify { mode | VERIFY_BIT } else { mode }
            }
            Proposal::Nearby => 3,
        }
    }

    /// Unknown modes are refused. Mode 3 always compares, so it has no bit to ask for that.
    fn from_byte(byte: u8) -> Result<Proposal, Malformed> {
        let verify = byte & VERIFY_BIT != 0;
        match byte & !VERIFY_BIT {
            1 => Ok(Proposal::Code { mode: Mode::Qr, verify }),
            2 => Ok(Proposal::Code { mode: Mode::Words, verify }),
            3 if !verify => Ok(Proposal::Nearby),
            _ => Err(Malformed),
        }
    }

    /// Whether both people must compare, whatever the initiator thinks.
    fn compares(self) -> bool {
        match self {
            Proposal::Code { verify, .. } => verify,
            Proposal::Nearby => true,
        }
    }
}

/// Status of H2: go on.
const GO_ON: u8 = 0;
/// Status of H2: go on with a comparison.
const COMPARE: u8 = 1;

/// Why the initiator does not go on with somebody who proved the code (status of H2, section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The life of the code has ended.
    Expired,
    /// The code has been used.
    Used,
    /// Its owner withdrew it.
    Cancelled,
    /// Another joiner is being served.
    Busy,
    /// Three failed proofs.
    Burned,
}

impl Refusal {
    fn byte(self) -> u8 {
        match self {
            Refusal::Expired => 16,
            Refusal::Used => 17,
            Refusal::Cancelled => 18,
            Refusal::Busy => 19,
            Refusal::Burned => 20,
        }
    }

    fn from_byte(byte: u8) -> Option<Refusal> {
        [Refusal::Expired, Refusal::Used, Refusal::Cancelled, Refusal::Busy, Refusal::Burned]
            .into_iter()
            .find(|r| r.byte() == byte)
    }
}

/// Why the initiator ends the handshake in H4 without an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Its person said no.
    Denied,
    /// It failed itself (its store, say).
    Failed,
    /// Its person did not answer in time.
    Unanswered,
    /// Its person withdrew the code.
    Cancelled,
}

impl Denial {
    fn byte(self) -> u8 {
        match self {
            Denial::Denied => 1,
            Denial::Failed => 2,
            Denial::Unanswered => 3,
            Denial::Cancelled => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Denial> {
        [Denial::Denied, Denial::Failed, Denial::Unanswered, Denial::Cancelled].into_iter().find(|d| d.byte() == byte)
    }
}

/// A frame that did not prove what it had to, or is not what its layout says. The stream is closed without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not the frame or layout that was due.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The frame came, and its proof is wrong: a guess, a replay or a man in the middle.
    #[error("the proof of the code or of the key is wrong")]
    Proof,
}

/// What both sides store once their person agreed: the peer and the secret they share.
#[derive(Clone)]
pub struct Agreement {
    /// Name of the pairing.
    pub pairing_id: PairingId,
    /// The peer's identity key.
    pub peer: DeviceKey,
    /// What the peer says of itself.
    pub info: DeviceInfo,
    /// Key material of the pairing (section 10.1).
    pub pair_secret: Secret<32>,
}

/// `cb`: binds everything that follows to the two transport keys of this connection, as the transport verified them.
pub(crate) fn channel_binding(joiner: Tid, initiator: Tid) -> [u8; 32] {
    crypto::hash("cb", &[&[CB_TIDS], &joiner.0, &initiator.0])
}

/// What both sides must agree on before the first Noise message. `p2` is empty in modes that have none.
fn prologue(proposal: Proposal, cb: &[u8; 32], p1: &[u8], p2: &[u8]) -> Vec<u8> {
    let mut out = crypto::label("prologue");
    out.push(VERSION);
    out.push(proposal.byte());
    put_lp(&mut out, cb);
    put_lp(&mut out, p1);
    put_lp(&mut out, p2);
    out
}

/// `H(L("sas psk") ‖ P1 ‖ P2)`: the psk of mode 3. It is public and authenticates nothing; the comparison does.
fn nearby_psk(p1: &[u8], p2: &[u8]) -> Secret<32> {
    Secret::new(crypto::hash("sas psk", &[p1, p2]))
}

/// `C_J = H(L("commit") ‖ r_J ‖ rnd_J)`.
fn commitment(r: &[u8; 32], rnd: &[u8; 32]) -> [u8; 32] {
    crypto::hash("commit", &[r, rnd])
}

/// `H(L("resume") ‖ h)`: what names a handshake whose connection was lost.
fn resume_token(h: &[u8; 32]) -> [u8; 32] {
    crypto::hash("resume", &[h])
}

fn pair_secret(
    h: &[u8; 32],
    s_j: &Secret<32>,
    s_i: &Secret<32>,
    dik_j: &DeviceKey,
    dik_i: &DeviceKey,
    pairing_id: &PairingId,
) -> Secret<32> {
    let mut shares = zeroize::Zeroizing::new(Vec::with_capacity(64));
    shares.extend_from_slice(s_j.expose());
    shares.extend_from_slice(s_i.expose());
    Kdf::extract(h, &shares).expand("pair", &[&dik_j.0, &dik_i.0, &pairing_id.0])
}

/// Everything `sig J` covers, in order.
struct SigJ<'a> {
    h: &'a [u8; 32],
    challenge_i: &'a [u8; 32],
    challenge_j: &'a [u8; 32],
    dik_j: DeviceKey,
    info: &'a [u8],
    s_j: &'a Secret<32>,
}

impl SigJ<'_> {
    fn with<T>(&self, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let info = crypto::digest(&[self.info]);
        f(&[self.h, self.challenge_i, self.challenge_j, &crypto::lp(&self.dik_j.0), &info, self.s_j.expose()])
    }
}

/// Everything `sig I` covers, in order.
struct SigI<'a> {
    h: &'a [u8; 32],
    challenge_j: &'a [u8; 32],
    challenge_i: &'a [u8; 32],
    dik_i: DeviceKey,
    dik_j: DeviceKey,
    h3: &'a [u8],
    info: &'a [u8],
    s_i: &'a Secret<32>,
    pairing_id: PairingId,
}

impl SigI<'_> {
    fn with<T>(&self, f: impl FnOnce(&[&[u8]]) -> T) -> T {
        let (h3, info) = (crypto::digest(&[self.h3]), crypto::digest(&[self.info]));
        f(&[
            self.h,
            self.challenge_j,
            self.challenge_i,
            &crypto::lp(&self.dik_i.0),
            &crypto::lp(&self.dik_j.0),
            &h3,
            &info,
            self.s_i.expose(),
            &self.pairing_id.0,
        ])
    }
}

/// Zero-pads the plaintext of H3 or H4.
fn pad_identity(mut plain: Vec<u8>) -> Vec<u8> {
    plain.resize(IDENTITY_PLAIN_LEN, 0);
    plain
}

/// `lp(info)` and nothing but zeros behind it.
fn read_info<'a>(mut reader: Reader<'a>) -> Result<&'a [u8], Malformed> {
    let info = reader.lp(crate::wire::info::MAX_INFO_LEN)?;
    reader.zeros()?;
    Ok(info)
}

#[cfg(test)]
mod tests;
