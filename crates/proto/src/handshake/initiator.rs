//! The initiator's half of the handshake. It says nothing a guesser could test before the guess has been counted.

use crate::crypto;
use crate::handshake::joiner::{P1_MAGIC, expect};
use crate::handshake::noise::{Noise, Sealed};
use crate::handshake::{
    Agreement, Denial, HandshakeError, Mode, Refusal, SigI, SigJ, VERSION, channel_binding, commitment, pad_identity,
    pair_secret, prologue, read_info, resume_token,
};
use crate::id::{DeviceKey, Identity, PairingId, Tid};
use crate::keys::CodeKeys;
use crate::secret::{Rng, Secret, ct_eq};
use crate::wire::frames::{Frame, FrameType};
use crate::wire::info::DeviceInfo;
use crate::wire::{Malformed, Reader, put_lp};

/// A P1 of right layout. Its tag tells which code it means, if any.
pub struct P1 {
    mode: Mode,
    tag: [u8; 16],
    rnd_j: [u8; 32],
    commitment: [u8; 32],
    cb: [u8; 32],
    body: Vec<u8>,
}

/// Somebody proved the code; the initiator decides whether to go on.
pub struct ReceivedH1 {
    noise: Noise,
    challenge_j: [u8; 32],
    rnd_j: [u8; 32],
    commitment: [u8; 32],
}

/// H2 said "go on"; H3 is due.
pub struct SentH2 {
    sealed: Sealed,
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    rnd_j: [u8; 32],
    commitment: [u8; 32],
}

/// The joiner proved its identity; our person has not answered yet.
pub struct ReceivedH3 {
    sealed: Sealed,
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    s_j: Secret<32>,
    peer: DeviceKey,
    info: DeviceInfo,
    h3: Vec<u8>,
}

/// We stored a pending pairing and offered it; H5 is due.
pub struct SentH4 {
    sealed: Sealed,
    h4_hash: [u8; 32],
}

/// What H5 said.
pub enum H5 {
    /// The joiner holds the pairing: store it and confirm with [`ReceivedH5::confirm`].
    Stored(Box<ReceivedH5>),
    /// The joiner's person declined.
    Declined,
}

/// The joiner has stored; H6 is ours to send.
pub struct ReceivedH5 {
    sealed: Sealed,
    h5_hash: [u8; 32],
}

impl P1 {
    /// Reads P1 as it came over a connection between `joiner` and us.
    pub fn parse(frame: &Frame, joiner: Tid, own: Tid) -> Result<P1, Malformed> {
        expect(frame, FrameType::P1)?;
        let mut reader = Reader::new(frame.body());
        if reader.array()? != P1_MAGIC {
            return Err(Malformed);
        }
        let n = usize::from(reader.u8()?);
        let versions = reader.array::<8>()?;
        let (offered, padding) = versions.split_at_checked(n).ok_or(Malformed)?;
        if !offered.contains(&VERSION) || padding.iter().any(|b| *b != 0) {
            return Err(Malformed);
        }
        let mode = Mode::from_byte(reader.u8()?)?;
        let (tag, rnd_j, commitment) = (reader.array()?, reader.array()?, reader.array()?);
        reader.end()?;
        let cb = channel_binding(joiner, own);
        Ok(P1 { mode, tag, rnd_j, commitment, cb, body: frame.body().to_vec() })
    }

    /// Whether this P1 was made with the code of `keys`, for this connection.
    pub fn is_for(&self, keys: &CodeKeys) -> bool {
        keys.is_p1_tag(&self.cb, &self.rnd_j, &self.tag)
    }

    /// Takes H1. An error is one failed proof.
    pub fn handle(self, keys: &CodeKeys, frame: &Frame, rng: &mut Rng) -> Result<ReceivedH1, HandshakeError> {
        expect(frame, FrameType::H1)?;
        let P1 { mode, rnd_j, commitment, cb, body, .. } = self;
        let mut noise = Noise::initiator(keys.psk(), &prologue(mode, &cb, &body), rng);
        let challenge_j = noise.read(frame.body())?.try_into().map_err(|_| Malformed)?;
        Ok(ReceivedH1 { noise, challenge_j, rnd_j, commitment })
    }
}

impl ReceivedH1 {
    /// Ends here: H2 with a status that only a code holder can read.
    pub fn refuse(mut self, refusal: Refusal, rng: &mut Rng) -> Frame {
        let challenge_i: [u8; 32] = rng.bytes();
        self.h2(refusal.byte(), &challenge_i)
    }

    /// Goes on: H2.
    pub fn go_on(mut self, rng: &mut Rng) -> (SentH2, Frame) {
        let challenge_i: [u8; 32] = rng.bytes();
        let frame = self.h2(0, &challenge_i);
        let Self { noise, challenge_j, rnd_j, commitment } = self;
        (SentH2 { sealed: noise.finish(), challenge_j, challenge_i, rnd_j, commitment }, frame)
    }

