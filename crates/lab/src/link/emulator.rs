//! The thread that carries frames between the two ends of every link of a lab.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::port::{FRAME_MAX, Port, Read};
use super::settings::{Direction, Link};
use crate::ns::{Namespace, ip_batch};
use crate::rng::Rng;

/// Frames read from one port before the others get their turn.
const BATCH: usize = 64;

/// Frames under way in all links together; more are dropped as by a full router. 65,536 full frames are 100 MB.
const IN_FLIGHT_MAX: usize = 65_536;

/// How much longer a frame takes that is chosen to be overtaken.
const REORDER_BY: Duration = Duration::from_millis(5);

/// The emulator stands for wires, which do not wait for the programs that are measured: it goes before them.
const NICE: i32 = -15;

/// Offloads that would put frames longer than the MTU, or without checksums, on the wire.
const OFFLOADS_OFF: [&str; 8] = ["tso", "off", "gso", "off", "gro", "off", "tx", "off"];

/// One outer end of a link: the interface that a host sees.
pub struct End<'a> {
    /// The host's namespace.
    pub namespace: &'a Namespace,
    /// The interface's name there (at most 15 characters).
    pub interface: &'a str,
    /// Its MAC address.
    pub mac: &'a str,
}

/// Gathers the links of a lab before their emulator starts.
pub struct EmulatorBuilder {
    namespace: Namespace,
    links: Vec<Link>,
    seed: u64,
}

/// The running emulator; dropping it stops the thread and takes the wires away.
pub struct Emulator {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
    _namespace: Namespace,
}

impl EmulatorBuilder {
    /// An emulator in a namespace of its own; `seed` decides which frames are lost.
    ///
    /// # Errors
    /// When IPv6 cannot be switched off inside, where it would put frames of its own on the wires.
    pub fn new(namespace: Namespace, seed: u64) -> Result<Self> {
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        Ok(Self { namespace, links: Vec::new(), seed })
    }

    /// Makes a link between two hosts, without delay at first, both interfaces up.
    ///
    /// # Errors
    /// When an interface cannot be made.
    pub fn link(&mut self, a: &End<'_>, b: &End<'_>) -> Result<Link> {
        let index = self.links.len();
        let inside = self.namespace.name();
        let mut commands = String::new();
        for (end, inner) in [(a, inner_name(index, 'a')), (b, inner_name(index, 'b'))] {
            let (outer, outside, mac) = (end.interface, end.namespace.name(), end.mac);
            // Writing to a String cannot fail.
            let _ = writeln!(
                commands,
                "link add name {inner} netns {inside} type veth peer name {outer} address {mac} netns {outside}"
            );
        }
        ip_batch(&commands)?;
        for end in [a, b] {
            let mut args = vec!["-K", end.interface];
            args.extend_from_slice(&OFFLOADS_OFF);
            end.namespace.tool("ethtool", &args)?;
            end.namespace.ip(&["link", "set", end.interface, "up"])?;
        }
        for inner in [inner_name(index, 'a'), inner_name(index, 'b')] {
            self.namespace.ip(&["link", "set", &inner, "up"])?;
        }
        let link = Link::default();
        self.links.push(link.clone());
        Ok(link)
    }

    /// Starts carrying frames; returns once every port is open.
    ///
    /// # Errors
    /// When a port cannot be opened.
    pub fn start(self) -> Result<Emulator> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let stop_seen = stop.try_clone()?;
        let inlets = self.namespace.enter(|| open_ports(&self.links))??;
        let seed = self.seed;
        let (ready, wait_ready) = mpsc::sync_channel::<()>(1);
        let thread = std::thread::Builder::new().name("lab-links".to_owned()).spawn(move || {
            // Without the right to go first the links are a little less punctual, nothing else.
            let _ = rustix::process::nice(NICE);
            let _ = ready.send(());
            carry(&inlets, &stop_seen, seed);
        })?;
        wait_ready.recv().context("the link emulator did not start")?;
        Ok(Emulator { stop, thread: Some(thread), _namespace: self.namespace })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The counter of a fresh eventfd has room for one.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

/// A port and the direction in which the frames go that are read from it; its peer is the neighbour (`index ^ 1`).
struct Inlet {
    port: Port,
    direction: Arc<Direction>,
}

/// A frame under way: when it is due, a number that keeps the order of equals, the port it leaves by, its bytes.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn inner_name(link: usize, side: char) -> String {
    format!("l{link}{side}")
}

