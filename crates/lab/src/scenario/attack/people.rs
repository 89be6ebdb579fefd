//! What people see and answer: hostile names, a No, no answer at all, a joiner that leaves.

use anyhow::{Context as _, Result, ensure};
use handfast_proto::id::StreamId;
use serde_json::Value;

use super::forge::joiner::Proved;
use super::forge::{self, Claim, tlv};
use super::stage::{ANSWER, Case, PATIENCE, Shown, Stage, case, must_close, must_end, slow};
use crate::device::{COMMAND_LIMIT, Device};

pub(super) const CASES: &[Case] = &[
    case("37", "joiners with hostile names", hostile_names),
    case("37", "H3 with TLVs that must be refused", refused_tlvs),
    case("37", "a device whose own name is hostile and has 10 kB", own_hostile_name),
    case("38", "the initiator denies, the joiner comes back with RESUME", denied_and_resumed),
    case("38", "the joiner declines after H4", joiner_declines),
    case("38", "the joiner leaves during the question", joiner_leaves),
    slow("38", "nobody answers the question", no_answer),
];

/// Names that must not reach a terminal as they are: colours and title of a terminal, text that runs backwards, hidden
/// characters, markup, a line of its own, no end.
const NAMES: [&str; 6] = [
    "\u{1b}[2J\u{1b}]0;pwned\u{7}evil",
    "bob\u{202e}txt.exe\u{2066}",
    "al\u{200b}i\u{200d}ce\u{feff}\u{ad}",
    "<img src=x onerror=alert(1)>",
    "bob\r\nAllow alice? yes\u{85}\u{2028}",
    "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
];

/// Most characters and bytes of a name (protocol section 7).
const NAME_CHARACTERS: usize = 32;
const NAME_BYTES: usize = 64;

/// Silence after a question is No after two minutes; a little more for the way.
const QUESTION_LIMIT: std::time::Duration = std::time::Duration::from_secs(130);

/// A connection that stands at alice's question, with the attacker as the joiner.
struct AtTheQuestion {
    shown: Shown,
    stream: StreamId,
    proved: Proved,
    h3: handfast_proto::wire::frames::Frame,
}

