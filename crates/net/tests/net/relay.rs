//! Ways through a relay: reserved, used, refused, and what a relay gives to whoever asks too much.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use handfast_net::{
    Command, DIRECT_FIRST, DialFailure, DisconnectCause, NetEvent, Role, StreamEnd, StreamProtocol, Transport as _,
};
use handfast_proto::addr::{Address, RelayAddress, Transport};
use handfast_proto::id::ConnId;
use handfast_proto::wire::frames::FrameType;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, identify};
use tokio::time::Instant;

use crate::link::Link;
use crate::raw;
use crate::support::{Peer, config, frame, pick, quic, tcp};

/// A node, a device that can be reached through it, and the way there.
async fn reachable() -> (Peer, Peer, RelayAddress) {
    let node = Peer::node(1, vec![]).await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    let relay = reserve(&mut device).await;
    (node, device, relay)
}

async fn reserve(device: &mut Peer) -> RelayAddress {
    device.send(Command::Reserve { wanted: true }).await;
    device.until(pick!(NetEvent::Relays(relays) if !relays.is_empty() => relays[0])).await
}

/// An address of loopback at which nobody answers: 192.0.2.0/24 would leave the machine.
fn nowhere() -> Address {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    std::mem::forget(socket);
    Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port, transport: Transport::Quic }
}

async fn dial(from: &mut Peer, to: &Peer, addresses: Vec<Address>, relays: Vec<RelayAddress>) -> Dialled {
    let (id, tid) = (from.job(), Some(to.tid()));
    from.send(Command::Dial { id, tid, addresses, relays }).await;
    let done = from
        .until(pick!(
            NetEvent::Dialled { id: of, conn } if *of == id => Ok(*conn),
            NetEvent::DialFailed { id: of, failure } if *of == id => Err(failure.clone()),
        ))
        .await;
    done.map(|conn| (conn, is_relayed(from, conn)))
}

type Dialled = Result<(ConnId, bool), DialFailure>;

