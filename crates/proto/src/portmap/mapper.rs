//! When which router is asked for which port, and what is believed of its answers.
//!
//! A mapping is asked for while it is wanted, a second after the start or a change of the network, one job at a time. It
//! is written down before a router hears of it, so that a device that dies can take it back when it starts again. What is
//! no longer wanted is taken back as soon as its router is there.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{Granted, Job, Mapping, Method, Outcome, Refusal, Task};
use crate::addr::{Address, Class, Transport, classify};
use crate::secret::Rng;
use crate::time::Time;

/// A device that has just started, or changed its network, has better things to do at first: addresses come one by one.
const SETTLE: Duration = Duration::from_secs(1);

/// What is asked for. A device that dies and never starts again leaves a hole for no longer than this.
const LEASE: u32 = 1_800;
/// A shorter lease is not worth the way: it would be renewed all the time.
const LEASE_MIN: u32 = 60;
/// A router may say more, or for ever; that it still holds is looked at after half of this.
const LEASE_MAX: u32 = 7_200;

/// The pause after the first time that nothing came of a router; it doubles up to the second one.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(1_800);

/// The pause after a renewal or a removal has failed. A held mapping is renewed at half its time, so that many fit in.
const AGAIN: Duration = Duration::from_secs(15);

/// How often a router that had a mapping of ours is asked for it again before it counts as lost: after a sleep, or a break of
/// the power, a router may need a while longer than we do.
const KNOWN_TRIES: u32 = 4;
/// How often a removal is tried. After that the lease has to end it.
const REMOVALS: u32 = 3;

/// Routers that are asked: most devices have one, some a second for another uplink.
const MAX_GATEWAYS: usize = 2;
/// Other ports that are tried where somebody else has ours.
const MAX_OTHERS: u32 = 4;
/// Mappings that wait to be taken back, perhaps until their router is there again. The oldest goes first.
const MAX_REMOVALS: usize = 8;
/// Mappings that are written down at most: those, and two for each router.
pub const MAX_KEPT: usize = MAX_REMOVALS + 2 * MAX_GATEWAYS;

/// Ports to choose from that belong to no service (RFC 6335).
const FIRST_DYNAMIC: u16 = 49_152;

/// A router that leads out, and our address on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uplink {
    /// The router.
    pub gateway: Ipv4Addr,
    /// Our address.
    pub source: Ipv4Addr,
}

/// Says what routers are to be asked. Its owner does each [`Job`] and reports what came of it, and writes down what
/// [`Mapper::poll_keep`] hands out.
pub struct Mapper {
    enabled: bool,
    wanted: bool,
    rng: Rng,
    /// Nothing is asked before.
    settled: Time,
    gateways: Vec<Gateway>,
    slots: Vec<Slot>,
    removals: VecDeque<Removal>,
    running: Option<Job>,
    /// What is to be written down, as it was handed out last.
    told: Vec<Mapping>,
    /// What is.
    durable: Vec<Mapping>,
}

struct Gateway {
    uplink: Uplink,
    /// How it is asked first.
    method: Method,
    /// Times in a row that nothing came of it.
    vain: u32,
}

/// A place of ours that others are to reach.
struct Slot {
    uplink: Uplink,
    inside: SocketAddrV4,
    transport: Transport,
    /// When it is asked for, or for more time.
    due: Time,
    state: State,
    /// How it was asked for first: all ways have been tried when it is this one's turn again.
    began: Method,
    /// Other ports that were tried.
    others: u32,
    /// The router gives ports for ever only.
    permanent: bool,
    /// How often the router is still asked for what it has had mapped, though it does not seem to be there.
    known: u32,
}

enum State {
    /// Nothing is asked for.
    Idle,
    /// It is about to be.
    Asking(Mapping),
    /// It is there.
    Held { mapping: Mapping, outside: SocketAddrV4, ends: Time },
}

struct Removal {
    mapping: Mapping,
    due: Time,
    tries: u32,
}

