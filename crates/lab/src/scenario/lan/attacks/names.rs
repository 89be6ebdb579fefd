//! What a device of `pair nearby` calls itself before anybody proved anything: shown safely, or not at all.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use handfast_proto::wire::beacon::HOP_LIMIT;
use serde_json::Value;

use super::super::super::Options;
use super::Case;
use super::forge::{NEARBY, beacon, reply};
use super::stage::{ANSWER, FIRST_BEACONS, Stage};
use super::tls::{Server, Visit};
use crate::process::Running;
use crate::scenario::attack::forge::labelled;

/// Bytes of the name in C2.
const NAME_LEN: usize = 64;

/// By then a device that was heard is listed, with a name or without.
const LISTED_BY: Duration = Duration::from_secs(2);

pub(super) const CASES: &[Case] = &[
    ("-", "a device that says who it is is listed by name", honest),
    ("37", "a name with control characters", |stage, _| hostile(stage, b"al\x1b]0;owned\x07\x1b[2Jice\r\n  2  bob", 0)),
    ("37", "a name written from right to left", |stage, _| {
        hostile(stage, "\u{202e}ecila\u{2066}\u{200f}".as_bytes(), 0)
    }),
    ("37", "a name that is no text", |stage, _| hostile(stage, &[0xff; NAME_LEN], 0)),
    ("37", "a name of blank characters", |stage, _| hostile(stage, "\u{2800}\u{200b}\u{3164}".as_bytes(), 0)),
    ("37", "a name of 10 kB", |stage, _| hostile(stage, &[b'a'; NAME_LEN], 10_000)),
];

fn honest(stage: &Stage, _: &Options) -> Result<String> {
    let (name, shown) = play(stage, b"carol", 0)?;
    ensure!(name.as_deref() == Some("carol") && shown.contains("carol"), "listed as {name:?}: {shown}");
    Ok("carol".to_owned())
}

fn hostile(stage: &Stage, name: &[u8], more: usize) -> Result<String> {
    let (name, shown) = play(stage, name, more)?;
    let is_harmless = |c: char| c == '\n' || (c.is_ascii() && !c.is_control());
    ensure!(shown.chars().all(is_harmless), "shown: {shown:?}");
    match name {
        None => Ok("listed without a name".to_owned()),
        Some(name) if name.len() <= NAME_LEN && name.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            Ok(format!("listed as {name:?}"))
        }
        Some(name) => bail!("listed as {name:?}"),
    }
}

/// Mallory waits as a device nearby of this name, whose answer has `more` bytes than it should have: what alice lists in
/// JSON, and what she shows to a person.
fn play(stage: &Stage, name: &[u8], more: usize) -> Result<(Option<String>, String)> {
    let (mut run, id) = listing(stage, &["--json"], name, more)?;
    let listed = run.lines().into_iter().rev().find_map(|line| {
        let event: Value = serde_json::from_str(&line.text).ok()?;
        (event["event"] == "device_seen" && event["id"] == id.as_str()).then_some(event)
    });
    let listed = listed.context("mallory is not listed")?;
    ensure!(listed["verified"] == false, "she counts as verified: {listed}");
    run.interrupt()?;
    ensure!(run.wait(ANSWER)?.is_some(), "`pair nearby` goes on after an interrupt");
    let (run, _) = listing(stage, &[], name, more)?;
    let lines: Vec<String> = run.lines().into_iter().map(|line| line.text).collect();
    let shown = format!("{}\n{}", lines.join("\n"), run.stderr());
    let address = stage.mallory.ip.to_string();
    ensure!(shown.contains(&address), "mallory is not shown: {shown}");
    Ok((listed["name"].as_str().map(str::to_owned), shown))
}

/// `pair nearby` of alice, once she has heard of mallory and what she calls herself; and mallory's id there.
fn listing(stage: &Stage, options: &[&str], name: &[u8], more: usize) -> Result<(Running, String)> {
    let run = stage.alice.spawn(&[&["pair", "nearby"], options].concat(), None)?;
    std::thread::sleep(FIRST_BEACONS);
    let server = Server::start(stage.mallory.host.namespace(), true)?;
    let mut heard = beacon(NEARBY, 0, &stage.told(server.port()?, server.spki), None)?;
    heard[96..].fill(0);
    let id: String = labelled("nid", &[&heard[8..24]])[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &heard)?;
    let answer = |call: &[u8]| Ok([reply(call, name)?, vec![b'a'; more]].concat());
    match server.answer(ANSWER, answer)? {
        Visit::Said(_) => {}
        Visit::Refused(how) => bail!("alice did not ask: {how}"),
    }
    std::thread::sleep(LISTED_BY);
    Ok((run, id))
}
