//! Many failures in a row leave nothing behind in the two daemons (acceptance line 5, requirement B26).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::pairing::{Ending, join, offer};
use super::{Options, world::World};
use crate::device::{COMMAND_LIMIT, Device};
use crate::files;
use crate::process::Running;
use crate::procfs::Sample;
use crate::report::Report;
use crate::rng::Rng;
use crate::secrets::words_of;

/// Failures before the first sample: what is made once and kept (pools, tables) is made then.
const WARM_UP: usize = 20;

/// A sample is taken after so many failures, and at the end.
const SAMPLE_EVERY: usize = 200;

/// Before a sample: until idle connections of the last failures are closed.
const QUIET: Duration = Duration::from_secs(20);

/// How long one failure may take.
const FAILURE_LIMIT: Duration = Duration::from_secs(60);

/// What may differ between two samples of a program at rest: a connection to a DHT node more or less has one socket,
/// and a runtime may keep a spare thread for a while.
const SOCKETS_SLACK: usize = 4;
const THREADS_SLACK: usize = 4;

/// Resident memory may grow by this: allocators do not give back at once, and ended codes are remembered for 900 s.
const RESIDENT_SLACK_KIB: u64 = 4096;

/// What is compared.
struct State {
    process: Sample,
    files: usize,
    sessions: usize,
}

/// Makes `options.runs` failures in a row on two daemons, and reports what grew. That each has its cause is shown by
/// [`super::causes`].
///
/// # Errors
/// When the lab cannot be made, a daemon does not start, or a failure does not end.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::new(options)?;
    let mut report = Report::new("failures in a row", &["after", "descriptors", "threads", "files", "sessions"]);
    let (mut alice, mut bob) = world.warm_pair(0)?;
    let mut rng = Rng::new(options.seed);
    let mut failures = 0;
    let mut turns = 0..;
    let mut fail = || fail_once(&alice, &bob, turns.next().unwrap_or_default(), &mut rng);
    while failures < WARM_UP.min(options.runs) {
        failures += fail()?;
    }
    let mut samples = vec![sample(failures, &alice, &bob)?];
    let total = failures + options.runs;
    while failures < total {
        let next = total.min(failures + SAMPLE_EVERY);
        while failures < next {
            failures += fail()?;
        }
        samples.push(sample(failures, &alice, &bob)?);
    }
    alice.stop()?;
    bob.stop()?;
    report.fact("failures_in_a_row", failures);
    for (side, of) in [("initiator", side_of(false)), ("joiner", side_of(true))] {
        let states: Vec<(usize, &State)> = samples.iter().map(|sample| (sample.0, of(sample))).collect();
        compare(&mut report, side, &states);
    }
    Ok(report)
}

type Samples = (usize, State, State);

fn side_of(joiner: bool) -> impl Fn(&Samples) -> &State {
    move |(_, alice, bob)| if joiner { bob } else { alice }
}

/// How often a code that nobody shows is searched for between two that are shown. A node keeps 256 records of one source
/// for 900 s each (protocol section 12), and every code that was shown leaves one: a thousand failures in a row must show
/// fewer codes than that, or their joiners find nothing any more.
const SEARCHES: usize = 6;

/// The failure whose turn it is; gives how many commands failed by it.
fn fail_once(alice: &Device, bob: &Device, turn: usize, rng: &mut Rng) -> Result<usize> {
    match turn % (2 + SEARCHES) {
        // The code is cancelled and then entered.
        0 => {
            let offer = offer(alice, &["--yes"])?;
            alice.run(&["pair", "cancel", &offer.session], None, COMMAND_LIMIT)?;
            must_fail(offer.process, "cancelled")?;
            must_fail(join(bob, &offer.words, &["--yes"])?, "cancelled")?;
            Ok(2)
        }
        // The initiator says no after both have proven their keys.
        1 => {
            let offer = offer(alice, &[])?;
            let joining = join(bob, &offer.words, &["--yes"])?;
            offer.process.wait_event("approval_needed", FAILURE_LIMIT)?;
            alice.run(&["pair", "reject", &offer.session], None, COMMAND_LIMIT)?;
            must_fail(joining, "rejected")?;
            must_fail(offer.process, "rejected")?;
            Ok(2)
        }
        // A code that nobody shows is searched for, and the search cancelled.
        _ => {
            let entropy: Vec<u8> = (0..16).map(|_| rng.next_u64().to_le_bytes()[7]).collect();
            let joining = join(bob, &words_of(&entropy)?, &["--yes"])?;
            std::thread::sleep(Duration::from_millis(200));
            bob.run(&["pair", "cancel"], None, COMMAND_LIMIT)?;
            must_fail(joining, "cancelled")?;
            Ok(1)
        }
    }
}

fn must_fail(process: Running, cause: &str) -> Result<()> {
    let ending = Ending::of(&process.finish(FAILURE_LIMIT)?);
    ensure!(ending.cause.as_deref() == Some(cause), "a command ended with {ending}, not {cause}");
    Ok(())
}

/// Looks at both daemons once they are quiet. The least of what one holds while nothing happens is what it keeps.
fn sample(failures: usize, alice: &Device, bob: &Device) -> Result<Samples> {
    let pids = [alice.daemon()?.pid(), bob.daemon()?.pid()];
    let mut least = [Sample::of(pids[0])?, Sample::of(pids[1])?];
    let start = Instant::now();
    while start.elapsed() < QUIET {
        std::thread::sleep(Duration::from_secs(1));
        for (pid, least) in pids.into_iter().zip(&mut least) {
            let now = Sample::of(pid)?;
            *least = if now.descriptors <= least.descriptors { now } else { *least };
        }
    }
    let state = |device: &Device, process| -> Result<State> {
        let (files, sessions) = (files::below(&device.dir())?.len(), device.status()?.sessions.len());
        Ok(State { process, files, sessions })
    };
    Ok((failures, state(alice, least[0])?, state(bob, least[1])?))
}

fn compare(report: &mut Report, side: &str, states: &[(usize, &State)]) {
    for (failures, state) in states {
        let process = &state.process;
        report.row(vec![
            format!("{side} after {failures} failures"),
            format!("{} fds {} sockets", process.descriptors, process.sockets),
            format!("{} threads {} KiB", process.threads, process.resident_kib),
            format!("{} files", state.files),
            format!("{} sessions", state.sessions),
        ]);
    }
    let (Some((_, first)), Some((failures, last))) = (states.first(), states.last()) else { return };
    let (before, after) = (&first.process, &last.process);
    let grown = |name: &str, before: usize, after: usize| format!("{name} {before} to {after}");
    let mut check = |what: &str, holds: bool, seen: String| {
        report.check(&format!("{side} keeps no {what} of {failures} failures"), holds, seen);
    };
    let seen = grown("descriptors", before.descriptors, after.descriptors);
    check("descriptor", after.descriptors <= before.descriptors + SOCKETS_SLACK, seen);
    let seen = grown("sockets", before.sockets, after.sockets);
    check("socket", after.sockets <= before.sockets + SOCKETS_SLACK, seen);
    let seen = grown("threads", before.threads, after.threads);
    check("thread", after.threads <= before.threads + THREADS_SLACK, seen);
    let seen = format!("{} to {} KiB", before.resident_kib, after.resident_kib);
    check("memory", after.resident_kib <= before.resident_kib + RESIDENT_SLACK_KIB, seen);
    check("file", last.files <= first.files, grown("files", first.files, last.files));
    check("session", last.sessions == 0, grown("open sessions", first.sessions, last.sessions));
}
