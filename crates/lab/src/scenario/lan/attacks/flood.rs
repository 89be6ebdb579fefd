//! Attack 24: many beacons from many addresses. They cost neither memory nor dials without bound, and a real pairing goes
//! on meanwhile.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use handfast_proto::wire::beacon::{HOP_LIMIT, PORT};

use super::super::super::Options;
use super::Case;
use super::forge::{CODE, FROM_JOINER, Told, beacon};
use super::stage::Stage;
use crate::capture::Captured;
use crate::device::{COMMAND_LIMIT, Device};
use crate::lan::observe::addresses;
use crate::procfs::Sample;

/// Different senders.
const SENDERS: u16 = 1_000;

/// Beacons a second, in portions.
const PER_SECOND: u32 = 10_000;
const PORTION: u32 = 100;

/// Below this it was no flood: the lab's machine was too busy to make one.
const PER_SECOND_MIN: f64 = 5_000.0;

/// How long it lasts.
const FLOOD: Duration = Duration::from_secs(10);

/// When the honest joiner comes.
const JOINS_AFTER: Duration = Duration::from_secs(2);

/// Memory that a device may need for it. Strangers have 4 MiB; the rest is queues of the system's and the allocator.
const GROWTH_MAX_KIB: u64 = 16 << 10;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// Hosts that a code holder's flood may make a device turn to: 20 calls a minute, 4 joiners to connect to, and one
/// answer to each of 10 beacons a second.
const TURNS_MAX: usize = 20 + 4 + 10 * (FLOOD.as_secs() as usize + 3);

pub(super) const CASES: &[Case] = &[
    ("24", "10,000 beacons a second from 1,000 addresses, without the code", without_code),
    ("24", "the same by somebody who has the code", with_code),
];

/// Addresses of one network: what IPv4 has room for, and then IPv6.
fn senders() -> Vec<IpAddr> {
    let v4 = (100..250).map(|host| IpAddr::V4(Ipv4Addr::new(192, 168, 77, host)));
    let v6 = (0..SENDERS).map(|host| IpAddr::V6(Ipv6Addr::new(0xfd68, 0x6600, 0x77, 0, 0, 0, 0x1000, host)));
    v4.chain(v6).take(SENDERS.into()).collect()
}

/// The frames of a flood, one or more of each sender.
fn frames(stage: &Stage, key: Option<&[u8; 32]>) -> Result<Vec<Vec<u8>>> {
    let told = stage.told(40_003, [7; 32]);
    let mut all = Vec::new();
    for sender in senders() {
        let bytes = beacon(CODE, FROM_JOINER, &Told { address: sender, ..told }, key)?;
        all.push(stage.mallory.frame(sender, None, HOP_LIMIT, &bytes)?);
    }
    Ok(all)
}

/// What a flood was, and what it cost.
struct Flooded {
    per_second: f64,
    growth_kib: u64,
    cpu: f64,
}

/// Floods for as long as it lasts, while `meanwhile` runs, and watches a device's memory.
fn flood(
    stage: &Stage,
    device: &Device,
    frames: &[Vec<u8>],
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Flooded> {
    let pid = device.daemon()?.pid();
    let before = Sample::of(pid)?;
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let (most, sent, done) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| most_memory(pid, &is_over));
        let flooder = scope.spawn(|| pour(stage, frames));
        let done = meanwhile();
        let sent = flooder.join();
        is_over.store(true, Ordering::Relaxed);
        (watcher.join(), sent, done)
    });
    let (Ok(most), Ok((sent, took))) = (most, sent) else { anyhow::bail!("a thread of the flood panicked") };
    done?;
    let per_second = f64::from(sent) / took.as_secs_f64();
    ensure!(per_second >= PER_SECOND_MIN, "only {per_second:.0} beacons a second were sent");
    let growth_kib = most?.saturating_sub(before.resident_kib);
    ensure!(growth_kib <= GROWTH_MAX_KIB, "memory grew by {growth_kib} KiB");
    let cpu = before.cpu_share_until(&Sample::of(pid)?, start.elapsed());
    Ok(Flooded { per_second, growth_kib, cpu })
}

