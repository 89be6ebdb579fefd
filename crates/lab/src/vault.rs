//! Opens the sealed store of a device as its owner could: with the key file beside it. Written from the documents
//! (decision 0004), not from the code under test, so that what is searched for is what is really there.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::HEXLOWER;
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::Value;

/// Sealed rows by name: `nonce[24] ‖ XChaCha20-Poly1305(key, nonce, AD = name, row)`.
const SEALED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sealed");

/// Length of the nonce in front of a row.
const NONCE_BYTES: usize = 24;

/// What a device keeps secret.
pub struct Vault {
    /// The seed of its identity.
    pub seed: [u8; 32],
    /// The secrets of its pairings.
    pub pair_secrets: Vec<Vec<u8>>,
}

/// Opens the store in the directory `dir` of an instance, which may be running: a copy is read.
///
/// # Errors
/// When a file is missing or a row does not open.
pub fn open(dir: &Path) -> Result<Vault> {
    let key: [u8; 32] = std::fs::read(dir.join("store.key"))?.try_into().ok().context("a key has 32 bytes")?;
    let cipher = XChaCha20Poly1305::new(&key.into());
    let copy = tempfile::NamedTempFile::new()?;
    std::fs::copy(dir.join("store.redb"), copy.path())?;
    let database = redb::Database::open(copy.path()).context("the copy of a store")?;
    let rows = database.begin_read()?;
    let rows = rows.open_table(SEALED)?;
    let (mut seed, mut pair_secrets) = (None, Vec::new());
    for row in rows.iter()? {
        let (name, sealed) = row?;
        let (name, sealed) = (name.value(), sealed.value());
        ensure!(sealed.len() > NONCE_BYTES, "row {name} is too short");
        let nonce: [u8; NONCE_BYTES] = sealed[..NONCE_BYTES].try_into()?;
        let payload = Payload { msg: &sealed[NONCE_BYTES..], aad: name.as_bytes() };
        let plain = cipher.decrypt(&XNonce::from(nonce), payload).ok().with_context(|| format!("row {name}"))?;
        if name == "identity" {
            seed = Some(plain.as_slice().try_into().ok().context("a seed has 32 bytes")?);
        } else if name.starts_with("peer/") {
            let row: Value = serde_json::from_slice(&plain)?;
            let secret = row.get("secret").and_then(Value::as_str).context("a pairing has a secret")?;
            pair_secrets.push(HEXLOWER.decode(secret.as_bytes())?);
        }
    }
    Ok(Vault { seed: seed.context("a store has an identity")?, pair_secrets })
}
