//! The joiner's search: look-ups in the DHT, and up to eight candidates of which three are tried at once, and relays beside
//! them.

use std::time::Duration;

use crate::addr::{Address, LoopbackPolicy, Path, RelayAddress, dialable_relays, may_dial};
use crate::cause::Cause;
use crate::handshake::joiner::{self as hs, Comparing, H2, Proved};
use crate::handshake::{Mode, Refusal};
use crate::id::{JobId, SessionId, StreamId, Tid};
use crate::keys::CodeKeys;
use crate::limits;
use crate::session::joiner::candidate::{Candidate, State, progress};
use crate::session::joiner::refind::Refind;
use crate::session::joiner::{Target, tombstone_cause};
use crate::session::vicinity::NetworkCheck;
use crate::session::{Config, Context, DialFailure, Event, FoundBy, Job, Reached, StreamEnd, best_first, earlier};
use crate::time::Time;
use crate::wire::advert::{self, Advert, AdvertState, MAX_RELAYS};
use crate::wire::frames::Frame;
use crate::wire::record::Record;

/// Looking for somebody who proves the code. The keys of the code end with the search, those of its record aside.
pub(super) struct Search {
    keys: CodeKeys,
    mode: Mode,
    verify: bool,
    pin: Option<Tid>,
    look_up: LookUp,
    candidates: Vec<Candidate>,
    found_at: Option<Time>,
    busy_since: Option<Time>,
    /// When the initiator last said that it is busy.
    busy_at: Time,
    newest: u64,
    tombstone: Option<AdvertState>,
    wrong_device: bool,
    newer_version: bool,
    answered: usize,
    lan: bool,
    warned: Warned,
    network: NetworkCheck,
}

/// What the person has been told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Warned {
    Nothing,
    Absence,
    Silence,
}

/// What H2 of a candidate means for the session.
pub(super) enum Proof {
    /// It proved the code: the search is over.
    GoOn(Box<Proved>, Found),
    /// The same, and both people compare first; the frame is S3.
    Compare(Box<Comparing>, Frame, Found),
    /// It proved the code and says that the code is over.
    Over(Refusal),
}

/// Where the initiator is.
pub(super) struct Found {
    pub(super) tid: Tid,
    pub(super) addresses: Vec<Address>,
    pub(super) relays: Vec<RelayAddress>,
    pub(super) path: Path,
    /// The relay in between, if there is one.
    pub(super) via: Option<Address>,
}

/// The look-ups in the DHT.
struct LookUp {
    /// Whether there is a DHT to ask.
    enabled: bool,
    started: Time,
    count: usize,
    running: Vec<JobId>,
}

impl Search {
    pub(super) fn new(target: Target, verify: bool, dht: bool, lan: bool, now: Time) -> Search {
        let Target { keys, mode, pin, .. } = target;
        Search {
            keys,
            mode,
            verify,
            pin,
            look_up: LookUp { enabled: dht, started: now, count: 0, running: Vec::new() },
            candidates: Vec::new(),
            found_at: None,
            busy_since: None,
            busy_at: now,
            newest: 0,
            tombstone: None,
            wrong_device: false,
            newer_version: false,
            answered: 0,
            lan,
            warned: Warned::Nothing,
            network: NetworkCheck::new(lan, now),
        }
    }

    /// Tries the addresses of a QR text, which also pins the key.
    pub(super) fn add_hints(&mut self, hints: &[Address], session: &SessionId, cx: &mut Context<'_>) {
        if let (Some(tid), false) = (self.pin, hints.is_empty()) {
            self.add_candidate(Some(tid), &dialable(hints, cx.config.loopback), &[], FoundBy::Qr, session, cx);
        }
    }

    /// What finds the initiator again, once it has proved the code.
    pub(super) fn into_refind(self) -> Option<Refind> {
        self.look_up.enabled.then(|| Refind::new(self.keys.into_record(), self.newest))
    }

    pub(super) fn keys(&self) -> &CodeKeys {
        &self.keys
    }

    pub(super) fn has_found(&self) -> bool {
        self.found_at.is_some()
    }

    pub(super) fn owns_stream(&self, id: StreamId) -> bool {
        self.candidates.iter().any(|c| c.awaits_on(id))
    }

