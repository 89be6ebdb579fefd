//! Calls from outside ([`handfast_proto::reach`]): a node calls back whoever asks, a device asks and hears who came in.
//!
//! Libp2p's AutoNAT v2 server dials whatever address it is told, and its client tests each once (trap 7).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use handfast_proto::addr::{Address, Subscriber, Transport};
use handfast_proto::id::{ConnId, JobId};
use handfast_proto::reach::{ANSWER_LEN, ASK_LEN, Answer, Ask, MAX_PORTS, PROTOCOL, Verdict, may_be_called};
use libp2p::request_response::{
    self, Codec, InboundRequestId, Message, OutboundRequestId, ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::time::Instant;

use super::driver::Driver;
use super::ids;
use crate::api::{NetEvent, Role};
use crate::rate::Rate;

/// How long the calls of one question may take. Whoever is not reached by then is not reached.
const CALLS_LIMIT: Duration = Duration::from_secs(3);

/// How long an answer is waited for, and how much longer than that a call that it speaks of: it may have overtaken it.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// See [`ANSWER_LIMIT`].
const CALL_LAGS: Duration = Duration::from_millis(500);

/// How long a call that got in stands: the other end has not finished its part when ours is done, and must see it.
const CALL_STANDS: Duration = Duration::from_secs(1);

/// Questions that a node takes from one subscriber in a second, and those of one that it works on at once; each is up to
/// four calls.
const PER_SUBSCRIBER: u8 = 2;
/// See [`PER_SUBSCRIBER`].
const MAX_RUNNING_PER_SUBSCRIBER: usize = 2;

/// Calls that have not ended, of whomever, whether he still waits or not.
const MAX_CALLS: usize = 256;

/// The name of the protocol.
pub(crate) const PROTOCOL_NAME: StreamProtocol = StreamProtocol::new(PROTOCOL);

pub(crate) type Behaviour = request_response::Behaviour<Bytes>;
pub(crate) type Event = request_response::Event<Ask, Answer>;

/// A node answers, a device asks.
pub(crate) fn behaviour(is_node: bool) -> Behaviour {
    let support = if is_node { ProtocolSupport::Inbound } else { ProtocolSupport::Outbound };
    let config = request_response::Config::default().with_request_timeout(ANSWER_LIMIT).with_max_concurrent_streams(1);
    Behaviour::new([(PROTOCOL_NAME, support)], config)
}

/// Questions and answers as bytes.
#[derive(Clone, Default)]
pub(crate) struct Bytes;

impl Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Ask;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Ask> {
        let mut bytes = [0; ASK_LEN];
        io.read_exact(&mut bytes).await?;
        Ask::from_bytes(&bytes).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Answer> {
        let mut bytes = [0; ANSWER_LEN];
        io.read_exact(&mut bytes).await?;
        Ok(Answer::from_bytes(&bytes))
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        ask: Ask,
    ) -> io::Result<()> {
        io.write_all(&ask.to_bytes()).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Answer,
    ) -> io::Result<()> {
        io.write_all(&answer.to_bytes()).await
    }
}

/// What we have asked.
struct Asked {
    id: JobId,
    peer: PeerId,
    addresses: Vec<Address>,
    /// Over what the node has come in since.
    heard: BTreeSet<Transport>,
    answer: Option<(Answer, Instant)>,
}

impl Asked {
    /// What is believed of an answer.
    fn verdict(&self, answer: Answer) -> Verdict {
        let called = |address: &&Address| address.ip == answer.ip;
        let is_reached = |n: usize, address: &Address| answer.has_reached(n) && self.heard.contains(&address.transport);
        let (mut reached, mut missed) = (Vec::new(), Vec::new());
        for (n, address) in self.addresses.iter().enumerate().filter(|(_, address)| called(address)) {
            if is_reached(n, address) { &mut reached } else { &mut missed }.push(*address);
        }
        Verdict::Called { reached, missed }
    }

    fn has_heard_all(&self, answer: Answer) -> bool {
        let told = self.addresses.iter().enumerate().filter(|(n, _)| answer.has_reached(*n));
        told.map(|(_, address)| address.transport).all(|transport| self.heard.contains(&transport))
    }
}

/// The calls for one question.
struct Check {
    channel: ResponseChannel<Answer>,
    ip: IpAddr,
    /// How many calls have not ended.
    running: usize,
    reached: u8,
    until: Instant,
}

/// What is under way, in either role.
pub(crate) struct Reach {
    asked: BTreeMap<OutboundRequestId, Asked>,
    checks: BTreeMap<InboundRequestId, Check>,
    /// The calls that have not ended, each with its question and its place in it. They outlive whoever has asked.
    calls: BTreeMap<ConnectionId, (InboundRequestId, u8)>,
    /// The connections that calls have made, and when they are to be closed. As many as are called in that time.
    standing: Vec<(Instant, ConnectionId)>,
    /// Where the nodes that we are connected to listen on TCP.
    tcp: BTreeMap<PeerId, Address>,
    /// The dials of nodes over TCP besides.
    sights: BTreeSet<ConnectionId>,
    rate: Option<Rate>,
    called: u64,
    denied: u64,
}

impl Reach {
    pub(crate) fn new(role: &Role) -> Reach {
        let rate = matches!(role, Role::Node { .. }).then(|| Rate::new(PER_SUBSCRIBER, Instant::now()));
        Reach {
            asked: BTreeMap::new(),
            checks: BTreeMap::new(),
            calls: BTreeMap::new(),
            standing: Vec::new(),
            tcp: BTreeMap::new(),
            sights: BTreeSet::new(),
            rate,
            called: 0,
            denied: 0,
        }
    }

    /// Calls made for others since the start, and questions refused.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.called, self.denied)
    }

    /// A node that we were given tells where it listens; a port of another host is not its own.
    pub(crate) fn listens(&mut self, peer: PeerId, at: IpAddr, addresses: &[Multiaddr]) {
        let is_its_own = |a: &Address| a.transport == Transport::Tcp && a.ip == at;
        if let Some(address) = addresses.iter().filter_map(ids::address_of).find(is_its_own) {
            self.tcp.insert(peer, address);
        }
    }

    /// A connection that somebody else has opened stands.
    fn came_in(&mut self, peer: PeerId, transport: Transport) {
        for asked in self.asked.values_mut().filter(|asked| asked.peer == peer) {
            asked.heard.insert(transport);
        }
    }

    /// A dial has ended, one of ours or not.
    fn call_ended(&mut self, connection: ConnectionId, is_established: bool) {
        let Some((request, place)) = self.calls.remove(&connection) else { return };
        if is_established {
            self.standing.push((Instant::now() + CALL_STANDS, connection));
        }
        if let Some(check) = self.checks.get_mut(&request) {
            check.running -= 1;
            check.reached |= u8::from(is_established) << place;
        }
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        let lags = self.asked.values().filter_map(|asked| asked.answer.map(|(_, until)| until));
        let standing = self.standing.iter().map(|(until, _)| *until);
        self.checks.values().map(|check| check.until).chain(lags).chain(standing).min()
    }
}

