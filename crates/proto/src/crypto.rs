//! The few primitives of the protocol (section 2), with its labels: SHA-256, HMAC, HKDF and Ed25519, nothing chosen at
//! run time. Every use starts with a label of its own, so that no value made for one purpose is valid for another.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// `L("x")`: the ASCII text `handfast/1 x` and one zero byte.
pub(crate) fn label(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + name.len());
    out.extend_from_slice(b"handfast/1 ");
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out
}

/// `lp(x)`: a big-endian `u16` length, then the bytes. Inputs are our own fixed-size fields, far below 64 KiB.
pub(crate) fn lp(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("fields of the protocol are at most 2048 bytes");
    let mut out = Vec::with_capacity(2 + bytes.len());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

/// `H(L(name) ‖ parts…)`.
pub(crate) fn hash(name: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(label(name));
    for part in parts {
        h.update(part);
    }
    h.finalize().into()
}

/// `H(parts…)` without a label, for digests that are themselves labelled inside a larger input.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    for part in parts {
        h.update(part);
    }
    h.finalize().into()
}

/// `HMAC(key, L(name) ‖ parts…)`, whole. Cut it where the protocol says so.
pub(crate) fn hmac(key: &Secret<32>, name: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(&label(name));
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `HMAC(key, bytes)[..16]` over a whole fixed layout that begins with a magic of its own, with a key that serves nothing
/// else: what a beacon and a confirmation message carry (section 6).
pub(crate) fn mac16(key: &Secret<32>, bytes: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
    mac.update(bytes);
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    whole[..16].try_into().expect("16 of 32 bytes")
}

/// HKDF-SHA-256 (RFC 5869), extracted once and expanded under labels.
pub(crate) struct Kdf(Hkdf<Sha256>);

impl Kdf {
    /// `Extract(salt, ikm)`.
    pub(crate) fn extract(salt: &[u8], ikm: &[u8]) -> Kdf {
        Kdf(Hkdf::new(Some(salt), ikm))
    }

    /// `Expand(PRK, L(name) ‖ context, 32)`.
    pub(crate) fn expand(&self, name: &str, context: &[&[u8]]) -> Secret<32> {
        let mut info = label(name);
        for part in context {
            info.extend_from_slice(part);
        }
        let mut out = [0; 32];
        self.0.expand(&info, &mut out).expect("32 bytes are within HKDF's limit of 255 blocks");
        Secret::new(out)
    }

    /// `Expand(PRK, context, N)`, for the one use whose label is the salt of the extraction (section 7.3).
    pub(crate) fn expand_unlabelled<const N: usize>(&self, context: &[&[u8]]) -> [u8; N] {
        let mut out = [0; N];
        self.0.expand(&context.concat(), &mut out).expect("a few bytes are within HKDF's limit of 255 blocks");
        out
    }
}

/// An Ed25519 key pair that signs labelled messages.
pub(crate) struct SignKey(SigningKey);

impl SignKey {
    /// The key pair of `seed`.
    pub(crate) fn from_seed(seed: &Secret<32>) -> SignKey {
        SignKey(SigningKey::from_bytes(seed.expose()))
    }

    /// The 32 public bytes.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// `Ed25519(sk, L(name) ‖ parts…)`.
    pub(crate) fn sign(&self, name: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.0.sign(&message(name, parts)).to_bytes()
    }
}

/// Checks a signature over `L(name) ‖ parts…` strictly: canonical S, no small-order keys.
pub(crate) fn verify(public: &[u8; 32], name: &str, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .and_then(|key| key.verify_strict(&message(name, parts), &Signature::from_bytes(signature)))
        .is_ok()
}

fn message(name: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = label(name);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_protocol_name_and_one_zero_byte() {
        assert_eq!(label("psk"), b"handfast/1 psk\0");
    }

    #[test]
    fn hkdf_agrees_with_rfc_5869_test_case_1() {
        let ikm = [0x0b; 22];
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut okm = [0; 42];
        Kdf::extract(&salt, &ikm).0.expand(&info, &mut okm).expect("42 bytes");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&okm),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    #[test]
    fn ed25519_agrees_with_rfc_8032_test_1() {
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .expect("hex");
        let key = SignKey::from_seed(&Secret::new(seed.try_into().expect("32 bytes")));
        assert_eq!(
            data_encoding::HEXLOWER.encode(&key.public()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn a_signature_under_another_label_or_over_other_bytes_does_not_verify() {
        let key = SignKey::from_seed(&Secret::new([7; 32]));
        let sig = key.sign("sig J", &[b"abc"]);
        assert!(verify(&key.public(), "sig J", &[b"a", b"bc"], &sig));
        assert!(!verify(&key.public(), "sig I", &[b"abc"], &sig));
        assert!(!verify(&key.public(), "sig J", &[b"abd"], &sig));
        // The neutral point as key: every strict verifier refuses it.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(!verify(&neutral, "sig J", &[b"abc"], &[0; 64]));
    }
}
