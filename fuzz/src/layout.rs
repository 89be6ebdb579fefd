//! Byte layouts: what is read encodes to the same bytes, what is written is read as it was meant, bounds hold.

use std::net::SocketAddr;

use handfast_proto::addr::{Address, LoopbackPolicy, RelayAddress, dialable_relays, for_advert};
use handfast_proto::code::Code;
use handfast_proto::keys::CodeKeys;
use handfast_proto::portmap::messages::{self, MAX_ANSWER};
use handfast_proto::portmap::{Mapping, Task};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::stun::service::{Place, Service};
use handfast_proto::stun::{self, Message, Response};
use handfast_proto::wire::advert::{Advert, AdvertState, MAX_ADDRESSES, MAX_RELAYS};
use handfast_proto::wire::beacon::{BeaconKind, ReceivedBeacon};
use handfast_proto::wire::confirm::{Answer, CONFIRM_LEN, Call};
use handfast_proto::wire::frames::{Frame, MAX_FRAME_LEN};
use handfast_proto::wire::info::{DeviceInfo, MAX_INFO_LEN};
use handfast_proto::wire::record::{MAX_TTL, PLAIN_LEN, RECORD_LEN, Record, RecordKeys};

use crate::input::Input;
use crate::spec;
use crate::text::dialled;

pub(crate) fn keys(n: u8) -> CodeKeys {
    CodeKeys::derive(&Code::from_entropy(Secret::new([n; 16])))
}

/// A stream of frames, as a driver cuts it.
pub(crate) fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((field, tail)) = rest.split_first_chunk::<2>() {
        let Ok(len) = Frame::rest_len(*field) else { return };
        assert!((1..=MAX_FRAME_LEN).contains(&len));
        let Some((body, tail)) = tail.split_at_checked(len) else { return };
        let Ok(frame) = Frame::from_rest(body) else { return };
        assert_eq!(frame.body().len(), frame.kind().body_len());
        assert_eq!(frame.to_bytes(), rest[..2 + len]);
        rest = tail;
    }
}

/// What a DHT node is given: as it comes, signed around any content, and changed after it was sealed.
pub(crate) fn record(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => {
            let key: [u8; 32] = input.array();
            if let Ok(record) = Record::validate(&key, input.rest()) {
                valid(&record, &key);
            }
        }
        1 => {
            // Anything may be sealed inside, and under its seal nobody but us can have put it there.
            let (seed, seq, ttl) = ([1; 32], u64::from_be_bytes(input.array()), input.u16());
            let topic = spec::h(&[&spec::label("topic"), &spec::public(&seed)]);
            let mut body = input.rest().to_vec();
            body.resize(RECORD_LEN - 106, 0);
            let head = [&spec::public(&seed)[..], &seq.to_be_bytes(), &ttl.to_be_bytes()].concat();
            let signature = spec::sign(&seed, &[&spec::label("rec"), &topic, &head, &body]);
            let value = [&head[..], &signature, &body].concat();
            let read = Record::validate(&topic, &value);
            assert_eq!(read.is_ok(), (1..=MAX_TTL).contains(&ttl));
            if let Ok(record) = read {
                valid(&record, &topic);
                assert!(RecordKeys::new(&Secret::new(seed), Secret::new([2; 32])).open(&record).is_err());
            }
        }
        _ => {
            let keys = RecordKeys::new(&Secret::new([1; 32]), Secret::new([2; 32]));
            let (seq, ttl) = (u64::from_be_bytes(input.array()), input.u16());
            let plain = input.take(PLAIN_LEN);
            let record = keys.seal(plain, seq, ttl, &mut Rng::from_seed(Secret::new([3; 32])));
            let opened = keys.open(&record).expect("its own seal");
            assert!(opened[..plain.len()] == *plain && opened[plain.len()..].iter().all(|byte| *byte == 0));
            assert!(record.seq() == seq && record.ttl().as_secs() == u64::from(ttl.clamp(1, MAX_TTL)));
            let mut value = record.as_bytes().to_vec();
            let changed = input.change(&mut value);
            assert_eq!(Record::validate(&record.topic().0, &value).is_ok(), !changed, "a changed record");
        }
    }
}

fn valid(record: &Record, key: &[u8]) {
    assert_eq!(record.topic().0, key);
    assert!((1..=u64::from(MAX_TTL)).contains(&record.ttl().as_secs()));
    assert_eq!(Record::validate(key, record.as_bytes()).as_ref(), Ok(record));
}

