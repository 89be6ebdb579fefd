//! Streams: what ends them, what strangers may not do with them, and that nothing of theirs piles up.

use std::time::Duration;

use handfast_net::{Command, NetEvent, Role, StreamEnd, StreamProtocol, Transport as _};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::StreamId;
use handfast_proto::wire::frames::{Frame, FrameType};

use crate::rogue::{self, Script};
use crate::support::{Peer, config, frame, pick, quic, tcp};

async fn end_of(peer: &mut Peer, of: StreamId) -> StreamEnd {
    peer.until(pick!(NetEvent::StreamClosed { stream, end } if *stream == of => *end)).await
}

/// A device and another that is connected to it by one stream, on which a frame has gone over.
async fn pair_over(transport: Transport) -> (Peer, StreamId, Peer, StreamId) {
    let mut alice = Peer::device(11, vec![]).await;
    let mut bob = Peer::device(12, vec![]).await;
    let conn = bob.dial(Some(alice.tid()), vec![alice.address(transport)]).await;
    let stream = bob.open(conn, StreamProtocol::Hello).await;
    bob.write(stream, vec![frame(FrameType::R1, 1)]).await;
    let (inbound, _, protocol) = alice.accept().await;
    assert_eq!(protocol, StreamProtocol::Hello);
    assert_eq!(alice.frame(inbound).await, frame(FrameType::R1, 1));
    (alice, inbound, bob, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_lets_everything_arrive_first_on_both_transports() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let (mut alice, inbound, bob, stream) = pair_over(transport).await;
        let frames: Vec<_> = (0..40).map(|n| frame(FrameType::H3, n)).collect();
        bob.write(stream, frames.clone()).await;
        bob.send(Command::CloseStream { stream }).await;
        // The connection is closed at once after: what is leaving still leaves.
        let conn = handfast_proto::id::ConnId(1);
        bob.send(Command::CloseConnection { conn }).await;
        for expected in frames {
            assert_eq!(alice.frame(inbound).await, expected);
        }
        assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Finished, "{transport:?}");
        alice.until(pick!(NetEvent::Disconnected { .. } => ())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_given_up_ends_alike_on_both_transports() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let (mut alice, inbound, bob, stream) = pair_over(transport).await;
        bob.send(Command::ResetStream { stream }).await;
        assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Finished, "{transport:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_is_told_from_a_closed_stream() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let (mut alice, inbound, bob, stream) = pair_over(transport).await;
        bob.send(Command::CloseConnection { conn: handfast_proto::id::ConnId(1) }).await;
        let mut bob = bob;
        assert_eq!(end_of(&mut bob, stream).await, StreamEnd::Lost, "{transport:?}, own end");
        assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Lost, "{transport:?}");
        // The stream's end was told before the connection's.
        alice.until(pick!(NetEvent::Disconnected { .. } => ())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_what_is_no_frame_ends_the_stream_and_nothing_of_it_is_told() {
    let good = frame(FrameType::P1, 1).to_bytes();
    let mut unknown = good.clone();
    unknown[2] = 0x7f;
    let mut short = good.clone();
    short[1] -= 1;
    let cases: [&[u8]; 5] = [&[0xff, 0xff], &[0, 0], &unknown, &short, &[0x08, 0x01, 0x01]];
    for bytes in cases {
        let mut alice = Peer::start(config(11, Role::Device, vec![quic()], vec![])).await;
        let after_a_good_one = [&good, bytes].concat();
        rogue::run(60, alice.addresses[0], vec![Script::once(&after_a_good_one), Script::once(bytes)]);
        let (inbound, _, _) = alice.accept().await;
        assert_eq!(alice.frame(inbound).await, frame(FrameType::P1, 1));
        // The last two announce more than they send.
        if Frame::rest_len([bytes[0], bytes[1]]).is_err() || bytes.len() > 3 {
            assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Garbage, "{bytes:02x?}");
            alice.until_status(|status| status.streams == 0).await;
        }
        let told = |event: &NetEvent| matches!(event, NetEvent::Frame { .. } | NetEvent::StreamInbound { .. });
        assert!(!alice.log.iter().any(told), "{:?}", alice.log);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_a_first_frame_that_does_not_come_in_time_ends_the_stream_untold() {
    for address in [quic(), tcp()] {
        let mut config = config(11, Role::Device, vec![address], vec![]);
        config.timing.first_frame = Duration::from_millis(300);
        let mut alice = Peer::start(config).await;
        let half = &frame(FrameType::P1, 1).to_bytes()[..50];
        rogue::run(60, alice.addresses[0], vec![Script::once(half)]);
        alice.until_status(|status| status.streams == 1).await;
        alice.until_status(|status| status.streams == 0).await;
        assert!(!alice.log.iter().any(|event| matches!(event, NetEvent::StreamInbound { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_one_address_has_four_silent_streams_and_is_still_served() {
    let mut alice = Peer::start(config(11, Role::Device, vec![quic()], vec![])).await;
    let half = frame(FrameType::P1, 1).to_bytes()[..50].to_vec();
    for seed in 0..3 {
        rogue::run(60 + seed, alice.addresses[0], vec![Script::once(&half); 4]);
    }
    alice.until_status(|status| status.streams == 12).await;
    alice.until_status(|status| status.streams == 4).await;
    let mut bob = Peer::device(12, vec![]).await;
    let conn = bob.dial(Some(alice.tid()), alice.addresses.clone()).await;
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 1)]).await;
    let (inbound, _, _) = alice.accept().await;
    assert_eq!(alice.frame(inbound).await, frame(FrameType::P1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_has_eight_streams_of_its_peer() {
    let mut alice = Peer::start(config(11, Role::Device, vec![quic()], vec![])).await;
    let whole = frame(FrameType::P1, 1).to_bytes();
    rogue::run(60, alice.addresses[0], vec![Script::once(&whole); 12]);
    for _ in 0..8 {
        let (stream, _, _) = alice.accept().await;
        alice.frame(stream).await;
    }
    assert_eq!(alice.status().await.streams, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a48_a_flood_of_frames_is_cut_off() {
    for address in [quic(), tcp()] {
        let mut alice = Peer::start(config(11, Role::Device, vec![address], vec![])).await;
        let flood = Script {
            protocol: "/handfast/ping/1",
            bytes: frame(FrameType::Ping, 1).to_bytes().repeat(100),
            endless: true,
        };
        rogue::run(60, alice.addresses[0], vec![flood]);
        let (inbound, _, _) = alice.accept().await;
        assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Garbage);
        let frames = alice.log.iter().filter(|event| matches!(event, NetEvent::Frame { .. })).count();
        assert!((256..1024).contains(&frames), "{frames}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_does_not_listen_stops_the_peers_and_not_the_commands() {
    let mut alice = Peer::start(config(11, Role::Device, vec![quic()], vec![])).await;
    let burst = Script {
        protocol: "/handfast/ping/1",
        bytes: frame(FrameType::Ping, 1).to_bytes().repeat(200),
        endless: false,
    };
    for seed in 0..6 {
        rogue::run(60 + seed, alice.addresses[0], vec![burst.clone(); 4]);
    }
    // Nothing is read from the network here, yet every command is taken and answered.
    for _ in 0..50 {
        alice.status().await;
    }
    let mut frames = 0;
    while frames < 6 * 4 * 200 {
        alice.until(pick!(NetEvent::Frame { .. } => ())).await;
        frames += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_costs_a_bounded_queue() {
    let (alice, _, mut bob, stream) = pair_over(Transport::Quic).await;
    // Alice's owner reads nothing from here on: her task stops reading, then bob's writes stop leaving.
    let frames: Vec<_> = (0..200).map(|n| frame(FrameType::H3, n as u8)).collect();
    for _ in 0..64 {
        bob.write(stream, frames.clone()).await;
    }
    let end = end_of(&mut bob, stream).await;
    assert!(matches!(end, StreamEnd::Lost | StreamEnd::Finished), "{end:?}");
    drop(alice);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_on_a_connection_that_is_gone_fails() {
    let (_alice, _, mut bob, _) = pair_over(Transport::Quic).await;
    let id = bob.job();
    let conn = handfast_proto::id::ConnId(99);
    bob.send(Command::OpenStream { id, conn, protocol: StreamProtocol::Ping }).await;
    bob.until(pick!(NetEvent::StreamFailed { id: of, .. } if *of == id => ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protocol_the_peer_does_not_speak_ends_the_stream() {
    let node = crate::raw::swarm(50).await;
    let address: Address = node.1.to_string().parse().expect("an address");
    let mut swarm = node.0;
    tokio::spawn(async move {
        loop {
            futures::StreamExt::select_next_some(&mut swarm).await;
        }
    });
    let mut bob = Peer::device(12, vec![]).await;
    let conn = bob.dial(None, vec![address]).await;
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 1)]).await;
    assert_eq!(end_of(&mut bob, stream).await, StreamEnd::Lost);
}

/// The last message of a pairing, by a command that lives for that pairing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_sent_right_before_its_end_still_arrives() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let mut alice = Peer::device(11, vec![]).await;
        let (tid, address) = (alice.tid(), alice.address(transport));
        for round in 0..40 {
            let other = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.expect("a runtime");
                runtime.block_on(async {
                    let mut bob = Peer::device(20 + round, vec![]).await;
                    let conn = bob.dial(Some(tid), vec![address]).await;
                    let stream = bob.open(conn, StreamProtocol::Pair).await;
                    bob.write(stream, vec![frame(FrameType::R1, 1)]).await;
                    bob.write(stream, vec![frame(FrameType::R2, 2)]).await;
                    bob.net.end().await;
                });
                runtime.shutdown_background();
            });
            let (inbound, _, _) = alice.accept().await;
            assert_eq!(alice.frame(inbound).await, frame(FrameType::R1, 1));
            assert_eq!(alice.frame(inbound).await, frame(FrameType::R2, 2), "{transport:?}, round {round}");
            assert_eq!(end_of(&mut alice, inbound).await, StreamEnd::Finished);
            other.join().expect("it ends");
        }
    }
}
