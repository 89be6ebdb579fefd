//! A host that moves between networks while its programs run, as a laptop or a telephone does.
//!
//! It has three places: at home and in a café it is behind one of two routers that translate, each with a public address
//! of its own; in the street it has a public address itself. It is at one of them at a time, by an interface of that
//! place, and has no IPv6.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::Host;
use crate::ns::{LabName, Namespace, ip_batch};
use crate::router::{self, Switches};
use crate::topology::{Lab, LabBuilder};

/// How long a host is offline that comes back to where it was.
const OFFLINE: Duration = Duration::from_secs(3);

/// The interface of a router that leads to its network.
const IN: &str = "lan0";

/// The lowest address that a network gives to a host.
const FIRST: u8 = 10;

/// A network that the host can be in.
struct Place {
    name: &'static str,
    interface: &'static str,
    network: [u8; 3],
    /// Hosts of the lab; their addresses in the network count from 1.
    routers: &'static [&'static str],
}

const PLACES: [Place; 3] = [
    Place { name: "home", interface: "eth0", network: [192, 168, 77], routers: &["home-1", "home-2"] },
    Place { name: "cafe", interface: "eth1", network: [192, 168, 88], routers: &["cafe-1", "cafe-2"] },
    Place { name: "street", interface: "eth2", network: [5, 2, 1], routers: &["street"] },
];
const HOME: usize = 0;
const CAFE: usize = 1;
const STREET: usize = 2;

/// What happens to the network of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Another address on the same link.
    Address,
    /// Another network behind another NAT.
    Network,
    /// Another router of the same network, behind another public address; own address and interface stay.
    Gateway,
    /// Three seconds without a link, then all is as before.
    Offline,
    /// From behind a NAT to a public address.
    Public,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 5] = [Change::Address, Change::Network, Change::Gateway, Change::Offline, Change::Public];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Change::Address => "new address",
            Change::Network => "another NAT",
            Change::Gateway => "another gateway",
            Change::Offline => "offline for 3 s",
            Change::Public => "to a public address",
        }
    }
}

/// Where in a place the host is, or was when it left.
#[derive(Clone, Copy)]
struct Spot {
    router: usize,
    number: u8,
}

/// A host of a lab that can change its network.
pub struct MovingHost {
    host: Host,
    _switches: Switches,
    place: usize,
    spots: [Spot; PLACES.len()],
}

impl MovingHost {
    /// Adds the routers of all places to a lab.
    #[must_use]
    pub fn routers(mut builder: LabBuilder) -> LabBuilder {
        for router in PLACES.iter().flat_map(|place| place.routers) {
            builder = builder.host(router);
        }
        builder
    }

    /// Adds the host to a lab that has its routers. It is at home.
    ///
    /// # Errors
    /// When a part cannot be made.
    pub fn new(lab: &Lab, name: &str) -> Result<MovingHost> {
        let of_lab = LabName::unique();
        let namespace = Namespace::create(&of_lab, name)?;
        let mut switches = Switches::new(&of_lab)?;
        for (index, place) in PLACES.iter().enumerate() {
            switches.plug(place.name, &namespace, place.interface)?;
            for (number, router) in (1..).zip(place.routers) {
                let router = lab.host(router)?;
                switches.plug(place.name, router.namespace(), IN)?;
                router::up(router.namespace(), IN, place.address(number))?;
                if index == STREET {
                    router::forward(&router, &format!("{}/24", place.address(0)), lab.backbone())?;
                } else {
                    router::translate(&router, "")?;
                }
            }
        }
        let host = Host::with_sysfs(name, namespace, lab.dir())?;
        let spots = [Spot { router: 0, number: FIRST }; PLACES.len()];
        let moving = MovingHost { host, _switches: switches, place: HOME, spots };
        moving.run(&moving.arriving())?;
        Ok(moving)
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Whether this can happen where the host is.
    #[must_use]
    pub fn can(&self, change: Change) -> bool {
        match change {
            Change::Address | Change::Network | Change::Offline => true,
            Change::Gateway | Change::Public => self.place != STREET,
        }
    }

    /// Lets it happen; gives the moment from which on the new network is up.
    ///
    /// # Errors
    /// When the system refuses a part of it.
    pub fn change(&mut self, change: Change) -> Result<Instant> {
        match change {
            Change::Address => {
                let gone = format!("addr del {}/24 dev {}\n", self.address(), self.here().interface);
                let spot = &mut self.spots[self.place];
                spot.number = spot.number.checked_add(1).unwrap_or(FIRST);
                self.run(&(gone + &self.arriving()))?;
            }
            Change::Network => self.go(if self.place == HOME { CAFE } else { HOME })?,
            Change::Public => self.go(STREET)?,
            Change::Gateway => {
                let spot = &mut self.spots[self.place];
                spot.router = (spot.router + 1) % PLACES[self.place].routers.len();
                self.run(&self.way_out())?;
            }
            Change::Offline => {
                self.run(&format!("link set {} down\n", self.here().interface))?;
                std::thread::sleep(OFFLINE);
                self.run(&format!("link set {} up\n{}", self.here().interface, self.way_out()))?;
            }
        }
        Ok(Instant::now())
    }

    fn go(&mut self, place: usize) -> Result<()> {
        let left = self.here().interface;
        self.place = place;
        self.run(&format!("addr flush dev {left}\nlink set {left} down\n{}", self.arriving()))
    }

    fn here(&self) -> &'static Place {
        &PLACES[self.place]
    }

    fn address(&self) -> Ipv4Addr {
        self.here().address(self.spots[self.place].number)
    }

    /// What brings the host to its spot.
    fn arriving(&self) -> String {
        let (interface, address) = (self.here().interface, self.address());
        let mut commands = format!("link set {interface} up\n");
        // Writing to a String cannot fail.
        let _ = writeln!(commands, "addr add {address}/24 brd + dev {interface}");
        commands + &self.way_out()
    }

    fn way_out(&self) -> String {
        // The routers of a network have its first addresses.
        let router = (1..).zip(self.here().routers).nth(self.spots[self.place].router).map_or(1, |(number, _)| number);
        format!("route replace default via {} dev {}\n", self.here().address(router), self.here().interface)
    }

    fn run(&self, commands: &str) -> Result<()> {
        self.host.namespace().enter(|| ip_batch(commands))?
    }
}

impl Place {
    fn address(&self, number: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number)
    }
}
