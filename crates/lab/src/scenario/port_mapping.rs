//! A device behind a router that maps ports: the mapping is on the router and others come in by it, it is renewed past its
//! lease, and it is gone after a stop and after `kill -9` and a restart (acceptance line 4).
//!
//! A lease by UPnP lasts half an hour, which is waited for on demand only; PCP's are kept short by the router.
//!
//! The router lets in nothing but answers and what is mapped, and nobody has a relay or meets on the local network: who
//! gets in came by the mapping.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use handfast_proto::portmap::Method;

use super::pairing::{check_mutual, finish, join, offer};
use super::{Options, world::World};
use crate::control::Control;
use crate::device::Device;
use crate::peer::Peer;
use crate::portmap::{ASKED, LEASE, PortMapper, Speaks};
use crate::report::Report;
use crate::topology::Lab;

/// How long a router may take to be asked: a second's rest, and each other way of asking before the right one.
const MAPPED_LIMIT: Duration = Duration::from_secs(15);
/// The same for a device that has nothing to wait for but its own start.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// How much later a router may notice that a lease is over.
const SLACK: Duration = Duration::from_secs(10);

/// How often is looked.
const POLL: Duration = Duration::from_millis(100);

/// QUIC and TCP.
const PORTS: usize = 2;

/// How long a ping may take.
const PING_LIMIT: Duration = Duration::from_secs(10);

const NO_OTHER_WAY: [&str; 2] = ["--no-relay", "--no-lan"];

