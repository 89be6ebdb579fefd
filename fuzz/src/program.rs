//! What the command and the daemon read: their parsers are compiled in from their files, since a program is no library.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use handfast::{Address, Bootstrap, StunServer};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[path = "../../crates/cli/src/config/file.rs"]
#[expect(dead_code, reason = "the program says more of a mistake")]
mod file;
#[expect(dead_code, reason = "the program opens the file")]
mod qr;
#[path = "../../crates/cli/src/daemon/wire.rs"]
mod wire;

pub(crate) use qr::picture;
use wire::{
    AnswerBody, CancelBody, CodeReply, CompareBody, ConfirmBody, Done, ErrorReply, GenerateBody, JoinBody, JoinReply,
    NearbyBody, PingBody, PingReply, QrReply, RenameBody, SelectBody, SessionReply,
};

/// Nodes and STUN servers as people configure them.
pub(crate) fn node_address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same::<Bootstrap>(text);
    same::<StunServer>(text);
}

/// What is read is written so that it is read again.
fn same<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let again = read.to_string().parse::<T>().ok();
        assert_eq!(again, Some(read));
    }
}

/// `config.toml`, and the addresses in it.
pub(crate) fn config_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = file::Config::parse(text) else { return };
    config.listen.iter().for_each(|text| same::<Address>(text));
    config.bootstrap.iter().for_each(|text| same::<Bootstrap>(text));
    config.stun.iter().for_each(|text| same::<StunServer>(text));
}

/// Bodies of requests to the control API and of its answers, which the command reads. The first byte says of which.
pub(crate) fn control_request(bytes: &[u8]) {
    let Some((which, body)) = bytes.split_first() else { return };
    match which % 17 {
        0 => body_of::<GenerateBody>(body),
        1 => body_of::<JoinBody>(body),
        2 => body_of::<AnswerBody>(body),
        3 => body_of::<CompareBody>(body),
        4 => body_of::<CancelBody>(body),
        5 => body_of::<NearbyBody>(body),
        6 => body_of::<SelectBody>(body),
        7 => body_of::<ConfirmBody>(body),
        8 => body_of::<RenameBody>(body),
        9 => body_of::<PingBody>(body),
        10 => body_of::<SessionReply>(body),
        11 => body_of::<CodeReply>(body),
        12 => body_of::<QrReply>(body),
        13 => body_of::<JoinReply>(body),
        14 => body_of::<Done>(body),
        15 => body_of::<ErrorReply>(body),
        // Decimal fractions are not exact.
        _ => drop(serde_json::from_slice::<PingReply>(body)),
    }
}

/// What is read is written so that it is read as the same.
fn body_of<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(body) else { return };
    let written = serde_json::to_string(&read).expect("plain values");
    let again: T = serde_json::from_str(&written).expect("what was written");
    assert_eq!(serde_json::to_string(&again).expect("plain values"), written);
}
