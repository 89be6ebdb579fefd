//! A UDP link on loopback that changes the sender's port, as address translation does, delays, and can be cut.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use handfast_proto::addr::{Address, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The link, as long as it lives.
pub(crate) struct Link {
    /// Where to dial instead of the target.
    pub(crate) address: Address,
    cut: Arc<AtomicBool>,
    packets: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

struct Packet {
    due: Instant,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Link {
    /// A link to a UDP address that delays by `one_way` in each direction.
    pub(crate) async fn to(target: Address, one_way: Duration) -> Link {
        let target = SocketAddr::new(target.ip, target.port);
        let front = Arc::new(bind().await);
        let port = front.local_addr().expect("a local address").port();
        let address = Address { ip: target.ip(), port, transport: Transport::Quic };
        let cut = Arc::new(AtomicBool::new(false));
        let packets = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(carry(front, target, one_way, Arc::clone(&cut), Arc::clone(&packets)));
        Link { address, cut, packets, task }
    }

    /// From now on nothing passes.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Packets that have passed.
    pub(crate) fn packets(&self) -> usize {
        self.packets.load(Ordering::SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a loopback socket")
}

async fn carry(
    front: Arc<UdpSocket>,
    target: SocketAddr,
    one_way: Duration,
    cut: Arc<AtomicBool>,
    packets: Arc<AtomicUsize>,
) {
    let (sender, mut received) = mpsc::channel::<Packet>(1024);
    let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut under_way: VecDeque<Packet> = VecDeque::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let due = under_way.front().map_or_else(|| Instant::now() + Duration::from_secs(3600), |p| p.due);
        tokio::select! {
            Ok((n, from)) = front.recv_from(&mut buffer) => {
                if let std::collections::btree_map::Entry::Vacant(free) = backs.entry(from) {
                    let back = Arc::new(bind().await);
                    tokio::spawn(answers(Arc::clone(&back), Arc::clone(&front), from, one_way, sender.clone()));
                    free.insert(back);
                }
                under_way.push_back(Packet {
                    due: Instant::now() + one_way,
                    socket: Arc::clone(&backs[&from]),
                    to: target,
                    bytes: buffer[..n].to_vec(),
                });
            }
            Some(packet) = received.recv() => under_way.push_back(packet),
            () = sleep_until(due) => {
                if let Some(packet) = under_way.pop_front()
                    && !cut.load(Ordering::SeqCst)
                {
                    packets.fetch_add(1, Ordering::SeqCst);
                    // A closed port at the other end is as good as a lost packet.
                    let _ = packet.socket.send_to(&packet.bytes, packet.to).await;
                }
            }
        }
    }
}

async fn answers(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    one_way: Duration,
    sender: mpsc::Sender<Packet>,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok((n, _)) = back.recv_from(&mut buffer).await {
        let packet =
            Packet { due: Instant::now() + one_way, socket: Arc::clone(&front), to, bytes: buffer[..n].to_vec() };
        if sender.send(packet).await.is_err() {
            return;
        }
    }
}