fn is_relayed(peer: &Peer, conn: ConnId) -> bool {
    let told =
        peer.log.iter().find_map(pick!(NetEvent::Connected { conn: of, relayed, .. } if *of == conn => *relayed));
    told.expect("it was told before")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_two_devices_meet_at_a_relay_and_each_knows_the_others_key() {
    let (mut node, mut alice, relay) = reachable().await;
    assert_eq!((relay.relay, relay.relay_tid), (node.address(Transport::Quic), node.tid()));
    // One that knows the node, and one that learns of it from an advert.
    for (seed, boot) in [(12, vec![node.bootstrap()]), (13, vec![])] {
        let mut bob = Peer::device(seed, boot).await;
        let (conn, relayed) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("connects");
        assert!(relayed);
        let stream = bob.open(conn, StreamProtocol::Pair).await;
        bob.write(stream, vec![frame(FrameType::P1, 3)]).await;
        let (inbound, at, _) = alice.accept().await;
        assert_eq!(alice.frame(inbound).await, frame(FrameType::P1, 3));
        alice.write(inbound, vec![frame(FrameType::H2, 4)]).await;
        assert_eq!(bob.frame(stream).await, frame(FrameType::H2, 4));
        let told = alice
            .until(pick!(NetEvent::Connected { conn, tid, address, relayed, .. } if *conn == at => (*tid, *address, *relayed)))
            .await;
        assert_eq!((told.0, told.2), (bob.tid(), true));
        assert_eq!(told.1.ip, relay.relay.ip, "of the other one only the relay's address is known");
        node.until_status(|s| s.relay_circuits == 1 && s.relay_reservations == 1).await;
        bob.net.end().await;
        alice.until(pick!(NetEvent::Disconnected { conn, .. } if *conn == at => ())).await;
        node.until_status(|s| s.relay_circuits == 0).await;
    }
    assert_eq!(node.status().await.relay_circuits_total, 2);
    assert_eq!(node.status().await.relay_denied, 0);
    alice.net.end().await;
    node.until_status(|s| s.relay_reservations == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_a_reservation_is_refused_at_once() {
    let mut node = Peer::node(1, vec![]).await;
    let gone = Peer::device(11, vec![node.bootstrap()]).await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    let relay = RelayAddress { relay: node.address(Transport::Quic), relay_tid: node.tid() };
    assert_eq!(dial(&mut bob, &gone, vec![], vec![relay]).await, Err(DialFailure::Refused));
    node.until_status(|s| s.relay_denied == 1 && s.relay_circuits_total == 0).await;
    // A device is no relay.
    let relay = RelayAddress { relay: gone.address(Transport::Quic), relay_tid: gone.tid() };
    let mut carol = Peer::device(13, vec![]).await;
    assert_eq!(dial(&mut carol, &bob, vec![], vec![relay]).await, Err(DialFailure::TimedOut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_addresses_have_a_start_of_a_moment_and_nobody_waits_for_one_that_is_silent() {
    let (node, alice, relay) = reachable().await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    bob.until_nodes(1).await;
    let (_, relayed) = dial(&mut bob, &alice, vec![alice.address(Transport::Quic)], vec![relay]).await.expect("direct");
    assert!(!relayed);
    let mut carol = Peer::device(13, vec![node.bootstrap()]).await;
    carol.until_nodes(1).await;
    let start = Instant::now();
    let (_, relayed) = dial(&mut carol, &alice, vec![nowhere()], vec![relay]).await.expect("by the relay");
    assert!(relayed && start.elapsed() >= DIRECT_FIRST, "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(4), "not after a timeout: {:?}", start.elapsed());
    // Where all addresses have refused, nothing is waited for.
    let mut dave = Peer::device(14, vec![node.bootstrap()]).await;
    dave.until_nodes(1).await;
    let refusing = Address { port: 1, transport: Transport::Tcp, ..relay.relay };
    let (_, relayed) = dial(&mut dave, &alice, vec![refusing], vec![relay]).await.expect("by the relay");
    assert!(relayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_without_relays_is_not_answered_by_one() {
    let (node, alice, relay) = reachable().await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    let (by_relay, _) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("by the relay");
    let (again, _) = dial(&mut bob, &alice, vec![nowhere()], vec![relay]).await.expect("it stands already");
    assert_eq!(again, by_relay);
    let (direct, relayed) = dial(&mut bob, &alice, vec![alice.address(Transport::Quic)], vec![]).await.expect("direct");
    assert!(direct != by_relay && !relayed);
    let (best, _) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("both stand");
    assert_eq!(best, direct);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_connection_that_is_being_closed_is_no_answer_to_a_dial_by_another_relay() {
    let nodes = [Peer::node(1, vec![]).await, Peer::node(2, vec![]).await];
    let mut alice = Peer::device(11, nodes.iter().map(Peer::bootstrap).collect()).await;
    alice.send(Command::Reserve { wanted: true }).await;
    let relays = alice.until(pick!(NetEvent::Relays(relays) if relays.len() == 2 => relays.clone())).await;
    let mut bob = Peer::device(12, vec![]).await;
    let (stalled, _) = dial(&mut bob, &alice, vec![], vec![relays[0]]).await.expect("by the one");
    bob.send(Command::CloseConnection { conn: stalled }).await;
    let (other, relayed) = dial(&mut bob, &alice, vec![], vec![relays[1]]).await.expect("by the other");
    assert!(relayed && other != stalled);
    let at = bob.log.iter().find_map(pick!(NetEvent::Connected { conn, address, .. } if *conn == other => *address));
    assert_eq!(at, Some(relays[1].relay));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_8_a_circuit_carries_more_than_the_librarys_128_kib() {
    let (node, mut alice, relay) = reachable().await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    let (conn, _) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("connects");
    let mut carried = 0;
    while carried < 600 * 1024 {
        let stream = bob.open(conn, StreamProtocol::Pair).await;
        for n in 0..30 {
            let sent = frame(if n == 0 { FrameType::P1 } else { FrameType::H3 }, n);
            carried += sent.body().len();
            bob.write(stream, vec![sent.clone()]).await;
            if n == 0 {
                let (inbound, _, _) = alice.accept().await;
                assert_eq!(alice.frame(inbound).await, sent, "after {carried} bytes");
            }
        }
        bob.send(Command::CloseStream { stream }).await;
        alice.until(pick!(NetEvent::StreamClosed { end: StreamEnd::Finished, .. } => ())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_13_what_a_relay_has_given_is_kept_and_only_no_longer_told() {
    let (mut node, mut alice, relay) = reachable().await;
    for _ in 0..20 {
        alice.send(Command::Reserve { wanted: false }).await;
        alice.until(pick!(NetEvent::Relays(relays) if relays.is_empty() => ())).await;
        alice.send(Command::Reserve { wanted: true }).await;
        let again = alice.until(pick!(NetEvent::Relays(relays) if !relays.is_empty() => relays[0])).await;
        assert_eq!(again, relay);
    }
    node.until_status(|s| s.relay_reservations == 1).await;
    let mut bob = Peer::device(12, vec![]).await;
    assert!(dial(&mut bob, &alice, vec![], vec![relay]).await.is_ok(), "it leads there still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_gone_is_no_longer_told_and_told_again_when_it_is_back() {
    let node = Peer::node(1, vec![]).await;
    let link = Link::to(node.address(Transport::Quic), Duration::ZERO).await;
    let mut behind = node.bootstrap();
    behind.port = link.address.port;
    let mut alice = Peer::device(11, vec![behind, node.bootstrap()]).await;
    let relay = reserve(&mut alice).await;
    if relay.relay == link.address {
        link.cut();
        alice.until(pick!(NetEvent::Relays(relays) if relays.is_empty() => ())).await;
        alice.until(pick!(NetEvent::Relays(relays) if !relays.is_empty() => ())).await;
    }
    node.net.end().await;
    alice.until(pick!(NetEvent::Relays(relays) if relays.is_empty() => ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_peer_behind_a_relay_is_noticed_and_so_is_a_lost_relay() {
    let (node, mut alice, relay) = reachable().await;
    let link = Link::to(node.address(Transport::Quic), Duration::ZERO).await;
    let mut bob = Peer::device(12, vec![]).await;
    let by_link = RelayAddress { relay: link.address, ..relay };
    let (conn, _) = dial(&mut bob, &alice, vec![], vec![by_link]).await.expect("connects");
    bob.send(Command::Hold { conn, hold: true }).await;
    let at = alice.until(pick!(NetEvent::Connected { conn, relayed: true, .. } => *conn)).await;
    alice.send(Command::Hold { conn: at, hold: true }).await;
    link.cut();
    let start = Instant::now();
    let cause = bob.until(pick!(NetEvent::Disconnected { conn: of, cause, .. } if *of == conn => *cause)).await;
    assert!(cause != DisconnectCause::Closed || start.elapsed() > Duration::from_secs(1), "{cause:?}");
    alice.until(pick!(NetEvent::Disconnected { conn: of, .. } if *of == at => ())).await;
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_15_a_relay_that_is_just_being_called_is_waited_for() {
    let (node, alice, relay) = reachable().await;
    for seed in 20..25 {
        // It calls its bootstrap node at this very moment.
        let mut bob = Peer::device(seed, vec![node.bootstrap()]).await;
        let dialled = dial(&mut bob, &alice, vec![], vec![relay]).await;
        assert!(matches!(dialled, Ok((_, true))), "{dialled:?}");
        bob.net.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_makes_us_dial_an_address_that_is_not_public_by_an_upgrade() {
    let (node, mut alice, relay) = reachable().await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    bob.until_nodes(1).await;
    let (conn, relayed) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("connects");
    assert!(relayed);
    bob.send(Command::Hold { conn, hold: true }).await;
    // Both have been seen at loopback by the node, which is no address to tell or to dial: nothing more comes of it.
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 3)]).await;
    let (inbound, _, _) = alice.accept().await;
    for n in 0..50 {
        bob.write(stream, vec![frame(FrameType::H3, n)]).await;
        assert_eq!(alice.frame(inbound).await.kind(), if n == 0 { FrameType::P1 } else { FrameType::H3 });
    }
    let is_direct =
        |event: &NetEvent| matches!(event, NetEvent::Connected { tid, relayed: false, .. } if *tid == alice.tid());
    assert!(!bob.log.iter().any(is_direct));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_through_a_relay_ends() {
    let (node, mut alice, relay) = reachable().await;
    let mut quick = config(12, Role::Device, vec![quic(), tcp()], vec![node.bootstrap()]);
    quick.timing.idle = Duration::from_millis(500);
    let mut bob = Peer::start(quick).await;
    let (conn, _) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("connects");
    let start = Instant::now();
    let cause = bob.until(pick!(NetEvent::Disconnected { conn: of, cause, .. } if *of == conn => *cause)).await;
    assert_eq!(cause, DisconnectCause::Closed);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    alice.until(pick!(NetEvent::Disconnected { .. } => ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_relay_is_told_from_a_closed_stream() {
    let (node, mut alice, relay) = reachable().await;
    let mut bob = Peer::device(12, vec![node.bootstrap()]).await;
    let (conn, _) = dial(&mut bob, &alice, vec![], vec![relay]).await.expect("connects");
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 3)]).await;
    let (inbound, _, _) = alice.accept().await;
    alice.frame(inbound).await;
    node.net.end().await;
    for (peer, of) in [(&mut alice, inbound), (&mut bob, stream)] {
        let end = peer.until(pick!(NetEvent::StreamClosed { stream, end } if *stream == of => *end)).await;
        assert_eq!(end, StreamEnd::Lost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_16_identify_tells_nobody_which_circuits_lead_to_us() {
    let (_node, device, relay) = reachable().await;
    let (mut stranger, _) = raw::swarm(50).await;
    let address = device.address(Transport::Quic).to_string().parse::<Multiaddr>().expect("a multiaddr");
    stranger.dial(address).expect("a dial");
    let told = raw::until(
        &mut stranger,
        pick!(SwarmEvent::Behaviour(raw::PlainEvent::Identify(identify::Event::Received { info, .. }))
            => info.listen_addrs.clone()),
    )
    .await;
    assert!(told.iter().all(|address| !address.to_string().contains("p2p-circuit")), "{told:?} with {relay:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trap_17_only_the_nodes_that_were_given_are_asked_for_a_reservation() {
    let (_node, mut device, _) = reachable().await;
    let mut other = Peer::node(2, vec![]).await;
    let conn = device.dial(Some(other.tid()), other.addresses.clone()).await;
    let by = other.tid();
    device.until(pick!(NetEvent::Observed { by: of, .. } if *of == by => ())).await;
    // One question and its answer later it would have been asked.
    let id = device.job();
    device.send(Command::Check { id, conn, addresses: vec![device.address(Transport::Quic)] }).await;
    device.until(pick!(NetEvent::Checked { id: of, .. } if *of == id => ())).await;
    assert_eq!(other.status().await.relay_reservations, 0);
    other.log.clear();
}
