//! One whole handshake, Noise included, from the text of section 7.

use handfast_proto::handshake::Mode;
use handfast_proto::handshake::initiator::{H5, Next, P1};
use handfast_proto::handshake::joiner::{self, H2, H4};
use handfast_proto::id::{Identity, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::info::{DeviceInfo, DeviceName, DeviceType};
use serde_json::{Map, Value, json};

use super::spec::{Symmetric, aead, h, hkdf, hmac, label, lp, public, sign, x25519, x25519_public};
use super::{ENTROPIES, check, code, drawn, hex};

pub(super) const TID_J: [u8; 32] = [0x0a; 32];
pub(super) const TID_I: [u8; 32] = [0x0b; 32];
pub(super) const DIK_J: [u8; 32] = [0x1a; 32];
pub(super) const DIK_I: [u8; 32] = [0x1b; 32];
pub(super) const PATTERN: &[u8] = b"Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/// Everything random that one side draws, in the order in which the crate draws it.
struct Joiner {
    rnd: [u8; 32],
    r: [u8; 32],
    challenge: [u8; 32],
    e: [u8; 32],
    s: [u8; 32],
}

struct Initiator {
    /// Mode 3 only.
    rnd: [u8; 32],
    e: [u8; 32],
    challenge: [u8; 32],
    s: [u8; 32],
    pairing_id: [u8; 16],
}

pub(super) fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

/// The ephemeral key of a handshake comes from a generator of its own, seeded by the side's.
fn ephemeral(rng: &mut Rng) -> [u8; 32] {
    drawn(&mut Rng::from_seed(Secret::new(drawn(rng))))
}

fn joiner_draws() -> Joiner {
    let mut rng = rng(1);
    let (rnd, r, challenge) = (drawn(&mut rng), drawn(&mut rng), drawn(&mut rng));
    Joiner { rnd, r, challenge, e: ephemeral(&mut rng), s: drawn(&mut rng) }
}

fn initiator_draws(way: Way) -> Initiator {
    let mut rng = rng(2);
    let rnd = if way == Way::Nearby { drawn(&mut rng) } else { [0; 32] };
    let e = ephemeral(&mut rng);
    Initiator { rnd, e, challenge: drawn(&mut rng), s: drawn(&mut rng), pairing_id: drawn(&mut rng) }
}

pub(super) fn info(name: &str, kind: &str, clock: u64) -> (DeviceInfo, Vec<u8>) {
    let tlv = |t: u8, value: &[u8]| [&[t, value.len() as u8][..], value].concat();
    let bytes = [tlv(1, name.as_bytes()), tlv(2, kind.as_bytes()), tlv(5, &clock.to_be_bytes())].concat();
    let kind = DeviceType::from_name(kind);
    (DeviceInfo { name: DeviceName::clean(name), kind, clock: Some(UnixTime(clock)) }, bytes)
}

/// How the two meet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Modes 1 and 2; with a comparison the mode byte has bit 7.
    Code { entropy: [u8; 16], mode: u8 },
    /// Mode 3: the tag of P1 is this nid.
    Nearby,
}

/// The nid of mode 3.
pub(super) const NID: [u8; 16] = [0x0c; 16];

impl Way {
    fn mode(self) -> u8 {
        match self {
            Way::Code { mode, .. } => mode,
            Way::Nearby => 3,
        }
    }

    fn compares(self) -> bool {
        self.mode() == 3 || self.mode() & 0x80 != 0
    }
}

