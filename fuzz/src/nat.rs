//! A look at our NAT, with whoever answers: it ends in time, asks within its bounds, and believes no stranger.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
                let from = if input.byte() & 3 == 0 { place(input.byte() % 6, 3479) } else { request.to };
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
