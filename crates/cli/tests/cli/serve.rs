//! `serve`: a node that can really be run.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Home, LISTEN, names};

#[test]
fn its_first_lines_are_its_addresses_and_they_stay_its_own() {
    let home = Home::new();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let node = home.start("default", &[&["serve"], LISTEN.as_slice()].concat());
        let mut addresses = Vec::new();
        loop {
            let line = node.line();
            if line == "ready" {
                break;
            }
            addresses.push(line);
        }
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for address in &addresses {
            let (place, id) = address.split_once("/p2p/").expect("an id");
            assert!(place.starts_with("/ip4/127.0.0.1/") && !place.contains("/0"), "{address}");
            ids.push(id.to_owned());
        }
        let again = home.run("default", &[&["serve"], LISTEN.as_slice()].concat());
        assert_eq!(again.exit(), Some(10), "{:?}", again.errors);
        node.signal(Signal::TERM);
        assert_eq!(node.end().exit(), Some(0));
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(names(&home.path().join("serve")), ["lock", "node.key"]);
}

#[test]
fn metrics_are_there_when_asked_for() {
    let home = Home::new();
    // Taken and given back, so that it is free.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let place = free.to_string();
    let args = [&["serve", "--json", "--metrics", &place, "--stun-listen", "127.0.0.1:0"], LISTEN.as_slice()].concat();
    let node = home.start("default", &args);
    let serving = node.event("serving");
    assert!(serving["addresses"].as_array().is_some_and(|list| !list.is_empty()));
    assert!(serving["stun"].as_array().is_some_and(|list| list.len() == 1));
    is_told_its_address(serving["stun"][0].as_str().expect("a text").parse().expect("an address"));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(free).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
    for name in [
        "handfast_records 0",
        "handfast_records_bytes 0",
        "handfast_lookups_served_total 0",
        "handfast_stun_answered_total 1",
    ] {
        assert!(metrics.lines().any(|line| line == name), "{name} in {metrics}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    let taken = home.run("default", &["serve", "--data", "elsewhere", "--metrics", &place]);
    assert_eq!(taken.exit(), Some(2), "{:?}", taken.errors);
    node.signal(Signal::INT);
    assert_eq!(node.end().exit(), Some(0));
}

/// B37: a binding request of RFC 8489, by hand; the answer is the address it was sent from.
fn is_told_its_address(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("bounded");
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    socket.send_to(&request, server).expect("sent");
    let mut answer = [0; 128];
    let (len, from) = socket.recv_from(&mut answer).expect("an answer");
    let port = socket.local_addr().expect("bound").port() ^ 0x2112;
    let mapped = [&[0, 0x20, 0, 8, 0, 1][..], &port.to_be_bytes(), &[127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42]].concat();
    assert_eq!((from, &answer[..2], &answer[8..20]), (server, &[1, 1][..], &request[8..20]));
    assert_eq!(answer[20..32], mapped, "{:02x?}", &answer[..len]);
}

#[test]
fn b37_a_taken_port_of_stun_is_an_error_where_it_was_named_and_a_warning_where_not() {
    let home = Home::new();
    let holder = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = holder.local_addr().expect("bound").to_string();
    let ended = home.run("default", &[&["serve", "--stun-listen", &taken], LISTEN.as_slice()].concat());
    assert_eq!(ended.exit(), Some(4), "{:?}", ended.errors);
    let said = ended.errors.join("\n");
    assert!(said.contains(&taken) && said.contains("--stun-listen"), "{said}");
    // At an address that no other test uses.
    let _held = UdpSocket::bind("127.0.0.78:3478").expect("free");
    let node = home.start("default", &["serve", "--json", "--listen", "/ip4/127.0.0.78/tcp/0"]);
    assert_eq!(node.event("serving")["stun"], serde_json::json!([]));
    node.signal(Signal::TERM);
    assert_eq!(node.end().exit(), Some(0));
}
