//! What a device finds out about its NAT, compared with what the lab has put there (requirements B37 and C20).
//!
//! Asked are a node's STUN service and coturn, an independent one; each in turn is the one whose second address shows
//! whom the NAT lets in. And an independent client, coturn's, asks the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_net::stun::{self, StunServer};
use handfast_net::{Host, entropy};
use handfast_proto::stun::PORT;
use handfast_proto::stun::behaviour::{Behaviour, Filtering, Mapping};
use serde_json::json;

use super::Options;
use crate::device::{Device, base_env, binary};
use crate::nat::{self, Kind, Nat};
use crate::process::{Running, Start};
use crate::report::Report;
use crate::skip::find_program;
use crate::topology::{AccessHost, Lab};

/// The second address of a server, beside its host's own.
const SECOND: u8 = 3;

/// How long a server may take until it answers, and one look whether it does.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How often a device is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long an independent client may take: it waits seconds for what does not come.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// How long finding out may take at 50 ms a round trip, or finding that nobody answers.
const FIND_LIMIT: Duration = Duration::from_secs(3);

/// The first look of a device that has just started is over by then, also where it comes to nothing.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// A server of the lab.
struct Server {
    running: Running,
    at: SocketAddr,
}

/// Puts each kind of NAT in front of a device and lets it find out which.
///
/// # Errors
/// When the lab or a server cannot be made, or an independent program is missing.
pub fn run(options: &Options) -> Result<Report> {
    let mut builder = Lab::empty().seed(options.seed).host("node").host("coturn");
    for nat in kinds() {
        builder = builder.behind(nat, nat.name()).behind(nat, &of_device(nat));
    }
    let lab = builder.build()?;
    let (node, coturn) = (node(&lab.host("node")?)?, coturn(&lab.host("coturn")?)?);
    let mut report = Report::new(
        "what a device finds out about its NAT, 25 ms one way",
        &["NAT", "server with two addresses", "mapping", "filtering", "hairpin", "ms"],
    );
    for nat in kinds() {
        let host = lab.host(nat.name())?;
        for (helper, other, name) in [(&node, &coturn, "handfast serve"), (&coturn, &node, "coturn")] {
            let (found, took) = find_out(&host, &[helper.at, other.at])?;
            let kind = found.mapping.zip(found.filtering);
            let kind = kind.map(|(mapping, filtering)| Kind { mapping, filtering, hairpin: found.hairpin });
            report.row(row(nat, name, &found, took));
            report.check(&format!("{} by {name}", nat.name()), kind == nat.kind(), format!("{found:?}"));
            let seen = found.public.iter().all(|public| public.ip() == host.ipv4());
            let is_right = match nat.kind() {
                Some(_) => seen && !found.public.is_empty() && !found.contradiction && found.answered == 2,
                None => found == Behaviour::default(),
            };
            report.check(&format!("{}: its public address", nat.name()), is_right, format!("{:?}", found.public));
            if options.limits {
                report.check(&format!("{}: in time", nat.name()), took < FIND_LIMIT, format!("{took:?}"));
            }
        }
    }
    let devices: Vec<(Nat, Device)> = kinds().map(|nat| Ok((nat, device(&lab, nat, &node)?))).collect::<Result<_>>()?;
    for (nat, device) in &devices {
        let (told, took) = if nat.kind().is_some() { told(device)? } else { told_after_the_first_look(device)? };
        let said = json!({ "mapping": told.mapping, "filtering": told.filtering, "hairpin": told.hairpin });
        report.check(
            &format!("{}: status of a device", nat.name()),
            told == in_words_of_status(*nat),
            said.to_string(),
        );
        report.row(vec![
            nat.name().to_owned(),
            "status of a device".to_owned(),
            told.mapping,
            told.filtering,
            told.hairpin,
            took.as_millis().to_string(),
        ]);
    }
    let moving = devices.iter().find(|(nat, _)| *nat == Nat::Symmetric).context("a device")?;
    report.check("after its address went and came back", moves(&lab, moving)?, "unknown, then the same as before");
    for nat in [Nat::FullCone, Nat::PortRestricted, Nat::Symmetric] {
        let said = independent_client(&lab.host(nat.name())?, node.at)?;
        let wanted = in_words_of_coturn(nat.kind().context("a NAT that STUN can see")?);
        let missing: Vec<&&str> = wanted.iter().filter(|words| !said.contains(**words)).collect();
        let seen = if missing.is_empty() { format!("{wanted:?}") } else { format!("{missing:?} not in {said}") };
        report.check(&format!("{} by coturn's client", nat.name()), missing.is_empty(), seen);
    }
    Ok(report)
}

