//! One pairing by words between two devices, measured from outside.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::device::Device;
use crate::process::{Line, Output, Running};
use crate::report::Report;
use crate::stats::Summary;

/// How long the words may take to appear (requirement B43 says 1 s; a debug build on a busy machine is slower).
const WORDS_LIMIT: Duration = Duration::from_secs(10);

/// How long a pairing may take before it counts as failed.
const PAIRING_LIMIT: Duration = Duration::from_secs(60);

/// Phases of the joiner, each ended by the event of that name.
const PHASES: [(&str, &str); 4] = [
    ("found the initiator", "session_discovered"),
    ("connected", "connected"),
    ("both keys proven", "approval_needed"),
    ("stored by joiner", "paired"),
];

/// A shown code.
pub struct Offer {
    /// `pair generate`, which waits.
    pub process: Running,
    /// The twelve words.
    pub words: String,
    /// The same code as a QR text.
    pub qr: String,
    /// The session's name.
    pub session: String,
}

/// How a pairing went, all times from the start of `pair join`.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// The words that were used.
    pub words: String,
    /// The path on which the joiner was when it had stored the initiator.
    pub path: String,
    /// How long each phase of the joiner took whose event came.
    pub phases: Vec<(&'static str, Duration)>,
    /// Until the joiner said `paired`.
    pub joiner: Duration,
    /// Until the initiator said `paired`.
    pub initiator: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its exit code; a program killed by a signal has none.
    pub exit: Option<i32>,
    /// The cause in its last `pairing_failed` or `error` event.
    pub cause: Option<String>,
    /// How often it said that it was over: exactly once is right.
    pub told: usize,
}

impl Pairing {
    /// Until both sides have stored the other.
    #[must_use]
    pub fn both(&self) -> Duration {
        self.joiner.max(self.initiator)
    }
}

impl Ending {
    /// Reads it from what the command printed with `--json`.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let mut causes = Vec::new();
        let mut paired = 0;
        for event in output.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            match event.get("event").and_then(Value::as_str) {
                Some("pairing_failed" | "error") => {
                    causes.push(event.get("cause").and_then(Value::as_str).map(str::to_owned));
                }
                Some("paired") => paired += 1,
                _ => {}
            }
        }
        let told = causes.len() + paired;
        Self { exit: output.code(), cause: causes.pop().flatten(), told }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exit = self.exit.map_or_else(|| "signal".to_owned(), |exit| exit.to_string());
        write!(f, "{exit} {}", self.cause.as_deref().unwrap_or("-"))
    }
}

/// Shows a code on `device`; `extra` goes to `pair generate --json`.
///
/// # Errors
/// When no code appears.
pub fn offer(device: &Device, extra: &[&str]) -> Result<Offer> {
    let mut args = vec!["pair", "generate", "--json"];
    args.extend_from_slice(extra);
    let process = device.spawn(&args, None)?;
    let created = process.wait_event("code_created", WORDS_LIMIT)?;
    let words = created.text("words")?.to_owned();
    ensure!(words.split_whitespace().count() == 12, "a code has 12 words");
    let (qr, session) = (created.text("qr")?.to_owned(), created.text("session")?.to_owned());
    Ok(Offer { process, words, qr, session })
}

/// Enters a code on `device` through stdin; `extra` goes to `pair join - --json`.
///
/// # Errors
/// When the command cannot be started.
pub fn join(device: &Device, words: &str, extra: &[&str]) -> Result<Running> {
    let mut args = vec!["pair", "join", "-", "--json"];
    args.extend_from_slice(extra);
    device.spawn(&args, Some(&format!("{words}\n")))
}

/// Pairs two devices whose daemons run, `gap` between words and their entry.
///
/// # Errors
/// When they do not get paired.
pub fn pair(initiator: &Device, joiner: &Device, gap: Duration) -> Result<Pairing> {
    let offer = offer(initiator, &["--yes"])?;
    std::thread::sleep(gap);
    finish(offer, |words| join(joiner, words, &["--yes"]))
}

/// Pairs two devices of which neither runs: two plain commands that run the device themselves.
///
/// # Errors
/// When they do not get paired.
pub fn pair_cold(initiator: &Device, joiner: &Device, gap: Duration) -> Result<Pairing> {
    let offer = offer(initiator, &[vec!["--yes"], initiator.network_options()].concat())?;
    std::thread::sleep(gap);
    finish(offer, |words| join(joiner, words, &[vec!["--yes"], joiner.network_options()].concat()))
}