fn at_the_question(stage: &Stage, info: &[u8]) -> Result<AtTheQuestion> {
    let shown = stage.offer(&[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let claim = proved.claim(&stage.identity, "mallory");
    let claim = Claim { signed: proved.signed(&claim.dik, info), info: info.to_vec(), ..claim };
    let h3 = proved.h3(&claim)?;
    stage.mallory.send(stream, vec![h3.clone()])?;
    Ok(AtTheQuestion { shown, stream, proved, h3 })
}

fn answer(device: &Device, how: &str, session: &str) -> Result<()> {
    device.run(&["pair", how, session], None, COMMAND_LIMIT).map(drop)
}

fn hostile_names(stage: &Stage) -> Result<String> {
    let mut seen = Vec::new();
    for name in NAMES {
        let AtTheQuestion { shown, .. } = at_the_question(stage, &forge::info(name.as_bytes()))?;
        let asked = shown.process.wait_event("approval_needed", PATIENCE)?;
        let listed = stage.alice.run(&["pair", "status"], None, COMMAND_LIMIT)?;
        answer(&stage.alice, "reject", &shown.session)?;
        let output = shown.process.finish(PATIENCE)?;
        let told = asked.json.pointer("/device/name").and_then(Value::as_str).context("no name")?;
        is_clean(told).with_context(|| format!("the event's name for {name:?}"))?;
        for (place, text) in [("events", &output.stdout), ("stderr", &output.stderr), ("list", &listed.stdout)] {
            is_printable(text).with_context(|| format!("{place} for {name:?}"))?;
        }
        seen.push(format!("{told:?}"));
    }
    let log = std::fs::read(stage.alice.dir().join("log/handfast.log")).unwrap_or_default();
    is_printable(&String::from_utf8_lossy(&log)).context("the log")?;
    Ok(format!("shown as {}", seen.join(", ")))
}

/// A name as the protocol allows it to be shown.
pub(super) fn is_clean(name: &str) -> Result<()> {
    ensure!(!name.is_empty() && name.len() <= NAME_BYTES, "{} bytes", name.len());
    ensure!(name.chars().count() <= NAME_CHARACTERS, "{} characters", name.chars().count());
    is_printable(name)
}

/// No control but line ends and tabs, nothing that reorders or hides what is around it.
fn is_printable(text: &str) -> Result<()> {
    let bad = |c: &char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    match text.chars().find(bad) {
        Some(c) => anyhow::bail!("{c:?} in {:?}", text.chars().take(200).collect::<String>()),
        None => Ok(()),
    }
}

fn refused_tlvs(stage: &Stage) -> Result<String> {
    let name = tlv(1, b"mallory");
    let cases = [
        ("an unknown critical TLV", [name.clone(), tlv(200, &[1])].concat()),
        ("a name twice", [name.clone(), name.clone()].concat()),
        ("TLVs out of order", [tlv(2, b"phone"), name.clone()].concat()),
        ("a name that is not UTF-8", tlv(1, &[0xff, 0xfe])),
        ("a TLV longer than the rest", [&name[..], &[2, 200, 1]].concat()),
    ];
    for (what, info) in cases {
        let AtTheQuestion { shown, stream, .. } = at_the_question(stage, &info)?;
        must_close(&stage.mallory.reply(stream, ANSWER)).context(what)?;
        shown.was_not_asked().context(what)?;
        stage.clear()?;
    }
    // What is behind the TLVs must be zero.
    let shown = stage.offer(&[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let claim = proved.claim(&stage.identity, "mallory");
    stage.mallory.send(stream, vec![proved.h3_padded(&claim, 1)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER)).context("padding that is not zero")?;
    shown.was_not_asked()?;
    Ok("closed without a word".to_owned())
}

fn own_hostile_name(stage: &Stage) -> Result<String> {
    let name = format!("\u{1b}[31m\u{202e}{}", "x".repeat(10_000));
    let mut carol = stage.world.device("carol", "hostile")?.named(&name);
    if let Err(error) = carol.start_daemon() {
        let shown: String = format!("{error:#}").chars().filter(|c| !c.is_control()).take(120).collect();
        ensure!(!carol.is_running(), "a device that does not answer still runs: {shown}");
        return Ok(format!("refused: {shown}"));
    }
    let own = carol.status()?.name;
    is_clean(&own)?;
    carol.stop()?;
    Ok(format!("runs as {own:?}"))
}

fn denied_and_resumed(stage: &Stage) -> Result<String> {
    let AtTheQuestion { shown, stream, mut proved, h3 } = at_the_question(stage, &forge::info(b"mallory"))?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    answer(&stage.alice, "reject", &shown.session)?;
    let h4 = stage.mallory.frame(stream)?;
    let status = proved.read_h4(&h4)?.status;
    ensure!(status == 1, "H4 has status {status}");
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    // The same answer, byte for byte, and no other, as often as it is asked for.
    for _ in 0..2 {
        let (_, again) = stage.say(&shown, vec![proved.resume()?, h3.clone()])?;
        ensure!(again.is_closed() || again.clone().frame()? == h4, "RESUME was answered otherwise: {again}");
    }
    let ending = must_end(shown.process, 6, &["rejected"])?;
    Ok(format!("H4 says denied, again after RESUME; the initiator ended with {ending}"))
}

fn joiner_declines(stage: &Stage) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h3])?;
    let offered = proved.read_h4(&stage.mallory.frame(stream)?)?;
    ensure!(offered.status == 0, "H4 has status {}", offered.status);
    stage.mallory.send(stream, vec![proved.h5(0, &offered)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    let ending = must_end(shown.process, 6, &["rejected"])?;
    Ok(format!("the initiator ended with {ending}"))
}

fn joiner_leaves(stage: &Stage) -> Result<String> {
    let AtTheQuestion { shown, stream, .. } = at_the_question(stage, &forge::info(b"mallory"))?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    stage.mallory.close(stream)?;
    let ending = must_end(shown.process, 6, &["cancelled"])?;
    Ok(format!("the initiator ended with {ending}"))
}

fn no_answer(stage: &Stage) -> Result<String> {
    let AtTheQuestion { shown, stream, mut proved, .. } = at_the_question(stage, &forge::info(b"mallory"))?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    let h4 = stage.mallory.reply(stream, QUESTION_LIMIT).frame()?;
    let status = proved.read_h4(&h4)?.status;
    ensure!(status != 0, "H4 is an offer that nobody agreed to");
    let ending = must_end(shown.process, 9, &["timed_out"])?;
    Ok(format!("H4 has status {status}; the initiator ended with {ending}"))
}
