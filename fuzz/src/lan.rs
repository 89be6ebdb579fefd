//! The machine of the local network: a schedule of beacons and calls, right, wrong and changed, and of time.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use handfast_proto::addr::InterfaceAddress;
use handfast_proto::lan::io::{
    Addressed, CallFailure, CallId, Command, Datagram, Destination, Event as Told, InCall, InCallId, Interface,
    InterfaceKind, ListenerId, OutCall, Surroundings,
};
use handfast_proto::lan::{Event, FamilyPorts, Lan, Output, Purpose, Wanted, WindowId};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::session::Role;
use handfast_proto::time::Time;
use handfast_proto::wire::beacon::{BEACON_LEN, Beacon, BeaconKind, Nid, PORT, Ports};
use handfast_proto::wire::confirm::{Answer, CONFIRM_LEN, Call, Op, Status};
use handfast_proto::wire::info::DeviceName;

use crate::input::Input;
use crate::layout::keys;

/// Operations of one case.
const MAX_STEPS: usize = 100;
/// Wake-ups after one passing of time.
const MAX_WAKES: usize = 2_000;
/// Peers that a window remembers, and of one address.
const MAX_PEERS: (usize, usize) = (64, 4);
/// Calls at the same time, and to others in a minute (section 12).
const MAX_CALLS: (usize, usize) = (8, 20);
/// Beacons to a group in one second (6.1); two seconds of the machine's own count may overlap one of ours.
const MAX_BEACONS: usize = 20;

const CODE: WindowId = WindowId(1);
const NEARBY: WindowId = WindowId(2);
const LISTENER_PORT: u16 = 40_001;

/// A machine with what it has asked for.
struct Stage {
    lan: Lan,
    now: Time,
    own: u8,
    listeners: Vec<ListenerId>,
    calls: Vec<(CallId, OutCall)>,
    beacons: VecDeque<Time>,
    called: VecDeque<Time>,
    /// Somebody has proven the code, by a beacon or a call.
    proven: bool,
    next_in_call: u64,
}

/// A window with a code and one without, on a link of which everybody is an attacker or holds the code.
pub(crate) fn lan(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut stage = Stage {
        lan: Lan::new(Rng::from_seed(Secret::new([1; 32]))),
        now: Time::ZERO,
        own: 1,
        listeners: Vec::new(),
        calls: Vec::new(),
        beacons: VecDeque::new(),
        called: VecDeque::new(),
        proven: false,
        next_in_call: 0,
    };
    stage.lan.set_ports(FamilyPorts { v4: (4001, 4002), v6: (4001, 4002) }, stage.now);
    stage.move_to(1);
    let role = if input.bool() { Role::Initiator } else { Role::Joiner };
    let with_code = |role| Wanted::Open(Purpose::Code { role, keys: keys(1).lan().clone() });
    stage.lan.set_window(CODE, with_code(role), stage.now);
    stage.drain();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => stage.wait(input.millis()),
            1 | 2 => stage.datagram(&mut input),
            3 => stage.called_by(&mut input),
            4 => stage.call_ends(&mut input),
            5 => {
                let to = input.byte() % 4;
                stage.move_to(to);
            }
            6 => {
                let hosts = (0..input.byte() % 8).map(|n| (2, ip(n * 30))).collect();
                stage.told(Told::Neighbours(hosts));
            }
            _ => {
                let name = DeviceName::clean("fuzz");
                let (window, wanted) = match input.byte() % 6 {
                    0 => (CODE, Wanted::Over),
                    1 => (CODE, Wanted::Closed),
                    2 => (CODE, with_code(role)),
                    3 => (NEARBY, Wanted::Closed),
                    _ => (NEARBY, Wanted::Open(Purpose::Nearby { name })),
                };
                stage.lan.set_window(window, wanted, stage.now);
            }
        }
        stage.drain();
    }
    stage.wait(Duration::from_secs(130));
    stage.drain();
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, n)
}

/// On the link, or not.
fn source(input: &mut Input<'_>) -> IpAddr {
    let n = input.byte();
    match input.byte() {
        0xff => IpAddr::V4(Ipv4Addr::new(5, 1, 2, n)),
        0xfe => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => ip(n).into(),
    }
}

/// With the code, without one, or with a wrong one.
enum Signer {
    Code,
    Nobody,
    Stranger,
}

