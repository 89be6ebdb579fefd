//! Codes that cannot be right, codes after their time, clocks that are wrong, and the code on a command line.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE32_NOPAD;

use super::forge::{self, labelled};
use super::is_thorough;
use super::stage::{ANSWER, Case, Knowledge, PATIENCE, Stage, case, must_close, must_end, shown_by};
use crate::capture::Capture;
use crate::clock;
use crate::device::{COMMAND_LIMIT, Device};
use crate::leak::Needles;
use crate::scenario::pairing::{self, Ending, Offer};
use crate::secrets::entropy_of;

pub(super) const CASES: &[Case] = &[
    case("34", "QR texts that cannot be right; not one packet", bad_qr_texts),
    case("34", "a QR text in lower case with spaces around it", untidy_qr_text),
    case("35", "words that cannot be right; not one packet", bad_words),
    case("15", "a code after its life", expired),
    case("15", "the initiator's clock three days back or ahead", initiator_clock),
    case("15", "the joiner's clock three days back or ahead", joiner_clock),
    case("51", "the process list after pair join \"words\"", command_line),
];

const PREFIX: &str = "HANDFAST:";

/// The status of H2 for a code whose life has ended.
const EXPIRED: u8 = 16;

/// The shortest life of a code, and how long its end takes to be told.
const SHORT_TTL: &str = "5";

/// Longer than any pipe: the program must not read it all.
const MEGABYTE: usize = 1 << 20;

/// How long the joiner is watched whose command line held the code.
const SEARCHING: Duration = Duration::from_secs(1);

/// Enters each text on a device that does not run; every one must end with its exit code, and nothing may be sent.
fn refused_unsent(stage: &Stage, texts: &[(&str, String, i32, &str)]) -> Result<String> {
    let carol = stage.world.device("carol", "typist")?;
    let file = stage.world.lab.dir().join("typist.pcap");
    let capture = Capture::start(carol.host().namespace(), "any", &file)?;
    for (what, text, exit, cause) in texts {
        let args = [&["pair", "join", "-", "--json", "--yes"], carol.network_options().as_slice()].concat();
        let output = carol.run(&args, Some(&format!("{text}\n")), PATIENCE).with_context(|| (*what).to_owned())?;
        let ending = Ending::of(&output);
        let right = ending.exit == Some(*exit) && ending.cause.as_deref() == Some(*cause) && ending.told == 1;
        ensure!(right, "{what}: ended with {ending}, not {exit} {cause}: {}", output.stderr.trim());
    }
    let captured = capture.stop()?;
    let sent = captured.packets.iter().filter_map(|packet| packet.ends()).next();
    ensure!(captured.lost == 0, "the capture lost {} packets", captured.lost);
    ensure!(sent.is_none(), "a packet was sent: {sent:?}");
    Ok(format!("{} texts refused, no packet", texts.len()))
}

/// A QR text of these bytes, with the right checksum.
fn qr_text(bytes: &[u8]) -> String {
    let sum = labelled("qr", &[bytes]);
    format!("{PREFIX}{}", BASE32_NOPAD.encode(&[bytes, &sum[..2]].concat()))
}

fn bad_qr_texts(stage: &Stage) -> Result<String> {
    // Version 1, in the DHT, a code, a key, a port and one address.
    let good = [&[0x11], &forge::random::<48>()?[..], &4001_u16.to_be_bytes(), &[5, 1, 1, 2]].concat();
    let text = qr_text(&good);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        qr_text(&bytes)
    };
    let last = text.chars().last().context("a text")?;
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let spare = alphabet.chars().nth(alphabet.find(last).context("base32")? | 1).context("base32")?;
    // One character of the key becomes another.
    let key_at = PREFIX.len() + 40;
    let key_with = |letter: &str| format!("{}{letter}{}", &text[..key_at], &text[key_at + 1..]);
    let wrong_sum = if text[key_at..].starts_with('A') { "Y" } else { "A" };
    let cases = [
        ("a wrong checksum", key_with(wrong_sum), 3, "code_malformed"),
        ("non-zero spare bits", format!("{}{spare}", &text[..text.len() - 1]), 3, "code_malformed"),
        ("a letter missing", text[..text.len() - 1].to_owned(), 3, "code_malformed"),
        ("a letter that is not base32", key_with("1"), 3, "code_malformed"),
        ("121 characters and more", format!("{text}{}", "A".repeat(30)), 3, "code_malformed"),
        ("a length between two", qr_text(&good[..good.len() - 1]), 3, "code_malformed"),
        ("an unknown flag", with(0, 0x15), 3, "code_malformed"),
        ("nothing behind the prefix", PREFIX.to_owned(), 3, "code_malformed"),
        ("another prefix", text.replacen("HANDFAST", "HANDSLOW", 1), 3, "code_malformed"),
        ("version 2", with(0, 0x21), 12, "version_mismatch"),
    ];
    ensure!(cases.iter().all(|case| case.1 != text), "a case is not wrong");
    refused_unsent(stage, &cases.map(|(what, text, exit, cause)| (what, text, exit, cause)))
}

fn untidy_qr_text(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let created = shown.process.wait_event("code_created", ANSWER)?;
    let text = format!("  \t{}  ", created.text("qr")?.to_lowercase());
    let offer = Offer { process: shown.process, words: text, qr: shown.qr, session: shown.session };
    pairing::finish(offer, |text| stage.join(text, &["--yes"]))?;
    Ok("paired".to_owned())
}

