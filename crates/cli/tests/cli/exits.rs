//! Exit codes and causes of commands that cannot do what they are asked (`docs/interface.md`).

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::{Home, LISTEN, NOBODYS, json, names};

#[test]
fn c22_commands_without_their_device_say_not_running() {
    let home = Home::new();
    for args in [
        ["stop"].as_slice(),
        &["status"],
        &["pair", "status"],
        &["network", "pair", "list"],
        &["pair", "accept"],
        &["pair", "reject", "1a"],
        &["pair", "cancel"],
        &["events"],
    ] {
        let text = home.run("alice", args);
        assert_eq!((text.exit(), text.lines.len()), (Some(10), 0), "{args:?}");
        assert_eq!(text.errors[0], "error: the instance \"alice\" is not running", "{args:?}");
        assert_eq!(text.errors[1], "hint:  start it with `handfast --instance alice start`", "{args:?}");
        let json = home.run("alice", &[args, &["--json"]].concat());
        assert_eq!((json.exit(), json.lines.len(), json.errors.len()), (Some(10), 1, 0), "{args:?}");
        let event = json.last();
        assert_eq!(event["v"], 1);
        for (field, value) in [("event", "error"), ("cause", "not_running"), ("code", "not_running")] {
            assert_eq!(event[field], value, "{args:?}");
        }
        assert_eq!(event["exit"], 10);
        assert!(event["text"].is_string() && event["hint"].is_string());
    }
    assert!(!home.path().exists(), "asking makes nothing");
}

#[test]
fn a_home_in_which_nothing_ever_ran_has_no_devices_and_is_not_made_by_asking() {
    let home = Home::new();
    let listed = home.run("alice", &["devices"]);
    assert_eq!(listed.exit(), Some(0), "{:?}", listed.errors);
    assert!(listed.lines[0].starts_with("No paired devices."), "{:?}", listed.lines);
    assert_eq!(home.ask("alice", &["devices"]), json("[]"));
    for args in [["devices", "show", "bob"].as_slice(), &["devices", "rename", "bob", "rob"]] {
        let refused = home.run("alice", args);
        assert_eq!(refused.exit(), Some(2));
        assert_eq!(refused.errors[0], "error: no device is paired with this one yet");
    }
    assert!(!home.path().exists());
}

/// Nobody waits for a code that nobody can have got: the words were lost, or whoever was to read them has gone.
#[test]
fn a_code_that_could_not_be_shown_ends_the_command_at_once() {
    for json in [false, true] {
        let home = Home::new();
        for to in ["/dev/full", "a pipe that nobody reads"] {
            let mut command = home.command("alice", &[&["pair", "generate"], LISTEN.as_slice()].concat());
            if json {
                command.arg("--json");
            }
            let stdout = if to == "/dev/full" {
                Stdio::from(std::fs::File::create(to).expect("a device"))
            } else {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                Stdio::from(writer)
            };
            let began = std::time::Instant::now();
            let status = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(stdout).status().expect("it runs");
            assert_eq!(status.code(), Some(1), "{to}, json {json}");
            assert!(began.elapsed() < std::time::Duration::from_secs(60), "its life is ten minutes");
        }
    }
}

