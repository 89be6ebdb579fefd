//! The machine of the local network: two or more of them on a simulated link, in virtual time, and an attacker on it.

mod link;
mod nearby;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use handfast_proto::addresses::Evidence;
use handfast_proto::lan::io::{
    Addressed, Command, Datagram, Destination, Event as Input, InCall, InCallId, ListenerId,
};
use handfast_proto::lan::{Event, Output, Purpose, Wanted, WindowId};
use handfast_proto::session::Role;
use handfast_proto::time::Time;
use handfast_proto::wire::beacon::{BEACON_LEN, ReceivedBeacon};
use handfast_proto::wire::confirm::{Answer, CONFIRM_LEN, Call, Op, Status};
use handfast_proto::wire::info::DeviceName;

use link::{Device, Link, WINDOW, ipv4, keys, purpose, two};

/// A9, A10, A31, A37: either may be first, and both learn where the other is and how they are seen.
#[test]
fn two_holders_of_a_code_hear_each_other_at_once_whoever_is_first() {
    for first in [0, 1] {
        let mut link = two();
        let roles = [Role::Initiator, Role::Joiner];
        link.open(first, purpose(roles[first], 1));
        link.run(Duration::from_secs(3));
        link.open(1 - first, purpose(roles[1 - first], 1));
        link.run(Duration::from_millis(20));
        for n in [0, 1] {
            let Some(Event::Heard { addresses, .. }) =
                link.devices[n].events.iter().find(|e| matches!(e, Event::Heard { .. }))
            else {
                panic!("device {n} heard nobody");
            };
            let other = 2 - u16::try_from(n).expect("two devices");
            let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let (quic, tcp) = (5000 + other, 4000 + other);
            assert_eq!(
                text,
                [format!("/ip4/192.168.1.{other}/udp/{quic}/quic-v1"), format!("/ip4/192.168.1.{other}/tcp/{tcp}")]
            );
        }
        link.run(Duration::from_secs(2));
        for device in &link.devices {
            assert_eq!(device.evidence(), Some(Evidence::PeerConfirmed));
            assert!(device.events.contains(&Event::SeenAs { ip: device.ip }));
        }
    }
}

/// A33, A37: multicast passes in one direction only.
#[test]
fn one_way_multicast_is_mended_by_a_call_or_an_answer() {
    for deaf in [0, 1] {
        let mut link = two();
        link.devices[deaf].hears_group = false;
        link.open(0, purpose(Role::Initiator, 1));
        link.open(1, purpose(Role::Joiner, 1));
        link.run(Duration::from_millis(400));
        assert!(link.devices[1].heard() > 0, "the joiner, deaf {deaf}");
    }
}

/// C3: no multicast at all: every host of the small network is asked, at 200 a second, and nobody outside it.
#[test]
fn without_multicast_a_joiner_asks_the_hosts_of_its_own_network_one_by_one() {
    let mut link = two();
    for device in &mut link.devices {
        (device.hears_group, device.sends_group) = (false, false);
    }
    link.open(0, purpose(Role::Initiator, 1));
    link.open(1, purpose(Role::Joiner, 1));
    link.run(Duration::from_secs(2));
    assert!(link.devices[1].heard() > 0 && link.devices[0].heard() > 0);
    let swept: Vec<IpAddr> = link.devices[1]
        .sent
        .iter()
        .filter_map(|t| match t.to {
            Destination::Unicast(ip) => Some(ip),
            Destination::Group | Destination::Broadcast(_) => None,
        })
        .collect();
    assert!(swept.len() <= 300, "{}", swept.len());
    for ip in swept {
        assert!(matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == [192, 168, 1]), "{ip}");
    }
}

/// A12: a firewall at the initiator drops what it did not ask for. It tells its neighbours of itself, which lets the
/// joiner's answer in, and so learns where to connect to.
#[test]
fn an_initiator_behind_a_firewall_learns_of_a_joiner_that_its_neighbour_table_knows() {
    let mut link = two();
    link.devices[0].firewall = true;
    link.devices[0].neighbours = vec![(2, ipv4(2))];
    link.open(0, purpose(Role::Initiator, 1));
    link.open(1, purpose(Role::Joiner, 1));
    link.run(Duration::from_secs(3));
    assert!(link.devices[0].heard() > 0);
    assert_ne!(link.devices[0].evidence(), Some(Evidence::PeerConfirmed), "nobody got in");
}