fn bad_words(stage: &Stage) -> Result<String> {
    let code = Knowledge::fresh()?;
    let words: Vec<&str> = code.words.split(' ').collect();
    let last = ["abandon", "zoo", "legal", "yellow", "winner"]
        .into_iter()
        .map(|last| [&words[..11], &[last]].concat().join(" "))
        .find(|words| entropy_of(words).is_err())
        .context("a last word with a wrong checksum")?;
    let all = |text: String| (text, 3, "code_malformed");
    let cases = [
        ("eleven words", all(words[..11].join(" "))),
        ("thirteen words", all(format!("{} abandon", code.words))),
        ("a wrong checksum", all(last)),
        ("a word that is none", all(code.words.replacen(words[0], "handfast", 1))),
        (
            "names of emoji",
            all("anchor apple ball balloon banana bell bicycle book butterfly cactus cake camel".to_owned()),
        ),
        ("emoji", all("⚓ 🍎 ⚽ 🎈 🍌 🔔 🚲 📕 🦋 🌵 🎂 🐫".to_owned())),
        ("digits", all("1234 5678 9012".to_owned())),
        ("nothing", all(String::new())),
        ("a control character between words", all(code.words.replacen(' ', " \u{1b}[A ", 1))),
        ("a megabyte", all("abandon ".repeat(MEGABYTE / 8))),
        ("a megabyte without a space", all("a".repeat(MEGABYTE))),
    ];
    refused_unsent(stage, &cases.map(|(what, (text, exit, cause))| (what, text, exit, cause)))
}

fn expired(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes", "--ttl", SHORT_TTL])?;
    shown.process.wait_event("pairing_failed", PATIENCE)?;
    let (stream, proved) = stage.prove(&shown)?;
    ensure!(proved.status == EXPIRED, "H2 has status {}", proved.status);
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    let initiator = must_end(shown.process, 5, &["code_expired"])?;
    let joiner = must_end(stage.join(&shown.words, &["--yes"])?, 5, &["code_expired"])?;
    Ok(format!("H2 says expired; initiator {initiator}, joiner {joiner}"))
}

fn initiator_clock(stage: &Stage) -> Result<String> {
    with_moved_clock(stage, |carol| {
        let shown = shown_by(carol, &["--yes"])?;
        stage.wait_for_record(&shown.code)?;
        stage.still_pairs(shown)
    })
}

fn joiner_clock(stage: &Stage) -> Result<String> {
    with_moved_clock(stage, |carol| {
        let shown = stage.offer_published(&["--yes"])?;
        let offer = Offer { process: shown.process, words: shown.words, qr: shown.qr, session: shown.session };
        pairing::finish(offer, |words| pairing::join(carol, words, &["--yes"])).map(drop)
    })
}

/// A third device whose clock is wrong by days pairs with a victim all the same; its code ends on its own clock.
fn with_moved_clock(stage: &Stage, pair: impl Fn(&Device) -> Result<()>) -> Result<String> {
    for days in [-3, 3] {
        let mut carol = stage.world.device("carol", &format!("clock-{days}"))?;
        clock::move_by_days(&mut carol, days)?;
        carol.start_daemon()?;
        stage.trust(carol.status()?.id);
        pair(&carol).with_context(|| format!("{days} days"))?;
        if is_thorough(&stage.options) {
            let shown = shown_by(&carol, &["--yes", "--ttl", SHORT_TTL])?;
            must_end(shown.process, 5, &["code_expired"]).with_context(|| format!("{days} days"))?;
        }
        carol.stop()?;
    }
    Ok("paired both times".to_owned())
}

fn command_line(stage: &Stage) -> Result<String> {
    let with_daemon = shown_command_line(&stage.bob, &[])?;
    let carol = stage.world.device("carol", "argv")?;
    let alone = shown_command_line(&carol, &carol.network_options())?;
    Ok(format!("{with_daemon}; without a daemon {alone}"))
}

/// What the process list shows of a search for a code that came as an argument.
fn shown_command_line(device: &Device, network: &[&str]) -> Result<String> {
    let code = Knowledge::fresh()?;
    let mut needles = Needles::default();
    needles.add_words("code", &code.words);
    let args = [&["pair", "join", code.words.as_str(), "--json"], network].concat();
    let joining = device.spawn(&args, None)?;
    std::thread::sleep(SEARCHING);
    let shown = std::fs::read(format!("/proc/{}/cmdline", joining.pid()))?;
    ensure!(!shown.is_empty(), "the joiner has ended: {}", joining.stderr());
    let text = String::from_utf8_lossy(&shown).replace('\0', " ");
    let found = needles.search("command line", &shown);
    ensure!(found.is_empty(), "{} findings in the command line", found.len());
    // The command's own words can be words of a code as well: only what follows them is looked at.
    let rest = text.split_once("pair join").context("not the joiner's command line")?.1;
    let words_shown = rest.split(' ').filter(|part| code.words.split(' ').any(|word| word == *part)).count();
    ensure!(words_shown == 0, "{words_shown} words of the code are in the command line");
    let environment = std::fs::read(format!("/proc/{}/environ", joining.pid())).unwrap_or_default();
    ensure!(needles.search("environment", &environment).is_empty(), "the code is in the environment");
    ensure!(!joining.stderr().trim().is_empty(), "no advice on stderr to use stdin or the prompt");
    device.run(&["pair", "cancel"], None, COMMAND_LIMIT)?;
    must_end(joining, 6, &["cancelled"])?;
    Ok(format!("shown is \"pair join {}\"", rest.split_whitespace().take(2).collect::<Vec<_>>().join(" ")))
}
