//! Who listens on a device's host, as its system tells, against what the device announces (A4, A5, A25, A34, A35).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::code::qr::QrText;
use handfast_proto::wire::beacon::{Beacon, PORT};

use super::super::Options;
use super::super::pairing::{self, check_mutual, join, offer};
use super::running_pair;
use crate::capture::Capture;
use crate::device::{COMMAND_LIMIT, Device};
use crate::lan::observe::{self, Listener};
use crate::lan::{LanLab, Profile, sightings};
use crate::report::Report;
use crate::rng::Rng;
use crate::secrets::words_of;

/// How long a listener may take to come or to go, and a beacon to be sent.
const CHANGE_LIMIT: Duration = Duration::from_secs(3);

/// How often the system is asked meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// How `ss` writes the wildcard address of a family; `*` is that of both at once.
const V4: [&str; 2] = ["0.0.0.0", "*"];
const V6: [&str; 2] = ["[::]", "*"];

/// What one device's window was.
struct Window {
    confirm_port: u16,
    key: [u8; 32],
}

/// Opens a window on either device `runs` times, looks at its listeners, and pairs.
///
/// # Errors
/// When the lab cannot be made; whatever else is wrong is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let lab = LanLab::build(Profile::Lan)?;
    let mut report = Report::new("listeners as the system tells", &["run", "device", "TCP", "QUIC", "confirmation"]);
    let mut rng = Rng::new(options.seed);
    let (mut errors, mut windows) = (Vec::new(), Vec::new());
    for run in 0..options.runs {
        match once(&lab, run, &mut rng, &mut report) {
            Ok(of_run) => windows.extend(of_run),
            Err(error) => errors.push(format!("run {run}: {error:#}")),
        }
    }
    report.check(
        "every listener is a wildcard, beacons and QR texts name its port, the confirmation listener ends with its window",
        errors.is_empty(),
        format!("{} of {} runs {}", options.runs - errors.len(), options.runs, errors.join("; ")),
    );
    let ports: BTreeSet<u16> = windows.iter().map(|window| window.confirm_port).collect();
    let keys: BTreeSet<[u8; 32]> = windows.iter().map(|window| window.key).collect();
    let seen = format!("{} ports and {} keys in {} windows", ports.len(), keys.len(), windows.len());
    // Of 28,000 ephemeral ports two windows may draw the same one; that all of them do is no chance.
    let differ = ports.len() * 2 > windows.len() && keys.len() == windows.len();
    report.check("a window has a confirmation port of the system's choice and a key of its own", differ, seen);
    Ok(report)
}

fn once(lab: &LanLab, run: usize, rng: &mut Rng, report: &mut Report) -> Result<[Window; 2]> {
    let (mut alice, mut bob) = running_pair(lab, run, Device::without_port_mapping)?;
    let before = [handfast(&alice)?, handfast(&bob)?];
    for (device, list) in [&alice, &bob].into_iter().zip(&before) {
        let name = device.host().name();
        ensure!(!list.iter().any(|listener| listener.port == PORT), "{name} waits for beacons without a window");
        for (protocol, family) in [("tcp", V4), ("tcp", V6), ("udp", V4), ("udp", V6)] {
            let is_open =
                list.iter().any(|listener| listener.protocol == protocol && family.contains(&&*listener.address));
            ensure!(is_open, "{name} has no {protocol} listener at {family:?}");
        }
    }

    // The joiner's window, open for as long as nobody shows its code.
    let entropy: Vec<u8> = (0..16).map(|_| rng.next_u64().to_le_bytes()[7]).collect();
    let watch = Watch::start(lab, &bob, &format!("bob-{run}"))?;
    let searching = join(&bob, &words_of(&entropy)?, &["--yes"])?;
    let (bob_window, bob_beacon) = window_of(&bob, &before[1], watch)?;
    bob.run(&["pair", "cancel"], None, COMMAND_LIMIT)?;
    searching.finish(COMMAND_LIMIT)?;
    closes(&bob, bob_window.confirm_port)?;

    let watch = Watch::start(lab, &alice, &format!("alice-{run}"))?;
    let shown = offer(&alice, &["--yes"])?;
    let (alice_window, alice_beacon) = window_of(&alice, &before[0], watch)?;
    let qr = QrText::parse(&shown.qr).context("the QR text")?;
    ensure!(
        qr.port == alice_beacon.ports.tcp,
        "the QR text names port {}, the beacon {:?}",
        qr.port,
        alice_beacon.ports
    );
    pairing::finish(shown, |words| join(&bob, words, &["--yes"]))?;
    check_mutual(&alice, &bob)?;
    closes(&alice, alice_window.confirm_port)?;
    for (device, beacon) in [(&alice, &alice_beacon), (&bob, &bob_beacon)] {
        let ports = [beacon.ports.tcp, beacon.ports.quic, beacon.ports.confirm].map(|port| port.to_string());
        report.row([vec![run.to_string(), device.host().name().to_owned()], ports.to_vec()].concat());
    }
    alice.stop()?;
    bob.stop()?;
    Ok([alice_window, bob_window])
}

