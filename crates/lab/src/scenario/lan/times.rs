//! How long a pairing takes on one network: with daemons, without, and where multicast is dropped.

use std::time::Duration;

use anyhow::Result;

use super::super::Options;
use super::super::pairing::{self, Pairing, check_mutual, join, offer, pair_cold, report_times_of};
use super::{Form, running_pair};
use crate::device::Device;
use crate::lan::{LanLab, Profile};
use crate::report::Report;
use crate::stats::Summary;

/// With daemons that run nothing is left to wait for but the handshake and two writes to disk.
const WARM_MEDIAN: Duration = Duration::from_millis(60);
const WARM_P95: Duration = Duration::from_millis(150);

/// Two commands that start a device first.
const COLD_P95: Duration = Duration::from_millis(600);

/// A QR text names an address: no multicast is needed.
const BLOCKED_QR_P95: Duration = Duration::from_millis(300);

/// Words need a sweep, which begins after half a second and takes a little more than one.
const BLOCKED_WORDS_P95: Duration = Duration::from_secs(3);

/// What the times of one form of a code may be at most.
struct Limits {
    form: Form,
    median: Option<Duration>,
    p95: Duration,
}

type Once = fn(&LanLab, usize, Form, Duration) -> Result<Pairing>;

/// Pairings on [`Profile::Lan`] with daemons that run, by words and by QR text, `runs` each.
///
/// # Errors
/// When the lab cannot be made; a failed pairing is a failed check.
pub fn pairings(options: &Options) -> Result<Report> {
    let limits = Form::ALL.map(|form| Limits { form, median: Some(WARM_MEDIAN), p95: WARM_P95 });
    measure("pairings on one network, daemons running", Profile::Lan, options, &limits, warm)
}

/// Pairings on [`Profile::Lan`] by two plain commands, by words and by QR text, `runs` each.
///
/// # Errors
/// When the lab cannot be made; a failed pairing is a failed check.
pub fn cold(options: &Options) -> Result<Report> {
    let limits = Form::ALL.map(|form| Limits { form, median: None, p95: COLD_P95 });
    measure("pairings on one network, two plain commands", Profile::Lan, options, &limits, without_daemons)
}

/// Pairings on [`Profile::LanNomcast`] with daemons that run, by words and by QR text, `runs` each.
///
/// # Errors
/// When the lab cannot be made; a failed pairing is a failed check.
pub fn blocked(options: &Options) -> Result<Report> {
    let limits = [
        Limits { form: Form::Words, median: None, p95: BLOCKED_WORDS_P95 },
        Limits { form: Form::Qr, median: None, p95: BLOCKED_QR_P95 },
    ];
    measure("pairings where multicast is dropped, daemons running", Profile::LanNomcast, options, &limits, warm)
}

fn measure(title: &str, profile: Profile, options: &Options, all: &[Limits], once: Once) -> Result<Report> {
    let lab = LanLab::build(profile)?;
    let mut report = Report::of_local_times(title);
    for (group, limits) in all.iter().enumerate() {
        let (mut pairings, mut errors) = (Vec::new(), Vec::new());
        for run in 0..options.runs {
            match once(&lab, group * options.runs + run, limits.form, options.gap) {
                Ok(pairing) => pairings.push(pairing),
                Err(error) => errors.push(format!("run {run}: {error:#}")),
            }
        }
        let form = limits.form.name();
        report_times_of(&mut report, &format!("{form}: "), &pairings);
        let seen = format!("{} of {} {}", pairings.len(), options.runs, errors.join("; "));
        let what = format!("{form}: every run pairs, both list the other with the same id, name and fingerprint");
        report.check(&what, errors.is_empty(), seen);
        if options.limits {
            check(&mut report, limits, &pairings);
        }
    }
    report.fact("gap_ms", options.gap.as_millis());
    Ok(report)
}

fn check(report: &mut Report, limits: &Limits, pairings: &[Pairing]) {
    let times: Vec<Duration> = pairings.iter().map(Pairing::both).collect();
    let Some(summary) = Summary::of(&times) else { return };
    let bounds = [("median", limits.median, summary.median_ms), ("p95", Some(limits.p95), summary.p95_ms)];
    for (name, limit, ms) in bounds {
        if let Some(limit) = limit {
            let what = format!("{}: {name} at most {limit:?}", limits.form.name());
            report.check(&what, ms <= limit.as_secs_f64() * 1e3, format!("{ms:.1} ms"));
        }
    }
}

fn warm(lab: &LanLab, run: usize, form: Form, gap: Duration) -> Result<Pairing> {
    let (mut alice, mut bob) = running_pair(lab, run, std::convert::identity)?;
    let offer = offer(&alice, &["--yes"])?;
    std::thread::sleep(gap);
    let code = form.of(&offer).to_owned();
    let pairing = pairing::finish(offer, |_| join(&bob, &code, &["--yes"]))?;
    check_mutual(&alice, &bob)?;
    alice.stop()?;
    bob.stop()?;
    Ok(pairing)
}

fn without_daemons(lab: &LanLab, run: usize, form: Form, gap: Duration) -> Result<Pairing> {
    // The commands take no name, so the check afterwards must not give one either.
    let mut alice = Device::new(&lab.host("alice")?, &format!("alice-{run}"))?.unnamed();
    let mut bob = Device::new(&lab.host("bob")?, &format!("bob-{run}"))?.unnamed();
    let pairing = match form {
        Form::Words => pair_cold(&alice, &bob, gap)?,
        Form::Qr => {
            let offer = offer(&alice, &["--yes"])?;
            std::thread::sleep(gap);
            let code = offer.qr.clone();
            pairing::finish(offer, |_| join(&bob, &code, &["--yes"]))?
        }
    };
    alice.start_daemon()?;
    bob.start_daemon()?;
    check_mutual(&alice, &bob)?;
    alice.stop()?;
    bob.stop()?;
    Ok(pairing)
}