/// A12: and at the joiner, who asks first, so that the answer is let in.
#[test]
fn a_joiner_behind_a_firewall_is_answered_at_its_own_address() {
    let mut link = two();
    link.devices[1].firewall = true;
    link.open(0, purpose(Role::Initiator, 1));
    link.open(1, purpose(Role::Joiner, 1));
    link.run(Duration::from_secs(3));
    assert!(link.devices[1].heard() > 0);
}

/// A2, A39, attack 23: wrong code, wrong role, another host's beacon sent again, off-link, routed, cut and long ones.
#[test]
fn attack_23_a_beacon_that_is_not_a_fresh_one_of_a_code_holder_on_this_link_changes_nothing() {
    let mut link = Link::new(vec![Device::new(1), Device::new(2), Device::new(3)]);
    link.open(0, purpose(Role::Initiator, 1));
    link.open(2, purpose(Role::Joiner, 9));
    link.run(Duration::from_secs(2));
    let sent_before = link.devices[0].sent.len();
    assert_eq!(link.devices[0].heard(), 0, "another code");
    // The right beacon, of a joiner that is not on the link itself.
    let mut away = Link::new(vec![Device::new(2)]);
    away.open(0, purpose(Role::Joiner, 1));
    away.run(Duration::from_millis(20));
    let good = away.devices[0].sent[0].bytes;
    let now = link.now;
    let deliver = |link: &mut Link, source: &str, hop_limit, bytes: &[u8]| {
        let source = SocketAddr::new(source.parse().expect("an address"), 18502);
        let datagram = Datagram { interface: 2, source, addressed: Addressed::Group, hop_limit, bytes: bytes.to_vec() };
        link.devices[0].lan.handle_event(Input::Received(datagram), now);
        link.drain();
    };
    deliver(&mut link, "192.168.1.3", 255, &good);
    deliver(&mut link, "10.0.0.2", 255, &good);
    deliver(&mut link, "192.168.1.2", 254, &good);
    deliver(&mut link, "192.168.1.2", 255, &good[..BEACON_LEN - 1]);
    let mut long = good.to_vec();
    long.push(0);
    deliver(&mut link, "192.168.1.2", 255, &long);
    let own = link.devices[0].sent[0].bytes;
    deliver(&mut link, "192.168.1.1", 255, &own);
    assert_eq!((link.devices[0].heard(), link.devices[0].sent.len()), (0, sent_before));
    deliver(&mut link, "192.168.1.2", 255, &good);
    assert_eq!(link.devices[0].heard(), 1, "and the real one is taken");
}

/// Attack 24, 25: however many beacons come in, an interface sends ten a second, and only to the group and to whoever
/// proved the code.
#[test]
fn attack_24_25_a_flood_of_beacons_neither_multiplies_nor_reaches_third_hosts() {
    let mut link = Link::new(vec![Device::new(1)]);
    link.open(0, purpose(Role::Initiator, 1));
    let mut away = Link::new(vec![Device::new(2)]);
    away.open(0, purpose(Role::Joiner, 1));
    away.run(Duration::from_secs(60));
    let beacons: Vec<[u8; BEACON_LEN]> = away.devices[0].sent.iter().map(|t| t.bytes).collect();
    let start = link.now;
    for second in 0..10 {
        for n in 0..1_000 {
            link.deliver(0, ipv4(2).into(), Addressed::Group, &beacons[n % beacons.len()]);
        }
        link.drain();
        link.run(Duration::from_secs(1));
        let seconds = usize::try_from(link.now.since(start).as_secs()).expect("few");
        assert!(link.devices[0].sent.len() <= 10 * (seconds + 1), "second {second}: {}", link.devices[0].sent.len());
    }
    for transmit in &link.devices[0].sent {
        let allowed = match transmit.to {
            Destination::Group => true,
            Destination::Unicast(ip) => ip == IpAddr::from(ipv4(2)),
            Destination::Broadcast(_) => false,
        };
        assert!(allowed, "{:?}", transmit.to);
    }
    assert_eq!(link.devices[0].heard(), 1);
    assert!(link.devices[0].calls_made <= 3, "{}", link.devices[0].calls_made);
}