    fn h2(&mut self, status: u8, challenge_i: &[u8; 32]) -> Frame {
        let mut plain = vec![status];
        plain.extend_from_slice(challenge_i);
        Frame::new(FrameType::H2, self.noise.write(&plain))
    }
}

impl SentH2 {
    /// `H(L("resume") ‖ h)`.
    pub fn resume_token(&self) -> [u8; 32] {
        resume_token(self.sealed.h())
    }

    /// Takes H3. An error is one failed proof; `own` is refused as a peer (reflection).
    pub fn handle(mut self, frame: &Frame, own: DeviceKey) -> Result<ReceivedH3, HandshakeError> {
        expect(frame, FrameType::H3)?;
        let plain = self.sealed.read(frame.body())?;
        let mut reader = Reader::new(&plain);
        let peer = DeviceKey(reader.array()?);
        let s_j = Secret::new(reader.array()?);
        let r_j = reader.array()?;
        let signature = reader.array()?;
        let info_bytes = read_info(reader)?;
        let signed = SigJ {
            h: self.sealed.h(),
            challenge_i: &self.challenge_i,
            challenge_j: &self.challenge_j,
            dik_j: peer,
            info: info_bytes,
            s_j: &s_j,
        };
        let opens = ct_eq(&commitment(&r_j, &self.rnd_j), &self.commitment);
        if !opens || peer == own || !signed.with(|parts| peer.verify("sig J", parts, &signature)) {
            return Err(HandshakeError::Proof);
        }
        let info = DeviceInfo::from_bytes(info_bytes)?;
        let Self { sealed, challenge_j, challenge_i, .. } = self;
        Ok(ReceivedH3 { sealed, challenge_j, challenge_i, s_j, peer, info, h3: frame.body().to_vec() })
    }
}

impl ReceivedH3 {
    /// Who asks.
    pub fn peer(&self) -> DeviceKey {
        self.peer
    }

    /// What it says of itself.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// `H(L("resume") ‖ h)`.
    pub fn resume_token(&self) -> [u8; 32] {
        resume_token(self.sealed.h())
    }

    /// Ends here: H4 without our identity.
    pub fn deny(mut self, denial: Denial) -> Frame {
        let plain = pad_identity(vec![denial.byte()]);
        Frame::new(FrameType::H4, self.sealed.write(&plain))
    }

    /// Agrees: what is to be stored, and the H4 to send once it is.
    pub fn allow(mut self, identity: &Identity, info: &DeviceInfo, rng: &mut Rng) -> (SentH4, Frame, Agreement) {
        let s_i: Secret<32> = rng.secret();
        let pairing_id = PairingId(rng.bytes());
        let own = identity.public();
        let info = info.to_bytes();
        let signed = SigI {
            h: self.sealed.h(),
            challenge_j: &self.challenge_j,
            challenge_i: &self.challenge_i,
            dik_i: own,
            dik_j: self.peer,
            h3: &self.h3,
            info: &info,
            s_i: &s_i,
            pairing_id,
        };
        let signature = signed.with(|parts| identity.sign("sig I", parts));
        let mut plain = vec![0];
        plain.extend_from_slice(&own.0);
        plain.extend_from_slice(s_i.expose());
        plain.extend_from_slice(&pairing_id.0);
        plain.extend_from_slice(&signature);
        put_lp(&mut plain, &info);
        let pair_secret = pair_secret(self.sealed.h(), &self.s_j, &s_i, &self.peer, &own, &pairing_id);
        let body = self.sealed.write(&pad_identity(plain));
        let h4_hash = crypto::digest(&[&body]);
        let Self { sealed, peer, info, .. } = self;
        let agreement = Agreement { pairing_id, peer, info, pair_secret };
        (SentH4 { sealed, h4_hash }, Frame::new(FrameType::H4, body), agreement)
    }
}

impl SentH4 {
    /// Takes H5.
    pub fn handle(mut self, frame: &Frame) -> Result<H5, HandshakeError> {
        expect(frame, FrameType::H5)?;
        let plain = self.sealed.read(frame.body())?;
        let mut reader = Reader::new(&plain);
        let verdict = reader.u8()?;
        if !ct_eq(&reader.array::<32>()?, &self.h4_hash) {
            return Err(HandshakeError::Proof);
        }
        reader.end()?;
        match verdict {
            0 => Ok(H5::Declined),
            1 => {
                let h5_hash = crypto::digest(&[frame.body()]);
                Ok(H5::Stored(Box::new(ReceivedH5 { sealed: self.sealed, h5_hash })))
            }
            _ => Err(HandshakeError::Malformed(Malformed)),
        }
    }
}

impl ReceivedH5 {
    /// Confirms that both have stored: H6.
    pub fn confirm(mut self) -> Frame {
        let mut plain = vec![2];
        plain.extend_from_slice(&self.h5_hash);
        Frame::new(FrameType::H6, self.sealed.write(&plain))
    }
}
