//! `pair nearby` with three devices on one network (A13-A19): who is listed, who is chosen, who compares, and what goes
//! wrong.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::Options;
use crate::device::{COMMAND_LIMIT, Device};
use crate::lan::{LanLab, Profile};
use crate::process::Running;
use crate::report::Report;
use crate::stats::Summary;

/// How long devices may take to list each other, and a chosen one to show its emoji.
const MEET_LIMIT: Duration = Duration::from_secs(10);

/// Resuming a lost handshake is tried for a minute; a comparison is answered within two.
const LONG: Duration = Duration::from_secs(140);

/// Three devices whose daemons run, and their `pair nearby`.
struct Room {
    devices: Vec<Device>,
    runs: Vec<Running>,
}

/// A case: what is done in a room of its own, and what must be true of it.
type Case = fn(&LanLab, usize) -> Result<Option<Duration>>;

const CASES: [(&str, Case); 7] = [
    ("three list each other without a code, one is chosen, both compare: paired", chosen),
    ("both choose each other: one comparison, paired", mutual),
    ("the wrong one is chosen and turned down, the right one pairs", turned_down),
    ("one says that the emoji differ: both end, nothing is stored", differ),
    ("the chosen one's QR takes the place of the emoji", scanned),
    ("another one's QR is the wrong device", scanned_elsewhere),
    ("a name that two have selects neither", namesakes),
];

/// Those that take minutes; left out where each case is played once.
const SLOW: [(&str, Case); 2] =
    [("nobody answers: both time out", silent), ("one vanishes: the other loses the connection", vanished)];