/// One call, from a port that has sent nothing to anybody: a NAT must not take it for an answer.
#[expect(clippy::disallowed_methods, reason = "the port that dials keep has been spoken from")]
fn call(peer: PeerId, address: &Address) -> DialOpts {
    let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![ids::multiaddr_of(address)]);
    opts.allocate_new_port().build()
}

impl Driver {
    /// Asks the node at the other end of a connection to call us back.
    pub(super) fn check(&mut self, id: JobId, conn: ConnId, addresses: Vec<Address>) {
        let peer = self.conns.get(conn).map(|conn| conn.peer);
        // The answer counts those that were asked about.
        let asked = addresses.into_iter().filter(|address| may_be_called(address.port)).take(MAX_PORTS);
        let addresses: Vec<Address> = asked.collect();
        let ask = Ask::new(addresses.iter().map(|address| (address.transport, address.port)));
        let (Some(peer), Some(ask)) = (peer, ask) else {
            return self.out.push(NetEvent::Checked { id, verdict: Verdict::Unknown });
        };
        let request = self.swarm.behaviour_mut().reach.send_request(&peer, ask);
        let asked = Asked { id, peer, addresses, heard: BTreeSet::new(), answer: None };
        self.reach.asked.insert(request, asked);
    }

    /// Calls a node over TCP as well.
    pub(super) fn see_over_tcp(&mut self, conn: ConnId) {
        let Some(peer) = self.conns.get(conn).map(|conn| conn.peer) else { return };
        let Some(address) = self.reach.tcp.get(&peer) else { return };
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always);
        let opts = opts.addresses(vec![ids::multiaddr_of(address)]).build();
        self.reach.sights.insert(opts.connection_id());
        self.attempt(opts);
    }

    pub(super) fn on_reach(&mut self, event: Event) {
        match event {
            Event::Message { peer, connection_id, message: Message::Request { request_id, request, channel } } => {
                self.call_back(peer, connection_id, request_id, &request, channel);
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(asked) = self.reach.asked.get_mut(&request_id) {
                    asked.answer = Some((response, Instant::now() + CALL_LAGS));
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some(asked) = self.reach.asked.remove(&request_id) {
                    tracing::debug!(%error, "a node does not call back");
                    self.out.push(NetEvent::Checked { id: asked.id, verdict: Verdict::Unknown });
                }
            }
            Event::InboundFailure { request_id, .. } => {
                self.reach.checks.remove(&request_id);
                self.give_up_calls(request_id);
            }
            Event::ResponseSent { .. } => {}
        }
        self.settle_reach(Instant::now());
    }

    /// Calls whoever asks, and nobody else: at the address at which it has come in.
    fn call_back(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        request: InboundRequestId,
        ask: &Ask,
        channel: ResponseChannel<Answer>,
    ) {
        let now = Instant::now();
        let direct = self.conns.of_swarm(connection).filter(|conn| !conn.relayed && !conn.endpoint.is_dialer());
        let Some(ip) = direct.map(|conn| conn.address.ip.to_canonical()) else { return };
        let subscriber = Subscriber::of(ip);
        let running = self.reach.checks.values().filter(|check| Subscriber::of(check.ip) == subscriber).count();
        let has_room = running < MAX_RUNNING_PER_SUBSCRIBER && self.reach.calls.len() + MAX_PORTS <= MAX_CALLS;
        let admitted = self.reach.rate.as_mut().is_some_and(|rate| rate.admit(subscriber, now));
        if !admitted || !has_room {
            // Without the channel the request fails at the other end.
            self.reach.denied += 1;
            return;
        }
        let check = Check { channel, ip, running: ask.ports().len(), reached: 0, until: now + CALLS_LIMIT };
        let mut dials = Vec::new();
        for (place, (transport, port)) in (0..).zip(ask.ports()) {
            let opts = call(peer, &Address { ip, port: *port, transport: *transport });
            self.reach.calls.insert(opts.connection_id(), (request, place));
            dials.push(opts);
        }
        self.reach.called += dials.len() as u64;
        self.reach.checks.insert(request, check);
        dials.into_iter().for_each(|opts| self.attempt(opts));
    }

    /// Nobody waits for these calls any more: one that gets in all the same is refused.
    fn give_up_calls(&mut self, request: InboundRequestId) {
        for (call, _) in self.reach.calls.iter().filter(|(_, (of, _))| *of == request) {
            self.swarm.behaviour_mut().guard.give_up(*call);
        }
    }

    /// A connection stands.
    pub(super) fn reach_connected(&mut self, peer: PeerId, connection: ConnectionId, came_in: Option<Transport>) {
        match came_in {
            Some(transport) => self.reach.came_in(peer, transport),
            None => self.reach.call_ended(connection, true),
        }
        if self.reach.sights.remove(&connection) {
            self.swarm.behaviour_mut().streams.hold(peer, connection, true);
        }
        self.settle_reach(Instant::now());
    }

    /// A dial has failed.
    pub(super) fn reach_failed(&mut self, connection: ConnectionId) {
        self.reach.call_ended(connection, false);
        self.reach.sights.remove(&connection);
        self.settle_reach(Instant::now());
    }

    /// Answers what can be answered, and what has waited long enough.
    pub(super) fn settle_reach(&mut self, now: Instant) {
        let is_over = |check: &Check| check.running == 0 || check.until <= now;
        let over: Vec<_> = self.reach.checks.extract_if(.., |_, check| is_over(check)).collect();
        for (request, check) in over {
            let answer = Answer { ip: check.ip, reached: check.reached };
            // Whoever has left wants none.
            let _ = self.swarm.behaviour_mut().reach.send_response(check.channel, answer);
            self.give_up_calls(request);
        }
        for (_, connection) in self.reach.standing.extract_if(.., |(until, _)| *until <= now) {
            self.swarm.close_connection(connection);
        }
        let is_told =
            |asked: &Asked| asked.answer.is_some_and(|(answer, until)| until <= now || asked.has_heard_all(answer));
        for (_, asked) in self.reach.asked.extract_if(.., |_, asked| is_told(asked)) {
            if let Some((answer, _)) = asked.answer {
                self.out.push(NetEvent::Checked { id: asked.id, verdict: asked.verdict(answer) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(ports: &[(Transport, u16)]) -> Asked {
        let address = |(transport, port): &(Transport, u16)| Address {
            ip: [5, 1, 2, 3].into(),
            port: *port,
            transport: *transport,
        };
        let addresses = ports.iter().map(address).collect();
        Asked { id: JobId(1), peer: PeerId::random(), addresses, heard: BTreeSet::new(), answer: None }
    }

    #[test]
    fn a_node_is_believed_where_it_has_come_in_and_where_it_has_called() {
        let mut asked = asked(&[(Transport::Quic, 1), (Transport::Tcp, 2)]);
        let [quic, tcp] = [asked.addresses[0], asked.addresses[1]];
        let answer = |ip: [u8; 4], reached| Answer { ip: ip.into(), reached };
        let all = answer([5, 1, 2, 3], 0b11);
        assert!(!asked.has_heard_all(all));
        assert_eq!(asked.verdict(all), Verdict::Called { reached: vec![], missed: vec![quic, tcp] });
        asked.heard.insert(Transport::Quic);
        assert_eq!(asked.verdict(all), Verdict::Called { reached: vec![quic], missed: vec![tcp] });
        assert!(asked.has_heard_all(answer([5, 1, 2, 3], 0b01)));
        let elsewhere = answer([5, 1, 2, 4], 0b11);
        assert_eq!(asked.verdict(elsewhere), Verdict::Called { reached: vec![], missed: vec![] });
    }
}
