//! Which bytes of a run must never be seen, gathered from what the run shows and what the devices store.
//!
//! The key schedule of a code is written here again, from `docs/protocol.md` section 3 and not from the code under
//! test: a wrong label there would otherwise hide a leak here.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

use crate::files;
use crate::leak::Needles;

/// Labels of the keys that a code gives, with a name for reports (protocol section 3).
const CODE_KEYS: [&str; 6] = ["psk", "tag", "adv sig", "adv key", "lan", "confirm"];

/// Length of a key and of an Ed25519 seed.
const KEY_BYTES: usize = 32;

/// A window of this many bytes in both stores is something the two devices share.
const SHARED_BYTES: usize = 16;

/// Random bytes repeat little: of 16 at least 12 differ, of 32 at least 20, but for a chance of one in a million.
const SHARED_DISTINCT: usize = 12;
const KEY_DISTINCT: usize = 20;

/// What must not be seen where.
#[derive(Default)]
pub struct Secrets {
    /// Codes and what comes from them: nowhere but on the initiator's own stdout.
    pub codes: Needles,
    /// Long-term keys: nowhere but in the store of their device.
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

    /// Adds what two paired devices are called, their identity keys, and what is secret in their stores.
    ///
    /// The form of the store is not known here, and need not be: an identity seed is known by its property (its public
    /// key hashes to the device's id), the pairing's secret by being in both stores.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub fn add_pair(&mut self, one: &Identity<'_>, other: &Identity<'_>) -> Result<()> {
        let mut public = Vec::new();
        let mut stores = Vec::new();
        for device in [one, other] {
            self.identities.add_text(&format!("name {}", device.name), device.name);
            self.identities.add_text(&format!("id of {}", device.name), device.id);
            self.identities.add_text(&format!("fingerprint of {}", device.name), device.fingerprint);
            let store = store_bytes(device.dir)?;
            if let Some((seed, key)) = find_identity(&store, device.id) {
                self.keys.add_bytes(&format!("identity seed of {}", device.name), &seed);
                self.identities.add_bytes(&format!("identity key of {}", device.name), &key);
                public.push(key);
                self.seeds += 1;
            }
            stores.push(store);
        }
        for window in shared_windows(&stores[0], &stores[1]) {
            if !public.iter().any(|key| key.windows(SHARED_BYTES).any(|part| part == window)) {
                self.keys.add_bytes("secret in both stores", &window);
                self.shared += 1;
            }
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

    /// Windows of 16 bytes that two stores share and that are not public, so far.
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

fn store_bytes(dir: &Path) -> Result<Vec<Vec<u8>>> {
    files::below(dir)?
        .iter()
        .filter(|file| !file.components().any(|part| part.as_os_str() == "log"))
        .map(|file| std::fs::read(file).with_context(|| format!("reading {}", file.display())))
        .collect()
}

/// The seed in `store` whose public key belongs to the device `id`, and that public key.
fn find_identity(store: &[Vec<u8>], id: &str) -> Option<([u8; KEY_BYTES], [u8; KEY_BYTES])> {
    let mut tried = BTreeSet::new();
    for window in store.iter().flat_map(|file| file.windows(KEY_BYTES)) {
        let seed: [u8; KEY_BYTES] = window.try_into().ok()?;
        if distinct(window) < KEY_DISTINCT || !tried.insert(seed) {
            continue;
        }
        let key = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        if id_of(&key) == id {
            return Some((seed, key));
        }
    }
    None
}

/// The device id of an identity key (protocol section 7.4).
fn id_of(key: &[u8]) -> String {
    let hash = Sha256::new().chain_update(label_bytes("id")).chain_update(key).finalize();
    BASE32_NOPAD.encode(&hash)[..32].to_lowercase()
}

/// Random-looking windows that are in both stores, every one, since the limits of what is shared are not known.
fn shared_windows(one: &[Vec<u8>], other: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
    let windows = |store: &[Vec<u8>]| -> BTreeSet<Vec<u8>> {
        let all = store.iter().flat_map(|file| file.windows(SHARED_BYTES));
        all.filter(|window| looks_secret(window)).map(<[u8]>::to_vec).collect()
    };
    windows(one).intersection(&windows(other)).cloned().collect()
}

/// Random bytes, or their hexadecimal form; not text, of which stores share a lot.
fn looks_secret(window: &[u8]) -> bool {
    let text = window.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let hex = window.iter().all(u8::is_ascii_hexdigit);
    if text { hex } else { distinct(window) >= SHARED_DISTINCT }
}

fn distinct(window: &[u8]) -> usize {
    window.iter().collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::{SigningKey, entropy_of, find_identity, id_of, shared_windows, words_of};

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut rng = crate::rng::Rng::new(seed);
        (0..length).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
    }

    #[test]
    fn words_and_entropy_belong_together() {
        let words = words_of(&[0x7f; 16]).expect("16 bytes are a code");
        assert_eq!(words, "legal winner thank year wave sausage worth useful legal winner thank yellow");
        assert_eq!(entropy_of(&words).expect("it is a code"), [0x7f; 16]);
        assert!(entropy_of("legal winner").is_err());
    }

    #[test]
    fn an_identity_seed_is_found_by_the_id_of_its_device() {
        let seed: [u8; 32] = noise(1, 32).try_into().expect("it has 32 bytes");
        let key = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let mut file = noise(2, 100);
        file.extend_from_slice(&seed);
        file.extend_from_slice(&noise(3, 100));
        assert_eq!(find_identity(&[vec![0; 4096], file], &id_of(&key)), Some((seed, key)));
        assert_eq!(find_identity(&[noise(4, 100)], &id_of(&key)), None);
    }

    #[test]
    fn what_two_stores_share_is_found_and_text_is_not() {
        let secret = noise(5, 32);
        let store = |seed| vec![[noise(seed, 50), secret.clone(), b"{\"pairings\":[\"state\"]}".to_vec()].concat()];
        let shared = shared_windows(&store(6), &store(7));
        assert!(shared.contains(&secret[..16]) && shared.contains(&secret[16..]));
        assert!(shared.iter().all(|window| !window.starts_with(b"\"pairing")));
    }
}
