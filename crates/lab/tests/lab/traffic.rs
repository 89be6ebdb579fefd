//! Traffic for the self tests: UDP and TCP from threads inside the namespaces of hosts.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handfast_lab::host::Host;
use handfast_lab::topology::AccessHost;

/// No probe of a self test is under way longer.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// How often an idle echo looks whether it should end.
const ECHO_POLL: Duration = Duration::from_millis(50);

/// A socket on `host`, at a port of the system's choice.
pub(crate) fn socket(host: &Host, address: IpAddr) -> UdpSocket {
    socket_at(host, SocketAddr::new(address, 0))
}

fn socket_at(host: &Host, address: SocketAddr) -> UdpSocket {
    let socket = host.namespace().enter(|| UdpSocket::bind(address));
    let socket = socket.expect("the namespace exists").expect("a free port");
    socket.set_read_timeout(Some(PROBE_LIMIT)).expect("a timeout");
    socket
}

/// Answers every datagram with itself until dropped.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(crate) fn start(host: &Host, address: IpAddr) -> Self {
        Self::start_at(host, SocketAddr::new(address, 0))
    }

    pub(crate) fn start_at(host: &Host, address: SocketAddr) -> Self {
        let socket = socket_at(host, address);
        socket.set_read_timeout(Some(ECHO_POLL)).expect("a timeout");
        let address = socket.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            go_first();
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).expect("a way back");
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the echo does not panic");
        }
    }
}

/// Round trips from `host` to an echo; lost probes are left out.
pub(crate) fn round_trips(host: &Host, from: IpAddr, to: SocketAddr, count: u32) -> Vec<Duration> {
    let socket = socket(host, from);
    go_first();
    let mut times = Vec::new();
    for number in 0..count {
        let sent = Instant::now();
        socket.send_to(&number.to_be_bytes(), to).expect("a route");
        let mut buffer = [0; 64];
        while let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..length] == number.to_be_bytes() {
                times.push(sent.elapsed());
                break;
            }
        }
    }
    times
}

/// Sends `count` numbered datagrams from one host to another and gives the numbers in order of arrival.
pub(crate) fn numbered(from: &AccessHost, to: &AccessHost, count: u32) -> Vec<u32> {
    let sink = socket(to, to.ipv4().into());
    let address = sink.local_addr().expect("it is bound");
    let source = socket(from, from.ipv4().into());
    let receiver = std::thread::spawn(move || {
        let mut arrived = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(length) = sink.recv(&mut buffer) {
            arrived.push(u32::from_be_bytes(buffer[..length].try_into().expect("four bytes")));
        }
        arrived
    });
    for number in 0..count {
        source.send_to(&number.to_be_bytes(), address).expect("a route");
        // A slow trickle: a full socket buffer is not what is measured.
        if number % 16 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    receiver.join().expect("the receiver does not panic")
}

/// Moves `bytes` over TCP from one host to another and checks them; gives the time it took.
pub(crate) fn transfer(from: &AccessHost, to: &AccessHost, bytes: &[u8]) -> Duration {
    let listener = to.namespace().enter(|| TcpListener::bind((to.ipv4(), 0)));
    let listener = listener.expect("the namespace exists").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("the stream ends");
            all
        });
        let stream = from.namespace().enter(|| TcpStream::connect_timeout(&address, PROBE_LIMIT));
        let mut stream = stream.expect("the namespace exists").expect("a way there");
        let start = Instant::now();
        stream.write_all(bytes).expect("the stream takes everything");
        drop(stream);
        assert!(receiver.join().expect("the receiver does not panic") == bytes, "bytes changed on the way");
        start.elapsed()
    })
}

/// The thread that measures stands for the hardware and must not wait for a processor.
fn go_first() {
    rustix::process::nice(-15).expect("the lab runs as root");
}