impl Mapper {
    /// Nothing is known of this network. `left`: what was written down in an earlier run.
    pub fn new(enabled: bool, left: Vec<Mapping>, rng: Rng) -> Mapper {
        let removal = |mapping| Removal { mapping, due: Time::ZERO, tries: 0 };
        let (told, durable) = (left.clone(), left.clone());
        let removals = left.into_iter().take(MAX_REMOVALS).map(removal).collect();
        Mapper {
            enabled,
            wanted: false,
            rng,
            settled: Time::ZERO,
            gateways: Vec::new(),
            slots: Vec::new(),
            removals,
            running: None,
            told,
            durable,
        }
    }

    /// These routers lead out now, and here we listen. Only private addresses count, ours and the router's: elsewhere
    /// nothing is translated.
    pub fn set_surroundings(&mut self, uplinks: &[Uplink], listeners: &[Address], now: Time) {
        let is_inside = |ip: Ipv4Addr| matches!(classify(ip.into()), Class::Private | Class::Shared);
        let mut uplinks: Vec<Uplink> = uplinks.to_vec();
        uplinks.retain(|u| is_inside(u.gateway) && is_inside(u.source) && u.gateway != u.source);
        uplinks.dedup();
        uplinks.truncate(MAX_GATEWAYS);
        if !self.gateways.iter().map(|g| &g.uplink).eq(&uplinks) {
            self.gateways = uplinks.iter().map(|uplink| Gateway::new(*uplink)).collect();
            self.settled = now + SETTLE;
        }
        let places: Vec<(Uplink, Address)> = uplinks.iter().flat_map(|uplink| places(*uplink, listeners)).collect();
        let is_gone = |slot: &Slot| !places.iter().any(|place| slot.is_at(place));
        while let Some(at) = self.slots.iter().position(is_gone) {
            let slot = self.slots.remove(at);
            self.take_back(&slot.state, now);
        }
        for place in places {
            if !self.slots.iter().any(|slot| slot.is_at(&place)) {
                let (uplink, Address { port, transport, .. }) = place;
                let inside = SocketAddrV4::new(uplink.source, port);
                let due = now.max(self.settled);
                let (state, began, others, permanent, known) = (State::Idle, Method::Pcp, 0, false, 0);
                self.slots.push(Slot { uplink, inside, transport, due, state, began, others, permanent, known });
            }
        }
    }

    /// What was mapped may not hold any more, whether the routers have the same addresses or not.
    pub fn moved(&mut self, now: Time) {
        self.settled = now + SETTLE;
        for gateway in &mut self.gateways {
            *gateway = Gateway::new(gateway.uplink);
        }
        for slot in &mut self.slots {
            if let State::Held { mapping, .. } | State::Asking(mapping) = slot.state {
                (slot.state, slot.began) = (State::Asking(mapping), mapping.method);
            }
            (slot.due, slot.others, slot.permanent, slot.known) = (self.settled, 0, false, 0);
        }
    }

    /// As [`Mapper::moved`], after a sleep: most likely in front of the same router, which may be up a while later than we
    /// are. What it was asked for by UPnP it may have for ever; the others' mappings end by themselves.
    pub fn resumed(&mut self, now: Time) {
        self.moved(now);
        let is_known = |slot: &&mut Slot| matches!(slot.state, State::Asking(m) if m.method == Method::Upnp);
        self.slots.iter_mut().filter(is_known).for_each(|slot| slot.known = KNOWN_TRIES);
    }

