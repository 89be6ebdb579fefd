//! Attacks by records and by nodes of the DHT: forged, old, too many, and adverts that want something dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_net::StreamProtocol;
use handfast_proto::id::Tid;
use handfast_proto::secret::Secret;
use handfast_proto::wire::record::{Record, RecordKeys};

use super::forge::{self, advert, open_advert, tombstone};
use super::stage::{Case, Knowledge, PATIENCE, Stage, case, must_end};
use crate::capture::Capture;
use crate::device::Device;
use crate::peer::Peer;
use crate::process::Running;
use crate::scenario::pairing;

pub(super) const CASES: &[Case] = &[
    case("16", "a tombstone whose seal is not the code's", forged_tombstone),
    case("17", "a lower number; the same number with other bytes", lower_and_same_number),
    case("18", "a node that answers with a record that leads astray", lying_node),
    case("19", "an advert replayed after the code was used", replayed_advert),
    case("20", "a record put again and again", kept_alive),
    case("22", "an advert of forbidden addresses", forbidden_addresses),
    case("22", "adverts with too many and too long entries", too_many_entries),
    case("36", "adverts of another version and state", other_versions),
    case("21", "more records of one source than a node keeps", flood),
];

/// How long a joiner is watched that must not be led anywhere.
const WATCH: Duration = Duration::from_secs(3);

/// Records of one source that a node keeps (protocol section 12).
const PER_SOURCE: usize = 256;

/// More than that, the last of them only: a node that refuses a record says nothing, which a put waits for.
const FLOOD: usize = PER_SOURCE + 16;

/// How long the flood's records live.
const FLOOD_TTL: u16 = 60;

/// A life that ends while one looks.
const SHORT_TTL: u16 = 3;

/// Protocol codes of the multiaddr table: names, and what an address is made of.
const DNS4: u8 = 0x36;
const IP4: u8 = 0x04;
const IP6: u8 = 0x29;
const TCP: u8 = 0x06;

/// Bob enters each code, all side by side, and must not get anywhere: no find, no dial of the attacker. He is stopped
/// after a while.
fn leads_nowhere(stage: &Stage, codes: &[(&str, Knowledge)]) -> Result<()> {
    let joining: Vec<Running> =
        codes.iter().map(|(_, code)| stage.join(&code.words, &["--yes"])).collect::<Result<_>>()?;
    let came = stage.mallory.accept(StreamProtocol::Pair, WATCH);
    for ((what, _), joining) in codes.iter().zip(&joining) {
        for event in ["session_discovered", "connected", "pairing_failed"] {
            ensure!(joining.event(event).is_none(), "{what}: the joiner said {event}");
        }
    }
    ensure!(came.is_err(), "the joiner came to the attacker");
    stage.clear()?;
    for ((what, _), joining) in codes.iter().zip(joining) {
        must_end(joining, 6, &["cancelled"]).with_context(|| (*what).to_owned())?;
    }
    Ok(())
}

fn forged_tombstone(stage: &Stage) -> Result<String> {
    let mut codes = Vec::new();
    for (what, state) in [("used", 1), ("expired", 2)] {
        let code = Knowledge::fresh()?;
        // Whoever could sign under a topic and still does not know the code: the strongest forger there is.
        let keys = RecordKeys::new(&Secret::new(code.secrets.adv_sig), Secret::new(forge::random()?));
        ensure!(keys.topic() == code.keys.topic(), "the forged record is of another topic");
        let record = keys.seal(&tombstone(state)?, 1, 300, &mut handfast_net::entropy::rng()?);
        ensure!(stage.mallory.put(&record)? > 0, "no node stored the forged record");
        codes.push((what, code));
    }
    leads_nowhere(stage, &codes)?;
    Ok("a miss: the joiner goes on searching".to_owned())
}

