//! The QR of a code: drawn on a real terminal, written to a file and read from one, pasted as text.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use data_encoding::BASE32_NOPAD;
use qrcode::{Color, EcLevel, QrCode};

use crate::support::{Ended, Home, LISTEN, Running, network};
use crate::terminal::{THEMES, Terminal};
use crate::zbar;

/// A right text without address hints that nobody shows (`docs/vectors/qr.json`).
const NOBODYS: &str = "HANDFAST:CGPIQXMVFLJWFSXLJ37DJKHJDPJEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQQAABIL6";

/// Writes the QR of any text, as another program would.
fn picture(folder: &Path, name: &str, text: &str) -> String {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).expect("a short text");
    let (width, module) = (code.width() + 8, 4);
    let mut pixels = vec![0xff; (width * module) * (width * module)];
    for (at, _) in code.to_colors().iter().enumerate().filter(|(_, colour)| **colour == Color::Dark) {
        let (left, top) = ((at % code.width() + 4) * module, (at / code.width() + 4) * module);
        for y in top..top + module {
            pixels[y * width * module + left..][..module].fill(0);
        }
    }
    let side = u32::try_from(width * module).expect("a small picture");
    let file = folder.join(name);
    let mut encoder = png::Encoder::new(std::fs::File::create(&file).expect("a new file"), side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).expect("written");
    path(&file)
}

fn path(file: &Path) -> String {
    file.to_str().expect("a plain path").to_owned()
}

/// A text of section 4 with another first byte or other content; the checksum is that of nothing.
fn text_of(bytes: &[u8]) -> String {
    format!("HANDFAST:{}", BASE32_NOPAD.encode(bytes))
}

/// Texts that are refused: what is wrong with each, the exit code, and a part of what is said.
fn refused() -> Vec<(String, i32, &'static str)> {
    let mut later = vec![2 << 4];
    later.extend([7; 90]);
    let corrupt = NOBODYS.replace("JBEEQQAA", "JBEEQRAA");
    let spare = format!("{}7", NOBODYS.strip_suffix('6').expect("its end"));
    let long = format!("{}{}", NOBODYS, "A".repeat(121 - NOBODYS.len()));
    vec![
        (corrupt, 3, "damaged"),
        (spare, 3, "damaged"),
        (NOBODYS[..NOBODYS.len() - 1].to_owned(), 3, "has 93 characters"),
        (format!("{NOBODYS}A"), 3, "has 95 characters"),
        (long, 3, "has 121 characters"),
        (NOBODYS.replace(':', ": "), 3, "spaces or line breaks"),
        (NOBODYS.replace("AAB", "A=B"), 3, "a character"),
        ("HANDFAST:".to_owned(), 3, "has 9 characters"),
        (text_of(&later), 12, "of version 2"),
    ]
}

fn join(home: &Home, args: &[&str], stdin: &str) -> Ended {
    home.start_with("bob", &[&["pair", "join", "--yes", "--json"], args, LISTEN.as_slice()].concat(), stdin).end()
}

/// Attack 34, acceptance: corrupt, truncated, extended and other-version codes are refused by name, as text and as
/// picture, and nothing is started.
#[test]
fn a8_attack_34_what_is_no_right_code_is_refused_by_name_from_text_and_from_picture() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    for (number, (text, exit, said)) in refused().into_iter().enumerate() {
        let file = picture(folder.path(), &format!("{number}.png"), &text);
        for (way, ended) in [
            ("stdin", join(&home, &["-"], &text)),
            ("argument", join(&home, &[&text], "")),
            ("picture", join(&home, &["--qr-image", &file], "")),
        ] {
            assert_eq!(ended.exit(), Some(exit), "{way}, {said}: {:?}", ended.lines);
            let event = ended.last();
            let cause = if exit == 12 { "version_mismatch" } else { "code_malformed" };
            assert_eq!((event["event"].as_str(), event["cause"].as_str()), (Some("pairing_failed"), Some(cause)));
            assert!(event["text"].as_str().is_some_and(|text| text.contains(said)), "{way}: {event}");
            assert!(!ended.lines.concat().contains("CGPIQXMV"), "the code is not repeated: {event}");
        }
    }
    assert!(!home.path().exists(), "nothing was started");
}

/// C10: pasted with white space around it, in lower case, or from a picture: it is understood, and nobody is found only
/// because nobody shows it.
#[test]
fn c10_a_right_text_is_taken_from_stdin_and_from_a_picture_in_any_case() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    let lower = NOBODYS.to_lowercase();
    let file = picture(folder.path(), "lower.png", &lower);
    for (args, stdin) in [
        (["-"].as_slice(), format!("\n  {NOBODYS}\r\n\n")),
        (&["-"], lower),
        (&[], NOBODYS.to_owned()),
        (&["--qr-image", &file], String::new()),
    ] {
        let ended = join(&home, args, &stdin);
        assert_eq!((ended.exit(), ended.last()["cause"].as_str()), (Some(4), Some("no_bootstrap")), "{args:?}");
    }
}

