//! A whole run at trace level holds no secret, in the capture, the logs, the process list and the outputs (acceptance line 4).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::pairing::{check_mutual, join, offer};
use super::{Options, world::World};
use crate::capture::{Capture, Captured};
use crate::device::{COMMAND_LIMIT, Device};
use crate::files;
use crate::leak::{Finding, Needles};
use crate::process::{Line, Running};
use crate::report::Report;
use crate::rng::Rng;
use crate::secrets::{Identity, Secrets, words_of};
use crate::topology::Lab;

/// How much the programs of the run log.
const LOG_LEVEL: &str = "trace";

/// Every record in the DHT has exactly this size (protocol section 5).
const RECORD_BYTES: f64 = 784.0;

/// How long each pairing of the run may take at this log level.
const LIMIT: Duration = Duration::from_secs(60);

/// How long an attempt with a code that nobody shows is watched before it is interrupted.
const VAIN_SEARCH: Duration = Duration::from_secs(3);

/// Names that occur nowhere by chance.
const ALICE: &str = "Xanthippe-Quokka-71";
const BOB: &str = "Bartholomew-Zebu-93";

/// Findings quoted per place; more of them say nothing new.
const QUOTED: usize = 5;

/// What a whole run left behind.
struct Traces {
    secrets: Secrets,
    captured: Captured,
    outputs: Vec<(String, String)>,
    command_lines: Vec<(String, Vec<u8>)>,
    record_sizes: Vec<String>,
    odd_records: usize,
}

/// Runs two pairings, a failed one and pings, all at trace level, and searches everything they left.
///
/// # Errors
/// When the run itself fails.
pub fn run(options: &Options) -> Result<Report> {
    let world = World::of(Lab::two_networks(options.nodes), options, Some(LOG_LEVEL))?;
    let traces = whole_run(&world, options)?;
    let mut report = Report::new("leaks of a whole run at trace level", &["place", "bytes", "needles", "found"]);
    let (codes, keys, identities) = (&traces.secrets.codes, &traces.secrets.keys, &traces.secrets.identities);

    let wire: usize = traces.captured.packets.iter().map(|packet| packet.bytes.len()).sum();
    let found = search_all(&[codes, keys, identities], |needles| traces.captured.search(needles));
    let needles = codes.len() + keys.len() + identities.len();
    result(&mut report, "capture on the backbone", (wire, needles), &found);

    let files = files::below(world.lab.dir())?;
    let (mut log_bytes, mut store_bytes, mut in_logs, mut in_stores) = (0, 0, Vec::new(), Vec::new());
    for file in files.iter().filter(|file| file.extension().is_none_or(|kind| kind != "pcap")) {
        let size = usize::try_from(file.metadata()?.len())?;
        if is_log(file) {
            log_bytes += size;
            in_logs.extend(search_all(&[codes, keys], |needles| needles.search_file(file).unwrap_or_default()));
        } else {
            store_bytes += size;
            in_stores.extend(search_all(&[codes, keys], |needles| needles.search_file(file).unwrap_or_default()));
        }
    }
    result(&mut report, "logs and stderr", (log_bytes, codes.len() + keys.len()), &in_logs);
    result(&mut report, "stores and other files", (store_bytes, codes.len() + keys.len()), &in_stores);

    let mut in_outputs = Vec::new();
    for (place, text) in &traces.outputs {
        in_outputs.extend(search_all(&[codes, keys], |needles| needles.search(place, text.as_bytes())));
    }
    let output_bytes = traces.outputs.iter().map(|(_, text)| text.len()).sum();
    result(&mut report, "outputs but code_created", (output_bytes, codes.len() + keys.len()), &in_outputs);

    let mut in_lists = Vec::new();
    for (place, bytes) in &traces.command_lines {
        in_lists.extend(search_all(&[codes, keys], |needles| needles.search(place, bytes)));
    }
    let list_bytes = traces.command_lines.iter().map(|(_, bytes)| bytes.len()).sum();
    result(&mut report, "process list and environment", (list_bytes, codes.len() + keys.len()), &in_lists);

    sanity(&mut report, &world, &traces, log_bytes)?;
    Ok(report)
}

