//! Pairing by the commands: with daemons and without, accepted, declined, withdrawn.

use rustix::process::Signal;

use crate::support::{Ended, Home, network};

/// B44, B47: a daemon on one side, two plain commands on the other.
#[test]
fn two_devices_pair_by_words_and_reach_each_other_afterwards() {
    let home = Home::new();
    let (_node, address) = home.node();
    let _alice = home.daemon("alice", &address);

    let shows = home.start("alice", &["network", "pair", "generate", "--yes", "--json"]);
    let created = shows.event("code_created");
    let words = created["words"].as_str().expect("words").to_owned();
    assert_eq!(words.split(' ').count(), 12);
    assert!(created["qr"].as_str().is_some_and(|qr| qr.starts_with("HANDFAST:")));

    let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
    let joins = home.start_with("bob", &args, &words).end();
    assert_eq!(joins.exit(), Some(0), "{:?} {:?}", joins.lines, joins.errors);
    let shown = shows.end();
    assert_eq!(shown.exit(), Some(0), "{:?}", shown.errors);
    let (at_alice, at_bob) = (shown.last(), joins.last());
    assert_eq!((at_alice["event"].as_str(), at_bob["event"].as_str()), (Some("paired"), Some("paired")));
    for lines in [&shown.lines, &joins.lines] {
        let ends = lines.iter().filter(|line| line.contains("\"paired\"") || line.contains("pairing_failed")).count();
        assert_eq!(ends, 1, "{lines:?}");
        assert!(!lines.iter().any(|line| words.split(' ').take(3).all(|word| line.contains(word))), "{lines:?}");
    }

    let _bob = home.daemon("bob", &address);
    let (alice, bob) = (home.ask("alice", &["status"]), home.ask("bob", &["status"]));
    let (of_alice, of_bob) = (home.ask("alice", &["devices"]), home.ask("bob", &["devices"]));
    assert_eq!((&of_alice[0]["id"], &of_bob[0]["id"]), (&bob["id"], &alice["id"]));
    assert_eq!(of_alice[0]["fingerprint"], bob["fingerprint"]);
    assert_eq!((of_bob[0]["name"].as_str(), at_bob["device"]["name"].as_str()), (Some("alice"), Some("alice")));
    for (from, to) in [("alice", &bob), ("bob", &alice)] {
        let id = to["id"].as_str().expect("an id");
        let pong = home.ask(from, &["ping", id, "--count", "1"]);
        assert_eq!((pong["event"].as_str(), pong["n"].as_u64()), (Some("pong"), Some(1)));
        assert!(pong["rtt_ms"].as_f64().is_some_and(|ms| ms > 0.0));
    }

    let renamed = home.ask("alice", &["devices", "rename", bob["id"].as_str().expect("an id"), "büro / 2"]);
    assert_eq!(renamed["name"], "büro / 2");
    assert_eq!(home.ask("alice", &["devices", "show", "büro / 2"])["id"], bob["id"]);
    assert_eq!(home.run("alice", &["ping", "nobody"]).exit(), Some(2));
}

#[test]
fn b43_piped_the_words_are_alone_on_stdout_and_the_question_is_answered_elsewhere() {
    let home = Home::new();
    let (_node, address) = home.node();
    for (answer, exit, last) in [("accept", 0, "Paired with "), ("reject", 6, "error: the pairing was declined")] {
        let shows = home.start("alice", &[&["pair", "generate"], network(&address).as_slice()].concat());
        let words = shows.line();
        assert_eq!(words.split(' ').count(), 12, "{words}");
        let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
        let joins = home.start_with("bob", &args, &words);
        let question = loop {
            let line = shows.error_line();
            if line.starts_with("Allow ") {
                break line;
            }
        };
        assert!(question.contains("handfast --instance alice pair accept "), "{question}");
        let sessions = home.ask("alice", &["pair", "status"]);
        assert_eq!(
            (sessions[0]["role"].as_str(), sessions[0]["state"].as_str()),
            (Some("initiator"), Some("approval"))
        );
        assert!(sessions[0]["device"]["fingerprint"].is_string());
        assert_eq!(home.run("alice", &["pair", answer]).exit(), Some(0));
        let (shown, joined) = (shows.end(), joins.end());
        assert_eq!((shown.exit(), joined.exit()), (Some(exit), Some(exit)), "{:?} {:?}", shown.errors, joined.lines);
        assert!(shown.lines.is_empty(), "{:?}", shown.lines);
        assert!(shown.errors.iter().any(|line| line.starts_with(last)), "{:?}", shown.errors);
    }
}

