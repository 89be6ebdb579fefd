//! Frames of the handshake swapped, dropped, repeated, of the wrong type, or continued where nothing is to be continued.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::wire::frames::{Frame, FrameType};

use super::forge::joiner::{Opening, Started};
use super::forge::{self, H3, H4, H5, H6, RESUME};
use super::imposters::{Believing, believing};
use super::stage::{ANSWER, Case, Knowledge, PATIENCE, Shown, Stage, case, must_close, must_end};
use crate::device::COMMAND_LIMIT;
use crate::peer::{Peer, Reply};

pub(super) const CASES: &[Case] = &[
    case("7", "to the initiator: every other frame in place of P1", anything_first),
    case("7", "to the initiator: H1 before P1, P1 twice", swapped_opening),
    case("7", "to the initiator: every other frame in place of H3", anything_for_h3),
    case("7", "to the initiator: H1 that does not come, then H3", dropped),
    case("7", "to the initiator: H3 three times", repeated_h3),
    case("7", "to the initiator: another H3 during the question", second_h3),
    case("7", "to the joiner: every other frame in place of H2", anything_for_h2),
    case("7", "to the joiner: H2 twice, H6 in place of H4", anything_for_h4),
    case("7", "to the joiner: H4 three times", repeated_h4),
    case("7", "RESUME with a wrong token, and on other transport keys", wrong_resume),
];

/// A handshake may wait for its next frame this long (protocol section 12), and a little more for the way.
const STEP_LIMIT: Duration = Duration::from_secs(12);

/// How long a stream is watched on which nothing must come.
const SILENCE: Duration = Duration::from_millis(300);

/// A frame of every type but `not`, its body random.
fn others(not: FrameType) -> Result<Vec<Frame>> {
    let frame_of = |kind: &FrameType| {
        let body: Vec<u8> = forge::random::<1024>()?.into_iter().take(kind.body_len()).collect();
        forge::frame(kind.byte(), &body)
    };
    FrameType::ALL.iter().filter(|kind| **kind != not).map(frame_of).collect()
}

fn anything_first(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let frames = others(FrameType::P1)?;
    for frame in &frames {
        let (_, reply) = stage.say(&shown, vec![frame.clone()])?;
        must_close(&reply).with_context(|| format!("{:?}", frame.kind()))?;
    }
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(format!("{} types closed without a word", frames.len()))
}

fn swapped_opening(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let orders: [fn(Frame, Frame) -> Vec<Frame>; 2] = [|p1, h1| vec![h1, p1], |p1, h1| vec![p1.clone(), p1, h1]];
    for order in orders {
        let [p1, h1] = opening(stage, &shown)?;
        must_close(&stage.say(&shown, order(p1, h1))?.1)?;
    }
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok("closed without a word".to_owned())
}

/// P1 and H1 as a code holder says them.
fn opening(stage: &Stage, shown: &Shown) -> Result<[Frame; 2]> {
    stage.start(shown, &Opening::default())?.frames.try_into().ok().context("P1 and H1")
}

fn anything_for_h3(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let frames = others(FrameType::H3)?;
    for frame in &frames {
        let (stream, _) = stage.prove(&shown)?;
        stage.mallory.send(stream, vec![frame.clone()])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("{:?}", frame.kind()))?;
    }
    shown.was_not_asked()?;
    stage.still_pairs(shown)?;
    Ok(format!("{} types closed without a word", frames.len()))
}

/// Both at once: each stream has a limit of its own.
fn dropped(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let [p1, _] = opening(stage, &shown)?;
    let conn = stage.connect(&shown)?;
    let without_h1 = stage.mallory.say(conn, StreamProtocol::Pair, vec![p1])?;
    let (without_h3, _) = stage.prove(&shown)?;
    must_close(&stage.mallory.reply(without_h1, STEP_LIMIT)).context("no H1")?;
    must_close(&stage.mallory.reply(without_h3, STEP_LIMIT)).context("no H3")?;
    shown.was_not_asked()?;
    stage.still_pairs(shown)?;
    Ok("closed after its time, the code is open again".to_owned())
}

fn repeated_h3(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h3.clone(), h3.clone()])?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    stage.mallory.send(stream, vec![h3.clone()])?;
    ensure!(stage.mallory.reply(stream, SILENCE) == Reply::Silence, "H3 was answered while the question is open");
    stage.alice.run(&["pair", "accept", &shown.session], None, COMMAND_LIMIT)?;
    let h4 = stage.mallory.frame(stream)?;
    stage.mallory.send(stream, vec![h3])?;
    ensure!(stage.mallory.frame(stream)? == h4, "H4 was made anew");
    let asked = shown.process.events().iter().filter(|event| event.is("approval_needed")).count();
    ensure!(asked == 1, "the initiator's person was asked {asked} times");
    let offered = proved.read_h4(&h4)?;
    stage.mallory.send(stream, vec![proved.h5(0, &offered)?])?;
    let ending = must_end(shown.process, 6, &["rejected"])?;
    Ok(format!("asked once, H4 repeated byte for byte; declined: {ending}"))
}

