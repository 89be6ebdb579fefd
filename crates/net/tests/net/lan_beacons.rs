//! Beacon sockets, and everything that needs more addresses than loopback has: in network namespaces of a test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::time::{Duration, Instant};

use handfast_net::lan::LanTransport as _;
use handfast_proto::lan::io::{
    Addressed, CallFailure, Command, Datagram, Destination, Event, Interface, OutCall, Surroundings, Transmit,
};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::lan::{CALL_ENDS, Driver, alone, ip, link, message, own_call};
use crate::support::{STEP, pick};

const PORT: u16 = 18502;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn usable(surroundings: &Surroundings, name: &str) -> Option<Interface> {
    surroundings.interfaces.iter().find(|i| i.name == name && i.up && !i.addresses.is_empty()).cloned()
}

impl Driver {
    /// A driver with open beacon sockets, on `name` too.
    async fn opened(name: &str) -> (Driver, u32) {
        let mut driver = Driver::start();
        driver.send(Command::Open(true)).await;
        let index = driver.joined(name).await;
        (driver, index)
    }

    /// Waits until the sockets of an interface stand; its number.
    async fn joined(&mut self, name: &str) -> u32 {
        let found = self.until(pick!(Event::Surroundings(s) if usable(s, name).is_some() => usable(s, name))).await;
        self.settle().await;
        found.expect("it was picked").index
    }

    async fn transmit(&self, interface: u32, source: &str, to: Destination, byte: u8) {
        self.send(Command::Send(Transmit { interface, source: address(source), to, bytes: [byte; 112] })).await;
    }

    async fn received(&mut self, byte: u8) -> Datagram {
        self.until(pick!(Event::Received(d) if d.bytes.first() == Some(&byte) => d.clone())).await
    }
}

/// A plain socket that sends to the group on the interface of `source`.
fn stranger(source: &str, ttl: u32) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    let IpAddr::V4(ip) = address(source) else { panic!("IPv4 only") };
    socket.bind(&SocketAddr::new(ip.into(), 0).into()).expect("binds");
    socket.set_multicast_if_v4(&ip).expect("an interface");
    socket.set_multicast_ttl_v4(ttl).expect("a TTL");
    socket
}

fn group() -> socket2::SockAddr {
    SocketAddr::from(([224, 0, 0, 254], PORT)).into()
}

/// A30, L0: no route to anywhere but the link. Every instance on the host hears every beacon, from the address that
/// was asked for although the interface has several.
#[test]
fn a30_two_drivers_on_one_host_hear_each_beacon_with_interface_source_and_hop_limit() {
    alone!(a30_two_drivers_on_one_host_hear_each_beacon_with_interface_source_and_hop_limit, async {
        link("v0", &["10.77.0.1/24", "10.77.0.2/24", "fe80::7/64", "fd77::1/64"]);
        link("w0", &["10.88.0.1/24"]);
        let (mut one, index) = Driver::opened("v0").await;
        let (mut two, _) = Driver::opened("v0").await;
        for (byte, source) in [(1, "10.77.0.1"), (2, "10.77.0.2"), (3, "fd77::1"), (4, "fe80::7")] {
            one.transmit(index, source, Destination::Group, byte).await;
            for driver in [&mut one, &mut two] {
                let got = driver.received(byte).await;
                assert_eq!((got.source.ip(), got.source.port()), (address(source), PORT));
                assert_eq!((got.interface, got.addressed, got.hop_limit), (index, Addressed::Group, 255), "{source}");
                assert_eq!(got.bytes, [byte; 112]);
            }
        }
        for (byte, to) in [(5, "10.77.0.255"), (6, "255.255.255.255")] {
            let IpAddr::V4(everybody) = address(to) else { panic!("IPv4 only") };
            one.transmit(index, "10.77.0.1", Destination::Broadcast(everybody), byte).await;
            for driver in [&mut one, &mut two] {
                let got = driver.received(byte).await;
                assert_eq!((got.interface, got.addressed, got.hop_limit), (index, Addressed::Broadcast, 255), "{to}");
            }
        }
        two.lan.end().await;
        one.transmit(index, "10.77.0.1", Destination::Unicast(address("10.77.0.2")), 7).await;
        let got = one.received(7).await;
        assert_eq!((got.addressed, got.source.ip()), (Addressed::Unicast, address("10.77.0.1")));
        one.settle().await;
        let again = one.log.iter().filter(|e| matches!(e, Event::Received(_))).count();
        assert_eq!(again, 0, "each datagram comes once: {:?}", one.log);
        assert!(one.log.iter().all(|e| !matches!(e, Event::SendFailed { .. })), "{:?}", one.log);
    });
}

