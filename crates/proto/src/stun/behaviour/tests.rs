//! NATs, servers that are silent or lie, and losses, in virtual time.

use std::collections::BTreeMap;

use super::super::service::{Place, Service, Side};
use super::*;
use crate::secret::Secret;

const ROUND_TRIP: Duration = Duration::from_millis(50);

/// A NAT or a firewall, by its behaviour.
#[derive(Clone, Copy)]
struct Nat {
    mapping: Mapping,
    filtering: Filtering,
    hairpin: bool,
    /// Public addresses, of which each mapping gets the next.
    pool: u8,
}

/// A server that may lie.
struct Server {
    service: Service,
    /// Where it is asked.
    at: SocketAddr,
    silent: bool,
    /// What it says instead of the truth.
    lie: Option<SocketAddr>,
    /// It answers from where it was asked, whatever was asked for.
    ignores_change: bool,
    /// Nothing comes from or gets to its other address.
    other_is_dead: bool,
    /// The first so many sends of each request to it are lost.
    loses: usize,
}

/// One socket behind a NAT, servers on the other side, and one pause after another.
struct World {
    nat: Nat,
    servers: Vec<Server>,
    own: SocketAddr,
    /// The public address for each class of destinations.
    mappings: BTreeMap<Option<(IpAddr, u16)>, SocketAddr>,
    sent_to: Vec<SocketAddr>,
    /// Datagrams that arrive at the socket, by their time.
    arriving: Vec<(Time, SocketAddr, Vec<u8>)>,
    now: Time,
    /// The first so many sends of each request are lost.
    lossy: usize,
    sends: Vec<(SocketAddr, Vec<u8>)>,
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn server(n: u8) -> Server {
    let at = SocketAddr::from(([5, 1, n, 2], 3478));
    let (silent, ignores_change, other_is_dead) = (false, false, false);
    Server { service: Service::One, at, silent, lie: None, ignores_change, other_is_dead, loses: 0 }
}

/// One with the addresses 5.1.n.2 and 5.1.n.3.
fn helper(n: u8) -> Server {
    let ips = [IpAddr::from([5, 1, n, 2]), IpAddr::from([5, 1, n, 3])];
    Server { service: Service::Two { ips, ports: [3478, 3479] }, ..server(n) }
}

impl World {
    fn of(nat: Nat, servers: Vec<Server>) -> World {
        let own = if nat.mapping == Mapping::None { at("5.9.9.9:5000") } else { at("192.168.1.5:5000") };
        World {
            nat,
            servers,
            own,
            mappings: BTreeMap::new(),
            sent_to: Vec::new(),
            arriving: Vec::new(),
            now: Time::ZERO,
            lossy: 0,
            sends: Vec::new(),
        }
    }

    fn run(&mut self) -> Behaviour {
        let servers: Vec<SocketAddr> = self.servers.iter().map(|server| server.at).collect();
        let mut discovery = Discovery::new(&servers, &[self.own], Rng::from_seed(Secret::new([7; 32])), self.now);
        for _ in 0..1_000 {
            while let Some(transmit) = discovery.poll_transmit() {
                self.send(transmit);
            }
            if let Some(behaviour) = discovery.result() {
                assert!(self.now <= Time::ZERO + Duration::from_secs(8), "{:?}", self.now);
                return behaviour;
            }
            let arrives = self.arriving.iter().map(|(time, ..)| *time).min();
            let due = discovery.poll_timeout().expect("something is due");
            self.now = arrives.map_or(due, |arrives| arrives.min(due));
            match self.arriving.iter().position(|(time, ..)| *time <= self.now) {
                Some(index) => {
                    let (_, from, bytes) = self.arriving.remove(index);
                    discovery.handle_datagram(from, &bytes, self.now);
                }
                None => discovery.handle_timeout(self.now),
            }
        }
        panic!("it never ends");
    }

