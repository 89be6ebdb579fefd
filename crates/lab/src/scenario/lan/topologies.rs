//! Every local network, by words and by QR text: two devices pair wherever a path exists that a finder can find, and
//! otherwise end with the cause that is named here, in time (acceptance line 1).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::super::Options;
use super::super::pairing::{Ending, check_mutual, join, offer};
use super::{Form, running_pair};
use crate::device::COMMAND_LIMIT;
use crate::lan::{LanLab, Profile};
use crate::process::{Line, Running};
use crate::report::Report;
use crate::stats::Summary;

/// A search that finds nothing is over after 30 s; what was found and does not connect, sooner.
const END_LIMIT: Duration = Duration::from_secs(35);

/// What is known to be wrong is said by then.
const TROUBLE_LIMIT: Duration = Duration::from_secs(10);

/// How long a command is watched beyond its limit, to tell late from never.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs of a cell that must fail are side by side: each of them mostly waits.
const SIDE_BY_SIDE: usize = 10;

/// How an attempt must end.
struct Expected {
    /// Paired, over one of these paths; none if it cannot.
    paths: &'static [&'static str],
    /// Not paired, with this exit code and one of these causes; none if it must pair.
    failure: Option<(i32, &'static [&'static str])>,
}

/// Nobody is found: the finders that could have are not there.
const NOT_FOUND: (i32, &[&str]) = (4, &["not_found", "no_bootstrap", "multicast_blocked"]);

const fn expected(profile: Profile, form: Form) -> Expected {
    const PAIRS: Expected = Expected { paths: &["lan"], failure: None };
    match (profile, form) {
        // Words name no address, and nothing that finds by itself crosses a router.
        (Profile::Routed, Form::Words) => Expected { paths: &[], failure: Some(NOT_FOUND) },
        (Profile::Routed, Form::Qr) => Expected { paths: &["direct"], failure: None },
        (Profile::ClientIsolation, Form::Words) => Expected { paths: &[], failure: Some(NOT_FOUND) },
        (Profile::ClientIsolation, Form::Qr) => {
            Expected { paths: &[], failure: Some((8, &["ap_isolation", "unreachable"])) }
        }
        // The second address in the text is that of the telephone's way out: it is reached through the telephone as well.
        (Profile::Hotspot, Form::Qr) => Expected { paths: &["lan", "direct"], failure: None },
        // 65,534 hosts are not asked one by one.
        (Profile::LanWide, Form::Words) => Expected { paths: &["lan"], failure: Some(NOT_FOUND) },
        (
            Profile::Lan
            | Profile::LanOffline
            | Profile::LanNomcast
            | Profile::LanNomcastOnewayA
            | Profile::LanNomcastOnewayB
            | Profile::LanV6
            | Profile::LanMultiNic
            | Profile::FirewallA
            | Profile::FirewallB,
            Form::Words | Form::Qr,
        )
        | (Profile::Hotspot, Form::Words)
        | (Profile::LanWide, Form::Qr) => PAIRS,
    }
}

/// How an attempt ended as it must.
struct Attempt {
    /// From the start of `pair join` until both sides had stored the other, or until it ended.
    took: Duration,
    found_by: Option<String>,
    path: Option<String>,
    ending: Ending,
    /// When the joiner first said that something is wrong.
    warned: Option<Duration>,
}

/// Tries every profile of `only` (all if it names none) with both forms of a code, `runs` times each.
///
/// # Errors
/// When a lab cannot be made; an attempt that ends otherwise than it must is a failed check.
pub fn run(options: &Options, only: &[String]) -> Result<Report> {
    let columns =
        ["profile", "code", "ok", "median ms", "p95 ms", "found by", "path", "ended", "warned after ms (latest)"];
    let mut report = Report::new("local networks, daemons running", &columns);
    for profile in Profile::ALL {
        if only.is_empty() || only.iter().any(|name| name == profile.name()) {
            let lab = LanLab::build(profile)?;
            for (group, form) in Form::ALL.into_iter().enumerate() {
                cell(&lab, form, group * options.runs, options, &mut report);
            }
        }
    }
    Ok(report)
}