fn open_ports(links: &[Link]) -> Result<Vec<Inlet>> {
    let mut inlets = Vec::new();
    for (index, link) in links.iter().enumerate() {
        for (side, direction) in [('a', &link.a_to_b), ('b', &link.b_to_a)] {
            inlets.push(Inlet { port: Port::open(&inner_name(index, side))?, direction: Arc::clone(direction) });
        }
    }
    Ok(inlets)
}

fn carry(inlets: &[Inlet], stop: &OwnedFd, seed: u64) {
    let mut wire = Wire::new(inlets, seed);
    let mut polled: Vec<PollFd<'_>> = inlets.iter().map(|inlet| PollFd::new(&inlet.port, PollFlags::IN)).collect();
    polled.push(PollFd::new(stop, PollFlags::IN));
    loop {
        let timeout = wire.time_to_next().map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        // An interrupted wait is a short one.
        let _ = poll(&mut polled, timeout.as_ref());
        if polled.last().is_some_and(|stop| !stop.revents().is_empty()) {
            return;
        }
        for (index, poll_fd) in polled.iter().enumerate().take(inlets.len()) {
            if !poll_fd.revents().is_empty() {
                wire.take_in(index);
            }
        }
        wire.hand_over_due();
    }
}

/// The frames under way.
struct Wire<'a> {
    inlets: &'a [Inlet],
    in_flight: BinaryHeap<InFlight>,
    /// Per inlet: its random state, and when the last frame in order is due, which later ones do not overtake.
    states: Vec<(Rng, Instant)>,
    sequence: u64,
    buffer: Vec<u8>,
}

impl<'a> Wire<'a> {
    fn new(inlets: &'a [Inlet], seed: u64) -> Self {
        let now = Instant::now();
        let mut seeds = Rng::new(seed);
        let states = inlets.iter().map(|_| (Rng::new(seeds.next_u64()), now)).collect();
        // One byte more than a frame may have, so that a longer one shows.
        Self { inlets, in_flight: BinaryHeap::new(), states, sequence: 0, buffer: vec![0; FRAME_MAX + 1] }
    }

    fn time_to_next(&self) -> Option<Duration> {
        self.in_flight.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()))
    }

    fn take_in(&mut self, index: usize) {
        for _ in 0..BATCH {
            match self.inlets[index].port.read(&mut self.buffer) {
                Ok(Read::Frame(length)) => self.send_off(index, length),
                Ok(Read::Oversize) => self.inlets[index].direction.count_oversize(),
                // A port that cannot be read any more carries nothing, as a broken wire does.
                Ok(Read::Empty) | Err(_) => return,
            }
        }
    }

    fn send_off(&mut self, index: usize, length: usize) {
        let direction = &self.inlets[index].direction;
        let (rng, last_due) = &mut self.states[index];
        let is_trapped = direction.is_trapped(&self.buffer[..length]);
        if is_trapped
            || direction.is_cut()
            || rng.happens(direction.loss_ppm())
            || self.in_flight.len() >= IN_FLIGHT_MAX
        {
            direction.count_dropped();
            return;
        }
        let mut due = Instant::now() + direction.delay();
        if rng.happens(direction.reorder_ppm()) {
            due += REORDER_BY;
        } else {
            due = due.max(*last_due);
            *last_due = due;
        }
        let copies = if rng.happens(direction.duplicate_ppm()) { 2 } else { 1 };
        for _ in 0..copies {
            self.sequence += 1;
            self.in_flight.push(Reverse((due, self.sequence, index, self.buffer[..length].to_vec())));
        }
    }

    fn hand_over_due(&mut self) {
        while self.in_flight.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, _, index, frame))) = self.in_flight.pop() else { return };
            let direction = &self.inlets[index].direction;
            if !direction.is_cut() && self.inlets[index ^ 1].port.write(&frame) {
                direction.count_delivered();
            } else {
                direction.count_dropped();
            }
        }
    }
}
