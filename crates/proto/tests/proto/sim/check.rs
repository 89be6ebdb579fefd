//! The properties of `docs/protocol.md`, sections 3, 7 and 8, and of `models/20_commit.pml`, asserted after every step.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::id::{PairingId, SessionId};
use handfast_proto::limits;
use handfast_proto::link::{self, PairState};
use handfast_proto::session::{Event, Role, SessionStatus};

use super::disk::{Change, Row};
use super::ledger::{PairingFacts, SessionFacts, code_of};
use super::world::{Dev, World, relay};

/// Jobs a table may have out: for each of its sessions three candidates, some look-ups, a record, a write.
const MAX_JOBS: usize = limits::MAX_SESSIONS * 16;
/// Streams whose first frame is due.
const MAX_FRESH: usize = 32;
/// What the links of a handful of peers may have going on.
const MAX_LINK_LOAD: usize = 128;

impl World {
    fn initiator_has(&self, id: PairingId) -> Option<PairState> {
        let facts = self.ledger.pairings.get(&id)?;
        self.devices[facts.initiator].stored(id)
    }

    fn joiner_has(&self, id: PairingId) -> Option<PairState> {
        let facts = self.ledger.pairings.get(&id)?;
        self.devices[facts.joiner].stored(id)
    }

    /// A device's disk has changed: what may be on it now?
    pub(super) fn check_durable(&mut self, dev: Dev, change: &Change) {
        if let Change::Put(row) = change {
            assert!(!row.addresses.contains(&relay().relay), "a relay is no address of a device");
        }
        match change {
            Change::Put(row) if self.ledger.pairings.contains_key(&row.pairing_id) => self.check_known(dev, row),
            Change::Put(row) => self.check_new(dev, row),
            Change::Paired(id) => self.check_paired(dev, *id),
            Change::Delete(id, tombstone) => {
                self.end_pairing(dev, *id);
                if let (Some(_), Some(facts)) = (tombstone, self.ledger.pairings.get_mut(id)) {
                    facts.joiner_expired |= facts.joiner == dev;
                }
            }
            Change::Acknowledged(_) => {}
        }
        self.check_commit();
    }

    fn end_pairing(&mut self, dev: Dev, id: PairingId) {
        if let Some(facts) = self.ledger.pairings.get_mut(&id) {
            facts.initiator_ended |= facts.initiator == dev;
            facts.joiner_ended |= facts.joiner == dev;
        }
    }

    /// The device whose identity a row names.
    fn owner_of(&self, row: &Row) -> Dev {
        let owner = self.devices.iter().position(|d| d.identity.public() == row.key);
        owner.expect("nobody stores a key that no device has")
    }

    /// The initiator stores first: one pairing per code, with a device that has just proven that code.
    fn check_new(&mut self, dev: Dev, row: &Row) {
        assert!(row.role == Role::Initiator, "the joiner stored a pairing that its initiator does not have");
        assert!(row.state == PairState::Pending, "a pairing starts as pending");
        let joiner = self.owner_of(row);
        assert_ne!(joiner, dev, "a device paired with itself");
        assert_eq!(row.name, self.devices[joiner].name, "the name is the joiner's");
        let made = self.ledger.sessions.iter().find(|((d, ..), f)| *d == dev && f.pairing == Some(row.pairing_id));
        let ((_, _, session), own) = made.expect("a pairing that a session made");
        let ledger = &self.ledger;
        let joins: Vec<&SessionFacts> = ledger
            .sessions
            .iter()
            .filter(|((d, _, other), f)| *d == joiner && f.role == Role::Joiner && code_of(other) == code_of(session))
            .map(|(_, facts)| facts)
            .collect();
        assert!(!joins.is_empty(), "nobody stores a peer that has not entered the code");
        // The joiner shows its key only after its person has confirmed, so by now both have.
        if own.shown.is_some() {
            let confirmed = |other: &&SessionFacts| other.matched && other.shown == own.shown;
            assert!(own.matched && joins.iter().any(confirmed), "stored before both persons have compared the same");
        } else {
            assert!(!own.verify && joins.iter().any(|other| !other.verify), "a wanted comparison was left out");
        }
        let facts = PairingFacts {
            initiator: dev,
            joiner,
            secret: *row.secret.expose(),
            initiator_ended: false,
            joiner_ended: false,
            joiner_expired: false,
        };
        self.ledger.pairings.insert(row.pairing_id, facts);
    }

