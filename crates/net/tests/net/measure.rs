//! temp
use std::time::{Duration, Instant};
use handfast_net::*;
use handfast_proto::addr::{Address, Transport as T};
use handfast_proto::wire::frames::FrameType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use crate::support::*;

async fn tcp_link(target: Address, d: Duration) -> Address {
    let l = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = l.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (near, _) = l.accept().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(2*d).await; // SYN, SYN-ACK
                let far = tokio::net::TcpStream::connect((target.ip, target.port)).await.unwrap();
                near.set_nodelay(true).unwrap(); far.set_nodelay(true).unwrap();
                let (nr, nw) = near.into_split(); let (fr, fw) = far.into_split();
                tokio::spawn(pipe(nr, fw, d)); tokio::spawn(pipe(fr, nw, d));
            });
        }
    });
    Address { port, ..target }
}
async fn pipe(mut r: tokio::net::tcp::OwnedReadHalf, mut w: tokio::net::tcp::OwnedWriteHalf, d: Duration) {
    let (tx, mut rx) = tokio::sync::mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1000);
    tokio::spawn(async move { while let Some((t, b)) = rx.recv().await { tokio::time::sleep_until(t).await; if w.write_all(&b).await.is_err() { return; } } });
    let mut buf = vec![0; 65536];
    while let Ok(n) = r.read(&mut buf).await { if n == 0 { return; } let _ = tx.send((tokio::time::Instant::now() + d, buf[..n].to_vec())).await; }
}
fn cpu() -> Duration { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); Duration::from_millis(10 * (f[11].parse::<u64>().unwrap() + f[12].parse::<u64>().unwrap())) }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_trips() {
    let d = Duration::from_millis(100);
    let alice = Peer::device(11, vec![]).await;
    let link = tcp_link(alice.address(T::Tcp), d).await;
    let mut bob = Peer::device(12, vec![]).await;
    let t = Instant::now();
    let conn = bob.dial(Some(alice.tid()), vec![link]).await;
    eprintln!("TCP dial {:?} (the accept of the forwarder hides one RTT, added by hand)", t.elapsed());
    let t = Instant::now();
    let mut alice = alice;
    let stream = bob.open(conn, StreamProtocol::Pair).await;
    bob.write(stream, vec![frame(FrameType::P1, 1), frame(FrameType::H1, 2)]).await;
    let (inbound, _, _) = alice.accept().await;
    alice.frame(inbound).await; alice.frame(inbound).await;
    alice.write(inbound, vec![frame(FrameType::H2, 3)]).await;
    bob.frame(stream).await;
    eprintln!("TCP first exchange {:?}", t.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs() {
    let mut nodes = vec![Peer::node(1, vec![]).await];
    let boot = vec![nodes[0].bootstrap()];
    for seed in 2..=20 { nodes.push(Peer::node(seed, boot.clone()).await); }
    for node in &mut nodes { node.until_status(|s| s.known_nodes >= 19).await; }
    let mut alice = Peer::device(101, boot.clone()).await;
    alice.until_nodes(1).await;
    let c = cpu(); let t = Instant::now();
    let advert = record(1, 1, 600);
    let id = alice.job();
    alice.send(Command::Put { id, record: advert.clone() }).await;
    alice.until(pick!(NetEvent::Stored { .. } => ())).await;
    eprintln!("put first {:?}", t.elapsed());
    let n = alice.until(pick!(NetEvent::PutDone { stored_on, .. } => *stored_on)).await;
    eprintln!("put done on {n} {:?} cpu {:?}", t.elapsed(), cpu() - c);
    for round in 0..5 {
        let c = cpu(); let t = Instant::now();
        let mut bob = Peer::device(110 + round, boot.clone()).await;
        let id = bob.job();
        bob.send(Command::Get { id, topic: advert.topic() }).await;
        bob.until(pick!(NetEvent::Found { .. } => ())).await;
        let found = t.elapsed();
        bob.send(Command::CancelGet { id }).await;
        let conn = bob.dial(Some(alice.tid()), alice.addresses.clone()).await;
        let dialled = t.elapsed();
        let stream = bob.open(conn, StreamProtocol::Pair).await;
        bob.write(stream, vec![frame(FrameType::P1, 1), frame(FrameType::H1, 2)]).await;
        let (inbound, _, _) = alice.accept().await;
        alice.frame(inbound).await; alice.frame(inbound).await;
        alice.write(inbound, vec![frame(FrameType::H2, 3)]).await;
        bob.frame(stream).await;
        eprintln!("cold: found {found:?} dialled {dialled:?} exchanged {:?} cpu {:?} conns {}", t.elapsed(), cpu() - c, bob.status().await.connections);
    }
    let c = cpu(); 
    tokio::time::sleep(Duration::from_secs(10)).await;
    eprintln!("idle 26 swarms 10 s cpu {:?}", cpu() - c);
    let c = cpu(); 
    tokio::time::sleep(Duration::from_secs(10)).await;
    eprintln!("idle 26 swarms 10 s cpu {:?}", cpu() - c);
}
