//! What people type, scan and configure.

use std::net::IpAddr;

use data_encoding::BASE32_NOPAD;
use handfast_proto::addr::{Address, Class, LoopbackPolicy, classify, may_dial};
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words::{self, to_words};
use handfast_proto::code::{Code, CodeInput, MAX_CODE_TEXT};
use handfast_proto::id::Tid;
use handfast_proto::secret::Secret;
use handfast_proto::wire::info::{DeviceName, MAX_NAME_BYTES, MAX_NAME_GRAPHEMES};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::input::Input;
use crate::spec;

/// Longest message about a text: a line or two of a terminal.
const MAX_MESSAGE: usize = 400;

/// The words of a code and what is close to them.
pub(crate) fn words(bytes: &[u8]) {
    if let Ok(entropy) = <[u8; 16]>::try_from(bytes) {
        every_way_of_writing(&Code::from_entropy(Secret::new(entropy)));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    code_text(text);
    match words::parse(text) {
        Ok(code) => every_way_of_writing(&code),
        Err(error) => message(&error.to_string()),
    }
    for word in words::suggest(text).into_iter().chain(words::find(text)) {
        assert_eq!(words::find(word), Some(word), "a suggestion is a word");
    }
}

/// Twelve words in the ways in which people write them mean one code.
fn every_way_of_writing(code: &Code) {
    let list = to_words(code);
    let short = list.map(|word| word.get(..4).unwrap_or(word));
    let numbered = list.iter().enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect::<Vec<_>>();
    for text in
        [list.join(" "), list.join("\n").to_uppercase(), list.join(", "), short.join(" - "), numbered.join("\t")]
    {
        assert!(words::parse(&text).is_ok_and(|read| read == *code), "read as it was written");
    }
}

/// Whatever claims to be a code.
fn code_text(text: &str) {
    match text.parse::<CodeInput>() {
        Ok(_) if text.trim().len() > MAX_CODE_TEXT => panic!("longer than a code may be"),
        Ok(CodeInput::Words(code)) => every_way_of_writing(&code),
        Ok(CodeInput::Qr(qr)) => assert_eq!(qr.to_text(), text.trim().to_ascii_uppercase(), "the only form of it"),
        Err(error) => message(&error.to_string()),
    }
}

fn message(text: &str) {
    assert!(text.len() < MAX_MESSAGE, "{} bytes about a text", text.len());
    assert!(!text.chars().any(char::is_control), "a message repeats control characters");
}

/// QR texts: as they come, and with the frame and checksum of a right one around any content.
pub(crate) fn qr_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        code_text(text);
        if let Ok(qr) = QrText::parse(text) {
            qr_says(&qr);
        }
    }
    let sum = &spec::h(&[&spec::label("qr"), bytes])[..2];
    let text = format!("HANDFAST:{}", BASE32_NOPAD.encode(&[bytes, sum].concat()));
    match QrText::parse(&text) {
        Ok(qr) => {
            assert_eq!(qr.to_text(), text);
            assert!(QrText::parse(&format!(" {}\n", text.to_lowercase())).is_ok_and(|read| read == qr));
            qr_says(&qr);
        }
        Err(error) => message(&error.to_string()),
    }
}

fn qr_says(qr: &QrText) {
    assert!(qr.hints.len() <= 3 && qr.addresses().len() <= 3);
    for address in qr.addresses() {
        assert!(address.port != 0 && !matches!(classify(address.ip), Class::Unusable | Class::LinkLocal));
    }
}

/// QR texts that are made here: of any addresses a right text is made, and read as it was meant.
pub(crate) fn qr_made(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (code, tid) = (Code::from_entropy(Secret::new(input.array())), Tid(input.array()));
    let (in_dht, on_lan) = (input.bool(), input.bool());
    let mut addresses = Vec::new();
    while !input.is_empty() && addresses.len() < 16 {
        let len = 8 + 12 * usize::from(input.bool());
        addresses.extend(Address::from_bytes(input.take(len)));
    }
    for loopback in [LoopbackPolicy::Refuse, LoopbackPolicy::Allow] {
        let qr = QrText::new(code.clone(), tid, in_dht, on_lan, &addresses, loopback);
        assert!(qr.addresses().iter().all(|address| addresses.contains(address) && may_dial(address, loopback)));
        assert!(QrText::parse(&qr.to_text()).is_ok_and(|read| read == qr));
    }
}

/// Names of devices, as people and peers give them.
pub(crate) fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let name = DeviceName::clean(&text);
    let shown = name.as_str();
    assert!(!shown.is_empty() && shown.len() <= MAX_NAME_BYTES);
    assert!(shown.graphemes(true).count() <= MAX_NAME_GRAPHEMES);
    assert!(!shown.chars().any(char::is_control) && shown.trim() == shown && !shown.contains("  "));
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    assert!(!shown.chars().any(hidden), "reordered or hidden");
    assert_eq!(DeviceName::clean(shown), name, "a clean name stays as it is");
}

/// Addresses as text.
pub(crate) fn address_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(address) = text.parse::<Address>() else { return };
    assert_eq!(address.to_string().parse(), Ok(address));
    if address.port != 0 {
        assert_eq!(Address::from_bytes(&address.to_bytes()), Ok(address));
    }
    dialled(&address);
}

/// What may be dialled is never one of the addresses that lead nowhere or back.
pub(crate) fn dialled(address: &Address) {
    if may_dial(address, LoopbackPolicy::Refuse) {
        let ip = address.ip.to_canonical();
        assert!(address.port != 0 && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast(), "{address}");
        if let IpAddr::V4(ip) = ip {
            assert!(!ip.is_broadcast() && !ip.is_link_local(), "{address}");
        }
        assert!(may_dial(address, LoopbackPolicy::Allow));
    }
}