/// Attack 23: what would show that a datagram is not what it should be reaches the machine.
#[test]
fn hop_limit_and_length_are_told_as_they_are() {
    alone!(hop_limit_and_length_are_told_as_they_are, async {
        link("v0", &["10.77.0.1/24"]);
        let (mut driver, _) = Driver::opened("v0").await;
        for (byte, ttl, len) in
            [(1, 254, 112), (2, 1, 112), (3, 255, 111), (4, 255, 113), (5, 255, 1_400), (6, 255, 112)]
        {
            stranger("10.77.0.1", ttl).send_to(&vec![byte; len], &group()).expect("sends");
            let got = driver.received(byte).await;
            assert_eq!((u32::from(got.hop_limit), got.bytes.len()), (ttl, len.min(113)));
        }
    });
}

/// Attack 24: a flood neither stops the driver nor hides another sender, and little of it is told.
#[test]
fn a_flood_of_ten_thousand_a_second_stops_nobody() {
    alone!(a_flood_of_ten_thousand_a_second_stops_nobody, async {
        link("v0", &["10.77.0.1/24", "10.77.0.2/24"]);
        let (mut driver, _) = Driver::opened("v0").await;
        let (peer, index) = Driver::opened("v0").await;
        let start = Instant::now();
        let flood = tokio::spawn(async move {
            let socket = stranger("10.77.0.1", 255);
            let mut sent = 0_u64;
            let mut tick = interval(Duration::from_millis(1));
            while sent < 20_000 {
                tick.tick().await;
                for _ in 0..10 {
                    sent += u64::from(socket.send_to(&[1; 112], &group()).is_ok());
                }
            }
            sent
        });
        let mut again = interval(Duration::from_millis(250));
        let heard = timeout(STEP, async {
            loop {
                tokio::select! {
                    _ = again.tick() => peer.transmit(index, "10.77.0.2", Destination::Group, 2).await,
                    got = driver.received(2) => break got,
                }
            }
        });
        assert_eq!(heard.await.expect("heard through the flood").source.ip(), address("10.77.0.2"));
        let asked = Instant::now();
        driver.listen(1).await;
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert_eq!(timeout(STEP, flood).await.expect("ends").expect("does not panic"), 20_000);
        driver.settle().await;
        let told = driver.log.iter().filter(|e| matches!(e, Event::Received(d) if d.bytes[0] == 1)).count();
        let seconds = usize::try_from(start.elapsed().as_secs()).expect("few") + 2;
        assert!(told <= 50 * seconds, "{told} in {seconds} s");
        assert!(told >= 50, "{told}");
    });
}

fn has_line(file: &str, wanted: &str) -> bool {
    std::fs::read_to_string(file).unwrap_or_default().lines().any(|line| line.contains(wanted))
}

/// What of the beacon's port and groups is open in this namespace.
fn open_in_system() -> [bool; 4] {
    [
        has_line("/proc/self/net/udp", ":4846 "),
        has_line("/proc/self/net/udp6", ":4846 "),
        has_line("/proc/self/net/igmp", "FE0000E0"),
        has_line("/proc/self/net/igmp6", "ff120000000000000000000000004846"),
    ]
}

/// A16, A30: sockets exist only while asked for.
#[test]
fn nothing_is_open_before_and_after_a_window() {
    alone!(nothing_is_open_before_and_after_a_window, async {
        link("v0", &["10.77.0.1/24", "fd77::1/64"]);
        let mut driver = Driver::start();
        driver.transmit(1, "10.77.0.1", Destination::Group, 1).await;
        driver.until(pick!(Event::SendFailed { interface: 1, to: Destination::Group, .. } => ())).await;
        assert_eq!(open_in_system(), [false; 4]);
        assert_eq!(std::fs::read_to_string("/proc/self/net/tcp").expect("readable").lines().count(), 1);
        driver.send(Command::Open(true)).await;
        driver.joined("v0").await;
        assert_eq!(open_in_system(), [true; 4]);
        driver.send(Command::Open(true)).await;
        driver.send(Command::Open(false)).await;
        driver.settle().await;
        assert_eq!(open_in_system(), [false; 4]);
        driver.send(Command::Open(true)).await;
        driver.settle().await;
        assert_eq!(open_in_system(), [true; 4]);
        driver.lan.end().await;
        assert_eq!(open_in_system(), [false; 4]);
    });
}

