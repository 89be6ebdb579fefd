//! What each step costs over a slow link: nothing but its own round trips.

use std::time::{Duration, Instant};

use handfast_net::{Command, NetEvent, StreamProtocol};
use handfast_proto::addr::Transport;
use handfast_proto::wire::frames::FrameType;

use crate::link::Link;
use crate::support::{Peer, frame, pick, record};

/// Long against the work on a busy machine, so that a whole round trip more is told from a slow one.
const ONE_WAY: Duration = Duration::from_millis(100);

/// Round trips that fit in the time since `start`.
fn trips(start: Instant) -> u128 {
    start.elapsed().as_millis() / (2 * ONE_WAY).as_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pairing_costs_six_round_trips_cold_and_five_warm() {
    let mut node = Peer::node(1, vec![]).await;
    let mut alice = Peer::device(11, vec![node.bootstrap()]).await;
    alice.until_nodes(1).await;
    let advert = record(1, 1, 600);
    assert_eq!(alice.put(&advert).await, 1);

    let to_node = Link::to(node.address(Transport::Quic), ONE_WAY).await;
    let to_alice = Link::to(alice.address(Transport::Quic), ONE_WAY).await;
    let mut slow = node.bootstrap();
    slow.port = to_node.address.port;

    // Cold: the connection to the node and the request.
    let mut bob = Peer::device(12, vec![slow]).await;
    let start = Instant::now();
    let id = bob.job();
    bob.send(Command::Get { id, topic: advert.topic() }).await;
    let found = |event: &NetEvent| matches!(event, NetEvent::Found { .. }).then_some(());
    bob.until(found).await;
    assert_eq!(trips(start), 2, "cold lookup: {:?}", start.elapsed());
    bob.send(Command::CancelGet { id }).await;

    // Warm: the request.
    let start = Instant::now();
    let id = bob.job();
    bob.send(Command::Get { id, topic: advert.topic() }).await;
    bob.until(found).await;
    assert_eq!(trips(start), 1, "warm lookup: {:?}", start.elapsed());
    bob.send(Command::CancelGet { id }).await;

    // Publishing at a connected node.
    let start = Instant::now();
    let id = bob.job();
    bob.send(Command::Put { id, record: record(2, 1, 600) }).await;
    bob.until(pick!(NetEvent::Stored { stored_on: 1, .. } => ())).await;
    assert_eq!(trips(start), 1, "publication: {:?}", start.elapsed());

    // QUIC and TLS in one.
    let start = Instant::now();
    let conn = bob.dial(Some(alice.tid()), vec![to_alice.address]).await;
    assert_eq!(trips(start), 1, "dial: {:?}", start.elapsed());

    // Opening a stream costs nothing: the first frames travel with the request.
    let start = Instant::now();
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 1), frame(FrameType::H1, 2)]).await;
    let (inbound, _, _) = alice.accept().await;
    alice.frame(inbound).await;
    alice.frame(inbound).await;
    alice.write(inbound, vec![frame(FrameType::H2, 3)]).await;
    bob.frame(stream).await;
    assert_eq!(trips(start), 1, "first exchange: {:?}", start.elapsed());
    for (ask, answer) in [(FrameType::H3, FrameType::H4), (FrameType::H5, FrameType::H6)] {
        let start = Instant::now();
        bob.write(stream, vec![frame(ask, 1)]).await;
        alice.frame(inbound).await;
        alice.write(inbound, vec![frame(answer, 1)]).await;
        bob.frame(stream).await;
        assert_eq!(trips(start), 1, "{ask:?}: {:?}", start.elapsed());
    }
    assert!(to_alice.packets() < 60, "{}", to_alice.packets());
    node.log.clear();
}
