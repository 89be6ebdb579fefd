//! Two devices behind one NAT that lets nobody inside reach its public address: in one network, in two that it routes
//! between, and in two that it keeps apart (acceptance line 1, pairs behind one NAT).
//!
//! Words name no address; where the two are near each other, the private addresses in the sealed record lead there, also
//! if nothing is found on the local network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::pairing::{Pairing, check_mutual, finish, join, offer};
use super::{Options, world::World};
use crate::control::{Control, Pong};
use crate::device::Device;
use crate::host::Host;
use crate::ns::{LabName, Namespace};
use crate::report::Report;
use crate::router::{self, Switches};
use crate::stats::Summary;
use crate::topology::Lab;

/// How long devices that have just started get to enter the DHT and to reserve at relays.
const WARM_UP: Duration = Duration::from_secs(4);

/// How long after the pairing a relayed link is watched for something better.
const BETTER_LIMIT: Duration = Duration::from_secs(8);

/// How often.
const POLL: Duration = Duration::from_millis(200);

/// How long a ping of devices that are connected may take.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// The devices of a household.
const DEVICES: [&str; 2] = ["alice", "bob"];

/// What the router does with the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    OneNetwork,
    Routed,
    Apart,
}

impl Layout {
    const ALL: [Layout; 3] = [Layout::OneNetwork, Layout::Routed, Layout::Apart];

    fn name(self) -> &'static str {
        match self {
            Layout::OneNetwork => "one network",
            Layout::Routed => "two networks, routed",
            Layout::Apart => "two networks, kept apart",
        }
    }

    /// The host of the lab that is the router.
    fn router(self) -> &'static str {
        match self {
            Layout::OneNetwork => "home",
            Layout::Routed => "office",
            Layout::Apart => "guests",
        }
    }

    /// Paths by which the two may talk in the end.
    fn paths(self) -> &'static [&'static str] {
        match self {
            Layout::OneNetwork => &["lan"],
            Layout::Routed => &["direct"],
            Layout::Apart => &["relay"],
        }
    }

    /// The network of each device, by the third byte of its addresses.
    fn networks(self) -> [u8; 2] {
        if self == Layout::OneNetwork { [77, 77] } else { [77, 78] }
    }

    fn rules(self) -> &'static str {
        match self {
            Layout::OneNetwork | Layout::Routed => "",
            Layout::Apart => "iifname \"lan*\" oifname \"lan*\" drop",
        }
    }
}

/// A router and the two devices behind it.
struct Household {
    layout: Layout,
    hosts: [Host; 2],
    _switches: Switches,
}

impl Household {
    fn new(lab: &Lab, layout: Layout) -> Result<Household> {
        let of_lab = LabName::unique();
        let mut switches = Switches::new(&of_lab)?;
        let router = lab.host(layout.router())?;
        router::translate(&router, layout.rules())?;
        let networks = layout.networks();
        for network in BTreeSet::from(networks) {
            let interface = format!("lan{network}");
            switches.plug(&interface, router.namespace(), &interface)?;
            router::up(router.namespace(), &interface, address(network, 1))?;
        }
        let mut host = |index: usize| {
            let (name, network) = (DEVICES[index], networks[index]);
            let namespace = Namespace::create(&of_lab, name)?;
            switches.plug(&format!("lan{network}"), &namespace, "eth0")?;
            router::up(&namespace, "eth0", address(network, u8::try_from(11 + index)?))?;
            namespace.ip(&["route", "add", "default", "via", &address(network, 1).to_string()])?;
            Host::with_sysfs(&format!("{}-{name}", layout.router()), namespace, lab.dir())
        };
        let hosts = [host(0)?, host(1)?];
        Ok(Household { layout, hosts, _switches: switches })
    }

    /// Its devices, new ones for each `round`.
    fn devices(&self, world: &World, round: usize, options: &[&str]) -> Result<[Device; 2]> {
        let start = |index: usize| {
            let device = Device::new(&self.hosts[index], &format!("{}-{round}", DEVICES[index]))?;
            let mut device = device.bootstrap(world.dht.bootstrap());
            device.start_daemon_with(options)?;
            Ok::<_, anyhow::Error>(device)
        };
        Ok([start(0)?, start(1)?])
    }
}

fn address(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, network, host)
}

/// A pairing that came to what it must.
struct Met {
    took: Duration,
    first: String,
    last: String,
    address: String,
}

/// Pairs in every household, with the local network in use and without, `options.runs` times each.
///
/// # Errors
/// When the lab cannot be made or a device does not start; a pairing that ends otherwise than it must is a failed check.
pub fn run(options: &Options) -> Result<Report> {
    let mut builder = Lab::empty();
    for layout in Layout::ALL {
        builder = builder.host(layout.router());
    }
    for node in 0..options.nodes {
        builder = builder.host(&format!("node-{node}"));
    }
    let world = World::of(builder, options, None)?;
    let households = Layout::ALL.map(|layout| Household::new(&world.lab, layout));
    let households: Vec<Household> = households.into_iter().collect::<Result<_>>()?;
    let columns = ["behind one NAT", "local network", "paired", "median ms", "p95 ms", "first path", "last path", "at"];
    let mut report = Report::new("two devices behind one NAT without hairpin, 25 ms one way to the nodes", &columns);
    let mut rounds = 0..;
    for (local, arguments) in [("used", [].as_slice()), ("not used", &["--no-lan"])] {
        let mut ends: Vec<Vec<Result<Met>>> = households.iter().map(|_| Vec::new()).collect();
        for number in rounds.by_ref().take(options.runs) {
            for (ends, end) in ends.iter_mut().zip(round(&world, &households, number, arguments, options.gap)?) {
                ends.push(end);
            }
        }
        for (household, ends) in households.iter().zip(ends) {
            report_cell(&mut report, household.layout, local, ends);
        }
    }
    Ok(report)
}

