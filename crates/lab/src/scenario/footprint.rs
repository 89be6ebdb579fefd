//! Size, start time, memory and idle processor use (acceptance line 8).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Options, world::World};
use crate::device::{COMMAND_LIMIT, binary};
use crate::procfs::Sample;
use crate::report::Report;
use crate::stats::Summary;

/// Between the start and the measurement, so that what is done once is over: a device looks around in the DHT, and the
/// connections that this takes end 20 s later.
const SETTLE: Duration = Duration::from_secs(40);

/// How long idle programs are watched: 0.1 % of it is three ticks of the processor clock.
const WATCH: Duration = Duration::from_secs(30);

/// Limits for a device.
const RESIDENT_MAX: u64 = 20_000_000;
const CPU_SHARE_MAX: f64 = 0.001;

/// Measures the program; `runs` is how often its start is timed.
///
/// # Errors
/// When the lab cannot be made or a program does not start.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let mut report = Report::new("footprint", &["what", "value"]);
    let size = binary()?.metadata()?.len();
    report.row(vec!["program file".to_owned(), format!("{:.1} MB", size as f64 / 1e6)]);
    report.fact("binary_bytes", size);

    let (mut starts, mut versions) = (Vec::new(), Vec::new());
    for run in 0..options.runs {
        let mut device = world.device("bob", &format!("start-{run}"))?;
        let version = device.run(&["--version"], None, COMMAND_LIMIT)?;
        ensure!(version.status.success(), "--version ended with {}", version.status);
        versions.push(version.elapsed);
        starts.push(device.start_daemon()?);
        device.stop()?;
    }
    for (what, times) in [("start to answering on the control socket", &starts), ("handfast --version", &versions)] {
        let summary = Summary::of(times);
        let text = summary.map_or_else(|| "-".to_owned(), |summary| format!("{:.0} ms (median)", summary.median_ms));
        report.row(vec![what.to_owned(), text]);
        report.fact(what, summary);
    }

    let mut alice = world.device("alice", "alice")?;
    alice.start_daemon()?;
    std::thread::sleep(SETTLE);
    let pids = [("device", alice.daemon()?.pid()), ("serve node", world.dht.process(0)?.pid())];
    let start = Instant::now();
    let before = [Sample::of(pids[0].1)?, Sample::of(pids[1].1)?];
    std::thread::sleep(WATCH);
    for ((what, pid), before) in pids.into_iter().zip(before) {
        let after = Sample::of(pid)?;
        let share = before.cpu_share_until(&after, start.elapsed());
        let resident = after.resident_kib.max(before.resident_kib);
        report.row(vec![format!("{what}: resident"), format!("{:.1} MB", resident as f64 * 1.024e-3)]);
        report.row(vec![format!("{what}: idle processor"), format!("{:.3} %", share * 100.0)]);
        report.row(vec![format!("{what}: threads"), after.threads.to_string()]);
        report.row(vec![format!("{what}: descriptors"), after.descriptors.to_string()]);
        report.fact(what, after);
        report.fact(&format!("{what} idle cpu share"), share);
        if what == "device" && options.limits {
            let seen = format!("{resident} KiB");
            report.check("a device has at most 20 MB resident", resident * 1024 <= RESIDENT_MAX, seen);
            let seen = format!("{:.3} %", share * 100.0);
            report.check("an idle device uses at most 0.1 % of a processor", share <= CPU_SHARE_MAX + 1e-9, seen);
        }
    }
    Ok(report)
}
