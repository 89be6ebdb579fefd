//! What a world knows and no device does: who really paired with whom, under which code, and who said no.

use std::collections::BTreeMap;
use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::id::{PairingId, SessionId};
use handfast_proto::limits;
use handfast_proto::sas::Sas;
use handfast_proto::session::Role;

use super::world::Dev;

/// A session of one run of a device.
pub(crate) type SessionKey = (Dev, u64, SessionId);

/// How long a write to the disk, and the other small delays of a world, may add to a session.
const SLACK: Duration = Duration::from_secs(60);

/// What is known of a session.
pub(crate) struct SessionFacts {
    pub(crate) role: Role,
    /// When it must have ended, whatever happens.
    pub(crate) latest_end: Duration,
    pub(crate) ending: Option<Result<PairingId, Cause>>,
    /// Its person denied, declined or withdrew it.
    pub(crate) said_no: bool,
    /// The program ended before the session did.
    pub(crate) crashed: bool,
    pub(crate) questions: u32,
    /// Its person asked for a comparison.
    pub(crate) verify: bool,
    /// What its screen showed.
    pub(crate) shown: Option<Sas>,
    /// Its person said that the screens match.
    pub(crate) matched: bool,
    /// The pairing that this session made pending, on its side.
    pub(crate) pairing: Option<PairingId>,
}

/// What is known of a pairing.
pub(crate) struct PairingFacts {
    pub(crate) initiator: Dev,
    pub(crate) joiner: Dev,
    pub(crate) secret: [u8; 32],
    /// The initiator no longer has it, by a rule: 24 h, declined, told that it is over.
    pub(crate) initiator_ended: bool,
    pub(crate) joiner_ended: bool,
    /// The joiner gave it up after its 24 h: the notice that it leaves is a true one.
    pub(crate) joiner_expired: bool,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) sessions: BTreeMap<SessionKey, SessionFacts>,
    pub(crate) pairings: BTreeMap<PairingId, PairingFacts>,
    /// Which session asks a person at the moment, by device and run.
    pub(crate) asking: BTreeMap<(Dev, u64), SessionId>,
}

/// The longest a joiner's session may take, from the limits of its phases: finding somebody; trying eight candidates;
/// being told busy; both questions; a lost connection while each is open and after; the hellos at the end.
fn joiner_limit() -> Duration {
    let search = limits::FIND + limits::CONNECT + limits::HANDSHAKE_STEP * limits::MAX_CANDIDATES as u32 + limits::BUSY;
    let agree = limits::PEER_ANSWER + limits::QUESTION;
    let finish = (limits::RESUME + limits::CONFIRMATION) * 2 + limits::HELLO_RETRY;
    search + agree + finish + SLACK
}

/// The longest an initiator's session may take: the life of the code, and one handshake that began within it, its
/// connection lost before H3.
fn initiator_limit(ttl: Duration) -> Duration {
    ttl + limits::RESUME + limits::QUESTION + limits::PEER_ANSWER + SLACK
}

impl Ledger {
    pub(super) fn generated(&mut self, key: SessionKey, now: Duration, ttl: Duration, verify: bool) {
        self.open(key, Role::Initiator, now + initiator_limit(ttl), verify);
    }

    pub(super) fn joined(&mut self, key: SessionKey, now: Duration, verify: bool) {
        self.open(key, Role::Joiner, now + joiner_limit(), verify);
    }

    fn open(&mut self, key: SessionKey, role: Role, latest_end: Duration, verify: bool) {
        let facts = SessionFacts {
            role,
            latest_end,
            ending: None,
            said_no: false,
            crashed: false,
            questions: 0,
            verify,
            shown: None,
            matched: false,
            pairing: None,
        };
        let name = format!("{key:?}");
        assert!(self.sessions.insert(key, facts).is_none(), "{name} is used twice");
    }

    pub(super) fn said_no(&mut self, dev: Dev, run: u64, session: &SessionId) {
        if let Some(facts) = self.sessions.get_mut(&(dev, run, session.clone())) {
            facts.said_no = true;
        }
    }

    pub(super) fn crashed(&mut self, dev: Dev, run: u64) {
        for ((d, r, _), facts) in &mut self.sessions {
            facts.crashed |= *d == dev && *r == run && facts.ending.is_none();
        }
    }

    /// The code under which a pairing was made, once its initiator has agreed.
    pub(super) fn code_of_pairing(&self, id: PairingId) -> Option<String> {
        let made = self.sessions.iter().find(|(_, f)| f.role == Role::Initiator && f.pairing == Some(id));
        made.map(|((_, _, session), _)| code_of(session).to_owned())
    }

    /// Sessions that neither ended nor went down with their program.
    pub(crate) fn live(&self) -> usize {
        self.sessions.values().filter(|f| f.ending.is_none() && !f.crashed).count()
    }

    /// How the sessions of all devices ended.
    pub(crate) fn endings(&self) -> impl Iterator<Item = Result<PairingId, Cause>> + '_ {
        self.sessions.values().filter_map(|f| f.ending)
    }
}

/// The part of a session's name that comes from its code: both sides have the same.
pub(crate) fn code_of(session: &SessionId) -> &str {
    session.0.split('-').next().unwrap_or_default()
}
