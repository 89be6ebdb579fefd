//! Attacks on the joiner: somebody answers in the initiator's place, without the code or with it but against the rules.

use anyhow::{Context as _, Result, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::id::StreamId;

use super::forge::initiator::{Proved, Said};
use super::forge::{self, Claim, H2, H4, H6};
use super::holders::{SMALL_ORDER, small_order};
use super::people::is_clean;
use super::stage::{ANSWER, Case, Knowledge, Lured, PATIENCE, Stage, case, must_close, must_end};
use crate::device::COMMAND_LIMIT;

pub(super) const CASES: &[Case] = &[
    case("2", "H2 of random bytes", random_h2),
    case("2", "H4 and H6 in place of H2", h4_without_h2),
    case("2", "every stream closed before H2", closed_each_time),
    case("16", "H2 that says 'used' and 'expired' in clear", used_in_clear),
    case("8", "an ephemeral key of small order in H2", low_order_keys),
    case("9", "H4 with the joiner's own identity key", reflected_identity),
    case("11", "H4 that shows another key than it is signed with", another_key),
    case("11", "H4 signed for another joiner", another_joiner),
    case("10", "H4 signed under the joiner's label", other_label),
    case("10", "H4 signed over the bare challenge", bare_challenge),
    case("37", "an initiator with a hostile name; the joiner declines", hostile_name_declined),
];

/// A joiner that believes to be talking to whoever shows the code, after H3.
pub(super) struct Believing {
    pub(super) lured: Lured,
    pub(super) proved: Proved,
    pub(super) said: Said,
    pub(super) stream: StreamId,
}

/// Leads bob to the attacker, who knows the code and follows the rules up to H3.
pub(super) fn believing(stage: &Stage, extra: &[&str]) -> Result<Believing> {
    let code = Knowledge::fresh()?;
    let lured = stage.lure(&code, extra)?;
    let (mut proved, h2) = stage.read(&code, &lured)?.h2(0, None)?;
    let stream = lured.inbound.stream;
    stage.mallory.send(stream, vec![h2])?;
    let said = proved.read_h3(&stage.mallory.frame(stream)?)?;
    Ok(Believing { lured, proved, said, stream })
}

/// Answers a lured joiner once in this way, and whatever it tries next by closing.
fn answered(stage: &Stage, frames: impl Fn() -> Result<Vec<handfast_proto::wire::frames::Frame>>) -> Result<String> {
    let lured = stage.lure(&Knowledge::fresh()?, &["--yes"])?;
    stage.mallory.send(lured.inbound.stream, frames()?)?;
    // A joiner that closes has decided; if it does not, the end of its command tells.
    let _ = stage.mallory.reply(lured.inbound.stream, ANSWER);
    let asked = lured.joining.event("approval_needed").is_some();
    let ending = stage.refuse(lured)?;
    ensure!(!asked, "the joiner's person was asked");
    Ok(format!("the joiner ended with {ending}"))
}

fn random_h2(stage: &Stage) -> Result<String> {
    answered(stage, || Ok(vec![forge::frame(H2, &forge::random::<81>()?)?]))
}

fn h4_without_h2(stage: &Stage) -> Result<String> {
    answered(stage, || {
        Ok(vec![forge::frame(H4, &forge::random::<704>()?)?, forge::frame(H6, &forge::random::<49>()?)?])
    })
}

fn closed_each_time(stage: &Stage) -> Result<String> {
    let lured = stage.lure(&Knowledge::fresh()?, &["--yes"])?;
    let ending = stage.refuse(lured)?;
    Ok(format!("the joiner ended with {ending}"))
}

fn used_in_clear(stage: &Stage) -> Result<String> {
    let mut seen = String::new();
    for status in [16, 17] {
        seen = answered(stage, || {
            let mut body = forge::random::<32>()?.to_vec();
            body.push(status);
            body.resize(81, 0);
            Ok(vec![forge::frame(H2, &body)?])
        })?;
    }
    Ok(seen)
}

fn low_order_keys(stage: &Stage) -> Result<String> {
    let code = Knowledge::fresh()?;
    let lured = stage.lure(&code, &["--yes"])?;
    let (_, h2) = stage.read(&code, &lured)?.h2(0, Some(small_order(SMALL_ORDER[1])?))?;
    stage.mallory.send(lured.inbound.stream, vec![h2])?;
    must_close(&stage.mallory.reply(lured.inbound.stream, ANSWER))?;
    let ending = must_end(lured.joining, 7, &["authentication_failed"])?;
    Ok(format!("closed without H3; the joiner ended with {ending}"))
}

fn reflected_identity(stage: &Stage) -> Result<String> {
    refused_h4(stage, |proved, claim| Claim {
        dik: proved.dik_j,
        signed: proved.signed(&proved.dik_j, &proved.dik_j, &claim.info),
        ..claim
    })
}

fn another_key(stage: &Stage) -> Result<String> {
    let somebody = forge::identity()?;
    refused_h4(stage, |_, claim| Claim { signer: somebody.clone(), ..claim })
}

fn another_joiner(stage: &Stage) -> Result<String> {
    let somebody = forge::identity()?.verifying_key().to_bytes();
    refused_h4(stage, |proved, claim| {
        let signed = proved.signed(&claim.dik, &somebody, &claim.info);
        Claim { signed, ..claim }
    })
}

fn other_label(stage: &Stage) -> Result<String> {
    refused_h4(stage, |_, claim| Claim { label: "sig J", ..claim })
}

fn bare_challenge(stage: &Stage) -> Result<String> {
    refused_h4(stage, |proved, claim| Claim { label: "", signed: proved.challenge_j().to_vec(), ..claim })
}

/// Sends an H4 that only its claim makes wrong: the joiner ends without asking.
fn refused_h4(stage: &Stage, wrong: impl Fn(&Proved, Claim) -> Claim) -> Result<String> {
    let Believing { lured, mut proved, stream, .. } = believing(stage, &["--yes"])?;
    let claim = wrong(&proved, proved.claim(&stage.identity, "mallory"));
    stage.mallory.send(stream, vec![proved.h4(&claim)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    ensure!(lured.joining.event("approval_needed").is_none(), "the joiner's person was asked");
    let ending = must_end(lured.joining, 7, &["authentication_failed"])?;
    Ok(format!("the joiner ended with {ending}"))
}

fn hostile_name_declined(stage: &Stage) -> Result<String> {
    let Believing { lured, mut proved, stream, .. } = believing(stage, &[])?;
    let claim = proved.claim(&stage.identity, "\u{1b}[31mevil\u{202e}\u{200b}");
    let h4 = proved.h4(&claim)?;
    stage.mallory.send(stream, vec![h4.clone()])?;
    let asked = lured.joining.wait_event("approval_needed", PATIENCE)?;
    let name = asked.json.pointer("/device/name").and_then(serde_json::Value::as_str).context("no name")?;
    is_clean(name)?;
    stage.bob.run(&["pair", "reject"], None, COMMAND_LIMIT)?;
    let verdict = proved.read_h5(&h4, &stage.mallory.frame(stream)?)?;
    ensure!(verdict == 0, "H5 has verdict {verdict}");
    let ending = must_end(lured.joining, 6, &["rejected"])?;
    // Whoever was declined has no key that opens anything.
    let bond = proved.bond()?;
    let conn = lured.inbound.conn;
    let (_, r1) = super::hellos::open(&stage.mallory, &bond, &stage.identity, lured.inbound.tid)?;
    let hello = stage.mallory.say(conn, StreamProtocol::Hello, vec![r1])?;
    must_close(&stage.mallory.reply(hello, ANSWER)).context("the hello of a declined device")?;
    Ok(format!("shown as {name:?}; the joiner ended with {ending}; its hello is refused"))
}
