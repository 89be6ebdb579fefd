//! Attacks that are written once and played against two kinds of victims: the naive device, where they must succeed, and
//! the real program, where they must fail.

mod attacks;
mod naive_target;
mod real_target;

use std::time::Instant;

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use handfast_proto::addr::Address;
use handfast_proto::id::Tid;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::record::{Record, Topic};

use super::forge;
use super::stage::{Stage, tell};
use crate::peer::Peer;
use crate::report::Report;
use crate::scenario::Options;
use naive_target::NaiveTarget;
use real_target::RealTarget;

/// Which of the two victims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Initiator,
    Joiner,
}

/// What everybody can see of a code that is shown: whoever runs DHT nodes sees topic and record, and knows the transport
/// keys and addresses of those who are connected to them.
struct Public {
    topic: Topic,
    record: Record,
    tid: Tid,
    addresses: Vec<Address>,
}

/// What the attacker says of itself, and what it has heard so far.
struct Forger {
    identity: SigningKey,
    heard: Option<[u8; 32]>,
}

/// What a forged record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Open,
    Over,
}

/// Two victims and the way they speak. The attacker's own messages are part of it: an attack is a list of steps, and how
/// each step is said differs from flow to flow. None of these calls may use what only the victims know, but the one that
/// says so.
trait Target {
    fn name(&self) -> &'static str;

    /// The first victim shows a code.
    fn offer(&mut self) -> Result<Public>;
    /// The second victim enters it, in the background.
    fn join(&mut self) -> Result<()>;
    /// Has its attempt ended?
    fn has_joined(&mut self) -> Result<bool>;
    /// Does it believe that the code is over, now that its attempt has ended?
    fn believes_over(&mut self) -> Result<bool>;
    /// Ends what is open, and checks that nothing else is wrong.
    fn end(&mut self) -> Result<()>;
    /// How often a victim came to believe that it is paired, and with which keys.
    fn accepted(&self, side: Side) -> Result<Vec<String>>;
    /// How the attacker's identity is named among those.
    fn id_of(&self, forger: &Forger) -> String;

    /// As a joiner without the code: what is sent first.
    fn request(&self, public: &Public, forger: &Forger) -> Result<Vec<Frame>>;
    /// As a joiner without the code: what is said to a frame of the initiator.
    fn respond(&self, forger: &Forger, frame: &Frame) -> Result<Vec<Frame>>;
    /// As an initiator without the code: what is said to a frame of the joiner.
    fn reply(&self, forger: &Forger, frame: &Frame) -> Result<Vec<Frame>>;
    /// The initiator's last word, whatever came before.
    fn complete(&self) -> Result<Vec<Frame>>;
    /// In the middle: a frame in which keys and signatures are replaced by the attacker's own.
    fn substitute(&self, forger: &mut Forger, from_joiner: bool, frame: Frame) -> Result<Frame>;
    /// The second victim pairs with the attacker under a code of the attacker's own, and the attacker uses what it says
    /// there to pass for it at the first victim, where it is granted the code.
    fn borrow(&self, mallory: &Peer, public: &Public) -> Result<()>;
    /// A record under the victim's topic that leads to the attacker or says that the code is over, made of what is public;
    /// `None` where nobody can make one.
    fn forge_record(&self, public: &Public, says: Says, tid: Tid, addresses: &[Address]) -> Result<Option<Record>>;
    /// A record that leads to the attacker, made with the victim's own keys: it grants the attacker what it cannot have,
    /// so that the rest of the attack is played too.
    fn granted_record(&self, public: &Public, tid: Tid, addresses: &[Address]) -> Result<Record>;
}

impl Forger {
    fn new() -> Result<Self> {
        Ok(Self { identity: forge::identity()?, heard: None })
    }
}

/// Plays every attack against both kinds of victims.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let stage = Stage::new(options)?;
    for (attack, played, play) in attacks::ALL {
        for naive in [true, false] {
            let start = Instant::now();
            let mut target: Box<dyn Target + '_> =
                if naive { Box::new(NaiveTarget::new(&stage)?) } else { Box::new(RealTarget::new(&stage)?) };
            let (wanted, verb) = if naive { (true, "succeeds") } else { (false, "fails") };
            let what = format!("{attack}: {played} {verb} against {}", target.name());
            tell(&what);
            let outcome = play(target.as_mut(), &stage.mallory).and_then(|success| target.end().map(|()| success));
            let outcome = outcome.with_context(|| format!("against {}", target.name()));
            let (holds, seen) = match outcome {
                Ok(success) => (success == wanted, if success { "succeeded" } else { "failed" }.to_owned()),
                Err(error) => (false, format!("{error:#}")),
            };
            let ms = start.elapsed().as_millis().to_string();
            report.row(vec![attack.to_owned(), format!("{played}, {}", target.name()), ms, seen.clone()]);
            report.check(&what, holds, seen);
        }
    }
    stage.play(attacks::SEED_FLOW, report);
    Ok(())
}
