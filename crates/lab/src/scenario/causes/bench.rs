//! Two devices between which faults are made, and what each fault gave.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::pairing::{Ending, Offer, join, offer, pair};
use super::super::world::World;
use crate::device::{COMMAND_LIMIT, Device};
use crate::process::{Output, Running};
use crate::rng::Rng;
use crate::secrets::words_of;
use crate::topology::AccessHost;

/// A failure is told within this time …
pub(super) const LIMIT: Duration = Duration::from_secs(15);

/// … but a joiner searches for 30 s before it says that there is nobody.
pub(super) const SEARCH_LIMIT: Duration = Duration::from_secs(35);

/// How long commands are watched beyond their limit, to tell late from never.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// How long devices that have just started get to enter the DHT.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);

/// What a command has to end with: its exit code and one of these causes; with 0 and none it pairs all the same.
#[derive(Clone, Copy)]
pub(super) struct Expected(pub(super) i32, pub(super) &'static [&'static str]);

/// One command under a fault: what was expected of it and how it ended.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) expected: Expected,
    pub(super) limit: Duration,
    pub(super) ended: Result<(Ending, Duration)>,
    pub(super) followed: Followed,
}

/// What faults gave, in their order.
#[derive(Default)]
pub(super) struct Cases(pub(super) Vec<Case>);

/// What came of following the hint.
pub(super) enum Followed {
    NotYet,
    /// What was done, and whether the two paired then.
    Done(&'static str, Result<()>),
    /// Nothing can be done there, or nothing has to be.
    NoNeed,
}

/// The devices of a lane, and what their cases gave.
pub(super) struct Bench {
    pub(super) hosts: Hosts,
    pub(super) alice: Device,
    pub(super) bob: Device,
    pub(super) rng: Rng,
    pub(super) gap: Duration,
    pub(super) cases: Cases,
    bootstrap: Vec<String>,
    next: usize,
}

/// The hosts of a lane.
pub(super) struct Hosts {
    pub(super) alice: AccessHost,
    pub(super) bob: AccessHost,
    pub(super) carol: AccessHost,
}

impl Bench {
    /// The devices of lane `lane`, which run.
    pub(super) fn new(world: &World, lane: usize, seed: u64, gap: Duration) -> Result<Bench> {
        let host = |name: &str| world.lab.host(&format!("{name}-{lane}"));
        let hosts = Hosts { alice: host("alice")?, bob: host("bob")?, carol: host("carol")? };
        let bootstrap = world.dht.bootstrap();
        let mut alice = Device::new(&hosts.alice, "alice")?.bootstrap(bootstrap.clone());
        let mut bob = Device::new(&hosts.bob, "bob")?.bootstrap(bootstrap.clone());
        alice.start_daemon()?;
        bob.start_daemon()?;
        std::thread::sleep(WARM_UP);
        Ok(Bench { hosts, alice, bob, rng: Rng::new(seed), gap, cases: Cases::default(), bootstrap, next: 0 })
    }

    /// A new device on a host, that does not run yet; no other one of the lane has its name.
    pub(super) fn device(&mut self, host: &AccessHost, name: &str) -> Result<Device> {
        self.next += 1;
        Ok(Device::new(host, &format!("{name}-{}", self.next))?.bootstrap(self.bootstrap.clone()))
    }

    /// By which the devices enter the DHT.
    pub(super) fn bootstrap(&self) -> &[String] {
        &self.bootstrap
    }

    /// Both daemons run, and no session is open that could answer for the next one.
    pub(super) fn ready(&mut self) -> Result<()> {
        for device in [&mut self.alice, &mut self.bob] {
            if !device.is_running() {
                device.kill9();
                device.start_daemon()?;
            }
            for session in device.status()?.sessions {
                if let Some(session) = session.get("session").and_then(Value::as_str) {
                    answer(device, &["pair", "cancel", session])?;
                }
            }
        }
        Ok(())
    }

    /// Plays a group of faults, and then what the hints of its cases say that did not follow theirs: a new code is made.
    /// That it could not be played to its end is a failed case.
    pub(super) fn play(&mut self, name: &'static str, group: fn(&mut Bench) -> Result<()>) -> Result<()> {
        self.ready()?;
        if let Err(error) = group(self) {
            self.cases.broken(name, error);
        }
        if self.cases.is_owed() {
            self.ready()?;
            let paired = pair(&self.alice, &self.bob, self.gap).map(drop);
            self.cases.follow("a new code", paired);
        }
        Ok(())
    }

    /// A valid code that nobody shows.
    pub(super) fn unknown_code(&mut self) -> Result<String> {
        let entropy: Vec<u8> = (0..16).map(|_| self.rng.next_u64().to_le_bytes()[7]).collect();
        words_of(&entropy)
    }

