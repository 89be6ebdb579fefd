//! Attacks on the initiator by somebody who has the code, or has seen a handshake of somebody who has it.

use anyhow::{Context as _, Result, bail, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::wire::frames::Frame;

use super::forge::joiner::{Opening, Proved, Started};
use super::forge::{self, Claim, H3, QR};
use super::stage::{ANSWER, Case, PATIENCE, Shown, Stage, case, must_close, must_end};
use crate::device::COMMAND_LIMIT;
use crate::peer::Peer;

pub(super) const CASES: &[Case] = &[
    case("5", "P1 and H1 replayed on another connection", replay_elsewhere),
    case("5", "P1, H1 and a made-up H3 replayed on the same keys", replay_before_use),
    case("5", "P1, H1 and H3 replayed on the same keys after use", replay_after_use),
    case("8", "an ephemeral key of small order in H1", low_order_keys),
    case("9", "H3 with another's identity key, own signature", stolen_identity),
    case("10", "H3 signed under the initiator's label", other_label),
    case("10", "H3 signed for another session", other_session),
    case("10", "H3 signed over the bare challenge", bare_challenge),
    case("12", "three bad H1 at once burn the code", burn_by_h1),
    case("12", "three bad H3 burn the code", burn_by_h3),
    case("14", "a second joiner during the question and after success", second_joiner),
    case("36", "P1 that offers only unknown versions", unknown_version),
    case("36", "P1 with the version list rewritten", rewritten_versions),
    case("36", "P1 with the mode rewritten", rewritten_mode),
    case("36", "P1 of modes that do not exist", unknown_modes),
];

/// Points of small order on Curve25519 (RFC 7748 section 6.1; the list of libsodium).
pub(super) const SMALL_ORDER: [&str; 3] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// What H2 says of a code that is over or taken (protocol section 7.2).
const USED: u8 = 17;
const BUSY: u8 = 19;

/// More bad proofs at once than burn a code.
const BAD_PROOFS: usize = 5;

/// Where P1 has its version list and its mode.
const VERSIONS_AT: usize = 4;
const MODE_AT: usize = 13;

/// One of [`SMALL_ORDER`] as bytes.
pub(super) fn small_order(hex: &str) -> Result<[u8; 32]> {
    Ok(data_encoding::HEXLOWER.decode(hex.as_bytes())?.as_slice().try_into()?)
}

fn replay_elsewhere(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let started = stage.start(&shown, &Opening::default())?;
    let other = Peer::device(&stage.world.lab.host("attacker")?, &[])?;
    let conn = other.dial(Some(shown.tid), &shown.addresses)?;
    let stream = other.say(conn, StreamProtocol::Pair, started.frames)?;
    let seen = must_close(&other.reply(stream, ANSWER))?;
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(seen)
}

fn replay_before_use(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let started = stage.start(&shown, &Opening::default())?;
    let (stream, first) = stage.say(&shown, started.frames.clone())?;
    let first = first.frame()?;
    stage.mallory.close(stream)?;
    // The replayer has the frames, not the ephemeral secret behind them.
    let (stream, second) = stage.say(&shown, started.frames)?;
    let second = second.frame()?;
    ensure!(first != second && first.body()[..32] != second.body()[..32], "H2 was not fresh");
    stage.mallory.send(stream, vec![forge::frame(H3, &forge::random::<704>()?)?])?;
    let seen = must_close(&stage.mallory.reply(stream, ANSWER))?;
    shown.was_not_asked()?;
    stage.still_pairs(shown)?;
    Ok(format!("fresh H2, then {seen}"))
}

fn replay_after_use(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&[])?;
    let started = stage.start(&shown, &Opening::default())?;
    let (stream, h2) = stage.say(&shown, started.frames.clone())?;
    let mut proved = started.clone().read_h2(&h2.frame()?)?;
    let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h3.clone()])?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    stage.alice.run(&["pair", "reject", &shown.session], None, COMMAND_LIMIT)?;
    let denied = proved.read_h4(&stage.mallory.frame(stream)?)?;
    ensure!(denied.status == 1, "H4 has status {}", denied.status);
    let (stream, h2) = stage.say(&shown, started.frames.clone())?;
    let over = started.read_h2(&h2.frame()?)?;
    ensure!(over.status == USED, "H2 has status {}", over.status);
    stage.mallory.send(stream, vec![h3])?;
    let seen = must_close(&stage.mallory.reply(stream, ANSWER))?;
    let ending = must_end(shown.process, 6, &["rejected"])?;
    Ok(format!("H2 says used, then {seen}; the initiator ended with {ending}"))
}

fn low_order_keys(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    for hex in SMALL_ORDER {
        let opening = Opening { low_order: Some(small_order(hex)?), ..Opening::default() };
        let (_, reply) = stage.say(&shown, stage.start(&shown, &opening)?.frames)?;
        must_close(&reply).with_context(|| hex.to_owned())?;
    }
    // Each was a failed proof by somebody who knows the code.
    let ending = must_end(shown.process, 7, &["too_many_attempts"])?;
    Ok(format!("closed without H2, the third burned the code: {ending}"))
}

fn stolen_identity(stage: &Stage) -> Result<String> {
    let somebody = forge::identity()?.verifying_key().to_bytes();
    refused_h3(stage, |proved, claim| Claim { dik: somebody, signed: proved.signed(&somebody, &claim.info), ..claim })
}