fn second_h3(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let claim = proved.claim(&stage.identity, "mallory");
    let (h3, second) = (proved.h3(&claim)?, proved.h3(&claim)?);
    stage.mallory.send(stream, vec![h3])?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    stage.mallory.send(stream, vec![second])?;
    must_close(&stage.mallory.reply(stream, ANSWER)).context("a second H3")?;
    let ending = must_end(shown.process, 9, &["connection_lost"])?;
    Ok(format!("a second H3 ends the session: {ending}"))
}

fn anything_for_h2(stage: &Stage) -> Result<String> {
    let kinds = [FrameType::P1, FrameType::H1, FrameType::H4, FrameType::H6, FrameType::Resume, FrameType::R2];
    let frames: Vec<Frame> = others(FrameType::H2)?.into_iter().filter(|f| kinds.contains(&f.kind())).collect();
    let mut ending = String::new();
    for frame in &frames {
        let lured = stage.lure(&Knowledge::fresh()?, &["--yes"])?;
        stage.mallory.send(lured.inbound.stream, vec![frame.clone()])?;
        must_close(&stage.mallory.reply(lured.inbound.stream, ANSWER))
            .with_context(|| format!("{:?}", frame.kind()))?;
        ending = must_end(lured.joining, 7, &["authentication_failed"])?;
    }
    Ok(format!("{} types; the joiner ended with {ending}", frames.len()))
}

fn anything_for_h4(stage: &Stage) -> Result<String> {
    let mut ending = String::new();
    for kind in [forge::H2, H6, H5, H3] {
        let Believing { lured, stream, .. } = believing(stage, &["--yes"])?;
        let length = FrameType::ALL.iter().find(|of| of.byte() == kind).context("a type")?.body_len();
        let body: Vec<u8> = forge::random::<1024>()?.into_iter().take(length).collect();
        stage.mallory.send(stream, vec![forge::frame(kind, &body)?])?;
        must_close(&stage.mallory.reply(stream, ANSWER)).with_context(|| format!("type {kind:02x}"))?;
        ending = must_end(lured.joining, 7, &["authentication_failed"])?;
    }
    Ok(format!("closed; the joiner ended with {ending}"))
}

fn repeated_h4(stage: &Stage) -> Result<String> {
    let Believing { lured, mut proved, stream, .. } = believing(stage, &[])?;
    let h4 = proved.h4(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h4.clone(), h4.clone()])?;
    lured.joining.wait_event("approval_needed", PATIENCE)?;
    let noise = forge::frame(H4, &forge::random::<704>()?)?;
    stage.mallory.send(stream, vec![h4.clone(), noise])?;
    ensure!(stage.mallory.reply(stream, SILENCE) == Reply::Silence, "a repeated H4 was answered");
    let asked = lured.joining.events().iter().filter(|event| event.is("approval_needed")).count();
    ensure!(asked == 1, "the joiner's person was asked {asked} times");
    stage.bob.run(&["pair", "reject"], None, COMMAND_LIMIT)?;
    ensure!(proved.read_h5(&h4, &stage.mallory.frame(stream)?)? == 0, "H5 does not decline");
    let ending = must_end(lured.joining, 6, &["rejected"])?;
    Ok(format!("asked once; declined: {ending}"))
}

fn wrong_resume(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&[])?;
    let (stream, mut proved) = stage.prove(&shown)?;
    let h3 = proved.h3(&proved.claim(&stage.identity, "mallory"))?;
    stage.mallory.send(stream, vec![h3.clone()])?;
    shown.process.wait_event("approval_needed", PATIENCE)?;
    let guess = forge::frame(RESUME, &forge::random::<32>()?)?;
    let (_, reply) = stage.say(&shown, vec![guess, h3.clone()])?;
    must_close(&reply).context("a wrong token")?;
    // The right token, from another transport key.
    let other = Peer::device(&stage.world.lab.host("attacker")?, &[])?;
    let conn = other.dial(Some(shown.tid), &shown.addresses)?;
    let elsewhere = other.say(conn, StreamProtocol::Pair, vec![proved.resume()?, h3])?;
    must_close(&other.reply(elsewhere, ANSWER)).context("other transport keys")?;
    // The joiner that was there is still served.
    let again = Started::new(&shown.code.secrets, other.tid(), shown.tid, &Opening::default())?;
    let busy = other.say(conn, StreamProtocol::Pair, again.frames.clone())?;
    ensure!(again.read_h2(&other.frame(busy)?)?.status == 19, "another joiner was not told busy");
    stage.alice.run(&["pair", "reject", &shown.session], None, COMMAND_LIMIT)?;
    ensure!(proved.read_h4(&stage.mallory.frame(stream)?)?.status == 1, "H4 does not deny");
    let ending = must_end(shown.process, 6, &["rejected"])?;
    Ok(format!("closed without a word; the question stood until it was answered: {ending}"))
}
