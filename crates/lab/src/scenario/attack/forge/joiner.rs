//! The attacker as a joiner: who knows the code, and breaks one rule at a time.

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use handfast_proto::id::{DeviceKey, PairingId, Tid};
use handfast_proto::link::hello::Bond;
use handfast_proto::secret::Secret;
use handfast_proto::wire::frames::Frame;

use super::noise::{Cipher, Ephemeral, Symmetric};
use super::{
    Claim, CodeSecrets, H1, H3, H5, IDENTITY_LEN, P1, RESUME, WORDS, channel_binding, digest, frame, info, label,
    labelled, lp, p1_tag, pair_secret, prologue, random,
};

/// How P1 is made; an honest one by default.
pub(crate) struct Opening {
    /// How many versions it says it offers, and the eight bytes of the list.
    pub(crate) versions: (u8, [u8; 8]),
    /// The mode byte.
    pub(crate) mode: u8,
    /// A point of small order in place of the ephemeral key.
    pub(crate) low_order: Option<[u8; 32]>,
    /// A tag in place of the right one.
    pub(crate) tag: Option<[u8; 16]>,
}

/// A handshake of which P1 and H1 are made.
#[derive(Clone)]
pub(crate) struct Started {
    noise: Symmetric,
    ephemeral: Ephemeral,
    challenge_j: [u8; 32],
    r_j: [u8; 32],
    /// P1 and H1.
    pub(crate) frames: Vec<Frame>,
}

/// A handshake after H2.
#[derive(Clone)]
pub(crate) struct Proved {
    send: Cipher,
    receive: Cipher,
    /// The handshake hash.
    pub(crate) h: [u8; 32],
    pub(crate) challenge_j: [u8; 32],
    pub(crate) challenge_i: [u8; 32],
    r_j: [u8; 32],
    /// The status of H2.
    pub(crate) status: u8,
    share: [u8; 32],
    dik: [u8; 32],
}

/// What H4 said.
pub(crate) struct Answer {
    /// 0 is an offer; what else there is then is not zero.
    pub(crate) status: u8,
    pub(crate) dik: [u8; 32],
    share: [u8; 32],
    pub(crate) pairing_id: [u8; 16],
    hash: [u8; 32],
}

impl Default for Opening {
    fn default() -> Self {
        Self { versions: (1, [1, 0, 0, 0, 0, 0, 0, 0]), mode: WORDS, low_order: None, tag: None }
    }
}

impl Started {
    /// P1 and H1 for a connection between `own` and `initiator`.
    pub(crate) fn new(code: &CodeSecrets, own: Tid, initiator: Tid, opening: &Opening) -> Result<Self> {
        let cb = channel_binding(own, initiator);
        let (rnd, r_j, challenge_j) = (random::<32>()?, random::<32>()?, random::<32>()?);
        let mut p1 = b"HFPR".to_vec();
        p1.push(opening.versions.0);
        p1.extend_from_slice(&opening.versions.1);
        p1.push(opening.mode);
        p1.extend_from_slice(&opening.tag.map_or_else(|| p1_tag(code, &cb, &rnd), Ok)?);
        p1.extend_from_slice(&rnd);
        p1.extend_from_slice(&labelled("commit", &[&r_j, &rnd]));
        let mut noise = Symmetric::new(&prologue(1, opening.mode, &cb, &p1));
        noise.mix_key_and_hash(&code.psk)?;
        let ephemeral = opening.low_order.map_or_else(Ephemeral::new, Ephemeral::low_order)?;
        noise.mix_hash(&ephemeral.public);
        noise.mix_key(&ephemeral.public)?;
        let h1 = [&ephemeral.public[..], &noise.seal(&challenge_j)?].concat();
        let frames = vec![frame(P1, &p1)?, frame(H1, &h1)?];
        Ok(Self { noise, ephemeral, challenge_j, r_j, frames })
    }