    pub(super) fn found(&mut self, id: JobId, record: &Record, session: &SessionId, cx: &mut Context<'_>) {
        if !self.look_up.running.contains(&id) || record.seq() < self.newest {
            return;
        }
        // A record of another key, a broken seal or layout is a miss, not an error.
        let Ok(plain) = self.keys.record().open(record) else { return };
        // Only a holder of the code can have sealed this: an initiator that speaks a later version alone.
        self.newer_version = plain[0] > advert::VERSION;
        let Ok(advert) = Advert::of_code(&plain) else { return };
        self.newest = record.seq();
        if advert.state != AdvertState::Open {
            self.tombstone = Some(advert.state);
            return;
        }
        self.tombstone = None;
        if self.pin.is_some_and(|pin| pin != advert.tid) {
            self.wrong_device = true;
            return;
        }
        let addresses = dialable(&advert.addresses, cx.config.loopback);
        let relays = dialable_relays(&advert.relays, cx.config.loopback, MAX_RELAYS);
        if advert.addresses.is_empty() && advert.relays.is_empty() {
            // It may not have learned yet where it is; then its next record says so.
            self.discovered(FoundBy::Dht, &[], session, cx);
            return;
        }
        self.add_candidate(Some(advert.tid), &addresses, &relays, FoundBy::Dht, session, cx);
    }

    /// A holder of the code is on the local network.
    pub(super) fn heard(&mut self, addresses: &[Address], session: &SessionId, cx: &mut Context<'_>) {
        if !addresses.is_empty() {
            self.add_candidate(self.pin, addresses, &[], FoundBy::Lan, session, cx);
        }
    }

    /// Somebody at an address of a candidate connected to us: a firewall there may let nothing else pass. The pairing
    /// stream is ours to open all the same. It may also be a stranger behind the same address, so the candidate itself is
    /// tried on.
    pub(super) fn reached(&mut self, reached: Reached, session: &SessionId, cx: &mut Context<'_>) {
        let (tid, Some(address)) = (reached.tid, reached.own_address()) else { return };
        if self.pin.is_some_and(|pin| pin != tid) || self.is_being_proven(tid) {
            return;
        }
        self.candidates.retain(|c| c.came.is_none() || !matches!(c.state, State::Dead));
        let fits = |c: &Candidate| {
            let idle = matches!(c.state, State::Waiting { .. } | State::Dialling { .. });
            idle && c.tid.is_none_or(|t| t == tid) && c.addresses.iter().any(|a| a.ip == address.ip)
        };
        let Some(place) = self.candidates.iter().position(fits) else { return };
        if self.makes_room_for_caller(cx) {
            let called = &mut self.candidates[place];
            let caller = called.caller(cx.now.time);
            // Whoever else comes from there is no news any more.
            called.announced = true;
            self.candidates.push(caller);
            self.connected(self.candidates.len() - 1, reached, session, cx);
        }
    }

    /// False if all places are taken by callers that may still prove the code.
    fn makes_room_for_caller(&mut self, cx: &mut Context<'_>) -> bool {
        if self.candidates.iter().filter(|c| c.came.is_some()).count() < limits::MAX_CALLERS {
            return true;
        }
        let oldest = self.candidates.iter_mut().filter(|c| c.came.is_some()).min_by_key(|c| c.came);
        let had_its_turn = |c: &&mut Candidate| c.came.is_some_and(|at| cx.now.time.since(at) >= limits::CALLER_TURN);
        oldest.filter(had_its_turn).map(|caller| caller.drop(cx)).is_some()
    }

    /// Whether a handshake with this transport runs already: a second one would take the place of the first.
    fn is_being_proven(&self, tid: Tid) -> bool {
        let busy = |c: &Candidate| matches!(c.state, State::Opening { .. } | State::AwaitH2 { .. });
        self.candidates.iter().any(|c| c.tid == Some(tid) && busy(c))
    }

    pub(super) fn looked_up(&mut self, id: JobId, answered: usize) {
        self.look_up.running.retain(|job| *job != id);
        self.answered = self.answered.max(answered);
    }

    pub(super) fn dialled(&mut self, id: JobId, reached: Reached, session: &SessionId, cx: &mut Context<'_>) {
        let Some(index) = self.candidates.iter().position(|c| c.is_dialled_by(id)) else { return };
        self.candidates[index].end_other_dials(id, cx);
        if self.is_being_proven(reached.tid) {
            // Found twice: this way is kept in case the other one fails.
            self.candidates[index].tid = Some(reached.tid);
            self.candidates[index].state = State::Waiting { until: cx.now.time + limits::TWIN };
            return;
        }
        self.connected(index, reached, session, cx);
    }