/// What a QR text says besides hints: version, code and key.
fn fixed(text: &str) -> Vec<u8> {
    let text = text.strip_prefix("HANDFAST:").expect("the prefix");
    BASE32_NOPAD.decode(text.as_bytes()).expect("base32")[..49].to_vec()
}

/// A32, A8: `--qr-image` both ways. What the picture says is all that the other side is given.
#[test]
fn a8_a32_two_devices_pair_by_a_picture_file_that_goes_away_afterwards() {
    let home = Home::new();
    let (_node, address) = home.node();
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["code.png", "second.PNG"] {
        let file = folder.path().join(name);
        let place = path(&file);
        let shows = ["pair", "generate", "--yes", "--json", "--qr-image", &place];
        let shows = home.start("alice", &[shows.as_slice(), network(&address).as_slice()].concat());
        let created = shows.event("code_created");
        let mode = std::fs::metadata(&file).expect("the picture is there first").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let read = zbar::read(std::slice::from_ref(&file));
        let joins = ["pair", "join", "--yes", "--json", "--qr-image", &place];
        let joined = home.run("bob", &[joins.as_slice(), network(&address).as_slice()].concat());
        let shown = shows.end();
        assert_eq!((joined.exit(), shown.exit()), (Some(0), Some(0)), "{:?} {:?}", joined.lines, shown.lines);
        // Hints may have come to be known in between; the code and the pinned key are the same.
        let created = fixed(created["qr"].as_str().expect("a text"));
        assert!(read.is_none_or(|read| read.len() == 1 && fixed(&read[0]) == created));
        assert_eq!(crate::support::names(folder.path()), [""; 0], "the picture has gone with the code");
    }
}

#[test]
fn the_picture_goes_away_when_the_code_is_withdrawn_and_stays_when_nobody_waits_for_it_here() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("code.svg");
    let (_node, address) = home.node();
    let _alice = home.daemon("alice", &address);
    let args = ["pair", "generate", "--json", "--qr-image", &path(&file)];
    let shows = home.start("alice", &args);
    shows.event("code_created");
    assert!(std::fs::read_to_string(&file).expect("a drawing").starts_with("<svg "));
    shows.signal(rustix::process::Signal::INT);
    assert_eq!(shows.end().exit(), Some(130));
    assert!(!file.exists());
    assert_eq!(home.run("alice", &[args.as_slice(), &["--no-wait"]].concat()).exit(), Some(0));
    assert!(file.exists());
    let again = home.run("alice", &args);
    assert_eq!((again.exit(), again.last()["cause"].as_str()), (Some(2), Some("usage")), "it is not written over");
    assert_eq!(home.ask("alice", &["status"])["sessions"].as_array().map(Vec::len), Some(1), "no code for nobody");
}

#[test]
fn what_cannot_be_a_picture_of_a_code_is_said() {
    let home = Home::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("written");
        path(&folder.path().join(name))
    };
    let web = picture(folder.path(), "web.png", "https://example.org/S3CR3T");
    let letter = file("letter.txt", b"dear Bob");
    let drawing = file("code.svg", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    // The header of a picture of 10,000 million pixels.
    let bomb =
        file("bomb.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x06\0\0\0\xa8\x52\x0b\xc8");
    let missing = path(&folder.path().join("missing.png"));
    for (file, exit, said) in [
        (&web, 3, "it begins with \"https:\""),
        (&letter, 3, "it must be PNG or JPEG"),
        (&drawing, 3, "an SVG drawing"),
        (&bomb, 3, "100000 x 100000 pixels"),
        (&missing, 2, "cannot be read"),
        (&path(folder.path()), 2, "cannot be read"),
    ] {
        let ended = home.run("bob", &["pair", "join", "--qr-image", file]);
        assert_eq!(ended.exit(), Some(exit), "{said}: {:?}", ended.errors);
        assert!(ended.errors[0].contains(said) && !ended.errors.concat().contains("S3CR3T"), "{:?}", ended.errors);
    }
    for args in [["pair", "join", "legal", "--qr-image", &web].as_slice(), &["pair", "generate", "--qr-image", "code"]]
    {
        assert_eq!(home.run("bob", args).exit(), Some(2), "{args:?}");
    }
    assert!(!home.path().exists(), "nothing was started");
}