/// A18, D8: the comparison of one side is asked on both, by `--yes` on neither, and is answered by another command.
#[test]
fn with_verify_both_people_compare_and_say_so_and_yes_is_no_answer_to_that() {
    let home = Home::new();
    let (_node, address) = home.node();
    for (answer, exit, last) in [("--emoji-match", 0, "paired"), ("--emoji-differ", 7, "pairing_failed")] {
        let args = [&["pair", "generate", "--verify", "--yes", "--json"], network(&address).as_slice()].concat();
        let shows = home.start("alice", &args);
        let words = shows.event("code_created")["words"].as_str().expect("words").to_owned();
        let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
        let joins = home.start_with("bob", &args, &words);
        let (at_alice, at_bob) = (shows.event("comparison_needed"), joins.event("comparison_needed"));
        for field in ["session", "emoji", "names", "digits"] {
            assert!(!at_alice[field].is_null() && at_alice[field] == at_bob[field], "{field}: {at_alice} {at_bob}");
        }
        assert_eq!(
            (at_alice["emoji"].as_array().map(Vec::len), at_alice["digits"].as_str().map(str::len)),
            (Some(7), Some(14))
        );
        let status = home.ask("alice", &["pair", "status"]);
        assert_eq!(
            (&status[0]["state"], &status[0]["comparison"]["emoji"]),
            (&"comparison".into(), &at_alice["emoji"])
        );
        let plain = home.run("alice", &["pair", "accept"]);
        assert_eq!(plain.exit(), Some(2), "it is no answer to a comparison");
        assert!(plain.errors.iter().any(|line| line.contains("emoji")), "{:?}", plain.errors);
        assert_eq!(home.run("alice", &["pair", "accept", "--emoji-match", "--emoji-differ"]).exit(), Some(2));
        let session = at_alice["session"].as_str().expect("a session");
        assert_eq!(home.run("alice", &["pair", "accept", answer, session]).exit(), Some(0));
        if exit == 0 {
            assert_eq!(home.ask("bob", &["pair", "accept", "--emoji-match"])["done"], "matched");
        }
        let (shown, joined) = (shows.end(), joins.end());
        assert_eq!((shown.exit(), joined.exit()), (Some(exit), Some(exit)), "{:?} {:?}", shown.lines, joined.lines);
        for ended in [&shown, &joined] {
            assert_eq!(ended.last()["event"], last);
            assert!(!ended.lines.iter().any(|line| line.contains("approval_needed")), "{:?}", ended.lines);
        }
        if exit == 7 {
            // Neither of them is told to check words that were right.
            let text = |ended: &Ended| ended.last()["text"].to_string();
            assert!(text(&shown).contains("you said that the two devices do not show the same"), "{}", text(&shown));
            assert!(text(&joined).contains("said that the emoji differ, or ended the comparison"), "{}", text(&joined));
        }
    }
    // One side says so by rejecting, in words of its own.
    let args = [&["pair", "generate", "--yes", "--json"], network(&address).as_slice()].concat();
    let shows = home.start("alice", &args);
    let words = shows.event("code_created")["words"].as_str().expect("words").to_owned();
    let args = [&["pair", "join", "-", "--verify"], network(&address).as_slice()].concat();
    let joins = home.start_with("bob", &args, &words);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.starts_with("Do both devices show the same?")) {
        said.push(joins.error_line());
    }
    assert!(said.iter().any(|line| line.contains(" · ")) && said.iter().any(|line| line.contains("or the numbers")));
    let how = said.last().expect("a question");
    for part in
        ["handfast --instance bob pair accept --emoji-match ", "handfast --instance bob pair accept --emoji-differ "]
    {
        assert!(how.contains(part), "{how}");
    }
    assert_eq!(home.ask("bob", &["pair", "reject", "--emoji-differ"])["done"], "differed");
    assert_eq!((shows.end().exit(), joins.end().exit()), (Some(7), Some(7)));
}