/// Ends a pairing that was begun by [`offer`].
///
/// # Errors
/// When the two do not get paired.
pub fn finish(offer: Offer, join: impl FnOnce(&str) -> Result<Running>) -> Result<Pairing> {
    let joining = join(&offer.words)?;
    let start = joining.started();
    let by_joiner = joining.wait_event("paired", PAIRING_LIMIT).context("the joiner")?;
    let by_initiator = offer.process.wait_event("paired", PAIRING_LIMIT).context("the initiator")?;
    let mut phases = Vec::new();
    let mut last = start;
    for (phase, event) in PHASES {
        if let Some(event) = joining.event(event) {
            phases.push((phase, event.at.saturating_duration_since(last)));
            last = event.at;
        }
    }
    let pairing = Pairing {
        words: offer.words,
        path: by_joiner.text("path")?.to_owned(),
        phases,
        joiner: since(start, by_joiner.at),
        initiator: since(start, by_initiator.at),
    };
    for (side, process) in [("joiner", joining), ("initiator", offer.process)] {
        let output = process.finish(PAIRING_LIMIT)?;
        ensure!(output.status.success(), "the {side} paired but ended with {}", output.status);
    }
    Ok(pairing)
}

/// Do both daemons list each other, once, with the same id and name, and the fingerprint that belongs to the id?
///
/// # Errors
/// With what differs.
pub fn check_mutual(one: &Device, other: &Device) -> Result<()> {
    for (device, peer) in [(one, other), (other, one)] {
        let (listed, truth) = (device.devices()?, peer.status()?);
        ensure!(listed.len() == 1, "one paired device expected, listed are {listed:?}");
        let entry = &listed[0];
        ensure!(entry.id == truth.id, "listed id {} is not {}", entry.id, truth.id);
        ensure!(entry.name == truth.name, "listed name {} is not {}", entry.name, truth.name);
        let shown: String = entry.fingerprint.chars().filter(char::is_ascii_alphanumeric).collect();
        let expected: String = truth.id.chars().take(20).collect::<String>().to_uppercase();
        ensure!(shown == expected, "fingerprint {} does not belong to id {}", entry.fingerprint, truth.id);
    }
    Ok(())
}

/// Adds the times of all pairings to a report, phase by phase.
pub fn report_times(report: &mut Report, pairings: &[Pairing]) {
    report_times_of(report, "", pairings);
}

/// As [`report_times`], with the name of each row behind `prefix`.
pub fn report_times_of(report: &mut Report, prefix: &str, pairings: &[Pairing]) {
    for (phase, _) in PHASES {
        let times: Vec<Duration> = pairings
            .iter()
            .filter_map(|pairing| pairing.phases.iter().find(|(name, _)| *name == phase).map(|(_, time)| *time))
            .collect();
        report.times(&format!("{prefix}{phase}"), Summary::of(&times));
    }
    let times = |of: fn(&Pairing) -> Duration| Summary::of(&pairings.iter().map(of).collect::<Vec<_>>());
    report.times(&format!("{prefix}join to joiner paired"), times(|pairing| pairing.joiner));
    report.times(&format!("{prefix}join to initiator paired"), times(|pairing| pairing.initiator));
    report.times(&format!("{prefix}join to both paired"), times(Pairing::both));
}

/// Adds how many runs paired.
pub fn check_runs(report: &mut Report, runs: usize, pairings: &[Pairing], errors: &[String]) {
    let seen = format!("{} of {runs} {}", pairings.len(), errors.join("; "));
    report.check(
        "every run pairs, both list the other with the same id, name and fingerprint",
        errors.is_empty(),
        seen,
    );
}

/// Adds the check that median and 95th percentile of the pairings are within limits.
pub fn check_limits(report: &mut Report, pairings: &[Pairing], median: Duration, p95: Duration) {
    let times: Vec<Duration> = pairings.iter().map(Pairing::both).collect();
    let Some(summary) = Summary::of(&times) else { return };
    let holds = |ms: f64, limit: Duration| ms <= limit.as_secs_f64() * 1e3;
    let text = |ms: f64| format!("{ms:.1} ms");
    report.check(&format!("median at most {median:?}"), holds(summary.median_ms, median), text(summary.median_ms));
    report.check(&format!("p95 at most {p95:?}"), holds(summary.p95_ms, p95), text(summary.p95_ms));
}

fn since(start: Instant, end: Instant) -> Duration {
    end.saturating_duration_since(start)
}

/// When a link became direct, of which these are the events, if it did until `deadline`: by a change of its path, or before
/// the two had proved themselves on it.
#[must_use]
pub fn became_direct(events: &Running, deadline: Instant) -> Option<Instant> {
    events.wait_line(deadline.saturating_duration_since(Instant::now()), is_direct_now).ok()
}

fn is_direct_now(line: &Line) -> Option<Instant> {
    let event: Value = serde_json::from_str(&line.text).ok()?;
    let changed = event["event"] == "path_changed" && event["to"] == "direct";
    let began = event["event"] == "device_connected" && event["path"] == "direct";
    (changed || began).then_some(line.at)
}
