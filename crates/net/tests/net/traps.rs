//! One regression test for each trap of the network stack that concerns the behaviours in use. Where it can be shown
//! cheaply, the test also shows that the stack alone still walks into it: when that half fails, upstream has mended
//! it and our work-around can go.
//!
//! Traps 7 and 10 concern a behaviour that is not in the swarm (AutoNAT) and a choice of features that the dependency
//! rules check. Those of relays (8, 13 to 15) are in `relay.rs`.

use std::time::{Duration, Instant};

use handfast_net::{Command, DialFailure, NetEvent, Role, StreamProtocol};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::wire::frames::FrameType;
use libp2p::kad::store::RecordStore as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, kad};

use crate::link::Link;
use crate::raw;
use crate::support::{Peer, config, frame, pick, quic, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_1_an_observed_quic_address_keeps_the_port_that_the_translation_chose() {
    let node = Peer::node(1, vec![]).await;
    let link = Link::to(node.address(Transport::Quic), Duration::ZERO).await;
    let mut behind = node.bootstrap();
    behind.port = link.address.port;
    let mut device = Peer::device(11, vec![behind]).await;
    let (address, by, from) =
        device.until(pick!(NetEvent::Observed { address, by, from, .. } => (*address, *by, *from))).await;
    assert_eq!((by, from), (node.tid(), link.address));
    assert_eq!(address.transport, Transport::Quic);
    assert_ne!(address.port, device.address(Transport::Quic).port);
    assert_ne!(address.port, link.address.port);

    // The stack alone makes the listen port of it.
    let (mut swarm, listen) = raw::swarm(50).await;
    swarm.dial(multiaddr(link.address)).expect("a dial");
    let candidate =
        raw::until(&mut swarm, pick!(SwarmEvent::NewExternalAddrCandidate { address } => address.clone())).await;
    assert_eq!(candidate, listen, "identify no longer replaces the observed port");
}

fn multiaddr(address: Address) -> Multiaddr {
    address.to_string().parse().expect("a multiaddr")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_2_a_node_serves_the_dht_without_a_confirmed_address() {
    let mut node = Peer::node(1, vec![]).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    device.until_nodes(1).await;
    assert_eq!(device.put(&record(1, 1, 60)).await, 1);
    assert_eq!(node.status().await.records, 1);
    node.log.clear();

    let (swarm, _) = raw::swarm(50).await;
    assert_eq!(swarm.behaviour().kad.mode(), kad::Mode::Client, "the default mode has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_3_three_stores_in_a_network_of_three_are_a_success() {
    let first = Peer::node(1, vec![]).await;
    let boot = vec![first.bootstrap()];
    let mut nodes = [Peer::node(2, boot.clone()).await, Peer::node(3, boot.clone()).await];
    for node in &mut nodes {
        node.until_nodes(1).await;
    }
    let mut device = Peer::device(11, boot).await;
    assert_eq!(device.put(&record(1, 1, 60)).await, 3);

    // A majority is counted against 20 nodes, however few there are.
    let (mut swarm, _) = raw::swarm(50).await;
    let peer = first.bootstrap();
    let kad = &mut swarm.behaviour_mut().kad;
    kad.add_address(&raw::peer_id(&peer), multiaddr(first.address(Transport::Quic)));
    let value = record(2, 1, 60);
    kad.put_record(
        kad::Record::new(kad::RecordKey::new(&value.topic().0), value.as_bytes().to_vec()),
        kad::Quorum::Majority,
    )
    .expect("stored here");
    let failed = raw::until(
        &mut swarm,
        pick!(SwarmEvent::Behaviour(raw::PlainEvent::Kad(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::PutRecord(result),
            ..
        })) => result.is_err()),
    )
    .await;
    assert!(failed, "the quorum is no longer counted against 20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_4_nodes_learn_of_each_other_and_never_of_a_device() {
    let mut first = Peer::node(1, vec![]).await;
    let boot = vec![first.bootstrap()];
    let mut device = Peer::device(11, boot.clone()).await;
    device.until_nodes(1).await;
    let mut second = Peer::node(2, boot.clone()).await;
    let mut third = Peer::node(3, boot).await;
    // Only by way of the first can these two have heard of each other.
    second.until_nodes(2).await;
    third.until_nodes(2).await;
    first.until_nodes(2).await;
    assert_eq!(first.status().await.known_nodes, 2, "the device is in the table");
    assert_eq!(first.status().await.announced.len(), 2);
    assert_eq!(device.status().await.announced, vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_5_a_record_dies_on_time_and_names_no_publisher() {
    let mut node = Peer::node(1, vec![]).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    device.until_nodes(1).await;
    // The pure store's tests say when; here: that the stack asks it, and that a refusal is told.
    assert_eq!(device.put(&record(1, 2, 900)).await, 1);
    let id = device.job();
    device.send(Command::Put { id, record: record(1, 1, 900) }).await;
    let refused = device
        .until(pick!(NetEvent::PutDone { id: of, stored_on } | NetEvent::Stored { id: of, stored_on } if *of == id => *stored_on))
        .await;
    assert_eq!(refused, 0);
    let counters = node.status().await.record_counters;
    assert_eq!((counters.stored, counters.refused_old), (1, 1));
    node.log.clear();

    let (mut swarm, _) = raw::swarm(50).await;
    let peer = raw::peer_id(&node.bootstrap());
    let kad = &mut swarm.behaviour_mut().kad;
    kad.add_address(&peer, multiaddr(node.address(Transport::Quic)));
    kad.get_record(kad::RecordKey::new(&record(1, 2, 900).topic().0));
    let answer = raw::until(
        &mut swarm,
        pick!(SwarmEvent::Behaviour(raw::PlainEvent::Kad(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))),
            ..
        })) => found.record.clone()),
    )
    .await;
    assert_eq!(answer.publisher, None);

    // The stack's own store keeps the dead and turns the living away.
    let dead = Instant::now() - Duration::from_secs(1);
    let limits = kad::store::MemoryStoreConfig { max_records: 1, ..Default::default() };
    let mut store = kad::store::MemoryStore::with_config(peer, limits);
    let entry = |name: &[u8], expires| kad::Record { expires, ..kad::Record::new(kad::RecordKey::new(&name), vec![1]) };
    store.put(entry(b"dead", Some(dead))).expect("room");
    assert!(store.put(entry(b"alive", None)).is_err(), "a full store now makes room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_6_garbage_under_a_topic_is_a_miss_and_hides_nothing() {
    let good = record(1, 7, 600);
    let topic = good.topic().0;
    let mut broken = good.as_bytes().to_vec();
    broken[783] ^= 1;
    let liars = vec![
        raw::liar(50, &topic, broken).await,
        raw::liar(51, &topic, record(2, 1, 600).as_bytes().to_vec()).await,
        raw::liar(52, &topic, b"nothing of the kind".to_vec()).await,
    ];
    let mut misled = Peer::device(11, liars.clone()).await;
    let (found, answered) = misled.get(&good).await;
    assert_eq!(found, vec![]);
    assert_eq!(answered, 3);

    let honest = Peer::node(1, vec![]).await;
    let mut publisher = Peer::device(12, vec![honest.bootstrap()]).await;
    assert_eq!(publisher.put(&good).await, 1);
    let mut all = liars;
    all.push(honest.bootstrap());
    let mut device = Peer::device(13, all).await;
    let (found, _) = device.get(&good).await;
    assert_eq!(found, vec![good]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_9_nobody_dials_itself() {
    let mut device = Peer::device(11, vec![]).await;
    let own = device.addresses.clone();
    for tid in [Some(device.tid()), None] {
        let id = device.job();
        device.send(Command::Dial { id, tid, addresses: own.clone(), relays: Vec::new() }).await;
        let failure =
            device.until(pick!(NetEvent::DialFailed { id: of, failure } if *of == id => failure.clone())).await;
        assert_eq!(failure, DialFailure::Ourselves);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_11_an_open_stream_outlives_the_idle_timeout_and_an_idle_connection_does_not() {
    let start = |seed| {
        let mut config = config(seed, Role::Device, vec![quic()], vec![]);
        config.timing.idle = Duration::from_millis(200);
        Peer::start(config)
    };
    let mut alice = start(11).await;
    let mut bob = start(12).await;
    let mut carol = start(13).await;
    let address = alice.addresses.clone();
    let asking = bob.dial(Some(alice.tid()), address.clone()).await;
    let stream = bob.open(asking, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::H3, 1)]).await;
    let (question, _, _) = alice.accept().await;
    alice.frame(question).await;

    // Three idle connections of another device come and go while somebody reads the question.
    for _ in 0..3 {
        let idle = carol.dial(Some(alice.tid()), address.clone()).await;
        carol.until(pick!(NetEvent::Disconnected { conn, .. } if *conn == idle => ())).await;
    }
    alice.write(question, vec![frame(FrameType::H4, 2)]).await;
    assert_eq!(bob.frame(stream).await, frame(FrameType::H4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_11_a_held_connection_outlives_the_idle_timeout() {
    let start = |seed| {
        let mut config = config(seed, Role::Device, vec![quic()], vec![]);
        config.timing.idle = Duration::from_millis(200);
        Peer::start(config)
    };
    let mut alice = start(11).await;
    let mut bob = start(12).await;
    let mut carol = start(13).await;
    let kept = bob.dial(Some(alice.tid()), alice.addresses.clone()).await;
    bob.send(Command::Hold { conn: kept, hold: true }).await;
    let other_end = alice.until(pick!(NetEvent::Connected { conn, .. } => *conn)).await;
    // Each end decides for itself: both must want it.
    alice.send(Command::Hold { conn: other_end, hold: true }).await;
    for _ in 0..3 {
        let idle = carol.dial(Some(alice.tid()), alice.addresses.clone()).await;
        carol.until(pick!(NetEvent::Disconnected { conn, .. } if *conn == idle => ())).await;
    }
    let stream = bob.open(kept, StreamProtocol::Ping).await;
    bob.write(stream, vec![frame(FrameType::Ping, 1)]).await;
    let (inbound, conn, _) = alice.accept().await;
    assert_eq!(conn, other_end);
    alice.frame(inbound).await;
    bob.send(Command::Hold { conn: kept, hold: false }).await;
    bob.send(Command::CloseStream { stream }).await;
    alice.send(Command::ResetStream { stream: inbound }).await;
    bob.until(pick!(NetEvent::Disconnected { conn, .. } if *conn == kept => ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_12_one_live_address_among_dead_ones_is_found_at_once() {
    let alice = Peer::device(11, vec![]).await;
    let mut bob = Peer::device(12, vec![]).await;
    // Sockets that never answer, as hosts do that are gone.
    let mut silent = Vec::new();
    let mut addresses = Vec::new();
    for n in 2..8 {
        let socket = std::net::UdpSocket::bind(format!("127.0.0.{n}:0")).expect("a socket");
        let address = socket.local_addr().expect("an address");
        addresses.push(Address { ip: address.ip(), port: address.port(), transport: Transport::Quic });
        silent.push(socket);
    }
    addresses.extend(alice.addresses.clone());
    let start = Instant::now();
    bob.dial(Some(alice.tid()), addresses).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}