/// A30: each NIC is used, and joins and leaves follow the interfaces.
#[test]
fn an_interface_that_comes_is_joined_and_one_that_goes_is_no_error() {
    alone!(an_interface_that_comes_is_joined_and_one_that_goes_is_no_error, async {
        link("v0", &["10.77.0.1/24"]);
        let (mut driver, index) = Driver::opened("v0").await;
        let (peer, _) = Driver::opened("v0").await;
        link("w0", &["10.88.0.1/24"]);
        let added = driver.joined("w0").await;
        peer.transmit(added, "10.88.0.1", Destination::Group, 1).await;
        assert_eq!(driver.received(1).await.interface, added);
        ip("link delete w0");
        let errors = driver.until(pick!(Event::Surroundings(s) if usable(s, "w0").is_none() => s.errors.clone())).await;
        assert_eq!(errors, Vec::<String>::new());
        peer.transmit(index, "10.77.0.1", Destination::Group, 2).await;
        assert_eq!(driver.received(2).await.interface, index);
        peer.transmit(added, "10.88.0.1", Destination::Group, 3).await;
    });
}

/// A20, A23: what is told is what the system has; the outbound address follows the default route.
#[test]
fn a20_a23_surroundings_tell_every_address_and_the_way_out() {
    alone!(a20_a23_surroundings_tell_every_address_and_the_way_out, async {
        link("v0", &["10.77.0.1/24", "10.77.0.2/24", "fd77::1/64"]);
        ip("link add down0 type veth peer name down0x");
        ip("address add 10.99.0.1/30 dev down0");
        let (mut driver, _) = Driver::opened("v0").await;
        ip("route add default via 10.77.0.254 dev v0 src 10.77.0.2");
        ip("-6 route add default via fd77::fe dev v0");
        let both = |s: &Surroundings| s.outbound.len() == 2;
        let seen = driver.until(pick!(Event::Surroundings(s) if both(s) => s.clone())).await;
        assert_eq!(seen.outbound, [address("10.77.0.2"), address("fd77::1")]);
        let addresses = |name: &str| {
            let i = seen.interfaces.iter().find(|i| i.name == name).expect("it is listed");
            let mut list: Vec<_> = i.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
            list.sort();
            (list.join(" "), i.up, i.broadcast.map(|b| b.to_string()))
        };
        let broadcast = Some("10.77.0.255".to_owned());
        assert_eq!(addresses("v0"), ("10.77.0.1/24 10.77.0.2/24 fd77::1/64".to_owned(), true, broadcast));
        assert_eq!(addresses("down0"), ("10.99.0.1/30".to_owned(), false, None));
        assert_eq!(addresses("lo").0, "127.0.0.1/8 ::1/128");
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        ip("route delete default");
        ip("-6 route delete default");
        driver.until(pick!(Event::Surroundings(s) if s.outbound.is_empty() => ())).await;
    });
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(address(from), 0)).expect("binds");
    timeout(STEP, socket.connect(to)).await.expect("in time").expect("connects")
}

/// Whether a connection was closed at once, or held until its time was over.
async fn refused(stream: &mut TcpStream, since: Instant) -> bool {
    let mut bytes = Vec::new();
    let _ = timeout(CALL_ENDS, stream.read_to_end(&mut bytes)).await.expect("closed in time");
    since.elapsed() < Duration::from_millis(1_500)
}