/// Would a leak have been seen? The capture is complete, the logs are at trace level, the keys were found.
fn sanity(report: &mut Report, world: &World, traces: &Traces, log_bytes: usize) -> Result<()> {
    let (packets, lost) = (traces.captured.packets.len(), traces.captured.lost);
    report.check("the capture is complete", lost == 0 && packets > 0, format!("{packets} packets, {lost} lost"));
    let logs = files::below(world.lab.dir())?;
    let traced = logs.iter().filter(|file| is_log(file)).filter_map(|file| std::fs::read_to_string(file).ok());
    let traced = traced.filter(|text| text.contains("TRACE")).count();
    report.check("logs are at trace level", traced > 0, format!("{traced} files with TRACE, {log_bytes} bytes"));
    let seeds = traces.secrets.seeds_found();
    report.check("both identity seeds were found in the stores", seeds == 2, format!("{seeds} of 2"));
    let shared = traces.secrets.shared_found();
    report.check("the pairing's secret was found in both stores", shared > 0, format!("{shared} shared"));
    let seen = format!("{} odd; {}", traces.odd_records, traces.record_sizes.join(", "));
    let holds = traces.odd_records == 0 && !traces.record_sizes.is_empty();
    report.check("every record in the DHT has 784 bytes", holds, seen);
    Ok(())
}

fn whole_run(world: &World, options: &Options) -> Result<Traces> {
    let mut secrets = Secrets::default();
    let (mut outputs, mut command_lines) = (Vec::new(), Vec::new());
    let capture = Capture::start(world.lab.backbone(), "any", &world.lab.dir().join("wire.pcap"))?;
    let mut alice = world.device("alice", "alice")?.named(ALICE);
    let mut bob = world.device("bob", "bob")?.named(BOB);
    for device in [&mut alice, &mut bob] {
        device.set_env("RUST_LOG", LOG_LEVEL);
        device.start_daemon()?;
    }
    let watchers = [alice.spawn(&["events", "--json"], None)?, bob.spawn(&["events", "--json"], None)?];

    // Roles swapped the second time; the words then come as an argument, which the process list must not show.
    for (number, (initiator, joiner)) in [(&alice, &bob), (&bob, &alice)].into_iter().enumerate() {
        let offer = offer(initiator, &["--yes"])?;
        secrets.add_code(&format!("code {number}"), &offer.words)?;
        std::thread::sleep(options.gap);
        let joining = if number == 0 {
            join(joiner, &offer.words, &["--yes"])?
        } else {
            joiner.spawn(&["pair", "join", &offer.words, "--yes", "--json"], None)?
        };
        joining.wait_event("session_discovered", LIMIT)?;
        command_lines.extend(process_list(&joining, "pair join"));
        command_lines.extend(process_list(&offer.process, "pair generate"));
        for (place, process) in [("pair join", joining), ("pair generate", offer.process)] {
            let output = process.finish(LIMIT)?;
            ensure!(output.status.success(), "{place} ended with {}: {}", output.status, output.stdout);
            outputs.push((place.to_owned(), without_code_created(&output.stdout)));
        }
    }
    check_mutual(&alice, &bob)?;

    // A code that nobody shows, interrupted; its lookups go to many nodes.
    let mut rng = Rng::new(options.seed);
    let entropy: Vec<u8> = (0..16).map(|_| rng.next_u64().to_le_bytes()[7]).collect();
    let unknown = words_of(&entropy)?;
    secrets.add_code("unknown code", &unknown)?;
    let mut vain = join(&bob, &unknown, &["--yes"])?;
    vain.wait(VAIN_SEARCH)?;
    command_lines.extend(process_list(&vain, "pair join in vain"));
    if vain.is_running() {
        vain.interrupt()?;
    }
    outputs.push(("pair join in vain".to_owned(), vain.finish(LIMIT)?.stdout));

    let (alice_status, bob_status) = (alice.status()?, bob.status()?);
    alice.ping(&bob_status.id, LIMIT)?;
    bob.ping(&alice_status.id, LIMIT)?;
    for device in [&alice, &bob] {
        for command in [["status"].as_slice(), &["devices"], &["pair", "status"]] {
            outputs.push((command.join(" "), device.run(command, None, COMMAND_LIMIT)?.stdout));
            outputs.push((command.join(" "), device.ask(command)?.to_string()));
        }
        command_lines.extend(process_list(device.daemon()?, "daemon"));
    }
    let (record_sizes, odd_records) = record_sizes(world)?;
    for watcher in watchers {
        let lines: Vec<String> = watcher.lines().into_iter().map(|line: Line| line.text).collect();
        outputs.push(("events".to_owned(), lines.join("\n")));
    }
    let fingerprints = (fingerprint_of(&bob, &alice_status.id)?, fingerprint_of(&alice, &bob_status.id)?);
    // The stores are read when nobody writes them any more.
    alice.stop()?;
    bob.stop()?;
    let captured = capture.stop()?;
    let identity = |dir, id, name, fingerprint| Identity { dir, id, name, fingerprint };
    secrets.add_pair(
        &identity(&alice.dir(), &alice_status.id, ALICE, &fingerprints.0),
        &identity(&bob.dir(), &bob_status.id, BOB, &fingerprints.1),
    )?;
    Ok(Traces { secrets, captured, outputs, command_lines, record_sizes, odd_records })
}

