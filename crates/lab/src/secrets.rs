//! Which bytes of a run must never be seen, gathered from what the run shows and what the devices store.
//!
//! The key schedule of a code is written here again, from `docs/protocol.md` section 3 and not from the code under
//! test: a wrong label there would otherwise hide a leak here.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

use crate::leak::Needles;
use crate::vault;

/// Labels of the keys that a code gives, with a name for reports (protocol section 3).
const CODE_KEYS: [&str; 6] = ["psk", "tag", "adv sig", "adv key", "lan", "confirm"];

/// Length of a key and of an Ed25519 seed.
const KEY_BYTES: usize = 32;

/// Labels of the fixed keys that a pairing gives (protocol section 10.1).
const PAIRING_KEYS: [&str; 2] = ["hello tag", "hello key"];

/// What must not be seen where.
#[derive(Default)]
pub struct Secrets {
    /// Codes and what comes from them: nowhere but on the initiator's own stdout.
    pub codes: Needles,
    /// Long-term keys: nowhere, since the store holds them sealed.
    pub keys: Needles,
    /// Names, ids and identity keys: not on the wire.
    pub identities: Needles,
    seeds: usize,
    shared: usize,
}

/// What everybody who is paired with a device knows of it.
pub struct Identity<'a> {
    /// Its instance's directory, whose files are its store.
    pub dir: &'a Path,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its fingerprint.
    pub fingerprint: &'a str,
}

impl Secrets {
    /// Adds the words of a code, its entropy, and all six keys it gives.
    ///
    /// # Errors
    /// When the words are no code.
    pub fn add_code(&mut self, label: &str, words: &str) -> Result<()> {
        let entropy = entropy_of(words)?;
        self.codes.add_words(label, words);
        self.codes.add_bytes(&format!("{label} entropy"), &entropy);
        let (prk, schedule) = Hkdf::<Sha256>::extract(Some(&label_bytes("code")), &entropy);
        self.codes.add_bytes(&format!("{label} prk"), &prk);
        for name in CODE_KEYS {
            let mut key = [0; KEY_BYTES];
            // 32 bytes are one block; HKDF gives up to 255.
            schedule.expand(&label_bytes(name), &mut key).ok().context("HKDF gives 32 bytes")?;
            self.codes.add_bytes(&format!("{label} key {name}"), &key);
        }
        Ok(())
    }

    /// Adds what two paired devices are called, their identity keys, and what is secret in their stores: the seeds, the
    /// secret of their pairing, and the keys of the hello that it gives.
    ///
    /// # Errors
    /// When a store cannot be opened, or does not hold what it should: a seed whose public key hashes to the device's id,
    /// and the same secret on both sides.
    pub fn add_pair(&mut self, one: &Identity<'_>, other: &Identity<'_>) -> Result<()> {
        let mut secrets = Vec::new();
        for device in [one, other] {
            self.identities.add_text(&format!("name {}", device.name), device.name);
            self.identities.add_text(&format!("id of {}", device.name), device.id);
            self.identities.add_text(&format!("fingerprint of {}", device.name), device.fingerprint);
            let vault = vault::open(device.dir)?;
            let key = SigningKey::from_bytes(&vault.seed).verifying_key().to_bytes();
            ensure!(id_of(&key) == device.id, "the seed in the store of {} is not its identity", device.name);
            self.keys.add_bytes(&format!("identity seed of {}", device.name), &vault.seed);
            self.identities.add_bytes(&format!("identity key of {}", device.name), &key);
            self.seeds += 1;
            secrets.push(vault.pair_secrets);
        }
        for secret in secrets[0].iter().filter(|secret| secrets[1].contains(secret)) {
            self.keys.add_bytes("pairing secret", secret);
            let (prk, schedule) = Hkdf::<Sha256>::extract(Some(&label_bytes("pairing")), secret);
            self.keys.add_bytes("pairing prk", &prk);
            for name in PAIRING_KEYS {
                let mut key = [0; KEY_BYTES];
                schedule.expand(&label_bytes(name), &mut key).ok().context("HKDF gives 32 bytes")?;
                self.keys.add_bytes(&format!("pairing key {name}"), &key);
            }
            self.shared += 1;
        }
        Ok(())
    }

    /// Adds a key that was learned in another way; it must not be seen outside its device's store.
    pub fn add_key(&mut self, label: &str, key: &[u8]) {
        self.keys.add_bytes(label, key);
    }

    /// Identity seeds found in stores so far: two for each pair.
    #[must_use]
    pub const fn seeds_found(&self) -> usize {
        self.seeds
    }

    /// Secrets of pairings that both sides hold, so far.
    #[must_use]
    pub const fn shared_found(&self) -> usize {
        self.shared
    }
}

/// The 16 bytes that 12 words stand for.
///
/// # Errors
/// When they are no code.
pub fn entropy_of(words: &str) -> Result<Vec<u8>> {
    let mnemonic = bip39::Mnemonic::parse_in(bip39::Language::English, words).context("these words are no code")?;
    Ok(mnemonic.to_entropy())
}

/// The words of 16 bytes: a code that nobody shows, if the bytes are random.
///
/// # Errors
/// When the length is none of BIP39.
pub fn words_of(entropy: &[u8]) -> Result<String> {
    Ok(bip39::Mnemonic::from_entropy(entropy).context("no length of a code")?.to_string())
}

/// The label that starts every hash and key derivation (protocol section 2).
fn label_bytes(label: &str) -> Vec<u8> {
    format!("handfast/1 {label}\0").into_bytes()
}

/// The device id of an identity key (protocol section 7.4).
fn id_of(key: &[u8]) -> String {
    let hash = Sha256::new().chain_update(label_bytes("id")).chain_update(key).finalize();
    BASE32_NOPAD.encode(&hash)[..32].to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{entropy_of, words_of};

    #[test]
    fn words_and_entropy_belong_together() {
        let words = words_of(&[0x7f; 16]).expect("16 bytes are a code");
        assert_eq!(words, "legal winner thank year wave sausage worth useful legal winner thank yellow");
        assert_eq!(entropy_of(&words).expect("it is a code"), [0x7f; 16]);
        assert!(entropy_of("legal winner").is_err());
    }
}