/// One pairing in each household: all are warm, then one joiner after the other comes, and at last the links are watched.
fn round(
    world: &World,
    households: &[Household],
    number: usize,
    arguments: &[&str],
    gap: Duration,
) -> Result<Vec<Result<Met>>> {
    let start = |household: &Household| household.devices(world, number, arguments);
    let mut devices: Vec<[Device; 2]> = households.iter().map(start).collect::<Result<_>>()?;
    std::thread::sleep(WARM_UP);
    let paired: Vec<Result<(String, Pairing)>> = devices.iter().map(|[alice, bob]| pair(alice, bob, gap)).collect();
    let deadline = Instant::now() + BETTER_LIMIT;
    let mut ends = Vec::new();
    for ((household, [alice, bob]), paired) in households.iter().zip(&devices).zip(paired) {
        ends.push(paired.and_then(|(first, pairing)| {
            let pong = watch(alice, bob, deadline)?;
            let is_private = !household.layout.paths().contains(&"relay");
            let met = Met { took: pairing.both(), first, last: pong.path, address: pong.address };
            met.check(household.layout.paths(), is_private)?;
            Ok(met)
        }));
    }
    for device in devices.iter_mut().flatten() {
        device.stop()?;
    }
    Ok(ends)
}

/// Pairs them; gives the path of the first connection as well.
fn pair(initiator: &Device, joiner: &Device, gap: Duration) -> Result<(String, Pairing)> {
    let events = joiner.spawn(&["events"], None)?;
    let offer = offer(initiator, &["--yes"])?;
    std::thread::sleep(gap);
    let pairing = finish(offer, |words| join(joiner, words, &["--yes"]))?;
    let first = events.wait_event("connected", PING_LIMIT)?.text("path")?.to_owned();
    check_mutual(initiator, joiner)?;
    Ok((first, pairing))
}

/// The answer to a ping, once there is a better path than a relay or none has come until `deadline`. Both sides must be on
/// the same.
fn watch(alice: &Device, bob: &Device, deadline: Instant) -> Result<Pong> {
    let (to_alice, to_bob) = (alice.status()?.id, bob.status()?.id);
    let (mut from_alice, mut from_bob) = (Control::of(alice), Control::of(bob));
    loop {
        let there = from_bob.ping(&to_alice, PING_LIMIT)?.map_err(|cause| anyhow!("from the joiner: {cause}"))?;
        let back = from_alice.ping(&to_bob, PING_LIMIT)?.map_err(|cause| anyhow!("from the initiator: {cause}"))?;
        let is_over = Instant::now() >= deadline;
        if there.path == back.path && (there.path != "relay" || is_over) {
            return Ok(there);
        }
        ensure!(!is_over, "{} from the joiner, {} from the initiator", there.path, back.path);
        std::thread::sleep(POLL);
    }
}

impl Met {
    /// The IP address in that of the other device, or of the relay.
    fn ip(&self) -> &str {
        self.address.split('/').nth(2).unwrap_or_default()
    }

    fn check(&self, paths: &[&str], is_private: bool) -> Result<()> {
        let Met { first, last, address, .. } = self;
        ensure!(paths.contains(&last.as_str()), "first by {first}, at last by {last} at {address}");
        let ip: Ipv4Addr = self.ip().parse().with_context(|| format!("no IPv4 address in {address}"))?;
        ensure!(ip.is_private() == is_private, "{last} at {address}");
        Ok(())
    }
}

fn report_cell(report: &mut Report, layout: Layout, local: &str, ends: Vec<Result<Met>>) {
    let runs = ends.len();
    let (met, failed): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
    let met: Vec<Met> = met.into_iter().flatten().collect();
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    let times = Summary::of(&met.iter().map(|met| met.took).collect::<Vec<_>>());
    let ms =
        |of: fn(&Summary) -> f64| times.as_ref().map_or_else(|| "-".to_owned(), |times| format!("{:.1}", of(times)));
    let names =
        |of: fn(&Met) -> &str| met.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ");
    report.row(vec![
        layout.name().to_owned(),
        local.to_owned(),
        format!("{} of {runs}", met.len()),
        ms(|times| times.median_ms),
        ms(|times| times.p95_ms),
        names(|met| &met.first),
        names(|met| &met.last),
        names(Met::ip),
    ]);
    let what = format!("{}, local network {local}: in the end by {}", layout.name(), layout.paths().join(" or "));
    report.check(&what, failed.is_empty(), format!("{} of {runs} {}", met.len(), failed.join("; ")));
}
