//! Names of things: device identities and what people see of them, transport identities, pairings and sessions.

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER};

use crate::crypto::{self, SignKey};
use crate::secret::{Rng, Secret};

/// The long-term identity key of this device (DIK): an Ed25519 key that appears only inside encrypted handshakes.
///
/// It signs what sections 7 and 10 of the protocol list and nothing else, and is never a transport key.
pub struct Identity {
    seed: Secret<32>,
    key: SignKey,
}

impl Identity {
    /// The identity of a stored seed.
    pub fn from_seed(seed: Secret<32>) -> Identity {
        let key = SignKey::from_seed(&seed);
        Identity { seed, key }
    }

    /// A new identity.
    pub fn generate(rng: &mut Rng) -> Identity {
        Identity::from_seed(rng.secret())
    }

    /// The secret seed, for the store and nothing else.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> DeviceKey {
        DeviceKey(self.key.public())
    }

    /// `Ed25519(DIK, L(name) ‖ parts…)`.
    pub(crate) fn sign(&self, name: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.key.sign(name, parts)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity::from_seed(self.seed.clone())
    }
}

/// The public identity key of a device, 32 raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKey(pub [u8; 32]);

impl DeviceKey {
    /// Checks a signature of this device over `L(name) ‖ parts…`.
    pub(crate) fn verify(&self, name: &str, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
        crypto::verify(&self.0, name, parts, signature)
    }

    /// The device's id: the first 32 base32 characters of `H(L("id") ‖ DIK)`, lower case; the same on every peer.
    pub fn id(&self) -> DeviceId {
        DeviceId(self.base32()[..32].to_ascii_lowercase())
    }

    /// The fingerprint people compare: the first 20 characters (100 bits), upper case, in groups of four.
    pub fn fingerprint(&self) -> Fingerprint {
        let text = self.base32();
        let groups: Vec<&str> = (0..5).map(|i| &text[i * 4..i * 4 + 4]).collect();
        Fingerprint(groups.join(" "))
    }

    fn base32(&self) -> String {
        BASE32_NOPAD.encode(&crypto::hash("id", &[&self.0]))
    }
}

impl fmt::Debug for DeviceKey {
    /// Shows the fingerprint: what a person could compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.fingerprint().0)
    }
}

/// A device's id, 32 lower-case base32 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId(pub String);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The short form of a device key for people, such as `ABCD EFGH IJKL MNOP QRST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The transport identity of a running device or node (TID): its Ed25519 transport key as 32 raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tid(pub [u8; 32]);

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tid({}…)", HEXLOWER.encode(&self.0[..6]))
    }
}

/// The random name of one pairing, chosen by its initiator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairingId(pub [u8; 16]);

impl fmt::Debug for PairingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairingId({})", HEXLOWER.encode(&self.0))
    }
}

/// The name of one pairing attempt in events and commands: 16 hex digits, and a counter where one device tries the
/// same code again. Derived one-way from the code (D5): both sides show the same, and it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares a small identifier that one owner counts up.
macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

counter_id! {
    /// A piece of work a machine handed out; its answer carries the same id.
    JobId
}
counter_id! {
    /// An open stream, named by the driver.
    StreamId
}
counter_id! {
    /// An authenticated connection, named by the driver.
    ConnId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_and_id_are_two_forms_of_one_hash() {
        let key = Identity::from_seed(Secret::new([1; 32])).public();
        let fingerprint = key.fingerprint().0;
        assert_eq!(fingerprint.len(), 24);
        assert!(key.id().0.starts_with(&fingerprint.replace(' ', "").to_ascii_lowercase()));
        assert_eq!(key.id().0.len(), 32);
    }
}