    /// A code whose record had time to get into the DHT.
    pub(super) fn offer_published(&self, extra: &[&str]) -> Result<Offer> {
        let offer = offer(&self.alice, extra)?;
        std::thread::sleep(self.gap);
        Ok(offer)
    }

    /// Two commands that have got as far as the initiator's question.
    pub(super) fn at_the_question(&self, initiator: &[&str], joiner: &[&str]) -> Result<(Offer, Running)> {
        let offer = self.offer_published(initiator)?;
        let joining = join(&self.bob, &offer.words, joiner)?;
        offer.process.wait_event("approval_needed", PATIENCE)?;
        Ok((offer, joining))
    }

    pub(super) fn join_fails(&mut self, name: &'static str, code: &str, expected: Expected, limit: Duration) {
        let ended = ended_of(join(&self.bob, code, &["--yes"]), Instant::now());
        self.cases.add(name, expected, limit, ended);
    }

    /// Waits for the initiator's command, which had to fail since `start`; gives the words back.
    pub(super) fn initiator_fails(
        &mut self,
        name: &'static str,
        offer: Offer,
        expected: Expected,
        start: Instant,
    ) -> String {
        self.initiator_fails_by(name, offer, expected, start, LIMIT)
    }

    /// As [`Bench::initiator_fails`], by another limit.
    pub(super) fn initiator_fails_by(
        &mut self,
        name: &'static str,
        offer: Offer,
        expected: Expected,
        start: Instant,
        limit: Duration,
    ) -> String {
        let ended = ended_of(Ok(offer.process), start);
        self.cases.add(name, expected, limit, ended);
        offer.words
    }
}

impl Cases {
    pub(super) fn add(
        &mut self,
        name: &'static str,
        expected: Expected,
        limit: Duration,
        ended: Result<(Ending, Duration)>,
    ) {
        let followed = if expected.0 == 0 { Followed::NoNeed } else { Followed::NotYet };
        self.0.push(Case { name, expected, limit, ended, followed });
    }

    /// The hints of all cases that did not follow theirs yet have been followed.
    pub(super) fn follow(&mut self, remedy: &'static str, paired: Result<()>) {
        let failed = paired.err().map(|error| format!("{error:#}"));
        for case in &mut self.0 {
            if matches!(case.followed, Followed::NotYet) {
                let paired = failed.as_ref().map_or(Ok(()), |error| Err(anyhow::anyhow!("{error}")));
                case.followed = Followed::Done(remedy, paired);
            }
        }
    }

    /// Nothing can be done about the last cases but what somebody else decides.
    pub(super) fn no_way(&mut self) {
        for case in &mut self.0 {
            if matches!(case.followed, Followed::NotYet) {
                case.followed = Followed::NoNeed;
            }
        }
    }

    /// That a group could not be played to its end is a failed case.
    pub(super) fn broken(&mut self, name: &'static str, error: anyhow::Error) {
        self.add(name, Expected(0, &[]), LIMIT, Err(error));
    }

    pub(super) fn is_owed(&self) -> bool {
        self.0.iter().any(|case| matches!(case.followed, Followed::NotYet))
    }
}

impl Case {
    /// The right cause and exit code, told once and in time.
    pub(super) fn is_right(&self) -> bool {
        let Expected(exit, causes) = self.expected;
        self.ended.as_ref().is_ok_and(|(ending, took)| {
            let named = ending.cause.as_deref().map_or(causes.is_empty(), |cause| causes.contains(&cause));
            ending.exit == Some(exit) && named && ending.told == 1 && *took <= self.limit
        })
    }
}

/// Waits for the end of a command; the time counts from `start`.
pub(super) fn ended_of(process: Result<Running>, start: Instant) -> Result<(Ending, Duration)> {
    let process = process?;
    let end_of = |output: &Output, started: Instant| (started + output.elapsed).saturating_duration_since(start);
    let started = process.started();
    let output = process.finish(PATIENCE)?;
    Ok((Ending::of(&output), end_of(&output, started)))
}

/// Answers a session by a command of its own, as a second terminal would.
pub(super) fn answer(device: &Device, args: &[&str]) -> Result<()> {
    // A session that ended before the answer came is judged by how it ended.
    device.run(args, None, COMMAND_LIMIT).map(drop)
}

/// Enters the code of an open offer again; both pair.
pub(super) fn enter_again(joiner: &Device, offer: Offer, code: &str) -> Result<()> {
    let ending = ended_of(join(joiner, code, &["--yes"]), Instant::now())?.0;
    ensure!(ending.exit == Some(0), "entered again, the code ended with {ending}");
    let output = offer.process.finish(PATIENCE).context("the initiator")?;
    ensure!(output.status.success(), "the joiner paired, and the initiator ended with {}", Ending::of(&output));
    Ok(())
}
