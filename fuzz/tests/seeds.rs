//! The seeds of the corpora: real encodings and schedules that go well, made by the code itself. What fuzzing finds lies
//! beside them. `HANDFAST_BLESS=1` writes them anew.

use std::fs;
use std::path::PathBuf;

use handfast_proto::addr::{Address, RelayAddress};
use handfast_proto::code::Code;
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words::to_words;
use handfast_proto::handshake::Mode;
use handfast_proto::handshake::joiner;
use handfast_proto::id::Tid;
use handfast_proto::keys::CodeKeys;
use handfast_proto::link::PairState;
use handfast_proto::link::hello;
use handfast_proto::portmap::messages::pcp_request;
use handfast_proto::portmap::{Mapping, Method, Task};
use handfast_proto::reach::{self, Ask};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::stun::{Change, Request, Response, Seen, TransactionId};
use handfast_proto::time::UnixTime;
use handfast_proto::wire::advert::{Advert, AdvertState};
use handfast_proto::wire::beacon::{Beacon, BeaconKind, Nid, Ports};
use handfast_proto::wire::confirm::{Answer, Call, Op, Status};
use handfast_proto::wire::info::{DeviceInfo, DeviceName, DeviceType};
use qrcode::{Color, EcLevel, QrCode};

const NODE: &str = "/ip4/5.1.2.3/udp/4001/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// The target, what distinguishes the seed, its bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

#[test]
fn the_seeds_are_what_the_code_writes() {
    let bless = std::env::var_os("HANDFAST_BLESS").is_some();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut wrong = Vec::new();
    for (target, name, bytes) in texts().into_iter().chain(layouts()).chain(schedules()).chain(files()) {
        assert!(handfast_fuzz::find(target).is_some_and(|t| bytes.len() <= t.max_len), "{target}/{name}");
        let path = root.join(target).join(format!("seed-{name}"));
        if bless {
            fs::create_dir_all(root.join(target)).expect("made");
            fs::write(&path, &bytes).expect("written");
        } else if fs::read(&path).ok() != Some(bytes) {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "HANDFAST_BLESS=1 writes these anew: {wrong:?}");
}

fn code(n: u8) -> Code {
    Code::from_entropy(Secret::new([n; 16]))
}

fn rng() -> Rng {
    Rng::from_seed(Secret::new([1; 32]))
}

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn qr(hints: &[&str]) -> QrText {
    let hints = hints.iter().map(|ip| ip.parse().expect("an address")).collect::<Vec<_>>();
    let port = if hints.is_empty() { 0 } else { 4001 };
    QrText { code: code(9), tid: Tid([4; 32]), in_dht: true, on_lan: true, port, hints }
}

fn texts() -> Vec<Seed> {
    let words = to_words(&code(3));
    let mut wrong = words;
    wrong[4] = "kichen";
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("words", "words", text(&words.join(" "))),
        ("words", "copied", text(&words.map(str::to_uppercase).join(", "))),
        ("words", "mistyped", text(&wrong.join(" "))),
        ("words", "swapped", text(&[words[1], words[0], &words[2..].join(" ")].join(" "))),
        ("words", "entropy", vec![3; 16]),
        ("qr_text", "bare", text(&qr(&[]).to_text())),
        ("qr_text", "ipv4", text(&qr(&["5.1.2.3", "192.168.1.7", "10.0.0.1"]).to_text())),
        ("qr_text", "ipv6", text(&qr(&["2001:db8::1"]).to_text())),
        ("qr_text", "content", [&[0x13][..], &[9; 16], &[4; 32], &[0x0f, 0xa1, 5, 1, 2, 3]].concat()),
        ("qr_made", "addresses", {
            let mut bytes = [&[9; 16][..], &[4; 32], &[1, 1]].concat();
            for text in ["/ip4/5.1.2.3/tcp/4001", "/ip4/192.168.1.7/tcp/4001", "/ip6/2001:db8::1/tcp/4001"] {
                bytes.push(u8::from(text.contains("ip6")));
                bytes.extend(address(text).to_bytes());
            }
            bytes
        }),
        ("name", "plain", text("Jane's phone")),
        ("name", "hostile", text("\u{202e}al\u{200b}ice\u{1b}[31m  \u{2800}e\u{301}")),
        ("address_text", "quic", text("/ip4/5.1.7.2/udp/4001/quic-v1")),
        ("address_text", "tcp6", text("/ip6/2001:db8::1/tcp/4001")),
        ("node_address", "node", text(NODE)),
        ("node_address", "name", text(&NODE.replace("/ip4/5.1.2.3/udp", "/dns4/node.example/udp"))),
        ("node_address", "stun", text("[2001:db8::1]:3478")),
        (
            "config_file",
            "whole",
            text(&format!(
                "name = \"kitchen\"\nlisten = [\"/ip4/0.0.0.0/udp/4001/quic-v1\"]\nbootstrap = [\"{NODE}\"]\n\
             stun = [\"stun.example:3478\"]\nno_lan = false\nno_dht = true\noffline = false\n"
            )),
        ),
        ("control_request", "generate", text("\0{\"yes\":true,\"verify\":false,\"ttl\":600}")),
        ("control_request", "join", text(&format!("\x01{{\"code\":\"{}\",\"yes\":true}}", words.join(" ")))),
        ("control_request", "answer", text("\x02{\"session\":\"00112233\",\"allow\":true}")),
        ("control_request", "compare", text("\x03{\"matches\":false}")),
        ("control_request", "ping", text("\x09{\"wait_ms\":1000}")),
    ]
}