    /// The joiner stores second, and what it stores is the other half of what the initiator has.
    fn check_known(&mut self, dev: Dev, row: &Row) {
        let facts = &self.ledger.pairings[&row.pairing_id];
        let (role, other) =
            if facts.initiator == dev { (Role::Initiator, facts.joiner) } else { (Role::Joiner, facts.initiator) };
        assert!(facts.initiator == dev || facts.joiner == dev, "a third device stored a pairing of two others");
        assert!(row.role == role, "the two sides agree on their roles");
        assert_eq!(row.key, self.devices[other].identity.public(), "each side stores the other's key");
        assert_eq!(row.name, self.devices[other].name, "each side stores the other's name");
        assert!(facts.secret == *row.secret.expose(), "both sides store the same secret");
        let ended = facts.initiator_ended;
        if role == Role::Joiner && row.state == PairState::Pending {
            let first = self.initiator_has(row.pairing_id);
            assert!(first.is_some() || ended, "the joiner stores only what the initiator has stored");
        }
    }

    /// A session of this device has agreed and wants a pairing stored: the one that asked last, and may it?
    pub(super) fn check_agreed(&mut self, dev: Dev, row: &Row) {
        let run = self.run_number(dev);
        let code = self.ledger.code_of_pairing(row.pairing_id);
        // The session that asked last, or one whose person compared before another session asked.
        let statuses = self.run(dev).table.statuses();
        let with_peer = |id: &SessionId| {
            statuses.iter().any(|s| s.session == *id && s.device.as_ref().is_some_and(|d| d.key == row.key))
        };
        let asked = self.ledger.asking.get(&(dev, run)).filter(|id| with_peer(id)).cloned();
        let compared = self.ledger.sessions.iter().find_map(|((d, r, id), f)| {
            let open = f.matched && f.pairing.is_none() && f.ending.is_none();
            ((*d, *r) == (dev, run) && open && with_peer(id)).then(|| id.clone())
        });
        let session = compared.or(asked).expect("nothing is stored without a question");
        let facts = self.ledger.sessions.get_mut(&(dev, run, session.clone())).expect("a known session");
        assert!(facts.role == row.role && facts.pairing.is_none(), "a session makes one pairing, in its own role");
        assert!(!facts.said_no, "safe3: a refused session stores a pairing");
        assert!(code.is_none_or(|code| code_of(&session) == code), "the two sides mean different codes");
        facts.pairing = Some(row.pairing_id);
    }

    fn check_paired(&self, dev: Dev, id: PairingId) {
        let facts = &self.ledger.pairings[&id];
        if facts.initiator == dev {
            assert!(self.joiner_has(id).is_some() || facts.joiner_ended, "safe1: I is paired and J has nothing");
        } else {
            let other = self.initiator_has(id);
            assert!(other == Some(PairState::Paired) || facts.initiator_ended, "safe2: J is paired and I is not");
        }
        for ((d, _, session), session_facts) in &self.ledger.sessions {
            if session_facts.pairing == Some(id) {
                assert!(!session_facts.said_no, "safe3: device {d} said no in {session} and is paired");
            }
        }
    }

    /// What holds between the disks of any two devices at any moment.
    fn check_commit(&self) {
        for (id, facts) in &self.ledger.pairings {
            let (initiator, joiner) = (self.initiator_has(*id), self.joiner_has(*id));
            if initiator == Some(PairState::Paired) {
                assert!(joiner.is_some() || facts.joiner_ended, "safe1: {id:?}: I is paired, J is not even pending");
            }
            if joiner == Some(PairState::Paired) {
                let paired = initiator == Some(PairState::Paired);
                assert!(paired || facts.initiator_ended, "safe2: {id:?}: J is paired, I is not");
            }
        }
    }

    /// After every step: bounded queues, and no session that outlives its limits.
    pub(super) fn check_bounds(&mut self, dev: Dev) {
        let now = self.now;
        let Some(run) = self.devices[dev].run.as_ref() else { return };
        let (jobs, fresh, live) = run.table.load();
        assert!(jobs <= MAX_JOBS && fresh <= MAX_FRESH && live <= limits::MAX_SESSIONS, "{jobs} {fresh} {live}");
        assert!(run.links.load() <= MAX_LINK_LOAD, "{} things going on in the links", run.links.load());
        for ((d, _, session), facts) in &self.ledger.sessions {
            if *d == dev && facts.ending.is_none() && !facts.crashed {
                assert!(now <= facts.latest_end, "session {session} of device {dev} is stuck");
            }
        }
    }