    /// Whether somebody may want to reach us.
    pub fn set_wanted(&mut self, wanted: bool, now: Time) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let state = std::mem::replace(&mut slot.state, State::Idle);
            if !matches!(state, State::Idle) {
                slot.due = now;
            }
            self.take_back(&state, now);
        }
    }

    /// Ends what is over and chooses what to ask for next.
    pub fn handle_timeout(&mut self, now: Time) {
        for slot in &mut self.slots {
            if let State::Held { ends, .. } = slot.state
                && ends <= now
            {
                slot.state = State::Idle;
            }
        }
        let is_asking = self.slots.iter().any(|slot| matches!(slot.state, State::Asking(_)));
        if !self.enabled || !self.wanted || is_asking || self.settled > now {
            return;
        }
        // Not while the same is being taken back: it would be lost.
        let is_busy = |slot: &Slot| self.running.is_some_and(|job| slot.is_same(&job.mapping));
        let is_due = |slot: &Slot| matches!(slot.state, State::Idle) && slot.due <= now && !is_busy(slot);
        if let Some(index) = self.slots.iter().position(is_due) {
            let mapping = self.choose(index);
            (self.slots[index].state, self.slots[index].began) = (State::Asking(mapping), mapping.method);
        }
    }

    /// What is to be written down now, if that has changed. [`Mapper::kept`] says when it is.
    pub fn poll_keep(&mut self) -> Option<Vec<Mapping>> {
        let waiting = self.removals.iter().map(|removal| removal.mapping);
        let wanted: Vec<Mapping> = waiting.chain(self.slots.iter().filter_map(Slot::mapping)).collect();
        (wanted != self.told).then(|| {
            self.told.clone_from(&wanted);
            wanted
        })
    }

    /// This is written down.
    pub fn kept(&mut self, mappings: Vec<Mapping>) {
        self.durable = mappings;
    }

    /// The next job that is due. There is one at a time; removals come first.
    pub fn poll_job(&mut self, now: Time) -> Option<Job> {
        if !self.enabled || self.running.is_some() || self.settled > now {
            return None;
        }
        let removal = self.removals.iter().find(|removal| removal.due <= now && self.is_near(&removal.mapping));
        let removal = removal.map(|removal| Job { mapping: removal.mapping, task: Task::Unmap });
        let renewal = || {
            let slot = self.slots.iter().find(|slot| slot.due <= now && self.is_ready(slot))?;
            let lease = if slot.permanent { 0 } else { LEASE };
            Some(Job { mapping: slot.mapping()?, task: Task::Map { lease } })
        };
        self.running = removal.or_else(renewal);
        self.running
    }

    /// When [`Mapper::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.enabled {
            return None;
        }
        let ends = self.slots.iter().filter_map(|slot| match slot.state {
            State::Held { ends, .. } => Some(ends),
            State::Idle | State::Asking(_) => None,
        });
        if self.running.is_some() {
            return ends.min();
        }
        let is_asking = self.slots.iter().any(|slot| matches!(slot.state, State::Asking(_)));
        let may_begin = |slot: &&Slot| self.wanted && !is_asking && matches!(slot.state, State::Idle);
        let slots = self.slots.iter().filter(|slot| self.is_ready(slot) || may_begin(slot)).map(|slot| slot.due);
        let removals = self.removals.iter().filter(|r| self.is_near(&r.mapping)).map(|removal| removal.due);
        ends.chain(slots.chain(removals).map(|due| due.max(self.settled))).min()
    }

    /// What came of a job.
    pub fn done(&mut self, job: Job, outcome: Outcome, now: Time) {
        self.running = None;
        match job.task {
            Task::Unmap => self.removed(&job.mapping, outcome, now),
            Task::Map { .. } => {
                let is_meant = |slot: &Slot| slot.mapping() == Some(job.mapping);
                // Whatever is no longer wanted waits to be taken back already.
                if let Some(index) = self.slots.iter().position(is_meant) {
                    match outcome {
                        Outcome::Mapped(granted) => self.granted(index, job.mapping, granted, now),
                        Outcome::Failed(refusal) => self.refused(index, job.mapping, refusal, now),
                        Outcome::Removed => self.refused(index, job.mapping, Refusal::Refused, now),
                    }
                }
            }
        }
    }

    /// Where routers let others in to us.
    pub fn outside(&self) -> impl Iterator<Item = Address> {
        self.slots.iter().filter_map(|slot| match slot.state {
            State::Held { outside, .. } => {
                Some(Address { ip: (*outside.ip()).into(), port: outside.port(), transport: slot.transport })
            }
            State::Idle | State::Asking(_) => None,
        })
    }

    /// Whether nothing is left to be done at this moment for what is not wanted.
    pub fn is_idle(&self, now: Time) -> bool {
        let is_due = |removal: &Removal| removal.due <= now && self.is_near(&removal.mapping);
        !self.enabled || (self.running.is_none() && !self.removals.iter().any(is_due))
    }

    fn removed(&mut self, mapping: &Mapping, outcome: Outcome, now: Time) {
        let Some(at) = self.removals.iter().position(|removal| removal.mapping == *mapping) else { return };
        let removal = &mut self.removals[at];
        removal.tries += 1;
        removal.due = now + AGAIN;
        // A router that refuses will do so again.
        let is_over = !matches!(outcome, Outcome::Failed(Refusal::Silent)) || removal.tries >= REMOVALS;
        if is_over {
            self.removals.remove(at);
        }
    }

    fn granted(&mut self, index: usize, mapping: Mapping, granted: Granted, now: Time) {
        let Granted { outside, lease } = granted;
        let lease = if lease == 0 { LEASE_MAX } else { lease.min(LEASE_MAX) };
        // An address that is not public is that of another NAT, which this router is behind.
        let is_believed = classify(IpAddr::V4(*outside.ip())) == Class::Public && outside.port() != 0;
        if !is_believed || lease < LEASE_MIN {
            let state = std::mem::replace(&mut self.slots[index].state, State::Idle);
            self.take_back(&state, now);
            self.pause(index, now);
            return;
        }
        let slot = &mut self.slots[index];
        // The same is asked for when it is renewed.
        let mapping = Mapping { outside_port: outside.port(), ..mapping };
        let lease = Duration::from_secs(lease.into());
        (slot.due, slot.others, slot.known) = (now + lease / 2, 0, 0);
        slot.state = State::Held { mapping, outside, ends: now + lease };
        let uplink = slot.uplink;
        if let Some(gateway) = self.gateway(uplink) {
            (gateway.method, gateway.vain) = (mapping.method, 0);
        }
    }

    fn refused(&mut self, index: usize, mapping: Mapping, refusal: Refusal, now: Time) {
        let other_port = FIRST_DYNAMIC + self.rng.below(u64::from(u16::MAX - FIRST_DYNAMIC)) as u16;
        let slot = &mut self.slots[index];
        match (refusal, &slot.state) {
            (Refusal::OnlyPermanent, _) if !slot.permanent => {
                (slot.permanent, slot.due) = (true, now);
            }
            (Refusal::Taken, _) if slot.others < MAX_OTHERS => {
                slot.others += 1;
                slot.state = State::Asking(Mapping { outside_port: other_port, ..mapping });
                slot.due = now;
            }
            // It may be deaf for a moment; the mapping ends by itself.
            (Refusal::Silent, State::Held { ends, .. }) if *ends > now => slot.due = now + AGAIN,
            (_, _) => self.next_method(index, mapping, refusal, now),
        }
    }

    fn next_method(&mut self, index: usize, mapping: Mapping, refusal: Refusal, now: Time) {
        let slot = &mut self.slots[index];
        (slot.others, slot.permanent) = (0, false);
        let uplink = slot.uplink;
        if slot.known > 0 && matches!(refusal, Refusal::Silent | Refusal::Unsupported) {
            // It may not be up again yet, and has the mapping.
            slot.known -= 1;
            if slot.known > 0 {
                slot.due = now + AGAIN;
                return;
            }
            slot.state = State::Idle;
            self.take_back(&State::Asking(mapping), now);
            self.pause(index, now);
            return;
        }
        slot.known = 0;
        let method = mapping.method.next();
        if method == slot.began {
            slot.state = State::Idle;
            if mapping.method == Method::Upnp && refusal == Refusal::Silent {
                // It may have been mapped all the same, and for ever.
                self.take_back(&State::Asking(mapping), now);
            }
            self.pause(index, now);
            return;
        }
        slot.state = State::Asking(Mapping { method, outside_port: slot.inside.port(), ..mapping });
        slot.due = now;
        if let Some(gateway) = self.gateway(uplink) {
            gateway.method = method;
        }
    }

    /// Nothing comes of this router: none of the places behind it is asked for before the pause is over.
    fn pause(&mut self, index: usize, now: Time) {
        let uplink = self.slots[index].uplink;
        let Some(gateway) = self.gateway(uplink) else { return };
        let pause = (RETRY_MIN * 2u32.saturating_pow(gateway.vain)).min(RETRY_MAX);
        gateway.vain = gateway.vain.saturating_add(1);
        gateway.method = Method::Pcp;
        for slot in self.slots.iter_mut().filter(|slot| slot.uplink == uplink) {
            if matches!(slot.state, State::Idle) {
                slot.due = now + pause;
            }
        }
    }

    /// What a slot asks for: the same as in an earlier run, where that is still to be taken back.
    fn choose(&mut self, index: usize) -> Mapping {
        let slot = &self.slots[index];
        let (uplink, inside, transport) = (slot.uplink, slot.inside, slot.transport);
        if let Some(at) = self.removals.iter().position(|removal| slot.is_same(&removal.mapping))
            && let Some(removal) = self.removals.remove(at)
        {
            return removal.mapping;
        }
        let method = self.gateway(uplink).map_or(Method::Pcp, |gateway| gateway.method);
        let (gateway, outside_port, nonce) = (uplink.gateway, inside.port(), self.rng.bytes());
        Mapping { gateway, method, inside, transport, outside_port, nonce }
    }

    /// Has the mapping of a place taken back, if there may be one.
    fn take_back(&mut self, state: &State, now: Time) {
        let (State::Asking(mapping) | State::Held { mapping, .. }) = *state else { return };
        if self.removals.iter().any(|removal| removal.mapping == mapping) {
            return;
        }
        if self.removals.len() >= MAX_REMOVALS {
            self.removals.pop_front();
        }
        self.removals.push_back(Removal { mapping, due: now, tries: 0 });
    }

    fn gateway(&mut self, uplink: Uplink) -> Option<&mut Gateway> {
        self.gateways.iter_mut().find(|gateway| gateway.uplink == uplink)
    }

    /// Whether its router is there, and we are who asked for it.
    fn is_near(&self, mapping: &Mapping) -> bool {
        let uplink = Uplink { gateway: mapping.gateway, source: *mapping.inside.ip() };
        self.gateways.iter().any(|gateway| gateway.uplink == uplink)
    }

    /// Whether what it asks for is written down.
    fn is_ready(&self, slot: &Slot) -> bool {
        slot.mapping().is_some_and(|mapping| self.durable.contains(&mapping))
    }
}

