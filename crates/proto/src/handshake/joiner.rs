//! The joiner's half of the handshake. It proves the code first and its identity second, and believes an initiator only
//! after both proofs came back.

use crate::crypto;
use crate::handshake::noise::{Noise, Sealed};
use crate::handshake::{
    Agreement, COMPARE, Denial, GO_ON, HandshakeError, Mode, Proposal, Refusal, SigI, SigJ, VERSION, channel_binding,
    commitment, nearby_psk, pad_identity, pair_secret, prologue, read_info, resume_token,
};
use crate::id::{DeviceKey, Identity, PairingId, Tid};
use crate::keys::CodeKeys;
use crate::sas::Sas;
use crate::secret::{Rng, Secret, ct_eq};
use crate::wire::beacon::Nid;
use crate::wire::frames::{Frame, FrameType};
use crate::wire::info::DeviceInfo;
use crate::wire::{Malformed, Reader, put_lp};

/// First bytes of P1.
pub(super) const P1_MAGIC: [u8; 4] = *b"HFPR";

/// A P1 that names a device without a code is sent; P2 is due.
pub struct SentP1 {
    hello: Hello,
}

/// P1 and H1 are sent; H2 is due.
pub struct SentH1 {
    noise: Noise,
    proposal: Proposal,
    cb: [u8; 32],
    challenge_j: [u8; 32],
    r_j: [u8; 32],
}

/// What H2 said.
pub enum H2 {
    /// The initiator proved the code and goes on.
    GoOn(Box<Proved>),
    /// The same with a comparison first, which we asked for, or it does: send S3 and show what is to be compared.
    Compare(Box<Comparing>, Frame),
    /// The initiator proved the code and will not go on.
    Refused(Refusal),
}

/// Both people have something to compare; H3 waits for what ours says.
pub struct Comparing {
    sas: Sas,
    next: Proved,
}

/// The initiator proved the code, or our person confirmed the comparison, or both: H3 may be sent.
pub struct Proved {
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

/// What P1 is made of and what it leaves to be proven.
struct Hello {
    proposal: Proposal,
    cb: [u8; 32],
    r_j: [u8; 32],
    p1: Vec<u8>,
}

/// Starts a handshake with a code on a connection between `own` and `initiator`: the two frames of the first write.
/// With `verify` no identity is shown before both people have compared.
pub fn start(
    keys: &CodeKeys,
    mode: Mode,
    verify: bool,
    own: Tid,
    initiator: Tid,
    rng: &mut Rng,
) -> (SentH1, [Frame; 2]) {
    let cb = channel_binding(own, initiator);
    let hello = Hello::new(Proposal::Code { mode, verify }, cb, |rnd_j| keys.p1_tag(&cb, rnd_j), rng);
    let p1 = Frame::new(FrameType::P1, hello.p1.clone());
    let (sent, h1) = hello.h1(keys.psk(), &[], rng);
    (sent, [p1, h1])
}

/// Starts a handshake without a code (mode 3) with the device that announces itself as `nid`: P1, which waits for P2.
pub fn start_nearby(nid: Nid, own: Tid, initiator: Tid, rng: &mut Rng) -> (SentP1, Frame) {
    let hello = Hello::new(Proposal::Nearby, channel_binding(own, initiator), |_| nid.0, rng);
    let p1 = Frame::new(FrameType::P1, hello.p1.clone());
    (SentP1 { hello }, p1)
}

impl Hello {
    fn new(proposal: Proposal, cb: [u8; 32], tag: impl FnOnce(&[u8; 32]) -> [u8; 16], rng: &mut Rng) -> Hello {
        let (rnd_j, r_j) = (rng.bytes(), rng.bytes());
        let mut p1 = P1_MAGIC.to_vec();
        p1.extend_from_slice(&[1, VERSION, 0, 0, 0, 0, 0, 0, 0, proposal.byte()]);
        p1.extend_from_slice(&tag(&rnd_j));
        p1.extend_from_slice(&rnd_j);
        p1.extend_from_slice(&commitment(&r_j, &rnd_j));
        Hello { proposal, cb, r_j, p1 }
    }

    fn h1(self, psk: &Secret<32>, p2: &[u8], rng: &mut Rng) -> (SentH1, Frame) {
        let Hello { proposal, cb, r_j, p1 } = self;
        let challenge_j = rng.bytes();
        let mut noise = Noise::joiner(psk, &prologue(proposal, &cb, &p1, p2), rng);
        let h1 = Frame::new(FrameType::H1, noise.write(&challenge_j));
        (SentH1 { noise, proposal, cb, challenge_j, r_j }, h1)
    }
}

impl SentP1 {
    /// Takes P2: H1.
    pub fn handle(self, frame: &Frame, rng: &mut Rng) -> Result<(SentH1, Frame), HandshakeError> {
        expect(frame, FrameType::P2)?;
        let mut reader = Reader::new(frame.body());
        let (version, mode) = (reader.u8()?, reader.u8()?);
        // The rest is the initiator's nonce, which only makes the psk and the prologue fresh.
        if version != VERSION || mode != self.hello.proposal.byte() {
            return Err(HandshakeError::Malformed(Malformed));
        }
        let psk = nearby_psk(&self.hello.p1, frame.body());
        Ok(self.hello.h1(&psk, frame.body(), rng))
    }
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
        match status {
            // Who would leave out a comparison that was asked for gets no further.
            GO_ON if !self.proposal.compares() => Ok(H2::GoOn(Box::new(self.proved(challenge_i)))),
            COMPARE => {
                let (cb, r_j) = (self.cb, self.r_j);
                let mut next = self.proved(challenge_i);
                let s3 = Frame::new(FrameType::S3, next.sealed.write(&r_j));
                let sas = Sas::derive(next.sealed.h(), &challenge_i, &r_j, &cb);
                Ok(H2::Compare(Box::new(Comparing { sas, next }), s3))
            }
            _ => Refusal::from_byte(status).map(H2::Refused).ok_or(HandshakeError::Malformed(Malformed)),
        }
    }

    fn proved(self, challenge_i: [u8; 32]) -> Proved {
        let Self { noise, challenge_j, r_j, .. } = self;
        Proved { sealed: noise.finish(), challenge_j, challenge_i, r_j }
    }
}

#[cfg(test)]
impl SentH1 {
    /// One that will open its commitment with something else.
    pub(super) fn with_other_opening(mut self) -> SentH1 {
        self.r_j[0] ^= 1;
        self
    }
}

impl Comparing {
    /// What our screen shows.
    pub fn sas(&self) -> &Sas {
        &self.sas
    }

    /// What names this handshake on a new connection.
    pub fn resume_frame(&self) -> Frame {
        Frame::new(FrameType::Resume, resume_token(self.next.sealed.h()).to_vec())
    }

    /// Our person says that both screens show the same.
    pub fn matched(self) -> Proved {
        self.next
    }
}

impl Proved {
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
