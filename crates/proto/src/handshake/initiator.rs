//! The initiator's half of the handshake. It says nothing a guesser could test before the guess has been counted.

use crate::crypto;
use crate::handshake::joiner::{P1_MAGIC, expect};
use crate::handshake::noise::{Noise, Sealed};
use crate::handshake::{
    Agreement, COMPARE, Denial, GO_ON, HandshakeError, Proposal, Refusal, SigI, SigJ, VERSION, channel_binding,
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

/// A P1 of right layout. Its tag tells which code it means, if any, or which device.
pub struct P1 {
    proposal: Proposal,
    tag: [u8; 16],
    cb: [u8; 32],
    promise: Promise,
    body: Vec<u8>,
}

/// What the joiner has committed to and must open.
struct Promise {
    rnd_j: [u8; 32],
    commitment: [u8; 32],
}

/// P2 answered a joiner without a code; H1 is due.
pub struct SentP2 {
    p1: P1,
    p2: Vec<u8>,
}

/// Somebody proved the code (in mode 3: that it is still there); the initiator decides whether to go on.
pub struct ReceivedH1 {
    noise: Noise,
    proposal: Proposal,
    cb: [u8; 32],
    challenge_j: [u8; 32],
    promise: Promise,
}

/// What comes after an H2 that said "go on".
pub enum Next {
    /// The joiner says who it is.
    Identity(Box<SentH2>),
    /// First both people compare.
    Comparison(Box<AskedToCompare>),
}

/// H2 asked for a comparison; S3 is due.
pub struct AskedToCompare {
    cb: [u8; 32],
    next: SentH2,
}

/// Both people have something to compare; no H3 is taken before ours confirmed it.
pub struct Comparing {
    sas: Sas,
    next: SentH2,
}

/// H2 said "go on", and our person confirmed a comparison if there was one; H3 is due.
pub struct SentH2 {
    sealed: Sealed,
    challenge_j: [u8; 32],
    challenge_i: [u8; 32],
    promise: Promise,
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
        let proposal = Proposal::from_byte(reader.u8()?)?;
        let tag = reader.array()?;
        let promise = Promise { rnd_j: reader.array()?, commitment: reader.array()? };
        reader.end()?;
        let cb = channel_binding(joiner, own);
        Ok(P1 { proposal, tag, cb, promise, body: frame.body().to_vec() })
    }

    /// Whether this P1 was made with the code of `keys`, for this connection.
    pub fn is_for(&self, keys: &CodeKeys) -> bool {
        match self.proposal {
            Proposal::Code { .. } => keys.is_p1_tag(&self.cb, &self.promise.rnd_j, &self.tag),
            Proposal::Nearby => false,
        }
    }

    /// The device that it means, if it comes without a code (mode 3).
    pub fn nid(&self) -> Option<Nid> {
        match self.proposal {
            Proposal::Code { .. } => None,
            Proposal::Nearby => Some(Nid(self.tag)),
        }
    }

    /// Answers a joiner without a code: P2. `None` for one that has a code: nothing is due before its H1.
    pub fn answer(self, rng: &mut Rng) -> Option<(SentP2, Frame)> {
        self.nid()?;
        let mut p2 = vec![VERSION, self.proposal.byte()];
        p2.extend_from_slice(&rng.bytes::<32>());
        let frame = Frame::new(FrameType::P2, p2.clone());
        Some((SentP2 { p1: self, p2 }, frame))
    }

    /// Takes H1 of a joiner with a code. An error is one failed proof.
    pub fn handle(self, keys: &CodeKeys, frame: &Frame, rng: &mut Rng) -> Result<ReceivedH1, HandshakeError> {
        if self.nid().is_some() {
            return Err(HandshakeError::Malformed(Malformed));
        }
        self.h1(keys.psk(), &[], frame, rng)
    }

    fn h1(self, psk: &Secret<32>, p2: &[u8], frame: &Frame, rng: &mut Rng) -> Result<ReceivedH1, HandshakeError> {
        expect(frame, FrameType::H1)?;
        let P1 { proposal, cb, promise, body, .. } = self;
        let mut noise = Noise::initiator(psk, &prologue(proposal, &cb, &body, p2), rng);
        let challenge_j = noise.read(frame.body())?.try_into().map_err(|_| Malformed)?;
        Ok(ReceivedH1 { noise, proposal, cb, challenge_j, promise })
    }
}

