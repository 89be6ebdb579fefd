//! Faults of codes and people, and devices that go away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use handfast_proto::limits;

use super::super::pairing::{join, offer, pair};
use super::super::world::World;
use super::bench::{Bench, Expected, LIMIT, PATIENCE, SEARCH_LIMIT, answer, ended_of, enter_again};
use crate::device::EXIT_NOT_RUNNING;

/// The shortest life of a code.
const SHORT_TTL: &str = "5";

/// How long a joiner has searched when it is cancelled.
const SEARCHING: Duration = Duration::from_secs(2);

impl Bench {
    pub(super) fn codes_that_cannot_be_right(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        let words = offer.words.clone();
        let mut wrong_checksum: Vec<&str> = words.split(' ').collect();
        let right = wrong_checksum.pop().context("a code has words")?;
        // Of all last words one in 16 fits the other eleven: among these there is one that does not.
        let candidates = ["abandon", "legal", "winner", "yellow", "zoo"].into_iter().filter(|word| *word != right);
        let broken = candidates
            .map(|last| [wrong_checksum.as_slice(), &[last]].concat().join(" "))
            .find(|words| crate::secrets::entropy_of(words).is_err())
            .context("a last word with a wrong checksum")?;
        self.join_fails("wrong checksum", &broken, Expected(3, &["code_malformed"]), LIMIT);
        self.join_fails("no word", &words.replacen(' ', "q ", 1), Expected(3, &["code_malformed"]), LIMIT);
        self.join_fails("eleven words", &wrong_checksum.join(" "), Expected(3, &["code_malformed"]), LIMIT);
        let damaged = offer.qr.replacen(&offer.qr[20..21], if offer.qr[20..21] == *"A" { "B" } else { "A" }, 1);
        self.join_fails("damaged QR text", &damaged, Expected(3, &["code_malformed"]), LIMIT);
        let paired = enter_again(&self.bob, offer, &words);
        self.cases.follow("the code entered right", paired);
        Ok(())
    }

    pub(super) fn codes_nobody_shows(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        self.join_fails("unknown code", &words, Expected(4, &["not_found"]), SEARCH_LIMIT);
        Ok(())
    }

    pub(super) fn no_bootstrap(&mut self) -> Result<()> {
        let carol = self.hosts.carol.clone();
        let offer = self.offer_published(&["--yes"])?;
        let words = offer.words.clone();
        let mut right = self.device(&carol, "right")?;
        let mut lonely = self.device(&carol, "lonely")?.bootstrap(Vec::new());
        lonely.start_daemon()?;
        let ended = ended_of(join(&lonely, &words, &["--yes"]), Instant::now());
        self.cases.add("no bootstrap node configured", Expected(4, &["no_bootstrap"]), SEARCH_LIMIT, ended);
        lonely.stop()?;
        // An address at which no node is.
        let node = node_of(self.bootstrap().first().context("there are nodes")?)?.to_owned();
        let wrong = format!("/ip4/{}/tcp/4001/p2p/{node}", self.hosts.bob.ipv4());
        let mut misled = self.device(&carol, "misled")?.bootstrap(vec![wrong]);
        misled.start_daemon()?;
        let ended = ended_of(join(&misled, &words, &["--yes"]), Instant::now());
        self.cases.add("nobody at the bootstrap node's address", Expected(4, &["no_bootstrap"]), SEARCH_LIMIT, ended);
        misled.stop()?;
        right.start_daemon()?;
        let paired = enter_again(&right, offer, &words);
        self.cases.follow("a running node named, same code", paired);
        right.stop()?;
        Ok(())
    }

    pub(super) fn codes_that_are_over(&mut self) -> Result<()> {
        let offer = offer(&self.alice, &["--yes", "--ttl", SHORT_TTL])?;
        let expires = Instant::now() + Duration::from_secs(SHORT_TTL.parse()?);
        let words = self.initiator_fails("expired, initiator", offer, Expected(5, &["code_expired"]), expires);
        self.join_fails("expired, joiner", &words, Expected(5, &["code_expired"]), LIMIT);
        Ok(())
    }

