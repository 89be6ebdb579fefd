//! Secret byte strings: no `Debug`, no `Display`, zeroed on drop, compared in constant time; and the generator that
//! turns one seed from the operating system into everything random that a machine draws.

use std::convert::Infallible;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _, TryCryptoRng, TryRng};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes ownership of secret bytes.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The bytes, for use as a key. Whoever copies them is responsible for the copy.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// Compares two tags, MACs or hashes in constant time. Different lengths are unequal.
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Cryptographic generator of one machine (ChaCha20), seeded by its owner.
///
/// Production seeds come from the operating system (`net::entropy`), 32 bytes each, so that everything drawn here has
/// the strength of the system's source; tests hand in a fixed seed and get the same run again.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator for `seed`.
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self(ChaCha20Rng::from_seed(*seed.expose()))
    }

    /// `N` fresh bytes that are not secret (nonces, identifiers).
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// `N` fresh secret bytes.
    pub fn secret<const N: usize>(&mut self) -> Secret<N> {
        Secret::new(self.bytes())
    }

    /// A generator for a child machine; what it draws tells nothing about what this one draws next.
    pub fn child(&mut self) -> Rng {
        Rng::from_seed(self.secret())
    }

    /// A number in `0..bound`, for jitter. `bound` 0 gives 0. The slight bias of the remainder does not matter there.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.next_u64() % bound }
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(dst);
        Ok(())
    }
}

impl TryCryptoRng for Rng {}
