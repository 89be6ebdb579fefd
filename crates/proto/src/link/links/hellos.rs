//! Hellos in progress: opened and answered, the commit they may finish, and the certificate a connection gets at their
//! end.

use crate::addr::Path;
use crate::id::{ConnId, PairingId, StreamId, Tid};
use crate::limits;
use crate::link::hello::{self, PairState, R2, ReceivedR1, ReceivedR2, SentR1, SentR2, SentR3};
use crate::link::links::{Certified, Links, Work};
use crate::link::{Event, Job, Output, StoreChange};
use crate::session::{Inbound, Role, best_first};
use crate::time::{Now, Time, UnixTime};
use crate::wire::frames::Frame;

/// A hello in progress, with the connection it certifies.
pub(super) struct Hello {
    pub(super) conn: ConnId,
    pub(super) from: Inbound,
    pub(super) until: Time,
    pub(super) opened_by_us: bool,
    pub(super) step: HelloStep,
}

pub(super) enum HelloStep {
    AwaitR1,
    AwaitR2(PairingId, SentR1),
    /// The commit that R2 allows is on its way to the disk; R3 follows.
    StoringBeforeR3(PairingId, Box<ReceivedR2>),
    AwaitR4(PairingId, SentR3, UnixTime),
    AwaitR3(PairingId, SentR2),
    /// The commit that R3 allows is on its way to the disk; R4 follows.
    StoringBeforeR4(PairingId, UnixTime),
    /// The commit that R4 allows is on its way to the disk.
    StoringAfterR4(PairingId, UnixTime),
    /// We told the peer that the pairing is over; its acknowledgement is due.
    AwaitAcknowledgement(PairingId),
    /// The end that R2 told is on its way to the disk; our acknowledgement follows.
    StoringBeforeAcknowledgement(PairingId, Frame),
}

impl Links {
    pub(super) fn open_hello(
        &mut self,
        pairing_id: PairingId,
        conn: ConnId,
        from: Inbound,
        stream: StreamId,
        now: Now,
    ) {
        let Some(entry) = self.peers.get(&pairing_id) else {
            self.out.push_back(Output::Finish(stream));
            return;
        };
        let own = self.config.identity.public();
        let (sent, r1) = hello::open(&entry.bond, own, self.config.tid, from.tid, &mut self.rng);
        self.out.push_back(Output::Send { stream, frames: vec![r1] });
        // A relay that may carry nothing has less time, if there is another one.
        let may_be_stalled = from.path == Path::Relay && entry.seek.has_other_relay(from.address);
        let until = now.time + if may_be_stalled { limits::RELAY_STALL } else { limits::HELLO };
        let step = HelloStep::AwaitR2(pairing_id, sent);
        self.hellos.insert(stream, Hello { conn, from, until, opened_by_us: true, step });
    }

    /// Ends the hellos whose time is over.
    pub(super) fn end_late_hellos(&mut self, now: Now) {
        let late: Vec<(StreamId, Hello)> = self.hellos.extract_if(.., |_, h| h.until <= now.time).collect();
        for (stream, Hello { conn, from, opened_by_us, step, .. }) in late {
            self.out.push_back(Output::Finish(stream));
            let (HelloStep::AwaitR2(id, _) | HelloStep::AwaitR4(id, ..)) = step else { continue };
            let entry = self.peers.get_mut(&id).filter(|_| opened_by_us && from.path == Path::Relay);
            if let Some(entry) = entry.filter(|entry| entry.seek.has_other_relay(from.address)) {
                let next = entry.seek.stalled(from.address);
                // Closed, or else it would be the answer to the next dial.
                self.hellos.retain(|_, h| h.conn != conn);
                self.forget_connection(conn, now);
                self.out.push_back(Output::Close(conn));
                self.dial(id, next);
            }
        }
    }

