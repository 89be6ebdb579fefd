//! The service over loopback.

use std::collections::BTreeSet;

use handfast_proto::stun::{Change, Message, Request, Response, Seen, TransactionId};

use super::*;

/// A loopback answers within microseconds.
const LIMIT: Duration = Duration::from_secs(5);

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

async fn ask(socket: &UdpSocket, to: SocketAddr, change: Change) -> (SocketAddr, Response) {
    let request = Request { change, ..Request::new(TransactionId([7; 12])) };
    socket.send_to(&request.to_bytes(), to).await.expect("sent");
    let mut buffer = [0; MAX_MESSAGE];
    let read = tokio::time::timeout(LIMIT, socket.recv_from(&mut buffer)).await.expect("in time");
    let (len, from) = read.expect("read");
    match Message::parse(&buffer[..len]) {
        Ok(Message::Response(response)) => (from, response),
        other => panic!("{other:?}"),
    }
}

async fn seen(socket: &UdpSocket, to: SocketAddr, change: Change) -> (SocketAddr, Seen) {
    match ask(socket, to, change).await {
        (from, Response::Success(seen)) => (from, seen),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn b37_with_two_addresses_it_answers_from_each_of_its_four_sockets() {
    let service = StunService::start(&[at("127.0.0.1:0"), at("127.0.0.2:0")]).expect("listens");
    let [first, second] = service.addresses() else { panic!("two") };
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut froms = BTreeSet::new();
    for ip in [false, true] {
        for port in [false, true] {
            let (from, seen) = seen(&client, *first, Change { ip, port }).await;
            assert_eq!((from.ip() != first.ip(), from.port() != first.port()), (ip, port));
            assert_eq!(
                (seen.mapped, seen.origin, seen.other),
                (client.local_addr().expect("bound"), Some(from), Some(*second))
            );
            froms.insert(from);
        }
    }
    // And each of the four can be asked.
    for to in &froms {
        assert_eq!(seen(&client, *to, Change::default()).await.0, *to);
    }
    assert_eq!((froms.len(), service.answered(), service.dropped()), (4, 8, 0));
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked_and_offers_no_other() {
    for (listen, asked, client) in
        [("0.0.0.0:0", vec!["127.0.0.1", "127.0.0.9"], "127.0.0.1:0"), ("[::]:0", vec!["::1"], "[::1]:0")]
    {
        let service = StunService::start(&[at(listen)]).expect("listens");
        let port = service.addresses()[0].port();
        let client = UdpSocket::bind(client).await.expect("a socket");
        for ip in asked {
            let to = SocketAddr::new(ip.parse().expect("an address"), port);
            let (from, seen) = seen(&client, to, Change::default()).await;
            assert_eq!((from, seen.mapped, seen.other), (to, client.local_addr().expect("bound"), None));
            let (from, refusal) = ask(&client, to, Change { ip: true, port: true }).await;
            assert!(matches!(refusal, Response::Failure { code: 420, .. }));
            assert_eq!(from, to);
        }
    }
}

#[tokio::test]
async fn rubbish_and_floods_get_no_answer_and_others_are_served_meanwhile() {
    // At several sockets: what one source gets is counted over all of them.
    let service = StunService::start(&[at("0.0.0.0:0"); 4]).expect("listens");
    let flooded: Vec<SocketAddr> =
        service.addresses().iter().map(|bound| SocketAddr::new(at("127.0.0.9:0").ip(), bound.port())).collect();
    let to = flooded[0];
    let flooder = UdpSocket::bind("127.0.0.2:0").await.expect("a socket");
    let request = Request::new(TransactionId([7; 12])).to_bytes();
    let start = Instant::now();
    for n in 0..5_000 {
        let datagram = if n % 8 < 7 { &request[..] } else { b"rubbish" };
        flooder.send_to(datagram, flooded[n % 4]).await.expect("sent");
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let honest = UdpSocket::bind("127.0.0.3:0").await.expect("a socket");
    let (from, _) = seen(&honest, to, Change::default()).await;
    assert_eq!(from, to);
    // The second that a flood began in, and each one since, has a hundred.
    let seconds = start.elapsed().as_secs() + 2;
    assert!(service.answered() <= u64::from(PER_SOURCE) * seconds + 1, "{}", service.answered());
    assert!(service.dropped() > 1_000, "{}", service.dropped());
}

#[tokio::test]
async fn a_taken_port_is_named_and_comfort_is_done_without() {
    let holder = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let taken = holder.local_addr().expect("bound");
    let error = StunService::start(&[taken]).expect_err("it is taken");
    assert!(error.to_string().starts_with(&format!("STUN at {taken}: ")), "{error}");
    assert!(matches!(StunService::start(&[taken; MAX_LISTEN + 1]), Err(StunError::TooMany)));
    // Nobody has this address.
    let nowhere: Address = "/ip4/192.0.2.1/tcp/4001".parse().expect("an address");
    assert!(StunService::beside(&[nowhere]).is_none());
}
