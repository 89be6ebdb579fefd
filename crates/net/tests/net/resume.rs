//! A device that has slept. It is played by the signal that continues a stopped program, which nothing else sends; the other
//! tests of this program hear it too, and nothing that they look at changes by it.

use std::time::Duration;

use handfast_net::{Command, DisconnectCause, NetEvent, StreamProtocol};
use handfast_proto::addr::Transport;
use handfast_proto::wire::frames::FrameType;
use nix::sys::signal::{Signal, raise};
use tokio::time::{Instant, sleep};

use crate::link::Link;
use crate::support::{Peer, frame, pick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_a_device_that_has_slept_asks_its_connections_and_ends_those_alone_on_which_nobody_answers() {
    let alice = Peer::device(11, vec![]).await;
    let mut bob = Peer::device(12, vec![]).await;
    let link = Link::to(alice.address(Transport::Quic), Duration::ZERO).await;
    let gone = bob.dial(Some(alice.tid()), vec![link.address]).await;
    let mut others = Vec::new();
    for (seed, transport) in [(13, Transport::Quic), (14, Transport::Tcp)] {
        let carol = Peer::device(seed, vec![]).await;
        let conn = bob.dial(Some(carol.tid()), vec![carol.address(transport)]).await;
        others.push((carol, conn));
    }
    link.cut();
    let since = Instant::now();
    raise(Signal::SIGCONT).expect("a signal to ourselves");
    bob.until(pick!(NetEvent::Resumed => ())).await;
    let lost = bob.until(pick!(NetEvent::Disconnected { conn, cause, .. } => (*conn, *cause))).await;
    assert_eq!(lost, (gone, DisconnectCause::TimedOut));
    assert!(since.elapsed() < Duration::from_millis(3_500), "{:?}", since.elapsed());
    // The others live, and carry what they did before.
    sleep(Duration::from_secs(1)).await;
    for (carol, conn) in &mut others {
        let stream = bob.open(*conn, StreamProtocol::Ping).await;
        bob.send(Command::Send { stream, frames: vec![frame(FrameType::Ping, 7)] }).await;
        let (inbound, ..) = carol.accept().await;
        assert_eq!(carol.frame(inbound).await, frame(FrameType::Ping, 7));
    }
}