    fn connected(&mut self, index: usize, reached: Reached, session: &SessionId, cx: &mut Context<'_>) {
        let Reached { conn, tid, address, path } = reached;
        let candidate = &mut self.candidates[index];
        candidate.tid = Some(tid);
        let job = cx.job(Job::OpenStream(conn));
        candidate.state = State::Opening { job, reached };
        if !candidate.announced {
            candidate.announced = true;
            cx.event(Event::Connected { session: session.clone(), path, address });
        }
    }

    pub(super) fn dial_failed(&mut self, id: JobId, failure: DialFailure, cx: &mut Context<'_>) {
        let pinned = self.pin.is_some();
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.is_dialled_by(id)) {
            candidate.dial_failed(id, failure, pinned, cx);
        }
    }

    pub(super) fn stream_opened(&mut self, id: JobId, stream: StreamId, cx: &mut Context<'_>) {
        let Some(candidate) = self.candidates.iter_mut().find(|c| c.is_opened_by(id)) else {
            cx.finish(stream);
            return;
        };
        if let (State::Opening { reached, .. }, Some(tid)) = (&candidate.state, candidate.tid) {
            let reached = *reached;
            let (hs, frames) = hs::start(&self.keys, self.mode, self.verify, cx.config.tid, tid, cx.rng);
            cx.send(stream, frames.into());
            let until = candidate.proof_due(&reached, cx.now.time);
            candidate.state = State::AwaitH2 { stream, reached, hs: Box::new(hs), until };
        }
    }

    pub(super) fn stream_failed(&mut self, id: JobId, now: Time) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.is_opened_by(id)) {
            candidate.unproven(StreamEnd::Lost, now);
        }
    }

    pub(super) fn stream_ended(&mut self, stream: StreamId, end: StreamEnd, now: Time) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.awaits_on(stream)) {
            candidate.unproven(end, now);
        }
    }

    pub(super) fn handle_h2(&mut self, id: StreamId, frame: &Frame, cx: &mut Context<'_>) -> Option<Proof> {
        let now = cx.now.time;
        let index = self.candidates.iter().position(|c| c.awaits_on(id))?;
        let candidate = &mut self.candidates[index];
        let State::AwaitH2 { stream, reached, hs, .. } =
            std::mem::replace(&mut candidate.state, State::Waiting { until: now })
        else {
            return None;
        };
        let tid = candidate.tid?;
        let found = self.whereabouts(index, tid, reached.address, reached.path);
        let candidate = &mut self.candidates[index];
        match hs.handle(frame) {
            Ok(H2::GoOn(proved)) => {
                self.drop_others(Some(index), cx);
                Some(Proof::GoOn(proved, found))
            }
            Ok(H2::Compare(comparing, s3)) => {
                self.drop_others(Some(index), cx);
                Some(Proof::Compare(comparing, s3, found))
            }
            Ok(H2::Refused(Refusal::Busy)) => {
                cx.finish(stream);
                self.busy_since.get_or_insert(now);
                self.busy_at = now;
                (candidate.busy, candidate.dial_failure) = (true, None);
                // A caller may call again; its connection is used once.
                let again = State::Waiting { until: now + limits::BUSY_RETRY };
                candidate.state = if candidate.came.is_some() { State::Dead } else { again };
                None
            }
            Ok(H2::Refused(refusal)) => {
                cx.finish(stream);
                Some(Proof::Over(refusal))
            }
            Err(_) => {
                cx.finish(stream);
                candidate.kill(Cause::AuthenticationFailed);
                None
            }
        }
    }

    /// Starts a look-up if one is due.
    pub(super) fn look_up(&mut self, cx: &mut Context<'_>) {
        if !self.look_up.enabled || self.look_up.next() > cx.now.time {
            return;
        }
        self.look_up.count += 1;
        let job = cx.job(Job::LookUp(self.keys.topic()));
        self.look_up.running.push(job);
    }

    /// Starts the next try of every candidate whose time has come.
    pub(super) fn try_candidates(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        let mut places = self.places();
        for candidate in &mut self.candidates {
            match &candidate.state {
                State::Waiting { until } if *until <= now && places.has_one_for(candidate) => {
                    if candidate.addresses.is_empty() && !candidate.is_relayed() {
                        candidate.kill(Cause::Unreachable);
                        continue;
                    }
                    candidate.dial(cx);
                    places.take(candidate);
                }
                State::Dialling { .. } => candidate.dial_fresh(cx),
                State::AwaitH2 { stream, reached, until, .. } if *until <= now => {
                    let (stream, reached) = (*stream, *reached);
                    candidate.unanswered(stream, &reached, cx);
                }
                State::Waiting { .. } | State::Opening { .. } | State::AwaitH2 { .. } | State::Dead => {}
            }
        }
    }

    /// What is known to be wrong already: once while nobody is found, once while nothing connects.
    pub(super) fn trouble(&mut self, now: Time, config: &Config) -> Option<Cause> {
        if self.network.is_missing(now, config) {
            return Some(Cause::NoNetwork);
        }
        let at = self.trouble_at(config)?;
        if at > now {
            return None;
        }
        if self.has_found() {
            self.warned = Warned::Silence;
            // Whoever was told to wait has reached it.
            if self.busy_since.is_some() {
                return None;
            }
            let cause = self.explained(Cause::Unreachable, config);
            return self.candidates.iter().any(|c| c.dial_failure.is_some()).then_some(cause);
        }
        self.warned = Warned::Absence;
        let dht_is_missing = if self.look_up.enabled { self.answered == 0 } else { config.alone == Cause::NoBootstrap };
        dht_is_missing.then_some(Cause::NoBootstrap)
    }

    /// When that is due. That no DHT is configured is known from the start.
    fn trouble_at(&self, config: &Config) -> Option<Time> {
        match (self.warned, self.found_at) {
            (Warned::Silence, _) | (Warned::Absence, None) => None,
            (_, Some(found)) => Some(found + limits::TROUBLE),
            (Warned::Nothing, None) => {
                let known = !self.look_up.enabled && config.alone == Cause::NoBootstrap;
                Some(if known { self.look_up.started } else { self.look_up.started + limits::TROUBLE })
            }
        }
    }

    /// Why the search is over, if it is.
    pub(super) fn verdict(&self, now: Time, config: &Config) -> Option<Cause> {
        let elapsed = now.since(self.look_up.started);
        let alive = self.candidates.iter().any(|c| !matches!(c.state, State::Dead));
        if !alive && let Some(state) = self.tombstone {
            return Some(tombstone_cause(state));
        }
        if !alive && self.newer_version {
            return Some(Cause::VersionMismatch);
        }
        if self.busy_since.is_some_and(|since| now.since(since) >= limits::BUSY) {
            return Some(Cause::CodeUsed);
        }
        if self.is_gone_busy(now) {
            return Some(self.tombstone.map_or(Cause::CodeUsed, tombstone_cause));
        }
        let Some(found_at) = self.found_at else {
            return self.nobody_found(elapsed, config);
        };
        let furthest = self.candidates.iter().filter_map(|c| c.failure).max_by_key(|c| progress(*c));
        let furthest = furthest.map(|cause| self.explained(cause, config));
        if !alive && furthest.is_some() {
            return furthest;
        }
        if self.ends_at(found_at).is_some_and(|at| at <= now) {
            return Some(furthest.unwrap_or_else(|| self.explained(Cause::Unreachable, config)));
        }
        None
    }

    /// It was busy with somebody else, and now nobody is there any more: it has what it wanted.
    fn is_gone_busy(&self, now: Time) -> bool {
        let busy = || self.candidates.iter().filter(|c| c.busy && c.came.is_none());
        // Only its own host can say that it is gone; a relay must not contradict.
        let is_gone = |c: &Candidate| {
            let failed = c.dial_failure == Some(DialFailure::Refused) || c.is_relayed() && c.dial_failure.is_some();
            failed && matches!(c.state, State::Waiting { .. })
        };
        busy().any(|c| !c.is_relayed()) && now.since(self.busy_at) >= limits::BUSY_GONE && busy().all(is_gone)
    }

    /// A name for why nothing could be connected to.
    fn explained(&self, cause: Cause, config: &Config) -> Cause {
        if cause != Cause::Unreachable {
            return cause;
        }
        // Silence where the other tries were refused says more than a refusal; what fails through a relay says nothing, since
        // it has no address to look up.
        let telling = self.candidates.iter().filter_map(|c| Some((c, c.dial_failure?)));
        let causes = telling.map(|(c, failure)| config.vicinity.explain(&c.addresses, failure));
        causes.fold(Cause::Unreachable, |found, cause| if found == Cause::Unreachable { cause } else { found })
    }

    fn nobody_found(&self, elapsed: Duration, config: &Config) -> Option<Cause> {
        let dht_is_silent = self.look_up.enabled && self.answered == 0;
        if elapsed >= limits::FIND {
            Some(if self.wrong_device {
                Cause::WrongDevice
            } else if !config.vicinity.usable && self.lan && self.answered == 0 {
                Cause::NoNetwork
            } else if dht_is_silent {
                Cause::NoBootstrap
            } else if self.look_up.enabled {
                Cause::NotFound
            } else {
                config.alone
            })
        } else if elapsed >= limits::FIND_WITHOUT_DHT && dht_is_silent && !self.lan {
            Some(Cause::NoBootstrap)
        } else {
            None
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let places = self.places();
        let mut at = self.look_up.enabled.then(|| self.look_up.next());
        for candidate in &self.candidates {
            let due = match &candidate.state {
                // With as many active as there may be, the end of one of them is what it waits for.
                State::Waiting { until } => places.has_one_for(candidate).then_some(*until),
                State::AwaitH2 { until, .. } => Some(*until),
                State::Dialling { .. } | State::Opening { .. } | State::Dead => None,
            };
            at = earlier(at, due);
        }
        at = earlier(at, self.busy_since.map(|since| since + limits::BUSY));
        let started = self.look_up.started;
        let limit = match self.found_at {
            Some(found) => self.ends_at(found),
            None if self.answered == 0 && !self.lan => Some(started + limits::FIND_WITHOUT_DHT),
            None => Some(started + limits::FIND),
        };
        let trouble = match (self.warned, self.found_at) {
            (Warned::Silence, _) | (Warned::Absence, None) => None,
            (_, found) => Some(found.unwrap_or(started) + limits::TROUBLE),
        };
        [at, limit, trouble, self.network.due()].into_iter().fold(None, earlier)
    }

    /// When the search ends that has found somebody, unless a find of ours is being sent the proof. Callers may be anybody,
    /// and coming again and again must not keep the search alive.
    fn ends_at(&self, found: Time) -> Option<Time> {
        let proves = |c: &&Candidate| match c.state {
            State::AwaitH2 { .. } => true,
            State::Opening { .. } => c.came.is_some(),
            State::Waiting { .. } | State::Dialling { .. } | State::Dead => false,
        };
        let mut proving = self.candidates.iter().filter(proves);
        let late = proving.clone().next().map_or(Duration::ZERO, |_| limits::CALLER_LATE);
        (self.busy_since.is_none() && proving.all(|c| c.came.is_some())).then_some(found + limits::CONNECT + late)
    }

    fn places(&self) -> Places {
        let mut places = Places { direct: limits::PARALLEL_CANDIDATES, relayed: limits::PARALLEL_RELAYED };
        for candidate in self.candidates.iter().filter(|c| c.came.is_none() && c.state.is_active()) {
            places.take(candidate);
        }
        places
    }

    /// Where the initiator is that has proven itself over this address and path: there first. If that was a relay, the
    /// device's addresses are those of the other candidates that it is.
    fn whereabouts(&self, winner: usize, tid: Tid, address: Address, path: Path) -> Found {
        let is_it = |c: &&Candidate| c.tid == Some(tid) && c.came.is_none();
        let twins = || self.candidates.iter().filter(is_it);
        let own = path.own_address(address);
        let addresses = match own {
            Some(_) => best_first(own, &self.candidates[winner].addresses),
            None => best_first(None, &twins().flat_map(|c| c.addresses.iter().copied()).collect::<Vec<_>>()),
        };
        let relays = twins().flat_map(|c| c.relayed.iter().copied()).collect();
        let via = (path == Path::Relay).then_some(address);
        Found { tid, addresses, relays, path, via }
    }

    /// Ends every look-up, and every candidate but the winner.
    pub(super) fn drop_others(&mut self, winner: Option<usize>, cx: &mut Context<'_>) {
        for job in self.look_up.running.drain(..) {
            cx.cancel(job);
        }
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            if Some(index) != winner {
                candidate.drop(cx);
            }
        }
    }

    /// Somebody holds the code; told once.
    fn discovered(&mut self, found_by: FoundBy, addresses: &[Address], session: &SessionId, cx: &mut Context<'_>) {
        if self.found_at.is_none() {
            self.found_at = Some(cx.now.time);
            let addresses = addresses.to_vec();
            cx.event(Event::SessionDiscovered { session: session.clone(), found_by, addresses });
        }
    }

    fn add_candidate(
        &mut self,
        tid: Option<Tid>,
        addresses: &[Address],
        relays: &[RelayAddress],
        found_by: FoundBy,
        session: &SessionId,
        cx: &mut Context<'_>,
    ) {
        let now = cx.now.time;
        self.discovered(found_by, addresses, session, cx);
        // What is on one link with us goes first: the way round by a router may work as well, and is the longer one. What is
        // being tried already has had its head start.
        let is_near = |a: &Address| cx.config.vicinity.is_near(a.ip);
        let is_tried = |a: &Address| {
            let same = self.candidates.iter().filter(|c| c.came.is_none() && c.found_by == found_by && c.tid == tid);
            same.filter(|c| c.dials > 0).any(|c| c.addresses.contains(a))
        };
        let (near, far): (Vec<Address>, Vec<Address>) = addresses.iter().copied().partition(is_near);
        let head_start = if near.iter().all(is_tried) { Duration::ZERO } else { limits::NEAR_FIRST };
        let last = if far.is_empty() { now } else { now + head_start };
        let (all_are_tried, nothing_is_named) = (addresses.iter().all(is_tried), addresses.is_empty());
        for (addresses, is_near, at) in [(near, true, now), (far, false, now + head_start)] {
            // A device that names no way to it is one that cannot be reached, which is said of it too.
            if !addresses.is_empty() || (!is_near && nothing_is_named && relays.is_empty()) {
                self.add_part(Candidate::new(tid, found_by, is_near, addresses, at), now);
            }
        }
        if let (Some(tid), false) = (tid, relays.is_empty()) {
            let at = if all_are_tried { now } else { last + limits::DIRECT_FIRST };
            self.add_part(Candidate::through(relays.to_vec(), tid, at), now);
        }
    }

    /// Each finder's find is a candidate of its own, so that what one has found need not wait for what another tries.
    fn add_part(&mut self, new: Candidate, now: Time) {
        let same = |c: &&mut Candidate| {
            c.came.is_none()
                && (c.found_by, c.near, c.is_relayed()) == (new.found_by, new.near, new.is_relayed())
                && match new.found_by {
                    FoundBy::Lan => c.addresses.iter().any(|a| new.addresses.iter().any(|b| a.ip == b.ip)),
                    FoundBy::Dht | FoundBy::Qr => c.tid == new.tid,
                }
        };
        if let Some(known) = self.candidates.iter_mut().find(same) {
            known.learn(new, now);
        } else if self.candidates.iter().filter(|c| c.came.is_none()).count() < limits::MAX_CANDIDATES {
            self.candidates.push(new);
        }
    }
}

/// How many more candidates may be tried now. Through relays it is done beside the others: hosts that are silent must not
/// keep a relay waiting.
struct Places {
    direct: usize,
    relayed: usize,
}

impl Places {
    fn has_one_for(&self, candidate: &Candidate) -> bool {
        (if candidate.is_relayed() { self.relayed } else { self.direct }) > 0
    }

    fn take(&mut self, candidate: &Candidate) {
        let places = if candidate.is_relayed() { &mut self.relayed } else { &mut self.direct };
        *places = places.saturating_sub(1);
    }
}

impl LookUp {
    fn next(&self) -> Time {
        let last = limits::LOOK_UPS_MS.len() - 1;
        let early = limits::LOOK_UPS_MS[self.count.min(last)];
        let late = u32::try_from(self.count.saturating_sub(last)).unwrap_or(u32::MAX);
        self.started + Duration::from_millis(early) + limits::LOOK_UP_EVERY * late
    }
}

fn dialable(addresses: &[Address], loopback: LoopbackPolicy) -> Vec<Address> {
    addresses.iter().copied().filter(|a| may_dial(a, loopback)).collect()
}