fn cell(lab: &LanLab, form: Form, first: usize, options: &Options, report: &mut Report) {
    let expected = expected(lab.profile(), form);
    let parallel = if expected.paths.is_empty() { SIDE_BY_SIDE } else { 1 };
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    let runs: Vec<usize> = (first..first + options.runs).collect();
    for chunk in runs.chunks(parallel) {
        let ended: Vec<(usize, Result<Attempt>)> = std::thread::scope(|scope| {
            let started: Vec<_> = chunk
                .iter()
                .map(|run| (*run, scope.spawn(|| attempt(lab, *run, form, &expected, options.gap))))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Attempt>>| match thread.join() {
                Ok(ended) => ended,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            started.into_iter().map(|(run, thread)| (run, join(thread))).collect()
        });
        for (run, ended) in ended {
            match ended {
                Ok(attempt) => done.push(attempt),
                Err(error) => errors.push(format!("run {}: {error:#}", run - first)),
            }
        }
    }
    let summary = Summary::of(&done.iter().map(|attempt| attempt.took).collect::<Vec<_>>());
    let ms = |of: fn(&Summary) -> f64| summary.as_ref().map_or_else(|| "-".to_owned(), |s| format!("{:.1}", of(s)));
    let warned = done.iter().filter_map(|attempt| attempt.warned).max();
    report.row(vec![
        lab.profile().name().to_owned(),
        form.name().to_owned(),
        format!("{}/{}", done.len(), options.runs),
        ms(|s| s.median_ms),
        ms(|s| s.p95_ms),
        names(done.iter().map(|attempt| attempt.found_by.clone())),
        names(done.iter().map(|attempt| attempt.path.clone())),
        names(done.iter().map(|attempt| Some(attempt.ending.to_string()))),
        warned.map_or_else(|| "-".to_owned(), |after| after.as_millis().to_string()),
    ]);
    let what = format!("{} by {}: {}", lab.profile().name(), form.name(), describe(&expected));
    let seen = format!("{} of {} {}", done.len(), options.runs, errors.join("; "));
    report.check(&what, errors.is_empty(), seen);
}

/// The different values, in alphabetical order.
fn names(values: impl Iterator<Item = Option<String>>) -> String {
    let all: BTreeSet<String> = values.flatten().collect();
    if all.is_empty() { "-".to_owned() } else { all.into_iter().collect::<Vec<_>>().join(", ") }
}

fn describe(expected: &Expected) -> String {
    let pairs = (!expected.paths.is_empty()).then(|| format!("pairs ({})", expected.paths.join(", ")));
    let fails = expected.failure.map(|(exit, causes)| {
        format!("ends with {exit} ({}) in {} s, and warns before", causes.join(", "), END_LIMIT.as_secs())
    });
    pairs.into_iter().chain(fails).collect::<Vec<_>>().join(" or ")
}

fn attempt(lab: &LanLab, run: usize, form: Form, expected: &Expected, gap: Duration) -> Result<Attempt> {
    let (mut alice, mut bob) = running_pair(lab, run, std::convert::identity)?;
    let offer = offer(&alice, &["--yes"])?;
    std::thread::sleep(gap);
    let joining = join(&bob, form.of(&offer), &["--yes"])?;
    joining.wait_line(PATIENCE, is_end).context("the joiner does not end")?;
    let text =
        |event: &str, field: &str| joining.event(event).and_then(|event| event.text(field).map(str::to_owned).ok());
    let (found_by, path) = (text("session_discovered", "found_by"), text("connected", "path"));
    let start = joining.started();
    let paired_at = joining.event("paired").map(|event| event.at);
    let warned = joining.event("trouble_noticed").map(|event| event.at.saturating_duration_since(start));
    let output = joining.finish(COMMAND_LIMIT)?;
    let ending = Ending::of(&output);
    ensure!(ending.told == 1, "the joiner told its end {} times: {}", ending.told, output.stdout.trim());

    let Some(paired_at) = paired_at else {
        let took = output.elapsed;
        check_failure(expected, &ending, took, warned).with_context(|| output.stdout.trim().to_owned())?;
        alice.run(&["pair", "cancel", &offer.session], None, COMMAND_LIMIT)?;
        alice.stop()?;
        bob.stop()?;
        return Ok(Attempt { took, found_by, path, ending, warned });
    };
    let by_initiator = offer.process.wait_event("paired", PATIENCE).context("the initiator")?.at;
    let path = path.context("no event connected")?;
    ensure!(expected.paths.contains(&path.as_str()), "paired over {path}");
    ensure!(ending.exit == Some(0), "the joiner paired and ended with {ending}");
    finish_initiator(offer.process)?;
    check_mutual(&alice, &bob)?;
    alice.stop()?;
    bob.stop()?;
    let took = paired_at.max(by_initiator).saturating_duration_since(start);
    Ok(Attempt { took, found_by, path: Some(path), ending, warned })
}

/// The last line of a session.
fn is_end(line: &Line) -> Option<()> {
    let event: Value = serde_json::from_str(&line.text).ok()?;
    (event["event"] == "paired" || event["event"] == "pairing_failed").then_some(())
}

fn finish_initiator(process: Running) -> Result<()> {
    let output = process.finish(COMMAND_LIMIT)?;
    ensure!(output.status.success(), "the initiator paired and ended with {}", output.status);
    Ok(())
}

fn check_failure(expected: &Expected, ending: &Ending, took: Duration, warned: Option<Duration>) -> Result<()> {
    let Some((exit, causes)) = expected.failure else { bail!("not paired: {ending} after {took:?}") };
    let is_named = ending.cause.as_deref().is_some_and(|cause| causes.contains(&cause));
    ensure!(ending.exit == Some(exit) && is_named, "ended with {ending} after {took:?}");
    ensure!(took <= END_LIMIT, "ended only after {took:?}");
    let known = warned.unwrap_or(took);
    ensure!(known <= TROUBLE_LIMIT, "said nothing for {known:?}");
    Ok(())
}
