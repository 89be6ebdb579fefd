//! The hello of paired devices (section 10.2): first thing on every connection between them. It certifies the transport
//! keys of this connection by the identity keys of the pairing, and carries how far each side's commit got.
//!
//! As in the handshake, states are types that are consumed by the frame they wait for.

use crate::crypto::{self, Kdf, label};
use crate::handshake::VERSION;
use crate::id::{DeviceKey, Identity, PairingId, Tid};
use crate::secret::{Rng, Secret, ct_eq};
use crate::time::UnixTime;
use crate::wire::frames::{Frame, FrameType};
use crate::wire::{Malformed, Reader};

/// How far a pairing got on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairState {
    /// Stored here, perhaps not there; without rights.
    Pending,
    /// Stored on both sides.
    Paired,
}

impl PairState {
    /// The name used in lists.
    pub fn name(self) -> &'static str {
        match self {
            PairState::Pending => "pending",
            PairState::Paired => "paired",
        }
    }

    fn byte(self) -> u8 {
        match self {
            PairState::Pending => 1,
            PairState::Paired => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<PairState, Malformed> {
        match byte {
            1 => Ok(PairState::Pending),
            2 => Ok(PairState::Paired),
            _ => Err(Malformed),
        }
    }
}

/// A frame that did not prove what it had to. The stream is closed silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hello of this peer proves nothing")]
pub struct HelloError;

impl From<Malformed> for HelloError {
    fn from(_: Malformed) -> HelloError {
        HelloError
    }
}

/// What both sides of a hello know of their pairing.
#[derive(Clone)]
pub struct Bond {
    /// Name of the pairing.
    pub pairing_id: PairingId,
    /// The peer's identity key.
    pub peer: DeviceKey,
    tag: Secret<32>,
    key: Secret<32>,
}

impl Bond {
    /// Derives the keys of a hello from the pairing's secret (section 10.1).
    pub fn new(pairing_id: PairingId, peer: DeviceKey, pair_secret: &Secret<32>) -> Bond {
        let kdf = pairing_kdf(pair_secret);
        Bond { pairing_id, peer, tag: kdf.expand("hello tag", &[]), key: kdf.expand("hello key", &[]) }
    }

    /// The key that recognises this pairing in R1; all that a tombstone keeps.
    pub fn tag_key(&self) -> &Secret<32> {
        &self.tag
    }

    fn mac(&self, side: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut all: Vec<&[u8]> = vec![&self.pairing_id.0];
        all.extend_from_slice(parts);
        crypto::hmac(&self.key, side, &all)
    }
}

/// `PRKp`.
pub(super) fn pairing_kdf(pair_secret: &Secret<32>) -> Kdf {
    Kdf::extract(&label("pairing"), pair_secret.expose())
}

/// What is left of a pairing that was ended: enough to recognise the peer and to tell it.
#[derive(Clone)]
pub struct Tombstone {
    /// Name of the pairing.
    pub pairing_id: PairingId,
    /// The peer it was with.
    pub peer: DeviceKey,
    /// Recognises the peer's R1.
    pub tag: Secret<32>,
    /// Number of the notice.
    pub seq: u64,
}

/// R1 is sent; R2 is due.
pub struct SentR1 {
    bond: Bond,
    cb: [u8; 32],
    nonce_a: [u8; 32],
    r1: Frame,
    own: DeviceKey,
}

/// What R2 said.
pub enum R2 {
    /// The peer proved itself.
    Proof(Box<ReceivedR2>),
    /// The peer says, provably, that it ended the pairing.
    Revoked {
        /// The answer to send before closing.
        acknowledgement: Frame,
    },
}

/// The peer proved itself; our proof is due.
pub struct ReceivedR2 {
    bond: Bond,
    cb: [u8; 32],
    nonce_a: [u8; 32],
    nonce_b: [u8; 32],
    r1: Frame,
    r2: Frame,
    /// How far the peer's commit got.
    pub state: PairState,
    /// The peer's clock.
    pub clock: UnixTime,
}

/// R3 is sent; R4 is due.
pub struct SentR3;

/// Somebody's R1; the tag tells whose, if anybody's.
pub struct ReceivedR1 {
    cb: [u8; 32],
    nonce_a: [u8; 32],
    rtag: [u8; 16],
    r1: Frame,
}

/// R2 is sent; R3 is due.
pub struct SentR2 {
    bond: Bond,
    cb: [u8; 32],
    nonce_a: [u8; 32],
    nonce_b: [u8; 32],
    r1: Frame,
    r2: Frame,
    own: DeviceKey,
}

/// What R3 proved.
pub struct ReceivedR3 {
    /// How far the peer's commit got.
    pub state: PairState,
    /// The peer's clock.
    pub clock: UnixTime,
}

/// Opens a hello on a connection between `own_tid`, which opens the stream, and `peer_tid`.
pub fn open(bond: &Bond, own: DeviceKey, own_tid: Tid, peer_tid: Tid, rng: &mut Rng) -> (SentR1, Frame) {
    let cb = crate::handshake::channel_binding(own_tid, peer_tid);
    let nonce_a: [u8; 32] = rng.bytes();
    let mut body = vec![VERSION];
    body.extend_from_slice(&nonce_a);
    body.extend_from_slice(&rtag(&bond.tag, &cb, &nonce_a));
    let r1 = Frame::new(FrameType::R1, body);
    (SentR1 { bond: bond.clone(), cb, nonce_a, r1: r1.clone(), own }, r1)
}

impl SentR1 {
    /// Takes R2.
    pub fn handle(self, frame: &Frame) -> Result<R2, HelloError> {
        let SentR1 { bond, cb, nonce_a, r1, own } = self;
        let mut reader = Reader::new(body_of(frame, FrameType::R2)?);
        match reader.u8()? {
            0 => {}
            1 => {
                let (zero, seq) = (reader.u8()?, reader.u64()?);
                let (zeros, signature) = (reader.array::<64>()?, reader.array()?);
                let parts: [&[u8]; 5] = [&bond.pairing_id.0, &own.0, &cb, &nonce_a, &seq.to_be_bytes()];
                if zero != 0 || zeros != [0; 64] || !bond.peer.verify("revoked", &parts, &signature) {
                    return Err(HelloError);
                }
                return Ok(R2::Revoked { acknowledgement: acknowledgement() });
            }
            _ => return Err(HelloError),
        }
        let state = PairState::from_byte(reader.u8()?)?;
        let clock = UnixTime(reader.u64()?);
        let nonce_b = reader.array()?;
        let mac_b: [u8; 32] = reader.array()?;
        let sig_b = reader.array()?;
        reader.end()?;
        let expected = bond.mac("hello B", &[&cb, r1.body(), &frame.body()[..42]]);
        let parts: [&[u8]; 6] = [&bond.pairing_id.0, &own.0, &cb, &nonce_a, &nonce_b, &mac_b];
        if !ct_eq(&expected, &mac_b) || !bond.peer.verify("tid B", &parts, &sig_b) {
            return Err(HelloError);
        }
        let r2 = frame.clone();
        Ok(R2::Proof(Box::new(ReceivedR2 { bond, cb, nonce_a, nonce_b, r1, r2, state, clock })))
    }
}

impl ReceivedR2 {
    /// Proves ourselves: R3, with how far our commit got by now.
    pub fn send(self, identity: &Identity, state: PairState, clock: UnixTime) -> (SentR3, Frame) {
        let mut body = vec![state.byte()];
        body.extend_from_slice(&clock.0.to_be_bytes());
        let mac_a = self.bond.mac("hello A", &[&self.cb, self.r1.body(), self.r2.body(), &body]);
        let parts: [&[u8]; 6] =
            [&self.bond.pairing_id.0, &self.bond.peer.0, &self.cb, &self.nonce_a, &self.nonce_b, &mac_a];
        let sig_a = identity.sign("tid A", &parts);
        body.extend_from_slice(&mac_a);
        body.extend_from_slice(&sig_a);
        (SentR3, Frame::new(FrameType::R3, body))
    }
}

impl SentR3 {
    /// Takes R4: how far the peer's commit got now.
    pub fn handle(self, frame: &Frame) -> Result<PairState, HelloError> {
        match body_of(frame, FrameType::R4)? {
            [0, state] => Ok(PairState::from_byte(*state)?),
            _ => Err(HelloError),
        }
    }
}

impl ReceivedR1 {
    /// Reads R1 as it came over a connection that `peer_tid` used to open a stream to `own_tid`.
    pub fn parse(frame: &Frame, peer_tid: Tid, own_tid: Tid) -> Result<ReceivedR1, HelloError> {
        let mut reader = Reader::new(body_of(frame, FrameType::R1)?);
        if reader.u8()? != VERSION {
            return Err(HelloError);
        }
        let (nonce_a, rtag) = (reader.array()?, reader.array()?);
        reader.end()?;
        let cb = crate::handshake::channel_binding(peer_tid, own_tid);
        Ok(ReceivedR1 { cb, nonce_a, rtag, r1: frame.clone() })
    }

    /// Whether this R1 was made with `tag`.
    pub fn is_from(&self, tag: &Secret<32>) -> bool {
        ct_eq(&rtag(tag, &self.cb, &self.nonce_a), &self.rtag)
    }

    /// Proves ourselves: R2.
    pub fn answer(
        self,
        bond: &Bond,
        identity: &Identity,
        state: PairState,
        clock: UnixTime,
        rng: &mut Rng,
    ) -> (SentR2, Frame) {
        let ReceivedR1 { cb, nonce_a, r1, .. } = self;
        let nonce_b: [u8; 32] = rng.bytes();
        let mut body = vec![0, state.byte()];
        body.extend_from_slice(&clock.0.to_be_bytes());
        body.extend_from_slice(&nonce_b);
        let mac_b = bond.mac("hello B", &[&cb, r1.body(), &body]);
        let parts: [&[u8]; 6] = [&bond.pairing_id.0, &bond.peer.0, &cb, &nonce_a, &nonce_b, &mac_b];
        let sig_b = identity.sign("tid B", &parts);
        body.extend_from_slice(&mac_b);
        body.extend_from_slice(&sig_b);
        let r2 = Frame::new(FrameType::R2, body);
        let own = identity.public();
        (SentR2 { bond: bond.clone(), cb, nonce_a, nonce_b, r1, r2: r2.clone(), own }, r2)
    }

    /// Tells a peer of an ended pairing that it is over: the other form of R2.
    pub fn revoke(self, tombstone: &Tombstone, identity: &Identity) -> Frame {
        let seq = tombstone.seq.to_be_bytes();
        let parts: [&[u8]; 5] = [&tombstone.pairing_id.0, &tombstone.peer.0, &self.cb, &self.nonce_a, &seq];
        let signature = identity.sign("revoked", &parts);
        let mut body = vec![1, 0];
        body.extend_from_slice(&seq);
        body.extend_from_slice(&[0; 64]);
        body.extend_from_slice(&signature);
        Frame::new(FrameType::R2, body)
    }
}

impl SentR2 {
    /// Takes R3.
    pub fn handle(self, frame: &Frame) -> Result<ReceivedR3, HelloError> {
        let body = body_of(frame, FrameType::R3)?;
        let mut reader = Reader::new(body);
        let state = PairState::from_byte(reader.u8()?)?;
        let clock = UnixTime(reader.u64()?);
        let mac_a: [u8; 32] = reader.array()?;
        let sig_a = reader.array()?;
        reader.end()?;
        let expected = self.bond.mac("hello A", &[&self.cb, self.r1.body(), self.r2.body(), &body[..9]]);
        let parts: [&[u8]; 6] = [&self.bond.pairing_id.0, &self.own.0, &self.cb, &self.nonce_a, &self.nonce_b, &mac_a];
        if !ct_eq(&expected, &mac_a) || !self.bond.peer.verify("tid A", &parts, &sig_a) {
            return Err(HelloError);
        }
        Ok(ReceivedR3 { state, clock })
    }
}

/// The R3 that answers the notice of an ended pairing.
fn acknowledgement() -> Frame {
    let mut body = vec![0xff];
    body.resize(FrameType::R3.body_len(), 0);
    Frame::new(FrameType::R3, body)
}

/// Whether this R3 says that the notice was read.
pub(super) fn is_acknowledgement(frame: &Frame) -> bool {
    *frame == acknowledgement()
}

/// R4.
pub fn accept(state: PairState) -> Frame {
    Frame::new(FrameType::R4, vec![0, state.byte()])
}

fn rtag(key: &Secret<32>, cb: &[u8; 32], nonce_a: &[u8; 32]) -> [u8; 16] {
    crypto::hmac(key, "rtag", &[cb, nonce_a])[..16].try_into().expect("16 of 32 bytes")
}

fn body_of(frame: &Frame, kind: FrameType) -> Result<&[u8], HelloError> {
    if frame.kind() == kind { Ok(frame.body()) } else { Err(HelloError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TID_A: Tid = Tid([1; 32]);
    const TID_B: Tid = Tid([2; 32]);

    fn identity(n: u8) -> Identity {
        Identity::from_seed(Secret::new([n; 32]))
    }

    fn bond(peer: &Identity, secret: u8, id: u8) -> Bond {
        Bond::new(PairingId([id; 16]), peer.public(), &Secret::new([secret; 32]))
    }

    fn rng(n: u8) -> Rng {
        Rng::from_seed(Secret::new([n; 32]))
    }

    /// A whole hello; each side with its own identity, secret and pairing, every frame through `tamper`.
    fn run(
        (dik_a, secret_a): (&Identity, u8),
        (dik_b, secret_b): (&Identity, u8),
        known_b: &Identity,
        known_a: &Identity,
        tamper: &mut dyn FnMut(Frame) -> Frame,
    ) -> Result<(), HelloError> {
        let bond_a = bond(known_b, secret_a, 7);
        let bond_b = bond(known_a, secret_b, 7);
        let (sent_r1, r1) = open(&bond_a, dik_a.public(), TID_A, TID_B, &mut rng(1));
        let received = ReceivedR1::parse(&tamper(r1), TID_A, TID_B)?;
        if !received.is_from(bond_b.tag_key()) {
            return Err(HelloError);
        }
        let (sent_r2, r2) = received.answer(&bond_b, dik_b, PairState::Paired, UnixTime(5), &mut rng(2));
        let R2::Proof(proof) = sent_r1.handle(&tamper(r2))? else { return Err(HelloError) };
        let (sent_r3, r3) = proof.send(dik_a, PairState::Paired, UnixTime(6));
        sent_r2.handle(&tamper(r3))?;
        sent_r3.handle(&tamper(accept(PairState::Paired)))?;
        Ok(())
    }

    #[test]
    fn paired_devices_recognise_each_other_and_a_flipped_bit_ends_it() {
        let (a, b) = (identity(1), identity(2));
        assert_eq!(run((&a, 9), (&b, 9), &b, &a, &mut |f| f), Ok(()));
        for kind in [FrameType::R1, FrameType::R2, FrameType::R3] {
            for position in 0..kind.body_len() {
                let flip = &mut |f: Frame| {
                    if f.kind() != kind {
                        return f;
                    }
                    let mut body = f.body().to_vec();
                    body[position] ^= 1;
                    Frame::new(kind, body)
                };
                assert_eq!(run((&a, 9), (&b, 9), &b, &a, flip), Err(HelloError), "{kind:?} byte {position}");
            }
        }
    }

    #[test]
    fn attack_40_a_stolen_secret_or_a_stolen_identity_alone_impersonates_nobody() {
        let (a, b, thief) = (identity(1), identity(2), identity(3));
        assert!(run((&thief, 9), (&b, 9), &b, &a, &mut |f| f).is_err(), "secret only, as A");
        assert!(run((&a, 9), (&thief, 9), &b, &a, &mut |f| f).is_err(), "secret only, as B");
        assert!(run((&a, 8), (&b, 9), &b, &a, &mut |f| f).is_err(), "identity only, as A");
        assert!(run((&a, 9), (&b, 8), &b, &a, &mut |f| f).is_err(), "identity only, as B");
    }

    #[test]
    fn attack_40_a_hello_is_worthless_on_other_transport_keys() {
        let (a, b) = (identity(1), identity(2));
        let (_, r1) = open(&bond(&b, 9, 7), a.public(), TID_A, TID_B, &mut rng(1));
        let elsewhere = ReceivedR1::parse(&r1, Tid([3; 32]), TID_B).expect("layout");
        assert!(!elsewhere.is_from(bond(&a, 9, 7).tag_key()));
    }

    #[test]
    fn attack_43_a_notice_is_believed_only_for_its_own_pairing_and_connection() {
        let (a, b) = (identity(1), identity(2));
        let own = bond(&b, 9, 7);
        let tombstone =
            |id| Tombstone { pairing_id: PairingId([id; 16]), peer: a.public(), tag: own.tag_key().clone(), seq: 4 };
        let notice = |id: u8, tid: Tid, signer: &Identity| {
            let (sent, r1) = open(&own, a.public(), TID_A, TID_B, &mut rng(1));
            let r2 = ReceivedR1::parse(&r1, tid, TID_B).expect("layout").revoke(&tombstone(id), signer);
            sent.handle(&r2)
        };
        assert!(matches!(notice(7, TID_A, &b), Ok(R2::Revoked { .. })));
        assert!(notice(8, TID_A, &b).is_err(), "another pairing");
        assert!(notice(7, Tid([3; 32]), &b).is_err(), "another connection");
        assert!(notice(7, TID_A, &a).is_err(), "another key");
    }
}
