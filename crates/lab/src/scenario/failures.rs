//! Each way a pairing can fail ends with its exit code and cause, in time (acceptance line 5).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::pairing::{Ending, Offer, join, offer, pair};
use super::{Options, growth, world::World};
use crate::device::{COMMAND_LIMIT, Device, EXIT_NOT_RUNNING};
use crate::process::{Output, Running};
use crate::report::Report;
use crate::rng::Rng;
use crate::secrets::words_of;
use crate::topology::Lab;

/// A failure is told within this time …
const LIMIT: Duration = Duration::from_secs(15);

/// … but a joiner searches for 30 s before it says that there is nobody.
const SEARCH_LIMIT: Duration = Duration::from_secs(35);

/// How long commands are watched beyond their limit, to tell late from never.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shortest life of a code.
const SHORT_TTL: &str = "5";

/// How long a joiner has searched when it is cancelled.
const SEARCHING: Duration = Duration::from_secs(2);

/// One command that had to fail: what was expected of it and how it ended.
struct Case {
    name: &'static str,
    exit: i32,
    causes: &'static [&'static str],
    limit: Duration,
    ended: Result<(Ending, Duration)>,
}

/// The devices of this scenario, and what their cases gave.
struct Bench {
    world: World,
    alice: Device,
    bob: Device,
    rng: Rng,
    gap: Duration,
    cases: Vec<Case>,
}

/// The failures, in groups that each begin with both daemons running and no session open.
const GROUPS: [(&str, Group); 9] = [
    ("codes that cannot be right", Bench::codes_that_cannot_be_right),
    ("codes nobody shows", Bench::codes_nobody_shows),
    ("codes that are over", Bench::codes_that_are_over),
    ("somebody says no", Bench::somebody_says_no),
    ("cancelled", Bench::cancelled),
    ("used", Bench::used),
    ("initiator gone", Bench::initiator_gone),
    ("DHT gone", Bench::dht_gone),
    ("not running", Bench::not_running),
];

type Group = fn(&mut Bench) -> Result<()>;

/// Plays every failure once, then `runs` failures in a row on the same two daemons (see [`growth`]).
///
/// # Errors
/// When the lab cannot be made or a device does not start.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::of(Lab::two_networks(options.nodes).host("carol"), options, None)?;
    let (alice, bob) = world.warm_pair(0)?;
    let mut bench = Bench { world, alice, bob, rng: Rng::new(options.seed), gap: options.gap, cases: Vec::new() };
    for (name, group) in GROUPS {
        bench.play(name, group)?;
    }

    let mut report = Report::new("failures of a pairing", &["case", "expected", "got", "ms", "limit ms"]);
    for case in bench.cases {
        case.report(&mut report);
    }
    growth::run(&bench.world, &mut report, options)?;
    Ok(report)
}

impl Case {
    fn report(self, report: &mut Report) {
        let expected = format!("{} {}", self.exit, self.causes.join("|"));
        let limit = self.limit.as_millis().to_string();
        let (got, ms, holds) = match self.ended {
            Ok((ending, took)) => {
                let right = ending.exit == Some(self.exit)
                    && ending.cause.as_deref().is_some_and(|cause| self.causes.contains(&cause))
                    && ending.told == 1;
                (ending.to_string(), took.as_millis().to_string(), right && took <= self.limit)
            }
            Err(error) => (format!("{error:#}"), "-".to_owned(), false),
        };
        report.check(self.name, holds, format!("{got} after {ms} ms, expected {expected} in {limit} ms"));
        let short: String = got.chars().take(60).collect();
        report.row(vec![self.name.to_owned(), expected, short, ms, limit]);
    }
}

impl Bench {
    /// Plays a group. That it could not be played to its end is a failed case, and the next one goes on.
    fn play(&mut self, name: &'static str, group: Group) -> Result<()> {
        for device in [&mut self.alice, &mut self.bob] {
            if !device.is_running() {
                device.kill9();
                device.start_daemon()?;
            }
            // What an earlier group left open must not answer for this one.
            for session in device.status()?.sessions {
                if let Some(session) = session.get("session").and_then(serde_json::Value::as_str) {
                    answer(device, &["pair", "cancel", session])?;
                }
            }
        }
        if let Err(error) = group(self) {
            self.add(name, 0, &[], LIMIT, Err(error));
        }
        Ok(())
    }

