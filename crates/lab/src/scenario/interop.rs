//! An independent implementation of Kademlia, js-libp2p, among nodes of ours.
//!
//! Two nodes cannot reach each other. A member made of js-libp2p is the only one that knows both: what is stored at one
//! of them is found by way of it from the other. Another one, that serves nobody, puts and gets records of ours.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use futures::AsyncWriteExt as _;
use handfast_net::Bootstrap;
use handfast_proto::id::Tid;
use handfast_proto::wire::record::{Record, RecordKeys};
use serde_json::Value;

use super::Options;
use crate::js::{Js, Serving};
use crate::peer::Peer;
use crate::raw::kad::{self, KAD, MESSAGE_MAX};
use crate::raw::{Connection, read_frame};
use crate::report::Report;
use crate::serve::ServeNodes;
use crate::topology::{AccessHost, Lab};

/// Delay of the access links: nothing is timed.
const DELAY: Duration = Duration::from_millis(2);

/// How long the others may take to notice a new member.
const NOTICED: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Life of the records, seconds.
const TTL: u16 = 600;

/// The metrics that are looked at.
const KNOWN_NODES: &str = "handfast_known_nodes";
const STORED: &str = "handfast_puts_stored_total";
const INVALID: &str = "handfast_puts_refused_invalid_total";

/// The two nodes, the devices at each, and js-libp2p.
struct Stage {
    js: Js,
    /// Whoever knows only the first node, and whoever knows only the second.
    near: Peer,
    far: Peer,
    first: ServeNodes,
    second: ServeNodes,
    lab: Lab,
}

/// Plays it.
///
/// # Errors
/// When the lab cannot be made, npm fails, or a node or a member does not start.
pub fn run(options: &Options) -> Result<Report> {
    let js = Js::install()?;
    let names = ["node-0", "hidden", "js", "plain", "near", "far"];
    let builder = names.into_iter().fold(Lab::empty(), |builder, name| builder.host(name));
    let lab = builder.delay(DELAY).seed(options.seed).build()?;
    let (one, other) = (lab.host("node-0")?, lab.host("hidden")?);
    keep_apart(&lab, &one, &other)?;
    let first = ServeNodes::start(std::slice::from_ref(&one), None)?;
    let second = ServeNodes::start(std::slice::from_ref(&other), None)?;
    let near = Peer::device(&lab.host("near")?, &first.bootstrap())?;
    let far = Peer::device(&lab.host("far")?, &second.bootstrap())?;
    near.wait_for_nodes(1)?;
    far.wait_for_nodes(1)?;
    let stage = Stage { js, near, far, first, second, lab };
    let mut report = Report::new("an independent implementation as a member of our DHT", &["what", "seen"]);
    let (serving, stored) = stage.through_js(&mut report)?;
    stage.plain_client(&serving, &stored, &mut report)?;
    Ok(report)
}

impl Stage {
    /// A member that serves is taken for a node, answers, and is the way to what only it knows.
    fn through_js(&self, report: &mut Report) -> Result<(Serving, Record)> {
        let record = record(1)?;
        let stored = self.far.put(&record)?;
        check(report, "a record is stored on the second node", stored == 1, format!("stored on {stored}"));
        let (found, answered) = self.near.get(record.topic())?;
        let apart = found.is_empty() && answered == 1;
        check(report, "without it the first node leads nowhere", apart, format!("{} found", found.len()));

        let serving = self.js.serve(&self.lab.host("js")?, &[tcp(&self.first)?, tcp(&self.second)?])?;
        for (which, node) in [("first", &self.first), ("second", &self.second)] {
            let known = until(|| node.metric(0, KNOWN_NODES), |known| *known == 1.0)?;
            check(report, &format!("the {which} node has it in its routing table"), known == 1.0, format!("{known}"));
        }
        let named = ask_for_nodes(&self.lab.host("plain")?, &serving, &record)?;
        let both = [tid(&self.first)?, tid(&self.second)?].iter().all(|tid| named.contains(tid));
        check(report, "asked for nodes, it names both", both, format!("{} named", named.len()));

        let found = until(|| Ok(self.near.get(record.topic())?.0), |found| !found.is_empty())?;
        let same = found == [record.clone()];
        check(report, "what is stored behind it is found by way of it", same, format!("{} found", found.len()));
        Ok((serving, record))
    }

