//! libFuzzer with one of the targets, which `HANDFAST_FUZZ_TARGET` names: one program to build for all of them. Without a
//! name it lists them, each with the bytes of its longest cases.
#![no_main]

use std::sync::OnceLock;

use handfast_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

/// The target of this run.
static TARGET: OnceLock<&Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("HANDFAST_FUZZ_TARGET").unwrap_or_default();
    if name.is_empty() {
        TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.max_len));
        std::process::exit(0);
    }
    TARGET.get_or_init(|| handfast_fuzz::find(&name).unwrap_or_else(|| panic!("no such target: {name}")));
}

fuzz_target!(init: choose(), |bytes: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(bytes);
    }
});
