//! Every case of every corpus holds, and so do simple ones of all lengths.

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use handfast_fuzz::{TARGETS, Target};

/// All corpora together: they are in everybody's clone.
const MAX_BYTES: u64 = 600 * 1024;

fn corpus(target: &Target) -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a listed file").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_case_of_the_corpora_holds() {
    let mut wrong = Vec::new();
    for target in TARGETS {
        let cases = corpus(target);
        assert!(!cases.is_empty(), "{} has no corpus", target.name);
        for path in cases {
            let bytes = fs::read(&path).expect("a case");
            if catch_unwind(|| (target.run)(&bytes)).is_err() {
                wrong.push(path);
            }
        }
    }
    assert!(wrong.is_empty(), "these cases do not hold: {wrong:?}");
}

#[test]
fn empty_and_uniform_cases_hold() {
    for target in TARGETS {
        for len in [0, 1, 2, 3, 15, 16, 33, 64, 94, 112, 160, target.max_len] {
            for fill in [0x00, 0x01, b'a', 0x7f, 0xff] {
                (target.run)(&vec![fill; len]);
            }
        }
    }
}

#[test]
fn the_corpora_are_small_and_each_is_of_a_target() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for entry in fs::read_dir(&root).expect("the corpora") {
        let entry = entry.expect("a listed folder");
        let name = entry.file_name().into_string().expect("a plain name");
        assert!(handfast_fuzz::find(&name).is_some(), "{name} is no target");
        for case in fs::read_dir(entry.path()).expect("a corpus") {
            bytes += case.and_then(|case| case.metadata()).expect("a case").len();
        }
    }
    assert!(bytes <= MAX_BYTES, "{bytes} bytes of corpora");
}