    pub(super) fn check_event(&mut self, dev: Dev, event: &Event) {
        let run = self.run_number(dev);
        match event {
            Event::ApprovalNeeded { session, device, .. } => self.check_question(dev, run, session, device),
            Event::ComparisonNeeded { session, sas, .. } => {
                self.check_turn(dev, run, session);
                let facts = self.ledger.sessions.get_mut(&(dev, run, session.clone())).expect("a known session");
                facts.shown = Some(sas.clone());
                let status = self.run(dev).table.statuses().into_iter().find(|s| s.session == *session);
                assert!(status.is_some_and(|s| s.sas.is_none_or(|shown| shown == *sas)), "B45: the status is true");
            }
            Event::Paired { session, pairing_id, device, .. } => {
                self.check_ending(dev, run, session, Ok(*pairing_id));
                let facts = self.ledger.pairings.get(pairing_id).expect("a pairing that was stored");
                let other = if facts.initiator == dev { facts.joiner } else { facts.initiator };
                assert_eq!(device.key, self.devices[other].identity.public());
                let ended = if facts.initiator == dev { facts.initiator_ended } else { facts.joiner_ended };
                let stored = self.devices[dev].stored(*pairing_id) == Some(PairState::Paired);
                assert!(stored || ended, "`paired` is told after the disk has it");
            }
            Event::PairingFailed { session, cause } => {
                assert_ne!(*cause, Cause::Internal, "a failed session has a cause");
                self.check_ending(dev, run, session, Err(*cause));
            }
            _ => {}
        }
    }

    fn check_question(&mut self, dev: Dev, run: u64, session: &SessionId, device: &handfast_proto::session::PeerCard) {
        let other = self.devices.iter().find(|d| d.identity.public() == device.key).expect("a device of this world");
        assert_eq!(device.name.as_str(), other.name, "people are shown the name that belongs to the key");
        self.check_turn(dev, run, session);
    }

    /// A person is asked, and asked one thing at a time.
    fn check_turn(&mut self, dev: Dev, run: u64, session: &SessionId) {
        let statuses = self.run(dev).table.statuses();
        let before = self.ledger.asking.insert((dev, run), session.clone());
        if let Some(before) = before.filter(|b| b != session) {
            let asks = |s: &SessionStatus| s.session == before && (s.state == "approval" || s.sas.is_some());
            let still = statuses.iter().any(asks);
            assert!(!still, "two questions at once on device {dev}");
        }
        let facts = self.ledger.sessions.get_mut(&(dev, run, session.clone())).expect("a known session");
        facts.questions += 1;
        assert_eq!(facts.questions, 1, "one question per code");
    }

    fn check_ending(&mut self, dev: Dev, run: u64, session: &SessionId, ending: Result<PairingId, Cause>) {
        let statuses = self.run(dev).table.statuses();
        let facts = self.ledger.sessions.get_mut(&(dev, run, session.clone())).expect("a known session");
        assert!(facts.ending.is_none(), "session {session} of device {dev} ended twice");
        facts.ending = Some(ending);
        assert!(!(facts.said_no && ending.is_ok()), "a refused session paired");
        if let Ok(id) = ending {
            assert_eq!(facts.pairing, Some(id), "a session ends with the pairing that it made");
        }
        // The table may have gone on since the event; it never goes back from an end.
        if let Some(status) = statuses.iter().find(|s| s.session == *session) {
            let said = (status.state == "paired", status.cause);
            assert_eq!(said, (ending.is_ok(), ending.err()), "B45: the status is true");
        }
    }

    pub(super) fn check_link_event(&mut self, dev: Dev, event: &link::Event) {
        match event {
            link::Event::Gone { pairing_id, by_them: true } => {
                let facts = self.ledger.pairings.get(pairing_id).expect("a known pairing");
                assert!(facts.joiner_expired && facts.initiator == dev, "an ending that the peer did not say");
            }
            link::Event::Up { pairing_id, .. } => {
                let facts = self.ledger.pairings.get(pairing_id).expect("a known pairing");
                assert!(facts.initiator == dev || facts.joiner == dev, "a link under somebody else's pairing");
            }
            _ => {}
        }
    }

    /// The joiner has given up on a pairing that the initiator made through a relay: it does not say where it is, and the
    /// initiator never knew.
    pub(super) fn is_untold(&self, id: PairingId) -> bool {
        let facts = &self.ledger.pairings[&id];
        let row = self.devices[facts.initiator].disk.rows.get(&id);
        facts.joiner_expired && row.is_some_and(|row| row.addresses.is_empty())
    }

    /// After everything healed and had its time: no pairing is half there.
    pub(crate) fn check_settled(&self) {
        for (id, facts) in &self.ledger.pairings {
            let (initiator, joiner) = (self.initiator_has(*id), self.joiner_has(*id));
            assert_ne!(initiator, Some(PairState::Pending), "{id:?} is still pending on {}", facts.initiator);
            assert_ne!(joiner, Some(PairState::Pending), "{id:?} is still pending on {}", facts.joiner);
            assert!(initiator == joiner || self.is_untold(*id), "{id:?}: {initiator:?} here and {joiner:?} there");
        }
        assert_eq!(self.ledger.live(), 0, "a session is still open");
    }

    /// How far in the future the last session must have ended.
    pub(crate) fn time_left(&self) -> Duration {
        let open = self.ledger.sessions.values().filter(|f| f.ending.is_none() && !f.crashed);
        open.map(|f| f.latest_end).max().unwrap_or_default().saturating_sub(self.now)
    }
}
