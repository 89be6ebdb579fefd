//! One window: what a device sends and remembers on the local network while one of its codes, or `pair nearby`, is open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::keys::LanKeys;
use crate::lan::io::ListenerId;
use crate::lan::{FamilyPorts, place};
use crate::secret::Rng;
use crate::session::Role;
use crate::time::Time;
use crate::wire::beacon::{Beacon, BeaconKind, Nid, Ports};
use crate::wire::info::DeviceName;

/// The first beacons are close together: who is there already hears one of them within a blink.
const EARLY_BEATS_MS: [u64; 4] = [0, 250, 500, 1_000];
/// Then every second for a minute, in which most people are done;
const BEAT: Duration = Duration::from_secs(1);
/// how long that is;
const BUSY_TIME: Duration = Duration::from_secs(60);
/// and then rarely, as long as the code lives.
const LATE_BEAT: Duration = Duration::from_secs(5);
/// The first beacon waits this long for the ports it is to name.
const PORTS_WAIT: Duration = Duration::from_millis(500);
/// A window is called by another id after this long, so that nobody can follow a device by it.
const NID_LIFE: Duration = Duration::from_secs(15 * 60);
/// Peers of a window that proved its code, or that are ready nearby; the oldest goes first.
pub(super) const MAX_PEERS: usize = 64;
/// Of them from one address.
pub(super) const MAX_PEERS_PER_SOURCE: usize = 4;
/// A device nearby that sends no beacon for this long is not in the list any more: three late ones are lost.
const NEARBY_SILENCE: Duration = Duration::from_secs(16);
/// One whose beacons do not reach us has only its calls and our own to show that it is there.
const NEARBY_SILENCE_WITHOUT_BEACONS: Duration = Duration::from_secs(120);
/// So devices nearby call each other again after this long.
pub(super) const NEARBY_CALL_AGAIN: Duration = Duration::from_secs(45);
/// Peers that a joiner's beacons also go to one by one: a multicast that reaches us need not pass the other way.
const MAX_DIRECT: usize = 4;
/// Hosts of the link that are told one by one;
const MAX_NEIGHBOURS: usize = 32;
/// again after this long, which is less than a firewall remembers an unanswered datagram (30 s on Linux).
const NEIGHBOUR_AGAIN: Duration = Duration::from_secs(20);
/// When a joiner who has heard nobody asks every host of its small networks (multicast may be off), after its start.
const SWEEPS_MS: [u64; 3] = [500, 8_000, 18_000];
/// A sweep sends this many at a time,
pub(super) const SWEEP_CHUNK: usize = 20;
/// and pauses as long: 200 a second.
pub(super) const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// Own addresses are called this long after the window opened: a pairing that takes a blink need not share its time.
const SELF_CHECK_AFTER: Duration = Duration::from_millis(300);
/// Where there was no room for a call, it is tried again after this long.
const SELF_CHECK_AGAIN: Duration = Duration::from_secs(1);
/// A registered self-check is good for this long.
pub(super) const SELF_CHECK_LIFE: Duration = Duration::from_secs(10);

/// What a window is for.
#[derive(Clone)]
pub enum Purpose {
    /// Holders of a code look for each other.
    Code {
        /// Which of them we are.
        role: Role,
        /// What they know each other by.
        keys: LanKeys,
    },
    /// Anybody nearby who is ready to pair as well.
    Nearby {
        /// What we want to be called in the others' lists.
        name: DeviceName,
    },
}

/// A device that this window has heard of, by a beacon or by a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) nid: Nid,
    /// The observed source, never what the peer says of itself.
    pub(super) ip: IpAddr,
    /// Our address on the same link.
    pub(super) own: IpAddr,
    pub(super) interface: u32,
    /// Every interface on which it was met: at the addresses of these it may reach us.
    pub(super) met_on: Vec<u32>,
    /// When it last showed that it is there: by a beacon, a call, or an answer to ours.
    pub(super) alive: Time,
    /// It has sent beacons that reach us.
    pub(super) beacons: bool,
    pub(super) ports: Ports,
    pub(super) spki: [u8; 32],
    /// It is to be called: it is new, or says something new, or we do.
    pub(super) due: bool,
    pub(super) called: Option<Time>,
    /// A call found it there, under this id and key.
    pub(super) answered: bool,
    pub(super) name: Option<DeviceName>,
}

/// What comes next.
pub(super) enum Due {
    Beat,
    Sweep,
    SelfCheck,
}

pub(super) struct Window {
    pub(super) purpose: Purpose,
    pub(super) nid: Nid,
    nid_since: Time,
    pub(super) listener: Listener,
    opened: Time,
    /// A code that is over is only answered for.
    pub(super) is_over: bool,
    beats: u32,
    next_beat: Time,
    pub(super) peers: Vec<Peer>,
    told: BTreeMap<Ipv4Addr, Time>,
    sweeps: usize,
    next_sweep: Option<Time>,
    queue: VecDeque<(u32, IpAddr, Ipv4Addr)>,
    self_check: Option<Time>,
    /// Registered codes of calls to ourselves, with the address each goes to.
    pub(super) registered: BTreeMap<[u8; 32], (IpAddr, Time)>,
    /// Addresses that have been called by ourselves.
    pub(super) checked: BTreeSet<IpAddr>,
}

