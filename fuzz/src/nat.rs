//! A look at our NAT, with whoever answers: it ends in time, asks within its bounds, and believes no stranger. Calls from
//! outside, whatever is said of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use handfast_proto::addr::{Address, Transport};
use handfast_proto::id::ConnId;
use handfast_proto::reach::{ANSWER_LEN, ASK_LEN, Answer, Ask, Checker, MAX_PORTS, Node, Verdict};
use handfast_proto::secret::{Rng, Secret};
use handfast_proto::stun::behaviour::Discovery;
use handfast_proto::stun::{Message, Response, Seen};
use handfast_proto::time::Time;

use crate::input::Input;

/// Answers of one case; after them nobody answers.
const MAX_ANSWERS: usize = 64;
/// Wake-ups after which a look must have ended: every request, each time that it is sent.
const MAX_TIMEOUTS: usize = 200;
/// Datagrams of one look.
const MAX_SENDS: usize = 200;

/// A schedule of answers, right and wrong, and of time that passes.
pub(crate) fn discovery(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let place = |a: u8, port: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(5, 1, a, 1)), port);
    let servers: Vec<SocketAddr> = (0..input.byte() % 5).map(|n| place(n, 3478)).collect();
    let own = [place(9, 4001)];
    let mut now = Time::ZERO;
    let mut look = Discovery::new(&servers, &own, Rng::from_seed(Secret::new([1; 32])), now);
    let mut asked = Vec::new();
    let mut sends = 0;
    for _ in 0..MAX_ANSWERS {
        while let Some(sent) = look.poll_transmit() {
            sends += 1;
            assert!(matches!(Message::parse(&sent.bytes), Ok(Message::Request(_))), "a look asks");
            asked.push(sent);
        }
        if input.is_empty() || look.result().is_some() {
            break;
        }
        match input.byte() % 4 {
            0 => now = now + input.millis(),
            1 => {
                let from = place(input.byte() % 6, 3478 + u16::from(input.byte() % 3));
                look.handle_datagram(from, input.take(64), now);
            }
            _ if !asked.is_empty() => {
                let request = &asked[input.below(asked.len())];
                let Ok(Message::Request(question)) = Message::parse(&request.bytes) else { continue };
                let mapped = place(input.byte() % 12, u16::from(input.byte()) + 4000);
                let other = input.bool().then(|| place(input.byte() % 6, 3478 + u16::from(input.byte() % 3)));
                let response = if input.byte() == 0xff {
                    Response::Failure { id: question.id, code: 420, unknown: vec![3] }
                } else {
                    Response::Success(Seen { id: question.id, mapped, origin: None, other })
                };
                let from = if input.byte().is_multiple_of(4) { place(input.byte() % 6, 3479) } else { request.to };
                look.handle_datagram(from, &response.to_bytes(), now);
            }
            _ => {}
        }
        if look.poll_timeout().is_some_and(|due| due <= now) {
            look.handle_timeout(now);
        }
    }
    for _ in 0..MAX_TIMEOUTS {
        while look.poll_transmit().is_some() {
            sends += 1;
        }
        let Some(due) = look.poll_timeout() else { break };
        now = now.max(due);
        look.handle_timeout(now);
    }
    assert!(look.result().is_some(), "a look ends");
    assert!(sends <= MAX_SENDS, "{sends} datagrams");
}

/// Questions and answers of nodes that call back, and a schedule of nodes, addresses and answers.
pub(crate) fn reach(bytes: &[u8]) {
    if let Some(question) = bytes.first_chunk::<ASK_LEN>()
        && let Ok(ask) = Ask::from_bytes(question)
    {
        assert_eq!(ask.to_bytes(), *question);
    }
    if let Some(answer) = bytes.first_chunk::<ANSWER_LEN>() {
        assert_eq!(Answer::from_bytes(answer).to_bytes(), *answer);
    }
    let mut input = Input::new(bytes);
    let address = |byte: u8| Address {
        ip: IpAddr::V4(Ipv4Addr::new(5, 1, byte % 3, 1)),
        port: 4000 + u16::from(byte / 32),
        transport: if byte & 8 == 0 { Transport::Quic } else { Transport::Tcp },
    };
    let (mut checker, mut now, mut asked) = (Checker::new(), Time::ZERO, Vec::new());
    while !input.is_empty() {
        match input.byte() % 6 {
            0 => now = now + input.millis(),
            1 => {
                let conn = ConnId(u64::from(input.byte() % 4));
                let at = IpAddr::V4(Ipv4Addr::new(6, input.byte() % 4, 0, 1));
                checker.set_node(Node { conn, at, sees: address(input.byte()) }, now);
            }
            2 => checker.disconnected(ConnId(u64::from(input.byte() % 4))),
            3 => {
                let candidates: Vec<Address> = input.take(6).iter().map(|byte| address(*byte)).collect();
                checker.set_candidates(&candidates, now);
            }
            4 => checker.set_in_doubt(input.bool()),
            _ => {
                let told = |bytes: &[u8]| bytes.iter().map(|byte| address(*byte)).collect();
                let verdict = if input.bool() {
                    Verdict::Called { reached: told(input.take(3)), missed: told(input.take(3)) }
                } else {
                    Verdict::Unknown
                };
                if let Some(id) = asked.pop() {
                    checker.answered(id, &verdict, now);
                }
            }
        }
        if let Some(question) = checker.poll_question(now) {
            assert!((1..=MAX_PORTS).contains(&question.addresses.len()));
            assert!(question.addresses.iter().all(|a| a.ip == question.addresses[0].ip), "one call is to one address");
            asked.push(question.id);
            assert_eq!(checker.poll_question(now), None, "one at a time");
        }
        let reachable: Vec<Address> = checker.reachable().collect();
        assert!(checker.unreachable().all(|a| !reachable.contains(&a)));
    }
}