/// What is sealed in a record.
pub(crate) fn advert(bytes: &[u8]) {
    let mut plain = [0; PLAIN_LEN];
    let len = bytes.len().min(PLAIN_LEN);
    plain[..len].copy_from_slice(&bytes[..len]);
    let Ok(advert) = Advert::of_code(&plain) else { return };
    assert!(advert.addresses.len() <= MAX_ADDRESSES && advert.relays.len() <= MAX_RELAYS);
    let is_open = advert.state == AdvertState::Open;
    assert!(is_open == (advert.tid.0 != [0; 32]));
    assert!(is_open || advert.addresses.is_empty() && advert.relays.is_empty());
    let again = advert.to_bytes([0; 16]);
    let mut whole = [0; PLAIN_LEN];
    whole[..again.len()].copy_from_slice(&again);
    assert_eq!(Advert::of_code(&whole), Ok(advert.clone()), "decode(encode(x)) == x");
    let (addresses, relays) = entries(&plain);
    if (addresses, relays) == (advert.addresses.len(), advert.relays.len()) {
        let (rnd, _) = plain[again.len() - 16..].split_first_chunk::<16>().expect("read before");
        let again = advert.to_bytes(*rnd);
        assert_eq!(again, plain[..again.len()], "nothing was skipped, so encode(decode(x)) == x");
    }
    for address in for_advert(&advert.addresses, LoopbackPolicy::Refuse, MAX_ADDRESSES) {
        dialled(&address);
    }
    for relay in dialable_relays(&advert.relays, LoopbackPolicy::Refuse, MAX_RELAYS) {
        dialled(&relay.relay);
    }
}

/// How many addresses and relays an advert of right layout names, those included that are skipped.
fn entries(plain: &[u8]) -> (usize, usize) {
    let mut rest = &plain[38..];
    let mut counts = [0; 2];
    for count in &mut counts {
        *count = usize::from(rest[0]);
        rest = &rest[1..];
        for _ in 0..*count {
            rest = &rest[2 + usize::from(u16::from_be_bytes([rest[0], rest[1]]))..];
        }
    }
    (counts[0], counts[1])
}

/// Binary addresses, of devices and of relays.
pub(crate) fn address(bytes: &[u8]) {
    if let Ok(address) = Address::from_bytes(bytes) {
        assert_eq!(address.to_bytes(), bytes);
        assert_eq!(address.to_string().parse(), Ok(address));
        assert_ne!(address.port, 0);
        dialled(&address);
    }
    if let Ok(relay) = RelayAddress::from_bytes(bytes) {
        assert_eq!(relay.to_bytes(), bytes);
        dialled(&relay.relay);
    }
}

/// What a device says of itself.
pub(crate) fn info(bytes: &[u8]) {
    let Ok(info) = DeviceInfo::from_bytes(bytes) else { return };
    crate::text::name(info.name.as_str().as_bytes());
    let again = info.to_bytes();
    assert!(again.len() <= MAX_INFO_LEN);
    assert_eq!(DeviceInfo::from_bytes(&again), Ok(info));
}

/// Beacons: as they come, and with the MAC of a code.
pub(crate) fn beacon(bytes: &[u8]) {
    let Ok(read) = ReceivedBeacon::parse(bytes) else { return };
    let keys = keys(1);
    assert!(!read.is_by(keys.lan()) || bytes == read.beacon().sealed(keys.lan()), "the MAC covers everything");
    assert_eq!(read.beacon().open()[..96], bytes[..96], "encode(decode(x)) == x");
    if read.beacon().kind == BeaconKind::Nearby {
        assert_eq!(read.beacon().open(), bytes);
        return;
    }
    let sealed = read.beacon().sealed(keys.lan());
    let again = ReceivedBeacon::parse(&sealed).expect("one of ours");
    assert_eq!(again.beacon(), read.beacon());
    assert!(again.is_by(keys.lan()) && !again.is_by(self::keys(2).lan()));
}

/// Calls to a confirmation listener and their answers.
pub(crate) fn confirm(bytes: &[u8]) {
    let mut whole = [0; CONFIRM_LEN];
    let len = bytes.len().min(CONFIRM_LEN);
    whole[..len].copy_from_slice(&bytes[..len]);
    let keys = keys(1);
    if let Ok(call) = Call::parse(&whole) {
        assert_eq!(call.message().to_bytes(None)[..144], whole[..144]);
        assert_eq!(call.is_open(), whole[144..] == [0; 16]);
        let sealed = call.message().to_bytes(Some(keys.lan()));
        let again = Call::parse(&sealed).expect("one of ours");
        assert!(again.message() == call.message() && again.is_by(keys.lan()) && !again.is_by(self::keys(2).lan()));
        let other = call.message().echo() == call_with_other_code(call.message()).echo();
        assert!(!other, "the echo is of this call");
    }
    if let Ok(answer) = Answer::parse(&whole) {
        let sealed = answer.message().to_bytes(Some(keys.lan()));
        let again = Answer::parse(&sealed).expect("one of ours");
        assert!(again.message() == answer.message() && again.is_by(keys.lan()));
        if let Some(name) = &answer.message().name {
            crate::text::name(name.as_str().as_bytes());
        }
    }
}

