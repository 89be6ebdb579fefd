//! One changed bit in each message of the handshake, at sampled positions (those of the hello are in `hellos`).

use anyhow::{Context as _, Result, ensure};
use handfast_proto::wire::frames::Frame;

use super::forge;
use super::forge::joiner::Opening;
use super::imposters::{Believing, believing};
use super::is_thorough;
use super::stage::{ANSWER, Case, Knowledge, PATIENCE, Stage, case, must_close, must_end, shown_by, slow};
use crate::rng::Rng;

pub(super) const CASES: &[Case] = &[
    case("6", "a flipped bit in P1", p1),
    case("6", "a flipped bit in H1", h1),
    case("6", "a flipped bit in H2", h2),
    case("6", "a flipped bit in H3", h3),
    case("6", "a flipped bit in H4", h4),
    case("6", "a flipped bit in H5", h5),
    slow("6", "a flipped bit in H6", h6),
];

/// The fields of P1: magic, count and list of versions, mode, tag, nonce, commitment.
const P1_FIELDS: [usize; 8] = [0, 4, 5, 12, 13, 14, 30, 62];

/// The positions of a body that are tried: its first byte, its last, one of its middle, and as many others as a long
/// run asks for.
pub(super) fn positions(stage: &Stage, length: usize) -> Vec<usize> {
    let mut rng = Rng::new(stage.options.seed ^ length as u64);
    let mut all = vec![0, length / 2, length - 1];
    if is_thorough(&stage.options) {
        all.extend(rng.choose(length, stage.options.runs));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn p1(stage: &Stage) -> Result<String> {
    let mut all = positions(stage, 94);
    all.extend(P1_FIELDS);
    for at in &all {
        let shown = stage.offer(&["--yes"])?;
        let mut frames = stage.start(&shown, &Opening::default())?.frames;
        frames[0] = forge::flipped(&frames[0], *at)?;
        let (_, reply) = stage.say(&shown, frames)?;
        must_close(&reply).with_context(|| format!("byte {at}"))?;
        shown.is_untouched().with_context(|| format!("byte {at}"))?;
        stage.clear()?;
    }
    Ok(format!("closed without a word at {} positions", all.len()))
}

fn h1(stage: &Stage) -> Result<String> {
    let all = positions(stage, 80);
    for at in &all {
        let shown = stage.offer(&["--yes"])?;
        let mut frames = stage.start(&shown, &Opening::default())?.frames;
        frames[1] = forge::flipped(&frames[1], *at)?;
        let (_, reply) = stage.say(&shown, frames)?;
        must_close(&reply).with_context(|| format!("byte {at}"))?;
        shown.is_untouched().with_context(|| format!("byte {at}"))?;
        stage.clear()?;
    }
    Ok(format!("closed without a word at {} positions", all.len()))
}

fn h2(stage: &Stage) -> Result<String> {
    let all = positions(stage, 81);
    let mut seen = String::new();
    for at in &all {
        let code = Knowledge::fresh()?;
        let lured = stage.lure(&code, &["--yes"])?;
        let (_, h2) = stage.read(&code, &lured)?.h2(0, None)?;
        stage.mallory.send(lured.inbound.stream, vec![forge::flipped(&h2, *at)?])?;
        must_close(&stage.mallory.reply(lured.inbound.stream, ANSWER)).with_context(|| format!("byte {at}"))?;
        seen = must_end(lured.joining, 7, &["authentication_failed"]).with_context(|| format!("byte {at}"))?;
    }
    Ok(format!("closed at {} positions; the joiner ended with {seen}", all.len()))
}

fn h3(stage: &Stage) -> Result<String> {
    let all = positions(stage, 704);
    for at in &all {
        let shown = stage.offer(&["--yes"])?;
        let (stream, mut proved) = stage.prove(&shown)?;
        let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
        stage.mallory.send(stream, vec![forge::flipped(&h3, *at)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("byte {at}"))?;
        shown.was_not_asked().with_context(|| format!("byte {at}"))?;
        stage.clear()?;
    }
    Ok(format!("closed at {} positions, nobody was asked", all.len()))
}

fn h4(stage: &Stage) -> Result<String> {
    let all = positions(stage, 704);
    let mut seen = String::new();
    for at in &all {
        let Believing { lured, mut proved, stream, .. } = believing(stage, &["--yes"])?;
        let h4 = proved.h4(&proved.claim(&stage.identity, "mallory"))?;
        stage.mallory.send(stream, vec![forge::flipped(&h4, *at)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("byte {at}"))?;
        ensure!(lured.joining.event("approval_needed").is_none(), "the joiner's person was asked, byte {at}");
        seen = must_end(lured.joining, 7, &["authentication_failed"]).with_context(|| format!("byte {at}"))?;
    }
    Ok(format!("closed at {} positions; the joiner ended with {seen}", all.len()))
}

/// After H4 the initiator holds a pending pairing, which a broken H5 does not turn into one (protocol section 8).
fn h5(stage: &Stage) -> Result<String> {
    let all = positions(stage, 49);
    let mut seen = String::new();
    for at in &all {
        let mut carol = stage.world.device("carol", &format!("carol-h5-{at}"))?;
        carol.start_daemon()?;
        let shown = shown_by(&carol, &["--yes"])?;
        let (stream, mut proved) = stage.prove(&shown)?;
        let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
        stage.mallory.send(stream, vec![h3])?;
        let offered = proved.read_h4(&stage.mallory.frame(stream)?)?;
        let h5 = proved.h5(1, &offered)?;
        stage.mallory.send(stream, vec![forge::flipped(&h5, *at)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("byte {at}"))?;
        seen = must_end(shown.process, 9, &["connection_lost"]).with_context(|| format!("byte {at}"))?;
        ensure!(carol.devices()?.is_empty(), "byte {at}: the initiator is paired");
        carol.stop()?;
    }
    Ok(format!("closed at {} positions; the initiator ended with {seen}, not paired", all.len()))
}

/// After H5 the joiner holds a pending pairing; a broken H6 does not turn it into one.
fn h6(stage: &Stage) -> Result<String> {
    let code = Knowledge::fresh()?;
    let mut carol = stage.world.device("carol", "carol-h6")?;
    carol.start_daemon()?;
    stage.advertise_self(&code)?;
    let joining = crate::scenario::pairing::join(&carol, &code.words, &["--yes"])?;
    let inbound = stage.mallory.accept(handfast_net::StreamProtocol::Pair, PATIENCE)?;
    let stream = inbound.stream;
    let (p1, h1) = (stage.mallory.frame(stream)?, stage.mallory.frame(stream)?);
    let asked =
        forge::initiator::Asked::read(&code.secrets, inbound.tid, stage.mallory.tid(), &p1, &h1).context("P1, H1")?;
    let (mut proved, h2) = asked.h2(0, None)?;
    stage.mallory.send(stream, vec![h2])?;
    proved.read_h3(&stage.mallory.frame(stream)?)?;
    let h4 = proved.h4(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h4.clone()])?;
    let h5: Frame = stage.mallory.frame(stream)?;
    ensure!(proved.read_h5(&h4, &h5)? == 1, "the joiner did not store");
    let h6 = proved.h6(&h5)?;
    stage.mallory.send(stream, vec![forge::flipped(&h6, 20)?])?;
    must_close(&stage.mallory.reply(stream, ANSWER))?;
    let ending = must_end(joining, 9, &["connection_lost"])?;
    ensure!(carol.devices()?.is_empty(), "the joiner is paired");
    carol.stop()?;
    Ok(format!("the joiner ended with {ending}, not paired"))
}
