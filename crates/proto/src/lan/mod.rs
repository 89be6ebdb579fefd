//! The local network (section 6): who is on it that holds one of our codes, and how sure we are of our own addresses.
//!
//! [`Lan`] is a machine like the table of sessions: hand it what the driver tells ([`io::Event`]) and which windows are
//! open, drain [`Lan::poll_output`], sleep until [`Lan::poll_timeout`]. It finds; it never pairs. What it reports is
//! where somebody is who proved a code by a MAC, and the connection that follows proves everything once more.

mod calls;
mod hearing;
pub mod io;
pub mod place;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::addr::{Address, Transport};
use crate::addresses::Evidence;
use crate::lan::calls::Calls;
use crate::lan::io::{Command, Destination, InCallId, ListenerId, Surroundings, Transmit};
use crate::lan::window::{Due, ListenerState, Window};
use crate::secret::Rng;
use crate::session::earlier;
use crate::time::Time;
use crate::wire::beacon::{Nid, Ports};
use crate::wire::info::DeviceName;

pub use window::Purpose;

/// Beacons that may leave an interface in one second, over all windows (section 6.1); a sweep has a pace of its own.
const BEACONS_PER_SECOND: u32 = 10;
/// Windows: eight live sessions, `pair nearby`, and the ended codes that are still answered for.
const MAX_WINDOWS: usize = 80;

/// Names a window; its owner chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowId(pub u64);

/// A window of a session: what its owner wants.
pub enum Wanted {
    /// Open.
    Open(Purpose),
    /// The code is over: whoever still holds it is answered, and learns so.
    Over,
    /// Gone.
    Closed,
}

/// What the machine wants done, and what it has found out.
pub enum Output {
    /// For the driver.
    Command(Command),
    /// For whoever owns the windows and the addresses.
    Event(Event),
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody who holds the code of this window is at these addresses.
    Heard {
        /// Which window.
        window: WindowId,
        /// Where it can be dialled: its observed address at the ports it names, QUIC first.
        addresses: Vec<Address>,
    },
    /// A device is ready to pair nearby, or says more of itself than before.
    Ready {
        /// Which window of ours.
        window: WindowId,
        /// The device.
        device: NearbyDevice,
    },
    /// A device that was ready nearby has fallen silent.
    Gone {
        /// Which window of ours.
        window: WindowId,
        /// Which device.
        nid: Nid,
        /// Where it was.
        ip: IpAddr,
    },
    /// A window of `pair nearby` is called by this id from now on.
    Named {
        /// Which window.
        window: WindowId,
        /// Its id.
        nid: Nid,
    },
    /// An address of ours has evidence.
    Evidence {
        /// The address.
        ip: IpAddr,
        /// How sure it is.
        evidence: Evidence,
    },
    /// We called ourselves at an address of ours and nothing came back.
    SelfCheckFailed {
        /// The address.
        ip: IpAddr,
    },
    /// A peer tells under which address it sees us.
    SeenAs {
        /// The address.
        ip: IpAddr,
    },
    /// Interfaces or addresses of this machine have changed.
    Surroundings,
}

/// A device in the list of `pair nearby`. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearbyDevice {
    /// What it is called in this window.
    pub nid: Nid,
    /// The name it gives itself, if it was asked already.
    pub name: Option<DeviceName>,
    /// Where it is.
    pub ip: IpAddr,
    /// Our own addresses on the interfaces on which it was met: the only ones at which it may reach us.
    pub own: Vec<IpAddr>,
    /// Where it can be dialled.
    pub addresses: Vec<Address>,
    /// The key that its confirmation listener has, as it says (SHA-256 of the SubjectPublicKeyInfo); zero without one.
    pub spki: [u8; 32],
    /// A call to `ip` was answered under that key by this id: it is not somebody else who says the same.
    pub answered: bool,
}