    fn codes_that_cannot_be_right(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        let mut wrong_checksum: Vec<&str> = words.split(' ').collect();
        let right = wrong_checksum.pop().context("a code has words")?;
        // Of all last words one in 16 fits the other eleven: among these there is one that does not.
        let candidates = ["abandon", "legal", "winner", "yellow", "zoo"].into_iter().filter(|word| *word != right);
        let broken = candidates
            .map(|last| [wrong_checksum.as_slice(), &[last]].concat().join(" "))
            .find(|words| crate::secrets::entropy_of(words).is_err())
            .context("a last word with a wrong checksum")?;
        self.join_fails("wrong checksum", &broken, 3, &["code_malformed"], LIMIT);
        self.join_fails("no word", &words.replacen(' ', "q ", 1), 3, &["code_malformed"], LIMIT);
        self.join_fails("eleven words", &wrong_checksum.join(" "), 3, &["code_malformed"], LIMIT);
        Ok(())
    }

    fn codes_nobody_shows(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        self.join_fails("unknown code", &words, 4, &["not_found"], SEARCH_LIMIT);
        let mut lonely = self.world.device("carol", "lonely")?.bootstrap(Vec::new());
        lonely.start_daemon()?;
        let ended = ended_of(join(&lonely, &words, &["--yes"]), Instant::now());
        self.add("no bootstrap node configured", 4, &["no_bootstrap"], SEARCH_LIMIT, ended);
        lonely.stop()?;
        Ok(())
    }

    fn codes_that_are_over(&mut self) -> Result<()> {
        let offer = offer(&self.alice, &["--yes", "--ttl", SHORT_TTL])?;
        let expires = Instant::now() + Duration::from_secs(SHORT_TTL.parse()?);
        let words = self.initiator_fails("expired, initiator", offer, 5, &["code_expired"], expires);
        self.join_fails("expired, joiner", &words, 5, &["code_expired"], LIMIT);
        Ok(())
    }

