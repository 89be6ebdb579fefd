//! The whole help in one file that people can review: what changes there changes for everybody.

use std::path::Path;

use crate::support::Home;

/// Set to write the file anew.
const BLESS: &str = "HANDFAST_BLESS";

const COMMANDS: [&str; 19] = [
    "",
    "start",
    "stop",
    "status",
    "pair",
    "pair generate",
    "pair join",
    "pair status",
    "pair accept",
    "pair reject",
    "pair cancel",
    "devices",
    "devices list",
    "devices show",
    "devices rename",
    "ping",
    "events",
    "serve",
    "demo",
];

#[test]
fn the_help_is_the_one_that_was_reviewed() {
    let home = Home::new();
    let mut whole = String::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let ended = home.run("alice", &args);
        assert_eq!((ended.exit(), ended.errors.len()), (Some(0), 0), "{command}");
        let lines: Vec<&str> = ended.lines.iter().map(|line| line.trim_end()).collect();
        let name = format!("handfast {command}");
        whole.push_str(&format!("$ {} --help\n{}\n\n", name.trim_end(), lines.join("\n")));
    }
    let examples = whole.lines().filter(|line| line.starts_with("  handfast "));
    let wide: Vec<&str> = examples.filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than a usual terminal: {wide:#?}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help.txt");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&file, &whole).expect("written");
    }
    let reviewed = std::fs::read_to_string(&file).expect("the reviewed help");
    let differs = whole.lines().zip(reviewed.lines()).find(|(now, then)| now != then);
    assert!(whole == reviewed, "run with {BLESS}=1 if this is meant; first difference: {differs:?}");
}

#[test]
fn c22_completions_manual_and_version_are_plain_results() {
    let home = Home::new();
    for (args, part) in [
        (["completions", "bash"].as_slice(), "_handfast"),
        (&["completions", "zsh"], "#compdef handfast"),
        (&["completions", "fish"], "complete -c handfast"),
        (&["man"], ".TH handfast 1"),
        (&["--version"], "handfast 0."),
    ] {
        let ended = home.run("alice", args);
        assert_eq!((ended.exit(), ended.errors.len()), (Some(0), 0), "{args:?}");
        assert!(ended.lines.iter().any(|line| line.contains(part)), "{args:?}");
        assert!(!ended.lines.iter().any(|line| line.contains('\u{1b}')), "{args:?}");
    }
    let pages = tempfile::tempdir().expect("a folder");
    let dir = pages.path().to_str().expect("a plain path");
    assert_eq!(home.run("alice", &["man", dir]).exit(), Some(0));
    let names = crate::support::names(pages.path());
    for page in ["handfast.1", "handfast-pair-generate.1", "handfast-serve.1"] {
        assert!(names.iter().any(|name| name == page), "{names:?}");
    }
    assert!(!home.path().exists(), "reading makes nothing");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let home = Home::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handfast"));
    command.args(["completions", "bash"]).env("HOME", home.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("its end");
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{ended:?}");
}