/// C6, A36: no two windows of a device share an id, and no two beacons of a window their nonce or MAC.
#[test]
fn c6_beacons_of_two_codes_share_no_bytes_that_could_link_them() {
    let sent = |code| {
        let mut link = Link::new(vec![Device::new(1)]);
        link.devices[0].lan.set_window(WindowId(99), Wanted::Open(purpose(Role::Initiator, 50)), Time::default());
        link.drain();
        link.devices[0].lan.set_window(WindowId(99), Wanted::Closed, Time::default());
        link.drain();
        link.devices[0].sent.clear();
        link.open(0, purpose(Role::Initiator, code));
        link.run(Duration::from_secs(5));
        link.devices[0].sent.iter().map(|t| t.bytes).collect::<Vec<_>>()
    };
    let (one, two) = (sent(1), sent(2));
    let nonces: std::collections::BTreeSet<&[u8]> = one.iter().map(|b| &b[24..40]).collect();
    assert_eq!(nonces.len(), one.len());
    let nid = |bytes: &[u8; BEACON_LEN]| ReceivedBeacon::parse(bytes).expect("a beacon").beacon().nid;
    assert!(one.iter().all(|b| nid(b) == nid(&one[0])));
    assert!(!two.iter().any(|b| b[96..] == one[0][96..]));
}

/// A window that is called, and the bytes of a call to it.
struct Called {
    link: Link,
    listener: ListenerId,
    to: handfast_proto::wire::beacon::Nid,
}

impl Called {
    fn new(purpose: Purpose) -> Called {
        let mut link = Link::new(vec![Device::new(1)]);
        link.open(0, purpose);
        link.run(Duration::from_millis(50));
        let to = ReceivedBeacon::parse(&link.devices[0].sent[0].bytes).expect("a beacon").beacon().nid;
        let listener = link.devices[0].listeners[0];
        Called { link, listener, to }
    }

    fn message(&self, op: Op) -> Call {
        Call {
            op,
            from: handfast_proto::wire::beacon::Nid([9; 16]),
            to: self.to,
            dialled: ipv4(1).into(),
            address: ipv4(2).into(),
            ports: handfast_proto::wire::beacon::Ports { tcp: 7, quic: 8, confirm: 9000 },
            spki: [5; 32],
            code: [6; 32],
        }
    }

    /// The answer, if there is one.
    fn call(&mut self, bytes: [u8; CONFIRM_LEN], remote: &str) -> Option<[u8; CONFIRM_LEN]> {
        let call = InCall {
            listener: self.listener,
            local: SocketAddr::new(ipv4(1).into(), 20_000),
            remote: SocketAddr::new(remote.parse().expect("an address"), 40_000),
            request: Box::new(bytes),
        };
        let now = self.link.now;
        self.link.devices[0].lan.handle_event(Input::Called(InCallId(0), call), now);
        let mut reply = None;
        while let Some(output) = self.link.devices[0].lan.poll_output() {
            match output {
                Output::Command(Command::Answer(_, answer)) => reply = Some(answer),
                Output::Command(_) => {}
                Output::Event(event) => self.link.devices[0].events.push(event),
            }
        }
        reply.expect("every call is answered or turned away").map(|r| *r)
    }

    fn status(&mut self, call: &Call, remote: &str) -> Option<Status> {
        let keys = keys(1);
        let bytes = self.call(call.to_bytes(Some(keys.lan())), remote)?;
        Some(Answer::parse(&bytes).expect("C2").message().status)
    }
}

