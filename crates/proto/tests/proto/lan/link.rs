//! A link with devices on it: their machines, what is on its way, virtual time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use handfast_proto::addr::InterfaceAddress;
use handfast_proto::addresses::Evidence;
use handfast_proto::code::Code;
use handfast_proto::keys::CodeKeys;
use handfast_proto::lan::io::{
    Addressed, CallFailure, CallId, Command, Datagram, Destination, Event as Input, InCall, InCallId, Interface,
    InterfaceKind, ListenerId, OutCall, Surroundings, Transmit,
};
use handfast_proto::lan::{Event, FamilyPorts, Lan, Output, Purpose, Wanted, WindowId};
use handfast_proto::secret::Secret;
use handfast_proto::session::Role;
use handfast_proto::time::Time;

use crate::bench::rng;

pub(super) const WINDOW: WindowId = WindowId(7);
const STEP: Duration = Duration::from_millis(10);

pub(super) fn keys(n: u8) -> CodeKeys {
    CodeKeys::derive(&Code::from_entropy(Secret::new([n; 16])))
}

pub(super) fn purpose(role: Role, code: u8) -> Purpose {
    Purpose::Code { role, keys: keys(code).lan().clone() }
}

/// A device of the link, number `n` of 192.168.1.0/24.
pub(super) struct Device {
    pub(super) lan: Lan,
    pub(super) ip: IpAddr,
    pub(super) listeners: Vec<ListenerId>,
    /// Group datagrams of others that reach it, and its own that leave.
    pub(super) hears_group: bool,
    pub(super) sends_group: bool,
    /// Lets in what it asked for, and nothing else.
    pub(super) firewall: bool,
    pub(super) neighbours: Vec<(u32, Ipv4Addr)>,
    pub(super) sent: Vec<Transmit>,
    pub(super) events: Vec<Event>,
    pub(super) calls_made: usize,
    /// Whom it called.
    pub(super) called: Vec<IpAddr>,
    /// Nobody gets through to its listener.
    pub(super) is_lost: bool,
}

pub(super) fn ipv4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, n)
}

pub(super) fn interface(ip: Ipv4Addr) -> Interface {
    Interface {
        index: 2,
        name: "eth0".to_owned(),
        kind: InterfaceKind::Network,
        up: true,
        multicast: true,
        addresses: vec![InterfaceAddress { ip: ip.into(), prefix_len: 24 }],
        broadcast: Some(Ipv4Addr::new(192, 168, 1, 255)),
    }
}

impl Device {
    pub(super) fn new(n: u8) -> Device {
        let mut lan = Lan::new(rng(n));
        let ports = (4000 + u16::from(n), 5000 + u16::from(n));
        lan.set_ports(FamilyPorts { v4: ports, v6: ports }, Time::default());
        let surroundings = Surroundings { interfaces: vec![interface(ipv4(n))], ..Surroundings::default() };
        lan.handle_event(Input::Surroundings(surroundings), Time::default());
        Device {
            lan,
            ip: ipv4(n).into(),
            listeners: Vec::new(),
            hears_group: true,
            sends_group: true,
            firewall: false,
            neighbours: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            calls_made: 0,
            called: Vec::new(),
            is_lost: false,
        }
    }

    pub(super) fn heard(&self) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Heard { .. })).count()
    }

    pub(super) fn evidence(&self) -> Option<Evidence> {
        let of = |e: &Event| match e {
            Event::Evidence { evidence, .. } => Some(*evidence),
            _ => None,
        };
        self.events.iter().filter_map(of).max()
    }
}

/// The link, with everything that is on its way.
pub(super) struct Link {
    pub(super) now: Time,
    pub(super) devices: Vec<Device>,
    /// Unanswered calls: who made them, the call's number there, whom.
    answers: Vec<(usize, CallId)>,
    next_call: u64,
    /// Who has sent to whom lately: what a firewall remembers.
    flows: Vec<(IpAddr, IpAddr)>,
}

impl Link {
    pub(super) fn new(devices: Vec<Device>) -> Link {
        Link { now: Time::default(), devices, answers: Vec::new(), next_call: 0, flows: Vec::new() }
    }