    /// A member that serves nobody finds nodes and records of ours, and stores records of ours; none of its own kinds.
    fn plain_client(&self, serving: &Serving, stored: &Record, report: &mut Report) -> Result<()> {
        let ask = |command: &str, args: &[String], at: &[&str]| {
            let at: Vec<String> = at.iter().map(|address| (*address).to_owned()).collect();
            self.js.run(&self.lab.host("plain")?, command, args, &at)
        };
        let (first, hidden) = (tcp(&self.first)?, tcp(&self.second)?);
        let (_, id) = hidden.rsplit_once('/').context("a node without an id")?;
        let found = ask("find", &[id.to_owned()], &[&first])?;
        let addresses = strings(&found["addresses"]);
        let there = addresses.iter().any(|address| hidden.starts_with(address));
        check(report, "a plain client of it finds the second node from the first", there, addresses.join(" "));

        let got = strings(&ask("get", &[hex(&stored.topic().0)], &[&first])?["values"]);
        let same = got == [hex(stored.as_bytes())];
        check(report, "it gets a record of ours, byte by byte", same, format!("{} found", got.len()));

        let own = record(2)?;
        let put = ask("put", &[hex(&own.topic().0), hex(own.as_bytes())], &[&first])?;
        let stored = strings(&put["stored"]);
        let ours = !stored.is_empty() && !stored.iter().any(|id| serving.address.ends_with(id.as_str()));
        let seen = format!("stored on {}; {}", stored.len(), put["failed"]);
        check(report, "it puts a record of ours on nodes of ours, and on none of its kind", ours, seen);
        for (who, device) in [("first", &self.near), ("second", &self.far)] {
            let same = device.get(own.topic())?.0 == [own.clone()];
            check(report, &format!("a device of ours gets it at the {who} node"), same, format!("{same}"));
        }

        let before = self.sum(STORED)?;
        let put = ask("put-own", &[], &[&first, &hidden])?;
        let (after, refused) = (self.sum(STORED)?, self.sum(INVALID)?);
        let none = strings(&put["stored"]).iter().all(|id| serving.address.ends_with(id.as_str()));
        let seen = format!("{} stored, {refused} refused as invalid", after - before);
        check(report, "a record of its own kinds is refused", none && after == before && refused > 0.0, seen);
        Ok(())
    }

    fn sum(&self, metric: &str) -> Result<f64> {
        Ok(self.first.metric(0, metric)? + self.second.metric(0, metric)?)
    }
}

/// Nothing gets from one host to the other.
fn keep_apart(lab: &Lab, one: &AccessHost, other: &AccessHost) -> Result<()> {
    let (one4, other4, one6, other6) = (one.ipv4(), other.ipv4(), one.ipv6(), other.ipv6());
    let drops = [(one4, other4), (other4, one4)].map(|(from, to)| format!("ip saddr {from} ip daddr {to} drop\n"));
    let drops6 = [(one6, other6), (other6, one6)].map(|(from, to)| format!("ip6 saddr {from} ip6 daddr {to} drop\n"));
    let rules = [drops, drops6].concat().concat();
    lab.backbone()
        .nft(&format!("table inet apart {{\nchain forward {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n"))
}

/// The nodes that a member names as the closest to a record, by their transport keys.
fn ask_for_nodes(host: &AccessHost, member: &Serving, record: &Record) -> Result<Vec<Tid>> {
    let member: Bootstrap = member.address.parse()?;
    let handfast_net::Host::Ip(ip) = member.host else { anyhow::bail!("a member at no address") };
    let key = record.topic().0;
    let runtime = host
        .namespace()
        .enter(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build())??;
    let asking = runtime.spawn(async move {
        let connection = Connection::dial((ip, member.port).into(), KAD).await?;
        let mut stream = connection.open(KAD).await?;
        stream.write_all(&kad::find_node(&key)).await?;
        stream.flush().await?;
        read_frame(&mut stream, MESSAGE_MAX).await
    });
    let answer = runtime.block_on(async { tokio::time::timeout(NOTICED, asking).await })???;
    // A name ends with the key.
    Ok(kad::closer(&answer).iter().filter_map(|id| id.last_chunk().copied().map(Tid)).collect())
}

fn record(number: u8) -> Result<Record> {
    let keys = RecordKeys::new(&handfast_net::entropy::secret()?, handfast_net::entropy::secret()?);
    Ok(keys.seal(&[number], 1, TTL, &mut handfast_net::entropy::rng()?))
}

/// Where js-libp2p enters: it speaks no QUIC here.
fn tcp(node: &ServeNodes) -> Result<String> {
    let address = node.bootstrap().into_iter().find(|text| text.starts_with("/ip4/") && text.contains("/tcp/4001/"));
    address.context("a node without TCP")
}

fn tid(node: &ServeNodes) -> Result<Tid> {
    Ok(tcp(node)?.parse::<Bootstrap>()?.tid)
}

/// Looks until it is so, or for long enough.
fn until<T>(look: impl Fn() -> Result<T>, is_so: impl Fn(&T) -> bool) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = look()?;
        if is_so(&seen) || start.elapsed() > NOTICED {
            return Ok(seen);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn check(report: &mut Report, what: &str, holds: bool, seen: String) {
    report.row(vec![what.to_owned(), seen.clone()]);
    report.check(what, holds, seen);
}
