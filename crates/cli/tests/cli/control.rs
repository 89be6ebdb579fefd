//! The control socket as any HTTP client sees it (protocol, section 14).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::{Home, LIMIT, LISTEN, NOBODYS, Running, json};

struct Device {
    home: Home,
    _daemon: Running,
}

impl Device {
    fn start() -> Device {
        let home = Home::new();
        let daemon = home.start("alice", &[&["start", "--foreground", "--json"], LISTEN.as_slice()].concat());
        daemon.event("started");
        Device { home, _daemon: daemon }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.home.instance("alice").join("control.sock")).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// Status line and body of the answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (String, Value) {
        let mut stream = self.connect();
        let length = body.len();
        // What `curl -d` calls a body.
        let kind = "application/x-www-form-urlencoded";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        // A body that is too long is not read to its end.
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.lines().next().unwrap_or_default().to_owned(), json(body))
    }
}

#[test]
fn requests_and_refusals_are_json() {
    let device = Device::start();
    let (head, status) = device.ask("GET", "/v1/status", "");
    assert_eq!(head, "HTTP/1.1 200 OK");
    assert_eq!(status["instance"], "alice");
    let (head, created) = device.ask("POST", "/v1/pair/generate", "{\"ttl\":60}");
    assert_eq!(head, "HTTP/1.1 200 OK");
    assert_eq!(created["words"].as_str().map(|words| words.split(' ').count()), Some(12));
    let (_, sessions) = device.ask("GET", "/v1/pair", "");
    assert_eq!(sessions[0]["session"], created["session"]);
    let (_, cancelled) = device.ask("POST", "/v1/pair/cancel", "");
    assert_eq!(cancelled["session"], created["session"]);
    let long = format!("{{\"code\":\"{}\"}}", "x".repeat(70_000));
    for (method, path, body) in [
        ("GET", "/v1/nothing", ""),
        ("GET", "/v1/stop", ""),
        ("POST", "/v1/status", ""),
        ("POST", "/v1/pair/generate", "{\"ttl\":4}"),
        ("POST", "/v1/pair/generate", "{\"tttl\":60}"),
        ("POST", "/v1/pair/generate", "3"),
        ("POST", "/v1/pair/answer", "{}"),
        ("POST", "/v1/pair/compare", "{}"),
        ("POST", "/v1/pair/compare", "{\"matches\":true}"),
        ("POST", "/v1/pair/cancel", "{}"),
        ("POST", "/v1/pair/join", &long),
        ("GET", "/v1/devices/nobody", ""),
        ("GET", "/v1/events?since=x", ""),
    ] {
        let (head, refusal) = device.ask(method, path, body);
        assert_eq!(head, "HTTP/1.1 400 Bad Request", "{method} {path}");
        assert_eq!((refusal["cause"].as_str(), refusal["exit"].as_u64()), (Some("usage"), Some(2)), "{method} {path}");
    }
}

#[test]
fn a_code_in_a_wrong_body_is_not_repeated() {
    let device = Device::start();
    for body in
        [format!("{{\"code\":[\"{NOBODYS}\"]}}"), format!("{{\"kode\":\"{NOBODYS}\"}}"), format!("\"{NOBODYS}\"")]
    {
        let (_, refusal) = device.ask("POST", "/v1/pair/join", &body);
        assert_eq!(refusal["cause"], "usage");
        assert!(!refusal.to_string().contains("sausage"), "{refusal}");
    }
    let (_, refusal) = device.ask("POST", "/v1/pair/join", "{\"code\":\"legal susage\"}");
    assert_eq!((refusal["cause"].as_str(), refusal["exit"].as_u64()), (Some("code_malformed"), Some(3)));
    let log = std::fs::read_to_string(device.home.instance("alice").join("log/handfast.log")).expect("a log");
    assert!(!log.contains("sausage"), "{log}");
}

#[test]
fn b6_events_are_followed_by_many_and_from_any_number() {
    let device = Device::start();
    let early = device.home.start("alice", &["events", "--since", "0"]);
    for _ in 0..2 {
        device.ask("POST", "/v1/pair/generate", "{}");
    }
    let late = device.home.start("alice", &["events", "--json", "--since", "1"]);
    let (first, second, third) = (json(&early.line()), json(&early.line()), json(&late.line()));
    assert_eq!((first["event"].as_str(), first["seq"].as_u64()), (Some("code_created"), Some(1)));
    assert_eq!((&second, second["seq"].as_u64()), (&third, Some(2)));
    assert!(first["words"].is_null() && first["qr"].is_null(), "the stream holds no code: {first}");
    assert_eq!(device.home.run("alice", &["stop"]).exit(), Some(0));
    for follower in [early, late] {
        let ended = follower.end();
        assert_eq!(ended.exit(), Some(0));
        assert!(ended.lines.iter().any(|line| line.contains("cancelled")), "the last news come: {:?}", ended.lines);
    }
}

#[test]
fn a_client_that_says_nothing_is_let_go_and_streams_leave_room_for_requests() {
    let device = Device::start();
    let mut silent = device.connect();
    let mut streams: Vec<UnixStream> = (0..12).map(|_| device.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    assert_eq!(device.ask("GET", "/v1/events", "").1["cause"], "usage");
    assert_eq!(device.ask("GET", "/v1/status", "").0, "HTTP/1.1 200 OK");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).expect("closed, not timed out");
}