    fn send(&mut self, transmit: Transmit) {
        let Transmit { to, bytes } = transmit;
        let before = self.sends.iter().filter(|(_, sent)| *sent == bytes).count();
        self.sends.push((to, bytes.clone()));
        let mapped = self.mapped(to);
        self.sent_to.push(to);
        if before < self.lossy {
            return;
        }
        if self.mappings.values().any(|mapping| *mapping == to) {
            if self.nat.hairpin {
                self.arriving.push((self.now + ROUND_TRIP, mapped, bytes));
            }
            return;
        }
        for server in self.servers.iter().filter(|server| !server.silent && before >= server.loses) {
            let here = match server.service {
                Service::One => (server.at == to).then_some(Place::PRIMARY),
                Service::Two { .. } => Place::ALL.into_iter().find(|place| server.service.at(*place) == Some(to)),
            };
            let mut asked = bytes.clone();
            if let (true, Ok(Message::Request(request))) = (server.ignores_change, Message::parse(&bytes)) {
                asked = Request::new(request.id).to_bytes();
            }
            let Some(answer) = here.and_then(|here| server.service.answer(here, server.lie.unwrap_or(mapped), &asked))
            else {
                continue;
            };
            let is_elsewhere = |place: Place| place.ip == Side::Other;
            if server.other_is_dead && (is_elsewhere(answer.from) || here.is_some_and(is_elsewhere)) {
                continue;
            }
            let from = server.service.at(answer.from).unwrap_or(server.at);
            let lets_in = match self.nat.filtering {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => self.sent_to.iter().any(|sent| sent.ip() == from.ip()),
                Filtering::AddressAndPortDependent => self.sent_to.contains(&from),
            };
            // What is not let in by this mapping is not let in by another one.
            if lets_in {
                self.arriving.push((self.now + ROUND_TRIP, from, answer.bytes));
            }
        }
    }

