//! What the NAT in front of one socket does, in the terms of RFC 4787: asked of STUN servers as RFC 5780 describes.
//!
//! Any two servers show whether the mapping depends on whom we talk to. Who is let in can only be seen with a server
//! that has two addresses, and before anything was sent to its second one. A server can lie, so what one of them says
//! about the mapping must agree with all others, or nothing is said.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Change, Message, Request, Response, Seen, TransactionId};
use crate::addr::{Class, classify};
use crate::secret::Rng;
use crate::time::Time;

/// Servers that are asked: two find out, the others are there for those that are silent or lie.
pub const MAX_SERVERS: usize = 4;

/// Each request is sent so often: where one packet in ten is lost each way, one request in a thousand stays unanswered.
const SENDS: u32 = 4;

/// The pause between two sends, as long as no answer has shown the way's round trip.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Afterwards it is two round trips, within these bounds.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The last send is waited for so many pauses: a round trip, and as much for an answer that is late.
const LAST_PAUSES: u32 = 2;

/// How a NAT chooses the public port (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// There is no NAT: others see the address of our interface.
    None,
    /// The same for everybody.
    EndpointIndependent,
    /// Another one for each address.
    AddressDependent,
    /// Another one for each address and port. Also said where it depends on whom we talk to and no server could tell
    /// on what: for a connection through it the two are the same.
    AddressAndPortDependent,
}

impl Mapping {
    /// The name used in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Mapping::None => "none",
            Mapping::EndpointIndependent => "endpoint_independent",
            Mapping::AddressDependent => "address_dependent",
            Mapping::AddressAndPortDependent => "address_and_port_dependent",
        }
    }
}

/// Whom a NAT or firewall lets in (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// The addresses that we have sent something to.
    AddressDependent,
    /// The addresses and ports that we have sent something to.
    AddressAndPortDependent,
}

impl Filtering {
    /// The name used in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Filtering::EndpointIndependent => "endpoint_independent",
            Filtering::AddressDependent => "address_dependent",
            Filtering::AddressAndPortDependent => "address_and_port_dependent",
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// How the public port is chosen, if that is known.
    pub mapping: Option<Mapping>,
    /// Who is let in, if that is known.
    pub filtering: Option<Filtering>,
    /// Whether two inside hosts meet by public address, if that is known.
    pub hairpin: Option<bool>,
    /// Where servers saw us, those that most of them agree on first.
    pub public: Vec<SocketAddr>,
    /// Servers contradict each other: one of them lies, or the NAT has several addresses and takes any.
    pub contradiction: bool,
    /// Servers that answered with an address on the internet, of those that were asked.
    pub answered: usize,
}

/// A datagram to send from the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddr,
    /// What it is.
    pub bytes: Vec<u8>,
}

/// Finds out what is in front of one socket. Its owner sends what it wants sent, hands it what arrives, and asks again at
/// the time that it names.
pub struct Discovery {
    own: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
    rng: Rng,
    open: Vec<Open>,
    sends: VecDeque<Transmit>,
    stage: Stage,
    pause: Duration,
    /// The pause is that of an answer.
    measured: bool,
    /// What each server said at first, in their order.
    first: Vec<Option<Seen>>,
    helper: Option<Helper>,
    admitted: [bool; 2],
    /// The helper will not answer from elsewhere.
    unwilling: bool,
    elsewhere: [Option<SocketAddr>; 2],
    hairpin: Option<bool>,
}

/// A server with two addresses.
#[derive(Clone, Copy)]
struct Helper {
    server: SocketAddr,
    other: SocketAddr,
    mapped: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Each server is asked where it sees us.
    First,
    /// The helper answers from elsewhere. Nothing may have been sent there before.
    Filtering,
    /// The helper is asked elsewhere, and we call ourselves.
    Mapping,
    Done,
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    First(usize),
    /// The answer comes from another address and port, or from another port.
    Admitted(usize),
    /// Asked at the other address, at the same port or at the other one.
    Elsewhere(usize),
    Hairpin,
}

/// A request under way.
struct Open {
    test: Test,
    id: TransactionId,
    to: SocketAddr,
    /// Where its answer comes from.
    from: SocketAddr,
    bytes: Vec<u8>,
    since: Time,
    sent: u32,
    next: Time,
}

impl Discovery {
    /// Asks up to [`MAX_SERVERS`] of `servers`, all of the socket's family. `own`: the addresses at which the socket can
    /// be reached without a NAT, which are those of the interfaces with its port.
    pub fn new(servers: &[SocketAddr], own: &[SocketAddr], rng: Rng, now: Time) -> Discovery {
        let mut distinct: Vec<SocketAddr> = Vec::new();
        for server in servers {
            if !distinct.contains(server) && distinct.len() < MAX_SERVERS {
                distinct.push(*server);
            }
        }
        let mut discovery = Discovery {
            own: own.to_vec(),
            first: vec![None; distinct.len()],
            servers: distinct,
            rng,
            open: Vec::new(),
            sends: VecDeque::new(),
            stage: Stage::First,
            pause: PAUSE_FIRST,
            measured: false,
            helper: None,
            admitted: [false; 2],
            unwilling: false,
            elsewhere: [None; 2],
            hairpin: None,
        };
        for (index, server) in discovery.servers.clone().into_iter().enumerate() {
            discovery.ask(Test::First(index), server, server, Change::default(), now);
        }
        discovery.go_on(now);
        discovery
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.sends.pop_front()
    }

