//! `docs/vectors`: inputs, everything random included, and every byte that follows from them. Each value is computed
//! twice, by the crate and by `vectors/spec.rs` from the text of the protocol alone, and compared with the files, which
//! `HANDFAST_BLESS=1` rewrites.

mod handshake;
mod hello;
mod models;
pub(crate) mod presence;
pub(crate) mod record;
pub(crate) mod sas;
pub(crate) mod spec;

use std::path::PathBuf;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use handfast_proto::addr::RelayAddress;
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words::{self, to_words};
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::id::Tid;
use handfast_proto::keys::CodeKeys;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::record::Record;
use serde_json::{Value, json};

use crate::bench::address;
use spec::{h, hkdf, label, public};

/// Bytes as the files have them.
fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The seeds of the generator that a deterministic run needs are not part of a vector: only what was drawn is.
fn drawn<const N: usize>(rng: &mut Rng) -> [u8; N] {
    rng.bytes()
}

#[expect(clippy::disallowed_methods, reason = "a test's own wish; no machine sees it")]
fn bless() -> bool {
    std::env::var("HANDFAST_BLESS").is_ok()
}

/// Compares a file with what was computed, or rewrites it.
fn check(name: &str, value: &Value) {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", "vectors"].iter().collect();
    let path = folder.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(value).expect("JSON");
    text.push('\n');
    if bless() {
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("the vectors are there; HANDFAST_BLESS=1 writes them");
    assert_eq!(stored, text, "{name}.json is not what the code computes");
}

const ENTROPIES: [[u8; 16]; 4] = [
    [0; 16],
    [0x7f; 16],
    [0xff; 16],
    [0x9e, 0x88, 0x5d, 0x95, 0x2a, 0xd3, 0x62, 0xca, 0xeb, 0x4e, 0xfe, 0x34, 0xa8, 0xe9, 0x1b, 0xd2],
];

fn code(entropy: &[u8; 16]) -> Code {
    Code::from_entropy(Secret::new(*entropy))
}

#[test]
fn c25_vectors_of_the_words() {
    let codes: Vec<Value> = ENTROPIES
        .iter()
        .map(|entropy| {
            let words = to_words(&code(entropy)).join(" ");
            assert!(words::parse(&words).expect("a code") == code(entropy));
            json!({ "entropy": hex(entropy), "words": words })
        })
        .collect();
    let text = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    let accepted = [
        text.to_uppercase(),
        text.replace(' ', "\n\t "),
        text.replace(' ', ","),
        text.split(' ').map(|w| w.chars().take(4).collect::<String>()).collect::<Vec<_>>().join(" "),
        text.split(' ').enumerate().map(|(i, w)| format!("{}. {w} ", i + 1)).collect::<String>(),
        text.replace("legal", "\u{ff4c}\u{ff45}\u{ff47}\u{ff41}\u{ff4c}"),
    ];
    for form in &accepted {
        assert!(words::parse(form).expect("accepted") == code(&[0x7f; 16]), "{form}");
    }
    let refused = [
        ("too few words", text[..text.len() - 7].to_owned()),
        ("too many words", format!("{text} zoo")),
        ("checksum", text.replace("year wave", "wave year")),
        ("not a word", text.replace("sausage", "susage")),
        ("prefix of three letters", text.replace("winner", "wag")),
        ("names of emoji", "anchor apple ball balloon banana bell bicycle book butterfly cactus cake camel".to_owned()),
    ];
    let refused: Vec<Value> = refused
        .iter()
        .map(|(why, text)| {
            assert!(text.parse::<CodeInput>().is_err(), "{why}");
            json!({ "why": why, "text": text })
        })
        .collect();
    let accepted = json!({ "entropy": hex(&[0x7f; 16]), "texts": accepted });
    check("words", &json!({ "codes": codes, "accepted": accepted, "refused": refused }));
}

#[test]
fn c25_b3_vectors_of_the_key_schedule() {
    let rows: Vec<Value> = ENTROPIES
        .iter()
        .map(|entropy| {
            let expand = |name: &str| hkdf(&label("code"), entropy, &[&label(name)]);
            let pk_r = public(&expand("adv sig"));
            let topic = h(&[&label("topic"), &pk_r]);
            let session = hex(&h(&[&label("session"), &topic])[..8]);
            let keys = CodeKeys::derive(&code(entropy));
            assert_eq!(keys.topic().0, topic);
            assert_eq!(keys.session_id().0, session);
            json!({
                "entropy": hex(entropy),
                "psk": hex(&expand("psk")),
                "tag": hex(&expand("tag")),
                "adv_sig": hex(&expand("adv sig")),
                "pk_r": hex(&pk_r),
                "adv_key": hex(&expand("adv key")),
                "lan": hex(&expand("lan")),
                "confirm": hex(&expand("confirm")),
                "topic": hex(&topic),
                "session": session,
            })
        })
        .collect();
    check("keys", &json!({ "keys": rows }));
}

fn adverts() -> Vec<(&'static str, Advert)> {
    let relay = RelayAddress { relay: address(9), relay_tid: Tid([0x51; 32]) };
    let v6 = "/ip6/2a0a::7/tcp/65535".parse().expect("an address");
    let open = |addresses, relays| Advert {
        state: AdvertState::Open,
        not_after: UnixTime(1_800_000_600),
        tid: Tid([0x42; 32]),
        addresses,
        relays,
    };
    vec![
        ("no address", open(Vec::new(), Vec::new())),
        ("two addresses and a relay", open(vec![address(1), v6], vec![relay])),
        ("as long as it can be", open(vec![v6; 6], vec![RelayAddress { relay: v6, ..relay }; 2])),
        ("used", Advert::tombstone(AdvertState::Used)),
        ("expired", Advert::tombstone(AdvertState::Expired)),
        ("cancelled", Advert::tombstone(AdvertState::Cancelled)),
        ("burned", Advert::tombstone(AdvertState::Burned)),
    ]
}

fn state_byte(state: AdvertState) -> u8 {
    match state {
        AdvertState::Open => 0,
        AdvertState::Used => 1,
        AdvertState::Expired => 2,
        AdvertState::Cancelled => 3,
        AdvertState::Burned => 4,
    }
}

/// The plaintext, from the text of the protocol.
fn plain(advert: &Advert, rnd: &[u8; 16]) -> Vec<u8> {
    let addresses: Vec<Vec<u8>> = advert.addresses.iter().map(|a| a.to_bytes()).collect();
    let relays: Vec<Vec<u8>> = advert.relays.iter().map(|r| r.to_bytes()).collect();
    record::advert(state_byte(advert.state), advert.not_after.0 as u32, &advert.tid.0, &addresses, &relays, rnd)
}

#[test]
fn c25_b2_vectors_of_the_advert() {
    let rows: Vec<Value> = adverts()
        .iter()
        .map(|(name, advert)| {
            let rnd = [0x77; 16];
            let bytes = plain(advert, &rnd);
            assert_eq!(advert.to_bytes(rnd), bytes, "{name}");
            json!({
                "name": name,
                "state": state_byte(advert.state),
                "not_after": advert.not_after.0,
                "tid": hex(&advert.tid.0),
                "addresses": advert.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "address_bytes": advert.addresses.iter().map(|a| hex(&a.to_bytes())).collect::<Vec<_>>(),
                "relay_bytes": advert.relays.iter().map(|r| hex(&r.to_bytes())).collect::<Vec<_>>(),
                "rnd": hex(&rnd),
                "bytes": hex(&bytes),
            })
        })
        .collect();
    check("advert", &json!({ "adverts": rows }));
}

#[test]
fn c25_b2_vectors_of_the_record() {
    let mut rows = Vec::new();
    for (entropy, (seq, ttl)) in ENTROPIES.iter().zip([(1, 660), (2, 900), (u64::MAX, 1), (7, 65)]) {
        let (_, advert) = &adverts()[1];
        let plain = plain(advert, &[0x77; 16]);
        let expand = |name: &str| hkdf(&label("code"), entropy, &[&label(name)]);
        let nonce = drawn(&mut Rng::from_seed(Secret::new([3; 32])));
        let bytes = record::seal_record(&expand("adv sig"), &expand("adv key"), &plain, seq, ttl, &nonce);
        let keys = CodeKeys::derive(&code(entropy));
        let made = keys.record().seal(&plain, seq, ttl, &mut Rng::from_seed(Secret::new([3; 32])));
        assert_eq!(made.as_bytes()[..], bytes);
        let read = Record::validate(&keys.topic().0, &bytes).expect("valid for a node");
        let opened = keys.record().open(&read).expect("made under these keys");
        assert_eq!(&opened[..plain.len()], plain);
        rows.push(json!({
            "entropy": hex(entropy),
            "topic": hex(&keys.topic().0),
            "seq": seq,
            "ttl": ttl,
            "nonce": hex(&nonce),
            "plaintext": hex(&plain),
            "record": hex(&bytes),
        }));
    }
    check("record", &json!({ "records": rows }));
}

#[test]
fn c25_vectors_of_the_qr_text() {
    let cases: [&[&str]; 5] =
        [&[], &["192.168.1.2"], &["192.168.1.2", "10.0.0.1"], &["192.168.1.2", "10.0.0.1", "5.1.2.3"], &["2a0a::7"]];
    let rows: Vec<Value> = cases
        .iter()
        .map(|hints| {
            let ips: Vec<std::net::IpAddr> = hints.iter().map(|t| t.parse().expect("an address")).collect();
            let port: u16 = if ips.is_empty() { 0 } else { 4001 };
            let tid = [0x42; 32];
            let qr = QrText {
                code: code(&ENTROPIES[3]),
                tid: Tid(tid),
                in_dht: true,
                on_lan: false,
                port,
                hints: ips.clone(),
            };
            let mut bytes = [&[0x11][..], &ENTROPIES[3], &tid, &port.to_be_bytes()].concat();
            for ip in &ips {
                match ip {
                    std::net::IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
                    std::net::IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
                }
            }
            let sum = h(&[&label("qr"), &bytes]);
            bytes.extend_from_slice(&sum[..2]);
            let text = format!("HANDFAST:{}", BASE32_NOPAD.encode(&bytes));
            assert_eq!(qr.to_text(), text);
            assert!(QrText::parse(&text).expect("a text") == qr);
            json!({
                "entropy": hex(&ENTROPIES[3]),
                "tid": hex(&tid),
                "dht": true,
                "lan": false,
                "port": port,
                "hints": hints,
                "bytes": hex(&bytes),
                "text": text,
            })
        })
        .collect();
    check("qr", &json!({ "texts": rows }));
}