/// Runs a command of an instance on a terminal of its own; what it prints there comes through.
fn on_terminal(home: &Home, (columns, rows): (usize, usize), environment: &[(&str, &str)], args: &[&str]) -> Running {
    let mut command = Command::new("script");
    let program = [&[env!("CARGO_BIN_EXE_handfast")], args].concat().join(" ");
    let line = format!("stty rows {rows} columns {columns} && exec {program} --instance alice");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("SHELL", "/bin/sh");
    command.env("HANDFAST_HOME", home.path()).env("TERM", "xterm-256color").envs(environment.iter().copied());
    Running::spawn(command, "")
}

/// A command that shows a code on a terminal, and everything until the code can be found; beside it the picture file.
fn shown_on_terminal(
    home: &Home,
    node: &str,
    size: (usize, usize),
    environment: &[(&str, &str)],
    picture: &Path,
) -> (Running, Terminal) {
    let place = path(picture);
    let args = ["pair", "generate", "--yes", "--qr-image", &place];
    let shows = on_terminal(home, size, environment, &[args.as_slice(), network(node).as_slice()].concat());
    let mut terminal = Terminal::new(size.0, size.1);
    loop {
        let line = shows.line();
        terminal.print(&format!("{line}\n"));
        if line.contains("The code can be found") {
            return (shows, terminal);
        }
    }
}

/// The line with the time that is left is drawn again every second: on a terminal that is too narrow for it, too, it
/// leaves the words and the QR where they are.
#[test]
fn on_a_narrow_terminal_the_time_that_passes_pushes_nothing_away() {
    let home = Home::new();
    let args = ["pair", "generate", "--ttl", "5"];
    let shows = on_terminal(&home, (60, 24), &[], &[args.as_slice(), LISTEN.as_slice()].concat());
    let mut terminal = Terminal::new(60, 24);
    loop {
        let line = shows.line();
        terminal.print(&format!("{line}\n"));
        if line.contains("the life of this code has ended") {
            break;
        }
    }
    let lines = terminal.text();
    assert!(lines.iter().any(|line| line.contains("Read these words")) && lines.concat().contains('█'), "{lines:#?}");
}

/// A8, acceptance: the real program on a terminal of 80 by 24, on dark and on light: all words are seen at once with
/// the whole QR. Both readers read it, and by what the program itself reads the two devices pair.
#[test]
fn a8_on_a_terminal_of_80_by_24_the_words_are_seen_and_the_qr_is_read_and_pairs() {
    let home = Home::new();
    let (_node, address) = home.node();
    let folder = tempfile::tempdir().expect("a folder");
    for (number, theme) in THEMES.into_iter().enumerate() {
        let file = folder.path().join(format!("code-{number}.png"));
        let (shows, terminal) = shown_on_terminal(&home, &address, (80, 24), &[], &file);
        let lines = terminal.text();
        let seen = |number: usize| lines.iter().any(|line| line.contains(&format!(" {number:>2} ")));
        assert!((1..=12).all(seen), "{lines:#?}");
        let screen = folder.path().join(format!("screen-{number}.png"));
        std::fs::write(&screen, terminal.png(theme)).expect("written");
        if let Some(read) = zbar::read(&[file, screen.clone()]) {
            assert!(matches!(&read[..], [file, screen] if fixed(file) == fixed(screen)), "{theme:?}: {read:?}");
        }
        let args = ["pair", "join", "--yes", "--json", "--qr-image", &path(&screen)];
        let joined = home.run("bob", &[args.as_slice(), network(&address).as_slice()].concat());
        assert_eq!(joined.exit(), Some(0), "{theme:?}: {:?}", joined.lines);
        shows.end();
    }
}

#[test]
fn a_small_terminal_is_told_where_to_find_a_qr_and_one_without_colours_gets_the_text() {
    let home = Home::new();
    let (_node, address) = home.node();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("code.png");
    let (shows, terminal) = shown_on_terminal(&home, &address, (50, 20), &[], &file);
    let lines = terminal.text();
    assert!(lines.iter().any(|line| line.contains("--qr-image FILE")), "{lines:#?}");
    assert!(!lines.concat().contains('█'));
    drop(shows);
    let (home, file) = (Home::new(), folder.path().join("plain.png"));
    let (_shows, terminal) = shown_on_terminal(&home, &address, (80, 24), &[("NO_COLOR", "1")], &file);
    let lines = terminal.text();
    assert!(!lines.concat().contains('█'));
    let text = zbar::read(&[file]).map(|read| read.concat());
    assert!(text.is_none_or(|text| lines.concat().contains(&text)), "{lines:#?}");
}
