//! Connections: dials and their failures, loss of a peer, limits, ports, the end.

use std::time::{Duration, Instant};

use handfast_net::{Clock, Command, DialFailure, DisconnectCause, NetEvent, Role, StartError, Transport as _};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::{JobId, Tid};

use crate::link::Link;
use crate::rogue;
use crate::support::{Peer, config, pick, quic, tcp};

async fn failure(peer: &mut Peer, id: JobId) -> DialFailure {
    peer.until(pick!(NetEvent::DialFailed { id: of, failure } if *of == id => failure.clone())).await
}

async fn failed_dial(peer: &mut Peer, tid: Option<Tid>, addresses: Vec<Address>) -> DialFailure {
    let id = peer.job();
    peer.send(Command::Dial { id, tid, addresses, relays: Vec::new() }).await;
    failure(peer, id).await
}

async fn lost(peer: &mut Peer) -> DisconnectCause {
    peer.until(pick!(NetEvent::Disconnected { cause, .. } => *cause)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_a_dial_has_its_name() {
    let alice = Peer::device(11, vec![]).await;
    let mut config = config(12, Role::Device, vec![quic(), tcp()], vec![]);
    config.timing.dial = Duration::from_millis(700);
    let mut bob = Peer::start(config).await;
    let other = Tid(handfast_net::tid_of_seed(&handfast_proto::secret::Secret::new([77; 32])).0);
    for transport in [Transport::Quic, Transport::Tcp] {
        let address = alice.address(transport);
        assert_eq!(
            failed_dial(&mut bob, Some(other), vec![address]).await,
            DialFailure::WrongPeer(alice.tid()),
            "{transport:?}"
        );
    }
    assert_eq!(failed_dial(&mut bob, Some(other), vec![]).await, DialFailure::NoAddress);
    let zero = Address { port: 0, ..quic() };
    assert_eq!(failed_dial(&mut bob, Some(other), vec![zero]).await, DialFailure::NoAddress);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address");
    let refusing = Address { ip: closed.ip(), port: closed.port(), transport: Transport::Tcp };
    assert_eq!(failed_dial(&mut bob, Some(other), vec![refusing]).await, DialFailure::Refused);

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let silent = socket.local_addr().expect("an address");
    let silent = Address { ip: silent.ip(), port: silent.port(), transport: Transport::Quic };
    assert_eq!(failed_dial(&mut bob, Some(other), vec![silent]).await, DialFailure::TimedOut);
    assert_eq!(failed_dial(&mut bob, Some(other), vec![silent, refusing]).await, DialFailure::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transports_own_handshake_timeout_reads_as_such() {
    let mut config = config(12, Role::Device, vec![quic(), tcp()], vec![]);
    config.timing.dial = Duration::from_secs(30);
    let mut bob = Peer::start(config).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let udp = socket.local_addr().expect("an address");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let tcp = listener.local_addr().expect("an address");
    let other = handfast_net::tid_of_seed(&handfast_proto::secret::Secret::new([77; 32]));
    let addresses = [
        Address { ip: udp.ip(), port: udp.port(), transport: Transport::Quic },
        Address { ip: tcp.ip(), port: tcp.port(), transport: Transport::Tcp },
    ];
    let first = bob.job();
    bob.send(Command::Dial { id: first, tid: Some(other), addresses: addresses[..1].to_vec(), relays: Vec::new() })
        .await;
    let second = bob.job();
    bob.send(Command::Dial { id: second, tid: Some(other), addresses: addresses[1..].to_vec(), relays: Vec::new() })
        .await;
    assert_eq!(failure(&mut bob, first).await, DialFailure::TimedOut);
    assert_eq!(failure(&mut bob, second).await, DialFailure::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_dials_at_once_to_one_peer_are_both_answered_by_one_connection() {
    let mut alice = Peer::device(11, vec![]).await;
    let mut bob = Peer::device(12, vec![]).await;
    let jobs = [bob.job(), bob.job(), bob.job()];
    for id in jobs {
        let addresses = alice.addresses.clone();
        bob.send(Command::Dial { id, tid: Some(alice.tid()), addresses, relays: Vec::new() }).await;
    }
    let mut conns = Vec::new();
    for id in jobs {
        conns.push(bob.until(pick!(NetEvent::Dialled { id: of, conn } if *of == id => *conn)).await);
    }
    conns.dedup();
    assert_eq!(conns.len(), 1);
    // A later one gets the same at once, without any address.
    assert_eq!(bob.dial(Some(alice.tid()), vec![]).await, conns[0]);
    assert_eq!(bob.status().await.connections, 1);
    alice.log.clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_dial_leaves_no_connection() {
    let alice = Peer::device(11, vec![]).await;
    let link = Link::to(alice.address(Transport::Quic), Duration::from_millis(50)).await;
    let mut bob = Peer::device(12, vec![]).await;
    let id = bob.job();
    bob.send(Command::Dial { id, tid: Some(alice.tid()), addresses: vec![link.address], relays: Vec::new() }).await;
    bob.send(Command::CancelDial { id }).await;
    // A dial over the same link that is not cancelled takes as long, so the other would have ended by now.
    let conn = bob.dial(Some(alice.tid()), vec![link.address]).await;
    assert_eq!(bob.status().await.connections, 1);
    assert_eq!(conn.0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_lost_and_a_leaving_one_at_once() {
    let start = |seed| {
        let mut config = config(seed, Role::Device, vec![quic(), tcp()], vec![]);
        config.timing.silence = Duration::from_secs(1);
        Peer::start(config)
    };
    let alice = start(11).await;
    let mut bob = start(12).await;
    let link = Link::to(alice.address(Transport::Quic), Duration::ZERO).await;
    let conn = bob.dial(Some(alice.tid()), vec![link.address]).await;
    bob.send(Command::Hold { conn, hold: true }).await;
    let since = Instant::now();
    link.cut();
    assert_eq!(lost(&mut bob).await, DisconnectCause::TimedOut);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());

    for transport in [Transport::Quic, Transport::Tcp] {
        let carol = Peer::device(13, vec![]).await;
        bob.dial(Some(carol.tid()), vec![carol.address(transport)]).await;
        let since = Instant::now();
        carol.net.end().await;
        assert_eq!(lost(&mut bob).await, DisconnectCause::Closed, "{transport:?}");
        assert!(since.elapsed() < Duration::from_millis(700), "{transport:?} {:?}", since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_device_is_woken_once_where_it_and_its_node_would_otherwise_both_ask() {
    let start = |seed, role, bootstrap| {
        let mut config = config(seed, role, vec![quic()], bootstrap);
        config.timing.silence = Duration::from_secs(2);
        Peer::start(config)
    };
    // Three of them, so that none is looked for.
    let mut nodes = Vec::new();
    for seed in 1..=3 {
        nodes.push(start(seed, Role::Node { external: Vec::new() }, vec![]).await);
    }
    let mut bob = start(12, Role::Device, vec![nodes[1].bootstrap(), nodes[2].bootstrap()]).await;
    let link = Link::to(nodes[0].address(Transport::Quic), Duration::ZERO).await;
    let conn = bob.dial(Some(nodes[0].tid()), vec![link.address]).await;
    bob.send(Command::Hold { conn, hold: true }).await;
    bob.until_nodes(3).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = link.packets();
    tokio::time::sleep(Duration::from_millis(7_500)).await;
    // Ten times it says that it lives, and is answered; both ways it would be half as much again.
    let passed = link.packets() - before;
    assert!((16..=24).contains(&passed), "{passed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_over_tcp_is_lost_too() {
    // A listener whose other end stops forwarding: the bytes of a TCP connection go nowhere.
    let mut config_a = config(11, Role::Device, vec![tcp()], vec![]);
    config_a.timing.silence = Duration::from_secs(1);
    let alice = Peer::start(config_a).await;
    let mut config_b = config(12, Role::Device, vec![tcp()], vec![]);
    config_b.timing.silence = Duration::from_secs(1);
    let mut bob = Peer::start(config_b).await;
    let target = alice.addresses[0];
    let front = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let port = front.local_addr().expect("an address").port();
    let (cut, mut on_cut) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut near, _) = front.accept().await.expect("a connection");
        let mut far = tokio::net::TcpStream::connect((target.ip, target.port)).await.expect("connects");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = &mut on_cut => std::future::pending::<()>().await,
        }
    });
    let conn = bob.dial(Some(alice.tid()), vec![Address { port, ..target }]).await;
    bob.send(Command::Hold { conn, hold: true }).await;
    let since = Instant::now();
    cut.send(()).expect("the forwarder runs");
    assert_eq!(lost(&mut bob).await, DisconnectCause::TimedOut);
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_one_machine_holds_at_most_half_of_the_connections() {
    let tcp6: Address = "/ip6/::1/tcp/0".parse().expect("an address");
    let mut alice = Peer::start(config(11, Role::Device, vec![tcp(), tcp6], vec![])).await;
    // Two subscribers, one machine. One after the other: handshakes that run have a lower limit.
    for n in 0..76 {
        rogue::run(100 + n, alice.addresses[usize::from(n % 2)], vec![]);
        let n = usize::from(n) + 1;
        alice.until_status(|status| status.inbound + status.refused_connections as usize == n).await;
    }
    let status = alice.status().await;
    assert_eq!((status.inbound, status.refused_connections, status.connections), (64, 12, 64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_silent_connections_of_one_host_leave_room_for_everybody_else() {
    let mut alice = Peer::start(config(11, Role::Device, vec![quic(), tcp()], vec![])).await;
    let target = alice.address(Transport::Tcp);
    let mut silent = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("another host");
        silent.push(socket.connect((target.ip, target.port).into()).await.expect("accepted by the system"));
    }
    alice.until_status(|status| status.refused_connections >= 92).await;
    for (seed, transport) in [(12, Transport::Tcp), (13, Transport::Quic)] {
        let mut bob = Peer::start(config(seed, Role::Device, vec![quic(), tcp()], vec![])).await;
        bob.dial(Some(alice.tid()), vec![alice.address(transport)]).await;
    }
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_an_error_or_replaced_as_the_owner_wishes() {
    let alice = Peer::device(11, vec![]).await;
    for transport in [Transport::Quic, Transport::Tcp] {
        let taken = alice.address(transport);
        match handfast_net::start(config(12, Role::Device, vec![taken], vec![]), Clock::start()) {
            Err(StartError::Listen { address, reason }) => {
                assert_eq!(address, taken);
                assert!(reason.contains("in use"), "{reason:?}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{taken} was free"),
        }
        let mut config = config(12, Role::Device, vec![taken], vec![]);
        config.fallback_to_any_port = true;
        let bob = Peer::start(config).await;
        assert_ne!(bob.addresses[0].port, taken.port);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interfaces_are_told_at_start() {
    let mut alice = Peer::device(11, vec![]).await;
    let list = alice.until(pick!(NetEvent::Interfaces(list) => list.clone())).await;
    assert!(list.iter().any(|i| i.address.ip.is_loopback() && i.address.prefix_len == 8), "{list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_right_after_is_noticed_at_once_too() {
    let mut alice = Peer::device(11, vec![]).await;
    let (tid, addresses) = (alice.tid(), alice.addresses.clone());
    for round in 0..10 {
        let addresses = addresses.clone();
        let other = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async {
                let mut bob = Peer::device(20 + round, vec![]).await;
                bob.dial(Some(tid), addresses).await;
                bob.net.end().await;
            });
            runtime.shutdown_background();
        });
        alice.until(pick!(NetEvent::Connected { .. } => ())).await;
        other.join().expect("it ends");
        let since = Instant::now();
        lost(&mut alice).await;
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    }
}
