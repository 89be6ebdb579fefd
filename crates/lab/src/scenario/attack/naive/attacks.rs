//! The attacks, each a list of steps over [`Target`]; true when it succeeded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::wire::frames::Frame;

use super::{Forger, Public, Says, Side, Target};
use crate::naive::Message;
use crate::peer::{Inbound, Peer, Reply};
use crate::scenario::attack::forge;
use crate::scenario::attack::stage::{ANSWER, Case, Knowledge, Stage, case, must_close};

type Attack = fn(&mut dyn Target, &Peer) -> Result<bool>;

/// Number in section 15, what is played, and how.
pub(super) const ALL: [(&str, &str, Attack); 8] = [
    ("1", "posing as the joiner", pose_as_joiner),
    ("2", "posing as the initiator", pose_as_initiator),
    ("4", "relaying a whole pairing", relay),
    ("11", "putting one's own keys into a relayed pairing", substitute),
    ("5", "replaying what a joiner said", replay),
    ("10", "borrowing a signature from another session", borrow),
    ("16", "a forged record that says 'over'", forge_over),
    ("52", "an unsigned Complete", unsigned_complete),
];

/// The seed's flow against the real program, both ways (attack 52).
pub(super) const SEED_FLOW: &[Case] = &[
    case("52", "a naive joiner at the real program", naive_joiner),
    case("52", "a naive initiator at the real program", naive_initiator),
];

/// How long an attack is waited for that may still succeed; against the naive device each does within a tenth of it.
const OUTCOME: Duration = Duration::from_secs(2);

/// How long a victim's attempt may last altogether.
const ATTEMPT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

fn pose_as_joiner(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let (public, forger) = (target.offer()?, Forger::new()?);
    let conn = mallory.dial(Some(public.tid), &public.addresses)?;
    let stream = mallory.say(conn, StreamProtocol::Pair, target.request(&public, &forger)?)?;
    while let Reply::Frame(frame) = mallory.reply(stream, ANSWER) {
        mallory.send(stream, target.respond(&forger, &frame)?)?;
    }
    comes_true(|| holds_attacker(target, Side::Initiator, &forger))
}

fn pose_as_initiator(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let (public, forger) = (target.offer()?, Forger::new()?);
    lead_astray(target, mallory, &public)?;
    target.join()?;
    each_try(target, mallory, |target, inbound| {
        while let Reply::Frame(frame) = mallory.reply(inbound.stream, ANSWER) {
            mallory.send(inbound.stream, target.reply(&forger, &frame)?)?;
        }
        Ok(())
    })?;
    holds_attacker(target, Side::Joiner, &forger)
}

fn relay(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    relayed(target, mallory)?;
    Ok(!target.accepted(Side::Initiator)?.is_empty() || !target.accepted(Side::Joiner)?.is_empty())
}

fn replay(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let (public, said) = relayed(target, mallory)?;
    let before = target.accepted(Side::Initiator)?.len();
    let conn = mallory.dial(Some(public.tid), &public.addresses)?;
    let stream = mallory.say(conn, StreamProtocol::Pair, said)?;
    while matches!(mallory.reply(stream, ANSWER), Reply::Frame(_)) {}
    comes_true(|| Ok(target.accepted(Side::Initiator)?.len() > before))
}

fn substitute(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let (public, mut forger) = (target.offer()?, Forger::new()?);
    lead_astray(target, mallory, &public)?;
    target.join()?;
    each_try(target, mallory, |target, inbound| {
        let conn = mallory.dial(Some(public.tid), &public.addresses)?;
        let change = |from_joiner, frame| target.substitute(&mut forger, from_joiner, frame);
        mallory.relay_changed(inbound.stream, conn, ATTEMPT, change).map(drop)
    })?;
    let initiator = comes_true(|| holds_attacker(target, Side::Initiator, &forger))?;
    Ok(initiator || holds_attacker(target, Side::Joiner, &forger)?)
}

fn borrow(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let public = target.offer()?;
    target.borrow(mallory, &public)?;
    comes_true(|| Ok(!target.accepted(Side::Initiator)?.is_empty()))
}

fn forge_over(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let public = target.offer()?;
    if let Some(record) = target.forge_record(&public, Says::Over, mallory.tid(), &[])? {
        ensure!(mallory.put(&record)? > 0, "no node stored the forged record");
    }
    target.join()?;
    let start = Instant::now();
    while !target.has_joined()? && start.elapsed() < ATTEMPT {
        std::thread::sleep(POLL);
    }
    target.believes_over()
}

