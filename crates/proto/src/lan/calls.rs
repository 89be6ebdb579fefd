//! Confirmation calls (section 6.4): "I reach you at this address", and calls to ourselves. What they prove is small and
//! named: an inbound call of somebody else confirms an address, a call to ourselves does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::addresses::Evidence;
use crate::lan::io::{CallFailure, CallId, Command, InCall, InCallId, OutCall};
use crate::lan::window::{NEARBY_CALL_AGAIN, Peer, Purpose, SELF_CHECK_LIFE};
use crate::lan::{Event, Lan, WindowId, nearby_device, place};
use crate::time::Time;
use crate::wire::beacon::{Nid, Ports};
use crate::wire::confirm::{Answer, CONFIRM_LEN, Call, Op, Status};

/// Calls that run at the same time.
const MAX_RUNNING: usize = 8;
/// Calls to others in a minute (section 12).
const MAX_PER_MINUTE: usize = 20;
/// Of them to peers that were called before,
const MAX_AGAIN_PER_MINUTE: usize = 10;
/// and to newcomers: neither the ones nor the others can use up all of them.
const MAX_NEW_PER_MINUTE: usize = 14;
/// Shortest pause between two calls to one peer.
const CALL_AGAIN: Duration = Duration::from_secs(5);
/// Ports below are not called: no listener chosen by a system is there, and other services are.
const MIN_PORT: u16 = 1024;
/// A call that its driver has not ended by then is forgotten: 2 s to connect, 2 s to answer, and a moment.
const FORGET: Duration = Duration::from_secs(6);

/// The calls of a device.
#[derive(Default)]
pub(super) struct Calls {
    next: u64,
    running: BTreeMap<CallId, Running>,
    /// When others were called in the last minute, and whether they had been called before.
    made: std::collections::VecDeque<(Time, bool)>,
}

struct Running {
    window: WindowId,
    to: Callee,
    echo: [u8; 32],
    until: Time,
}

#[derive(Clone, Copy)]
enum Callee {
    /// Its id, address, and the key that it must have.
    Peer(Nid, IpAddr, [u8; 32]),
    Ourselves(IpAddr),
}

impl Calls {
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.running.values().map(|r| r.until).min()
    }

    fn has_room(&self) -> bool {
        self.running.len() < MAX_RUNNING
    }

    fn forget(&mut self, now: Time) {
        self.running.retain(|_, r| r.until > now);
        while self.made.front().is_some_and(|(at, _)| now.since(*at) >= Duration::from_secs(60)) {
            self.made.pop_front();
        }
    }

    /// Whether one more peer may be called that was, or was not, called before.
    fn may_call(&self, again: bool) -> bool {
        let alike = self.made.iter().filter(|(_, a)| *a == again).count();
        let most = if again { MAX_AGAIN_PER_MINUTE } else { MAX_NEW_PER_MINUTE };
        alike < most && self.made.len() < MAX_PER_MINUTE
    }

    fn start(&mut self, window: WindowId, to: Callee, echo: [u8; 32], now: Time) -> CallId {
        self.next += 1;
        let id = CallId(self.next);
        self.running.insert(id, Running { window, to, echo, until: now + FORGET });
        id
    }
}

impl Lan {
    /// Calls whoever is to be called, as far as that is allowed now.
    pub(super) fn start_calls(&mut self, now: Time) {
        self.calls.forget(now);
        let ids: Vec<WindowId> = self.windows.keys().copied().collect();
        for id in ids {
            while self.calls.has_room()
                && let Some(index) = self.next_to_call(id, now)
            {
                self.call_peer(id, index, now);
            }
        }
    }

