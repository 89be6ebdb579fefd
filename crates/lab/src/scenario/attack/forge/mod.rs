//! The attacker's own implementation of the protocol, written from `docs/protocol.md` and not from the code under test,
//! so that every field of every message can be made wrong on purpose, and a mistake in a label shows as two programs
//! that do not understand each other.

pub(crate) mod initiator;
pub(crate) mod joiner;
mod noise;

use anyhow::{Context as _, Result};
use ed25519_dalek::{Signer as _, SigningKey};
use handfast_proto::addr::Address;
use handfast_proto::id::{DeviceKey, Tid};
use handfast_proto::wire::frames::Frame;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Type bytes of the handshake's frames (protocol section 7).
pub(crate) const P1: u8 = 0x01;
pub(crate) const H1: u8 = 0x11;
pub(crate) const H2: u8 = 0x12;
pub(crate) const H3: u8 = 0x14;
pub(crate) const H4: u8 = 0x15;
pub(crate) const H5: u8 = 0x16;
pub(crate) const H6: u8 = 0x17;
pub(crate) const RESUME: u8 = 0x18;

/// The mode of a code entered as words, and as a QR text.
pub(crate) const WORDS: u8 = 2;
pub(crate) const QR: u8 = 1;

/// Plaintext of H3 and H4.
const IDENTITY_LEN: usize = 688;

/// What a code gives to whoever knows it (protocol section 3).
#[derive(Clone)]
pub(crate) struct CodeSecrets {
    pub(crate) psk: [u8; 32],
    pub(crate) tag: [u8; 32],
    pub(crate) adv_sig: [u8; 32],
    pub(crate) lan: [u8; 32],
    pub(crate) confirm: [u8; 32],
}

/// What one side says of itself in H3 or H4 and how it signs that. Made right; the attack then makes it wrong.
pub(crate) struct Claim {
    /// The identity key it shows.
    pub(crate) dik: [u8; 32],
    /// The key it signs with.
    pub(crate) signer: SigningKey,
    /// The label of the signature, without the protocol's name.
    pub(crate) label: &'static str,
    /// What the signature covers after the label.
    pub(crate) signed: Vec<u8>,
    /// A signature that somebody else made, in place of one of its own.
    pub(crate) borrowed: Option<[u8; 64]>,
    /// Its share of the pairing's secret.
    pub(crate) share: [u8; 32],
    /// The TLVs.
    pub(crate) info: Vec<u8>,
}

impl CodeSecrets {
    /// From the 16 bytes of the code.
    pub(crate) fn of(entropy: &[u8]) -> Result<Self> {
        let (_, schedule) = Hkdf::<Sha256>::extract(Some(&label("code")), entropy);
        let key = |name: &str| -> Result<[u8; 32]> {
            let mut key = [0; 32];
            schedule.expand(&label(name), &mut key).ok().context("HKDF gives 32 bytes")?;
            Ok(key)
        };
        Ok(Self {
            psk: key("psk")?,
            tag: key("tag")?,
            adv_sig: key("adv sig")?,
            lan: key("lan")?,
            confirm: key("confirm")?,
        })
    }

    /// The secrets of a code that nobody has.
    pub(crate) fn wrong() -> Result<Self> {
        Self::of(&random::<16>()?)
    }
}

impl Claim {
    fn signature(&self) -> [u8; 64] {
        if let Some(signature) = self.borrowed {
            return signature;
        }
        let mut message = if self.label.is_empty() { Vec::new() } else { label(self.label) };
        message.extend_from_slice(&self.signed);
        self.signer.sign(&message).to_bytes()
    }
}

/// `handfast/1 NAME` and one zero byte.
pub(crate) fn label(name: &str) -> Vec<u8> {
    [b"handfast/1 ", name.as_bytes(), &[0]].concat()
}

/// SHA-256 of the parts.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// SHA-256 of the label and the parts.
pub(crate) fn labelled(name: &str, parts: &[&[u8]]) -> [u8; 32] {
    digest(&[&label(name), &parts.concat()])
}

/// HMAC-SHA-256.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Result<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok().context("HMAC takes any key")?;
    mac.update(message);
    Ok(mac.finalize().into_bytes().into())
}

/// `lp(x)`.
pub(crate) fn lp(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    Ok(handfast_net::entropy::rng()?.bytes())
}