/// STUN is asked by IPv4 here. What else there is beside it makes no other kind of it.
fn kinds() -> impl Iterator<Item = Nat> {
    Nat::ALL.into_iter().filter(|nat| !nat.routes_ipv6())
}

fn row(nat: Nat, helper: &str, found: &Behaviour, took: Duration) -> Vec<String> {
    let mapping = found.mapping.map_or("unknown", Mapping::name);
    let filtering = found.filtering.map_or("unknown", Filtering::name);
    let hairpin = found.hairpin.map_or("unknown", |hairpin| if hairpin { "yes" } else { "no" });
    let cells = [nat.name(), helper, mapping, filtering, hairpin];
    cells.into_iter().map(str::to_owned).chain([took.as_millis().to_string()]).collect()
}

/// What a device at this host finds out, and how long that takes.
fn find_out(host: &AccessHost, servers: &[SocketAddr]) -> Result<(Behaviour, Duration)> {
    let start = Instant::now();
    let found = host.namespace().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rng = entropy::rng().map_err(std::io::Error::other)?;
        let servers: Vec<StunServer> =
            servers.iter().map(|at| StunServer { host: Host::Ip(at.ip()), port: at.port() }).collect();
        runtime.block_on(stun::discover(&servers, true, rng))
    })?;
    Ok((found.context("a socket")?, start.elapsed()))
}

/// A device of its own behind the same kind: what others behind a NAT have sent opens it for some while.
fn of_device(nat: Nat) -> String {
    format!("{}-d", nat.name())
}

fn device(lab: &Lab, nat: Nat, node: &Server) -> Result<Device> {
    let lines = node.running.lines();
    let address =
        lines.iter().map(|line| line.text.trim()).find(|line| line.starts_with('/')).context("its address")?;
    let host = lab.host(&of_device(nat))?;
    let mut device = Device::new(&host, nat.name())?.bootstrap(vec![address.to_owned()]);
    device.start_daemon()?;
    Ok(device)
}

/// What `status` says of the NAT, once it says something.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    mapping: String,
    filtering: String,
    hairpin: String,
}

fn told(device: &Device) -> Result<(Told, Duration)> {
    told_when(device, |told| told.mapping != "unknown")
}