    fn somebody_says_no(&mut self) -> Result<()> {
        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "reject", &offer.session])?;
        self.add("rejected by the initiator, joiner", 6, &["rejected"], LIMIT, ended_of(Ok(joining), start));
        self.initiator_fails("rejected by the initiator, initiator", offer, 6, &["rejected"], start);

        let (offer, joining) = self.at_the_question(&["--yes"], &[])?;
        joining.wait_event("approval_needed", PATIENCE)?;
        let start = Instant::now();
        answer(&self.bob, &["pair", "reject"])?;
        self.add("rejected by the joiner, joiner", 6, &["rejected"], LIMIT, ended_of(Ok(joining), start));
        self.initiator_fails("rejected by the joiner, initiator", offer, 6, &["rejected"], start);
        Ok(())
    }

    fn cancelled(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        let joining = join(&self.bob, &words, &["--yes"])?;
        std::thread::sleep(SEARCHING);
        let start = Instant::now();
        answer(&self.bob, &["pair", "cancel"])?;
        self.add("joiner cancels its search", 6, &["cancelled"], LIMIT, ended_of(Ok(joining), start));

        let offer = self.offer_published(&["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "cancel", &offer.session])?;
        let words = self.initiator_fails("cancelled before anybody came, initiator", offer, 6, &["cancelled"], start);
        self.join_fails("cancelled before anybody came, joiner", &words, 6, &["cancelled"], LIMIT);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "cancel", &offer.session])?;
        let causes = &["cancelled", "rejected"];
        self.add("cancelled at the question, joiner", 6, causes, LIMIT, ended_of(Ok(joining), start));
        self.initiator_fails("cancelled at the question, initiator", offer, 6, &["cancelled"], start);

        let offer = self.offer_published(&["--yes"])?;
        let start = Instant::now();
        offer.process.interrupt()?;
        let words = self.initiator_fails("interrupted, initiator", offer, 130, &["cancelled"], start);
        self.join_fails("interrupted, joiner", &words, 6, &["cancelled"], LIMIT);
        Ok(())
    }

    fn used(&mut self) -> Result<()> {
        let pairing = pair(&self.alice, &self.bob, self.gap)?;
        let mut carol = self.world.device("carol", "carol")?;
        carol.start_daemon()?;
        std::thread::sleep(self.gap);
        let ended = ended_of(join(&carol, &pairing.words, &["--yes"]), Instant::now());
        self.add("used by somebody else", 5, &["code_used"], LIMIT, ended);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let ended = ended_of(join(&carol, &offer.words, &["--yes"]), Instant::now());
        self.add("another joiner is asked about, nobody answers", 5, &["code_used"], SEARCH_LIMIT, ended);
        answer(&self.alice, &["pair", "reject", &offer.session])?;
        drop(joining);
        carol.stop()?;
        Ok(())
    }

    fn initiator_gone(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        self.alice.kill9();
        self.join_fails("initiator killed after showing the code", &offer.words, 8, &["unreachable"], LIMIT);
        drop(offer);
        self.alice.start_daemon()?;

        let offer = self.offer_published(&["--yes"])?;
        self.world.lab.host("alice")?.link().cut();
        self.join_fails("initiator's network gone", &offer.words, 8, &["unreachable"], LIMIT);
        self.world.lab.host("alice")?.link().restore();
        answer(&self.alice, &["pair", "cancel", &offer.session])?;
        drop(offer);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        self.alice.kill9();
        let causes = &["connection_lost", "timed_out"];
        self.add("initiator killed at the question", 9, causes, LIMIT, ended_of(Ok(joining), start));
        drop(offer);
        self.alice.start_daemon()?;
        Ok(())
    }

    fn dht_gone(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        let all: Vec<usize> = (0..self.world.dht.len()).collect();
        self.world.dht.kill9(&all);
        self.join_fails("every DHT node killed", &words, 4, &["no_bootstrap"], SEARCH_LIMIT);
        self.world.dht.restart_dead()
    }

    fn not_running(&mut self) -> Result<()> {
        let absent = self.world.device("carol", "absent")?;
        let start = Instant::now();
        let ended = ended_of(absent.spawn(&["pair", "status", "--json"], None), start);
        self.add("a command without its daemon", EXIT_NOT_RUNNING, &["not_running"], LIMIT, ended);
        Ok(())
    }

    /// A valid code that nobody shows.
    fn unknown_code(&mut self) -> Result<String> {
        let entropy: Vec<u8> = (0..16).map(|_| self.rng.next_u64().to_le_bytes()[7]).collect();
        words_of(&entropy)
    }

    /// A code whose record had time to get into the DHT.
    fn offer_published(&self, extra: &[&str]) -> Result<Offer> {
        let offer = offer(&self.alice, extra)?;
        std::thread::sleep(self.gap);
        Ok(offer)
    }

    /// Two commands that have got as far as the initiator's question.
    fn at_the_question(&self, initiator: &[&str], joiner: &[&str]) -> Result<(Offer, Running)> {
        let offer = self.offer_published(initiator)?;
        let joining = join(&self.bob, &offer.words, joiner)?;
        offer.process.wait_event("approval_needed", PATIENCE)?;
        Ok((offer, joining))
    }

    fn join_fails(
        &mut self,
        name: &'static str,
        words: &str,
        exit: i32,
        causes: &'static [&'static str],
        limit: Duration,
    ) {
        let ended = ended_of(join(&self.bob, words, &["--yes"]), Instant::now());
        self.add(name, exit, causes, limit, ended);
    }

    /// Waits for the initiator's command, which had to fail since `start`; gives the words back.
    fn initiator_fails(
        &mut self,
        name: &'static str,
        offer: Offer,
        exit: i32,
        causes: &'static [&'static str],
        start: Instant,
    ) -> String {
        let ended = ended_of(Ok(offer.process), start);
        self.add(name, exit, causes, LIMIT, ended);
        offer.words
    }

    fn add(
        &mut self,
        name: &'static str,
        exit: i32,
        causes: &'static [&'static str],
        limit: Duration,
        ended: Result<(Ending, Duration)>,
    ) {
        self.cases.push(Case { name, exit, causes, limit, ended });
    }
}

/// Waits for the end of a command; the time counts from `start`.
fn ended_of(process: Result<Running>, start: Instant) -> Result<(Ending, Duration)> {
    let process = process?;
    let end_of = |output: &Output, started: Instant| (started + output.elapsed).saturating_duration_since(start);
    let started = process.started();
    let output = process.finish(PATIENCE)?;
    Ok((Ending::of(&output), end_of(&output, started)))
}

/// Answers a session by a command of its own, as a second terminal would.
fn answer(device: &Device, args: &[&str]) -> Result<()> {
    // A session that ended before the answer came is judged by how it ended.
    device.run(args, None, COMMAND_LIMIT).map(drop)
}
