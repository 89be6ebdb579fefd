//! Where the attacks are played: two victims that run the real program, a DHT, and the attacker beside them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use handfast_net::StreamProtocol;
use handfast_proto::addr::Address;
use handfast_proto::code::Code;
use handfast_proto::code::qr::QrText;
use handfast_proto::id::{ConnId, StreamId, Tid};
use handfast_proto::keys::CodeKeys;
use handfast_proto::secret::Secret;
use handfast_proto::wire::frames::Frame;
use handfast_proto::wire::record::Record;

use super::forge::initiator::Asked;
use super::forge::joiner::{Opening, Proved, Started};
use super::forge::{self, CodeSecrets};
use super::is_thorough;
use crate::device::{COMMAND_LIMIT, Device};
use crate::peer::{Inbound, Peer, Reply};
use crate::process::Running;
use crate::report::Report;
use crate::scenario::Options;
use crate::scenario::pairing::{self, Ending, Offer};
use crate::scenario::world::World;
use crate::secrets::{entropy_of, words_of};
use crate::topology::Lab;

/// Delay of the access links: what an attack is told does not depend on it, and short ones make many attacks quick.
const DELAY: Duration = Duration::from_millis(2);

/// How long an answer of a victim may take before it counts as none.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long anything that a command does may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a record is looked for until it is in the DHT.
const RECORD_POLL: Duration = Duration::from_millis(50);

/// How long a further stream of a lured joiner is waited for before its command is looked at.
const STREAM_POLL: Duration = Duration::from_millis(100);

/// Numbers of records that the attacker publishes under a code it knows; far above the initiator's.
const HIGH_SEQ: u64 = 1_000;

/// Life of the attacker's records in the DHT, seconds.
const RECORD_TTL: u16 = 300;

/// An attack: its number in section 15 of the protocol, what is played, and how. Playing gives what was seen; an error
/// says that the victim did not refuse it as it must.
pub(super) struct Case {
    attack: &'static str,
    played: &'static str,
    play: Play,
    slow: bool,
}

type Play = fn(&Stage) -> Result<String>;

/// An attack that is always played.
pub(super) const fn case(attack: &'static str, played: &'static str, play: Play) -> Case {
    Case { attack, played, play, slow: false }
}

/// An attack that takes more than a quarter of a minute and is played in a long run only.
pub(super) const fn slow(attack: &'static str, played: &'static str, play: Play) -> Case {
    Case { attack, played, play, slow: true }
}

/// A group of attacks with what all of them need.
pub(super) struct Stage {
    /// The attacker's network.
    pub(super) mallory: Peer,
    /// The attacker's identity key.
    pub(super) identity: SigningKey,
    /// Shows codes.
    pub(super) alice: Device,
    /// Enters codes.
    pub(super) bob: Device,
    pub(super) world: World,
    pub(super) options: Options,
    honest: RefCell<BTreeSet<String>>,
}

/// A code that alice shows, and what follows from it for whoever knows it.
pub(super) struct Shown {
    pub(super) process: Running,
    pub(super) words: String,
    pub(super) qr: String,
    pub(super) session: String,
    pub(super) code: Knowledge,
    /// Alice's transport key and addresses.
    pub(super) tid: Tid,
    pub(super) addresses: Vec<Address>,
}

/// A code and everything it gives.
pub(super) struct Knowledge {
    pub(super) words: String,
    pub(super) secrets: CodeSecrets,
    pub(super) keys: CodeKeys,
}

/// A joiner that was led to the attacker: its command, its stream, and what it said first.
pub(super) struct Lured {
    pub(super) joining: Running,
    pub(super) inbound: Inbound,
    pub(super) p1: Frame,
    pub(super) h1: Frame,
}

impl Knowledge {
    /// What the words give.
    pub(super) fn of(words: &str) -> Result<Self> {
        let entropy: [u8; 16] = entropy_of(words)?.as_slice().try_into()?;
        let keys = CodeKeys::derive(&Code::from_entropy(Secret::new(entropy)));
        Ok(Self { words: words.to_owned(), secrets: CodeSecrets::of(&entropy)?, keys })
    }

    /// A fresh code that no device shows.
    pub(super) fn fresh() -> Result<Self> {
        Self::of(&words_of(&forge::random::<16>()?)?)
    }

    /// A record under this code.
    pub(super) fn record(&self, plain: &[u8], seq: u64, ttl: u16) -> Result<Record> {
        Ok(self.keys.record().seal(plain, seq, ttl, &mut handfast_net::entropy::rng()?))
    }
}