/// A fresh identity.
pub(crate) fn identity() -> Result<SigningKey> {
    Ok(SigningKey::from_bytes(&random()?))
}

/// The device id of an identity key.
pub(crate) fn id_of(key: &SigningKey) -> String {
    DeviceKey(key.verifying_key().to_bytes()).id().0
}

/// The channel binding of a connection.
pub(crate) fn channel_binding(joiner: Tid, initiator: Tid) -> [u8; 32] {
    labelled("cb", &[&[1], &joiner.0, &initiator.0])
}

/// The tag of P1.
pub(crate) fn p1_tag(code: &CodeSecrets, cb: &[u8; 32], rnd: &[u8; 32]) -> Result<[u8; 16]> {
    let mac = hmac(&code.tag, &[&label("p1")[..], cb, rnd].concat())?;
    Ok(mac[..16].try_into()?)
}

/// The input of Noise that both sides must agree on.
fn prologue(version: u8, mode: u8, cb: &[u8; 32], p1: &[u8]) -> Vec<u8> {
    [&label("prologue")[..], &[version, mode], &lp(cb), &lp(p1), &lp(&[])].concat()
}

/// The TLVs of an honest device.
pub(crate) fn info(name: &[u8]) -> Vec<u8> {
    [tlv(1, name), tlv(2, b"computer")].concat()
}

/// One TLV; a value longer than 255 bytes is cut.
pub(crate) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let value = &value[..value.len().min(255)];
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    [&[kind, length], value].concat()
}

/// A frame of any type this protocol has; the body must have its size.
pub(crate) fn frame(kind: u8, body: &[u8]) -> Result<Frame> {
    Frame::from_rest(&[&[kind], body].concat()).with_context(|| format!("no frame: type {kind:02x}, {}", body.len()))
}

/// The frame with one bit of its body changed.
pub(crate) fn flipped(original: &Frame, at: usize) -> Result<Frame> {
    let mut body = original.body().to_vec();
    *body.get_mut(at).context("no such byte")? ^= 1;
    frame(original.kind().byte(), &body)
}

/// The secret of a pairing and what the hello needs besides.
pub(crate) fn pair_secret(
    h: &[u8; 32],
    (share_j, dik_j): (&[u8; 32], &[u8; 32]),
    (share_i, dik_i): (&[u8; 32], &[u8; 32]),
    pairing_id: &[u8; 16],
) -> Result<[u8; 32]> {
    let shares = [&share_j[..], share_i].concat();
    let (_, schedule) = Hkdf::<Sha256>::extract(Some(h), &shares);
    let mut secret = [0; 32];
    let info = [&label("pair")[..], dik_j, dik_i, pairing_id].concat();
    schedule.expand(&info, &mut secret).ok().context("HKDF gives 32 bytes")?;
    Ok(secret)
}

/// An advert as bytes, each address given as the bytes of its multiaddr: whatever stands there is sealed.
pub(crate) fn advert(version: u8, state: u8, tid: Tid, count: u8, addresses: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut out = vec![version, state, 0, 0, 0, 0];
    out.extend_from_slice(&tid.0);
    out.push(count);
    for address in addresses {
        out.extend_from_slice(&lp(address));
    }
    out.push(0);
    out.extend_from_slice(&random::<16>()?);
    Ok(out)
}

/// An honest open advert.
pub(crate) fn open_advert(tid: Tid, addresses: &[Address]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = addresses.iter().map(Address::to_bytes).collect();
    advert(1, 0, tid, u8::try_from(bytes.len())?, &bytes)
}

/// An advert that says that the code is over.
pub(crate) fn tombstone(state: u8) -> Result<Vec<u8>> {
    advert(1, state, Tid([0; 32]), 0, &[])
}

/// The addresses that stand in an open advert.
pub(crate) fn addresses_in(plain: &[u8]) -> Result<Vec<Address>> {
    let (mut addresses, mut at) = (Vec::new(), 39);
    for _ in 0..*plain.get(38).context("a short advert")? {
        let length: [u8; 2] = plain.get(at..at + 2).context("a short advert")?.try_into()?;
        let end = at + 2 + usize::from(u16::from_be_bytes(length));
        addresses.push(Address::from_bytes(plain.get(at + 2..end).context("a short advert")?)?);
        at = end;
    }
    Ok(addresses)
}
