//! Messages: the vectors of RFC 5769, what is refused, and what a server answers.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::service::{Place, Service, Side};
use super::*;

const ID: TransactionId = TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

/// RFC 5769, section 2.2: an answer over IPv4, with software, integrity and fingerprint.
const ANSWER_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643\
                         000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";

/// RFC 5769, section 2.3: the same over IPv6.
const ANSWER_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa\
                         a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn seen(bytes: &[u8]) -> Seen {
    match Message::parse(bytes) {
        Ok(Message::Response(Response::Success(seen))) => seen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_answers_of_rfc_5769_say_where_the_request_came_from() {
    let v4 = seen(&hex(ANSWER_V4));
    assert_eq!((v4.id, v4.mapped), (ID, at("192.0.2.1:32853")));
    let v6 = seen(&hex(ANSWER_V6));
    assert_eq!((v6.id, v6.mapped), (ID, at("[2001:db8:1234:5678:11:2233:4455:6677]:32853")));
}

#[test]
fn a_changed_bit_anywhere_in_an_answer_with_a_fingerprint_changes_no_address() {
    for text in [ANSWER_V4, ANSWER_V6] {
        let bytes = hex(text);
        let right = seen(&bytes);
        let mut taken = 0;
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A changed length or type near the end can make the fingerprint a part of something else.
            if let Ok(message) = Message::parse(&changed) {
                assert_eq!(message, Message::Response(Response::Success(right)), "bit {bit}");
                taken += 1;
            }
        }
        assert!(taken < 20, "{taken}");
    }
}

#[test]
fn an_old_server_that_does_not_mask_the_address_is_understood() {
    let plain = hex("0101000c2112a442b7e7a701bc34d686fa87dfae000100080001d431c0000201");
    assert_eq!(seen(&plain).mapped, at("192.0.2.1:54321"));
    // And where both are there, the masked one counts: routers rewrite the other.
    let both = hex("010100182112a442b7e7a701bc34d686fa87dfae000100080001d431c0000201002000080001a147e112a643");
    assert_eq!(seen(&both).mapped, at("192.0.2.1:32853"));
}

#[test]
fn what_is_no_binding_message_is_refused() {
    let good = Request::new(ID).to_bytes();
    assert_eq!(Message::parse(&good), Ok(Message::Request(Request::new(ID))));
    assert_eq!(good.len(), 28);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        assert_eq!(Message::parse(&bytes), Err(Malformed), "{bytes:02x?}");
    };
    refused(&|b| b.truncate(27));
    refused(&|b| b.truncate(20));
    refused(&Vec::clear);
    refused(&|b| b.push(0));
    refused(&|b| b[0] = 0xc0);
    refused(&|b| b[1] = 3);
    refused(&|b| b[3] = 9);
    refused(&|b| b[4] = 0);
    refused(&|b| b[27] ^= 1);
    // Longer than any message.
    refused(&|b| {
        b.resize(MAX_MESSAGE + 4, 0);
        let length = u16::try_from(b.len() - 20).expect("short").to_be_bytes();
        b[2..4].copy_from_slice(&length);
    });
    // An answer without an address, and one with an attribute that must be understood and is not.
    assert_eq!(Message::parse(&hex("010100002112a442b7e7a701bc34d686fa87dfae")), Err(Malformed));
    let strange = "010100142112a442b7e7a701bc34d686fa87dfae000100080001d431c00002017fff000411223344";
    assert_eq!(Message::parse(&hex(strange)), Err(Malformed));
    // A refusal is one whatever else it says.
    let refusal = Response::Failure { id: ID, code: 420, unknown: vec![3, 0x7fff] };
    assert_eq!(Message::parse(&refusal.to_bytes()), Ok(Message::Response(refusal)));
}

#[test]
fn what_a_request_needs_and_nobody_knows_is_named() {
    let bytes = hex("000100102112a442b7e7a701bc34d686fa87dfae7fff0004112233447ffe000411223344");
    let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!("a request") };
    assert_eq!(request.unknown, [0x7fff, 0x7ffe]);
    let answer = Service::One.answer(Place::PRIMARY, at("5.1.1.2:1000"), &bytes).expect("a refusal");
    let refusal = Response::Failure { id: ID, code: 420, unknown: vec![0x7fff, 0x7ffe] };
    assert_eq!(Message::parse(&answer.bytes), Ok(Message::Response(refusal)));
    // A thousand of them are not named.
    let mut many = vec![0, 1, 4, 0];
    many.extend(&bytes[4..20]);
    many.extend([0x7f, 0xff, 0, 0].repeat(256));
    let Ok(Message::Request(request)) = Message::parse(&many) else { panic!("a request") };
    assert_eq!(request.unknown.len(), MAX_NAMED);
}