    pub(super) fn handle_hello(&mut self, stream: StreamId, hello: Hello, frame: &Frame, now: Now) {
        let Hello { conn, from, until, opened_by_us, step } = hello;
        let next = match step {
            HelloStep::AwaitR1 => self.handle_r1(stream, from.tid, frame, now),
            HelloStep::AwaitR2(id, sent) => self.handle_r2(stream, id, sent, frame, now),
            HelloStep::AwaitR3(id, sent) => match sent.handle(frame) {
                Ok(r3) if self.completes(id, r3.state) => {
                    self.commit(id, stream);
                    Some(HelloStep::StoringBeforeR4(id, r3.clock))
                }
                Ok(r3) => {
                    self.send_r4(id, stream);
                    self.certify(id, conn, from, r3.clock, now);
                    self.doubt_others(id, conn, from.tid, now);
                    None
                }
                Err(_) => self.refuse(stream, now),
            },
            HelloStep::AwaitR4(id, sent, clock) => match sent.handle(frame) {
                Ok(state) if self.completes(id, state) => {
                    self.commit(id, stream);
                    Some(HelloStep::StoringAfterR4(id, clock))
                }
                Ok(_) => {
                    self.out.push_back(Output::Finish(stream));
                    self.certify(id, conn, from, clock, now);
                    None
                }
                Err(_) => self.refuse(stream, now),
            },
            HelloStep::AwaitAcknowledgement(id) => {
                if hello::is_acknowledgement(frame) {
                    self.tombstones.retain(|t| t.pairing_id != id);
                    self.job(Job::Store(StoreChange::Acknowledged(id)), Work::Forget);
                }
                self.out.push_back(Output::Finish(stream));
                None
            }
            HelloStep::StoringBeforeR3(..)
            | HelloStep::StoringBeforeR4(..)
            | HelloStep::StoringAfterR4(..)
            | HelloStep::StoringBeforeAcknowledgement(..) => self.refuse(stream, now),
        };
        if let Some(step) = next {
            self.hellos.insert(stream, Hello { conn, from, until, opened_by_us, step });
        }
    }

    pub(super) fn handle_r1(&mut self, stream: StreamId, tid: Tid, frame: &Frame, now: Now) -> Option<HelloStep> {
        let Ok(r1) = ReceivedR1::parse(frame, tid, self.config.tid) else { return self.refuse(stream, now) };
        // Every pairing and tombstone is tried, so that the time tells nothing about which one fits.
        let known =
            self.peers.values().fold(None, |found, e| if r1.is_from(e.bond.tag_key()) { Some(e) } else { found });
        let ended = self.tombstones.iter().fold(None, |found, t| if r1.is_from(&t.tag) { Some(t) } else { found });
        if let Some(tombstone) = ended {
            let id = tombstone.pairing_id;
            let r2 = r1.revoke(tombstone, &self.config.identity);
            self.out.push_back(Output::Send { stream, frames: vec![r2] });
            return Some(HelloStep::AwaitAcknowledgement(id));
        }
        let Some(entry) = known else { return self.refuse(stream, now) };
        let id = entry.peer.pairing_id;
        let (sent, r2) = r1.answer(&entry.bond, &self.config.identity, entry.peer.state, now.unix, &mut self.rng);
        self.out.push_back(Output::Send { stream, frames: vec![r2] });
        Some(HelloStep::AwaitR3(id, sent))
    }

    pub(super) fn handle_r2(
        &mut self,
        stream: StreamId,
        id: PairingId,
        sent: SentR1,
        frame: &Frame,
        now: Now,
    ) -> Option<HelloStep> {
        match sent.handle(frame) {
            Ok(R2::Proof(proof)) if self.completes(id, proof.state) => {
                self.commit(id, stream);
                Some(HelloStep::StoringBeforeR3(id, proof))
            }
            Ok(R2::Proof(proof)) => self.send_r3(id, stream, *proof, now),
            Ok(R2::Revoked { acknowledgement }) => {
                // The pairing has no rights from now on. Only when the disk has forgotten it, the peer may forget too.
                self.remove(id);
                self.out.push_back(Output::Event(Event::Gone { pairing_id: id, by_them: true }));
                self.job(Job::Store(StoreChange::Revoked(id)), Work::Revoke(stream));
                Some(HelloStep::StoringBeforeAcknowledgement(id, acknowledgement))
            }
            Err(_) => self.refuse(stream, now),
        }
    }

    pub(super) fn send_r3(
        &mut self,
        id: PairingId,
        stream: StreamId,
        proof: ReceivedR2,
        now: Now,
    ) -> Option<HelloStep> {
        let state = self.peers.get(&id)?.peer.state;
        let clock = proof.clock;
        let (sent, r3) = proof.send(&self.config.identity, state, now.unix);
        self.out.push_back(Output::Send { stream, frames: vec![r3] });
        Some(HelloStep::AwaitR4(id, sent, clock))
    }

    pub(super) fn send_r4(&mut self, id: PairingId, stream: StreamId) {
        if let Some(entry) = self.peers.get(&id) {
            let r4 = hello::accept(entry.peer.state);
            self.out.push_back(Output::Send { stream, frames: vec![r4] });
        }
    }

    /// Whether the peer's state lets our pending pairing become a paired one: the initiator needs to know that the joiner
    /// holds the secret durably, which its proof shows; the joiner needs the initiator to say "paired".
    pub(super) fn completes(&self, id: PairingId, theirs: PairState) -> bool {
        self.peers.get(&id).is_some_and(|e| {
            e.peer.state == PairState::Pending && (e.peer.role == Role::Initiator || theirs == PairState::Paired)
        })
    }