fn call_with_other_code(call: &Call) -> Call {
    let mut other = call.clone();
    other.code[0] ^= 1;
    other
}

/// STUN: what arrives at a server and at who asked one. With a mended header the attributes are reached.
pub(crate) fn stun(bytes: &[u8]) {
    let mut message = bytes.to_vec();
    if let Some((kind, rest)) = bytes.split_first() {
        stun_message(rest);
        // Type and length as they must be, the cookie, and a fingerprint if the case wants one.
        let kinds: [u16; 3] = [0x0001, 0x0101, 0x0111];
        message = kinds[usize::from(*kind) % 3].to_be_bytes().to_vec();
        message.extend_from_slice(&[0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend_from_slice(rest);
        message.resize(message.len().max(20).next_multiple_of(4), 0);
        let with_sum = kind & 0x80 != 0;
        let length = message.len() - 20 + if with_sum { 8 } else { 0 };
        message[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        if with_sum {
            let sum = crc32fast::hash(&message) ^ 0x5354_554e;
            message.extend_from_slice(&[0x80, 0x28, 0, 4]);
            message.extend_from_slice(&sum.to_be_bytes());
        }
    }
    stun_message(&message);
}

fn stun_message(bytes: &[u8]) {
    let from: SocketAddr = "5.1.2.3:40000".parse().expect("an address");
    let two = Service::Two {
        ips: ["5.1.0.1".parse().expect("an address"), "5.1.0.2".parse().expect("an address")],
        ports: [3478, 3479],
    };
    let read = Message::parse(bytes);
    for (service, most) in [(Service::One, 80), (two, 108)] {
        let answer = service.answer(Place::PRIMARY, from, bytes);
        assert_eq!(answer.is_some(), matches!(read, Ok(Message::Request(_))), "requests alone are answered");
        if let Some(answer) = answer {
            assert!(answer.bytes.len() <= most, "{} bytes", answer.bytes.len());
            assert!(matches!(Message::parse(&answer.bytes), Ok(Message::Response(_))));
        }
    }
    let Ok(read) = read else { return };
    assert!(bytes.len() <= stun::MAX_MESSAGE);
    match &read {
        Message::Request(request) => {
            assert!(request.unknown.len() <= stun::MAX_NAMED);
            let again = Message::parse(&request.to_bytes());
            let stun::Request { id, change, .. } = *request;
            assert_eq!(again, Ok(Message::Request(stun::Request { id, change, unknown: Vec::new() })));
        }
        Message::Response(response) => {
            if let Response::Failure { code, unknown, .. } = response {
                assert!((300..700).contains(code) && unknown.len() <= stun::MAX_NAMED);
            }
            assert_eq!(Message::parse(&response.to_bytes()), Ok(read.clone()), "decode(encode(x)) == x");
        }
    }
}

/// What a router answers: a mapping of ours first, then the answer, as it comes and with the nonce in place.
pub(crate) fn portmap(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let stored = input.take(Mapping::LEN);
    let Ok(mapping) = Mapping::from_bytes(stored) else { return };
    assert_eq!(mapping.to_bytes(), stored);
    let mut answer = input.rest().to_vec();
    router_says(&answer, &mapping);
    let request = messages::pcp_request(&mapping, Task::Map { lease: 600 });
    assert_eq!(messages::pcp_answer(&request, &mapping), None, "a question is no answer");
    if answer.len() >= 60 {
        answer[24..36].copy_from_slice(&mapping.nonce);
        router_says(&answer, &mapping);
    }
}

fn router_says(answer: &[u8], mapping: &Mapping) {
    if let Some(Ok(_)) = messages::pcp_answer(answer, mapping) {
        assert!(answer[24..36] == mapping.nonce && answer[40..42] == mapping.inside.port().to_be_bytes());
        assert!((60..=MAX_ANSWER).contains(&answer.len()));
    }
    if let Some(Ok((outside, lease))) = messages::pmp_answer(answer, mapping) {
        assert_eq!(answer.len(), 16);
        assert_eq!(answer[10..12], outside.to_be_bytes());
        assert_eq!(answer[12..16], lease.to_be_bytes());
    }
    if let Some(Ok(ip)) = messages::pmp_address(answer) {
        assert_eq!(answer[8..], ip.octets());
    }
}