fn two() -> Service {
    Service::Two { ips: ["5.1.1.2".parse().expect("an address"), "5.1.2.2".parse().expect("one")], ports: [3478, 3479] }
}

#[test]
fn b37_a_server_with_two_addresses_answers_from_where_it_is_asked_to_and_names_the_opposite() {
    let from = at("5.9.9.9:40000");
    for here in Place::ALL {
        for (ip, port) in [(false, false), (true, false), (false, true), (true, true)] {
            let request = Request { change: Change { ip, port }, ..Request::new(ID) };
            let answer = two().answer(here, from, &request.to_bytes()).expect("an answer");
            let said = seen(&answer.bytes);
            assert_eq!((answer.from.ip != here.ip, answer.from.port != here.port), (ip, port));
            assert_eq!((said.id, said.mapped), (ID, from));
            assert_eq!(said.origin, two().at(answer.from));
            let opposite = |side| if side == Side::Primary { Side::Other } else { Side::Primary };
            assert_eq!(said.other, two().at(Place { ip: opposite(here.ip), port: opposite(here.port) }));
            assert!(answer.bytes.len() <= request.to_bytes().len() + 80);
        }
    }
}

#[test]
fn b37_a_server_with_one_address_says_that_it_cannot_answer_from_another() {
    let from = at("[2a0a:4840:1::2]:40000");
    let plain = Service::One.answer(Place::PRIMARY, from, &Request::new(ID).to_bytes()).expect("an answer");
    let said = seen(&plain.bytes);
    assert_eq!((said.mapped, said.origin, said.other), (from, None, None));
    let change = Request { change: Change { ip: false, port: true }, ..Request::new(ID) };
    let refused = Service::One.answer(Place::PRIMARY, from, &change.to_bytes()).expect("a refusal");
    let refusal = Response::Failure { id: ID, code: 420, unknown: vec![3] };
    assert_eq!(Message::parse(&refused.bytes), Ok(Message::Response(refusal)));
}

#[test]
fn a_server_answers_no_answers_and_nobody_who_cannot_be_answered() {
    for text in [ANSWER_V4, ANSWER_V6] {
        assert_eq!(two().answer(Place::PRIMARY, at("5.9.9.9:3478"), &hex(text)), None);
    }
    for from in ["0.0.0.0:9", "5.9.9.9:0", "224.0.0.1:9", "[ff02::1]:9"] {
        assert_eq!(two().answer(Place::PRIMARY, at(from), &Request::new(ID).to_bytes()), None, "{from}");
    }
    // An IPv4 address in IPv6 form is one.
    let answer = Service::One.answer(Place::PRIMARY, at("[::ffff:5.9.9.9]:9"), &Request::new(ID).to_bytes());
    assert_eq!(seen(&answer.expect("an answer").bytes).mapped, at("5.9.9.9:9"));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port))),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port))),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        id in any::<[u8; 12]>(),
        mapped in any_address(),
        origin in proptest::option::of(any_address()),
        other in proptest::option::of(any_address()),
        ip: bool,
        port: bool,
        code in 300u16..700,
        unknown in proptest::collection::vec(any::<u16>(), 0..=MAX_NAMED),
    ) {
        let id = TransactionId(id);
        let request = Request { change: Change { ip, port }, ..Request::new(id) };
        prop_assert_eq!(Message::parse(&request.to_bytes()), Ok(Message::Request(request)));
        for response in [Response::Success(Seen { id, mapped, origin, other }), Response::Failure { id, code, unknown }] {
            prop_assert_eq!(Message::parse(&response.to_bytes()), Ok(Message::Response(response)));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_and_never_answered_with_more_than_a_few(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut message = hex("000100002112a442b7e7a701bc34d686fa87dfae");
        message.extend(&bytes);
        message.truncate(message.len() / 4 * 4);
        let length = u16::try_from(message.len() - 20).expect("short").to_be_bytes();
        message[2..4].copy_from_slice(&length);
        for datagram in [&bytes, &message] {
            if let Some(answer) = two().answer(Place::PRIMARY, at("5.9.9.9:9"), datagram) {
                prop_assert!(answer.bytes.len() <= datagram.len() + 80);
            }
        }
    }
}