fn lower_and_same_number(stage: &Stage) -> Result<String> {
    let code = Knowledge::fresh()?;
    let plain = open_advert(stage.mallory.tid(), stage.mallory.addresses())?;
    let first = code.record(&plain, 10, 300)?;
    let nodes = stage.mallory.put(&first)?;
    ensure!(nodes > 0, "no node stored a valid record");
    for (what, seq) in [("a lower number", 9), ("the same number, other bytes", 10)] {
        let stored = stage.mallory.put(&code.record(&plain, seq, 300)?)?;
        ensure!(stored == 0, "{what}: {stored} nodes stored it");
    }
    let (found, _) = stage.mallory.get(code.keys.topic())?;
    ensure!(found == [first], "found {} records, not the first alone", found.len());
    Ok(format!("stored on {nodes} nodes, then on none"))
}

/// A node of the DHT that the attacker runs, and that knows one record.
fn node_with(stage: &Stage, record: &Record) -> Result<Peer> {
    let host = stage.world.lab.host("attacker")?;
    let node = Peer::node(&host, &[])?;
    let publisher = Peer::device(&host, &node.bootstrap())?;
    publisher.wait_for_nodes(1)?;
    ensure!(publisher.put(record)? == 1, "the attacker's own node did not store its record");
    Ok(node)
}

/// A joiner on a host of its own that enters the DHT by these nodes.
fn third_device(stage: &Stage, name: &str, bootstrap: Vec<String>) -> Result<Device> {
    let mut carol = stage.world.device("carol", name)?.bootstrap(bootstrap);
    carol.start_daemon()?;
    stage.trust(carol.status()?.id);
    Ok(carol)
}

fn lying_node(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    // It needs the code to make such a record; what is shown is that not even this hides the right one.
    let lie = shown.code.record(&open_advert(stage.mallory.tid(), stage.mallory.addresses())?, 1, 300)?;
    let liar = node_with(stage, &lie)?;
    let mut bootstrap = liar.bootstrap();
    bootstrap.extend(stage.world.dht.bootstrap());
    let mut carol = third_device(stage, "carol-18", bootstrap)?;
    let joining = pairing::join(&carol, &shown.words, &["--yes"])?;
    let mut lured = 0;
    let start = Instant::now();
    while joining.event("paired").is_none() && start.elapsed() < PATIENCE {
        if let Ok(inbound) = stage.mallory.accept(StreamProtocol::Pair, Duration::from_millis(100)) {
            lured += 1;
            stage.mallory.send(inbound.stream, vec![forge::frame(forge::H2, &forge::random::<81>()?)?])?;
        }
    }
    joining.wait_event("paired", PATIENCE)?;
    shown.process.wait_event("paired", PATIENCE)?;
    carol.stop()?;
    Ok(format!("the joiner came to the attacker {lured} times, and was paired with the right device"))
}

fn replayed_advert(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let record = stage.wait_for_record(&shown.code)?;
    let words = shown.words.clone();
    stage.still_pairs(shown)?;
    // A node that never saw the tombstone.
    let node = node_with(stage, &record)?;
    let mut carol = third_device(stage, "carol-19", node.bootstrap())?;
    let joining = pairing::join(&carol, &words, &["--yes"])?;
    joining.wait_event("session_discovered", PATIENCE).context("the replayed advert was not found")?;
    let ending = must_end(joining, 5, &["code_used"])?;
    ensure!(carol.devices()?.is_empty(), "the late joiner is paired");
    carol.stop()?;
    Ok(format!("it leads to the initiator, which says that the code is over: {ending}"))
}

