//! Calls from outside: what a node does for whoever asks, and what is believed of it.

use handfast_net::{Command, NetEvent, Role};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::ConnId;
use handfast_proto::reach::Verdict;

use crate::support::{Peer, config, pick, quic, tcp};

/// A node that tells where it listens, as one on the internet does.
async fn node() -> Peer {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let tcp = Address { port, ..tcp() };
    let role = Role::Node { external: vec![tcp] };
    Peer::start(config(1, role, vec![quic(), tcp], vec![])).await
}

async fn ask(device: &mut Peer, conn: ConnId, addresses: Vec<Address>) -> Verdict {
    let id = device.job();
    device.send(Command::Check { id, conn, addresses }).await;
    device.until(pick!(NetEvent::Checked { id: of, verdict } if *of == id => verdict.clone())).await
}

async fn seen(device: &mut Peer) -> (Address, ConnId) {
    device.until(pick!(NetEvent::Observed { address, conn, calls_back: true, .. } => (*address, *conn))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_node_calls_back_where_it_is_asked_to_and_says_where_it_was_let_in() {
    let mut node = node().await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    let (_, conn) = seen(&mut device).await;
    let [quic, tcp] = [Transport::Quic, Transport::Tcp].map(|transport| device.address(transport));
    let closed = Address { port: 1_024, ..tcp };
    let verdict = ask(&mut device, conn, vec![quic, closed, tcp]).await;
    assert_eq!(verdict, Verdict::Called { reached: vec![quic, tcp], missed: vec![closed] });
    assert_eq!(node.status().await.checks_called, 3);

    // What it came in over it leaves.
    node.until_status(|status| status.connections == 1).await;
    // One that is not asked about does not shift the others.
    let verdict = ask(&mut device, conn, vec![Address { port: 80, ..tcp }, quic]).await;
    assert_eq!(verdict, Verdict::Called { reached: vec![quic], missed: vec![] });
    node.until_status(|status| status.connections == 1).await;
    let elsewhere = Address { ip: [127, 0, 0, 2].into(), ..quic };
    let verdict = ask(&mut device, conn, vec![elsewhere]).await;
    assert_eq!(verdict, Verdict::Called { reached: vec![], missed: vec![] }, "it calls nobody but whoever asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_whoever_asks_too_often_is_refused_and_a_device_calls_nobody_back() {
    let node = node().await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    let (_, conn) = seen(&mut device).await;
    let quic = device.address(Transport::Quic);
    let mut refused = 0;
    let start = std::time::Instant::now();
    for _ in 0..20 {
        refused += u64::from(ask(&mut device, conn, vec![quic]).await == Verdict::Unknown);
    }
    // Two in each second that it has taken.
    let admitted = 2 * (start.elapsed().as_secs() + 2);
    let status = node.status().await;
    assert_eq!(status.checks_called, 20 - refused);
    assert!(status.checks_called <= admitted && status.checks_denied > 0, "{status:?}");

    let other = Peer::device(12, vec![]).await;
    let conn = device.dial(Some(other.tid()), other.addresses.clone()).await;
    assert_eq!(ask(&mut device, conn, vec![quic]).await, Verdict::Unknown);
    assert_eq!(ask(&mut device, ConnId(999), vec![quic]).await, Verdict::Unknown);
    assert_eq!(ask(&mut device, conn, vec![]).await, Verdict::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_node_tells_at_which_port_it_sees_us_over_tcp_when_it_is_called_so_as_well() {
    let node = node().await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    let (first, conn) = seen(&mut device).await;
    assert_eq!(first.transport, Transport::Quic);
    device.send(Command::SeeOverTcp { conn }).await;
    let (second, over) = seen(&mut device).await;
    assert_eq!(second, device.address(Transport::Tcp), "the port that it listens on");
    assert_ne!(over, conn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b27_a_call_of_a_node_is_no_connection_of_ours_to_it() {
    let node = node().await;
    let mut device = Peer::device(11, vec![node.bootstrap()]).await;
    let (_, conn) = seen(&mut device).await;
    device.send(Command::Reserve { wanted: true }).await;
    device.until(pick!(NetEvent::Relays(relays) if !relays.is_empty() => ())).await;
    let quic = device.address(Transport::Quic);
    assert_eq!(ask(&mut device, conn, vec![quic]).await, Verdict::Called { reached: vec![quic], missed: vec![] });
    // The call still stands when our connection goes: the node is called again, and leads to us from where it listens.
    device.send(Command::CloseConnection { conn }).await;
    device.until(pick!(NetEvent::Relays(relays) if relays.is_empty() => ())).await;
    let relays = device.until(pick!(NetEvent::Relays(relays) if !relays.is_empty() => relays.clone())).await;
    assert!(relays.iter().all(|via| node.addresses.contains(&via.relay)), "{relays:?}");
}