    pub(super) fn open(&mut self, n: usize, purpose: Purpose) {
        let now = self.now;
        self.devices[n].lan.set_window(WINDOW, Wanted::Open(purpose), now);
        self.drain();
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = self.now + STEP;
            for n in 0..self.devices.len() {
                self.devices[n].lan.handle_timeout(self.now);
            }
            self.drain();
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some((n, output)) =
            (0..self.devices.len()).find_map(|n| self.devices[n].lan.poll_output().map(|o| (n, o)))
        {
            match output {
                Output::Event(event) => self.devices[n].events.push(event),
                Output::Command(command) => self.command(n, command),
            }
        }
    }

    fn command(&mut self, n: usize, command: Command) {
        match command {
            Command::Open(_) => {}
            Command::Send(transmit) => self.send(n, transmit),
            Command::Listen(id) => {
                self.devices[n].listeners.push(id);
                let port = 20_000 + u16::try_from(n).expect("few devices");
                let now = self.now;
                self.devices[n].lan.handle_event(Input::Listening { id, port, spki: spki(n) }, now);
            }
            Command::Unlisten(id) => self.devices[n].listeners.retain(|l| *l != id),
            Command::Call(id, call) => self.call(n, id, &call),
            Command::Answer(id, reply) => {
                let at = usize::try_from(id.0).expect("few calls");
                let (caller, call) = self.answers[at];
                let now = self.now;
                let result = reply.ok_or(CallFailure::Broken);
                self.devices[caller].lan.handle_event(Input::CallDone(call, result), now);
            }
            Command::Neighbours => {
                let (now, list) = (self.now, self.devices[n].neighbours.clone());
                self.devices[n].lan.handle_event(Input::Neighbours(list), now);
            }
        }
    }

    fn send(&mut self, from: usize, transmit: Transmit) {
        let (source, sends_group) = (self.devices[from].ip, self.devices[from].sends_group);
        assert_eq!(transmit.source, source);
        self.devices[from].sent.push(transmit.clone());
        for to in 0..self.devices.len() {
            let target = &self.devices[to];
            let addressed = match transmit.to {
                Destination::Group if sends_group && target.hears_group => Addressed::Group,
                Destination::Broadcast(_) if sends_group && target.hears_group => Addressed::Broadcast,
                Destination::Unicast(ip) if ip == target.ip => {
                    self.flows.push((source, ip));
                    Addressed::Unicast
                }
                Destination::Group | Destination::Broadcast(_) | Destination::Unicast(_) => continue,
            };
            let asked_for = addressed == Addressed::Unicast && self.flows.contains(&(target.ip, source));
            if to != from && (!target.firewall || asked_for) {
                self.deliver(to, source, addressed, &transmit.bytes);
            }
        }
    }

    pub(super) fn deliver(&mut self, to: usize, source: IpAddr, addressed: Addressed, bytes: &[u8]) {
        let source = SocketAddr::new(source, 18502);
        let datagram = Datagram { interface: 2, source, addressed, hop_limit: 255, bytes: bytes.to_vec() };
        let now = self.now;
        self.devices[to].lan.handle_event(Input::Received(datagram), now);
    }

    fn call(&mut self, from: usize, id: CallId, call: &OutCall) {
        self.devices[from].calls_made += 1;
        self.devices[from].called.push(call.to.ip());
        let (now, remote) = (self.now, self.devices[from].ip);
        let target =
            self.devices.iter().position(|d| d.ip == call.to.ip() && !d.is_lost && !(d.firewall && d.ip != remote));
        let listener = target.and_then(|n| self.devices[n].listeners.last().copied());
        let (Some(target), Some(listener)) = (target, listener) else {
            return self.devices[from].lan.handle_event(Input::CallDone(id, Err(CallFailure::TimedOut)), now);
        };
        if call.spki != spki(target) {
            return self.devices[from].lan.handle_event(Input::CallDone(id, Err(CallFailure::WrongKey)), now);
        }
        self.answers.push((from, id));
        let in_call =
            InCall { listener, local: call.to, remote: SocketAddr::new(remote, 50_000), request: call.request.clone() };
        let number = InCallId(self.next_call);
        self.next_call += 1;
        self.devices[target].lan.handle_event(Input::Called(number, in_call), now);
    }
}

pub(super) fn two() -> Link {
    Link::new(vec![Device::new(1), Device::new(2)])
}

/// The key of a device's listener.
pub(super) fn spki(n: usize) -> [u8; 32] {
    [u8::try_from(n + 1).expect("few devices"); 32]
}