fn kept_alive(stage: &Stage) -> Result<String> {
    let code = Knowledge::fresh()?;
    let plain = open_advert(stage.mallory.tid(), stage.mallory.addresses())?;
    let record = code.record(&plain, 1, SHORT_TTL)?;
    ensure!(stage.mallory.put(&record)? > 0, "no node stored a valid record");
    let start = Instant::now();
    let life = Duration::from_secs(u64::from(SHORT_TTL));
    while start.elapsed() < life.mul_f64(0.8) {
        stage.mallory.put(&record)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    std::thread::sleep((life + Duration::from_millis(500)).saturating_sub(start.elapsed()));
    let (found, answered) = stage.mallory.get(code.keys.topic())?;
    ensure!(found.is_empty() && answered > 0, "it lives after {:?}", start.elapsed());
    Ok(format!("dead after {:.1} s, {answered} nodes say", start.elapsed().as_secs_f64()))
}

/// `/ip4/…/tcp/PORT`, whatever the address is.
fn ip4(ip: [u8; 4], port: u16) -> Vec<u8> {
    [&[IP4], &ip[..], &[TCP], &port.to_be_bytes()].concat()
}

fn ip6(text: &str, port: u16) -> Result<Vec<u8>> {
    let ip: std::net::Ipv6Addr = text.parse()?;
    Ok([&[IP6], &ip.octets()[..], &[TCP], &port.to_be_bytes()].concat())
}

fn forbidden_addresses(stage: &Stage) -> Result<String> {
    let name = b"metadata.example";
    let dns = [&[DNS4, u8::try_from(name.len())?], &name[..], &[TCP, 0, 80]].concat();
    let here = stage.world.lab.host("bob")?.ipv4().octets();
    let lists = [
        vec![
            dns,
            ip4([169, 254, 169, 254], 80),
            ip4([127, 0, 0, 1], 9400),
            ip4([0, 0, 0, 0], 22),
            ip4(here, 0),
            ip4([224, 0, 0, 251], 5353),
        ],
        vec![
            ip6("::1", 9400)?,
            ip6("fe80::1", 80)?,
            ip6("::ffff:169.254.169.254", 80)?,
            ip6("64:ff9b::a9fe:a9fe", 80)?,
            ip6("fd00:ec2::254", 80)?,
            ip4([255, 255, 255, 255], 80),
        ],
    ];
    let mut seen = String::new();
    for (number, list) in lists.iter().enumerate() {
        let code = Knowledge::fresh()?;
        stage.advertise(&code, &advert(1, 0, stage.mallory.tid(), u8::try_from(list.len())?, list)?)?;
        let file = stage.world.lab.dir().join(format!("forbidden-{number}.pcap"));
        let capture = Capture::start(stage.bob.host().namespace(), "any", &file)?;
        let joining = stage.join(&code.words, &["--yes"])?;
        joining.wait_event("session_discovered", PATIENCE)?;
        seen = must_end(joining, 8, &["unreachable"])?;
        let captured = capture.stop()?;
        ensure!(captured.lost == 0 && !captured.packets.is_empty(), "the capture is not complete");
        for packet in &captured.packets {
            let Some(ends) = packet.ends() else { continue };
            if is_beacon(ends.to) {
                continue;
            }
            for ip in [ends.from.ip(), ends.to.ip()] {
                ensure!(!is_forbidden(ip), "a packet from {} to {}", ends.from, ends.to);
            }
            ensure!(ends.to.port() != 53 && ends.to.port() != 0, "a packet to {}", ends.to);
        }
    }
    Ok(format!("not one packet to any of them; the joiner ended with {seen}"))
}

/// A search on the local network goes on beside the one in the DHT (protocol section 6.1).
fn is_beacon(to: SocketAddr) -> bool {
    let groups: [IpAddr; 2] =
        [Ipv4Addr::new(224, 0, 0, 254).into(), Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4846).into()];
    to.port() == handfast_proto::wire::beacon::PORT && groups.contains(&to.ip())
}

/// Where nothing of the joiner's may go. There is no resolver either: port 53 is looked for apart.
fn is_forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast()
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            ip.is_loopback() || ip.to_ipv4_mapped().is_some() || first == 0x64 || first == 0xfd00 || first == 0xfe80
        }
    }
}