#[test]
fn a_listener_holds_eight_callers_of_its_link_and_two_of_each_and_none_from_elsewhere() {
    alone!(a_listener_holds_eight_callers_of_its_link_and_two_of_each_and_none_from_elsewhere, async {
        let sources: Vec<String> = (1..10).map(|n| format!("10.77.0.{n}/24")).collect();
        link("v0", &sources.iter().map(String::as_str).collect::<Vec<_>>());
        link("w0", &["10.88.0.1/24"]);
        let mut driver = Driver::start();
        let (port, spki) = driver.listen(1).await;
        let to = SocketAddr::new(address("10.77.0.1"), port);
        let since = Instant::now();
        let mut off_link = connect("10.88.0.1", to).await;
        let mut held = Vec::new();
        for source in ["10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5"] {
            held.push(connect(source, to).await);
            held.push(connect(source, to).await);
            if held.len() == 2 {
                let mut third = connect(source, to).await;
                assert!(refused(&mut third, since).await, "the third of one source was held");
            }
        }
        let mut ninth = connect("10.77.0.6", to).await;
        assert!(refused(&mut off_link, since).await, "one from another link was held");
        assert!(refused(&mut ninth, since).await, "the ninth was held");
        // Nobody keeps us from checking our own address.
        driver.call(1, own_call("10.77.0.1", port, spki)).await;
        let (id, call) = driver.called().await;
        assert_eq!((call.local, call.remote.ip()), (to, to.ip()));
        driver.send(Command::Answer(id, Some(message(9)))).await;
        assert_eq!(driver.done(1).await, Ok(message(9)));
        for stream in &mut held {
            assert!(!refused(stream, since).await, "one of the eight was refused");
        }
    });
}

/// A52: "no such host" and "no answer" are told apart, and neighbours are those that have answered.
#[test]
fn a_call_to_nobody_and_one_into_silence_end_differently() {
    alone!(a_call_to_nobody_and_one_into_silence_end_differently, async {
        link("v0", &["10.77.0.1/24"]);
        ip("neighbour add 10.77.0.98 lladdr 02:00:00:00:00:98 dev v0 nud permanent");
        let (mut driver, index) = Driver::opened("v0").await;
        let call = |n: u8| OutCall {
            to: SocketAddr::new(address(&format!("10.77.0.{n}")), 4_000),
            from: address("10.77.0.1"),
            spki: [0; 32],
            request: message(1),
        };
        driver.call(98, call(98)).await;
        driver.call(99, call(99)).await;
        assert_eq!(driver.done(98).await, Err(CallFailure::TimedOut));
        assert_eq!(driver.done(99).await, Err(CallFailure::NoHost));
        driver.send(Command::Neighbours).await;
        let found = driver.until(pick!(Event::Neighbours(found) => found.clone())).await;
        assert_eq!(found, [(index, "10.77.0.98".parse().expect("an address"))]);
    });
}

/// A26: at most so many calls in a minute, however fast each fails; those to ourselves aside.
#[test]
fn calls_to_others_are_limited_whatever_the_machine_asks_for() {
    alone!(calls_to_others_are_limited_whatever_the_machine_asks_for, async {
        link("v0", &["10.77.0.1/24", "10.77.0.2/24"]);
        let mut driver = Driver::start();
        let call = |from: &str| OutCall {
            to: SocketAddr::new(address("10.77.0.2"), 9),
            from: address(from),
            spki: [0; 32],
            request: message(1),
        };
        for n in 0..45 {
            driver.call(n, call("10.77.0.1")).await;
            let expected = if n < 40 { CallFailure::Refused } else { CallFailure::Broken };
            assert_eq!(driver.done(n).await, Err(expected), "{n}");
        }
        driver.call(45, call("10.77.0.2")).await;
        assert_eq!(driver.done(45).await, Err(CallFailure::Refused));
    });
}

/// Set in the process at the far end of the link.
const FAR: &str = "HANDFAST_TEST_FAR_END";

