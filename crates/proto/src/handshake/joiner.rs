//! The joiner's half of the handshake. It proves the code first and its identity second, and believes an initiator only
//! after both proofs came back.

use crate::crypto;
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

/// First bytes of P1.
pub(super) const P1_MAGIC: [u8; 4] = *b"HFPR";

/// P1 and H1 are sent; H2 is due.
pub struct SentH1 {
    noise: Noise,
    challenge_j: [u8; 32],
    r_j: [u8; 32],
}

/// What H2 said.
pub enum H2 {
    /// The initiator proved the code and goes on.
    GoOn(Box<ProvedCode>),
    /// The initiator proved the code and will not go on.
    Refused(Refusal),
}

/// Both sides proved the code; H3 may be sent.
pub struct ProvedCode {
    sealed: Sealed,
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    r_j: [u8; 32],
}

/// H3 is sent; H4 is due.
pub struct SentH3 {
    sealed: Sealed,
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    s_j: Secret<32>,
    own: DeviceKey,
    h3: Vec<u8>,
}

/// What H4 said.
pub enum H4 {
    /// The initiator's person allowed us and the initiator holds a pending pairing: now ours is asked.
    Offer(Box<ReceivedH4>),
    /// The initiator ends here.
    Denied(Denial),
}

/// A valid offer that our person has not answered yet.
pub struct ReceivedH4 {
    sealed: Sealed,
    agreement: Agreement,
    h4_hash: [u8; 32],
}

/// We stored a pending pairing and said so; H6 is due.
pub struct SentH5 {
    sealed: Sealed,
    h5_hash: [u8; 32],
}

/// Starts a handshake on a connection between `own` and `initiator`: the two frames of the first write.
pub fn start(keys: &CodeKeys, mode: Mode, own: Tid, initiator: Tid, rng: &mut Rng) -> (SentH1, [Frame; 2]) {
    let cb = channel_binding(own, initiator);
    let (rnd_j, r_j, challenge_j) = (rng.bytes(), rng.bytes(), rng.bytes());
    let mut p1 = P1_MAGIC.to_vec();
    p1.extend_from_slice(&[1, VERSION, 0, 0, 0, 0, 0, 0, 0, mode.byte()]);
    p1.extend_from_slice(&keys.p1_tag(&cb, &rnd_j));
    p1.extend_from_slice(&rnd_j);
    p1.extend_from_slice(&commitment(&r_j, &rnd_j));
    let mut noise = Noise::joiner(keys.psk(), &prologue(mode, &cb, &p1), rng);
    let h1 = noise.write(&challenge_j);
    let frames = [Frame::new(FrameType::P1, p1), Frame::new(FrameType::H1, h1)];
    (SentH1 { noise, challenge_j, r_j }, frames)
}

impl SentH1 {
    /// Takes H2.
    pub fn handle(mut self, frame: &Frame) -> Result<H2, HandshakeError> {
        expect(frame, FrameType::H2)?;
        let plain = self.noise.read(frame.body())?;
        let mut reader = Reader::new(&plain);
        let status = reader.u8()?;
        let challenge_i = reader.array()?;
        reader.end()?;
        if status == 0 {
            let Self { noise, challenge_j, r_j } = self;
            return Ok(H2::GoOn(Box::new(ProvedCode { sealed: noise.finish(), challenge_j, challenge_i, r_j })));
        }
        Refusal::from_byte(status).map(H2::Refused).ok_or(HandshakeError::Malformed(Malformed))
    }
}

impl ProvedCode {
    /// Shows our identity: H3.
    pub fn send(mut self, identity: &Identity, info: &DeviceInfo, rng: &mut Rng) -> (SentH3, Frame) {
        let s_j: Secret<32> = rng.secret();
        let own = identity.public();
        let info = info.to_bytes();
        let signed = SigJ {
            h: self.sealed.h(),
            challenge_i: &self.challenge_i,
            challenge_j: &self.challenge_j,
            dik_j: own,
            info: &info,
            s_j: &s_j,
        };
        let signature = signed.with(|parts| identity.sign("sig J", parts));
        let mut plain = own.0.to_vec();
        plain.extend_from_slice(s_j.expose());
        plain.extend_from_slice(&self.r_j);
        plain.extend_from_slice(&signature);
        put_lp(&mut plain, &info);
        let h3 = self.sealed.write(&pad_identity(plain));
        let frame = Frame::new(FrameType::H3, h3.clone());
        let Self { sealed, challenge_j, challenge_i, .. } = self;
        (SentH3 { sealed, challenge_j, challenge_i, s_j, own, h3 }, frame)
    }
}

