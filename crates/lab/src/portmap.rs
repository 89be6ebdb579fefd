//! A router at home that maps ports when it is asked to: miniupnpd, of the Debian package `miniupnpd-nftables`, on a
//! router that otherwise lets in nothing but answers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handfast_proto::addr::Transport;
use handfast_proto::portmap::{Granted, Job, Mapping, Method, Outcome, Task};

use crate::device::base_env;
use crate::host::Host;
use crate::ns::{LabName, Namespace};
use crate::process::{Running, Start};
use crate::router::{self, IN, OUT, Switches};
use crate::skip::find_program;
use crate::topology::{AccessHost, Lab};

/// The network behind it: the router's address there, and those of the two hosts.
const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 0);
const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 1);
const BEHIND: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 11);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 12);

/// The longest lease that it gives, in seconds, where it speaks [`Speaks::Packets`].
pub const LEASE: u32 = 80;

/// What is asked for, in seconds, as devices do. With UPnP it is what they get: miniupnpd does not shorten it.
pub const ASKED: u32 = 1_800;

/// How long the daemon may take to start, and one look whether it did.
const READY_LIMIT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a router is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// PCP and NAT-PMP, with [`LEASE`] as the longest lease.
    Packets,
    /// UPnP-IGD.
    Upnp,
}

impl Speaks {
    /// Both.
    pub const ALL: [Speaks; 2] = [Speaks::Packets, Speaks::Upnp];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Speaks::Packets => "PCP, NAT-PMP",
            Speaks::Upnp => "UPnP-IGD",
        }
    }

    /// The host of the lab that it runs on.
    #[must_use]
    pub fn host(self) -> &'static str {
        match self {
            Speaks::Packets => "home",
            Speaks::Upnp => "office",
        }
    }
}

/// Such a router, the host behind it and a neighbour. (The daemon ends before its host is taken away.)
pub struct PortMapper {
    _daemon: Running,
    router: AccessHost,
    inside: Host,
    neighbour: Namespace,
    _switches: Switches,
}

impl PortMapper {
    /// Makes a router of that host of the lab.
    ///
    /// # Errors
    /// When it cannot be made, or miniupnpd is missing or does not start.
    pub fn new(lab: &Lab, speaks: Speaks) -> Result<PortMapper> {
        let router = lab.host(speaks.host())?;
        let of_lab = LabName::unique();
        let mut switches = Switches::new(&of_lab)?;
        switches.plug(IN, router.namespace(), IN)?;
        router::up(router.namespace(), IN, OURS)?;
        router.namespace().sysctl("net.ipv4.ip_forward", "1")?;
        router.namespace().nft(&rules())?;
        let namespace = Namespace::create(&of_lab, "inside")?;
        switches.plug(IN, &namespace, "eth0")?;
        router::up(&namespace, "eth0", BEHIND)?;
        namespace.ip(&["route", "add", "default", "via", &OURS.to_string()])?;
        let neighbour = Namespace::create(&of_lab, "neighbour")?;
        switches.plug(IN, &neighbour, "eth0")?;
        router::up(&neighbour, "eth0", NEIGHBOUR)?;
        let inside = Host::with_sysfs(&format!("{}-inside", speaks.host()), namespace, lab.dir())?;
        let daemon = start(&router, NETWORK, speaks)?;
        Ok(PortMapper { _daemon: daemon, router, inside, neighbour, _switches: switches })
    }

    /// The host behind it.
    #[must_use]
    pub fn inside(&self) -> &Host {
        &self.inside
    }

    /// Its public address.
    #[must_use]
    pub fn public(&self) -> Ipv4Addr {
        self.router.ipv4()
    }

    /// Has a port mapped that nobody listens at and nobody renews.
    ///
    /// # Errors
    /// When the router does not want to.
    pub fn map_and_forget(&self, method: Method) -> Result<Granted> {
        map(self.inside.namespace(), method, SocketAddrV4::new(BEHIND, 5_555), Transport::Tcp)
    }

    /// Gives the UDP port of this number to another host of the network, by UPnP.
    ///
    /// # Errors
    /// When the router does not want to.
    pub fn give_away(&self, port: u16) -> Result<()> {
        let inside = SocketAddrV4::new(NEIGHBOUR, port);
        map(&self.neighbour, Method::Upnp, inside, Transport::Quic).map(|_| ())
    }

