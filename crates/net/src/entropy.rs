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

/// Lets the TLS library seed its own generator now, on a thread of its own: it measures the jitter of the processor for
/// tens of milliseconds, once in a process, and the first handshake would wait for it.
pub fn warm_up() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Without a thread, or if it fails, the first handshake does it, and tells what is wrong.
        let seed = || drop(rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 1]));
        drop(std::thread::Builder::new().name("warm-up".to_owned()).spawn(seed));
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        let (a, b) = (super::secret(), super::secret());
        assert!(a.expect("random bytes") != b.expect("random bytes"));
    }
}
