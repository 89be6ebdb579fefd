//! The DHT: many nodes, dead nodes, nodes that come back, names, limits, and what strangers put.

use std::time::{Duration, Instant};

use handfast_net::{
    Bootstrap, Command, Config, Host, MAX_LOOKUPS, NetEvent, Role, StreamProtocol, Timing, Transport as _,
};
use handfast_proto::addr::Transport;
use handfast_proto::records::RecordLimits;
use handfast_proto::wire::frames::FrameType;
use libp2p::kad;
use libp2p::swarm::SwarmEvent;

use crate::raw;
use crate::support::{Peer, config, frame, pick, quic, record, tcp};

/// A network of nodes that all know the first, and all of each other.
async fn network(count: u8) -> Vec<Peer> {
    let mut nodes = vec![Peer::node(1, vec![]).await];
    let boot = vec![nodes[0].bootstrap()];
    for seed in 2..=count {
        nodes.push(Peer::node(seed, boot.clone()).await);
    }
    for node in &mut nodes {
        node.until_status(|status| status.known_nodes >= usize::from(count) - 1).await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_of_twelve_nodes_dead_a_record_is_found_at_once() {
    let mut nodes = network(12).await;
    let boot: Vec<Bootstrap> = nodes.iter().take(3).map(Peer::bootstrap).collect();
    let mut alice = Peer::device(101, boot.clone()).await;
    alice.until_nodes(1).await;
    let advert = record(1, 1, 600);
    assert_eq!(alice.put(&advert).await, 12, "every node is one of the closest");

    // The first bootstrap node and every second one die without a word.
    let mut alive = Vec::new();
    for (n, node) in nodes.drain(..).enumerate() {
        if n % 2 == 0 {
            node.net.end().await;
        } else {
            alive.push(node);
        }
    }
    let start = Instant::now();
    let mut bob = Peer::device(102, boot).await;
    let id = bob.job();
    bob.send(Command::Get { id, topic: advert.topic() }).await;
    bob.until(pick!(NetEvent::Found { .. } => ())).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    // Publishing meets the dead ones too, and is told at the first store.
    let newer = record(1, 2, 600);
    let start = Instant::now();
    let id = bob.job();
    bob.send(Command::Put { id, record: newer }).await;
    bob.until(pick!(NetEvent::Stored { stored_on: 1, .. } => ())).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    bob.until(pick!(NetEvent::Stored { stored_on: 6, .. } => ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_published_in_the_first_moment_is_stored() {
    let node = Peer::node(1, vec![]).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    assert_eq!(device.put(&record(1, 1, 600)).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_node_may_be_named_and_reached_over_tcp() {
    let node = Peer::node(1, vec![]).await;
    for transport in [Transport::Quic, Transport::Tcp] {
        let port = node.address(transport).port;
        let place = match transport {
            Transport::Quic => format!("/dns4/localhost/udp/{port}/quic-v1"),
            Transport::Tcp => format!("/dns/localhost/tcp/{port}"),
        };
        let id = node.bootstrap().to_string();
        let (_, id) = id.split_once("/p2p/").expect("an id");
        let named: Bootstrap = format!("{place}/p2p/{id}").parse().expect("a bootstrap node");
        let mut device = Peer::device(11, vec![named]).await;
        // Asked before the name is resolved: it waits.
        assert_eq!(device.get(&record(9, 1, 60)).await, (vec![], 1), "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_at_two_places_is_one_node_with_one_connection() {
    let node = Peer::node(1, vec![]).await;
    let both = [Transport::Quic, Transport::Tcp].map(|transport| {
        let address = node.address(transport);
        Bootstrap { host: Host::Ip(address.ip), port: address.port, transport, tid: node.tid() }
    });
    let mut device = Peer::device(11, both.to_vec()).await;
    device.until_nodes(1).await;
    assert_eq!(device.get(&record(9, 1, 60)).await.1, 1);
    assert_eq!(device.status().await.connections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_dht_gone_a_lookup_ends_with_nobody_having_answered() {
    let node = Peer::node(1, vec![]).await;
    let gone = node.bootstrap();
    node.net.end().await;
    let mut device = Peer::device(11, vec![gone]).await;
    let start = Instant::now();
    let put = device.job();
    device.send(Command::Put { id: put, record: record(1, 1, 60) }).await;
    assert_eq!(device.get(&record(1, 1, 60)).await, (vec![], 0));
    let stored_on = device.until(pick!(NetEvent::PutDone { id, stored_on } if *id == put => *stored_on)).await;
    assert_eq!(stored_on, 0);
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());

    let mut alone = Peer::device(12, vec![]).await;
    let start = Instant::now();
    assert_eq!(alone.get(&record(1, 1, 60)).await, (vec![], 0));
    assert_eq!(alone.put(&record(1, 1, 60)).await, 0);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_called_again() {
    // Over TCP, since QUIC keeps its port for a moment after the end.
    let node = |listen| Peer::start(config(1, Role::Node { external: vec![] }, vec![listen], vec![]));
    let first = node(tcp()).await;
    let address = first.addresses[0];
    let boot =
        Bootstrap { host: Host::Ip(address.ip), port: address.port, transport: Transport::Tcp, tid: first.tid() };
    let mut device = Peer::device(11, vec![boot]).await;
    device.until_nodes(1).await;
    first.net.end().await;
    device.until(pick!(NetEvent::DhtPeers(0) => ())).await;
    let _second = node(address).await;
    device.until_nodes(1).await;
    assert_eq!(device.put(&record(1, 1, 60)).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seventeenth_lookup_is_told_at_once_that_nobody_answered() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let silent = socket.local_addr().expect("an address");
    let node = Bootstrap {
        host: Host::Ip(silent.ip()),
        port: silent.port(),
        transport: Transport::Quic,
        tid: handfast_net::tid_of_seed(&handfast_proto::secret::Secret::new([99; 32])),
    };
    let mut device = Peer::device(11, vec![node]).await;
    let mut jobs = Vec::new();
    for _ in 0..=MAX_LOOKUPS {
        let id = device.job();
        jobs.push(id);
        device.send(Command::Get { id, topic: record(1, 1, 60).topic() }).await;
    }
    let first = device.until(pick!(NetEvent::GetDone { id, answered } => (*id, *answered))).await;
    assert_eq!(first, (jobs[MAX_LOOKUPS], 0));
    // A cancelled one makes room and is not heard of again.
    device.send(Command::CancelGet { id: jobs[0] }).await;
    assert_eq!(device.status().await.queries, MAX_LOOKUPS - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a17_a_node_refuses_what_is_no_record() {
    let mut node = Peer::node(1, vec![]).await;
    let good = record(1, 5, 600);
    let topic = good.topic().0;
    let mut broken = good.as_bytes().to_vec();
    broken[783] ^= 1;
    let cases: [(&[u8], Vec<u8>); 5] = [
        (&topic, broken),
        (&topic, good.as_bytes()[..783].to_vec()),
        (&record(2, 1, 60).topic().0, good.as_bytes().to_vec()),
        (b"a key of any length", good.as_bytes().to_vec()),
        (&topic, vec![7; 15_000]),
    ];
    let (mut swarm, _) = raw::swarm(50).await;
    let peer = raw::peer_id(&node.bootstrap());
    let address = node.address(Transport::Quic).to_string().parse().expect("a multiaddr");
    let kad = &mut swarm.behaviour_mut().kad;
    kad.add_address(&peer, address);
    for (key, value) in cases {
        let record = kad::Record::new(kad::RecordKey::new(&key), value);
        swarm.behaviour_mut().kad.put_record_to(record, [peer].into_iter(), kad::Quorum::One);
    }
    let provided = kad::RecordKey::new(&topic);
    swarm.behaviour_mut().kad.start_providing(provided).expect("kept here");
    raw::until(
        &mut swarm,
        pick!(SwarmEvent::Behaviour(raw::PlainEvent::Kad(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::StartProviding(_),
            ..
        })) => ()),
    )
    .await;
    // The connection is driven while the node works.
    let driving = tokio::spawn(async move { raw::until(&mut swarm, |_| None::<()>).await });
    node.until_status(|status| status.record_counters.refused_invalid == 5).await;
    assert_eq!(node.status().await.records, 0);
    driving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_5_whoever_has_had_many_puts_refused_is_still_answered() {
    /// More than the streams that the stack allows on one connection.
    const REFUSED: u8 = 40;
    let role = Role::Node { external: vec![] };
    let limits = RecordLimits { total: 100, per_source: 1 };
    let node = Peer::start(Config { limits, ..config(1, role, vec![tcp()], vec![]) }).await;
    let address = node.address(Transport::Tcp);
    let bootstrap =
        Bootstrap { host: Host::Ip(address.ip), port: address.port, transport: Transport::Tcp, tid: node.tid() };
    let mut device = Peer::device(11, vec![bootstrap]).await;
    device.until_nodes(1).await;
    let good = record(100, 1, 600);
    assert_eq!(device.put(&good).await, 1);
    for some in (0..REFUSED).collect::<Vec<_>>().chunks(MAX_LOOKUPS) {
        let mut jobs = Vec::new();
        for name in some {
            let id = device.job();
            device.send(Command::Put { id, record: record(*name, 1, 600) }).await;
            jobs.push(id);
        }
        for job in jobs {
            assert_eq!(device.until(pick!(NetEvent::PutDone { id, stored_on } if *id == job => *stored_on)).await, 0);
        }
    }
    assert_eq!(device.get(&good).await, (vec![good], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a20_what_is_over_is_swept_although_nobody_asks_for_it() {
    let timing = Timing { sweep: Duration::from_millis(100), ..Timing::default() };
    let role = Role::Node { external: vec![] };
    let mut node = Peer::start(Config { timing, ..config(1, role, vec![quic(), tcp()], vec![]) }).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    device.until_nodes(1).await;
    let (short, long) = (record(1, 1, 1), record(2, 1, 600));
    assert_eq!((device.put(&short).await, device.put(&long).await), (1, 1));
    // Its publisher is gone and puts it no more.
    device.net.end().await;
    node.until_status(|status| status.records == 1 && status.record_counters.expired == 1).await;
    let mut other = Peer::device(12, vec![node.bootstrap()]).await;
    other.until_nodes(1).await;
    assert_eq!(other.get(&short).await, (vec![], 1), "what is over is a miss");
    assert_eq!(other.get(&long).await, (vec![long], 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a21_one_source_fills_its_share_and_no_more() {
    let role = Role::Node { external: vec![] };
    let limits = RecordLimits { total: 100, per_source: 3 };
    let mut node = Peer::start(Config { limits, ..config(1, role, vec![quic(), tcp()], vec![]) }).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    device.until_nodes(1).await;
    for name in 1..=5 {
        let id = device.job();
        device.send(Command::Put { id, record: record(name, 1, 60) }).await;
    }
    // Kademlia repeats a request whose stream was cut, which the refusal does, so one refusal may be counted twice.
    node.until_status(|status| status.record_counters.refused_source_full >= 2).await;
    assert_eq!(node.status().await.records, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_learns_no_address_and_no_version_of_a_device() {
    let device = Peer::device(11, vec![]).await;
    let (mut swarm, _) = raw::swarm(50).await;
    swarm
        .dial(device.address(Transport::Quic).to_string().parse::<libp2p::Multiaddr>().expect("a multiaddr"))
        .expect("a dial");
    let info = raw::until(
        &mut swarm,
        pick!(SwarmEvent::Behaviour(raw::PlainEvent::Identify(libp2p::identify::Event::Received {
            info, ..
        })) => info.clone()),
    )
    .await;
    assert_eq!(info.listen_addrs, vec![]);
    assert_eq!((info.agent_version.as_str(), info.protocol_version.as_str()), ("handfast", "/handfast/1"));
    assert!(!info.protocols.contains(&raw::KAD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_calls_a_device_is_no_node_of_its_however_it_looks() {
    let known = Peer::node(1, vec![]).await;
    let mut device = Peer::device(11, vec![known.bootstrap()]).await;
    device.until_nodes(1).await;
    let mut others = Vec::new();
    for seed in 2..5 {
        let mut stranger = Peer::node(seed, vec![]).await;
        let conn = stranger.dial(Some(device.tid()), vec![device.address(Transport::Quic)]).await;
        // What it is has arrived before this does.
        let stream = stranger.open(conn, StreamProtocol::Pair).await;
        stranger.write(stream, vec![frame(FrameType::P1, seed)]).await;
        let (inbound, _, _) = device.accept().await;
        assert_eq!(device.frame(inbound).await, frame(FrameType::P1, seed));
        others.push(stranger);
    }
    assert_eq!(device.status().await.dht_peers, 1);
    drop(known);
    device.until_status(|status| status.dht_peers == 0).await;
}