/// Where calls to this window arrive.
#[derive(Clone, Copy)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) state: ListenerState,
}

#[derive(Clone, Copy)]
pub(super) enum ListenerState {
    Starting,
    Up { port: u16, spki: [u8; 32] },
    None,
}

impl Peer {
    /// When a device nearby counts as gone, unless it shows itself before.
    fn silent_at(&self) -> Time {
        self.alive + if self.beacons { NEARBY_SILENCE } else { NEARBY_SILENCE_WITHOUT_BEACONS }
    }
}

impl Window {
    pub(super) fn new(purpose: Purpose, listener: ListenerId, rng: &mut Rng, now: Time) -> Window {
        let sweeps = matches!(purpose, Purpose::Code { role: Role::Joiner, .. });
        Window {
            purpose,
            nid: Nid(rng.bytes()),
            nid_since: now,
            listener: Listener { id: listener, state: ListenerState::Starting },
            opened: now,
            is_over: false,
            beats: 0,
            next_beat: now,
            peers: Vec::new(),
            told: BTreeMap::new(),
            sweeps: 0,
            next_sweep: sweeps.then(|| now + Duration::from_millis(SWEEPS_MS[0])),
            queue: VecDeque::new(),
            self_check: Some(now + SELF_CHECK_AFTER),
            registered: BTreeMap::new(),
            checked: BTreeSet::new(),
        }
    }

    pub(super) fn keys(&self) -> Option<&LanKeys> {
        match &self.purpose {
            Purpose::Code { keys, .. } => Some(keys),
            Purpose::Nearby { .. } => None,
        }
    }

    pub(super) fn role(&self) -> Option<Role> {
        match &self.purpose {
            Purpose::Code { role, .. } => Some(*role),
            Purpose::Nearby { .. } => None,
        }
    }

    pub(super) fn spki(&self) -> [u8; 32] {
        match self.listener.state {
            ListenerState::Up { spki, .. } => spki,
            ListenerState::Starting | ListenerState::None => [0; 32],
        }
    }

    pub(super) fn confirm_port(&self) -> u16 {
        match self.listener.state {
            ListenerState::Up { port, .. } => port,
            ListenerState::Starting | ListenerState::None => 0,
        }
    }

    /// The bytes of a beacon sent from `address`.
    pub(super) fn beacon(&self, address: IpAddr, ports: Ports, rng: &mut Rng) -> [u8; 112] {
        let kind = match &self.purpose {
            Purpose::Code { role, .. } => BeaconKind::Code { from_joiner: *role == Role::Joiner },
            Purpose::Nearby { .. } => BeaconKind::Nearby,
        };
        let ports = Ports { confirm: self.confirm_port(), ..ports };
        let beacon = Beacon { kind, nid: self.nid, nonce: rng.bytes(), address, ports, spki: self.spki() };
        match self.keys() {
            Some(keys) => beacon.sealed(keys),
            None => beacon.open(),
        }
    }

    /// Whether a beacon can be sent: it names the ports, so it waits a moment for them.
    pub(super) fn is_ready(&self, ports: FamilyPorts, now: Time) -> bool {
        let listening = !matches!(self.listener.state, ListenerState::Starting);
        let known = listening && ports.are_known();
        known || now.since(self.opened) >= PORTS_WAIT
    }

    /// What is due now, the soonest first; each is told once.
    pub(super) fn due(&mut self, ports: FamilyPorts, now: Time) -> Option<Due> {
        if self.is_over {
            return None;
        }
        if self.next_beat <= now && self.is_ready(ports, now) {
            self.beats += 1;
            self.next_beat = self.beat_after(now);
            return Some(Due::Beat);
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            return Some(Due::Sweep);
        }
        if self.self_check.is_some_and(|at| at <= now) {
            self.self_check = None;
            return Some(Due::SelfCheck);
        }
        None
    }

    pub(super) fn deadline(&self, ports: FamilyPorts, now: Time) -> Option<Time> {
        if self.is_over {
            return None;
        }
        let beat = if self.is_ready(ports, now) { self.next_beat } else { self.opened + PORTS_WAIT };
        let rotation = self.nid_since + NID_LIFE;
        let registered = self.registered.values().map(|(_, until)| *until).min();
        let silent = self.next_silent();
        [Some(beat), Some(rotation), self.next_sweep, self.self_check, registered, silent].into_iter().flatten().min()
    }

    fn beat_after(&self, now: Time) -> Time {
        let early = usize::try_from(self.beats).ok().and_then(|n| EARLY_BEATS_MS.get(n));
        match early {
            Some(ms) => self.opened + Duration::from_millis(*ms),
            None if now.since(self.opened) < BUSY_TIME => now + BEAT,
            None => now + LATE_BEAT,
        }
    }

    /// The next beacon goes out at once: what it says has changed.
    pub(super) fn beat_now(&mut self, now: Time) {
        self.next_beat = now;
    }

