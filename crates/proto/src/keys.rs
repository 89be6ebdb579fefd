//! The key schedule of a code (section 3): everything either side needs, from 16 secret bytes and nothing else. There is
//! no clock in it, so two devices whose clocks differ by days meet at the same place.

use crate::code::Code;
use crate::crypto::{self, Kdf, label};
use crate::id::SessionId;
use crate::secret::{Secret, ct_eq};
use crate::wire::record::{RecordKeys, Topic};

/// The keys of one code. Memory only.
pub struct CodeKeys {
    psk: Secret<32>,
    tag: Secret<32>,
    record: RecordKeys,
    lan: LanKeys,
}

/// What a holder of a code proves itself with on a local network: it authenticates beacons and confirmation messages,
/// and nothing else.
#[derive(Clone)]
pub struct LanKeys {
    pub(crate) beacon: Secret<32>,
    pub(crate) confirm: Secret<32>,
}

impl CodeKeys {
    /// Derives the keys.
    pub fn derive(code: &Code) -> CodeKeys {
        let kdf = Kdf::extract(&label("code"), code.entropy().expose());
        CodeKeys {
            psk: kdf.expand("psk", &[]),
            tag: kdf.expand("tag", &[]),
            record: RecordKeys::new(&kdf.expand("adv sig", &[]), kdf.expand("adv key", &[])),
            lan: LanKeys { beacon: kdf.expand("lan", &[]), confirm: kdf.expand("confirm", &[]) },
        }
    }

    /// What proves the code on a local network.
    pub fn lan(&self) -> &LanKeys {
        &self.lan
    }

    /// Noise pre-shared key of modes 1 and 2.
    pub(crate) fn psk(&self) -> &Secret<32> {
        &self.psk
    }

    /// Keys of the rendezvous record.
    pub fn record(&self) -> &RecordKeys {
        &self.record
    }

    /// Keeps the keys of the record alone; whoever has them can find the holder of the code and prove nothing.
    pub(crate) fn into_record(self) -> RecordKeys {
        self.record
    }

    /// Where the record lies.
    pub fn topic(&self) -> Topic {
        self.record.topic()
    }

    /// The session's name in events, the same on both sides; one-way from the public topic.
    pub fn session_id(&self) -> SessionId {
        let h = crypto::hash("session", &[&self.topic().0]);
        SessionId(data_encoding::HEXLOWER.encode(&h[..8]))
    }

    /// The tag of P1 for a channel and a nonce.
    pub(crate) fn p1_tag(&self, cb: &[u8; 32], rnd: &[u8; 32]) -> [u8; 16] {
        let mac = crypto::hmac(&self.tag, "p1", &[cb, rnd]);
        mac[..16].try_into().expect("16 of 32 bytes")
    }

    /// Whether a tag of P1 was made with this code.
    pub(crate) fn is_p1_tag(&self, cb: &[u8; 32], rnd: &[u8; 32], tag: &[u8; 16]) -> bool {
        ct_eq(&self.p1_tag(cb, rnd), tag)
    }
}
