//! Seeds from the operating system, and from nowhere else: without it nothing starts.

use handfast_proto::secret::{Rng, Secret};

/// The system's source of randomness failed. There is no substitute for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct EntropyError(String);

/// 32 fresh secret bytes.
pub fn secret() -> Result<Secret<32>, EntropyError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| EntropyError(e.to_string()))?;
    Ok(Secret::new(bytes))
}

/// A generator with a fresh seed.
pub fn rng() -> Result<Rng, EntropyError> {
    Ok(Rng::from_seed(secret()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        let (a, b) = (super::secret(), super::secret());
        assert!(a.expect("random bytes") != b.expect("random bytes"));
    }
}