/// Plays it with each kind of router; a lease by UPnP is waited for if `half_an_hour` is not too long.
///
/// # Errors
/// When the lab cannot be made, a device does not start, or the two do not pair.
pub fn run(options: &Options, half_an_hour: bool) -> Result<Report> {
    let mut builder = Lab::empty().host("bob");
    for speaks in Speaks::ALL {
        builder = builder.host(speaks.host());
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let columns = ["router", "mapped after ms", "paired ms", "at", "gone after stop ms", "gone after restart ms"];
    let mut report = Report::new("port mapping by miniupnpd, 25 ms one way between the devices", &columns);
    for speaks in Speaks::ALL {
        play(&world, speaks, half_an_hour, &mut report)?;
    }
    Ok(report)
}

fn play(world: &World, speaks: Speaks, half_an_hour: bool, report: &mut Report) -> Result<()> {
    let router = PortMapper::new(&world.lab, speaks)?;
    let what = |what: &str| format!("{}: {what}", speaks.name());
    let bootstrap = || world.dht.bootstrap();
    let mut alice = Device::new(router.inside(), "alice")?.bootstrap(bootstrap());
    let mut bob = world.device("bob", &format!("bob-{}", speaks.host()))?;
    bob.start_daemon_with(&NO_OTHER_WAY)?;

    // Without being wanted, or allowed, nothing is mapped.
    alice.start_daemon_with(&[NO_OTHER_WAY.as_slice(), &["--no-port-mapping"]].concat())?;
    let forbidden = offer(&alice, &["--yes"])?;
    std::thread::sleep(MAPPED_LIMIT / 3);
    report.check(
        &what("nothing with --no-port-mapping"),
        router.mapped()?.is_empty(),
        format!("{:?}", router.mapped()?),
    );
    drop(forbidden);
    alice.stop()?;

    // A code that is open when the device is killed.
    alice.start_daemon_with(&NO_OTHER_WAY)?;
    ensure!(router.mapped()?.is_empty(), "nobody wants anything yet");
    let lost = offer(&alice, &["--yes"])?;
    wait(&router, PORTS, MAPPED_LIMIT)?;
    alice.kill9();
    drop(lost);
    report.check(&what("left behind by kill -9"), router.mapped()?.len() == PORTS, format!("{:?}", router.mapped()?));
    let begun = Instant::now();
    alice.start_daemon_with(&NO_OTHER_WAY)?;
    let cleaned = wait(&router, 0, GONE_LIMIT);
    report.check(&what("gone after kill -9 and restart"), cleaned.is_ok(), format!("{cleaned:?}"));
    let cleaned = begun.elapsed();

    // A pairing that comes in by it, with UPnP at another port than the device's own, which a neighbour has.
    let port = quic_port(&alice)?;
    // His lease ends with that of whoever does not renew his.
    let mut others = usize::from(speaks == Speaks::Upnp);
    if speaks == Speaks::Upnp {
        router.give_away(port)?;
    }
    let offered = Instant::now();
    let offer = offer(&alice, &["--yes"])?;
    wait(&router, others + PORTS, MAPPED_LIMIT)?;
    let mapped = offered.elapsed();
    let told = status(&alice, &router)?;
    report.check(&what("status names both ports"), told.len() == PORTS, format!("{told:?}"));
    if speaks == Speaks::Upnp {
        let is_another = !told.iter().any(|address| address.contains(&format!("/udp/{port}/")));
        report.check(&what("another port where a neighbour has ours"), is_another, format!("{port} is his: {told:?}"));
    }
    let pairing = finish(offer, |words| join(&bob, words, &["--yes"]))?;
    check_mutual(&alice, &bob)?;
    let to_alice = alice.status()?.id;
    let pong = Control::of(&bob).ping(&to_alice, PING_LIMIT)?.map_err(|cause| anyhow!("no ping: {cause}"))?;
    let is_right = pairing.path == "direct" && pong.path == "direct" && told.contains(&pong.address);
    report.check(&what("reached from outside"), is_right, format!("{} at {}", pong.path, pong.address));

    if speaks == Speaks::Packets {
        let by_nat_pmp = router.map_and_forget(Method::NatPmp)?;
        report.check(&what("NAT-PMP maps as well"), by_nat_pmp.lease > 0, format!("{by_nat_pmp:?}"));
    }
    if speaks == Speaks::Packets || half_an_hour {
        outlive(world, &router, speaks, (&alice, &bob), report)?;
        others = 0;
    }

    let begun = Instant::now();
    alice.stop()?;
    let stopped = begun.elapsed();
    let rules = router.mapped()?;
    report.check(&what("gone after stop, and nobody else's"), rules.len() == others, format!("{rules:?}"));
    let ms = |time: Duration| time.as_millis().to_string();
    report.row(vec![speaks.name().to_owned(), ms(mapped), ms(pairing.both()), pong.address, ms(stopped), ms(cleaned)]);
    bob.stop()?;
    Ok(())
}

/// Waits until a lease has ended: what nobody renews is gone, the ports of the device are there and let in somebody new.
fn outlive(
    world: &World,
    router: &PortMapper,
    speaks: Speaks,
    (alice, bob): (&Device, &Device),
    report: &mut Report,
) -> Result<()> {
    let what = |what: &str| format!("{}: {what}", speaks.name());
    // miniupnpd 2.3.1 keeps leases short by PCP only. The one by PCP takes the place of the one by NAT-PMP.
    let (method, longest) = match speaks {
        Speaks::Packets => (Method::Pcp, LEASE),
        Speaks::Upnp => (Method::Upnp, ASKED),
    };
    let told = status(alice, router)?;
    let forgotten = router.map_and_forget(method)?;
    report.check(&what("a lease"), (1..=longest).contains(&forgotten.lease), format!("{forgotten:?}"));
    let before = router.mapped()?;
    std::thread::sleep(Duration::from_secs(longest.into()) + SLACK);
    let rules = router.mapped()?;
    let is_ours = before.len() > PORTS && rules.len() == PORTS;
    report.check(&what("renewed past its lease"), is_ours, format!("{before:?}, then {rules:?}"));
    let now = status(alice, router)?;
    report.check(&what("the same ports as before"), now == told, format!("{told:?}, then {now:?}"));
    let stranger = Peer::device(&world.lab.host("bob")?, &world.dht.bootstrap())?;
    for address in &now {
        let reached = stranger.dial(None, &[address.parse()?]);
        report.check(&what("somebody new gets in after that"), reached.is_ok(), format!("{address} {reached:?}"));
    }
    let pong = Control::of(bob).ping(&alice.status()?.id, PING_LIMIT)?;
    report.check(&what("a ping after that"), pong.is_ok(), format!("{pong:?}"));
    Ok(())
}

/// Waits until the router maps so many ports.
fn wait(router: &PortMapper, count: usize, limit: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        let rules = router.mapped()?;
        if rules.len() == count {
            return Ok(());
        }
        ensure!(begun.elapsed() < limit, "{count} ports were to be mapped: {rules:?}");
        std::thread::sleep(POLL);
    }
}

/// The UDP port that a device listens at.
fn quic_port(device: &Device) -> Result<u16> {
    let own = device.status()?.addresses;
    let port = own.iter().find_map(|own| own.address.strip_prefix("/ip4/192.168.90.11/udp/")?.split('/').next());
    Ok(port.context("it listens behind the router")?.parse()?)
}

/// The mapped addresses in `status`, once they are as many as there are ports.
fn status(device: &Device, router: &PortMapper) -> Result<Vec<String>> {
    let begun = Instant::now();
    let head = format!("/ip4/{}/", router.public());
    loop {
        let own = device.status()?.addresses;
        let mapped: Vec<String> =
            own.into_iter().filter(|own| own.source == "port_mapping").map(|own| own.address).collect();
        if mapped.len() == PORTS || begun.elapsed() > MAPPED_LIMIT {
            ensure!(mapped.iter().all(|address| address.starts_with(&head)), "{mapped:?}");
            return Ok(mapped);
        }
        std::thread::sleep(POLL);
    }
}