    /// When [`Discovery::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.open.iter().map(|open| open.next).min()
    }

    /// What was found out, once everything has been.
    pub fn result(&self) -> Option<Behaviour> {
        (self.stage == Stage::Done).then(|| self.behaviour())
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        for open in self.open.iter_mut().filter(|open| open.next <= now && open.sent < SENDS) {
            self.sends.push_back(Transmit { to: open.to, bytes: open.bytes.clone() });
            open.sent += 1;
            open.next = now + self.pause * if open.sent < SENDS { 1 } else { LAST_PAUSES };
        }
        self.open.retain(|open| open.next > now || open.sent < SENDS);
        self.go_on(now);
    }

    /// A datagram has arrived. What is no answer to an open request, from where it is due, is nobody's.
    pub fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Time) {
        match Message::parse(bytes) {
            Ok(Message::Response(Response::Success(seen))) => {
                self.answered(from, Seen { mapped: canonical(seen.mapped), ..seen }, now);
            }
            Ok(Message::Response(Response::Failure { id, .. })) => {
                // A refusal comes from where the request went, whatever it asked for.
                let Some(at) = self.open.iter().position(|open| open.id == id && open.to == from) else { return };
                self.unwilling |= matches!(self.open.remove(at).test, Test::Admitted(_));
            }
            // Our own request comes back through the NAT.
            Ok(Message::Request(request)) => {
                let ours = |open: &Open| open.test == Test::Hairpin && open.id == request.id;
                if self.open.iter().any(ours) {
                    self.hairpin = Some(true);
                    self.open.retain(|open| !ours(open));
                }
            }
            Err(_) => {}
        }
        self.go_on(now);
    }

    fn answered(&mut self, from: SocketAddr, seen: Seen, now: Time) {
        let from_there = |open: &&Open| open.id == seen.id && (open.from == from || open.to == from);
        let Some(at) = self.open.iter().position(|open| from_there(&open)) else { return };
        let open = self.open.remove(at);
        if open.from != from {
            // It was to answer from elsewhere, and has answered from where it was asked.
            self.unwilling = true;
            return;
        }
        match open.test {
            Test::First(index) => {
                // A server in our own network sees nothing of what is between us and the internet.
                self.first[index] = Some(seen).filter(|seen| is_public(seen.mapped));
                if open.sent == 1 {
                    let pause = (now.since(open.since) * 2).clamp(PAUSE_MIN, PAUSE_FIRST);
                    // The slowest way counts.
                    self.pause = if self.measured { self.pause.max(pause) } else { pause };
                    self.measured = true;
                }
            }
            Test::Admitted(which) => self.admitted[which] = true,
            Test::Elsewhere(which) => self.elsewhere[which] = Some(seen.mapped).filter(|mapped| is_public(*mapped)),
            // Nobody else knows what it was called.
            Test::Hairpin => {}
        }
    }

    fn ask(&mut self, test: Test, to: SocketAddr, from: SocketAddr, change: Change, now: Time) {
        let id = TransactionId(self.rng.bytes());
        let bytes = Request { change, ..Request::new(id) }.to_bytes();
        self.sends.push_back(Transmit { to, bytes: bytes.clone() });
        self.open.push(Open { test, id, to, from, bytes, since: now, sent: 1, next: now + self.pause });
    }

    /// Begins the next stage when nothing of the last one is open.
    fn go_on(&mut self, now: Time) {
        while self.open.is_empty() && self.stage != Stage::Done {
            self.stage = match self.stage {
                Stage::First => {
                    self.helper = self.find_helper();
                    if let Some(Helper { server, other, .. }) = self.helper {
                        self.ask(Test::Admitted(0), server, other, Change { ip: true, port: true }, now);
                        let from = SocketAddr::new(server.ip(), other.port());
                        self.ask(Test::Admitted(1), server, from, Change { ip: false, port: true }, now);
                    }
                    Stage::Filtering
                }
                Stage::Filtering => {
                    if let Some(Helper { server, other, .. }) = self.helper {
                        let same_port = SocketAddr::new(other.ip(), server.port());
                        self.ask(Test::Elsewhere(0), same_port, same_port, Change::default(), now);
                        self.ask(Test::Elsewhere(1), other, other, Change::default(), now);
                    }
                    let is_server = |mapped: SocketAddr| self.servers.iter().any(|server| server.ip() == mapped.ip());
                    let mapped =
                        self.mapped().next().filter(|mapped| !self.own.contains(mapped) && !is_server(*mapped));
                    if let Some(mapped) = mapped.filter(|_| !self.contradiction()) {
                        self.hairpin = Some(false);
                        self.ask(Test::Hairpin, mapped, mapped, Change::default(), now);
                    }
                    Stage::Mapping
                }
                Stage::Mapping | Stage::Done => Stage::Done,
            };
        }
    }

    /// The first server with another address, to which nothing has been sent.
    fn find_helper(&self) -> Option<Helper> {
        let answers = self.servers.iter().zip(&self.first);
        let helpers = answers.filter_map(|(server, seen)| {
            let Seen { mapped, other, .. } = (*seen)?;
            Some(Helper { server: *server, other: other?, mapped })
        });
        let is_one = |Helper { server, other, .. }: &Helper| {
            let is_far = other.ip() != server.ip() && other.port() != server.port() && is_public(*other);
            is_far && other.is_ipv4() == server.is_ipv4() && self.servers.iter().all(|asked| asked.ip() != other.ip())
        };
        helpers.into_iter().find(is_one)
    }

    /// Where the servers saw us, in their order.
    fn mapped(&self) -> impl Iterator<Item = SocketAddr> {
        self.first.iter().flatten().map(|seen| seen.mapped)
    }

    fn behaviour(&self) -> Behaviour {
        let mut public: Vec<(usize, SocketAddr)> = Vec::new();
        for mapped in self.mapped() {
            match public.iter_mut().find(|(_, address)| *address == mapped) {
                Some((count, _)) => *count += 1,
                None => public.push((1, mapped)),
            }
        }
        // A stable sort: of those with as many, the one that was said first.
        public.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        // What they contradict each other about is not known, and neither is what else they say.
        let contradiction = self.contradiction();
        Behaviour {
            mapping: self.mapping().filter(|_| !contradiction),
            filtering: self.filtering().filter(|_| !contradiction),
            hairpin: self.hairpin.filter(|_| !contradiction),
            public: public.into_iter().map(|(_, address)| address).collect(),
            contradiction,
            answered: self.mapped().count(),
        }
    }

    /// What one says must fit what the others say.
    fn contradiction(&self) -> bool {
        let mut ips = self.mapped().chain(self.elsewhere.into_iter().flatten()).map(|mapped| mapped.ip());
        let Some(ip) = ips.next() else { return false };
        let same_for_all = self.helper_mapping() == Some(Mapping::EndpointIndependent);
        let helper = self.helper.map(|helper| helper.mapped);
        ips.any(|other| other != ip) || (same_for_all && self.mapped().any(|mapped| Some(mapped) != helper))
    }

    fn mapping(&self) -> Option<Mapping> {
        let first = self.mapped().next()?;
        if self.mapped().chain(self.elsewhere.into_iter().flatten()).all(|mapped| self.own.contains(&mapped)) {
            return Some(Mapping::None);
        }
        let far_apart = self.first_by_ip() > 1;
        let by_servers = far_apart.then(|| {
            let same = self.mapped().all(|mapped| mapped == first);
            if same { Mapping::EndpointIndependent } else { Mapping::AddressAndPortDependent }
        });
        self.helper_mapping().or(by_servers)
    }

    /// What the helper alone shows.
    fn helper_mapping(&self) -> Option<Mapping> {
        let mapped = self.helper?.mapped;
        let [other_ip, other] = self.elsewhere;
        Some(match (other_ip? == mapped, other? == other_ip?) {
            (true, true) => Mapping::EndpointIndependent,
            (false, true) => Mapping::AddressDependent,
            (_, false) => Mapping::AddressAndPortDependent,
        })
    }

    fn filtering(&self) -> Option<Filtering> {
        // Whom its other address does not reach at all was not kept out by our NAT.
        let answers_there = self.elsewhere.iter().all(Option::is_some);
        self.helper.filter(|_| !self.unwilling && (answers_there || self.admitted[0]))?;
        Some(match self.admitted {
            [true, _] => Filtering::EndpointIndependent,
            [false, true] => Filtering::AddressDependent,
            [false, false] => Filtering::AddressAndPortDependent,
        })
    }

    /// How many different addresses the servers that answered have.
    fn first_by_ip(&self) -> usize {
        let answered = self.servers.iter().zip(&self.first).filter(|(_, seen)| seen.is_some());
        let mut ips: Vec<IpAddr> = answered.map(|(server, _)| server.ip()).collect();
        ips.sort();
        ips.dedup();
        ips.len()
    }
}

/// A server may name our IPv4 address in its IPv6 form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Only what can be an address on the internet is believed, and sent anything to: a server names what it likes.
fn is_public(address: SocketAddr) -> bool {
    address.port() != 0 && classify(address.ip()) == Class::Public
}

#[cfg(test)]
mod tests;