impl SentP2 {
    /// Takes H1.
    pub fn handle(self, frame: &Frame, rng: &mut Rng) -> Result<ReceivedH1, HandshakeError> {
        let psk = nearby_psk(&self.p1.body, &self.p2);
        self.p1.h1(&psk, &self.p2, frame, rng)
    }
}

impl ReceivedH1 {
    /// Whether the joiner wants both people to compare.
    pub fn wants_comparison(&self) -> bool {
        self.proposal.compares()
    }

    /// Ends here: H2 with a status that only a code holder can read.
    pub fn refuse(mut self, refusal: Refusal, rng: &mut Rng) -> Frame {
        let challenge_i: [u8; 32] = rng.bytes();
        self.h2(refusal.byte(), &challenge_i)
    }

    /// Goes on: H2. There is a comparison if the joiner wants one, or if we do (`verify`).
    pub fn go_on(mut self, verify: bool, rng: &mut Rng) -> (Next, Frame) {
        let compares = verify || self.wants_comparison();
        let challenge_i: [u8; 32] = rng.bytes();
        let frame = self.h2(if compares { COMPARE } else { GO_ON }, &challenge_i);
        let Self { noise, cb, challenge_j, promise, .. } = self;
        let next = SentH2 { sealed: noise.finish(), challenge_j, challenge_i, promise };
        let next = if compares {
            Next::Comparison(Box::new(AskedToCompare { cb, next }))
        } else {
            Next::Identity(Box::new(next))
        };
        (next, frame)
    }

    fn h2(&mut self, status: u8, challenge_i: &[u8; 32]) -> Frame {
        let mut plain = vec![status];
        plain.extend_from_slice(challenge_i);
        Frame::new(FrameType::H2, self.noise.write(&plain))
    }
}

#[cfg(test)]
impl ReceivedH1 {
    /// H2 with any status.
    pub(super) fn with_status(mut self, status: u8, rng: &mut Rng) -> Frame {
        self.h2(status, &rng.bytes())
    }
}

impl Promise {
    fn is_kept_by(&self, r_j: &[u8; 32]) -> bool {
        ct_eq(&commitment(r_j, &self.rnd_j), &self.commitment)
    }
}

impl AskedToCompare {
    /// `H(L("resume") ‖ h)`.
    pub fn resume_token(&self) -> [u8; 32] {
        self.next.resume_token()
    }

    /// Takes S3. An error is one failed proof: nothing has been shown.
    pub fn handle(mut self, frame: &Frame) -> Result<Comparing, HandshakeError> {
        expect(frame, FrameType::S3)?;
        let r_j: [u8; 32] = self.next.sealed.read(frame.body())?.try_into().map_err(|_| Malformed)?;
        if !self.next.promise.is_kept_by(&r_j) {
            return Err(HandshakeError::Proof);
        }
        let sas = Sas::derive(self.next.sealed.h(), &self.next.challenge_i, &r_j, &self.cb);
        Ok(Comparing { sas, next: self.next })
    }
}

impl Comparing {
    /// What our screen shows.
    pub fn sas(&self) -> &Sas {
        &self.sas
    }

    /// `H(L("resume") ‖ h)`.
    pub fn resume_token(&self) -> [u8; 32] {
        self.next.resume_token()
    }

    /// Our person says that both screens show the same.
    pub fn matched(self) -> SentH2 {
        self.next
    }

    /// Ends here, for a joiner whose person has confirmed already and who waits for H4: H4 without our identity.
    pub fn deny(mut self, denial: Denial) -> Frame {
        denied(&mut self.next.sealed, denial)
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
        if !self.promise.is_kept_by(&r_j)
            || peer == own
            || !signed.with(|parts| peer.verify("sig J", parts, &signature))
        {
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
        denied(&mut self.sealed, denial)
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

fn denied(sealed: &mut Sealed, denial: Denial) -> Frame {
    Frame::new(FrameType::H4, sealed.write(&pad_identity(vec![denial.byte()])))
}
