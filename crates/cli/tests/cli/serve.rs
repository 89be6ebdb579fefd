//! `serve`: a node that can really be run.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

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
    let args = [&["serve", "--json", "--metrics", &place], LISTEN.as_slice()].concat();
    let node = home.start("default", &args);
    let serving = node.event("serving");
    assert!(serving["stun"].is_null() && serving["addresses"].as_array().is_some_and(|list| !list.is_empty()));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(free).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
    for name in ["handfast_records 0", "handfast_records_bytes 0", "handfast_lookups_served_total 0"] {
        assert!(metrics.lines().any(|line| line == name), "{name} in {metrics}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    let taken = home.run("default", &["serve", "--data", "elsewhere", "--metrics", &place]);
    assert_eq!(taken.exit(), Some(2), "{:?}", taken.errors);
    node.signal(Signal::INT);
    assert_eq!(node.end().exit(), Some(0));
}