/// The far end: the same test in another process and namespace.
struct Far {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Far {
    fn start() -> Far {
        let mut child = Program::new("unshare")
            .arg("--net")
            .arg(std::env::current_exe().expect("the test binary"))
            .args(std::env::args().skip(1))
            .env(FAR, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Far { child, to, from: BufReader::new(from) }
    }

    /// Waits until the far end has said `word`.
    fn wait(&mut self, word: &str) {
        let mut lines = (&mut self.from).lines();
        assert!(lines.any(|line| line.expect("readable").contains(word)), "the far end ended before {word:?}");
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.to, "{word}").expect("the far end reads");
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A30, A34, A35: over a real link, out and back: beacons to the group, to everybody and to one host, and a call.
#[test]
fn a30_a34_two_hosts_hear_and_call_each_other() {
    alone!(a30_a34_two_hosts_hear_and_call_each_other, async {
        if std::env::var_os(FAR).is_some() { far_end().await } else { near_end().await }
    });
}

async fn near_end() {
    let mut far = Far::start();
    far.wait("in a namespace");
    link("v0", &["10.77.0.1/24", "fe80::1/64"]);
    ip(&format!("link set v0x netns {}", far.child.id()));
    far.tell("linked");
    far.wait("listening");
    let (mut driver, index) = Driver::opened("v0").await;
    let everybody = Destination::Broadcast("10.77.0.255".parse().expect("an address"));
    let host = Destination::Unicast(address("10.77.0.2"));
    let local_host = Destination::Unicast(address("fe80::2"));
    let ways = [
        (1, "10.77.0.1", Destination::Group, Addressed::Group),
        (2, "10.77.0.1", everybody, Addressed::Broadcast),
        (3, "10.77.0.1", host, Addressed::Unicast),
        (4, "fe80::1", Destination::Group, Addressed::Group),
        (5, "fe80::1", local_host, Addressed::Unicast),
    ];
    for (byte, source, to, addressed) in ways {
        driver.transmit(index, source, to, byte).await;
        // The far end says how it came: the byte, how it was addressed, its hop limit.
        let echo = driver.received(100 + byte).await;
        let named = [Addressed::Group, Addressed::Broadcast, Addressed::Unicast].iter().position(|a| *a == addressed);
        assert_eq!(echo.bytes[1..4].to_vec(), vec![byte, named.expect("one of them") as u8, 255], "{source} {to:?}");
        assert_eq!((echo.source, echo.interface), ((address("10.77.0.2"), PORT).into(), index));
        assert_eq!((echo.addressed, echo.hop_limit), (Addressed::Group, 255));
    }
    let (port, spki) = driver.listen(1).await;
    let mut bytes = [6; 112];
    bytes[8..10].copy_from_slice(&port.to_be_bytes());
    bytes[64..96].copy_from_slice(&spki);
    let to = Destination::Group;
    driver.send(Command::Send(Transmit { interface: index, source: address("10.77.0.1"), to, bytes })).await;
    for local in ["10.77.0.1", "fe80::1"] {
        let (id, call) = driver.called().await;
        assert_eq!(call.local.ip(), address(local));
        assert_eq!(call.remote.ip(), address(if local == "fe80::1" { "fe80::2" } else { "10.77.0.2" }));
        driver.send(Command::Answer(id, Some(message(9)))).await;
    }
    far.wait("answered");
    driver.send(Command::Neighbours).await;
    let found = driver.until(pick!(Event::Neighbours(found) if !found.is_empty() => found.clone())).await;
    assert_eq!(found, [(index, "10.77.0.2".parse().expect("an address"))]);
}

async fn far_end() {
    say("in a namespace");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("readable");
    ip("link set lo up");
    ip("link set v0x addrgenmode none");
    ip("link set v0x up");
    ip("address add 10.77.0.2/24 broadcast + dev v0x");
    ip("address add fe80::2/64 nodad dev v0x");
    let (mut driver, index) = Driver::opened("v0x").await;
    say("listening");
    for byte in 1..=5 {
        let got = driver.received(byte).await;
        assert_eq!(got.interface, index);
        let named =
            [Addressed::Group, Addressed::Broadcast, Addressed::Unicast].iter().position(|a| *a == got.addressed);
        let mut bytes = [0; 112];
        bytes[..4].copy_from_slice(&[100 + byte, byte, named.expect("one of them") as u8, got.hop_limit]);
        let source = address("10.77.0.2");
        driver.send(Command::Send(Transmit { interface: index, source, to: Destination::Group, bytes })).await;
    }
    let beacon = driver.received(6).await.bytes;
    let port = u16::from_be_bytes([beacon[8], beacon[9]]);
    let spki: [u8; 32] = beacon[64..96].try_into().expect("32 bytes");
    let local = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), port, 0, index);
    for (n, to, from) in [(1, (address("10.77.0.1"), port).into(), "10.77.0.2"), (2, local.into(), "fe80::2")] {
        driver.call(n, OutCall { to, from: address(from), spki, request: message(1) }).await;
        assert_eq!(driver.done(n).await, Ok(message(9)), "{from}");
    }
    say("answered");
}

/// A line for the process that started this one.
fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("the parent reads");
}
