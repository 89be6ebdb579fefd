//! Parsers are total: any bytes are taken or refused, and what is taken encodes to the same bytes again.

use handfast_proto::addr::{Address, RelayAddress};
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words::{self, to_words};
use handfast_proto::code::{Code, CodeInput};
use handfast_proto::handshake::initiator::P1;
use handfast_proto::id::Tid;
use handfast_proto::link::hello::ReceivedR1;
use handfast_proto::secret::Secret;
use handfast_proto::session::{Inbound, StreamEnd};
use handfast_proto::wire::frames::{Frame, FrameType, MAX_FRAME_LEN};
use handfast_proto::wire::info::{DeviceName, MAX_NAME_BYTES};
use handfast_proto::wire::record::{RECORD_LEN, Record, RecordKeys};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bench::{Bench, Guest, address, inbound, rng};

/// One change of a few bytes: somewhere, something, longer or shorter.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Cut(usize),
    Grow(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<usize>().prop_map(Change::Cut),
        vec(any::<u8>(), 1..8).prop_map(Change::Grow),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Set(at, byte) if !bytes.is_empty() => {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            Change::Set(..) => {}
            Change::Cut(at) => bytes.truncate(at % (bytes.len() + 1)),
            Change::Grow(more) => bytes.extend_from_slice(more),
        }
    }
    bytes
}

fn sample_record() -> Record {
    let keys = RecordKeys::new(&Secret::new([1; 32]), Secret::new([2; 32]));
    keys.seal(&[3; 200], 5, 600, &mut rng(1))
}