fn too_many_entries(stage: &Stage) -> Result<String> {
    let address = stage.mallory.addresses().first().context("an address")?.to_bytes();
    let tid = stage.mallory.tid();
    let long = [address.clone(), vec![0; 49]].concat();
    let lists: [(&str, u8, Vec<Vec<u8>>); 4] = [
        ("seven", 7, vec![address.clone(); 7]),
        ("more than there are", 255, vec![address.clone(); 6]),
        ("one too long", 2, vec![address.clone(), long]),
        ("fewer than there are", 1, vec![address; 3]),
    ];
    let mut codes = Vec::new();
    for (what, count, list) in lists {
        let code = Knowledge::fresh()?;
        stage.advertise(&code, &advert(1, 0, tid, count, &list)?)?;
        codes.push((what, code));
    }
    leads_nowhere(stage, &codes)?;
    Ok("a miss: nobody is dialled".to_owned())
}

fn other_versions(stage: &Stage) -> Result<String> {
    let addresses: Vec<Vec<u8>> = stage.mallory.addresses().iter().map(|address| address.to_bytes()).collect();
    let tid = stage.mallory.tid();
    let count = u8::try_from(addresses.len())?;
    let mut longer = advert(1, 0, tid, count, &addresses)?;
    longer.push(1);
    let newer = Knowledge::fresh()?;
    stage.advertise(&newer, &advert(2, 0, tid, count, &addresses)?)?;
    // Only whoever shows the code can have sealed it, so it is told; nobody is dialled all the same.
    let ending = must_end(stage.join(&newer.words, &["--yes"])?, 12, &["version_mismatch"]).context("version 2")?;
    ensure!(stage.mallory.accept(StreamProtocol::Pair, Duration::ZERO).is_err(), "version 2 was dialled");
    let adverts = [
        ("version 0", advert(0, 0, tid, count, &addresses)?),
        ("state 9", advert(1, 9, tid, count, &addresses)?),
        ("used, but with addresses", advert(1, 1, tid, count, &addresses)?),
        ("open, without a key", advert(1, 0, Tid([0; 32]), count, &addresses)?),
        ("padding that is not zero", longer),
    ];
    let mut codes = Vec::new();
    for (what, plain) in adverts {
        let code = Knowledge::fresh()?;
        stage.advertise(&code, &plain)?;
        codes.push((what, code));
    }
    leads_nowhere(stage, &codes)?;
    Ok(format!("nobody is dialled; a later version ends with {ending}"))
}

fn flood(stage: &Stage) -> Result<String> {
    let shown = stage.offer_published(&["--yes"])?;
    let mut records = Vec::new();
    for _ in 0..FLOOD {
        records.push(Knowledge::fresh()?.record(&tombstone(1)?, 1, FLOOD_TTL)?);
    }
    let stored = stage.mallory.put_all(&records)?;
    let refused = stored.iter().filter(|nodes| **nodes == 0).count();
    let kept = stored.len() - refused;
    let mut most = 0.0_f64;
    for index in 0..stage.world.dht.len() {
        let metrics = stage.world.dht.metrics(index)?;
        let stored = metrics.iter().filter(|(name, _)| is_record_count(name)).map(|(_, value)| *value);
        most = most.max(stored.fold(0.0, f64::max));
    }
    // Those that both victims put come on top.
    ensure!(most <= (PER_SOURCE + 64) as f64, "a node holds {most} records");
    ensure!(refused > 0, "all {kept} records of one source were stored");
    stage.still_pairs(shown)?;
    Ok(format!(
        "{kept} stored somewhere, {refused} refused everywhere; a node holds at most {most}; the honest record stays"
    ))
}

fn is_record_count(name: &str) -> bool {
    let name = name.split('{').next().unwrap_or_default();
    name.contains("record") && (name.ends_with("records") || name.ends_with("records_stored"))
}