    pub(super) fn somebody_says_no(&mut self) -> Result<()> {
        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "reject", &offer.session])?;
        self.cases.add(
            "rejected by the initiator, joiner",
            Expected(6, &["rejected"]),
            LIMIT,
            ended_of(Ok(joining), start),
        );
        self.initiator_fails("rejected by the initiator, initiator", offer, Expected(6, &["rejected"]), start);

        let (offer, joining) = self.at_the_question(&["--yes"], &[])?;
        let asked = joining.wait_event("approval_needed", PATIENCE)?;
        let start = Instant::now();
        answer(&self.bob, &["pair", "reject", asked.text("session")?])?;
        self.cases.add(
            "rejected by the joiner, joiner",
            Expected(6, &["rejected"]),
            LIMIT,
            ended_of(Ok(joining), start),
        );
        self.initiator_fails("rejected by the joiner, initiator", offer, Expected(6, &["rejected"]), start);
        Ok(())
    }

    pub(super) fn cancelled(&mut self) -> Result<()> {
        let words = self.unknown_code()?;
        let joining = join(&self.bob, &words, &["--yes"])?;
        std::thread::sleep(SEARCHING);
        let start = Instant::now();
        answer(&self.bob, &["pair", "cancel"])?;
        self.cases.add("joiner cancels its search", Expected(6, &["cancelled"]), LIMIT, ended_of(Ok(joining), start));

        let offer = self.offer_published(&["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "cancel", &offer.session])?;
        let words =
            self.initiator_fails("cancelled before anybody came, initiator", offer, Expected(6, &["cancelled"]), start);
        self.join_fails("cancelled before anybody came, joiner", &words, Expected(6, &["cancelled"]), LIMIT);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        answer(&self.alice, &["pair", "cancel", &offer.session])?;
        let causes = &["cancelled", "rejected"];
        self.cases.add("cancelled at the question, joiner", Expected(6, causes), LIMIT, ended_of(Ok(joining), start));
        self.initiator_fails("cancelled at the question, initiator", offer, Expected(6, &["cancelled"]), start);

        let offer = self.offer_published(&["--yes"])?;
        let start = Instant::now();
        offer.process.interrupt()?;
        let words = self.initiator_fails("interrupted, initiator", offer, Expected(130, &["cancelled"]), start);
        self.join_fails("interrupted, joiner", &words, Expected(6, &["cancelled"]), LIMIT);
        Ok(())
    }

    pub(super) fn used(&mut self) -> Result<()> {
        let pairing = pair(&self.alice, &self.bob, self.gap)?;
        let host = self.hosts.carol.clone();
        let mut carol = self.device(&host, "carol")?;
        carol.start_daemon()?;
        std::thread::sleep(self.gap);
        let ended = ended_of(join(&carol, &pairing.words, &["--yes"]), Instant::now());
        self.cases.add("used by somebody else", Expected(5, &["code_used"]), LIMIT, ended);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let ended = ended_of(join(&carol, &offer.words, &["--yes"]), Instant::now());
        self.cases.add(
            "another joiner is asked about, nobody answers",
            Expected(5, &["code_used"]),
            SEARCH_LIMIT,
            ended,
        );
        answer(&self.alice, &["pair", "reject", &offer.session])?;
        drop(joining);
        carol.stop()?;
        Ok(())
    }

    pub(super) fn initiator_gone(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        self.alice.kill9();
        self.join_fails("initiator killed after showing the code", &offer.words, Expected(8, &["unreachable"]), LIMIT);
        drop(offer);
        self.alice.start_daemon()?;
        let paired = pair(&self.alice, &self.bob, self.gap).map(drop);
        self.cases.follow("started, a new code", paired);

        let offer = self.offer_published(&["--yes"])?;
        let words = offer.words.clone();
        self.hosts.alice.link().cut();
        self.join_fails("initiator's network gone", &words, Expected(8, &["unreachable"]), LIMIT);
        self.hosts.alice.link().restore();
        let paired = enter_again(&self.bob, offer, &words);
        self.cases.follow("back, same code", paired);

        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        self.alice.kill9();
        let causes = &["connection_lost", "timed_out"];
        self.cases.add("initiator killed at the question", Expected(9, causes), LIMIT, ended_of(Ok(joining), start));
        drop(offer);
        self.alice.start_daemon()?;
        Ok(())
    }

    pub(super) fn differing_emoji(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--verify"])?;
        let joining = join(&self.bob, &offer.words, &["--verify"])?;
        offer.process.wait_event("comparison_needed", PATIENCE)?;
        let asked = joining.wait_event("comparison_needed", PATIENCE)?;
        let start = Instant::now();
        answer(&self.bob, &["pair", "accept", "--emoji-differ", asked.text("session")?])?;
        let expected = Expected(7, &["authentication_failed"]);
        self.cases.add("the emoji differ, joiner", expected, LIMIT, ended_of(Ok(joining), start));
        self.initiator_fails("the emoji differ, initiator", offer, expected, start);
        Ok(())
    }

    /// Takes the two minutes that a person has.
    pub(super) fn silence(&mut self) -> Result<()> {
        let (offer, joining) = self.at_the_question(&[], &["--yes"])?;
        let start = Instant::now();
        let limit = limits::QUESTION + LIMIT;
        for (name, process) in
            [("silence at the question, joiner", joining), ("silence at the question, initiator", offer.process)]
        {
            process.wait_event("pairing_failed", limit).context(name)?;
            self.cases.add(name, Expected(9, &["timed_out"]), limit, ended_of(Ok(process), start));
        }
        Ok(())
    }

    pub(super) fn other_version(&mut self) -> Result<()> {
        let offer = self.offer_published(&["--yes"])?;
        // The first character after the prefix has the version in its upper four bits.
        let later = offer.qr.replacen("HANDFAST:C", "HANDFAST:E", 1);
        self.join_fails("QR text of a later version", &later, Expected(12, &["version_mismatch"]), LIMIT);
        self.cases.no_way();
        answer(&self.alice, &["pair", "cancel", &offer.session])
    }

    pub(super) fn not_running(&mut self) -> Result<()> {
        let host = self.hosts.carol.clone();
        let mut absent = self.device(&host, "absent")?;
        let start = Instant::now();
        let ended = ended_of(absent.spawn(&["pair", "status", "--json"], None), start);
        self.cases.add("a command without its daemon", Expected(EXIT_NOT_RUNNING, &["not_running"]), LIMIT, ended);
        absent.start_daemon()?;
        let start = Instant::now();
        let ended = ended_of(absent.spawn(&["start", "--foreground", "--json"], None), start);
        let expected = Expected(EXIT_NOT_RUNNING, &["already_running"]);
        self.cases.add("started twice", expected, LIMIT, ended);
        let paired = pair(&self.alice, &absent, self.gap).map(drop);
        self.cases.follow("started once", paired);
        absent.stop()?;
        Ok(())
    }
}

/// The node's id in its address.
fn node_of(address: &str) -> Result<&str> {
    address.rsplit_once("/p2p/").map(|(_, id)| id).with_context(|| format!("{address} names no node"))
}

/// Kills every node; for nobody else is anything played meanwhile.
pub(super) fn dht_gone(world: &mut World, bench: &mut Bench) -> Result<()> {
    bench.ready()?;
    let offer = bench.offer_published(&["--yes"])?;
    let words = offer.words.clone();
    let all: Vec<usize> = (0..world.dht.len()).collect();
    world.dht.kill9(&all);
    bench.join_fails("every DHT node killed", &words, Expected(4, &["no_bootstrap"]), SEARCH_LIMIT);
    world.dht.restart_dead()?;
    let paired = enter_again(&bench.bob, offer, &words);
    bench.cases.follow("nodes back, same code", paired);
    Ok(())
}
