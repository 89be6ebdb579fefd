//! A code given as an argument is gone from the process list before anything else happens.

use crate::support::{Home, LISTEN, NOBODYS};

/// B44, protocol section 13.
#[test]
fn the_process_list_shows_no_word_of_a_code_given_as_an_argument() {
    let home = Home::new();
    let words: Vec<&str> = NOBODYS.split(' ').collect();
    let as_words = [&["pair", "join"], words.as_slice(), &["--yes"], LISTEN.as_slice()].concat();
    let as_one = [&["network", "pair", "join", NOBODYS, "--yes"], LISTEN.as_slice()].concat();
    for (instance, args) in [("one", as_one), ("words", as_words)] {
        let joining = home.start(instance, &args);
        // It is said after it was done, and the search for a code that nobody shows takes seconds.
        let note = joining.error_line();
        assert!(
            note.starts_with("note: the code was given as an argument") && !note.contains("could not be"),
            "{note}"
        );
        let list = std::fs::read(format!("/proc/{}/cmdline", joining.pid())).expect("it runs");
        let list = String::from_utf8_lossy(&list);
        assert!(list.contains("***"), "{list}");
        for word in &words {
            assert!(!list.split('\0').any(|arg| arg.contains(word)), "{word} in {list}");
        }
        assert!(list.contains("--yes") && list.contains("127.0.0.1"), "the rest stays: {list}");
    }
}

#[test]
fn a_code_behind_a_mistyped_command_is_not_repeated() {
    let home = Home::new();
    let ended = home.run("alice", &["pair", "jion", NOBODYS]);
    assert_eq!(ended.exit(), Some(2));
    assert!(ended.errors.iter().all(|line| !line.contains("sausage")), "{:?}", ended.errors);
}