#[test]
fn a_code_for_a_program_that_was_lost_is_withdrawn_from_the_running_device() {
    let home = Home::new();
    let (_node, address) = home.node();
    let _alice = home.daemon("alice", &address);
    for args in [["pair", "generate", "--no-wait"].as_slice(), &["pair", "generate", "--no-wait", "--json"]] {
        let full = std::fs::File::create("/dev/full").expect("a device");
        let mut command = home.command("alice", args);
        let ended = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output().expect("it runs");
        assert_eq!(ended.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(said.matches("could not be written").count(), 1, "{said}");
    }
    let sessions = home.ask("alice", &["pair", "status"]);
    let states: Vec<&str> = sessions.as_array().into_iter().flatten().filter_map(|s| s["state"].as_str()).collect();
    assert_eq!(states, ["failed", "failed"]);
}

#[test]
fn c9_a_wrong_word_is_exit_3_names_the_word_and_starts_nothing() {
    let home = Home::new();
    let wrong = NOBODYS.replace("sausage", "susage");
    let swapped = NOBODYS.replace("year wave", "wave year");
    for (stdin, named) in
        [(wrong.as_str(), "word 6, \"susage\""), (&swapped, "swapped"), ("", "no code"), ("legal", "12 words")]
    {
        let text = home.start_with("alice", &["pair", "join", "-"], stdin).end();
        assert_eq!((text.exit(), text.lines.len()), (Some(3), 0));
        assert!(text.errors[0].contains(named), "{:?}", text.errors);
        let event = home.start_with("alice", &["pair", "join", "-", "--json"], stdin).end().last();
        assert_eq!(event["event"], "pairing_failed");
        assert_eq!(
            (&event["session"], &event["cause"], &event["exit"]),
            (&json("null"), &json("\"code_malformed\""), &json("3"))
        );
    }
    let text = home.start_with("alice", &["pair", "join", "-"], &wrong).end();
    assert!(text.errors[0].contains("did you mean sausage"), "{:?}", text.errors);
    let long = "legal ".repeat(43);
    assert_eq!(home.start_with("alice", &["pair", "join", "-"], &long).end().exit(), Some(3));
    assert_eq!(home.start_with("alice", &["pair", "join"], &wrong).end().exit(), Some(3), "stdin without a terminal");
    assert!(!home.path().exists(), "nothing was started");
}

#[test]
fn wrong_usage_is_exit_2_also_as_json() {
    let home = Home::new();
    for args in [
        ["frobnicate"].as_slice(),
        &["pair"],
        &["pair", "generate", "--ttl", "1"],
        &["ping"],
        &["--instance", "..", "status"],
    ] {
        assert_eq!(home.run("alice", args).exit(), Some(2), "{args:?}");
        let ended = home.run("alice", &[args, &["--json"]].concat());
        assert_eq!(ended.exit(), Some(2), "{args:?}");
        assert_eq!(ended.last()["cause"], "usage", "{args:?}");
    }
    let no_wait = home.run("alice", &["pair", "generate", "--no-wait", "--json"]);
    assert_eq!((no_wait.exit(), no_wait.last()["event"].as_str()), (Some(10), Some("pairing_failed")));
}

/// Attack 49.
#[test]
fn folders_that_others_could_use_are_exit_11() {
    let home = Home::new();
    let dir = home.instance("alice");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    for args in [["start", "--foreground"].as_slice(), &["start"], &["pair", "generate"], &["devices"]] {
        let ended = home.run("alice", args);
        assert_eq!(ended.exit(), Some(11), "{args:?}: {:?}", ended.errors);
        assert!(ended.errors[0].contains("is not safe to use"), "{:?}", ended.errors);
    }
    assert!(names(&dir).is_empty());
}

#[test]
fn a_configuration_that_cannot_be_understood_is_exit_2() {
    let home = Home::new();
    let dir = home.instance("alice");
    std::fs::create_dir_all(&dir).expect("made");
    for folder in [home.path(), dir.clone()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    }
    std::fs::write(dir.join("config.toml"), "nmae = \"x\"\n").expect("written");
    let ended = home.run("alice", &["start"]);
    assert_eq!(ended.exit(), Some(2));
    assert!(ended.errors.iter().any(|line| line.contains("nmae")), "{:?}", ended.errors);
}

#[test]
fn nobody_to_ask_is_no_bootstrap() {
    let home = Home::new();
    let args = [&["pair", "join", "-", "--yes", "--json"], LISTEN.as_slice()].concat();
    let ended = home.start_with("bob", &args, NOBODYS).end();
    assert_eq!((ended.exit(), ended.last()["cause"].as_str()), (Some(4), Some("no_bootstrap")));
}