impl Stage {
    /// A lab of `nodes` DHT nodes, both daemons running, the attacker connected to the DHT.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let builder = Lab::two_networks(options.nodes).host("carol").delay(DELAY);
        let world = World::of(builder, options, None)?;
        let (alice, bob) = world.warm_pair(0)?;
        let mallory = Peer::device(&world.lab.host("attacker")?, &world.dht.bootstrap())?;
        mallory.wait_for_nodes(1)?;
        let honest = BTreeSet::from([alice.status()?.id, bob.status()?.id]);
        Ok(Self {
            mallory,
            identity: forge::identity()?,
            alice,
            bob,
            world,
            options: options.clone(),
            honest: RefCell::new(honest),
        })
    }

    /// Plays the cases, each with both victims idle, and checks after each that neither holds anybody it should not.
    pub(super) fn play(&self, cases: &[Case], report: &mut Report) {
        for case in cases.iter().filter(|case| !case.slow || is_thorough(&self.options)) {
            let start = Instant::now();
            let what = format!("{}: {}", case.attack, case.played);
            tell(&what);
            let played = self.clear().and_then(|()| (case.play)(self));
            let outcome = played.and_then(|seen| self.check_stores().map(|()| seen));
            let ms = start.elapsed().as_millis();
            let (holds, seen) = match outcome {
                Ok(seen) => (true, seen),
                Err(error) => (false, format!("{error:#}")),
            };
            report.row(vec![case.attack.to_owned(), case.played.to_owned(), ms.to_string(), seen.clone()]);
            report.check(&what, holds, seen);
        }
    }

    /// Withdraws what an earlier attack left open.
    pub(super) fn clear(&self) -> Result<()> {
        for device in [&self.alice, &self.bob] {
            for session in device.status()?.sessions {
                if let Some(session) = session.get("session").and_then(serde_json::Value::as_str) {
                    // One that ends by itself meanwhile is what is wanted.
                    device.run(&["pair", "cancel", session], None, COMMAND_LIMIT)?;
                }
            }
        }
        Ok(())
    }

    /// Neither victim holds a device that is not the other victim, nor one that is pending.
    pub(super) fn check_stores(&self) -> Result<()> {
        for device in [&self.alice, &self.bob] {
            check_store(device, &self.honest.borrow())?;
        }
        Ok(())
    }

    /// A further device that the victims may hold.
    pub(super) fn trust(&self, id: String) {
        self.honest.borrow_mut().insert(id);
    }

    /// Lets alice show a code; `extra` goes to `pair generate`.
    pub(super) fn offer(&self, extra: &[&str]) -> Result<Shown> {
        shown_by(&self.alice, extra)
    }

    /// As [`Stage::offer`], with the record in the DHT.
    pub(super) fn offer_published(&self, extra: &[&str]) -> Result<Shown> {
        let shown = self.offer(extra)?;
        self.wait_for_record(&shown.code)?;
        Ok(shown)
    }

    /// Waits until the record of a code is in the DHT; gives the newest.
    pub(super) fn wait_for_record(&self, code: &Knowledge) -> Result<Record> {
        let start = Instant::now();
        while start.elapsed() < ANSWER {
            let (found, _) = self.mallory.get(code.keys.topic())?;
            if let Some(record) = found.into_iter().max_by_key(Record::seq) {
                return Ok(record);
            }
            std::thread::sleep(RECORD_POLL);
        }
        bail!("the record of a code did not appear in the DHT")
    }

    /// The attacker's connection to alice.
    pub(super) fn connect(&self, shown: &Shown) -> Result<ConnId> {
        self.mallory.dial(Some(shown.tid), &shown.addresses)
    }

    /// Says something to alice on a new pairing stream; gives the stream and what she answered.
    pub(super) fn say(&self, shown: &Shown, frames: Vec<Frame>) -> Result<(StreamId, Reply)> {
        let conn = self.connect(shown)?;
        let stream = self.mallory.say(conn, StreamProtocol::Pair, frames)?;
        Ok((stream, self.mallory.reply(stream, ANSWER)))
    }

    /// P1 and H1 as a code holder makes them for a connection to alice.
    pub(super) fn start(&self, shown: &Shown, opening: &Opening) -> Result<Started> {
        Started::new(&shown.code.secrets, self.mallory.tid(), shown.tid, opening)
    }

    /// Goes through an honest handshake with alice up to H2.
    pub(super) fn prove(&self, shown: &Shown) -> Result<(StreamId, Proved)> {
        let started = self.start(shown, &Opening::default())?;
        let (stream, reply) = self.say(shown, started.frames.clone())?;
        let proved = started.read_h2(&reply.frame().context("H2")?)?;
        Ok((stream, proved))
    }

    /// Publishes an advert of the attacker under a code it knows.
    pub(super) fn advertise(&self, code: &Knowledge, plain: &[u8]) -> Result<()> {
        let stored = self.mallory.put(&code.record(plain, HIGH_SEQ, RECORD_TTL)?)?;
        ensure!(stored > 0, "no node stored the attacker's record");
        Ok(())
    }

    /// Publishes where the attacker is under a code it knows.
    pub(super) fn advertise_self(&self, code: &Knowledge) -> Result<()> {
        self.advertise(code, &forge::open_advert(self.mallory.tid(), self.mallory.addresses())?)
    }

    /// Lets bob enter a code.
    pub(super) fn join(&self, words: &str, extra: &[&str]) -> Result<Running> {
        pairing::join(&self.bob, words, extra)
    }

    /// Leads bob to the attacker under a code, and takes what he says first.
    pub(super) fn lure(&self, code: &Knowledge, extra: &[&str]) -> Result<Lured> {
        self.advertise_self(code)?;
        let joining = self.join(&code.words, extra)?;
        let inbound = self.mallory.accept(StreamProtocol::Pair, PATIENCE)?;
        let (p1, h1) = (self.mallory.frame(inbound.stream)?, self.mallory.frame(inbound.stream)?);
        Ok(Lured { joining, inbound, p1, h1 })
    }

    /// What a lured joiner said, read by somebody who knows the code.
    pub(super) fn read(&self, code: &Knowledge, lured: &Lured) -> Result<Asked> {
        Asked::read(&code.secrets, lured.inbound.tid, self.mallory.tid(), &lured.p1, &lured.h1)
    }

    /// Closes every stream of a lured joiner until it gives up, which it must as over somebody who proves nothing.
    pub(super) fn refuse(&self, lured: Lured) -> Result<String> {
        let Lured { mut joining, inbound, .. } = lured;
        self.mallory.close(inbound.stream)?;
        let start = Instant::now();
        while joining.wait(Duration::ZERO)?.is_none() {
            ensure!(start.elapsed() < PATIENCE, "the joiner still tries after {PATIENCE:?}");
            if let Ok(next) = self.mallory.accept(StreamProtocol::Pair, STREAM_POLL) {
                self.mallory.close(next.stream)?;
            }
        }
        must_end(joining, 7, &["authentication_failed"])
    }

    /// Bob enters a shown code, and the two get paired as if there had been no attack.
    pub(super) fn still_pairs(&self, shown: Shown) -> Result<()> {
        let Shown { process, words, qr, session, .. } = shown;
        let offer = Offer { process, words, qr, session };
        pairing::finish(offer, |words| self.join(words, &["--yes"])).map(drop).context("the honest pairing")
    }
}