    fn mapped(&mut self, to: SocketAddr) -> SocketAddr {
        let class = match self.nat.mapping {
            Mapping::None => return self.own,
            Mapping::EndpointIndependent => None,
            Mapping::AddressDependent => Some((to.ip(), 0)),
            Mapping::AddressAndPortDependent => Some((to.ip(), to.port())),
        };
        let made = u16::try_from(self.mappings.len()).expect("few");
        let last = 9 + u8::try_from(made).expect("few") % self.nat.pool;
        *self.mappings.entry(class).or_insert_with(|| SocketAddr::from(([5, 9, 9, last], 20_000 + made * 7)))
    }
}

const MAPPINGS: [Mapping; 4] =
    [Mapping::None, Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
const CONE: Nat = Nat {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::AddressAndPortDependent,
    hairpin: false,
    pool: 1,
};

fn every_nat() -> impl Iterator<Item = Nat> {
    MAPPINGS.into_iter().flat_map(|mapping| {
        FILTERINGS.into_iter().flat_map(move |filtering| {
            [false, true].into_iter().map(move |hairpin| Nat { mapping, filtering, hairpin, pool: 1 })
        })
    })
}

#[test]
fn c20_with_a_server_that_has_two_addresses_every_nat_is_named() {
    for nat in every_nat() {
        for lossy in [0, 3] {
            let mut world = World::of(nat, vec![server(1), helper(2)]);
            world.lossy = lossy;
            let found = world.run();
            assert_eq!((found.mapping, found.filtering), (Some(nat.mapping), Some(nat.filtering)), "{lossy}");
            let hairpin = (nat.mapping != Mapping::None).then_some(nat.hairpin);
            assert_eq!((found.hairpin, found.contradiction, found.answered), (hairpin, false, 2));
            assert!(found.public.iter().all(|public| public.ip() == IpAddr::from([5, 9, 9, 9])));
        }
    }
}

#[test]
fn c20_with_two_ordinary_servers_the_mapping_is_known_and_nothing_is_said_of_the_filtering() {
    for nat in every_nat() {
        let found = World::of(nat, vec![server(1), server(2)]).run();
        let depends = nat.mapping == Mapping::AddressDependent;
        let mapping = if depends { Mapping::AddressAndPortDependent } else { nat.mapping };
        assert_eq!((found.mapping, found.filtering), (Some(mapping), None));
    }
}

#[test]
fn b37_servers_that_are_silent_are_done_without_and_one_alone_says_where_we_are() {
    let silent = |n| Server { silent: true, ..server(n) };
    let found = World::of(CONE, vec![silent(1), server(2), server(3)]).run();
    assert_eq!((found.mapping, found.answered), (Some(Mapping::EndpointIndependent), 2));
    let found = World::of(CONE, vec![silent(1), server(2)]).run();
    assert_eq!((found.mapping, found.public.len(), found.answered), (None, 1, 1));
    let nothing = Behaviour::default();
    assert_eq!(World::of(CONE, vec![silent(1), silent(2)]).run(), nothing);
    assert_eq!(World::of(CONE, Vec::new()).run(), nothing);
}

#[test]
fn b37_a_server_that_lies_is_noticed_and_nothing_is_concluded() {
    for lie in ["5.66.66.66:20000", "5.9.9.9:666"] {
        let lie = Some(at(lie));
        // Together with a server that can prove that the mapping is one for all, about the port as well.
        for (servers, notices_port) in [
            (vec![Server { lie, ..server(1) }, helper(2)], true),
            (vec![server(1), Server { lie, ..server(3) }], false),
        ] {
            let found = World::of(CONE, servers).run();
            let port_only = lie.is_some_and(|lie| lie.ip() == IpAddr::from([5, 9, 9, 9]));
            if notices_port || !port_only {
                assert_eq!((found.contradiction, found.mapping), (true, None), "{lie:?}");
                assert_eq!((found.filtering, found.hairpin), (None, None), "{lie:?}");
            } else {
                // That looks like a NAT that maps by destination, the worst there is: nobody is led anywhere.
                assert_eq!(found.mapping, Some(Mapping::AddressAndPortDependent));
            }
        }
    }
    // Of three, what two agree on comes first.
    let liar = Server { lie: Some(at("5.66.66.66:1")), ..server(1) };
    let found = World::of(CONE, vec![liar, server(2), server(3)]).run();
    assert_eq!((found.contradiction, found.public[0]), (true, at("5.9.9.9:20000")));
}

#[test]
fn c20_a_lost_packet_to_one_server_is_sent_again_in_the_time_of_the_others() {
    for loses in 1..=3 {
        let found = World::of(CONE, vec![server(1), Server { loses, ..server(2) }]).run();
        assert_eq!((found.mapping, found.answered), (Some(Mapping::EndpointIndependent), 2), "{loses} lost");
    }
    let found = World::of(CONE, vec![server(1), Server { loses: 3, ..helper(2) }]).run();
    assert_eq!(found.filtering, Some(Filtering::AddressAndPortDependent));
}

#[test]
fn a_server_in_our_own_network_sees_no_nat_and_is_not_counted() {
    // It sees us where we are; or says so.
    for private in ["192.168.1.5:5000", "127.0.0.1:5000", "100.64.0.1:5000", "[::1]:5000", "5.9.9.9:0"] {
        let at_home = Server { lie: Some(at(private)), ..server(1) };
        let found = World::of(CONE, vec![at_home]).run();
        assert_eq!(found, Behaviour::default(), "{private}");
        let at_home = Server { lie: Some(at(private)), ..helper(1) };
        let found = World::of(CONE, vec![at_home, server(2), server(3)]).run();
        assert_eq!((found.mapping, found.answered), (Some(Mapping::EndpointIndependent), 2), "{private}");
    }
}

#[test]
fn a_helper_that_does_not_help_shows_no_filtering() {
    let open = Nat { mapping: Mapping::None, filtering: Filtering::EndpointIndependent, ..CONE };
    let unhelpful = [Server { ignores_change: true, ..helper(2) }, Server { other_is_dead: true, ..helper(2) }];
    for helper in unhelpful {
        let found = World::of(open, vec![server(1), helper]).run();
        assert_eq!((found.mapping, found.filtering), (Some(Mapping::None), None));
    }
    // It says that it has another address, and that it cannot answer from there.
    let mut discovery = discovery_of(&[at("5.1.2.2:3478")]);
    let mut refused = 0;
    for _ in 0..20 {
        while let Some(Transmit { to, bytes }) = discovery.poll_transmit() {
            let Ok(Message::Request(Request { id, change, .. })) = Message::parse(&bytes) else { panic!("a request") };
            let seen = Seen { id, mapped: at("5.9.9.9:5000"), origin: None, other: Some(at("5.1.2.3:3479")) };
            let answer = match change == Change::default() {
                true => Response::Success(seen),
                false => Response::Failure { id, code: 420, unknown: vec![3] },
            };
            refused += usize::from(change != Change::default());
            discovery.handle_datagram(to, &answer.to_bytes(), Time::ZERO);
        }
        if let Some(found) = discovery.result() {
            assert_eq!((found.filtering, refused), (None, 2));
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn t11_a_server_cannot_make_us_send_to_an_address_that_is_not_on_the_internet() {
    for other in ["127.0.0.1:9", "192.168.1.1:53", "169.254.169.254:80", "5.1.2.3:0", "224.0.0.1:9", "10.0.0.1:9"] {
        for mapped in ["127.0.0.1:9", "192.168.1.1:53", "169.254.169.254:80", "5.1.2.2:3478", "5.9.9.9:5000"] {
            let mut discovery = discovery_of(&[at("5.1.2.2:3478")]);
            let mut sent = Vec::new();
            for n in 0..100 {
                while let Some(Transmit { to, bytes }) = discovery.poll_transmit() {
                    sent.push(to);
                    let Ok(Message::Request(Request { id, .. })) = Message::parse(&bytes) else { panic!("a request") };
                    let seen = Seen { id, mapped: at(mapped), origin: None, other: Some(at(other)) };
                    discovery.handle_datagram(to, &Response::Success(seen).to_bytes(), Time::ZERO);
                }
                discovery.handle_timeout(Time::at(Duration::from_millis(100 * n)));
            }
            assert!(discovery.result().is_some());
            assert!(sent.iter().all(|to| [at("5.1.2.2:3478"), at("5.9.9.9:5000")].contains(to)), "{sent:?}");
        }
    }
}

#[test]
fn a_nat_with_several_public_addresses_is_told_by_the_contradiction() {
    let nat = Nat { mapping: Mapping::AddressAndPortDependent, pool: 3, ..CONE };
    let found = World::of(nat, vec![server(1), helper(2)]).run();
    assert_eq!((found.mapping, found.contradiction), (None, true));
}

#[test]
fn a_helper_whose_other_address_is_asked_anyway_or_is_none_shows_no_filtering() {
    // Its second address is a server of the list: packets were sent there before.
    let second = Server { at: at("5.1.2.3:3478"), ..server(9) };
    let found = World::of(CONE, vec![helper(2), second]).run();
    assert_eq!(found.filtering, None);
    for ips in [["5.1.2.2", "5.1.2.2"], ["5.1.2.2", "::1"]] {
        let ips = ips.map(|ip| ip.parse().expect("an address"));
        let odd = Server { service: Service::Two { ips, ports: [3478, 3479] }, ..server(2) };
        assert_eq!(World::of(CONE, vec![odd, server(1)]).run().filtering, None);
    }
}

fn discovery_of(servers: &[SocketAddr]) -> Discovery {
    Discovery::new(servers, &[at("192.168.1.5:5000")], Rng::from_seed(Secret::new([7; 32])), Time::ZERO)
}

#[test]
fn an_answer_that_nobody_asked_for_or_from_elsewhere_is_not_taken() {
    let mut world = World::of(CONE, vec![server(1), server(2)]);
    let mut discovery = Discovery::new(
        &[world.servers[0].at, world.servers[1].at],
        &[world.own],
        Rng::from_seed(Secret::new([7; 32])),
        Time::ZERO,
    );
    let request = discovery.poll_transmit().expect("a request");
    let answer = Service::One.answer(Place::PRIMARY, at("5.66.66.66:1"), &request.bytes).expect("an answer");
    discovery.handle_datagram(at("5.1.1.2:3479"), &answer.bytes, Time::ZERO);
    discovery.handle_datagram(at("5.1.2.2:3478"), &answer.bytes, Time::ZERO);
    let mut other = answer.bytes;
    let guess = TransactionId([9; 12]);
    other.splice(8..20, guess.0);
    discovery.handle_datagram(request.to, &other[..32], Time::ZERO);
    discovery.handle_datagram(request.to, b"rubbish", Time::ZERO);
    assert_eq!(discovery.open.len(), 2);
    assert!(discovery.first.iter().all(Option::is_none));
    // And the same server twice in the list is one.
    world.servers[1].at = world.servers[0].at;
    assert_eq!(world.run().answered, 1);
    // One request to the server, and a few to ourselves that no NAT brings back.
    assert_eq!(world.sends.iter().filter(|(to, _)| *to == world.servers[0].at).count(), 1);
}