fn sample_qr() -> String {
    let code = Code::from_entropy(Secret::new([9; 16]));
    let hints = vec!["5.1.2.3".parse().expect("an address")];
    QrText { code, tid: Tid([4; 32]), in_dht: true, on_lan: true, port: 4001, hints }.to_text()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_from_any_bytes(bytes in vec(any::<u8>(), 0..800)) {
        if let Ok(frame) = Frame::from_rest(&bytes) {
            prop_assert_eq!(&frame.to_bytes()[2..], &bytes[..]);
        }
    }

    #[test]
    fn frames_from_nearly_right_bytes(kind in 0..FrameType::ALL.len(), fill: u8, changes in vec(change(), 0..3)) {
        let kind = FrameType::ALL[kind];
        let mut bytes = vec![kind.byte()];
        bytes.resize(1 + kind.body_len(), fill);
        let bytes = changed(bytes, &changes);
        if let Ok(frame) = Frame::from_rest(&bytes) {
            prop_assert_eq!(&frame.to_bytes()[2..], &bytes[..]);
        }
    }

    #[test]
    fn frame_lengths(field: [u8; 2]) {
        let len = usize::from(u16::from_be_bytes(field));
        prop_assert_eq!(Frame::rest_len(field).ok(), (1..=MAX_FRAME_LEN).contains(&len).then_some(len));
    }

    #[test]
    fn addresses_from_any_bytes(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(address) = Address::from_bytes(&bytes) {
            prop_assert_eq!(address.to_bytes(), bytes.clone());
        }
        if let Ok(relay) = RelayAddress::from_bytes(&bytes) {
            prop_assert_eq!(relay.to_bytes(), bytes);
        }
    }

    #[test]
    fn addresses_from_nearly_right_bytes(changes in vec(change(), 0..3)) {
        let bytes = changed(address(1).to_bytes(), &changes);
        if let Ok(address) = Address::from_bytes(&bytes) {
            prop_assert_eq!(address.to_bytes(), bytes);
        }
        let relay = RelayAddress { relay: address(1), relay_tid: Tid([7; 32]) };
        let bytes = changed(relay.to_bytes(), &changes);
        if let Ok(relay) = RelayAddress::from_bytes(&bytes) {
            prop_assert_eq!(relay.to_bytes(), bytes);
        }
    }

    #[test]
    fn addresses_from_any_text(text in "(/(ip4|ip6|tcp|udp|quic-v1|[0-9a-f.:]{0,12})){0,6}|\\PC{0,40}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }

    #[test]
    fn records_from_nearly_right_bytes(changes in vec(change(), 0..3)) {
        let record = sample_record();
        let bytes = changed(record.as_bytes().to_vec(), &changes);
        match Record::validate(&record.topic().0, &bytes) {
            Ok(read) => prop_assert_eq!(&read.as_bytes()[..], &bytes[..]),
            Err(_) => prop_assert!(bytes != record.as_bytes()),
        }
    }

    #[test]
    fn records_from_any_bytes(key in vec(any::<u8>(), 0..40), value in vec(any::<u8>(), RECORD_LEN - 2..RECORD_LEN + 2)) {
        prop_assert!(Record::validate(&key, &value).is_err());
    }

    #[test]
    fn words_from_any_text(text in "\\PC{0,300}") {
        if let Ok(CodeInput::Words(code)) = text.parse::<CodeInput>() {
            prop_assert!(words::parse(&to_words(&code).join(" ")).is_ok_and(|c| c == code));
        }
    }

    #[test]
    fn words_from_nearly_right_text(entropy: [u8; 16], at in 0..12usize, letters in "[a-z]{0,9}") {
        let code = Code::from_entropy(Secret::new(entropy));
        let mut list = to_words(&code).map(str::to_owned);
        list[at] = letters;
        if let Ok(read) = words::parse(&list.join(" ")) {
            prop_assert_eq!(to_words(&read)[at], words::find(&list[at]).unwrap_or_default());
        }
    }

    #[test]
    fn qr_texts_from_nearly_right_text(changes in vec(change(), 0..3)) {
        let text = String::from_utf8_lossy(&changed(sample_qr().into_bytes(), &changes)).into_owned();
        if let Ok(qr) = QrText::parse(&text) {
            prop_assert_eq!(qr.to_text(), text.trim().to_uppercase());
        }
        let _ = text.parse::<CodeInput>();
    }

    #[test]
    fn qr_texts_from_any_text(text in "HANDFAST:[A-Z2-7]{0,120}|HANDFAST:\\PC{0,60}") {
        if let Ok(qr) = QrText::parse(&text) {
            prop_assert_eq!(qr.to_text(), text);
        }
    }

    #[test]
    fn names_from_any_text(text in "\\PC{0,200}|[\u{0}-\u{ff}\u{200b}-\u{2070}]{0,50}") {
        let name = DeviceName::clean(&text);
        prop_assert!(!name.as_str().is_empty() && name.as_str().len() <= MAX_NAME_BYTES);
        prop_assert!(!name.as_str().chars().any(char::is_control));
        prop_assert_eq!(DeviceName::clean(name.as_str()), name);
    }

    #[test]
    fn first_messages_from_any_body(body in vec(any::<u8>(), 94), r1 in vec(any::<u8>(), 49)) {
        let frame = |kind: FrameType, body: &[u8]| Frame::from_rest(&[&[kind.byte()], body].concat()).expect("its size");
        let _ = P1::parse(&frame(FrameType::P1, &body), Tid([1; 32]), Tid([2; 32]));
        let _ = ReceivedR1::parse(&frame(FrameType::R1, &r1), Tid([1; 32]), Tid([2; 32]));
    }

    /// A machine takes any frames in any order from somebody who has the code, and ends nothing wrongly.
    #[test]
    fn any_frames_in_any_order_store_nothing(plays in vec((0..FrameType::ALL.len(), any::<u8>(), 0..4u8), 1..40)) {
        let mut bench = Bench::new(1);
        let (_, code) = bench.code(600);
        let mut guest = Guest::new(2, &code);
        let mut streams = vec![guest.knock(&mut bench).0];
        for (kind, fill, play) in plays {
            let stream = streams[usize::from(fill) % streams.len()];
            match play {
                0 => bench.end(stream, if fill % 2 == 0 { StreamEnd::Lost } else { StreamEnd::Finished }),
                1 => streams.push(guest.knock(&mut bench).0),
                _ => bench.hand(stream, crate::bench::frame(FrameType::ALL[kind], fill)),
            }
        }
        prop_assert!(bench.stored.is_empty() && bench.asked() == 0);
        let _: Inbound = inbound(Tid([1; 32]));
    }
}
