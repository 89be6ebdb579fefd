//! `Noise_NNpsk0_25519_ChaChaPoly_SHA256` by the `snow` crate, with our generator in place of its own and the check for
//! low-order keys that it leaves to the application.

use curve25519_dalek::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity as _;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

use crate::handshake::HandshakeError;
use crate::secret::{Rng, Secret};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
/// Authentication tag that the cipher adds.
const TAG_LEN: usize = 16;

/// A handshake that has not derived its transport keys yet.
pub(super) struct Noise(HandshakeState);

/// The two direction keys of a finished handshake, with their counters.
pub(super) struct Sealed {
    state: TransportState,
    h: [u8; 32],
}

impl Noise {
    /// The side that sends first: the joiner.
    pub(super) fn joiner(psk: &Secret<32>, prologue: &[u8], rng: &mut Rng) -> Noise {
        Noise(builder(psk, prologue, rng).build_initiator().expect("NNpsk0 needs no key but the psk"))
    }

    /// The side that answers: the initiator of the pairing.
    pub(super) fn initiator(psk: &Secret<32>, prologue: &[u8], rng: &mut Rng) -> Noise {
        Noise(builder(psk, prologue, rng).build_responder().expect("NNpsk0 needs no key but the psk"))
    }

    /// The next handshake message around `payload`.
    pub(super) fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 32 + payload.len() + TAG_LEN];
        let n = self.0.write_message(payload, &mut out).expect("it is our turn and the buffer fits");
        out.truncate(n);
        out
    }

    /// Reads the peer's handshake message: its payload. A low-order ephemeral key is refused before it is used.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let e: [u8; 32] = message.get(..32).and_then(|e| e.try_into().ok()).ok_or(HandshakeError::Proof)?;
        if is_low_order(e) {
            return Err(HandshakeError::Proof);
        }
        let mut out = vec![0; message.len()];
        let n = self.0.read_message(message, &mut out).map_err(|_| HandshakeError::Proof)?;
        out.truncate(n);
        Ok(out)
    }

    /// After both messages: the direction keys.
    pub(super) fn finish(self) -> Sealed {
        let h = self.0.get_handshake_hash().try_into().expect("SHA-256 gives 32 bytes");
        let state = self.0.into_transport_mode().expect("both messages have passed");
        Sealed { state, h }
    }
}

impl Sealed {
    /// The handshake hash.
    pub(super) fn h(&self) -> &[u8; 32] {
        &self.h
    }

    /// Encrypts the next frame body of ours.
    pub(super) fn write(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; plain.len() + TAG_LEN];
        let n = self.state.write_message(plain, &mut out).expect("bodies are far below Noise's limit");
        out.truncate(n);
        out
    }

    /// Decrypts the peer's next frame body.
    pub(super) fn read(&mut self, body: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut out = vec![0; body.len()];
        let n = self.state.read_message(body, &mut out).map_err(|_| HandshakeError::Proof)?;
        out.truncate(n);
        Ok(out)
    }
}

/// Whether a clamped scalar times this point is zero: true for the points of small order and for no other. Clamped
/// scalars are multiples of the cofactor, so which one is used does not matter.
fn is_low_order(point: [u8; 32]) -> bool {
    MontgomeryPoint(point).mul_clamped([0x55; 32]).is_identity()
}

fn builder<'a>(psk: &'a Secret<32>, prologue: &'a [u8], rng: &mut Rng) -> Builder<'a> {
    let params: NoiseParams = PATTERN.parse().expect("a constant that the tests use");
    Builder::with_resolver(params, Box::new(Resolver(rng.secret())))
        .psk(0, psk.expose())
        .and_then(|b| b.prologue(prologue))
        .expect("psk and prologue are set once")
}

/// snow's primitives with our generator: a handshake draws one ephemeral key and nothing else.
struct Resolver(Secret<32>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Source(Rng::from_seed(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Source(Rng);

impl Random for Source {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let Ok(()) = rand_core::TryRng::try_fill_bytes(&mut self.0, dest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_8_every_low_order_point_is_refused_and_the_base_point_is_not() {
        // The encodings of small order, non-canonical ones and ignored top bits included (RFC 7748, section 6.1, and the
        // list of libsodium).
        let list = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ];
        for hex in list {
            let point = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex").try_into().expect("32 bytes");
            assert!(is_low_order(point), "{hex}");
        }
        let mut base = [0; 32];
        base[0] = 9;
        assert!(!is_low_order(base));
    }
}
