//! The hello and the presence record, from the text of section 10.

use handfast_proto::addr::LoopbackPolicy;
use handfast_proto::id::{Identity, PairingId, Tid};
use handfast_proto::link::hello::{self, Bond, R2, ReceivedR1};
use handfast_proto::link::{Config, Job, Links, Output, PairState, Peer, Tombstone};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::session::Role;
use handfast_proto::time::{Now, Time, UnixTime};
use serde_json::json;

use super::presence::keys;
use super::record::{advert, seal_record};
use super::spec::{h, hkdf, hmac, label, public, sign};
use super::{check, drawn, hex};

const SECRET: [u8; 32] = [0x31; 32];
const ID: [u8; 16] = [0x32; 16];
const TID_A: [u8; 32] = [0x0a; 32];
const TID_B: [u8; 32] = [0x0b; 32];
const DIK_A: [u8; 32] = [0x1a; 32];
const DIK_B: [u8; 32] = [0x1b; 32];
const TIME_A: u64 = 1_800_000_001;
const TIME_B: u64 = 1_800_000_002;

fn rng(n: u8) -> Rng {
    Rng::from_seed(Secret::new([n; 32]))
}

fn identity(seed: [u8; 32]) -> Identity {
    Identity::from_seed(Secret::new(seed))
}

#[test]
fn c25_vectors_of_the_hello() {
    let (nonce_a, nonce_b): ([u8; 32], [u8; 32]) = (drawn(&mut rng(1)), drawn(&mut rng(2)));
    let expand = |name: &str| hkdf(&label("pairing"), &SECRET, &[&label(name)]);
    let (tag, key) = (expand("hello tag"), expand("hello key"));
    let (dik_a, dik_b) = (public(&DIK_A), public(&DIK_B));
    let cb = h(&[&label("cb"), &[1], &TID_A, &TID_B]);
    let rtag = hmac(&tag, &[&label("rtag"), &cb, &nonce_a]);
    let r1 = [&[1][..], &nonce_a, &rtag[..16]].concat();
    let head = [&[0, 1][..], &TIME_B.to_be_bytes(), &nonce_b].concat();
    let mac_b = hmac(&key, &[&label("hello B"), &ID, &cb, &r1, &head]);
    let sig_b = sign(&DIK_B, &[&label("tid B"), &ID, &dik_a, &cb, &nonce_a, &nonce_b, &mac_b]);
    let r2 = [&head[..], &mac_b, &sig_b].concat();
    let head = [&[2][..], &TIME_A.to_be_bytes()].concat();
    let mac_a = hmac(&key, &[&label("hello A"), &ID, &cb, &r1, &r2, &head]);
    let sig_a = sign(&DIK_A, &[&label("tid A"), &ID, &dik_b, &cb, &nonce_a, &nonce_b, &mac_a]);
    let r3 = [&head[..], &mac_a, &sig_a].concat();
    let seq = 4u64.to_be_bytes();
    let notice = sign(&DIK_B, &[&label("revoked"), &ID, &dik_a, &cb, &nonce_a, &seq]);
    let revoked = [&[1, 0][..], &seq, &[0; 64], &notice].concat();
    let acknowledged = [&[0xff][..], &[0; 104]].concat();

    let secret = Secret::new(SECRET);
    let bond_a = Bond::new(PairingId(ID), identity(DIK_B).public(), &secret);
    let bond_b = Bond::new(PairingId(ID), identity(DIK_A).public(), &secret);
    let open = || hello::open(&bond_a, identity(DIK_A).public(), Tid(TID_A), Tid(TID_B), &mut rng(1));
    let (sent_r1, made_r1) = open();
    assert_eq!(made_r1.body(), r1);
    let received = ReceivedR1::parse(&made_r1, Tid(TID_A), Tid(TID_B)).expect("R1");
    assert!(received.is_from(bond_b.tag_key()));
    let (sent_r2, made_r2) =
        received.answer(&bond_b, &identity(DIK_B), PairState::Pending, UnixTime(TIME_B), &mut rng(2));
    assert_eq!(made_r2.body(), r2);
    let Ok(R2::Proof(proof)) = sent_r1.handle(&made_r2) else { panic!("a proof") };
    let (sent_r3, made_r3) = proof.send(&identity(DIK_A), PairState::Paired, UnixTime(TIME_A));
    assert_eq!(made_r3.body(), r3);
    sent_r2.handle(&made_r3).expect("a proof");
    let r4 = hello::accept(PairState::Paired);
    assert_eq!(r4.body(), [0, 2]);
    assert_eq!(sent_r3.handle(&r4), Ok(PairState::Paired));

    let tombstone =
        Tombstone { pairing_id: PairingId(ID), peer: identity(DIK_A).public(), tag: Secret::new(tag), seq: 4 };
    let made = ReceivedR1::parse(&made_r1, Tid(TID_A), Tid(TID_B)).expect("R1").revoke(&tombstone, &identity(DIK_B));
    assert_eq!(made.body(), revoked);
    let Ok(R2::Revoked { acknowledgement }) = open().0.handle(&made) else { panic!("a notice") };
    assert_eq!(acknowledgement.body(), acknowledged);

    check(
        "hello",
        &json!({
            "pair_secret": hex(&SECRET),
            "pairing_id": hex(&ID),
            "a": {
                "tid": hex(&TID_A), "identity_seed": hex(&DIK_A), "identity": hex(&dik_a), "nonce": hex(&nonce_a),
                "time": TIME_A, "state": 2,
            },
            "b": {
                "tid": hex(&TID_B), "identity_seed": hex(&DIK_B), "identity": hex(&dik_b), "nonce": hex(&nonce_b),
                "time": TIME_B, "state": 1,
            },
            "hello_tag": hex(&tag),
            "hello_key": hex(&key),
            "cb": hex(&cb),
            "frames": { "R1": hex(&r1), "R2": hex(&r2), "R3": hex(&r3), "R4": "0002" },
            "revoked": { "seq": 4, "R2": hex(&revoked), "R3": hex(&acknowledged) },
        }),
    );
}

