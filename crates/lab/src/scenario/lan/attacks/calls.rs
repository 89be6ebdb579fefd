//! Attacks 25 to 29: the confirmation service dials nobody but the asker, and says nothing to whoever has no code.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use handfast_proto::wire::beacon::HOP_LIMIT;
use serde_json::Value;

use super::super::super::Options;
use super::Case;
use super::forge::{Answer, CALL_LEN, CODE, Call, FROM_JOINER, NOT_MINE, OK, PING, SELF_CHECK, Told, beacon, plain};
use super::stage::{ANSWER, Shown, Stage};
use super::tls::{Server, Visit};
use crate::capture::Captured;
use crate::pcap::Packet;
use crate::scenario::attack::forge::{CodeSecrets, random};

/// Where nobody must be made to look: the metadata of a cloud, the machine itself, the internet, a neighbour, nothing.
const ELSEWHERE: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 77, 200)),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
];

/// Connections of one caller at the same time (protocol, section 6.4).
const PER_SOURCE: usize = 2;

/// Connections that are opened.
const SILENT: usize = 20;

/// By then those that are too many are closed.
const REFUSED_BY: Duration = Duration::from_millis(700);

/// A connection that says nothing is closed by then: two seconds to a whole C1, and a moment.
const SILENCE_MAX: Duration = Duration::from_secs(4);

pub(super) const CASES: &[Case] = &[
    ("-", "a right call of somebody who has the code is answered", answered),
    ("25", "a call that names a third host as its own", third_host),
    ("26", "a call that asks about other addresses", elsewhere),
    ("26", "a caller whose own listener is at port 22", low_port),
    ("27", "a self-check of a code that nobody registered, from another host", self_check),
    ("28", "a peer that claims an address which is not ours", not_ours),
    ("25", "calls without the code, or for another window", strangers),
    ("29", "a listener with another certificate than announced", |stage, _| other_server(stage, true)),
    ("29", "the announced certificate and a signature of another key", |stage, _| other_server(stage, false)),
    ("48", "silent and half-open connections", silent),
];

impl Stage {
    /// A call as it must be.
    fn ping(&self, shown: &Shown) -> Result<Call> {
        let told = self.told(40_003, [7; 32]);
        let to = shown.beacon.nid.0;
        Ok(Call { op: PING, from: random()?, to, dialled: self.victim, told, code: random()? })
    }

    /// Makes a call with the code, and reads its answer.
    fn answer(&self, shown: &Shown, call: &Call) -> Result<Answer> {
        let bytes = self.call(shown)?.say(&call.bytes(Some(&shown.secrets.confirm))?)?;
        Answer::read(&bytes, call, &shown.secrets.confirm)
    }

    /// How sure alice is of each address, as its status says.
    fn evidence(&self) -> Result<Vec<(String, String)>> {
        let status = self.alice.ask(&["status"])?;
        let list = status.get("addresses").and_then(Value::as_array).context("no addresses in the status")?;
        let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(list.iter().map(|entry| (text(entry, "address"), text(entry, "evidence"))).collect())
    }

    /// Nobody was called. That a caller's hardware address is asked for is no call: without it there is no answer.
    fn nobody_is_called(&self, captured: &Captured) -> Result<()> {
        self.nobody_else(captured)?;
        let called = captured.packets.iter().filter(|packet| packet.is_sent() && packet.is_tcp_start());
        let called = called.filter_map(Packet::ends).find(|ends| ends.to.ip() != self.victim);
        ensure!(called.is_none(), "alice called {called:?}");
        Ok(())
    }

    /// Nobody but mallory was turned to.
    fn nobody_else(&self, captured: &Captured) -> Result<()> {
        let mut moved = self.turned_to(captured);
        moved.retain(|ip| !self.mallory.has(*ip));
        ensure!(moved.is_empty(), "alice turned to {moved:?}");
        Ok(())
    }
}

/// What the others must not bring about.
fn answered(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let call = stage.ping(&shown)?;
    let caller = stage.call(&shown)?;
    let local = caller.local()?;
    let bytes = caller.say(&call.bytes(Some(&shown.secrets.confirm))?)?;
    ensure!(bytes.len() <= CALL_LEN, "{CALL_LEN} bytes are answered by {}", bytes.len());
    let answer = Answer::read(&bytes, &call, &shown.secrets.confirm)?;
    ensure!(answer.status == OK, "status {}", answer.status);
    ensure!(answer.observed == local, "alice sees {} where {local} called", answer.observed);
    let confirmed = |evidence: &[(String, String)]| {
        let of_victim = format!("/{}/", stage.victim);
        evidence.iter().any(|(address, grade)| address.contains(&of_victim) && grade == "peer_confirmed")
    };
    let evidence = stage.evidence()?;
    ensure!(confirmed(&evidence), "a call from another host confirms an address: {evidence:?}");
    let took = stage.still_pairs(shown)?;
    Ok(format!("status 0, and alice's address is peer_confirmed; then paired in {} ms", took.as_millis()))
}

fn third_host(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let captured = stage.watch(|| {
        for address in ELSEWHERE {
            let call = stage.ping(&shown)?;
            let call = Call { told: Told { address, ..call.told }, ..call };
            let bytes = stage.call(&shown)?.say(&call.bytes(Some(&shown.secrets.confirm))?)?;
            ensure!(bytes.len() <= CALL_LEN, "{} bytes came back", bytes.len());
        }
        Ok(())
    })?;
    stage.nobody_else(&captured)?;
    Ok("only mallory was turned to".to_owned())
}