    /// Reads H2.
    ///
    /// An error means that whoever made it does not know the code.
    pub(crate) fn read_h2(mut self, h2: &Frame) -> Result<Proved> {
        let (other, sealed) = h2.body().split_at_checked(32).context("H2 is short")?;
        let other: [u8; 32] = other.try_into()?;
        self.noise.mix_hash(&other);
        self.noise.mix_key(&other)?;
        let shared = self.ephemeral.shared(&other);
        self.noise.mix_key(&shared)?;
        let plain = self.noise.open(sealed)?;
        let (status, challenge_i) = plain.split_first().context("H2 is empty")?;
        let (h, send, receive) = self.noise.split()?;
        Ok(Proved {
            send,
            receive,
            h,
            challenge_j: self.challenge_j,
            challenge_i: challenge_i.try_into()?,
            r_j: self.r_j,
            status: *status,
            share: random()?,
            dik: [0; 32],
        })
    }
}

impl Proved {
    /// What an honest joiner with `identity` and `name` would say in H3.
    pub(crate) fn claim(&self, identity: &SigningKey, name: &str) -> Claim {
        let dik = identity.verifying_key().to_bytes();
        let claim = Claim {
            dik,
            signer: identity.clone(),
            label: "sig J",
            signed: Vec::new(),
            borrowed: None,
            share: self.share,
            info: info(name.as_bytes()),
        };
        Claim { signed: self.signed(&dik, &claim.info), ..claim }
    }

    /// Everything that an honest signature covers after its label.
    pub(crate) fn signed(&self, dik: &[u8; 32], info: &[u8]) -> Vec<u8> {
        [&self.h[..], &self.challenge_i, &self.challenge_j, &lp(dik), &digest(&[info]), &self.share].concat()
    }

    /// H3 of a claim.
    pub(crate) fn h3(&mut self, claim: &Claim) -> Result<Frame> {
        self.h3_padded(claim, 0)
    }

    /// H3 of a claim whose padding has `last` as its last byte.
    pub(crate) fn h3_padded(&mut self, claim: &Claim, last: u8) -> Result<Frame> {
        self.dik = claim.dik;
        let mut plain = [&claim.dik[..], &claim.share, &self.r_j, &claim.signature(), &lp(&claim.info)].concat();
        ensure!(plain.len() < IDENTITY_LEN, "too much to say: {}", plain.len());
        plain.resize(IDENTITY_LEN - 1, 0);
        plain.push(last);
        frame(H3, &self.send.seal(&plain, &[])?)
    }

    /// Reads H4.
    pub(crate) fn read_h4(&mut self, h4: &Frame) -> Result<Answer> {
        let plain = self.receive.open(h4.body(), &[])?;
        ensure!(plain.len() == IDENTITY_LEN, "H4 has {} bytes", plain.len());
        Ok(Answer {
            status: plain[0],
            dik: plain[1..33].try_into()?,
            share: plain[33..65].try_into()?,
            pairing_id: plain[65..81].try_into()?,
            hash: digest(&[h4.body()]),
        })
    }

    /// H5: 1 for stored, 0 for declined.
    pub(crate) fn h5(&mut self, verdict: u8, answer: &Answer) -> Result<Frame> {
        frame(H5, &self.send.seal(&[&[verdict], &answer.hash[..]].concat(), &[])?)
    }

    /// Whether this is the H6 that follows `h5`.
    pub(crate) fn read_h6(&mut self, h5: &Frame, h6: &Frame) -> Result<()> {
        let plain = self.receive.open(h6.body(), &[])?;
        ensure!(plain == [&[2], &digest(&[h5.body()])[..]].concat(), "H6 confirms something else");
        Ok(())
    }

    /// What names this handshake on a new connection.
    pub(crate) fn resume(&self) -> Result<Frame> {
        frame(RESUME, &digest(&[&label("resume"), &self.h]))
    }

    /// What the pairing gives for later hellos.
    pub(crate) fn bond(&self, answer: &Answer) -> Result<Bond> {
        let secret = pair_secret(&self.h, (&self.share, &self.dik), (&answer.share, &answer.dik), &answer.pairing_id)?;
        Ok(Bond::new(PairingId(answer.pairing_id), DeviceKey(answer.dik), &Secret::new(secret)))
    }
}