#[test]
fn c25_vectors_of_the_presence_record() {
    let now = Now { time: Time::ZERO, unix: UnixTime(TIME_A) };
    let period = u32::try_from(TIME_A / 86_400).expect("a period");
    let mut rows = Vec::new();
    for (role, direction) in [(Role::Joiner, 1), (Role::Initiator, 2)] {
        // The links draw: 16 bytes of the advert, then the nonce of the record.
        let mut draws = rng(5);
        let (rnd, nonce): ([u8; 16], [u8; 24]) = (drawn(&mut draws), drawn(&mut draws));
        let seq = (3u64 << 32) | 1;
        let (sign_seed, key) = keys(&SECRET, direction, period);
        let topic = h(&[&label("topic"), &public(&sign_seed)]);
        let mut plain = advert(0, 0, &TID_A, &[crate::bench::address(1).to_bytes()], &[], &rnd);
        plain.extend_from_slice(&sign(&DIK_A, &[&label("pres"), &ID, &topic, &seq.to_be_bytes(), &TID_A]));
        let bytes = seal_record(&sign_seed, &key, &plain, seq, 900, &nonce);

        let config = Config {
            tid: Tid(TID_A),
            identity: identity(DIK_A),
            dht: true,
            loopback: LoopbackPolicy::Refuse,
            start: 3,
        };
        let peer = Peer {
            pairing_id: PairingId(ID),
            key: identity(DIK_B).public(),
            role,
            state: PairState::Paired,
            secret: Secret::new(SECRET),
            clock_offset: 0,
            addresses: Vec::new(),
            since: UnixTime(TIME_A),
        };
        let mut links = Links::new(config, rng(5), vec![peer], Vec::new(), now);
        links.set_addresses(vec![crate::bench::address(1)], now);
        let record = std::iter::from_fn(|| links.poll_output()).find_map(|output| match output {
            Output::Job(_, Job::Publish(record)) => Some(record),
            _ => None,
        });
        assert_eq!(record.expect("published at once").as_bytes()[..], bytes);
        rows.push(json!({
            "pair_secret": hex(&SECRET),
            "pairing_id": hex(&ID),
            "identity_seed": hex(&DIK_A),
            "direction": direction,
            "period": period,
            "seq": seq,
            "ttl": 900,
            "tid": hex(&TID_A),
            "rnd": hex(&rnd),
            "nonce": hex(&nonce),
            "pres_sig": hex(&sign_seed),
            "pres_key": hex(&key),
            "topic": hex(&topic),
            "plaintext": hex(&plain),
            "record": hex(&bytes),
        }));
    }
    check("presence", &json!({ "records": rows }));
}