/// What a handshake comes to.
pub(super) struct Derived {
    /// The bodies of P1 to H6.
    pub(super) frames: Vec<(&'static str, Vec<u8>)>,
    pub(super) value: Value,
    pub(super) secret: [u8; 32],
    /// The 48 bits of a comparison.
    pub(super) sas: [u8; 6],
}

/// A whole handshake, with nothing of the crate.
pub(super) fn derive(way: Way, info_j: &[u8], info_i: &[u8]) -> Derived {
    let (j, i) = (joiner_draws(), initiator_draws(way));
    let (mode, compares) = (way.mode(), way.compares());
    let cb = h(&[&label("cb"), &[1], &TID_J, &TID_I]);
    let expand = |entropy: &[u8; 16], name: &str| hkdf(&label("code"), entropy, &[&label(name)]);
    let tag = match way {
        Way::Code { entropy, .. } => hmac(&expand(&entropy, "tag"), &[&label("p1"), &cb, &j.rnd])[..16].to_vec(),
        Way::Nearby => NID.to_vec(),
    };
    let commitment = h(&[&label("commit"), &j.r, &j.rnd]);
    let p1 = [b"HFPR", &[1][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[mode], &tag, &j.rnd, &commitment].concat();
    let p2 = if way == Way::Nearby { [&[1, mode][..], &i.rnd].concat() } else { Vec::new() };
    let psk = match way {
        Way::Code { entropy, .. } => expand(&entropy, "psk"),
        Way::Nearby => h(&[&label("sas psk"), &p1, &p2]),
    };
    let prologue = [label("prologue"), vec![1, mode], lp(&cb), lp(&p1), lp(&p2)].concat();

    let mut noise = Symmetric::new(PATTERN, &prologue);
    noise.mix_key_and_hash(&psk);
    let e_j = x25519_public(&j.e);
    noise.mix_hash(&e_j);
    noise.mix_key(&e_j);
    let h1 = [&e_j[..], &noise.encrypt_and_hash(&j.challenge)].concat();
    let e_i = x25519_public(&i.e);
    noise.mix_hash(&e_i);
    noise.mix_key(&e_i);
    noise.mix_key(&x25519(&j.e, &e_i));
    let h2 = [&e_i[..], &noise.encrypt_and_hash(&[&[u8::from(compares)][..], &i.challenge].concat())].concat();
    let hash = noise.h;
    let [k_ji, k_ij] = noise.split();
    let sas: [u8; 6] = hkdf(&label("sas"), &hash, &[&i.challenge, &j.r, &cb])[..6].try_into().expect("6 of 32 bytes");
    // The joiner's counter: S3 comes before H3.
    let s3 = aead(&k_ji, 0, &[], &j.r);
    let first = u64::from(compares);

    let (dik_j, dik_i) = (public(&DIK_J), public(&DIK_I));
    let sig_j = sign(&DIK_J, &[&label("sig J"), &hash, &i.challenge, &j.challenge, &lp(&dik_j), &h(&[info_j]), &j.s]);
    let mut plain = [&dik_j[..], &j.s, &j.r, &sig_j, &lp(info_j)].concat();
    plain.resize(688, 0);
    let h3 = aead(&k_ji, first, &[], &plain);
    let sig_i = sign(
        &DIK_I,
        &[
            &label("sig I"),
            &hash,
            &j.challenge,
            &i.challenge,
            &lp(&dik_i),
            &lp(&dik_j),
            &h(&[&h3]),
            &h(&[info_i]),
            &i.s,
            &i.pairing_id,
        ],
    );
    let mut plain = [&[0][..], &dik_i, &i.s, &i.pairing_id, &sig_i, &lp(info_i)].concat();
    plain.resize(688, 0);
    let h4 = aead(&k_ij, 0, &[], &plain);
    let h5 = aead(&k_ji, first + 1, &[], &[&[1][..], &h(&[&h4])].concat());
    let h6 = aead(&k_ij, 1, &[], &[&[2][..], &h(&[&h5])].concat());
    let secret = hkdf(&hash, &[j.s, i.s].concat(), &[&label("pair"), &dik_j, &dik_i, &i.pairing_id]);
    let mut frames = vec![("P1", p1), ("P2", p2), ("H1", h1), ("H2", h2)];
    frames.extend([("S3", s3), ("H3", h3), ("H4", h4), ("H5", h5), ("H6", h6)]);
    frames.retain(|(name, _)| (*name != "P2" || way == Way::Nearby) && (*name != "S3" || compares));
    let mut value = json!({
        "mode": mode,
        "joiner": {
            "tid": hex(&TID_J), "identity_seed": hex(&DIK_J), "identity": hex(&dik_j), "info": hex(info_j),
            "rnd": hex(&j.rnd), "r": hex(&j.r), "challenge": hex(&j.challenge), "e": hex(&j.e), "s": hex(&j.s),
        },
        "initiator": {
            "tid": hex(&TID_I), "identity_seed": hex(&DIK_I), "identity": hex(&dik_i), "info": hex(info_i),
            "challenge": hex(&i.challenge), "e": hex(&i.e), "s": hex(&i.s), "pairing_id": hex(&i.pairing_id),
        },
        "cb": hex(&cb),
        "h": hex(&hash),
        "k_ji": hex(&k_ji),
        "k_ij": hex(&k_ij),
        "resume": hex(&h(&[&label("resume"), &hash])),
        "pair_secret": hex(&secret),
        "frames": frames.iter().map(|(name, body)| ((*name).to_owned(), hex(body).into())).collect::<Map<_, _>>(),
    });
    match way {
        Way::Code { entropy, .. } => value["entropy"] = hex(&entropy).into(),
        Way::Nearby => {
            value["nid"] = hex(&NID).into();
            value["psk"] = hex(&psk).into();
            value["initiator"]["rnd"] = hex(&i.rnd).into();
        }
    }
    Derived { frames, value, secret, sas }
}

#[test]
fn c25_b16_vectors_of_the_handshake() {
    let mut rows = Vec::new();
    for (entropy, mode, byte) in [(ENTROPIES[3], Mode::Words, 2), (ENTROPIES[1], Mode::Qr, 1)] {
        let (info_j, bytes_j) = info("Jane's phone", "phone", 1_800_000_000);
        let (info_i, bytes_i) = info("ian", "computer", 1_800_000_007);
        let Derived { frames, value, secret, .. } = derive(Way::Code { entropy, mode: byte }, &bytes_j, &bytes_i);
        let mut expected = frames.iter();
        let mut is_next = |body: &[u8]| {
            let (name, bytes) = expected.next().expect("a frame");
            assert_eq!(hex(body), hex(bytes), "{name}");
        };
        let keys = CodeKeys::derive(&code(&entropy));
        let identity = |seed| Identity::from_seed(Secret::new(seed));
        let (mut rj, mut ri) = (rng(1), rng(2));
        let (sent_h1, [p1, h1]) = joiner::start(&keys, mode, false, Tid(TID_J), Tid(TID_I), &mut rj);
        is_next(p1.body());
        is_next(h1.body());
        let read = P1::parse(&p1, Tid(TID_J), Tid(TID_I)).expect("a P1");
        let received = read.handle(&keys, &h1, &mut ri).expect("a proof");
        let (Next::Identity(sent_h2), h2) = received.go_on(false, &mut ri) else { panic!("no comparison") };
        is_next(h2.body());
        assert_eq!(value["resume"], hex(&sent_h2.resume_token()));
        let Ok(H2::GoOn(proved)) = sent_h1.handle(&h2) else { panic!("told to go on") };
        let (sent_h3, h3) = proved.send(&identity(DIK_J), &info_j, &mut rj);
        is_next(h3.body());
        let received = sent_h2.handle(&h3, identity(DIK_I).public()).expect("an identity");
        let (sent_h4, h4, agreed) = received.allow(&identity(DIK_I), &info_i, &mut ri);
        is_next(h4.body());
        let Ok(H4::Offer(offer)) = sent_h3.handle(&h4) else { panic!("an offer") };
        assert_eq!(*offer.agreement().pair_secret.expose(), secret);
        assert_eq!(*agreed.pair_secret.expose(), secret);
        let (sent_h5, h5) = offer.stored();
        is_next(h5.body());
        let Ok(H5::Stored(received)) = sent_h4.handle(&h5) else { panic!("stored") };
        let h6 = received.confirm();
        is_next(h6.body());
        sent_h5.handle(&h6).expect("confirmed");
        rows.push(value);
    }
    check("handshake", &json!({ "pattern": String::from_utf8_lossy(PATTERN), "handshakes": rows }));
}