fn layouts() -> Vec<Seed> {
    let quic = address("/ip4/5.1.7.2/udp/4001/quic-v1");
    let relay = RelayAddress { relay: address("/ip6/2001:db8::1/tcp/4001"), relay_tid: Tid([7; 32]) };
    let advert = Advert {
        state: AdvertState::Open,
        not_after: UnixTime(1_800_000_000),
        tid: Tid([4; 32]),
        addresses: vec![quic, address("/ip6/2001:db8::1/tcp/4001")],
        relays: vec![relay],
    };
    let record = CodeKeys::derive(&code(1)).record().seal(&advert.to_bytes([5; 16]), 1, 600, &mut rng());
    let (_, [p1, h1]) =
        joiner::start(&CodeKeys::derive(&code(7)), Mode::Words, false, Tid([1; 32]), Tid([2; 32]), &mut rng());
    let info = DeviceInfo {
        name: DeviceName::clean("Jane's phone"),
        kind: DeviceType::Phone,
        clock: Some(UnixTime(1_800_000_000)),
    };
    let ports = Ports { tcp: 4001, quic: 4001, confirm: 40_001 };
    let ip = "192.168.1.7".parse().expect("an address");
    let keys = CodeKeys::derive(&code(1));
    let beacon = |kind| Beacon { kind, nid: Nid([1; 16]), nonce: [2; 16], address: ip, ports, spki: [3; 32] };
    let call = Call {
        op: Op::Ping,
        from: Nid([1; 16]),
        to: Nid([2; 16]),
        dialled: ip,
        address: ip,
        ports,
        spki: [3; 32],
        code: [4; 32],
    };
    let answer = Answer {
        status: Status::Ok,
        from: Nid([2; 16]),
        observed: ip,
        observed_port: 50_000,
        echo: call.echo(),
        name: Some(DeviceName::clean("kitchen")),
    };
    let id = TransactionId([9; 12]);
    let place = |text: &str| text.parse().expect("an address");
    let request = Request { change: Change { ip: true, port: true }, ..Request::new(id) };
    let seen = Seen { id, mapped: place("5.1.2.3:4001"), origin: Some(place("5.1.0.1:3478")), other: None };
    let refusal = Response::Failure { id, code: 420, unknown: vec![3] };
    let mapping = Mapping {
        gateway: "192.168.1.1".parse().expect("an address"),
        method: Method::Pcp,
        inside: "192.168.1.5:4001".parse().expect("an address"),
        transport: quic.transport,
        outside_port: 4001,
        nonce: *b"twelve bytes",
    };
    let mut granted = pcp_request(&mapping, Task::Map { lease: 600 });
    granted[1] |= 0x80;
    granted[8..24].fill(0);
    let pmp = [0, 129, 0, 0, 0, 0, 0, 9, 0x0f, 0xa1, 0xee, 0x48, 0, 0, 2, 0x58];
    let with = |head: u8, bytes: &[u8]| [&[head][..], bytes].concat();
    let ask = Ask::new([(quic.transport, 4001), (relay.relay.transport, 443)]).expect("two ports");
    let reached = reach::Answer { ip: quic.ip, reached: 0b10 };
    // A node, an address, half a second; reached.
    let checked = [1, 1, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 255, 255, 5, 1, 0, 0, 0, 9, 9, 9];
    vec![
        ("reach", "question", ask.to_bytes().to_vec()),
        ("reach", "answer", reached.to_bytes().to_vec()),
        ("reach", "checked", checked.to_vec()),
        ("address", "quic", quic.to_bytes()),
        ("address", "relay", relay.to_bytes()),
        ("frames", "first", [p1.to_bytes(), h1.to_bytes()].concat()),
        ("frames", "r4", hello::accept(PairState::Paired).to_bytes()),
        ("stranger", "p1", p1.body().to_vec()),
        ("record", "raw", [&[0][..], &record.topic().0, &record.as_bytes()[..]].concat().split_off(0)[..800].to_vec()),
        ("record", "sealed", [&[2][..], &[0, 0, 0, 0, 0, 0, 0, 1, 2, 0x58], &advert.to_bytes([5; 16])].concat()),
        ("record", "signed", [&[1][..], &[0, 0, 0, 0, 0, 0, 0, 1, 2, 0x58], &[7; 60]].concat()),
        ("advert", "open", advert.to_bytes([5; 16])),
        ("advert", "tombstone", Advert::tombstone(AdvertState::Used).to_bytes([5; 16])),
        ("info", "whole", info.to_bytes()),
        ("info", "later", [info.to_bytes(), vec![100, 1, 0]].concat()),
        ("beacon", "code", beacon(BeaconKind::Code { from_joiner: true }).sealed(keys.lan()).to_vec()),
        ("beacon", "nearby", beacon(BeaconKind::Nearby).open().to_vec()),
        ("confirm", "call", call.to_bytes(Some(keys.lan())).to_vec()),
        ("confirm", "answer", answer.to_bytes(Some(keys.lan())).to_vec()),
        ("stun", "request", with(0x80, &request.to_bytes()[8..])),
        ("stun", "success", with(0x81, &Response::Success(seen).to_bytes()[8..])),
        ("stun", "refusal", with(2, &refusal.to_bytes()[8..])),
        ("portmap", "pcp", [&mapping.to_bytes()[..], &granted].concat()),
        ("portmap", "nat_pmp", [&mapping.to_bytes()[..], &pmp].concat()),
        ("portmap", "address", [&mapping.to_bytes()[..], &[0, 128, 0, 0, 0, 0, 0, 9, 5, 1, 2, 3]].concat()),
    ]
}