/// A27, attack 26, 27, 28: what is claimed must be what was reached, a self-check must be registered and ours.
#[test]
fn attack_26_27_28_a_call_is_believed_only_for_the_address_it_reached() {
    let mut called = Called::new(purpose(Role::Initiator, 1));
    let good = called.message(Op::Ping);
    for lie in ["169.254.169.254", "127.0.0.1", "8.8.8.8", "192.168.1.77"] {
        let call = Call { dialled: lie.parse().expect("an address"), ..good.clone() };
        assert_eq!(called.status(&call, "192.168.1.2"), Some(Status::NotMine), "{lie}");
    }
    let other = Call { to: handfast_proto::wire::beacon::Nid([1; 16]), ..good.clone() };
    assert_eq!(called.status(&other, "192.168.1.2"), Some(Status::NotMine));
    assert_eq!(called.status(&called.message(Op::SelfCheck).clone(), "192.168.1.2"), Some(Status::NotMine));
    assert_eq!(called.status(&called.message(Op::SelfCheck).clone(), "192.168.1.1"), Some(Status::NotMine));
    assert_eq!(called.call(good.to_bytes(None), "192.168.1.2"), None, "a session with a code takes no open call");
    assert_eq!(called.call(good.to_bytes(Some(keys(2).lan())), "192.168.1.2"), None, "nor one of another code");
    assert_eq!(called.link.devices[0].evidence(), None);
    assert_eq!(called.link.devices[0].heard(), 0);
    assert_eq!(called.status(&good, "192.168.1.2"), Some(Status::Ok));
    assert_eq!(called.link.devices[0].evidence(), Some(Evidence::PeerConfirmed));
    assert_eq!(called.link.devices[0].heard(), 1);
}

/// Attack 25: what is called back is the observed source, never the address that the caller names.
#[test]
fn attack_25_only_the_observed_source_of_a_call_is_called_back() {
    let mut called = Called::new(purpose(Role::Initiator, 1));
    let call = Call { address: "192.168.1.200".parse().expect("an address"), ..called.message(Op::Ping) };
    let keys = keys(1);
    let bytes = call.to_bytes(Some(keys.lan()));
    let in_call = InCall {
        listener: called.listener,
        local: SocketAddr::new(ipv4(1).into(), 20_000),
        remote: SocketAddr::new(ipv4(2).into(), 40_000),
        request: Box::new(bytes),
    };
    let now = called.link.now;
    called.link.devices[0].lan.handle_event(Input::Called(InCallId(0), in_call), now);
    let mut called_back = Vec::new();
    while let Some(output) = called.link.devices[0].lan.poll_output() {
        if let Output::Command(Command::Call(_, call)) = output {
            called_back.push(call.to.ip());
        }
    }
    called_back.retain(|ip| *ip != called.link.devices[0].ip);
    assert_eq!(called_back, [IpAddr::from(ipv4(2))]);
}

/// A21, A26, A38: a device that is alone calls itself at each address; that proves little, and is called so.
#[test]
fn a_lone_device_has_a_self_check_and_no_more() {
    let mut link = Link::new(vec![Device::new(1)]);
    link.open(0, purpose(Role::Initiator, 1));
    link.run(Duration::from_secs(2));
    assert_eq!(link.devices[0].evidence(), Some(Evidence::SelfCheck));
    assert_eq!(link.devices[0].calls_made, 1);
}

/// Whoever only calls and listens to nobody is not in the list for ever.
#[test]
fn attack_27_a_call_without_a_device_behind_it_leaves_the_list() {
    let mut called = Called::new(Purpose::Nearby { name: DeviceName::clean("here") });
    let call = called.message(Op::Ping);
    called.call(call.to_bytes(None), "192.168.1.2").expect("an answer");
    assert_eq!(called.link.devices[0].lan.ready(WINDOW).len(), 1);
    called.link.run(Duration::from_secs(121));
    assert_eq!(called.link.devices[0].lan.ready(WINDOW), []);
}

/// Section 7.2: whoever comes after the end of a code is answered for a while, so that it can be told so.
#[test]
fn a_code_that_is_over_is_answered_for_and_not_announced() {
    let mut link = two();
    link.open(0, purpose(Role::Initiator, 1));
    link.run(Duration::from_secs(1));
    let now = link.now;
    link.devices[0].lan.set_window(WINDOW, Wanted::Over, now);
    link.drain();
    let before = link.devices[0].sent.len();
    link.run(Duration::from_secs(30));
    assert_eq!(link.devices[0].sent.len(), before, "it is silent by itself");
    link.open(1, purpose(Role::Joiner, 1));
    link.run(Duration::from_millis(30));
    assert_eq!(link.devices[1].heard(), 1);
    assert_eq!(link.devices[0].lan.load(), (1, 0));
    let now = link.now;
    link.devices[0].lan.set_window(WINDOW, Wanted::Closed, now);
    assert_eq!(link.devices[0].lan.load(), (0, 0));
}