    pub(super) fn commit(&mut self, id: PairingId, stream: StreamId) {
        self.job(Job::Store(StoreChange::Paired(id)), Work::Commit(id, stream));
    }

    pub(super) fn committed(&mut self, id: PairingId, stream: StreamId, now: Now) {
        self.set_paired(id);
        let hello = self.hellos.remove(&stream);
        let path = hello.as_ref().map_or(Path::Direct, |h| h.from.path);
        self.out.push_back(Output::Event(Event::Completed { pairing_id: id, path }));
        let Some(Hello { conn, from, until, opened_by_us, step }) = hello else { return };
        match step {
            HelloStep::StoringBeforeR3(id, proof) => {
                if let Some(step) = self.send_r3(id, stream, *proof, now) {
                    self.hellos.insert(stream, Hello { conn, from, until, opened_by_us, step });
                }
            }
            HelloStep::StoringBeforeR4(id, clock) => {
                self.send_r4(id, stream);
                self.certify(id, conn, from, clock, now);
                self.doubt_others(id, conn, from.tid, now);
            }
            HelloStep::StoringAfterR4(id, clock) => {
                self.out.push_back(Output::Finish(stream));
                self.certify(id, conn, from, clock, now);
            }
            HelloStep::AwaitR1
            | HelloStep::AwaitR2(..)
            | HelloStep::AwaitR3(..)
            | HelloStep::AwaitR4(..)
            | HelloStep::AwaitAcknowledgement(_)
            | HelloStep::StoringBeforeAcknowledgement(..) => {}
        }
    }

    /// The disk has forgotten a pairing that the peer ended: the peer need not tell us again.
    pub(super) fn acknowledge(&mut self, stream: StreamId) {
        if let Some(Hello { step: HelloStep::StoringBeforeAcknowledgement(_, frame), .. }) = self.hellos.remove(&stream)
        {
            self.out.push_back(Output::Send { stream, frames: vec![frame] });
            self.out.push_back(Output::Finish(stream));
        }
    }

    pub(super) fn certify(&mut self, id: PairingId, conn: ConnId, from: Inbound, clock: UnixTime, now: Now) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.clock_offset = now.unix.offset_to(clock);
        // What a relay leads to may be anywhere: the addresses that were known stay.
        if let Some(address) = from.own_address() {
            let known = entry.seek.target().filter(|target| target.tid == from.tid).map(|t| t.addresses.as_slice());
            entry.peer.addresses = best_first(Some(address), known.unwrap_or(&entry.peer.addresses));
        }
        let (addresses, clock_offset) = (entry.peer.addresses.clone(), entry.peer.clock_offset);
        for job in entry.seek.stop() {
            self.cancel(job);
        }
        self.direct.remove(&conn);
        self.relayed.remove(&conn);
        let known = self.conns.get(&conn);
        let (order, spare_until) = (known.map_or(self.certified, |c| c.order), known.and_then(|c| c.spare_until));
        let doubt_until = None;
        self.certified += 1;
        let Inbound { tid, address, path, .. } = from;
        self.conns.insert(conn, Certified { pairing_id: id, tid, address, path, order, spare_until, doubt_until });
        let path = self.path(id).map_or(path, |(best, _)| best);
        let contact = StoreChange::Contact { pairing_id: id, addresses, clock_offset, path };
        self.job(Job::Store(contact), Work::Forget);
        // Each end holds every connection that both have proved themselves on: if each held only the first one it knows,
        // two that crossed would each be dropped by the other end.
        self.out.push_back(Output::Hold { conn, hold: true });
        if from.path == Path::Relay {
            self.out.push_back(Output::Proven(conn));
        }
        self.path_changed(id, now);
        self.send_pings(id);
        self.give_up_surplus(id, conn, now);
    }

    pub(super) fn refuse(&mut self, stream: StreamId, now: Now) -> Option<HelloStep> {
        self.refused.push((now.time + limits::HELLO_REFUSAL, stream));
        None
    }
}

impl HelloStep {
    pub(super) fn pairing_id(&self) -> Option<PairingId> {
        match self {
            HelloStep::AwaitR1 => None,
            HelloStep::AwaitR2(id, _)
            | HelloStep::StoringBeforeR3(id, _)
            | HelloStep::AwaitR4(id, ..)
            | HelloStep::AwaitR3(id, _)
            | HelloStep::StoringBeforeR4(id, _)
            | HelloStep::StoringAfterR4(id, _)
            | HelloStep::AwaitAcknowledgement(id)
            | HelloStep::StoringBeforeAcknowledgement(id, _) => Some(*id),
        }
    }
}