    /// Takes another id, and a new listener under `id`, if the old ones have been in use for too long.
    pub(super) fn rotate(&mut self, id: impl FnOnce() -> ListenerId, rng: &mut Rng, now: Time) -> Option<ListenerId> {
        if now.since(self.nid_since) < NID_LIFE || self.is_over {
            return None;
        }
        (self.nid, self.nid_since) = (Nid(rng.bytes()), now);
        let old = std::mem::replace(&mut self.listener, Listener { id: id(), state: ListenerState::Starting });
        // Who does not hear our beacons learns the new id by a call.
        self.peers.iter_mut().for_each(|peer| peer.due = true);
        Some(old.id)
    }

    /// The part of a sweep that is due. Whoever was heard of meanwhile ends it.
    pub(super) fn sweep_chunk(
        &mut self,
        all: impl FnOnce() -> Vec<(u32, IpAddr, Ipv4Addr)>,
        now: Time,
    ) -> (bool, Vec<(u32, IpAddr, Ipv4Addr)>) {
        if !self.peers.is_empty() {
            self.queue.clear();
            self.next_sweep = None;
            return (false, Vec::new());
        }
        let begins = self.queue.is_empty();
        if begins {
            self.sweeps += 1;
            self.queue = all().into();
        }
        let chunk: Vec<_> = self.queue.drain(..SWEEP_CHUNK.min(self.queue.len())).collect();
        self.next_sweep = if self.queue.is_empty() {
            SWEEPS_MS.get(self.sweeps).map(|ms| (self.opened + Duration::from_millis(*ms)).max(now + SWEEP_PAUSE))
        } else {
            Some(now + SWEEP_PAUSE)
        };
        (begins, chunk)
    }

    /// Whether this host of the link is to be told now.
    pub(super) fn tell(&mut self, host: Ipv4Addr, now: Time) -> bool {
        self.told.retain(|_, at| now.since(*at) < NEIGHBOUR_AGAIN);
        if self.is_over || self.told.contains_key(&host) || self.told.len() >= MAX_NEIGHBOURS {
            return false;
        }
        self.told.insert(host, now);
        true
    }

    /// Peers that beacons go to one by one.
    pub(super) fn direct(&self) -> impl Iterator<Item = &Peer> {
        let is_joiner = self.role() == Some(Role::Joiner);
        self.peers.iter().filter(move |_| is_joiner).take(MAX_DIRECT)
    }

    /// Remembers a peer; gives its place if anything about where it is was new.
    pub(super) fn heard(&mut self, peer: Peer) -> Option<usize> {
        if let Some(index) = self.peers.iter().position(|p| p.nid == peer.nid && p.ip == peer.ip) {
            let known = &mut self.peers[index];
            // Id and key change together: this is somebody else, in a datagram that bears its address.
            if known.answered && known.spki != peer.spki {
                return None;
            }
            known.alive = peer.alive;
            known.beacons |= peer.beacons;
            let elsewhere = !known.met_on.contains(&peer.interface) && known.met_on.len() < place::MAX_INTERFACES;
            if elsewhere {
                known.met_on.push(peer.interface);
            }
            let changed = known.ports != peer.ports || known.spki != peer.spki;
            if changed {
                (known.ports, known.spki, known.due) = (peer.ports, peer.spki, true);
            }
            return (changed || elsewhere && self.keys().is_none()).then_some(index);
        }
        let of_source = self.peers.iter().filter(|p| p.ip == peer.ip).count();
        // What people are shown stays, so that nobody can take its place while they choose.
        if self.keys().is_none() && (of_source >= MAX_PEERS_PER_SOURCE || self.peers.len() >= MAX_PEERS) {
            return None;
        }
        if of_source >= MAX_PEERS_PER_SOURCE {
            let oldest = self.peers.iter().position(|p| p.ip == peer.ip)?;
            self.peers.remove(oldest);
        } else if self.peers.len() >= MAX_PEERS {
            self.peers.remove(0);
        }
        self.peers.push(peer);
        Some(self.peers.len() - 1)
    }

    /// Takes out the devices nearby that have fallen silent.
    pub(super) fn silent(&mut self, now: Time) -> Vec<(Nid, IpAddr)> {
        if self.keys().is_some() {
            return Vec::new();
        }
        self.peers.extract_if(.., |p| p.silent_at() <= now).map(|p| (p.nid, p.ip)).collect()
    }

    fn next_silent(&self) -> Option<Time> {
        self.peers.iter().filter(|_| self.keys().is_none()).map(Peer::silent_at).min()
    }

    /// An address could not be called now.
    pub(super) fn check_later(&mut self, ip: IpAddr, now: Time) {
        self.checked.remove(&ip);
        self.self_check = Some(now + SELF_CHECK_AGAIN);
    }

    /// Own addresses that a call is due to.
    pub(super) fn unchecked(&mut self, surroundings: &crate::lan::io::Surroundings) -> Vec<IpAddr> {
        let own: Vec<IpAddr> = place::usable(surroundings).into_iter().flat_map(place::sources).collect();
        own.into_iter().filter(|ip| self.checked.insert(*ip)).collect()
    }
}
