//! What a person is told beside the result: notes, hints that can be copied, names that are refused.

use crate::support::{Home, LISTEN, network};

/// A port of loopback where nobody listens.
const DEAD: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

#[test]
fn hints_name_the_home_and_the_instance_of_the_command_that_gives_them() {
    let home = Home::new();
    let given = home.path().join("it's");
    let ended = home.run("alice", &["--home", given.to_str().expect("a text"), "status"]);
    let quoted = given.to_str().expect("a text").replace('\'', r"'\''");
    assert_eq!(ended.errors[1], format!("hint:  start it with `handfast --home '{quoted}' --instance alice start`"));
    let ended = home.run("alice", &["status", "--json"]);
    assert_eq!(ended.last()["hint"], "start it with `handfast --instance alice start`");
    let ended = home.run("default", &["status"]);
    assert_eq!(ended.errors[1], "hint:  start it with `handfast start`");
}

/// Says so at once, on stderr, and runs all the same.
#[test]
fn b36_a_device_without_a_node_says_that_only_its_network_will_find_it() {
    let home = Home::new();
    let (_node, address) = home.node();
    let cases: [(&[&str], Option<&str>); 4] = [
        (&[], Some("no bootstrap node is configured")),
        (&["--bootstrap", DEAD], Some("no bootstrap node answers yet")),
        (&["--bootstrap", &address], None),
        (&["--offline"], None),
    ];
    for (options, note) in cases {
        let started = home.run("alice", &[&["start", "--no-lan"], LISTEN.as_slice(), options].concat());
        assert_eq!((started.exit(), started.lines.len()), (Some(0), 1), "{options:?}");
        assert_eq!(started.errors.len(), usize::from(note.is_some()), "{options:?}: {:?}", started.errors);
        if let Some(note) = note {
            let said = &started.errors[0];
            assert!(said.starts_with(&format!("note: {note}: only devices on this network")), "{said}");
        }
        assert_eq!(home.run("alice", &["stop"]).exit(), Some(0));
    }
    for options in [[].as_slice(), &["--bootstrap", DEAD]] {
        let args = [&["pair", "generate", "--json", "--no-lan"], LISTEN.as_slice(), options].concat();
        let shows = home.start("bob", &args);
        assert_eq!(shows.event("trouble_noticed")["cause"], "no_bootstrap");
        shows.signal(rustix::process::Signal::INT);
        assert_eq!(shows.end().exit(), Some(130));
    }
    // Who told it to stay alone may have forgotten what that means for a code.
    let args = [&["pair", "generate", "--json", "--no-lan", "--offline"], LISTEN.as_slice()].concat();
    let shows = home.start("bob", &args);
    let trouble = shows.event("trouble_noticed");
    assert!(trouble["text"].as_str().is_some_and(|text| text.contains("nobody can find it by the words")), "{trouble}");
    shows.signal(rustix::process::Signal::INT);
    assert_eq!(shows.end().exit(), Some(130));
}

#[test]
fn paired_devices_are_listed_and_renamed_without_a_daemon_too() {
    let home = Home::new();
    let (_node, address) = home.node();
    let shows = home.start("alice", &[&["pair", "generate", "--yes", "--json"], network(&address).as_slice()].concat());
    let words = shows.event("code_created")["words"].as_str().expect("words").to_owned();
    let joins =
        home.start_with("bob", &[&["pair", "join", "-", "--yes"], network(&address).as_slice()].concat(), &words).end();
    assert_eq!((joins.exit(), shows.end().exit()), (Some(0), Some(0)), "{:?}", joins.errors);
    // With --yes nobody is asked, and it is said who was let in.
    assert!(joins.errors.iter().any(|line| line.starts_with("Accepted, as --yes says:")), "{:?}", joins.errors);
    assert!(!joins.errors.iter().any(|line| line.contains('?')), "{:?}", joins.errors);

    let listed = home.ask("alice", &["devices"]);
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!((listed.as_array().map(Vec::len), listed[0]["connected"].as_bool()), (Some(1), Some(false)));
    for empty in ["", "  ", "\u{2800}\u{200b}"] {
        let refused = home.run("alice", &["devices", "rename", id, empty]);
        assert_eq!(refused.exit(), Some(2));
        assert_eq!(refused.errors[0], "error: a name needs at least one character that can be seen");
    }
    assert_eq!(home.ask("alice", &["devices", "rename", id, "my phone"])["name"], "my phone");
    assert_eq!(home.run("alice", &["devices", "show", "nobody"]).exit(), Some(2));

    let _alice = home.daemon("alice", &address);
    assert_eq!(home.ask("alice", &["devices", "show", "my phone"])["id"], id);
    let refused = home.run("alice", &["devices", "rename", id, " "]);
    assert_eq!((refused.exit(), refused.errors.len()), (Some(2), 2), "{:?}", refused.errors);
}

#[test]
fn a_name_that_was_given_here_is_used_when_the_device_is_paired_again_and_one_that_was_cut_is_told() {
    let home = Home::new();
    let (_node, address) = home.node();
    let _daemons = home.paired(&address);
    let long = "the blue telephones on the shelf in the hall";
    let renamed = home.run("alice", &["devices", "rename", "bob", long]);
    assert_eq!((renamed.exit(), renamed.errors.len()), (Some(0), 1), "{:?}", renamed.errors);
    let note = "note: the name is now \"the blue telephones on the shelf\": a name has at most 32 characters";
    assert!(renamed.errors[0].starts_with(note), "{:?}", renamed.errors);
    let renamed = home.run("alice", &["devices", "rename", &long[..32], "my phone"]);
    assert_eq!((renamed.exit(), renamed.errors.len()), (Some(0), 0), "{:?}", renamed.errors);

    let [shown, joined] = home.pair();
    assert!(shown.errors.iter().any(|line| line.starts_with("Paired with my phone (")), "{:?}", shown.errors);
    assert!(joined.lines.iter().any(|line| line.starts_with("Paired with alice (")), "{:?}", joined.lines);
}