/// The machine. One for a device.
pub struct Lan {
    rng: Rng,
    ports: FamilyPorts,
    surroundings: Surroundings,
    windows: BTreeMap<WindowId, Window>,
    pace: BTreeMap<u32, Pace>,
    calls: Calls,
    next_listener: u64,
    is_open: bool,
    send_errors: BTreeMap<u32, String>,
    out: VecDeque<Output>,
}

/// The ports of our listeners, which the system may have chosen apart for each family; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyPorts {
    /// TCP and QUIC over IPv4.
    pub v4: (u16, u16),
    /// TCP and QUIC over IPv6.
    pub v6: (u16, u16),
}

impl FamilyPorts {
    /// The ports at which we are reached at an address of ours.
    fn of(self, own: IpAddr) -> Ports {
        let (tcp, quic) = if own.is_ipv4() { self.v4 } else { self.v6 };
        Ports { tcp, quic, confirm: 0 }
    }

    fn are_known(self) -> bool {
        self != FamilyPorts::default()
    }
}

/// Beacons of one interface in the second that began at `since`.
struct Pace {
    since: Time,
    sent: u32,
}

impl Lan {
    /// A machine that has no window yet.
    pub fn new(rng: Rng) -> Lan {
        Lan {
            rng,
            ports: FamilyPorts::default(),
            surroundings: Surroundings::default(),
            windows: BTreeMap::new(),
            pace: BTreeMap::new(),
            calls: Calls::default(),
            next_listener: 0,
            is_open: false,
            send_errors: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// What the system last said of this machine's networks.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The ports of our listeners. Open windows tell them at once.
    pub fn set_ports(&mut self, ports: FamilyPorts, now: Time) {
        if self.ports != ports {
            self.ports = ports;
            self.beat_everywhere(now);
        }
    }

    /// Opens, ends or closes a window.
    pub fn set_window(&mut self, id: WindowId, wanted: Wanted, now: Time) {
        match wanted {
            Wanted::Open(purpose) => {
                if self.windows.len() >= MAX_WINDOWS || self.windows.contains_key(&id) {
                    return;
                }
                let listener = self.next_listener();
                self.windows.insert(id, Window::new(purpose, listener, &mut self.rng, now));
                self.tell_name(id);
                self.open_or_close();
                self.command(Command::Listen(listener));
            }
            Wanted::Over => {
                if let Some(window) = self.windows.get_mut(&id)
                    && !window.is_over
                {
                    window.is_over = true;
                    window.peers.clear();
                    let listener = window.listener.id;
                    window.listener.state = ListenerState::None;
                    self.command(Command::Unlisten(listener));
                }
            }
            Wanted::Closed => {
                if let Some(window) = self.windows.remove(&id)
                    && !window.is_over
                {
                    self.command(Command::Unlisten(window.listener.id));
                }
                self.open_or_close();
            }
        }
        self.run(now);
    }

    /// Whether some interface could be used at all.
    pub fn has_network(&self) -> bool {
        place::usable(&self.surroundings).into_iter().any(|i| place::sources(i).next().is_some())
    }

    /// Interfaces on which this machine itself cannot send to the group, and what the system says.
    pub fn send_errors(&self) -> &BTreeMap<u32, String> {
        &self.send_errors
    }

    /// The devices that were heard in a window of `pair nearby`.
    pub fn ready(&self, id: WindowId) -> Vec<NearbyDevice> {
        let peers = self.windows.get(&id).map(|w| w.peers.as_slice()).unwrap_or_default();
        peers.iter().map(|peer| nearby_device(peer, &self.surroundings)).collect()
    }

    /// The driver tells something.
    pub fn handle_event(&mut self, event: io::Event, now: Time) {
        match event {
            io::Event::Surroundings(surroundings) => {
                if surroundings != self.surroundings {
                    self.surroundings = surroundings;
                    self.send_errors.clear();
                    self.beat_everywhere(now);
                    self.event(Event::Surroundings);
                }
            }
            io::Event::Received(datagram) => self.received(&datagram, now),
            io::Event::SendFailed { interface, to: Destination::Group, error } => {
                self.send_errors.insert(interface, error);
            }
            // One host that cannot be asked is none.
            io::Event::SendFailed { .. } => {}
            io::Event::Listening { id, port, spki } => {
                self.listener_is(id, ListenerState::Up { port, spki }, now);
            }
            io::Event::ListenFailed { id, .. } => self.listener_is(id, ListenerState::None, now),
            io::Event::Called(id, call) => self.called(id, &call, now),
            io::Event::CallDone(id, result) => self.call_done(id, result, now),
            io::Event::Neighbours(list) => self.neighbours(&list, now),
        }
        self.run(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.run(now);
    }

    /// When [`Lan::handle_timeout`] is due.
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        self.windows.values().fold(self.calls.deadline(), |at, w| earlier(at, w.deadline(self.ports, now)))
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Windows, calls that run: for bounds and leak tests.
    pub fn load(&self) -> (usize, usize) {
        (self.windows.len(), self.calls.running())
    }

    /// Does whatever is due.
    fn run(&mut self, now: Time) {
        let ids: Vec<WindowId> = self.windows.keys().copied().collect();
        for id in ids {
            self.rotate(id, now);
            while let Some(due) = self.windows.get_mut(&id).and_then(|w| w.due(self.ports, now)) {
                match due {
                    Due::Beat => self.beat(id, now),
                    Due::Sweep => self.sweep(id, now),
                    Due::SelfCheck => self.check_own_addresses(id, now),
                }
            }
            let Some(window) = self.windows.get_mut(&id) else { continue };
            window.registered.retain(|_, (_, until)| *until > now);
            for (nid, ip) in window.silent(now) {
                self.event(Event::Gone { window: id, nid, ip });
            }
        }
        self.start_calls(now);
    }

    fn rotate(&mut self, id: WindowId, now: Time) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        let next = &mut self.next_listener;
        let fresh = || {
            *next += 1;
            ListenerId(*next)
        };
        if let Some(old) = window.rotate(fresh, &mut self.rng, now) {
            let new = window.listener.id;
            self.command(Command::Unlisten(old));
            self.command(Command::Listen(new));
            self.tell_name(id);
        }
    }

    /// Without a code the owner of a window must know what it is called by.
    fn tell_name(&mut self, id: WindowId) {
        if let Some(window) = self.windows.get(&id).filter(|w| w.keys().is_none()) {
            let nid = window.nid;
            self.event(Event::Named { window: id, nid });
        }
    }

    /// One beacon on every link.
    fn beat(&mut self, id: WindowId, now: Time) {
        for (interface, source) in self.everywhere() {
            self.send_beacon(id, interface, source, Destination::Group, now);
        }
        let direct: Vec<(u32, IpAddr, IpAddr)> =
            self.windows.get(&id).map(|w| w.direct().map(|p| (p.interface, p.own, p.ip)).collect()).unwrap_or_default();
        for (interface, own, ip) in direct {
            self.send_beacon(id, interface, own, Destination::Unicast(ip), now);
        }
        self.command(Command::Neighbours);
    }

    /// Interfaces that carry multicast, with the addresses to send from.
    fn everywhere(&self) -> Vec<(u32, IpAddr)> {
        place::usable(&self.surroundings)
            .into_iter()
            .filter(|i| i.multicast)
            .flat_map(|i| place::sources(i).map(move |ip| (i.index, ip)))
            .collect()
    }

    fn sweep(&mut self, id: WindowId, now: Time) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        let (begins, chunk) = window.sweep_chunk(|| place::sweep(&self.surroundings), now);
        if begins {
            let broadcasts: Vec<_> = place::usable(&self.surroundings)
                .into_iter()
                .filter_map(|i| Some((i.index, place::sources(i).find(IpAddr::is_ipv4)?, i.broadcast?)))
                .collect();
            for (interface, source, everybody) in broadcasts {
                self.send_beacon(id, interface, source, Destination::Broadcast(everybody), now);
            }
        }
        for (interface, source, host) in chunk {
            self.transmit(id, interface, source, Destination::Unicast(host.into()));
        }
    }

    /// Hosts of our links that the system has met: each is told of the window by a beacon of its own. It is how somebody
    /// is met whom multicast does not reach, and it lets the answer in through a firewall of ours.
    fn neighbours(&mut self, list: &[(u32, std::net::Ipv4Addr)], now: Time) {
        let ids: Vec<WindowId> = self.windows.iter().filter(|(_, w)| w.keys().is_some()).map(|(id, _)| *id).collect();
        for (interface, host) in list {
            let Some(found) = place::reached_by(&self.surroundings, *interface, (*host).into()) else { continue };
            let Some(source) = place::sources(found).find(IpAddr::is_ipv4) else { continue };
            for id in &ids {
                if self.windows.get_mut(id).is_some_and(|w| w.is_ready(self.ports, now) && w.tell(*host, now)) {
                    self.send_beacon(*id, *interface, source, Destination::Unicast((*host).into()), now);
                }
            }
        }
    }

    /// Sends a beacon if the interface's pace allows one more.
    fn send_beacon(&mut self, id: WindowId, interface: u32, source: IpAddr, to: Destination, now: Time) {
        let pace = self.pace.entry(interface).or_insert(Pace { since: now, sent: 0 });
        if now.since(pace.since) >= Duration::from_secs(1) {
            (pace.since, pace.sent) = (now, 0);
        }
        if pace.sent < BEACONS_PER_SECOND {
            pace.sent += 1;
            self.transmit(id, interface, source, to);
        }
    }

    fn transmit(&mut self, id: WindowId, interface: u32, source: IpAddr, to: Destination) {
        if let Some(window) = self.windows.get(&id) {
            let bytes = window.beacon(source, self.ports.of(source), &mut self.rng);
            self.command(Command::Send(Transmit { interface, source, to, bytes }));
        }
    }

    fn listener_is(&mut self, id: ListenerId, state: ListenerState, now: Time) {
        let Some(window) = self.windows.values_mut().find(|w| w.listener.id == id && !w.is_over) else { return };
        window.listener.state = state;
        window.beat_now(now);
    }

    fn beat_everywhere(&mut self, now: Time) {
        for window in self.windows.values_mut() {
            window.beat_now(now);
        }
        self.run(now);
    }

    fn next_listener(&mut self) -> ListenerId {
        self.next_listener += 1;
        ListenerId(self.next_listener)
    }

    fn open_or_close(&mut self) {
        let open = !self.windows.is_empty();
        if open != self.is_open {
            self.is_open = open;
            self.pace.clear();
            self.command(Command::Open(open));
        }
    }

    fn command(&mut self, command: Command) {
        self.out.push_back(Output::Command(command));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn answer(&mut self, id: InCallId, reply: Option<Box<[u8; 160]>>) {
        self.command(Command::Answer(id, reply));
    }
}

/// The addresses at which a peer can be dialled: its observed one, at the ports it names.
fn dialable(peer: &window::Peer) -> Vec<Address> {
    [(Transport::Quic, peer.ports.quic), (Transport::Tcp, peer.ports.tcp)]
        .into_iter()
        .filter(|(_, port)| *port != 0)
        .map(|(transport, port)| Address { ip: peer.ip, port, transport })
        .collect()
}

fn nearby_device(peer: &window::Peer, surroundings: &Surroundings) -> NearbyDevice {
    let met_on = surroundings.interfaces.iter().filter(|i| peer.met_on.contains(&i.index));
    let own = met_on.flat_map(place::sources).filter(|ip| ip.is_ipv4() == peer.ip.is_ipv4()).collect();
    NearbyDevice {
        nid: peer.nid,
        name: peer.name.clone(),
        ip: peer.ip,
        own,
        addresses: dialable(peer),
        spki: peer.spki,
        answered: peer.answered,
    }
}