impl Gateway {
    fn new(uplink: Uplink) -> Gateway {
        Gateway { uplink, method: Method::Pcp, vain: 0 }
    }
}

impl Slot {
    fn is_at(&self, (uplink, listener): &(Uplink, Address)) -> bool {
        self.uplink == *uplink && self.inside.port() == listener.port && self.transport == listener.transport
    }

    /// Whether a mapping leads to this place.
    fn is_same(&self, mapping: &Mapping) -> bool {
        let place = (self.uplink.gateway, self.inside, self.transport);
        (mapping.gateway, mapping.inside, mapping.transport) == place
    }

    fn mapping(&self) -> Option<Mapping> {
        match self.state {
            State::Idle => None,
            State::Asking(mapping) | State::Held { mapping, .. } => Some(mapping),
        }
    }
}

/// Where we listen at our address on the way to a router: one port of either transport.
fn places(uplink: Uplink, listeners: &[Address]) -> impl Iterator<Item = (Uplink, Address)> {
    [Transport::Quic, Transport::Tcp].into_iter().filter_map(move |transport| {
        let is_meant = |a: &&Address| a.ip == IpAddr::V4(uplink.source) && a.transport == transport && a.port != 0;
        listeners.iter().find(is_meant).map(|listener| (uplink, *listener))
    })
}

#[cfg(test)]
mod tests;