impl SentH3 {
    /// What names this handshake on a new connection.
    pub fn resume_frame(&self) -> Frame {
        Frame::new(FrameType::Resume, resume_token(self.sealed.h()).to_vec())
    }

    /// Takes H4.
    pub fn handle(mut self, frame: &Frame) -> Result<H4, HandshakeError> {
        expect(frame, FrameType::H4)?;
        let plain = self.sealed.read(frame.body())?;
        let mut reader = Reader::new(&plain);
        match reader.u8()? {
            0 => {}
            other => {
                let denial = Denial::from_byte(other).ok_or(Malformed)?;
                reader.zeros()?;
                return Ok(H4::Denied(denial));
            }
        }
        let peer = DeviceKey(reader.array()?);
        let s_i = Secret::new(reader.array()?);
        let pairing_id = PairingId(reader.array()?);
        let signature = reader.array()?;
        let info_bytes = read_info(reader)?;
        let signed = SigI {
            h: self.sealed.h(),
            challenge_j: &self.challenge_j,
            challenge_i: &self.challenge_i,
            dik_i: peer,
            dik_j: self.own,
            h3: &self.h3,
            info: info_bytes,
            s_i: &s_i,
            pairing_id,
        };
        // Our own key back means that somebody reflects our messages, or that we met ourselves.
        if peer == self.own || !signed.with(|parts| peer.verify("sig I", parts, &signature)) {
            return Err(HandshakeError::Proof);
        }
        let info = DeviceInfo::from_bytes(info_bytes)?;
        let pair_secret = pair_secret(self.sealed.h(), &self.s_j, &s_i, &self.own, &peer, &pairing_id);
        let agreement = Agreement { pairing_id, peer, info, pair_secret };
        let h4_hash = crypto::digest(&[frame.body()]);
        Ok(H4::Offer(Box::new(ReceivedH4 { sealed: self.sealed, agreement, h4_hash })))
    }
}

impl ReceivedH4 {
    /// What will be stored.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// What names this handshake on a new connection.
    pub fn resume_frame(&self) -> Frame {
        Frame::new(FrameType::Resume, resume_token(self.sealed.h()).to_vec())
    }

    /// Says that the pending pairing is on disk: H5(1).
    pub fn stored(mut self) -> (SentH5, Frame) {
        let body = self.verdict(1);
        let h5_hash = crypto::digest(&[&body]);
        (SentH5 { sealed: self.sealed, h5_hash }, Frame::new(FrameType::H5, body))
    }

    /// Says that our person declined: H5(0).
    pub fn declined(mut self) -> Frame {
        Frame::new(FrameType::H5, self.verdict(0))
    }

    fn verdict(&mut self, verdict: u8) -> Vec<u8> {
        let mut plain = vec![verdict];
        plain.extend_from_slice(&self.h4_hash);
        self.sealed.write(&plain)
    }
}

impl SentH5 {
    /// What names this handshake on a new connection.
    pub fn resume_frame(&self) -> Frame {
        Frame::new(FrameType::Resume, resume_token(self.sealed.h()).to_vec())
    }

    /// Takes H6: the initiator has stored the pairing.
    pub fn handle(mut self, frame: &Frame) -> Result<(), HandshakeError> {
        expect(frame, FrameType::H6)?;
        let plain = self.sealed.read(frame.body())?;
        let mut reader = Reader::new(&plain);
        if reader.u8()? != 2 || !ct_eq(&reader.array::<32>()?, &self.h5_hash) {
            return Err(HandshakeError::Proof);
        }
        reader.end()?;
        Ok(())
    }
}

/// A frame of another type than the state expects.
pub(super) fn expect(frame: &Frame, kind: FrameType) -> Result<(), Malformed> {
    if frame.kind() == kind { Ok(()) } else { Err(Malformed) }
}
