//! `demo`: what the README's first command shows.

use rustix::process::Signal;

use crate::support::{Home, json, names};

#[test]
fn the_demo_pairs_pings_restarts_and_leaves_nothing_behind() {
    let home = Home::new();
    let ended = demo(&home, &[]).end();
    assert_eq!(ended.exit(), Some(0), "{:?} {:?}", ended.lines, ended.errors);
    for (who, what) in [
        ("node", "runs at"),
        ("alice", "shows a code"),
        ("bob", "has found the record by dht"),
        ("alice", "is paired with bob"),
        ("bob", "is paired with alice"),
        ("both", "have stopped, and start again"),
    ] {
        let step = format!("  {who:<6} {what}");
        assert!(ended.lines.iter().any(|line| line.contains(&step)), "{step}: {:#?}", ended.lines);
    }
    let pings = |who: &str, whom: &str| {
        let text = format!("{who:<6} pings {whom} over the paired channel");
        ended.lines.iter().filter(|line| line.contains(&text)).count()
    };
    assert_eq!((pings("alice", "bob"), pings("bob", "alice")), (2, 2), "{:#?}", ended.lines);
    assert!(ended.errors.is_empty(), "{:?}", ended.errors);
    assert!(names(&home.path()).is_empty(), "the folder is gone");
}

#[test]
fn an_interrupted_demo_takes_everything_along() {
    let home = Home::new();
    let demo = demo(&home, &["--json"]);
    loop {
        let step = json(&demo.line());
        assert_eq!(step["event"], "step_done");
        if step["who"] == "bob" {
            break;
        }
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.end().exit(), Some(130));
    assert!(names(&home.path()).is_empty(), "the folder is gone");
}

/// Runs the demo with a folder for temporary files that can be looked into afterwards.
fn demo(home: &Home, args: &[&str]) -> crate::support::Running {
    std::fs::create_dir_all(home.path()).expect("a folder");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_handfast"));
    command.env_clear().env("TMPDIR", home.path()).env("HOME", home.path()).arg("demo").args(args);
    crate::support::Running::spawn(command, "")
}