fn fingerprint_of(on: &Device, id: &str) -> Result<String> {
    let listed = on.devices()?;
    Ok(listed.into_iter().find(|device| device.id == id).context("the other is listed")?.fingerprint)
}

/// What other users can see of a process while it runs.
fn process_list(process: &Running, what: &str) -> Vec<(String, Vec<u8>)> {
    ["cmdline", "environ"]
        .into_iter()
        .filter_map(|file| {
            // The process may have ended, and then nobody sees anything.
            let bytes = std::fs::read(format!("/proc/{}/{file}", process.pid())).ok()?;
            Some((format!("{file} of {what}"), bytes))
        })
        .collect()
}

/// The initiator's own stdout is the one place that shows the code, in this one event.
fn without_code_created(stdout: &str) -> String {
    let is_code = |line: &&str| {
        let event = serde_json::from_str::<Value>(line).ok();
        event.is_some_and(|event| event.get("event").and_then(Value::as_str) == Some("code_created"))
    };
    stdout.lines().filter(|line| !is_code(line)).collect::<Vec<_>>().join("\n")
}

/// What each node's metrics tell of its records: how many and how many bytes; and at how many nodes these do not fit.
fn record_sizes(world: &World) -> Result<(Vec<String>, usize)> {
    let (mut sizes, mut odd) = (Vec::new(), 0);
    for index in 0..world.dht.len() {
        let metrics = world.dht.metrics(index)?;
        let of = |wanted: fn(&str) -> bool| {
            metrics.iter().find(|(name, _)| name.contains("record") && wanted(name)).map(|(_, value)| *value)
        };
        let bytes = of(|name| name.ends_with("bytes"));
        let count = of(|name| name.ends_with("records") || name.ends_with("records_stored"));
        if let (Some(bytes), Some(count)) = (bytes, count)
            && count > 0.0
        {
            sizes.push(format!("{count} records {bytes} bytes"));
            odd += usize::from((bytes - count * RECORD_BYTES).abs() > 0.5);
        }
    }
    Ok((sizes, odd))
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "stderr") || file.components().any(|part| part.as_os_str() == "log")
}

fn search_all(sets: &[&Needles], search: impl Fn(&Needles) -> Vec<Finding>) -> Vec<Finding> {
    sets.iter().flat_map(|needles| search(needles)).collect()
}

fn result(report: &mut Report, place: &str, (bytes, needles): (usize, usize), found: &[Finding]) {
    report.row(vec![place.to_owned(), bytes.to_string(), needles.to_string(), found.len().to_string()]);
    let quoted: Vec<String> = found
        .iter()
        .take(QUOTED)
        .map(|finding| format!("{} in {} at {}", finding.needle, finding.place, finding.offset))
        .collect();
    let seen = format!("{} {}", found.len(), quoted.join("; "));
    report.check(&format!("no secret in: {place}"), found.is_empty() && bytes > 0, seen);
}