fn other_label(stage: &Stage) -> Result<String> {
    refused_h3(stage, |_, claim| Claim { label: "sig I", ..claim })
}

fn bare_challenge(stage: &Stage) -> Result<String> {
    refused_h3(stage, |proved, claim| Claim { label: "", signed: proved.challenge_i.to_vec(), ..claim })
}

fn other_session(stage: &Stage) -> Result<String> {
    let elsewhere = stage.offer(&["--yes"])?;
    let (stream, other) = stage.prove(&elsewhere)?;
    let signed = other.claim(&stage.identity, "mallory").signed;
    stage.mallory.close(stream)?;
    refused_h3(stage, |_, claim| Claim { signed: signed.clone(), ..claim })
}

/// Sends an H3 that only its claim makes wrong: closed, nobody is asked, and the real joiner still pairs.
fn refused_h3(stage: &Stage, wrong: impl Fn(&Proved, Claim) -> Claim) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let claim = wrong(&proved, proved.claim(&stage.identity, "mallory"));
    stage.mallory.send(stream, vec![proved.h3(&claim)?])?;
    let seen = must_close(&stage.mallory.reply(stream, ANSWER))?;
    shown.was_not_asked()?;
    stage.still_pairs(shown)?;
    Ok(seen)
}

fn burn_by_h1(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let conn = stage.connect(&shown)?;
    let mut streams = Vec::new();
    for _ in 0..BAD_PROOFS {
        let mut frames = stage.start(&shown, &Opening::default())?.frames;
        frames[1] = forge::flipped(&frames[1], 40)?;
        streams.push(stage.mallory.say(conn, StreamProtocol::Pair, frames)?);
    }
    for stream in streams {
        must_close(&stage.mallory.reply(stream, ANSWER))?;
    }
    burned(stage, shown)
}

fn burn_by_h3(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    for _ in 0..3 {
        let (stream, mut proved) = stage.prove(&shown)?;
        let claim = Claim { label: "sig I", ..proved.claim(&stage.identity, "mallory") };
        stage.mallory.send(stream, vec![proved.h3(&claim)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER))?;
    }
    burned(stage, shown)
}

/// The code is over on both sides, under its own cause, for a code holder who did nothing wrong too.
fn burned(stage: &Stage, shown: Shown) -> Result<String> {
    let Shown { process, words, .. } = shown;
    let initiator = must_end(process, 7, &["too_many_attempts"])?;
    let joiner = must_end(stage.join(&words, &["--yes"])?, 7, &["too_many_attempts"])?;
    Ok(format!("initiator {initiator}, joiner {joiner}"))
}

fn second_joiner(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&[])?;
    let joining = stage.join(&shown.words, &["--yes"])?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    let status = |when: &str| -> Result<u8> {
        let (stream, proved) = stage.prove(&shown).with_context(|| when.to_owned())?;
        must_close(&stage.mallory.reply(stream, ANSWER))?;
        Ok(proved.status)
    };
    let during = status("during the question")?;
    ensure!(during == BUSY, "H2 has status {during} during the question");
    stage.alice.run(&["pair", "accept", &shown.session], None, COMMAND_LIMIT)?;
    for process in [&joining, &shown.process] {
        process.wait_event("paired", PATIENCE)?;
    }
    let after = status("after success")?;
    ensure!(after == USED, "H2 has status {after} after success");
    let asked = shown.process.events().iter().filter(|event| event.is("approval_needed")).count();
    ensure!(asked == 1, "the initiator's person was asked {asked} times");
    Ok("told busy, then used; the first joiner was paired".to_owned())
}

fn unknown_version(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let mut seen = String::new();
    for versions in [(1, [2, 0, 0, 0, 0, 0, 0, 0]), (0, [0; 8]), (9, [1; 8]), (1, [1, 2, 0, 0, 0, 0, 0, 0])] {
        let opening = Opening { versions, ..Opening::default() };
        let (_, reply) = stage.say(&shown, stage.start(&shown, &opening)?.frames)?;
        seen = must_close(&reply).with_context(|| format!("{versions:?}"))?;
    }
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(seen)
}

fn rewritten_versions(stage: &Stage) -> Result<String> {
    rewritten(stage, |p1| {
        p1[VERSIONS_AT] = 2;
        p1[VERSIONS_AT + 2] = 2;
    })
}

fn rewritten_mode(stage: &Stage) -> Result<String> {
    rewritten(stage, |p1| p1[MODE_AT] = QR)
}

/// Changes P1 on its way: the tag still fits, H1 does not.
fn rewritten(stage: &Stage, change: impl Fn(&mut Vec<u8>)) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let started = stage.start(&shown, &Opening::default())?;
    let [p1, h1]: [Frame; 2] = started.frames.try_into().ok().context("P1 and H1")?;
    let mut body = p1.body().to_vec();
    change(&mut body);
    let (_, reply) = stage.say(&shown, vec![forge::frame(forge::P1, &body)?, h1])?;
    let seen = must_close(&reply)?;
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(seen)
}

fn unknown_modes(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    for mode in [0, 3, 4, 0x80, 0x83, 0x84, 0xff] {
        let started =
            Started::new(&shown.code.secrets, stage.mallory.tid(), shown.tid, &Opening { mode, ..Opening::default() })?;
        let (_, reply) = stage.say(&shown, started.frames)?;
        if !reply.is_closed() {
            bail!("mode {mode:02x}: {reply}");
        }
    }
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok("closed without a word".to_owned())
}