#[test]
fn an_interrupted_command_withdraws_its_code_and_exits_130() {
    let home = Home::new();
    let (_node, address) = home.node();
    let _alice = home.daemon("alice", &address);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let shows = home.start("alice", &["pair", "generate", "--json"]);
        let words = shows.event("code_created")["words"].as_str().expect("words").to_owned();
        shows.event("code_advertised");
        shows.signal(signal);
        let ended = shows.end();
        assert_eq!(ended.exit(), Some(130), "{:?}", ended.lines);
        let last = ended.last();
        assert_eq!((last["cause"].as_str(), last["exit"].as_u64()), (Some("cancelled"), Some(130)));
        assert_eq!(home.ask("alice", &["status"])["sessions"].as_array().map(Vec::len), Some(0));
        let args = [&["pair", "join", "-", "--yes", "--json"], network(&address).as_slice()].concat();
        let joins = home.start_with("bob", &args, &words).end();
        assert_eq!((joins.exit(), joins.last()["cause"].as_str()), (Some(6), Some("cancelled")));
    }
}

#[test]
fn cancel_and_the_end_of_the_code_have_their_exit_codes() {
    let home = Home::new();
    let (_node, address) = home.node();
    let _alice = home.daemon("alice", &address);
    let shows = home.start("alice", &["pair", "generate", "--json"]);
    let session = shows.event("code_created")["session"].as_str().expect("a session").to_owned();
    let cancelled = home.ask("alice", &["pair", "cancel", &session]);
    assert_eq!(
        (cancelled["session"].as_str(), cancelled["done"].as_str()),
        (Some(session.as_str()), Some("cancelled"))
    );
    assert_eq!(shows.end().exit(), Some(6));
    assert_eq!(home.ask("alice", &["pair", "status", &session])[0]["cause"], "cancelled");
    assert_eq!(home.run("alice", &["pair", "status", "nosuch"]).exit(), Some(2));
    assert_eq!(home.run("alice", &["pair", "accept"]).exit(), Some(2), "nothing is asked");

    let short = home.run("alice", &["pair", "generate", "--ttl", "5", "--json"]);
    assert_eq!((short.exit(), short.last()["cause"].as_str()), (Some(5), Some("code_expired")));

    let waiting = home.run("alice", &["pair", "generate", "--no-wait", "--json"]);
    assert_eq!((waiting.exit(), waiting.lines.len()), (Some(0), 1));
    assert_eq!(waiting.last()["event"], "code_created");
    assert_eq!(home.ask("alice", &["status"])["sessions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn commands_of_one_instance_share_the_device_that_came_first() {
    let home = Home::new();
    let (_node, address) = home.node();
    let args = [&["pair", "generate", "--json"], network(&address).as_slice()].concat();
    let both = [home.start("alice", &args), home.start("alice", &args)];
    let sessions: Vec<String> = both
        .iter()
        .map(|shows| shows.event("code_created")["session"].as_str().expect("a session").to_owned())
        .collect();
    let listed = home.ask("alice", &["pair", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{sessions:?} {listed}");
    // It is stopped like a daemon, and both commands get the news.
    assert_eq!(home.run("alice", &["stop"]).exit(), Some(0));
    for shows in both {
        let ended = shows.end();
        assert_eq!((ended.exit(), ended.last()["cause"].as_str()), (Some(6), Some("cancelled")));
    }
    assert!(!home.instance("alice").join("control.sock").exists());
}
