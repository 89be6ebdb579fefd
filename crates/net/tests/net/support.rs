//! Devices and nodes on loopback, driven by hand, every wait bounded.

use std::time::Duration;

use handfast_net::{
    Bootstrap, Clock, Command, Config, Host, NetEvent, NetStatus, Network, Role, StreamProtocol, Timing, Transport as _,
};
use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::{ConnId, JobId, StreamId, Tid};
use handfast_proto::records::RecordLimits;
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::wire::frames::{Frame, FrameType};
use handfast_proto::wire::record::{Record, RecordKeys};
use tokio::time::timeout;

/// A closure that takes what it is given a value for and leaves the rest.
macro_rules! pick {
    ($($pattern:pat $(if $guard:expr)? => $value:expr),+ $(,)?) => {
        |event| {
            $(if let $pattern = event
                $(&& $guard)?
            {
                return Some($value);
            })+
            None
        }
    };
}
pub(crate) use pick;

/// No single step on loopback takes longer, even on a busy machine.
pub(crate) const STEP: Duration = Duration::from_secs(20);

/// A network under test.
pub(crate) struct Peer {
    pub(crate) net: Network,
    pub(crate) addresses: Vec<Address>,
    next_job: u64,
    /// Events that came while another was waited for.
    pub(crate) log: Vec<NetEvent>,
}

pub(crate) fn quic() -> Address {
    "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")
}

pub(crate) fn tcp() -> Address {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}

pub(crate) fn config(seed: u8, role: Role, listen: Vec<Address>, bootstrap: Vec<Bootstrap>) -> Config {
    Config {
        listen,
        fallback_to_any_port: false,
        bootstrap,
        role,
        transport_seed: Secret::new([seed; 32]),
        limits: RecordLimits::DEVICE,
        timing: Timing::default(),
    }
}

impl Peer {
    /// Starts a network and waits until all its addresses are known.
    pub(crate) async fn start(config: Config) -> Peer {
        let count = config.listen.len();
        let net = handfast_net::start(config, Clock::start()).expect("starts");
        let mut peer = Peer { net, addresses: Vec::new(), next_job: 0, log: Vec::new() };
        while peer.addresses.len() < count {
            let address = peer.until(pick!(NetEvent::Listening { address } => *address)).await;
            peer.addresses.push(address);
        }
        peer
    }

    pub(crate) async fn device(seed: u8, bootstrap: Vec<Bootstrap>) -> Peer {
        Peer::start(config(seed, Role::Device, vec![quic(), tcp()], bootstrap)).await
    }

    pub(crate) async fn node(seed: u8, bootstrap: Vec<Bootstrap>) -> Peer {
        let role = Role::Node { external: Vec::new() };
        Peer::start(config(seed, role, vec![quic(), tcp()], bootstrap)).await
    }

    pub(crate) fn tid(&self) -> Tid {
        self.net.tid()
    }

    pub(crate) fn address(&self, transport: Transport) -> Address {
        *self.addresses.iter().find(|a| a.transport == transport).expect("it listens there")
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        let address = self.address(Transport::Quic);
        Bootstrap { host: Host::Ip(address.ip), port: address.port, transport: address.transport, tid: self.tid() }
    }

    pub(crate) fn job(&mut self) -> JobId {
        self.next_job += 1;
        JobId(self.next_job)
    }

