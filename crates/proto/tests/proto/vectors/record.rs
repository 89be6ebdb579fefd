//! The advert and the record around it, from the text of section 5.

use super::spec::{h, label, lp, public, seal, sign};

/// The plaintext of an advert, without padding.
pub(crate) fn advert(
    state: u8,
    not_after: u32,
    tid: &[u8; 32],
    addresses: &[Vec<u8>],
    relays: &[Vec<u8>],
    rnd: &[u8; 16],
) -> Vec<u8> {
    let mut out = vec![1, state];
    out.extend_from_slice(&not_after.to_be_bytes());
    out.extend_from_slice(tid);
    for list in [addresses, relays] {
        out.push(list.len() as u8);
        for item in list {
            out.extend_from_slice(&lp(item));
        }
    }
    out.extend_from_slice(rnd);
    out
}

/// The 784 bytes of a record.
pub(crate) fn seal_record(
    sign_seed: &[u8; 32],
    key: &[u8; 32],
    plain: &[u8],
    seq: u64,
    ttl: u16,
    nonce: &[u8; 24],
) -> Vec<u8> {
    let pk = public(sign_seed);
    let topic = h(&[&label("topic"), &pk]);
    let mut padded = plain.to_vec();
    padded.resize(638, 0);
    let (seq, ttl) = (seq.to_be_bytes(), ttl.to_be_bytes());
    let ct = seal(key, nonce, &[&label("adv")[..], &topic, &pk, &seq, &ttl].concat(), &padded);
    let sig = sign(sign_seed, &[&label("rec"), &topic, &pk, &seq, &ttl, nonce, &ct]);
    [&pk[..], &seq, &ttl, &sig, nonce, &ct].concat()
}