fn unsigned_complete(target: &mut dyn Target, mallory: &Peer) -> Result<bool> {
    let public = target.offer()?;
    lead_astray(target, mallory, &public)?;
    target.join()?;
    each_try(target, mallory, |target, inbound| mallory.send(inbound.stream, target.complete()?))?;
    Ok(!target.accepted(Side::Joiner)?.is_empty())
}

/// Leads the joiner to the attacker: by a record of its own making where that can be, else by one it is granted.
fn lead_astray(target: &dyn Target, mallory: &Peer, public: &Public) -> Result<()> {
    let (tid, addresses) = (mallory.tid(), mallory.addresses());
    let record = match target.forge_record(public, Says::Open, tid, addresses)? {
        Some(record) => record,
        None => target.granted_record(public, tid, addresses)?,
    };
    ensure!(record.topic() == public.topic, "the forged record is of another topic");
    ensure!(mallory.put(&record)? > 0, "no node stored the forged record");
    Ok(())
}

/// Lets the joiner come, as often as it tries, and treats each try in this way.
fn each_try(
    target: &mut dyn Target,
    mallory: &Peer,
    mut treat: impl FnMut(&dyn Target, Inbound) -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    let mut tries = 0;
    while !target.has_joined()? && start.elapsed() < ATTEMPT {
        if let Ok(inbound) = mallory.accept(StreamProtocol::Pair, POLL) {
            tries += 1;
            treat(target, inbound)?;
            // A joiner that has decided is gone; one that waits is told that there is nothing more.
            while matches!(mallory.reply(inbound.stream, POLL), Reply::Frame(_)) {}
            mallory.close(inbound.stream)?;
        }
    }
    ensure!(tries > 0, "the joiner did not come to the attacker");
    Ok(())
}

/// A whole pairing through the attacker, nothing changed; what the joiner said the first time.
fn relayed(target: &mut dyn Target, mallory: &Peer) -> Result<(Public, Vec<Frame>)> {
    let public = target.offer()?;
    lead_astray(target, mallory, &public)?;
    target.join()?;
    let mut said = Vec::new();
    each_try(target, mallory, |_, inbound| {
        let conn = mallory.dial(Some(public.tid), &public.addresses)?;
        let frames = mallory.relay(inbound.stream, conn, ATTEMPT)?;
        if said.is_empty() {
            said = frames;
        }
        Ok(())
    })?;
    Ok((public, said))
}

fn holds_attacker(target: &dyn Target, side: Side, forger: &Forger) -> Result<bool> {
    Ok(target.accepted(side)?.contains(&target.id_of(forger)))
}

/// Watches for a while whether something becomes true.
fn comes_true(what: impl Fn() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    loop {
        if what()? {
            return Ok(true);
        }
        if start.elapsed() > OUTCOME {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
}

fn naive_joiner(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let session = shown.code.keys.topic().0[..16].try_into()?;
    let request = Message::Request { session, key: stage.identity.verifying_key().to_bytes(), name: "bob".to_owned() };
    let seen = [vec![request.frame()?], vec![request.frame()?, Message::Response([7; 64]).frame()?]]
        .into_iter()
        .map(|frames| must_close(&stage.say(&shown, frames)?.1))
        .collect::<Result<Vec<_>>>()?;
    shown.is_untouched()?;
    stage.still_pairs(shown)?;
    Ok(seen.join(", "))
}

fn naive_initiator(stage: &Stage) -> Result<String> {
    let key = stage.identity.verifying_key().to_bytes();
    let challenge = Message::Challenge { challenge: forge::random()?, key, name: "alice".to_owned() };
    let mut endings = Vec::new();
    for messages in [vec![challenge.clone(), Message::Complete(true)], vec![Message::Complete(true)]] {
        let lured = stage.lure(&Knowledge::fresh()?, &["--yes"])?;
        let frames = messages.iter().map(Message::frame).collect::<Result<_>>()?;
        stage.mallory.send(lured.inbound.stream, frames)?;
        must_close(&stage.mallory.reply(lured.inbound.stream, ANSWER))?;
        endings.push(stage.refuse(lured)?);
    }
    Ok(format!("the joiner ended with {}", endings.join(", ")))
}