    pub(crate) async fn send(&self, command: Command) {
        self.net.send(command).await.expect("the network runs");
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> NetEvent {
        timeout(STEP, self.net.next())
            .await
            .unwrap_or_else(|_| panic!("nothing happened; before: {:?}", self.log))
            .expect("the network runs")
    }

    /// Waits for an event that `pick` takes, looking first at those that came before.
    pub(crate) async fn until<T>(&mut self, pick: impl Fn(&NetEvent) -> Option<T>) -> T {
        if let Some(at) = self.log.iter().position(|event| pick(event).is_some()) {
            return pick(&self.log.remove(at)).expect("it was picked just now");
        }
        loop {
            let event = self.event().await;
            if let Some(found) = pick(&event) {
                return found;
            }
            self.log.push(event);
        }
    }

    pub(crate) async fn until_nodes(&mut self, at_least: usize) {
        self.until(pick!(NetEvent::DhtPeers(n) if *n >= at_least => ())).await;
    }

    pub(crate) async fn status(&self) -> NetStatus {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(Command::Status(reply)).await;
        timeout(STEP, answer).await.expect("an answer in time").expect("an answer")
    }

    /// Asks for the status until it is as wanted.
    pub(crate) async fn until_status(&mut self, wanted: impl Fn(&NetStatus) -> bool) {
        let start = std::time::Instant::now();
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return;
            }
            assert!(start.elapsed() < STEP, "still {status:?}");
            // Events are taken meanwhile, so that nothing waits for room.
            while let Ok(Some(event)) = timeout(Duration::from_millis(1), self.net.next()).await {
                self.log.push(event);
            }
        }
    }

    pub(crate) async fn dial(&mut self, tid: Option<Tid>, addresses: Vec<Address>) -> ConnId {
        let id = self.job();
        self.send(Command::Dial { id, tid, addresses, relays: Vec::new() }).await;
        self.until(pick!(NetEvent::Dialled { id: of, conn } if *of == id => Ok(*conn), NetEvent::DialFailed { id: of, failure } if *of == id => Err(failure.clone()))).await.expect("connects")
    }

    pub(crate) async fn open(&mut self, conn: ConnId, protocol: StreamProtocol) -> StreamId {
        let id = self.job();
        self.send(Command::OpenStream { id, conn, protocol }).await;
        self.until(pick!(NetEvent::StreamOpened { id: of, stream } if *of == id => Ok(*stream), NetEvent::StreamFailed { id: of, cause } if *of == id => Err(*cause))).await.expect("opens")
    }

    pub(crate) async fn accept(&mut self) -> (StreamId, ConnId, StreamProtocol) {
        self.until(pick!(NetEvent::StreamInbound { stream, conn, protocol } => (*stream, *conn, *protocol))).await
    }

    pub(crate) async fn frame(&mut self, on: StreamId) -> Frame {
        self.until(pick!(NetEvent::Frame { stream, frame } if *stream == on => Ok(frame.clone()), NetEvent::StreamClosed { stream, end } if *stream == on => Err(*end))).await.expect("a frame")
    }

    pub(crate) async fn write(&self, stream: StreamId, frames: Vec<Frame>) {
        self.send(Command::Send { stream, frames }).await;
    }

    pub(crate) async fn put(&mut self, record: &Record) -> usize {
        let id = self.job();
        let record = record.clone();
        self.send(Command::Put { id, record }).await;
        self.until(pick!(NetEvent::PutDone { id: of, stored_on } if *of == id => *stored_on)).await
    }

    /// Looks a topic up to the end: what was found, and how many nodes answered.
    pub(crate) async fn get(&mut self, record: &Record) -> (Vec<Record>, usize) {
        let id = self.job();
        let topic = record.topic();
        self.send(Command::Get { id, topic }).await;
        let answered = self.until(pick!(NetEvent::GetDone { id: of, answered } if *of == id => *answered)).await;
        let mut found = Vec::new();
        self.log.retain(|event| {
            if let NetEvent::Found { id: of, record } = event
                && *of == id
            {
                found.push(record.clone());
                return false;
            }
            true
        });
        (found, answered)
    }
}

/// A valid record; different names have different topics.
pub(crate) fn record(name: u8, seq: u64, ttl: u16) -> Record {
    let keys = RecordKeys::new(&Secret::new([name; 32]), Secret::new([1; 32]));
    let mut rng = Rng::from_seed(Secret::new([2; 32]));
    keys.seal(b"advert", seq, ttl, &mut rng)
}

pub(crate) fn frame(kind: FrameType, byte: u8) -> Frame {
    let mut rest = vec![kind.byte()];
    rest.resize(1 + kind.body_len(), byte);
    Frame::from_rest(&rest).expect("a frame")
}