impl Shown {
    /// Nobody was noticed at this code: no connection, no question, no end.
    pub(super) fn is_untouched(&self) -> Result<()> {
        for event in ["connected", "approval_needed", "paired", "pairing_failed"] {
            ensure!(self.process.event(event).is_none(), "the initiator said {event}");
        }
        Ok(())
    }

    /// Nobody got as far as the question.
    pub(super) fn was_not_asked(&self) -> Result<()> {
        ensure!(self.process.event("approval_needed").is_none(), "the initiator's person was asked");
        Ok(())
    }
}

/// Lets a device show a code.
pub(super) fn shown_by(device: &Device, extra: &[&str]) -> Result<Shown> {
    let Offer { process, words, qr, session } = pairing::offer(device, extra)?;
    let parsed = QrText::parse(&qr).context("the QR text of a shown code")?;
    // Every node it is connected to sees them.
    let listed = device.status()?.addresses.into_iter().filter(|own| own.scope == "internet" && !own.is_relayed());
    let addresses = listed.map(|own| own.address.parse()).collect::<Result<Vec<Address>, _>>()?;
    ensure!(!addresses.is_empty(), "the device has no public address");
    let code = Knowledge::of(&words)?;
    Ok(Shown { process, words, qr, session, code, tid: parsed.tid, addresses })
}

/// Says on stderr what is being played: a run takes minutes, and one that stands still must tell where.
pub(super) fn tell(what: &str) {
    // Nothing better can be done when stderr is gone.
    let _ = writeln!(std::io::stderr(), "playing {what}");
}

/// A device holds nobody but `honest` ones, and nothing is pending.
pub(super) fn check_store(device: &Device, honest: &BTreeSet<String>) -> Result<()> {
    let name = device.host().name();
    for listed in device.devices()? {
        ensure!(honest.contains(&listed.id), "{name} lists {} ({})", listed.name, listed.id);
    }
    for session in device.sessions()? {
        let state = session.get("state").and_then(serde_json::Value::as_str).unwrap_or_default();
        let of = session.pointer("/device/id").and_then(serde_json::Value::as_str).unwrap_or_default();
        ensure!(state != "pending", "{name} holds a pending pairing with {of}");
        ensure!(state != "paired" || honest.contains(of), "{name} says it is paired with {of}");
    }
    Ok(())
}

/// Waits for a command's end, which must be a failure with this exit code and one of these causes.
pub(super) fn must_end(process: Running, exit: i32, causes: &[&str]) -> Result<String> {
    let ending = Ending::of(&process.finish(PATIENCE)?);
    let right = ending.exit == Some(exit) && ending.cause.as_deref().is_some_and(|cause| causes.contains(&cause));
    ensure!(right && ending.told == 1, "ended with {ending}, not {exit} {}", causes.join(" or "));
    Ok(ending.to_string())
}

/// The reply must be the silent end of the stream.
pub(super) fn must_close(reply: &Reply) -> Result<String> {
    ensure!(reply.is_closed(), "the victim {reply}");
    Ok(reply.to_string())
}
