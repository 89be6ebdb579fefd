//! The presence record, from the text of section 10.4.

use handfast_proto::id::{PairingId, Tid};
use handfast_proto::secret::Secret;
use handfast_proto::wire::record::Record;

use super::record::{advert, seal_record};
use super::spec::{h, hkdf, label, public, sign};

/// The seed and the sealing key of one direction and period.
pub(crate) fn keys(secret: &[u8; 32], direction: u8, period: u32) -> ([u8; 32], [u8; 32]) {
    let expand = |name: &str| hkdf(&label("pairing"), secret, &[&label(name), &[direction], &period.to_be_bytes()]);
    (expand("pres sig"), expand("pres key"))
}

/// A record of the holder of the identity seed `[signer; 32]`, whose signature covers `signed_topic`.
#[expect(clippy::too_many_arguments, reason = "all that a forger may choose")]
pub(crate) fn record(
    secret: &Secret<32>,
    direction: u8,
    period: u32,
    signer: u8,
    id: PairingId,
    signed_topic: [u8; 32],
    tid: Tid,
    seq: u64,
) -> Record {
    let (sign_seed, key) = keys(secret.expose(), direction, period);
    let topic = h(&[&label("topic"), &public(&sign_seed)]);
    let mut plain = advert(0, 0, &tid.0, &[crate::bench::address(2).to_bytes()], &[], &[4; 16]);
    let parts: [&[u8]; 5] = [&label("pres"), &id.0, &signed_topic, &seq.to_be_bytes(), &tid.0];
    plain.extend_from_slice(&sign(&[signer; 32], &parts));
    let bytes = seal_record(&sign_seed, &key, &plain, seq, 900, &[6; 24]);
    Record::validate(&topic, &bytes).expect("valid for a node")
}
