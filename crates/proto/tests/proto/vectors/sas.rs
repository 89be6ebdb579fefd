//! The comparison, from the text of section 7.3 and the table of appendix B as `docs/protocol.md` has it.

use handfast_proto::handshake::Mode;
use handfast_proto::handshake::initiator::{H5, Next, P1};
use handfast_proto::handshake::joiner::{self, H2, H4};
use handfast_proto::id::{Identity, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::sas::TABLE;
use handfast_proto::secret::Secret;
use handfast_proto::wire::beacon::Nid;
use serde_json::{Value, json};

use super::handshake::{DIK_I, DIK_J, Derived, NID, PATTERN, TID_I, TID_J, Way, derive, info, rng};
use super::{ENTROPIES, check, code, hex};

/// The protocol as people read it.
const PROTOCOL: &str = include_str!("../../../../../docs/protocol.md");

/// Emoji and name of each index, read from the page.
pub(crate) fn table() -> Vec<(String, String)> {
    let (_, appendix) = PROTOCOL.split_once("## Appendix B").expect("the appendix is there");
    let mut rows = Vec::new();
    for line in appendix.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", index, emoji, ""] = cells[..]
            && let Ok(index) = index.parse::<usize>()
        {
            assert_eq!(index, rows.len(), "the first column counts");
            rows.extend(emoji.split(", ").map(|row| {
                let (name, emoji) = row.rsplit_once(' ').expect("a name and an emoji");
                (emoji.to_owned(), name.to_owned())
            }));
        }
    }
    rows
}

/// The first bits as text, in groups of `size`.
fn groups(sas: &[u8; 6], size: usize, count: usize) -> Vec<usize> {
    let bits: String = sas.iter().map(|byte| format!("{byte:08b}")).collect();
    (0..count).map(|n| usize::from_str_radix(&bits[n * size..(n + 1) * size], 2).expect("bits")).collect()
}

/// What both screens show.
struct Shown {
    emoji: Vec<String>,
    names: Vec<String>,
    numbers: Vec<usize>,
}

fn shown(sas: &[u8; 6]) -> Shown {
    let table = table();
    let rows: Vec<&(String, String)> = groups(sas, 6, 7).into_iter().map(|index| &table[index]).collect();
    Shown {
        emoji: rows.iter().map(|(emoji, _)| emoji.clone()).collect(),
        names: rows.iter().map(|(_, name)| name.clone()).collect(),
        numbers: groups(sas, 13, 3).into_iter().map(|n| n + 1000).collect(),
    }
}

#[test]
fn the_table_of_the_crate_is_that_of_the_protocol() {
    let table = table();
    assert_eq!(table.len(), 64);
    for (index, ((emoji, name), row)) in table.iter().zip(TABLE).enumerate() {
        assert_eq!((emoji.as_str(), name.as_str()), row, "{index}");
    }
}

#[test]
fn c25_vectors_of_the_comparison() {
    let mut rows = Vec::new();
    for way in [Way::Code { entropy: ENTROPIES[3], mode: 0x82 }, Way::Nearby] {
        let (info_j, bytes_j) = info("Jane's phone", "phone", 1_800_000_000);
        let (info_i, bytes_i) = info("ian", "computer", 1_800_000_007);
        let Derived { frames, mut value, secret, sas } = derive(way, &bytes_j, &bytes_i);
        let Shown { emoji, names, numbers } = shown(&sas);
        let mut expected = frames.iter();
        let mut is_next = |body: &[u8]| {
            let (name, bytes) = expected.next().expect("a frame");
            assert_eq!(hex(body), hex(bytes), "{name}");
        };
        let identity = |seed| Identity::from_seed(Secret::new(seed));
        let (own, other) = (Tid(TID_J), Tid(TID_I));
        let (mut rj, mut ri) = (rng(1), rng(2));
        let (sent_h1, received) = match way {
            Way::Code { entropy, .. } => {
                let keys = CodeKeys::derive(&code(&entropy));
                let (sent_h1, [p1, h1]) = joiner::start(&keys, Mode::Words, true, own, other, &mut rj);
                is_next(p1.body());
                is_next(h1.body());
                let read = P1::parse(&p1, own, other).expect("a P1");
                (sent_h1, read.handle(&keys, &h1, &mut ri).expect("a proof"))
            }
            Way::Nearby => {
                let (sent_p1, p1) = joiner::start_nearby(Nid(NID), own, other, &mut rj);
                is_next(p1.body());
                let read = P1::parse(&p1, own, other).expect("a P1");
                assert_eq!(read.nid(), Some(Nid(NID)));
                let (sent_p2, p2) = read.answer(&mut ri).expect("no code");
                is_next(p2.body());
                let (sent_h1, h1) = sent_p1.handle(&p2, &mut rj).expect("a P2");
                is_next(h1.body());
                (sent_h1, sent_p2.handle(&h1, &mut ri).expect("an H1"))
            }
        };
        let (Next::Comparison(asked), h2) = received.go_on(false, &mut ri) else { panic!("asked for") };
        is_next(h2.body());
        let Ok(H2::Compare(of_joiner, s3)) = sent_h1.handle(&h2) else { panic!("a comparison") };
        is_next(s3.body());
        let of_initiator = asked.handle(&s3).expect("the commitment opens");
        for side in [of_joiner.sas(), of_initiator.sas()] {
            assert_eq!(side.emoji().to_vec(), emoji);
            assert_eq!(side.names().to_vec(), names);
            assert_eq!(side.numbers().map(usize::from).to_vec(), numbers);
        }
        let (sent_h3, h3) = of_joiner.matched().send(&identity(DIK_J), &info_j, &mut rj);
        is_next(h3.body());
        let received = of_initiator.matched().handle(&h3, identity(DIK_I).public()).expect("an identity");
        let (sent_h4, h4, agreed) = received.allow(&identity(DIK_I), &info_i, &mut ri);
        is_next(h4.body());
        assert_eq!(*agreed.pair_secret.expose(), secret);
        let Ok(H4::Offer(offer)) = sent_h3.handle(&h4) else { panic!("an offer") };
        let (sent_h5, h5) = offer.stored();
        is_next(h5.body());
        let Ok(H5::Stored(received)) = sent_h4.handle(&h5) else { panic!("stored") };
        let h6 = received.confirm();
        is_next(h6.body());
        sent_h5.handle(&h6).expect("confirmed");
        value["sas"] = hex(&sas).into();
        value["emoji"] = emoji.into();
        value["names"] = names.into();
        value["numbers"] = numbers.into();
        rows.push(value);
    }
    let table: Vec<Value> = table().iter().map(|(emoji, name)| json!([emoji, name])).collect();
    let pattern = String::from_utf8_lossy(PATTERN);
    check("sas", &json!({ "pattern": pattern, "table": table, "handshakes": rows }));
}
