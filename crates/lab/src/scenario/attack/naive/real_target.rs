//! The real program as victim: alice shows a code, bob enters it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use handfast_net::StreamProtocol;
use handfast_proto::addr::Address;
use handfast_proto::id::Tid;
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::Record;
use serde_json::Value;

use super::{Forger, Public, Says, Side, Target};
use crate::naive;
use crate::peer::Peer;
use crate::process::Running;
use crate::scenario::attack::forge::joiner::{Opening, Started};
use crate::scenario::attack::forge::{self, Claim, CodeSecrets};
use crate::scenario::attack::imposters::{Believing, believing};
use crate::scenario::attack::stage::{ANSWER, PATIENCE, Shown, Stage, must_close};
use crate::scenario::pairing::Ending;

pub(super) struct RealTarget<'a> {
    stage: &'a Stage,
    shown: Option<Shown>,
    joining: Option<Running>,
    ended: Option<Ending>,
    /// Pairings that stood before, on each side.
    before: [Vec<String>; 2],
}

impl<'a> RealTarget<'a> {
    pub(super) fn new(stage: &'a Stage) -> Result<Self> {
        stage.clear()?;
        let before = [pairings(stage, Side::Initiator)?, pairings(stage, Side::Joiner)?];
        Ok(Self { stage, shown: None, joining: None, ended: None, before })
    }

    fn shown(&self) -> Result<&Shown> {
        self.shown.as_ref().context("no code is shown")
    }
}

/// Everything a victim says about being paired: its list of devices, its sessions, what is pending.
fn pairings(stage: &Stage, side: Side) -> Result<Vec<String>> {
    let device = match side {
        Side::Initiator => &stage.alice,
        Side::Joiner => &stage.bob,
    };
    let mut all: Vec<String> = device.devices()?.into_iter().map(|device| device.id).collect();
    for session in device.sessions()? {
        let text = |pointer: &str| session.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        if matches!(text("/state").as_str(), "paired" | "pending") {
            all.push(format!("{} in session {}", text("/device/id"), text("/session")));
        }
    }
    Ok(all)
}

impl Target for RealTarget<'_> {
    fn name(&self) -> &'static str {
        "the real program"
    }

    fn offer(&mut self) -> Result<Public> {
        let shown = self.stage.offer(&["--yes"])?;
        let record = self.stage.wait_for_record(&shown.code)?;
        let public = Public { topic: record.topic(), record, tid: shown.tid, addresses: shown.addresses.clone() };
        self.shown = Some(shown);
        Ok(public)
    }

    fn join(&mut self) -> Result<()> {
        self.joining = Some(self.stage.join(&self.shown()?.words, &["--yes"])?);
        Ok(())
    }

    fn has_joined(&mut self) -> Result<bool> {
        let ended = match &mut self.joining {
            Some(joining) => joining.wait(Duration::ZERO)?.is_some(),
            None => false,
        };
        if ended && let Some(joining) = self.joining.take() {
            self.ended = Some(Ending::of(&joining.finish(PATIENCE)?));
        }
        Ok(self.ended.is_some())
    }

    fn believes_over(&mut self) -> Result<bool> {
        let ending = self.ended.as_ref().context("the joiner has not ended")?;
        Ok(matches!(ending.cause.as_deref(), Some("code_used" | "code_expired" | "cancelled" | "too_many_attempts")))
    }

    fn end(&mut self) -> Result<()> {
        self.stage.clear()?;
        self.stage.check_stores()
    }

    fn accepted(&self, side: Side) -> Result<Vec<String>> {
        let before = &self.before[usize::from(side == Side::Joiner)];
        let mut new = pairings(self.stage, side)?;
        new.retain(|pairing| !before.contains(pairing));
        Ok(new)
    }

    fn id_of(&self, forger: &Forger) -> String {
        forge::id_of(&forger.identity)
    }

    /// P1 with what can be seen in the DHT as its tag, and H1 under a code of one's own.
    fn request(&self, public: &Public, _: &Forger) -> Result<Vec<Frame>> {
        let tag = Some(public.topic.0[..16].try_into()?);
        let opening = Opening { tag, ..Opening::default() };
        Ok(Started::new(&CodeSecrets::wrong()?, self.stage.mallory.tid(), public.tid, &opening)?.frames)
    }

    fn respond(&self, _: &Forger, _: &Frame) -> Result<Vec<Frame>> {
        random(&[FrameType::H3, FrameType::H5])
    }

    fn reply(&self, _: &Forger, frame: &Frame) -> Result<Vec<Frame>> {
        // P1 alone needs no answer: H1 follows it.
        if frame.kind() == FrameType::P1 {
            Ok(Vec::new())
        } else {
            random(&[FrameType::H2, FrameType::H4, FrameType::H6])
        }
    }

    fn complete(&self) -> Result<Vec<Frame>> {
        random(&[FrameType::H6])
    }

    /// All that is not sealed: the ephemeral keys.
    fn substitute(&self, _: &mut Forger, _: bool, frame: Frame) -> Result<Frame> {
        if !matches!(frame.kind(), FrameType::H1 | FrameType::H2) {
            return Ok(frame);
        }
        let mut body = frame.body().to_vec();
        body[..32].copy_from_slice(&forge::random::<32>()?);
        forge::frame(frame.kind().byte(), &body)
    }

    /// All of H3 but the opening of the commitment, which belongs to the connection, is what bob said to the attacker.
    fn borrow(&self, mallory: &Peer, public: &Public) -> Result<()> {
        let Believing { lured, proved, said, .. } = believing(self.stage, &["--yes"])?;
        let started = Started::new(&self.shown()?.code.secrets, mallory.tid(), public.tid, &Opening::default())?;
        let conn = mallory.dial(Some(public.tid), &public.addresses)?;
        let stream = mallory.say(conn, StreamProtocol::Pair, started.frames.clone())?;
        let mut elsewhere = started.read_h2(&mallory.frame(stream)?)?;
        let claim = elsewhere.claim(&self.stage.identity, "bob");
        let (dik, share, info) = (said.dik, said.share, said.info);
        let claim = Claim { dik, share, info, borrowed: Some(said.signature), ..claim };
        mallory.send(stream, vec![elsewhere.h3(&claim)?])?;
        must_close(&mallory.reply(stream, ANSWER))?;
        self.shown()?.was_not_asked()?;
        drop((lured, proved));
        Ok(())
    }

    /// Nobody reads a record without the code, and nobody signs one under its topic: what can be seen does not help.
    fn forge_record(&self, public: &Public, _: Says, _: Tid, _: &[Address]) -> Result<Option<Record>> {
        anyhow::ensure!(naive::read(&public.record).is_err(), "the record can be read by everybody");
        Ok(None)
    }

    fn granted_record(&self, public: &Public, tid: Tid, addresses: &[Address]) -> Result<Record> {
        self.shown()?.code.record(&forge::open_advert(tid, addresses)?, public.record.seq() + 1000, 300)
    }
}

/// Frames of these types, of random bytes.
fn random(kinds: &[FrameType]) -> Result<Vec<Frame>> {
    let frame_of = |kind: &FrameType| {
        let body: Vec<u8> = forge::random::<1024>()?.into_iter().take(kind.body_len()).collect();
        forge::frame(kind.byte(), &body)
    };
    kinds.iter().map(frame_of).collect()
}