fn elsewhere(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let mut asked = 0;
    let captured = stage.watch(|| {
        for (op, dialled) in [PING, SELF_CHECK].into_iter().flat_map(|op| ELSEWHERE.map(|address| (op, address))) {
            let call = Call { op, dialled, ..stage.ping(&shown)? };
            let answer = stage.answer(&shown, &call)?;
            ensure!(answer.status == NOT_MINE, "status {} to operation {op} about {dialled}", answer.status);
            asked += 1;
        }
        Ok(())
    })?;
    stage.nobody_is_called(&captured)?;
    Ok(format!("status 1 to {asked} calls, nobody was turned to"))
}

/// Ports below 1024 are other services.
fn low_port(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let listener = stage.mallory.host.namespace().enter(|| TcpListener::bind("0.0.0.0:22"))??;
    listener.set_nonblocking(true)?;
    let captured = stage.watch(|| {
        let call = stage.ping(&shown)?;
        let call = Call { told: Told { confirm: 22, ..call.told }, ..call };
        stage.call(&shown)?.say(&call.bytes(Some(&shown.secrets.confirm))?).map(drop)
    })?;
    ensure!(listener.accept().is_err(), "alice called port 22");
    let reached = captured.packets.iter().filter(|packet| packet.is_sent() && packet.is_tcp_start());
    let low = reached.filter_map(Packet::ends).find(|ends| ends.to.port() < 1024);
    ensure!(low.is_none(), "alice called {low:?}");
    Ok("not dialled".to_owned())
}

fn self_check(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let before = stage.evidence()?;
    let call = Call { op: SELF_CHECK, from: shown.beacon.nid.0, ..stage.ping(&shown)? };
    for _ in 0..2 {
        let answer = stage.answer(&shown, &call)?;
        ensure!(answer.status == NOT_MINE, "status {}", answer.status);
    }
    let after = stage.evidence()?;
    let graded = |evidence: &[(String, String)]| evidence.iter().filter(|(_, grade)| grade == "peer_confirmed").count();
    ensure!(graded(&after) == graded(&before), "an address was graded: {before:?}, {after:?}");
    Ok("status 1 twice, no grade".to_owned())
}

fn not_ours(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let claimed = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 99));
    let call = Call { dialled: claimed, ..stage.ping(&shown)? };
    let answer = stage.answer(&shown, &call)?;
    ensure!(answer.status == NOT_MINE, "status {}", answer.status);
    let evidence = stage.evidence()?;
    ensure!(!evidence.iter().any(|(address, _)| address.contains(&claimed.to_string())), "it is listed: {evidence:?}");
    Ok("status 1, not listed".to_owned())
}

fn strangers(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let call = stage.ping(&shown)?;
    let wrong = CodeSecrets::wrong()?;
    let mut garbage = call.bytes(Some(&shown.secrets.confirm))?;
    garbage[0] = b'X';
    let captured = stage.watch(|| {
        for bytes in [call.bytes(None)?, call.bytes(Some(&wrong.confirm))?, garbage, vec![0xff; CALL_LEN]] {
            let answer = stage.call(&shown)?.say(&bytes)?;
            ensure!(answer.is_empty(), "{} bytes came back", answer.len());
        }
        Ok(())
    })?;
    stage.nobody_is_called(&captured)?;
    // With the code, and for a window that is not there.
    let call = Call { to: random()?, ..stage.ping(&shown)? };
    let bytes = stage.call(&shown)?.say(&call.bytes(Some(&shown.secrets.confirm))?)?;
    let status = bytes.get(5).copied();
    ensure!(matches!(status, None | Some(NOT_MINE)), "status {status:?} to a call for another window");
    Ok("closed without a byte".to_owned())
}

/// Alice is led to a listener that is not the announced one; she must not say a word to it.
fn other_server(stage: &Stage, signs_rightly: bool) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let server = Server::start(stage.mallory.host.namespace(), signs_rightly)?;
    // With a wrong signature the certificate is the announced one; else it is any other.
    let announced = if signs_rightly { random()? } else { server.spki };
    let right = beacon(CODE, FROM_JOINER, &stage.told(server.port()?, announced), Some(&shown.secrets.lan))?;
    stage.mallory.say(stage.victim, stage.mallory.ip, HOP_LIMIT, &right)?;
    match server.visit(ANSWER)? {
        Visit::Refused(how) => Ok(format!("alice broke off: {how}")),
        Visit::Said(bytes) => bail!("alice said {} bytes", bytes.len()),
    }
}

fn silent(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let to = SocketAddr::new(stage.victim, shown.beacon.ports.confirm);
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..SILENT {
        open.push(plain(stage.mallory.host.namespace(), stage.mallory.ip, to)?);
    }
    std::thread::sleep(REFUSED_BY.saturating_sub(start.elapsed()));
    let mut held = 0;
    for stream in &open {
        stream.set_nonblocking(true)?;
        held += usize::from(stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        stream.set_nonblocking(false)?;
    }
    ensure!((1..=PER_SOURCE).contains(&held), "{held} silent connections of one host are held");
    for stream in &mut open {
        let answer = stream.read(&mut [0]);
        ensure!(matches!(answer, Ok(0) | Err(_)), "somebody who said nothing was answered");
    }
    let all = start.elapsed();
    ensure!(all < SILENCE_MAX, "silent connections stay open for {all:?}");
    let took = stage.still_pairs(shown)?;
    Ok(format!(
        "{held} of {SILENT} held, all closed after {} ms; then paired in {} ms",
        all.as_millis(),
        took.as_millis()
    ))
}