    /// The peer of a window that is called next: who was not called yet, then who has answered before, and of several the
    /// one that waits longest. Whoever has news all the time waits like the others.
    fn next_to_call(&self, id: WindowId, now: Time) -> Option<usize> {
        let window = self.windows.get(&id).filter(|w| !w.is_over && w.confirm_port() != 0)?;
        let since = |p: &Peer, wait| p.called.is_none_or(|at| now.since(at) >= wait);
        let callable = |p: &Peer| {
            let listens = p.ports.confirm >= MIN_PORT && p.spki != [0; 32];
            listens && window.peers.iter().filter(|other| other.ip == p.ip).all(|other| since(other, CALL_AGAIN))
        };
        let due = |p: &Peer| p.due || window.keys().is_none() && since(p, NEARBY_CALL_AGAIN);
        let wanted = |p: &Peer| due(p) && callable(p) && self.calls.may_call(p.called.is_some());
        let peers = window.peers.iter().enumerate().filter(|(_, p)| wanted(p));
        peers.min_by_key(|(_, p)| (p.called.is_some(), !p.answered, p.called)).map(|(index, _)| index)
    }

    fn call_peer(&mut self, id: WindowId, index: usize, now: Time) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        let peer = &mut window.peers[index];
        self.calls.made.push_back((now, peer.called.is_some()));
        (peer.due, peer.called) = (false, Some(now));
        let (nid, ip, own, ports, spki) = (peer.nid, peer.ip, peer.own, peer.ports, peer.spki);
        let call = Call {
            op: Op::Ping,
            from: window.nid,
            to: nid,
            dialled: ip,
            address: own,
            ports: Ports { confirm: window.confirm_port(), ..self.ports.of(own) },
            spki: window.spki(),
            code: self.rng.bytes(),
        };
        let request = Box::new(call.to_bytes(window.keys()));
        let call_id = self.calls.start(id, Callee::Peer(nid, ip, spki), call.echo(), now);
        let to = SocketAddr::new(ip, ports.confirm);
        self.command(Command::Call(call_id, OutCall { to, from: own, spki, request }));
    }

    /// Calls our own listener at every address of ours, and at each only once in a window.
    pub(super) fn check_own_addresses(&mut self, id: WindowId, now: Time) {
        let Some(window) = self.windows.get_mut(&id) else { return };
        for ip in window.unchecked(&self.surroundings) {
            if !self.self_check(id, ip, now)
                && let Some(window) = self.windows.get_mut(&id)
            {
                window.check_later(ip, now);
            }
        }
    }

    /// False if there is no room for one more call, or no listener yet.
    fn self_check(&mut self, id: WindowId, ip: IpAddr, now: Time) -> bool {
        let Some(window) = self.windows.get_mut(&id) else { return false };
        if !self.calls.has_room() || window.confirm_port() == 0 {
            return false;
        }
        let call = Call {
            op: Op::SelfCheck,
            from: window.nid,
            to: window.nid,
            dialled: ip,
            address: ip,
            ports: Ports { confirm: window.confirm_port(), ..self.ports.of(ip) },
            spki: window.spki(),
            code: self.rng.bytes(),
        };
        window.registered.insert(call.code, (ip, now + SELF_CHECK_LIFE));
        let request = Box::new(call.to_bytes(window.keys()));
        let (to, spki) = (SocketAddr::new(ip, window.confirm_port()), window.spki());
        let call_id = self.calls.start(id, Callee::Ourselves(ip), call.echo(), now);
        self.command(Command::Call(call_id, OutCall { to, from: ip, spki, request }));
        true
    }

    /// Somebody calls one of our listeners.
    pub(super) fn called(&mut self, id: InCallId, call: &InCall, now: Time) {
        let window = self.windows.iter().find(|(_, w)| w.listener.id == call.listener && !w.is_over);
        let Some((window, parsed)) = window.map(|(id, _)| *id).zip(Call::parse(&call.request).ok()) else {
            return self.answer(id, None);
        };
        let is_proven = self.windows.get(&window).is_some_and(|w| match w.keys() {
            Some(keys) => parsed.is_by(keys),
            None => parsed.is_open(),
        });
        if !is_proven {
            // Whoever has no code learns nothing.
            return self.answer(id, None);
        }
        let (local, remote) = (call.local.ip().to_canonical(), call.remote.ip().to_canonical());
        let status = match parsed.message().op {
            Op::SelfCheck => self.called_by_ourselves(window, parsed.message(), local, remote, now),
            Op::Ping => self.called_by_another(window, parsed.message(), local, remote, now),
        };
        let Some(w) = self.windows.get(&window) else { return };
        let name = match &w.purpose {
            Purpose::Nearby { name } => Some(name.clone()),
            Purpose::Code { .. } => None,
        };
        let answer = Answer {
            status,
            from: w.nid,
            observed: remote,
            observed_port: call.remote.port(),
            echo: parsed.message().echo(),
            name,
        };
        let reply = Box::new(answer.to_bytes(w.keys()));
        self.answer(id, Some(reply));
    }

    fn called_by_ourselves(&mut self, id: WindowId, call: &Call, local: IpAddr, remote: IpAddr, now: Time) -> Status {
        let own = place::is_own(&self.surroundings, remote);
        let Some(window) = self.windows.get_mut(&id) else { return Status::NotMine };
        // Registered, unused, for this very address, and from this machine.
        let registered = window.registered.remove(&call.code);
        let fits = registered.is_some_and(|(ip, until)| ip == local && call.dialled == local && until > now);
        if !own || !fits || call.from != window.nid || call.to != window.nid {
            return Status::NotMine;
        }
        Status::Ok
    }

    fn called_by_another(&mut self, id: WindowId, call: &Call, local: IpAddr, remote: IpAddr, now: Time) -> Status {
        let Some(window) = self.windows.get_mut(&id) else { return Status::NotMine };
        let Some((interface, own)) = place::facing(&self.surroundings, remote).map(|(i, ip)| (i.index, ip)) else {
            return Status::NotMine;
        };
        // What the caller says it dialled must be what it reached.
        if call.to != window.nid || call.dialled != local || call.from == window.nid {
            return Status::NotMine;
        }
        let is_new_address = window.checked.insert(local);
        let peer = Peer {
            nid: call.from,
            ip: remote,
            own,
            interface,
            met_on: vec![interface],
            alive: now,
            beacons: false,
            ports: call.ports,
            spki: call.spki,
            due: true,
            called: None,
            answered: false,
            name: None,
        };
        if !place::is_own(&self.surroundings, remote) {
            self.event(Event::Evidence { ip: local, evidence: Evidence::PeerConfirmed });
        }
        self.met(id, peer);
        if is_new_address && place::is_own(&self.surroundings, local) {
            self.self_check(id, local, now);
        }
        Status::Ok
    }

    /// A call of ours is over.
    pub(super) fn call_done(&mut self, id: CallId, result: Result<Box<[u8; CONFIRM_LEN]>, CallFailure>, now: Time) {
        let Some(running) = self.calls.running.remove(&id) else { return };
        let Some(window) = self.windows.get_mut(&running.window) else { return };
        let answer = result.ok().and_then(|bytes| Answer::parse(&bytes).ok()).filter(|answer| {
            let proven = window.keys().map_or_else(|| answer.is_open(), |keys| answer.is_by(keys));
            proven && answer.message().echo == running.echo
        });
        let answer = answer.map(|a| a.message().clone()).filter(|a| a.status == Status::Ok);
        match (running.to, answer) {
            (Callee::Ourselves(ip), Some(_)) => self.event(Event::Evidence { ip, evidence: Evidence::SelfCheck }),
            (Callee::Ourselves(ip), None) => self.event(Event::SelfCheckFailed { ip }),
            (Callee::Peer(nid, ip, spki), Some(answer)) if answer.from == nid => {
                let is_nearby = window.keys().is_none();
                if let Some(peer) = window.peers.iter_mut().find(|p| p.nid == nid && p.ip == ip) {
                    peer.alive = now;
                    let is_under = peer.spki == spki;
                    let named = answer.name.is_some() && peer.name != answer.name;
                    let is_news = is_nearby && (named || is_under && !peer.answered);
                    peer.name = answer.name.or(peer.name.take());
                    peer.answered |= is_under;
                    let device = is_news.then(|| nearby_device(peer, &self.surroundings));
                    if let Some(device) = device {
                        self.event(Event::Ready { window: running.window, device });
                    }
                }
                if place::is_own(&self.surroundings, answer.observed) {
                    self.event(Event::SeenAs { ip: answer.observed });
                }
            }
            (Callee::Peer(..), _) => {}
        }
    }
}