    /// What it maps now, in the words of nft.
    ///
    /// # Errors
    /// When nft fails.
    pub fn mapped(&self) -> Result<Vec<String>> {
        let rules = self.router.namespace().tool("nft", &["list", "chain", "inet", "filter", "mapped"])?;
        Ok(rules.lines().map(str::trim).filter(|rule| rule.contains("dnat")).map(str::to_owned).collect())
    }
}

/// Asks the router once, from this host.
fn map(from: &Namespace, method: Method, inside: SocketAddrV4, transport: Transport) -> Result<Granted> {
    let (port, nonce) = (inside.port(), [5; 12]);
    let mapping = Mapping { gateway: OURS, method, inside, transport, outside_port: port, nonce };
    let job = Job { mapping, task: Task::Map { lease: ASKED } };
    let outcome = from.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok::<_, std::io::Error>(runtime.block_on(handfast_net::portmap::run(job)))
    })??;
    match outcome {
        Outcome::Mapped(granted) => Ok(granted),
        Outcome::Removed | Outcome::Failed(_) => bail!("{method:?}: {outcome:?}"),
    }
}

/// Answers come in, and what is mapped. The chains `mapped`, `let_in` and `mapped_out` are miniupnpd's.
pub(crate) fn rules() -> String {
    format!(
        "table inet filter {{
            chain mapped {{ }}
            chain let_in {{ }}
            chain mapped_out {{ }}
            chain arriving {{
                type nat hook prerouting priority dstnat;
                jump mapped
            }}
            chain leaving {{
                type nat hook postrouting priority srcnat;
                jump mapped_out
                oifname \"{OUT}\" masquerade
            }}
            chain own {{
                type filter hook input priority filter;
                iifname \"{OUT}\" ct state new,invalid drop
            }}
            chain passing {{
                type filter hook forward priority filter;
                jump let_in
                iifname \"{OUT}\" ct state new,invalid drop
            }}
        }}"
    )
}

/// Has ports of this router mapped for the /24 that begins at `network`.
pub(crate) fn start(router: &Host, network: Ipv4Addr, speaks: Speaks) -> Result<Running> {
    let program = program()?;
    let (packets, upnp) = match speaks {
        Speaks::Packets => ("yes", "no"),
        Speaks::Upnp => ("no", "yes"),
    };
    let dir = router.home().join("miniupnpd");
    std::fs::create_dir_all(&dir)?;
    let config = dir.join("miniupnpd.conf");
    std::fs::write(
        &config,
        format!(
            "ext_ifname={OUT}\nlistening_ip={IN}\nhttp_port=0\nenable_natpmp={packets}\nenable_upnp={upnp}\n\
             min_lifetime=60\nmax_lifetime={LEASE}\nupnp_table_name=filter\nupnp_nat_table_name=filter\n\
             upnp_forward_chain=let_in\nupnp_nat_chain=mapped\nupnp_nat_postrouting_chain=mapped_out\n\
             secure_mode=yes\nsystem_uptime=yes\nuuid=6d0f3c1e-6a0c-4f43-9d0e-0a3c2f1b7a10\n\
             allow 1024-65535 {network}/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
        ),
    )?;
    let pid = dir.join("pid");
    let args = ["-d", "-f", &config.display().to_string(), "-P", &pid.display().to_string()].map(str::to_owned);
    let start = Start { program: &program, args: args.into(), env: base_env(router.home()), stdin: None };
    let mut daemon = Running::start(router, &start)?;
    let port = match speaks {
        Speaks::Packets => ":5351",
        Speaks::Upnp => ":1900",
    };
    let begun = Instant::now();
    while !router.namespace().tool("ss", &["-H", "-u", "-l", "-n"])?.contains(port) {
        ensure!(daemon.is_running() && begun.elapsed() < READY_LIMIT, "miniupnpd does not run: {}", daemon.stderr());
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(daemon)
}

fn program() -> Result<PathBuf> {
    find_program("miniupnpd").context("miniupnpd is missing: install the Debian package miniupnpd-nftables")
}