/// Schedules that go well: of the handshakes, of every way; of the rest, by the meaning of their bytes.
fn schedules() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (way, name) in ["words", "qr", "words-compared", "qr-compared", "nearby"].into_iter().enumerate() {
        let way = u8::try_from(way).expect("five of them");
        seeds.push(("handshake", name, vec![way]));
        // H3 (the sixth type) with one bit flipped.
        seeds.push(("handshake", ["a", "b", "c", "d", "e"][usize::from(way)], vec![way, 5, 1, 0, 200, 1]));
    }
    seeds.extend([
        ("joiner_with_code", "honest", vec![0; 12]),
        ("joiner_with_code", "compared", [&[2, 0, 0, 0][..], &[0; 12]].concat()),
        ("initiator_with_code", "honest", vec![0; 12]),
        ("initiator_with_code", "compared", [&[1][..], &[0; 12]].concat()),
        ("hello", "honest", vec![0, 15]),
        ("hello", "thief", vec![1, 15]),
        ("hello_with_secret", "honest", vec![1, 0, 0]),
        ("hello_with_secret", "notice", vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0]),
        ("record_store", "puts", [[3, 0, 1, 100, 0, 0], [3, 1, 1, 100, 0, 0], [3, 0, 2, 100, 1, 0]].concat()),
        ("nat_discovery", "one", vec![1, 2, 0, 1, 1, 0, 0, 1]),
        (
            "nat_discovery",
            "two",
            [&[2][..], &[2, 0, 1, 1, 1, 1, 1, 0, 1], &[2, 1, 1, 1, 0, 0, 1], &[0, 0xff, 0xff]].concat(),
        ),
        (
            "lan",
            "beacon",
            [&[1, 0, 0x10, 0x00, 1, 7, 0, 0, 0, 3][..], &[0x0f, 0xa1, 0x9c, 0x41, 5], &[9; 16], &[3, 2, 0]].concat(),
        ),
        ("lan", "nearby", vec![0, 7, 5, 0, 0x10, 0]),
        ("pair", "kind", vec![0]),
        ("pair", "cut-at-h5", vec![12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("pair", "repeated", vec![24, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]),
    ]);
    seeds
}

/// Pictures of a QR.
fn files() -> Vec<Seed> {
    let text = qr(&["5.1.2.3"]).to_text();
    let code = QrCode::with_error_correction_level(&text, EcLevel::M).expect("it fits");
    let (scale, quiet) = (3, 4);
    let side = (code.width() + 2 * quiet) * scale;
    let colors = code.to_colors();
    let is_dark = |x: usize, y: usize| {
        let at = |n: usize| (n / scale).checked_sub(quiet).filter(|n| *n < code.width());
        at(x).zip(at(y)).is_some_and(|(x, y)| colors[y * code.width() + x] == Color::Dark)
    };
    let mut png = Vec::new();
    let side_field = u32::try_from(side).expect("small");
    let mut encoder = png::Encoder::new(&mut png, side_field, side_field);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let rows: Vec<u8> = (0..side)
        .flat_map(|y| (0..side.div_ceil(8)).map(move |byte| (0..8).map(move |bit| (byte * 8 + bit, y))))
        .map(|bits| bits.fold(0, |sum, (x, y)| sum << 1 | u8::from(!is_dark(x, y))))
        .collect();
    let mut writer = encoder.write_header().expect("written");
    writer.write_image_data(&rows).expect("written");
    writer.finish().expect("written");
    let picture = |name: &str| {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../crates/cli/tests/pictures", name].iter().collect();
        let mut bytes = fs::read(path).expect("a picture");
        // A photograph is larger than a case may be: its headers and first scans count.
        bytes.truncate(8_000);
        bytes
    };
    vec![
        ("picture", "png", png),
        ("picture", "palette", picture("palette.png")),
        ("picture", "interlaced", picture("interlaced.png")),
        ("picture", "transparent", picture("transparent.png")),
        ("picture", "deep", picture("deep.png")),
        ("picture", "jpeg", picture("grey.jpg")),
        ("picture", "progressive", picture("progressive.jpg")),
    ]
}