fn signer(input: &mut Input<'_>) -> Signer {
    match input.byte() % 4 {
        0 => Signer::Nobody,
        1 => Signer::Stranger,
        _ => Signer::Code,
    }
}

impl Stage {
    fn told(&mut self, event: Told) {
        self.lan.handle_event(event, self.now);
    }

    /// Another address, or none.
    fn move_to(&mut self, n: u8) {
        self.own = n;
        let addresses = vec![InterfaceAddress { ip: ip(n).into(), prefix_len: 24 }];
        let interface = Interface {
            index: 2,
            name: "eth0".to_owned(),
            kind: InterfaceKind::Network,
            up: true,
            multicast: true,
            addresses,
            broadcast: Some(ip(255)),
        };
        let interfaces = if n == 0 { Vec::new() } else { vec![interface] };
        self.told(Told::Surroundings(Surroundings { interfaces, ..Surroundings::default() }));
    }

    fn wait(&mut self, wait: Duration) {
        let end = self.now + wait;
        for wake in 0.. {
            assert!(wake < MAX_WAKES, "time stands still");
            let Some(due) = self.lan.poll_timeout(self.now).filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            self.lan.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn datagram(&mut self, input: &mut Input<'_>) {
        let source = source(input);
        let port = [PORT, 4000][input.below(2)];
        let says = if input.byte() == 0xff { ip(9).into() } else { source };
        let kind = match input.byte() % 4 {
            0 => BeaconKind::Nearby,
            1 => BeaconKind::Presence,
            2 => BeaconKind::Code { from_joiner: true },
            _ => BeaconKind::Code { from_joiner: false },
        };
        let ports = Ports { tcp: 4001, quic: input.u16(), confirm: input.u16() };
        let nid = Nid([input.byte(); 16]);
        let beacon = Beacon { kind, nid, nonce: input.array(), address: says, ports, spki: [input.byte(); 32] };
        let signer = signer(input);
        let mut bytes = match signer {
            Signer::Code => beacon.sealed(keys(1).lan()),
            Signer::Stranger => beacon.sealed(keys(2).lan()),
            Signer::Nobody => beacon.open(),
        }
        .to_vec();
        let changed = input.change(&mut bytes);
        bytes.truncate(BEACON_LEN + 1);
        let addressed = [Addressed::Group, Addressed::Broadcast, Addressed::Unicast][input.below(3)];
        let hop_limit = if input.byte() == 0xff { 254 } else { 255 };
        let is_code = matches!(kind, BeaconKind::Code { .. });
        self.proven |= matches!(signer, Signer::Code) && !changed && is_code && hop_limit == 255;
        let source = SocketAddr::new(source, port);
        self.told(Told::Received(Datagram { interface: 2, source, addressed, hop_limit, bytes }));
    }

    fn called_by(&mut self, input: &mut Input<'_>) {
        let Some(listener) = self.listeners.last().copied() else { return };
        let remote = SocketAddr::new(source(input), 50_000);
        let call = Call {
            op: if input.bool() { Op::Ping } else { Op::SelfCheck },
            from: Nid([input.byte(); 16]),
            to: Nid(input.array()),
            dialled: source(input),
            address: remote.ip(),
            ports: Ports { tcp: input.u16(), quic: 4002, confirm: input.u16() },
            spki: [input.byte(); 32],
            code: [input.byte(); 32],
        };
        // Whoever has heard a beacon of ours knows our id; a call of ours to ourselves is known to nobody else.
        let ours = self.calls.iter().find_map(|(_, call)| Call::parse(&call.request).ok());
        let call = match (input.byte() % 3, ours) {
            (0, Some(ours)) => Call { to: ours.message().from, ..call },
            (1, Some(ours)) => ours.message().clone(),
            _ => call,
        };
        let signer = signer(input);
        let mut request = match signer {
            Signer::Code => call.to_bytes(Some(keys(1).lan())),
            Signer::Stranger => call.to_bytes(Some(keys(2).lan())),
            Signer::Nobody => call.to_bytes(None),
        }
        .to_vec();
        let changed = input.change(&mut request);
        self.proven |= matches!(signer, Signer::Code) && !changed;
        request.resize(CONFIRM_LEN, 0);
        let Ok(request) = request.try_into() else { return };
        self.next_in_call += 1;
        let local = SocketAddr::new(ip(self.own).into(), LISTENER_PORT);
        self.told(Told::Called(
            InCallId(self.next_in_call),
            InCall { listener, local, remote, request: Box::new(request) },
        ));
    }

    fn call_ends(&mut self, input: &mut Input<'_>) {
        if self.calls.is_empty() {
            return;
        }
        let (id, call) = self.calls.remove(input.below(self.calls.len()));
        let Ok(read) = Call::parse(&call.request) else { panic!("a call of ours has our layout") };
        let answer = Answer {
            status: [Status::Ok, Status::NotMine, Status::Busy][input.below(3)],
            from: read.message().to,
            observed: source(input),
            observed_port: input.u16(),
            echo: read.message().echo(),
            name: input.bool().then(|| DeviceName::clean("\u{202e}somebody")),
        };
        let mut bytes = match signer(input) {
            Signer::Code => answer.to_bytes(Some(keys(1).lan())),
            Signer::Stranger => answer.to_bytes(Some(keys(2).lan())),
            Signer::Nobody => answer.to_bytes(None),
        }
        .to_vec();
        input.change(&mut bytes);
        bytes.resize(CONFIRM_LEN, 0);
        let failures = [
            CallFailure::TimedOut,
            CallFailure::Refused,
            CallFailure::NoHost,
            CallFailure::WrongKey,
            CallFailure::Broken,
        ];
        let result = match (input.byte() % 4, bytes.try_into()) {
            (0, _) | (_, Err(_)) => Err(failures[input.below(5)]),
            (_, Ok(bytes)) => Ok(Box::new(bytes)),
        };
        self.told(Told::CallDone(id, result));
    }

    fn drain(&mut self) {
        while let Some(output) = self.lan.poll_output() {
            match output {
                Output::Command(command) => self.command(command),
                Output::Event(event) => self.event(event),
            }
        }
        let (_, running) = self.lan.load();
        assert!(running <= MAX_CALLS.0, "{running} calls");
        let ready = self.lan.ready(NEARBY);
        assert!(ready.len() <= MAX_PEERS.0);
        for device in &ready {
            assert!(ready.iter().filter(|other| other.ip == device.ip).count() <= MAX_PEERS.1);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Send(sent) => match sent.to {
                Destination::Group => {
                    self.beacons.push_back(self.now);
                    let since = self.now;
                    self.beacons.retain(|at| since.since(*at) < Duration::from_secs(1));
                    assert!(self.beacons.len() <= MAX_BEACONS, "{} beacons in a second", self.beacons.len());
                }
                Destination::Broadcast(to) => assert_eq!(to, ip(255)),
                Destination::Unicast(to) => assert!(on_link(to), "a datagram to {to}"),
            },
            Command::Listen(id) => {
                self.listeners.push(id);
                self.told(Told::Listening { id, port: LISTENER_PORT, spki: [7; 32] });
            }
            Command::Unlisten(id) => self.listeners.retain(|other| *other != id),
            Command::Call(id, call) => {
                assert!(on_link(call.to.ip()) && call.to.port() >= 1024, "a call to {}", call.to);
                let is_own = call.to.port() == LISTENER_PORT && call.to.ip() == call.from;
                if !is_own {
                    self.called.push_back(self.now);
                    let since = self.now;
                    self.called.retain(|at| since.since(*at) < Duration::from_secs(60));
                    assert!(self.called.len() <= MAX_CALLS.1, "{} calls in a minute", self.called.len());
                }
                self.calls.push((id, call));
                if self.calls.len() > 2 * MAX_CALLS.0 {
                    self.calls.remove(0);
                }
            }
            Command::Answer(..) | Command::Open(_) | Command::Neighbours => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Heard { window, addresses } => {
                assert!(window == CODE && self.proven, "heard without the code");
                assert!(addresses.iter().all(|address| on_link(address.ip) && address.port != 0));
            }
            Event::Ready { window, device } => {
                assert!(window == NEARBY && on_link(device.ip));
                assert!(device.addresses.iter().all(|address| address.ip == device.ip && address.port != 0));
                if let Some(name) = device.name {
                    crate::text::name(name.as_str().as_bytes());
                }
            }
            Event::Evidence { ip, .. } | Event::SelfCheckFailed { ip } => assert!(on_link(ip), "evidence for {ip}"),
            Event::Gone { .. } | Event::Named { .. } | Event::SeenAs { .. } | Event::Surroundings => {}
        }
    }
}

fn on_link(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == [192, 168, 1])
}