/// The most memory a process has, until it is over.
fn most_memory(pid: u32, is_over: &AtomicBool) -> Result<u64> {
    let mut most = 0;
    while !is_over.load(Ordering::Relaxed) {
        most = most.max(Sample::of(pid)?.resident_kib);
        std::thread::sleep(SAMPLE_EVERY);
    }
    Ok(most)
}

/// Sends the frames over and over; gives how many were sent, and in what time.
fn pour(stage: &Stage, frames: &[Vec<u8>]) -> (u32, Duration) {
    let pause = Duration::from_secs(1) * PORTION / PER_SECOND;
    let start = Instant::now();
    let (mut next, mut sent, mut due) = (frames.iter().cycle(), 0, start);
    while start.elapsed() < FLOOD {
        for frame in next.by_ref().take(PORTION as usize) {
            sent += u32::from(stage.mallory.inject(frame));
        }
        // Whoever is late catches up, as far as it can.
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (sent, start.elapsed())
}

fn without_code(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let frames = frames(stage, None)?;
    let capture = stage.capture("flood")?;
    let mut paired = Duration::ZERO;
    let flooded = flood(stage, &stage.alice, &frames, || {
        std::thread::sleep(JOINS_AFTER);
        paired = stage.still_pairs(shown)?;
        Ok(())
    })?;
    let captured = capture.stop()?;
    let mut moved = stage.turned_to(&captured);
    let bob: Vec<IpAddr> = addresses(stage.bob.host().namespace())?.iter().map(|a| a.ip).collect();
    moved.retain(|ip| !bob.contains(ip));
    ensure!(moved.is_empty(), "alice turned to {} others, such as {:?}", moved.len(), moved.first());
    Ok(format!("{flooded}; paired in {} ms meanwhile; no other host was turned to", paired.as_millis()))
}

/// A photographed code is as good as lost, but what it costs the device and its neighbours has an end.
fn with_code(stage: &Stage, _: &Options) -> Result<String> {
    let shown = stage.offer(&["--yes"])?;
    let frames = frames(stage, Some(&shown.secrets.lan))?;
    let capture = stage.capture("flood")?;
    let flooded = flood(stage, &stage.alice, &frames, || Ok(()))?;
    let captured = capture.stop()?;
    let moved = stage.turned_to(&captured);
    ensure!(moved.len() <= TURNS_MAX, "alice turned to {} hosts", moved.len());
    answers_are_small(&captured)?;
    stage.alice.run(&["pair", "cancel", &shown.offer.session], None, COMMAND_LIMIT)?;
    let again = stage.offer(&["--yes"])?;
    let took = stage.still_pairs(again)?;
    Ok(format!("{flooded}; {} hosts were turned to; the next code paired in {} ms", moved.len(), took.as_millis()))
}

/// Nobody is sent more bytes to the port of beacons than came from there.
fn answers_are_small(captured: &Captured) -> Result<()> {
    let mut balance: BTreeMap<IpAddr, i64> = BTreeMap::new();
    for packet in &captured.packets {
        let Some(datagram) = packet.datagram().filter(|datagram| datagram.ends.to.port() == PORT) else { continue };
        let bytes = i64::try_from(datagram.payload.len()).context("a short payload")?;
        let (ends, sent) = (datagram.ends, packet.is_sent());
        *balance.entry(if sent { ends.to.ip() } else { ends.from.ip() }).or_default() +=
            if sent { -bytes } else { bytes };
    }
    let worst = balance.into_iter().filter(|(ip, _)| !ip.is_multicast()).min_by_key(|(_, balance)| *balance);
    let (ip, balance) = worst.context("no beacon was seen")?;
    ensure!(balance >= 0, "{ip} got {} bytes more than it sent", -balance);
    Ok(())
}

impl std::fmt::Display for Flooded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, growth, cpu) = (self.per_second, self.growth_kib, self.cpu * 100.0);
        write!(f, "{rate:.0} a second, memory +{growth} KiB, {cpu:.0} % of a processor")
    }
}
