//! `models/messages.txt`: the messages as this crate makes them, field by field, and the terms that stand for them in the
//! models. Whoever changes one without the other learns it here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use handfast_proto::handshake::Mode;
use handfast_proto::handshake::initiator::{H5, Next, P1};
use handfast_proto::handshake::joiner::{self, H2, H4};
use handfast_proto::id::{Identity, PairingId, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::link::PairState;
use handfast_proto::link::hello::{self, Bond, R2, ReceivedR1};
use handfast_proto::secret::Secret;
use handfast_proto::time::UnixTime;
use handfast_proto::wire::beacon::Nid;
use handfast_proto::wire::frames::{Frame, FrameType};

use super::handshake::{DIK_I, DIK_J, NID, PATTERN, TID_I, TID_J, Way, derive, info, rng};
use super::spec::{Symmetric, aead, h, hkdf, hmac, label, lp, sign, x25519, x25519_public};
use super::{code, drawn};

const ENTROPY: [u8; 16] = [0x5e; 16];
const TIME: u64 = 1_800_000_005;

type Values = BTreeMap<String, Vec<u8>>;

/// The file, as far as a test needs it in parts.
struct Table {
    lines: Vec<String>,
}

impl Table {
    fn read() -> Table {
        let text = model("messages.txt");
        let kept = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Table { lines: kept.map(str::to_owned).collect() }
    }

    /// What follows this word, as the words before the colon and the text behind it.
    fn all(&self, word: &str) -> Vec<(Vec<&str>, &str)> {
        let rest = self.lines.iter().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        let split = rest.filter_map(|rest| rest.split_once(':'));
        split.map(|(head, tail)| (head.split_whitespace().collect(), tail.trim())).collect()
    }

    /// The names of a message's fields in order, without lengths.
    fn fields(&self, message: &str) -> Vec<String> {
        let all = self.all("message");
        let (_, text) = all.iter().find(|(head, _)| head[0] == message).expect("a message of the table");
        text.split_whitespace().filter(|word| *word != "sealed").map(|word| field(word).0.to_owned()).collect()
    }
}

/// `name:32`, `lp(name)`.
fn field(word: &str) -> (&str, Option<usize>) {
    if let Some(name) = word.strip_prefix("lp(") {
        return (name.trim_end_matches(')'), None);
    }
    let (name, len) = word.split_once(':').expect("a field with its length");
    (name, Some(len.parse().expect("a number")))
}

fn model(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "..", "models", name].iter().collect();
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model without its comments, on one line.
fn source(name: &str) -> String {
    let text = model(name);
    let mut out = String::new();
    for (n, part) in text.split("(*").enumerate() {
        out.push_str(if n == 0 { part } else { part.split_once("*)").map_or("", |(_, rest)| rest) });
        out.push(' ');
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The frames of a handshake with a code and of a hello, as the crate makes them, and one frame each of the rest.
fn frames_of_the_crate(verify: bool) -> BTreeMap<FrameType, Frame> {
    let keys = CodeKeys::derive(&code(&ENTROPY));
    let identity = |seed| Identity::from_seed(Secret::new(seed));
    let (info_j, info_i) = (info("jane", "phone", TIME).0, info("ian", "computer", TIME).0);
    let (mut rj, mut ri) = (rng(1), rng(2));
    let mut frames = Vec::new();
    let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, verify, Tid(TID_J), Tid(TID_I), &mut rj);
    let read = P1::parse(&p1, Tid(TID_J), Tid(TID_I)).expect("a P1");
    let received = read.handle(&keys, &h1, &mut ri).expect("a proof");
    let (next, h2) = received.go_on(false, &mut ri);
    let (proved, sent_h2) = match (sent_h1.handle(&h2).expect("a proof"), next) {
        (H2::GoOn(proved), Next::Identity(next)) => (*proved, *next),
        (H2::Compare(comparing, s3), Next::Comparison(asked)) => {
            let own = asked.handle(&s3).expect("opens");
            frames.push(s3);
            (comparing.matched(), own.matched())
        }
        _ => panic!("both go on in one way"),
    };
    let (sent_h3, h3) = proved.send(&identity(DIK_J), &info_j, &mut rj);
    frames.push(sent_h3.resume_frame());
    let received = sent_h2.handle(&h3, identity(DIK_I).public()).expect("an identity");
    let (sent_h4, h4, _) = received.allow(&identity(DIK_I), &info_i, &mut ri);
    let Ok(H4::Offer(offer)) = sent_h3.handle(&h4) else { panic!("an offer") };
    let (_, h5) = offer.stored();
    let Ok(H5::Stored(received)) = sent_h4.handle(&h5) else { panic!("stored") };
    frames.extend([p1, h1, h2, h3, h4, h5, received.confirm()]);

    let (_, nearby) = joiner::start_nearby(Nid(NID), Tid(TID_J), Tid(TID_I), &mut rng(1));
    let nearby = P1::parse(&nearby, Tid(TID_J), Tid(TID_I)).expect("a P1");
    frames.extend(nearby.answer(&mut rng(2)).map(|(_, p2)| p2));

    let bond = |peer| Bond::new(PairingId([0x32; 16]), identity(peer).public(), &Secret::new([0x31; 32]));
    let (sent, r1) = hello::open(&bond(DIK_I), identity(DIK_J).public(), Tid(TID_J), Tid(TID_I), &mut rng(1));
    let received = ReceivedR1::parse(&r1, Tid(TID_J), Tid(TID_I)).expect("R1");
    let (_, r2) = received.answer(&bond(DIK_J), &identity(DIK_I), PairState::Pending, UnixTime(TIME), &mut rng(2));
    let Ok(R2::Proof(proof)) = sent.handle(&r2) else { panic!("a proof") };
    let (_, r3) = proof.send(&identity(DIK_J), PairState::Paired, UnixTime(TIME));
    frames.extend([r1, r2, r3, hello::accept(PairState::Paired)]);

    for kind in [FrameType::Ping, FrameType::Pong] {
        let bytes = [&[kind.byte()][..], &[7; 8]].concat();
        frames.push(Frame::from_rest(&bytes).expect("eight bytes"));
    }
    frames.into_iter().map(|frame| (frame.kind(), frame)).collect()
}

/// Everything that the two of them drew or had before, by the names of the table.
fn values(verify: bool) -> Values {
    let (_, info_j) = info("jane", "phone", TIME);
    let (_, info_i) = info("ian", "computer", TIME);
    let mode = if verify { 0x82 } else { 2 };
    let derived = derive(Way::Code { entropy: ENTROPY, mode }, &info_j, &info_i).value;
    let hex = |path: &str| {
        let text = derived.pointer(path).and_then(serde_json::Value::as_str).expect("a value of the vectors");
        HEXLOWER.decode(text.as_bytes()).expect("hex")
    };
    let expand = |name: &str| hkdf(&label("code"), &ENTROPY, &[&label(name)]).to_vec();
    let hello_key = |name: &str| hkdf(&label("pairing"), &[0x31; 32], &[&label(name)]).to_vec();
    let mut values: Values = [
        ("magic", b"HFPR".to_vec()),
        ("count", vec![1]),
        ("versions", vec![1, 0, 0, 0, 0, 0, 0, 0]),
        ("version", vec![1]),
        ("mode", vec![mode]),
        ("go_on", vec![u8::from(verify)]),
        ("ok", vec![0]),
        ("stored", vec![1]),
        ("confirmed", vec![2]),
        ("pending", vec![1]),
        ("paired", vec![2]),
        ("time", TIME.to_be_bytes().to_vec()),
        ("token", vec![7; 8]),
        ("nonce_A", drawn::<32>(&mut rng(1)).to_vec()),
        ("nonce_B", drawn::<32>(&mut rng(2)).to_vec()),
        ("rnd_I", drawn::<32>(&mut rng(2)).to_vec()),
        ("k_tag", expand("tag")),
        ("psk", expand("psk")),
        ("k_hello_tag", hello_key("hello tag")),
        ("k_hello_key", hello_key("hello key")),
        ("info_J", info_j),
        ("info_I", info_i),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    for (name, path) in [
        ("cb", "/cb"),
        ("h", "/h"),
        ("k_ji", "/k_ji"),
        ("k_ij", "/k_ij"),
        ("rnd_J", "/joiner/rnd"),
        ("r_J", "/joiner/r"),
        ("challenge_J", "/joiner/challenge"),
        ("x", "/joiner/e"),
        ("s_J", "/joiner/s"),
        ("DIK_J", "/joiner/identity"),
        ("y", "/initiator/e"),
        ("challenge_I", "/initiator/challenge"),
        ("s_I", "/initiator/s"),
        ("DIK_I", "/initiator/identity"),
        ("pairing_id", "/initiator/pairing_id"),
    ] {
        values.insert(name.to_owned(), hex(path));
    }
    for (public, secret) in [("e_J", "x"), ("e_I", "y")] {
        values.insert(public.to_owned(), x25519_public(&array(&values[secret])).to_vec());
    }
    values
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("its length")
}

/// A field's bytes: known, or computed as the table says. `head` is what stands before it.
fn value(table: &Table, values: &Values, name: &str, head: &[u8]) -> Vec<u8> {
    let inside = |function: &str| name.strip_prefix(function).and_then(|rest| rest.strip_suffix(')'));
    if let Some(name) = inside("H(") {
        return h(&[&value(table, values, name, head)]).to_vec();
    }
    if let Some(name) = inside("lp(") {
        return lp(&value(table, values, name, head));
    }
    if name == "head" {
        return head.to_vec();
    }
    if let Some(known) = values.get(name) {
        return known.clone();
    }
    let made = table.all("made");
    let (_, text) = made.iter().find(|(head, _)| head[0] == name).unwrap_or_else(|| panic!("{name} is unknown"));
    let [before, said, after] = text.split('"').collect::<Vec<_>>()[..] else { panic!("{name}: {text}") };
    let [how, key] = before.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{name}: {text}") };
    let mut parts = vec![label(said)];
    parts.extend(after.split_whitespace().map(|part| value(table, values, part, head)));
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    match how {
        "hash" => h(&parts).to_vec(),
        "hmac" => hmac(&values[key], &parts).to_vec(),
        "sign" => sign(if key == "DIK_J" { &DIK_J } else { &DIK_I }, &parts).to_vec(),
        other => panic!("{name}: {other}"),
    }
}

/// The body of a message before anything is sealed: in clear, and under the AEAD.
fn built(table: &Table, values: &Values, message: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let all = table.all("message");
    let (_, text) = all.iter().find(|(head, _)| head[0] == message).expect("a message of the table");
    let (mut clear, mut sealed) = (Vec::new(), None::<Vec<u8>>);
    // A signature covers the MAC before it.
    let mut values = values.clone();
    for word in text.split_whitespace() {
        if word == "sealed" {
            sealed = Some(Vec::new());
            continue;
        }
        let out = sealed.as_mut().unwrap_or(&mut clear);
        match field(word) {
            ("zeros", Some(len)) => out.resize(len, 0),
            (name, Some(len)) => {
                let mut bytes = value(table, &values, name, out);
                assert!(bytes.len() >= len, "{name} of {message} has {} bytes", bytes.len());
                // A MAC may be cut; everything else has its own length.
                assert!(bytes.len() == len || matches!(name, "tag" | "rtag"), "{name} of {message}");
                bytes.truncate(len);
                out.extend_from_slice(&bytes);
                values.insert(name.to_owned(), bytes);
            }
            (name, None) => out.extend(lp(&value(table, &values, name, out))),
        }
    }
    (clear, sealed)
}

/// The bodies of all messages, from the table and the primitives.
fn bodies(table: &Table, verify: bool) -> BTreeMap<String, Vec<u8>> {
    let mut values = values(verify);
    let mut out: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (p1, _) = built(table, &values, "P1");
    let prologue = [label("prologue"), vec![1, values["mode"][0]], lp(&values["cb"]), lp(&p1), lp(&[])].concat();
    let mut noise = Symmetric::new(PATTERN, &prologue);
    noise.mix_key_and_hash(&values["psk"]);
    out.insert("P1".to_owned(), p1);
    for message in ["H1", "H2"] {
        let (e, sealed) = built(table, &values, message);
        noise.mix_hash(&e);
        noise.mix_key(&e);
        if message == "H2" {
            noise.mix_key(&x25519(&array(&values["x"]), &array(&e)));
        }
        let body = [e, noise.encrypt_and_hash(&sealed.expect("a sealed part"))].concat();
        out.insert(message.to_owned(), body);
    }
    let (k_ji, k_ij): ([u8; 32], [u8; 32]) = (array(&values["k_ji"]), array(&values["k_ij"]));
    let (mut n_ji, mut n_ij) = (0, 0);
    for message in ["S3", "H3", "H4", "H5", "H6"] {
        if message == "S3" && !verify {
            continue;
        }
        let (clear, sealed) = built(table, &values, message);
        assert!(clear.is_empty(), "{message} is sealed as a whole");
        let (key, n) = if matches!(message, "H4" | "H6") { (&k_ij, &mut n_ij) } else { (&k_ji, &mut n_ji) };
        let body = aead(key, *n, &[], &sealed.expect("a sealed part"));
        *n += 1;
        values.insert(message.to_owned(), body.clone());
        out.insert(message.to_owned(), body);
    }
    // The hello is of a pairing of its own.
    values.insert("pairing_id".to_owned(), vec![0x32; 16]);
    values.insert("mode".to_owned(), vec![3]);
    for message in ["P2", "Resume", "R1", "R2", "R3", "R4", "Ping", "Pong"] {
        let (clear, sealed) = built(table, &values, message);
        assert!(sealed.is_none());
        values.insert(message.to_owned(), clear.clone());
        out.insert(message.to_owned(), clear);
    }
    out
}

#[test]
fn c25_the_messages_of_the_code_are_those_of_the_models_table_field_by_field() {
    let table = Table::read();
    for verify in [false, true] {
        let made = frames_of_the_crate(verify);
        let built = bodies(&table, verify);
        for (kind, frame) in &made {
            let name = format!("{kind:?}");
            let body = built.get(&name).unwrap_or_else(|| panic!("the table has no {name}"));
            assert_eq!(HEXLOWER.encode(frame.body()), HEXLOWER.encode(body), "{name}");
        }
    }
}

#[test]
fn c25_every_frame_type_is_in_the_models_table_and_no_other() {
    let table = Table::read();
    let listed: Vec<String> = table.all("message").iter().map(|(head, _)| head.join(" ")).collect();
    let known: Vec<String> = FrameType::ALL.iter().map(|kind| format!("{kind:?} {:02x}", kind.byte())).collect();
    assert_eq!(listed, known);
    let made = frames_of_the_crate(true);
    assert!(FrameType::ALL.iter().all(|kind| made.contains_key(kind)), "a message that this test does not make");
}

/// A term, those of its fields filled in.
fn filled(terms: &BTreeMap<&str, &str>, text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split('{').enumerate() {
        match part.split_once('}').filter(|_| n > 0) {
            Some((name, rest)) => {
                let term = terms.get(name).unwrap_or_else(|| panic!("{name} has no term in this model"));
                out.push_str(&filled(terms, term));
                out.push_str(rest);
            }
            None => out.push_str(part),
        }
    }
    out
}

#[test]
fn c25_the_models_send_the_fields_of_the_table() {
    let table = Table::read();
    let mut in_a_model: BTreeSet<String> = BTreeSet::new();
    let aliases: Vec<(&str, &str)> =
        table.lines.iter().filter_map(|line| line.strip_prefix("says ")?.split_once(" as ")).collect();
    for (head, text) in table.all("says") {
        let [file, message] = head[..] else { panic!("{head:?}") };
        let all = table.all("term");
        let terms: BTreeMap<&str, &str> =
            all.iter().filter(|(head, _)| head[0] == file).map(|(head, term)| (head[1], *term)).collect();
        // Every field of the message that this model knows, once. Which comes first in a pair is no more than writing.
        let expected: BTreeSet<String> =
            table.fields(message).into_iter().filter(|name| terms.contains_key(name.as_str())).collect();
        let mut said: Vec<String> =
            text.split('{').skip(1).filter_map(|part| Some(part.split_once('}')?.0.to_owned())).collect();
        said.sort();
        assert_eq!(said, expected.into_iter().collect::<Vec<_>>(), "{file} {message}");
        let term = filled(&terms, text).split_whitespace().collect::<Vec<_>>().join(" ");
        for file in [file].into_iter().chain(aliases.iter().filter(|(_, of)| *of == file).map(|(alias, _)| *alias)) {
            assert!(source(file).contains(&term), "{file} does not say {message} as {term}");
        }
        in_a_model.extend(said);
    }
    // What no model has is listed with its reason, and nothing else is.
    let left: BTreeSet<String> = table
        .all("left out")
        .iter()
        .flat_map(|(names, _)| names.iter().map(|name| name.trim_end_matches(',').to_owned()))
        .collect();
    let all: BTreeSet<String> = table.all("message").iter().flat_map(|(head, _)| table.fields(head[0])).collect();
    let missing: BTreeSet<String> = all.difference(&in_a_model).cloned().collect();
    assert_eq!(missing, left);
}

#[test]
fn c25_the_frames_of_the_commit_model_are_frames_of_the_code() {
    let table = Table::read();
    for (head, text) in table.all("frames") {
        let source = model(head[0]);
        let (_, rest) = source.split_once("mtype = {").expect("the messages of a state model");
        let (list, _) = rest.split_once('}').expect("their end");
        let declared: Vec<&str> = list.split(',').map(str::trim).collect();
        let listed: Vec<(&str, &str)> =
            text.split_whitespace().map(|word| word.split_once('=').unwrap_or((word, word))).collect();
        assert_eq!(declared, listed.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{}", head[0]);
        for (_, frame) in listed {
            assert!(FrameType::ALL.iter().any(|kind| format!("{kind:?}") == frame), "{frame} is no frame");
        }
    }
}