fn told_when(device: &Device, is_due: impl Fn(&Told) -> bool) -> Result<(Told, Duration)> {
    let start = Instant::now();
    loop {
        let status = device.ask(&["status"])?;
        let text = |field: &str| status["nat"][field].as_str().unwrap_or_default().to_owned();
        let told = Told { mapping: text("mapping"), filtering: text("filtering"), hairpin: text("hairpin") };
        if is_due(&told) {
            return Ok((told, start.elapsed()));
        }
        ensure!(start.elapsed() < READY_LIMIT, "{}: {told:?} is told of the NAT", status["name"]);
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What `status` says once a look can only have come to nothing.
fn told_after_the_first_look(device: &Device) -> Result<(Told, Duration)> {
    let start = device.daemon()?.started();
    std::thread::sleep(FIRST_LOOK.saturating_sub(start.elapsed()));
    told_when(device, |_| true)
}

/// Whether a device that loses its address forgets what it knew, and finds it out again when it has one.
fn moves(lab: &Lab, (nat, device): &(Nat, Device)) -> Result<bool> {
    let host = lab.host(&of_device(*nat))?;
    let (address, gateway) = nat::inside(&host);
    host.namespace().ip(&["addr", "del", &address, "dev", "eth0"])?;
    told_when(device, |told| told.mapping == "unknown")?;
    host.namespace().ip(&["addr", "add", &address, "dev", "eth0"])?;
    host.namespace().ip(&["route", "replace", "default", "via", &gateway])?;
    Ok(told(device)?.0 == in_words_of_status(*nat))
}

fn in_words_of_status(nat: Nat) -> Told {
    let Some(Kind { mapping, filtering, hairpin }) = nat.kind() else {
        let unknown = || "unknown".to_owned();
        return Told { mapping: unknown(), filtering: unknown(), hairpin: unknown() };
    };
    let hairpin = match hairpin {
        None => "none",
        Some(true) => "yes",
        Some(false) => "no",
    };
    let filtering = if nat == Nat::Open { "none" } else { filtering.name() };
    Told { mapping: mapping.name().to_owned(), filtering: filtering.to_owned(), hairpin: hairpin.to_owned() }
}

/// Its own address, and a second one of its network.
fn two_addresses(host: &AccessHost) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let [a, b, c, _] = host.ipv4().octets();
    let second = Ipv4Addr::new(a, b, c, SECOND);
    host.namespace().ip(&["addr", "add", &format!("{second}/24"), "dev", "eth0"])?;
    Ok((host.ipv4(), second))
}

fn node(host: &AccessHost) -> Result<Server> {
    // It finds its two public addresses by itself.
    let (first, _) = two_addresses(host)?;
    let args = [
        "serve".to_owned(),
        "--data".to_owned(),
        host.home().join("serve").display().to_string(),
        "--listen".to_owned(),
        "/ip4/0.0.0.0/tcp/4001".to_owned(),
    ];
    let program = binary()?;
    let start = Start { program: &program, args: args.into(), env: base_env(host.home()), stdin: None };
    ready(host, Running::start(host, &start)?, SocketAddr::from((first, PORT)))
}

fn coturn(host: &AccessHost) -> Result<Server> {
    let (first, second) = two_addresses(host)?;
    let mut args: Vec<String> =
        ["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", "--log-file=stdout"].map(str::to_owned).into();
    args.push(format!("--pidfile={}", host.home().join("turnserver.pid").display()));
    args.extend([first, second].map(|ip| format!("--listening-ip={ip}")));
    let program = independent("turnserver")?;
    let start = Start { program: &program, args, env: base_env(host.home()), stdin: None };
    ready(host, Running::start(host, &start)?, SocketAddr::from((first, PORT)))
}

/// Waits until the server answers on its own host.
fn ready(host: &AccessHost, running: Running, at: SocketAddr) -> Result<Server> {
    let start = Instant::now();
    while find_out(host, &[at])?.0.answered == 0 {
        ensure!(start.elapsed() < READY_LIMIT, "no STUN at {at}: {}", running.stderr());
    }
    Ok(Server { running, at })
}

/// A program of the Debian package coturn.
fn independent(name: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| format!("{name} is missing: install the Debian package coturn"))
}

/// All that coturn's client says about the NAT of this host.
fn independent_client(host: &AccessHost, server: SocketAddr) -> Result<String> {
    let program = independent("turnutils_natdiscovery")?;
    let args = ["-m", "-f", "-p"].map(str::to_owned).into_iter();
    let args = args.chain([server.port().to_string(), server.ip().to_string()]).collect();
    let start = Start { program: &program, args, env: base_env(host.home()), stdin: None };
    let output = Running::start(host, &start)?.finish(CLIENT_LIMIT)?;
    Ok(output.stdout + &output.stderr)
}

/// What coturn's client calls these NATs.
fn in_words_of_coturn(kind: Kind) -> [&'static str; 2] {
    let mapping = match kind.mapping {
        Mapping::None => "No NAT",
        Mapping::EndpointIndependent => "NAT with Endpoint Independent Mapping",
        Mapping::AddressDependent => "NAT with Address Dependent Mapping",
        Mapping::AddressAndPortDependent => "NAT with Address and Port Dependent Mapping",
    };
    let filtering = match kind.filtering {
        Filtering::EndpointIndependent => "NAT with Endpoint Independent Filtering",
        Filtering::AddressDependent => "NAT with Address Dependent Filtering",
        Filtering::AddressAndPortDependent => "NAT with Address and Port Dependent Filtering",
    };
    [mapping, filtering]
}