/// Plays each case `runs` times.
///
/// # Errors
/// When the lab cannot be made; whatever else is wrong is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let lab = LanLab::build(Profile::Lan)?;
    let mut report = Report::of_local_times("pair nearby with three devices on one network");
    let slow = if options.runs > 1 { SLOW.as_slice() } else { &[] };
    let mut number = 0;
    for (name, case, runs) in CASES
        .iter()
        .map(|(name, case)| (*name, case, options.runs))
        .chain(slow.iter().map(|(name, case)| (*name, case, 1)))
    {
        let (mut errors, mut times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            number += 1;
            match case(&lab, number) {
                Ok(time) => times.extend(time),
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        report.check(name, errors.is_empty(), format!("{} of {runs} {}", runs - errors.len(), errors.join("; ")));
        if !times.is_empty() {
            report.times("chosen to emoji", Summary::of(&times));
        }
    }
    Ok(report)
}

impl Room {
    /// Daemons of these names, on hosts of their own, and `pair nearby` with these options on each.
    fn open(lab: &LanLab, number: usize, who: &[(&str, &[&str])]) -> Result<Room> {
        let hosts = ["alice", "bob", "mallory"];
        let mut devices = Vec::new();
        for (host, (name, _)) in hosts.iter().zip(who) {
            let mut device = Device::new(&lab.host(host)?, &format!("{host}-{number}"))?.named(name);
            device.start_daemon()?;
            devices.push(device);
        }
        let mut room = Room { devices, runs: Vec::new() };
        for (device, (_, options)) in room.devices.iter().zip(who) {
            room.runs.push(device.spawn(&[&["pair", "nearby", "--json"], *options].concat(), None)?);
        }
        Ok(room)
    }

    /// Waits until the device `n` lists a device of this name; gives its id there.
    fn id_of(&self, n: usize, name: &str) -> Result<String> {
        let run = &self.runs[n];
        run.wait_line(MEET_LIMIT, |line| {
            let event: Value = serde_json::from_str(&line.text).ok()?;
            let fits = event["event"] == "device_seen" && event["name"] == name && event["verified"] == json!(false);
            fits.then(|| event["id"].as_str().map(str::to_owned)).flatten()
        })
        .with_context(|| format!("{n} does not list {name}"))
    }

    /// What the device `n` shows to compare.
    fn emoji(&self, n: usize) -> Result<Value> {
        Ok(self.runs[n].wait_event("comparison_needed", MEET_LIMIT)?.json["emoji"].clone())
    }

    fn answer(&self, n: usize, args: &[&str]) -> Result<()> {
        let output = self.devices[n].run(&[&["pair"], args].concat(), None, COMMAND_LIMIT)?;
        ensure!(output.status.success(), "{args:?}: {}", output.stderr.trim());
        Ok(())
    }

    fn both_match(&self, a: usize, b: usize) -> Result<()> {
        ensure!(self.emoji(a)? == self.emoji(b)?, "the emoji differ");
        self.answer(a, &["accept", "--emoji-match"])?;
        self.answer(b, &["accept", "--emoji-match"])
    }

    /// The command of the device `n` ends with this exit code.
    fn ends(&mut self, n: usize, code: i32, limit: Duration) -> Result<()> {
        let status = self.runs[n].wait(limit)?.with_context(|| format!("the command of {n} goes on"))?;
        let printed: Vec<String> = self.runs[n].lines().into_iter().map(|line| line.text).collect();
        ensure!(status.code() == Some(code), "{n} ended with {status}, not {code}: {}", printed.join(" | "));
        Ok(())
    }

    /// `a` and `b` are paired with each other and nobody else.
    fn paired(&self, a: usize, b: usize) -> Result<()> {
        for (us, them) in [(a, b), (b, a)] {
            let (list, other) = (self.devices[us].devices()?, self.devices[them].status()?);
            ensure!(list.len() == 1 && list[0].id == other.id, "{us} is paired with {list:?}");
        }
        Ok(())
    }

    fn nothing_stored(&self) -> Result<()> {
        for device in &self.devices {
            let list = device.devices()?;
            ensure!(list.is_empty(), "stored: {list:?}");
        }
        Ok(())
    }

    /// Gives the device `n` the QR text of the one that was selected.
    fn confirm(&self, n: usize, qr: &str) -> Result<()> {
        let mut stream = UnixStream::connect(self.devices[n].dir().join("control.sock"))?;
        stream.set_read_timeout(Some(COMMAND_LIMIT))?;
        let body = json!({ "qr": qr }).to_string();
        let head = format!(
            "POST /v1/pair/confirm HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    }
}

fn chosen(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &[]), ("bob", &[]), ("mallory", &[])])?;
    for (n, names) in [["bob", "mallory"], ["alice", "mallory"], ["alice", "bob"]].iter().enumerate() {
        for name in names {
            room.id_of(n, name)?;
        }
        ensure!(room.runs[n].event("code_created").is_none(), "{n} has made a code before it was chosen");
    }
    let id = room.id_of(1, "alice")?;
    let selected = std::time::Instant::now();
    let device = &room.devices[1];
    let body = json!({ "device": id }).to_string();
    let mut stream = UnixStream::connect(device.dir().join("control.sock"))?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/pair/select HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let shown = room.runs[0].wait_event("comparison_needed", MEET_LIMIT)?.at;
    room.both_match(0, 1)?;
    room.ends(0, 0, MEET_LIMIT)?;
    room.ends(1, 0, MEET_LIMIT)?;
    room.paired(0, 1)?;
    ensure!(room.devices[2].devices()?.is_empty() && room.runs[2].is_running(), "the third one takes part");
    room.runs[2].interrupt()?;
    room.ends(2, 130, MEET_LIMIT)?;
    Ok(Some(shown.saturating_duration_since(selected)))
}

fn mutual(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &["--select", "bob"]), ("bob", &["--select", "alice"])])?;
    room.both_match(0, 1)?;
    room.ends(0, 0, MEET_LIMIT)?;
    room.ends(1, 0, MEET_LIMIT)?;
    room.paired(0, 1)?;
    Ok(None)
}