/// A capture of what a device sends, and from where.
struct Watch {
    capture: Capture,
    address: IpAddr,
}

impl Watch {
    fn start(lab: &LanLab, device: &Device, name: &str) -> Result<Self> {
        let file = lab.dir().join(format!("{name}.pcap"));
        let capture = Capture::start(device.host().namespace(), "any", &file)?;
        Ok(Self { capture, address: lab.address(device.host().name())? })
    }
}

/// Waits until a device has opened a window, and compares its listeners with its beacon.
fn window_of(device: &Device, before: &[Listener], watch: Watch) -> Result<(Window, Beacon)> {
    let name = device.host().name();
    let start = Instant::now();
    let (list, confirm_port) = loop {
        let list = handfast(device)?;
        let fresh = list.iter().find(|listener| listener.protocol == "tcp" && !before.contains(listener));
        if let Some(fresh) = fresh {
            let port = fresh.port;
            break (list, port);
        }
        ensure!(start.elapsed() < CHANGE_LIMIT, "{name} opened no confirmation listener: {list:?}");
        std::thread::sleep(POLL);
    };
    // The first beacons are sent at once and after a quarter of a second.
    std::thread::sleep(Duration::from_millis(500));
    let list = [list, handfast(device)?].concat();
    let captured = watch.capture.stop()?;
    let beacon = sightings::latest(&captured.packets, watch.address)?;
    let (tcp, quic, confirm) = (beacon.ports.tcp, beacon.ports.quic, beacon.ports.confirm);
    let of_beacon = if beacon.address.is_ipv4() { V4 } else { V6 };
    for (protocol, port, family) in
        [("tcp", tcp, of_beacon), ("udp", quic, of_beacon), ("tcp", confirm, V4), ("tcp", confirm, V6)]
    {
        let at = |listener: &&Listener| listener.protocol == protocol && listener.port == port;
        let open: BTreeSet<&str> = list.iter().filter(at).map(|listener| listener.address.as_str()).collect();
        let is_open = family.iter().any(|address| open.contains(address));
        ensure!(is_open, "{name} announces {protocol} port {port}, open at {open:?} and not at {family:?}");
    }
    let waits = list.iter().any(|listener| listener.protocol == "udp" && listener.port == PORT);
    ensure!(waits, "{name} does not wait for beacons: {list:?}");
    ensure!(beacon.ports.confirm == confirm_port, "{name} opened {confirm_port} and announces {:?}", beacon.ports);
    Ok((Window { confirm_port, key: beacon.spki }, beacon))
}

fn closes(device: &Device, port: u16) -> Result<()> {
    let start = Instant::now();
    while handfast(device)?.iter().any(|listener| listener.protocol == "tcp" && listener.port == port) {
        ensure!(start.elapsed() < CHANGE_LIMIT, "{} leaves port {port} open", device.host().name());
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The listeners of the device's own programs, all of which must be wildcards.
fn handfast(device: &Device) -> Result<Vec<Listener>> {
    let all = observe::listeners(device.host().namespace())?;
    let own: Vec<Listener> = all.into_iter().filter(|listener| listener.process.contains("handfast")).collect();
    // Sockets of beacons have the port in common, and some are bound to the group or to one address of an interface.
    let narrow = own.iter().find(|listener| !listener.is_wildcard() && listener.port != PORT);
    ensure!(narrow.is_none(), "{} listens at {narrow:?} alone", device.host().name());
    Ok(own)
}
