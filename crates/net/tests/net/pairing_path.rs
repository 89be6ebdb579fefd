//! The path a pairing takes, on loopback: publish, look up, dial, stream, frames.

use handfast_net::{Command, NetEvent, StreamEnd, StreamProtocol};
use handfast_proto::wire::frames::FrameType;

use crate::support::{Peer, frame, pick, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_meet_over_three_nodes() {
    let mut first = Peer::node(1, vec![]).await;
    let boot = vec![first.bootstrap()];
    let mut second = Peer::node(2, boot.clone()).await;
    let mut third = Peer::node(3, boot.clone()).await;
    second.until_nodes(1).await;
    third.until_nodes(1).await;
    first.until_nodes(2).await;
    let mut alice = Peer::device(11, boot.clone()).await;
    let mut bob = Peer::device(12, boot).await;

    let advert = record(1, 1, 600);
    assert_eq!(alice.put(&advert).await, 3);
    let (found, answered) = bob.get(&advert).await;
    assert_eq!(found, vec![advert]);
    assert!(answered >= 1, "{answered}");

    let conn = bob.dial(Some(alice.tid()), alice.addresses.clone()).await;
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 1), frame(FrameType::H1, 2)]).await;
    let (inbound, _, protocol) = alice.accept().await;
    assert_eq!(protocol, StreamProtocol::Pair);
    assert_eq!(alice.frame(inbound).await, frame(FrameType::P1, 1));
    assert_eq!(alice.frame(inbound).await, frame(FrameType::H1, 2));
    alice.write(inbound, vec![frame(FrameType::H2, 3)]).await;
    alice.send(Command::CloseStream { stream: inbound }).await;
    assert_eq!(bob.frame(stream).await, frame(FrameType::H2, 3));
    let end = bob.until(pick!(NetEvent::StreamClosed { stream: of, end } if *of == stream => *end)).await;
    assert_eq!(end, StreamEnd::Finished);
}