fn turned_down(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &[]), ("bob", &[]), ("mallory", &["--select", "alice"])])?;
    room.emoji(0)?;
    room.answer(0, &["reject"])?;
    room.ends(2, 7, MEET_LIMIT)?;
    ensure!(room.runs[0].is_running(), "the one that waits has ended");
    room.runs[1].interrupt()?;
    room.ends(1, 130, MEET_LIMIT)?;
    room.runs[1] = room.devices[1].spawn(&["pair", "nearby", "--json", "--select", "alice"], None)?;
    let theirs = room.emoji(1)?;
    let is_shown = |line: &crate::process::Line| {
        let event: Value = serde_json::from_str(&line.text).ok()?;
        (event["event"] == "comparison_needed" && event["emoji"] == theirs).then_some(())
    };
    room.runs[0].wait_line(MEET_LIMIT, is_shown).context("the emoji differ")?;
    let session = room.runs[0].wait_event("comparison_needed", MEET_LIMIT)?;
    room.answer(0, &["accept", "--emoji-match", session.text("session")?])?;
    room.answer(1, &["accept", "--emoji-match"])?;
    room.ends(0, 0, MEET_LIMIT)?;
    room.ends(1, 0, MEET_LIMIT)?;
    room.paired(0, 1)?;
    Ok(None)
}

fn differ(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &[]), ("bob", &["--select", "alice"])])?;
    room.emoji(0)?;
    room.answer(0, &["accept", "--emoji-differ"])?;
    room.ends(0, 7, MEET_LIMIT)?;
    room.ends(1, 7, MEET_LIMIT)?;
    room.nothing_stored()?;
    Ok(None)
}

fn scanned(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &["--yes"]), ("bob", &["--select", "alice", "--yes"])])?;
    room.emoji(1)?;
    let code = room.runs[0].wait_event("code_created", MEET_LIMIT)?;
    room.confirm(1, code.text("qr")?)?;
    room.ends(0, 0, MEET_LIMIT)?;
    room.ends(1, 0, MEET_LIMIT)?;
    room.paired(0, 1)?;
    Ok(None)
}

fn scanned_elsewhere(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room =
        Room::open(lab, number, &[("alice", &["--yes"]), ("bob", &["--select", "alice", "--yes"]), ("mallory", &[])])?;
    room.emoji(1)?;
    let generate = room.devices[2].spawn(&["pair", "generate", "--yes", "--json"], None)?;
    let code = generate.wait_event("code_created", MEET_LIMIT)?;
    room.confirm(1, code.text("qr")?)?;
    room.ends(1, 7, MEET_LIMIT)?;
    let failed = room.runs[1].wait_event("pairing_failed", MEET_LIMIT)?;
    ensure!(failed.json["cause"] == "wrong_device", "{}", failed.json);
    room.ends(0, 7, MEET_LIMIT)?;
    room.nothing_stored()?;
    Ok(None)
}

fn namesakes(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("twin", &[]), ("bob", &["--select", "twin"]), ("twin", &[])])?;
    room.ends(1, 2, MEET_LIMIT)?;
    let failed = room.runs[1].wait_event("pairing_failed", MEET_LIMIT)?;
    let text = failed.text("text")?;
    let ids: Vec<String> = [room.id_of(0, "twin")?, room.id_of(2, "twin")?].to_vec();
    ensure!(ids.iter().all(|id| text.contains(id)), "{ids:?} are not in: {text}");
    room.nothing_stored()?;
    Ok(None)
}

fn silent(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &["--yes"]), ("bob", &["--select", "alice", "--yes"])])?;
    room.emoji(0)?;
    room.ends(0, 9, LONG)?;
    room.ends(1, 9, LONG)?;
    room.nothing_stored()?;
    Ok(None)
}

fn vanished(lab: &LanLab, number: usize) -> Result<Option<Duration>> {
    let mut room = Room::open(lab, number, &[("alice", &[]), ("bob", &["--select", "alice"])])?;
    room.emoji(0)?;
    room.devices[1].kill9();
    room.ends(0, 9, LONG)?;
    ensure!(room.devices[0].devices()?.is_empty(), "something is stored");
    Ok(None)
}
