//! The attacker as an initiator: who lures a joiner that follows every rule, and breaks one at a time.

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::SigningKey;
use handfast_proto::id::{DeviceKey, PairingId, Tid};
use handfast_proto::link::hello::Bond;
use handfast_proto::secret::Secret;
use handfast_proto::wire::frames::Frame;

use super::noise::{Cipher, Ephemeral, Symmetric};
use super::{
    Claim, CodeSecrets, H2, H4, H6, IDENTITY_LEN, channel_binding, digest, frame, info, lp, pair_secret, prologue,
    random,
};

/// Where the mode byte stands in P1.
const MODE_AT: usize = 13;

/// A handshake of which P1 and H1 were right.
pub(crate) struct Asked {
    noise: Symmetric,
    e_j: [u8; 32],
    challenge_j: [u8; 32],
}

/// What a joiner said in H3.
pub(crate) struct Said {
    pub(crate) dik: [u8; 32],
    pub(crate) share: [u8; 32],
    pub(crate) signature: [u8; 64],
    pub(crate) info: Vec<u8>,
}

/// A handshake after H2.
pub(crate) struct Proved {
    send: Cipher,
    receive: Cipher,
    h: [u8; 32],
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    /// The joiner's identity key, known after H3.
    pub(crate) dik_j: [u8; 32],
    share_j: [u8; 32],
    h3: [u8; 32],
    share: [u8; 32],
    dik: [u8; 32],
    /// The name that the pairing gets.
    pub(crate) pairing_id: [u8; 16],
}

impl Asked {
    /// Reads P1 and H1 as they came from `joiner`.
    ///
    /// An error means that the joiner does not know the code.
    pub(crate) fn read(code: &CodeSecrets, joiner: Tid, own: Tid, p1: &Frame, h1: &Frame) -> Result<Self> {
        let cb = channel_binding(joiner, own);
        let mode = *p1.body().get(MODE_AT).context("P1 is short")?;
        let mut noise = Symmetric::new(&prologue(1, mode, &cb, p1.body()));
        noise.mix_key_and_hash(&code.psk)?;
        let (e_j, sealed) = h1.body().split_at_checked(32).context("H1 is short")?;
        noise.mix_hash(e_j);
        noise.mix_key(e_j)?;
        let challenge_j = noise.open(sealed)?.as_slice().try_into()?;
        Ok(Self { noise, e_j: e_j.try_into()?, challenge_j })
    }

    /// H2 with `status`; the ephemeral key is a point of small order if one is given.
    pub(crate) fn h2(mut self, status: u8, low_order: Option<[u8; 32]>) -> Result<(Proved, Frame)> {
        let ephemeral = low_order.map_or_else(Ephemeral::new, Ephemeral::low_order)?;
        let challenge_i: [u8; 32] = random()?;
        self.noise.mix_hash(&ephemeral.public);
        self.noise.mix_key(&ephemeral.public)?;
        let shared = if low_order.is_some() { [0; 32] } else { ephemeral.shared(&self.e_j) };
        self.noise.mix_key(&shared)?;
        let sealed = self.noise.seal(&[&[status], &challenge_i[..]].concat())?;
        let h2 = frame(H2, &[&ephemeral.public[..], &sealed].concat())?;
        let (h, receive, send) = self.noise.split()?;
        let proved = Proved {
            send,
            receive,
            h,
            challenge_j: self.challenge_j,
            challenge_i,
            dik_j: [0; 32],
            share_j: [0; 32],
            h3: [0; 32],
            share: random()?,
            dik: [0; 32],
            pairing_id: random()?,
        };
        Ok((proved, h2))
    }
}

impl Proved {
    /// Reads H3, believing whatever it says; gives all that could be said again elsewhere.
    pub(crate) fn read_h3(&mut self, h3: &Frame) -> Result<Said> {
        let plain = self.receive.open(h3.body(), &[])?;
        ensure!(plain.len() == IDENTITY_LEN, "H3 has {} bytes", plain.len());
        self.dik_j = plain[..32].try_into()?;
        self.share_j = plain[32..64].try_into()?;
        self.h3 = digest(&[h3.body()]);
        let length = usize::from(u16::from_be_bytes([plain[160], plain[161]]));
        let info = plain.get(162..162 + length).context("the info of H3 is too long")?.to_vec();
        Ok(Said { dik: self.dik_j, share: self.share_j, signature: plain[96..160].try_into()?, info })
    }

    /// What an honest initiator with `identity` and `name` would say in H4.
    pub(crate) fn claim(&self, identity: &SigningKey, name: &str) -> Claim {
        let dik = identity.verifying_key().to_bytes();
        let info = info(name.as_bytes());
        let signed = self.signed(&dik, &self.dik_j, &info);
        Claim { dik, signer: identity.clone(), label: "sig I", signed, borrowed: None, share: self.share, info }
    }

    /// Everything that an honest signature covers after its label.
    pub(crate) fn signed(&self, dik: &[u8; 32], dik_j: &[u8; 32], info: &[u8]) -> Vec<u8> {
        [
            &self.h[..],
            &self.challenge_j,
            &self.challenge_i,
            &lp(dik),
            &lp(dik_j),
            &self.h3,
            &digest(&[info]),
            &self.share,
            &self.pairing_id,
        ]
        .concat()
    }

    /// H4 of a claim.
    pub(crate) fn h4(&mut self, claim: &Claim) -> Result<Frame> {
        self.dik = claim.dik;
        let mut plain =
            [&[0], &claim.dik[..], &claim.share, &self.pairing_id, &claim.signature(), &lp(&claim.info)].concat();
        ensure!(plain.len() <= IDENTITY_LEN, "too much to say: {}", plain.len());
        plain.resize(IDENTITY_LEN, 0);
        frame(H4, &self.send.seal(&plain, &[])?)
    }

    /// Reads H5, which must be about `h4`: the verdict.
    pub(crate) fn read_h5(&mut self, h4: &Frame, h5: &Frame) -> Result<u8> {
        let plain = self.receive.open(h5.body(), &[])?;
        let (verdict, hash) = plain.split_first().context("H5 is empty")?;
        ensure!(hash == digest(&[h4.body()]), "H5 is about another H4");
        Ok(*verdict)
    }

    /// H6.
    pub(crate) fn h6(&mut self, h5: &Frame) -> Result<Frame> {
        frame(H6, &self.send.seal(&[&[2], &digest(&[h5.body()])[..]].concat(), &[])?)
    }

    /// The joiner's challenge.
    pub(crate) const fn challenge_j(&self) -> &[u8; 32] {
        &self.challenge_j
    }

    /// What the pairing gives for later hellos.
    pub(crate) fn bond(&self) -> Result<Bond> {
        let secret = pair_secret(&self.h, (&self.share_j, &self.dik_j), (&self.share, &self.dik), &self.pairing_id)?;
        Ok(Bond::new(PairingId(self.pairing_id), DeviceKey(self.dik_j), &Secret::new(secret)))
    }
}
