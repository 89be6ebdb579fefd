//! Rules on the text of files: length, first line, leftovers, paths of somebody's machine.

use super::Problem;
use crate::source::{Source, line_of, words};
use crate::workspace::TextFile;

/// The longest source file or script. Longer ones hold two concerns: nobody reads them in one sitting.
const MAX_LINES: usize = 700;

/// What must not be in code: unfinished work, switched-off checks, debug output, memory unsafety.
const IN_CODE: [(&str, &str); 8] = [
    ("todo!", "unfinished work"),
    ("unimplemented!", "unfinished work"),
    ("dbg!", "debug output"),
    ("unsafe", "unsafe code"),
    ("#[ignore", "a test that does not run: say why in the test and return, or make it run"),
    ("allow(clippy::", "a lint that is switched off"),
    ("allow(dead_code", "a lint that is switched off"),
    ("allow(unused", "a lint that is switched off"),
];

/// Notes to oneself that must not be in comments: finish it, or file it.
const IN_COMMENTS: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Folders of one machine, which no other machine has. (Put together here, so that this file holds none of them.)
const MACHINE_PATHS: [&str; 3] = [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "tmp/hf")];

/// The rules for every text file.
pub(super) fn any_file(file: &TextFile) -> Vec<Problem> {
    let mut problems = Vec::new();
    for bad in MACHINE_PATHS {
        for (at, _) in file.text.match_indices(bad) {
            // As a part of a longer path it is another folder.
            if !file.text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '"')) {
                problems.push(Problem::at(
                    &file.path,
                    line_of(&file.text, at),
                    format!("a path of one machine: {bad}"),
                ));
            }
        }
    }
    let is_program = file.path.ends_with(".rs")
        || file.path.ends_with(".sh")
        || file.path.ends_with(".py")
        || file.text.starts_with("#!");
    let lines = file.text.lines().count();
    if is_program && lines > MAX_LINES {
        problems.push(Problem::at(&file.path, 0, format!("{lines} lines, more than {MAX_LINES}: split it by concern")));
    }
    if is_program && !file.path.ends_with(".rs") {
        problems.extend(notes(&file.path, &file.text));
    }
    problems
}

/// The rules for Rust files.
pub(super) fn rust_file(file: &TextFile, source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !file.text.starts_with("//!") {
        problems.push(Problem::at(&file.path, 1, "the first line does not say what the file is for (//!)"));
    }
    for (bad, why) in IN_CODE {
        problems.extend(
            words(&source.code, bad)
                .map(|at| Problem::at(&file.path, line_of(&source.code, at), format!("{bad}: {why}"))),
        );
    }
    problems.extend(notes(&file.path, &source.comments));
    problems
}

fn notes(path: &str, text: &str) -> Vec<Problem> {
    IN_COMMENTS
        .iter()
        .flat_map(|note| {
            words(text, note)
                .map(move |at| Problem::at(path, line_of(text, at), format!("{note}: finish it, or file it")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn found(text: &str) -> usize {
        let file = file("crates/net/src/a.rs", text);
        rust_file(&file, &Source::new(text)).len() + any_file(&file).len()
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_found() {
        assert_eq!(found("fn a() {}\n"), 1);
        assert_eq!(found("//! Purpose.\nfn a() {}\n"), 0);
    }

    #[test]
    fn leftovers_in_code_are_found() {
        for bad in [
            "fn a() { todo!() }",
            "fn a() { unimplemented!(\"x\") }",
            "fn a() { dbg!(1); }",
            "#[ignore]\nfn a() {}",
            "#[ignore = \"slow\"]\nfn a() {}",
            "unsafe fn a() {}",
            "#[allow(clippy::unwrap_used)]\nfn a() {}",
            "#![allow(dead_code)]",
        ] {
            assert_eq!(found(&format!("//! Purpose.\n{bad}\n")), 1, "{bad}");
        }
        assert_eq!(found("//! No unsafe code.\n#![forbid(unsafe_code)]\nlet s = \"todo!()\";\n"), 0);
    }

    #[test]
    fn notes_to_oneself_are_found() {
        for note in IN_COMMENTS {
            assert_eq!(found(&format!("//! Purpose.\n// {note}: later\n")), 1);
            assert_eq!(any_file(&file("run.sh", &format!("#!/bin/sh\n# {note} later\n"))).len(), 1);
        }
        assert_eq!(found("//! Purpose.\nlet s = \"XXXX\"; // AXXXB\n"), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_file() {
        for bad in MACHINE_PATHS {
            assert_eq!(any_file(&file("docs/a.md", &format!("see `{bad}x`\n"))).len(), 1);
            assert_eq!(any_file(&file("docs/a.md", &format!("see target{bad}x\n"))).len(), 0);
        }
    }

    #[test]
    fn long_files_are_found() {
        let long = "//! Purpose.\n".repeat(MAX_LINES + 1);
        assert_eq!(any_file(&file("a.rs", &long)).len(), 1);
        assert_eq!(any_file(&file("Cargo.lock", &long)).len(), 0);
        let longest = "//! Purpose.\n".repeat(MAX_LINES);
        assert_eq!(any_file(&file("a.rs", &longest)).len(), 0);
    }
}
