//! Fuzz targets: one for every parser of bytes or text that comes from outside, some for machines that eat such bytes,
//! and one for the pair of machines. `README.md` says how to run them.
//!
//! A target is a plain function. It panics when a property does not hold: that what is read encodes to the same bytes,
//! that what was changed is refused, that bounds hold. A test replays the corpora, and the fuzzer (`engine/`) looks for
//! more.

#![expect(clippy::wildcard_enum_match_arm, reason = "a target names the outputs it is about")]

mod input;
mod lan;
mod layout;
mod nat;
mod pair;
#[cfg(feature = "device")]
mod program;
mod proof;
#[expect(dead_code, reason = "scenarios of crates/proto use the rest")]
mod sim;
mod store;
mod text;

/// The protocol once more, written from its text: makes what only a holder of the secrets can make.
#[expect(dead_code, reason = "vectors of crates/proto use the rest")]
#[path = "../../crates/proto/tests/proto/vectors/spec.rs"]
mod spec;

/// One target.
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Bytes of its longest cases.
    pub max_len: usize,
    /// The body.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, max_len: usize, run: fn(&[u8])) -> Target {
    Target { name, max_len, run }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("words", 300, text::words),
    target("qr_text", 300, text::qr_text),
    target("qr_made", 200, text::qr_made),
    target("name", 300, text::name),
    target("address_text", 80, text::address_text),
    target("address", 80, layout::address),
    target("frames", 1_500, layout::frames),
    target("record", 800, layout::record),
    target("advert", 638, layout::advert),
    target("info", 512, layout::info),
    target("beacon", 113, layout::beacon),
    target("confirm", 160, layout::confirm),
    target("stun", 300, layout::stun),
    target("portmap", 120, layout::portmap),
    target("stranger", 94, proof::stranger),
    target("handshake", 64, proof::handshake),
    target("joiner_with_code", 128, proof::joiner_with_code),
    target("initiator_with_code", 128, proof::initiator_with_code),
    target("hello", 64, proof::hello),
    target("hello_with_secret", 64, proof::hello_with_secret),
    target("record_store", 400, store::record_store),
    target("nat_discovery", 600, nat::discovery),
    target("reach", 200, nat::reach),
    target("lan", 1_200, lan::lan),
    target("pair", 512, pair::pair),
    #[cfg(feature = "device")]
    target("node_address", 120, program::node_address),
    #[cfg(feature = "device")]
    target("config_file", 600, program::config_file),
    #[cfg(feature = "device")]
    target("control_request", 600, program::control_request),
    #[cfg(feature = "device")]
    target("picture", 8_192, program::picture),
];

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
