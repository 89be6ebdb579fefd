//! The machine of a session, whichever it is.

use crate::session::initiator::Initiator;
use crate::session::joiner::Joiner;
use crate::session::nearby::Nearby;
use crate::session::{Answer, Asking, Context};
use crate::time::Time;

/// The three kinds of sessions.
pub(super) enum Machine {
    Initiator(Box<Initiator>),
    Joiner(Box<Joiner>),
    Nearby(Box<Nearby>),
}

impl Machine {
    pub(super) fn is_live(&self) -> bool {
        match self {
            Machine::Initiator(m) => m.is_live(),
            Machine::Joiner(m) => m.is_live(),
            Machine::Nearby(m) => m.is_live(),
        }
    }

    /// The session of `pair nearby`, while it lives.
    pub(super) fn live_nearby(&self) -> Option<&Nearby> {
        match self {
            Machine::Nearby(m) if m.is_live() => Some(m),
            Machine::Initiator(_) | Machine::Joiner(_) | Machine::Nearby(_) => None,
        }
    }

    pub(super) fn wiped_at(&self) -> Option<Time> {
        match self {
            Machine::Initiator(m) => m.wiped_at(),
            Machine::Joiner(m) => m.wiped_at(),
            Machine::Nearby(m) => m.wiped_at(),
        }
    }

    pub(super) fn wants_to_ask(&self) -> bool {
        match self {
            Machine::Initiator(m) => m.wants_to_ask(),
            Machine::Joiner(m) => m.wants_to_ask(),
            Machine::Nearby(m) => m.wants_to_ask(),
        }
    }

    pub(super) fn asking(&self) -> Option<Asking> {
        match self {
            Machine::Initiator(m) => m.asking(),
            Machine::Joiner(m) => m.asking(),
            Machine::Nearby(m) => m.asking(),
        }
    }

    pub(super) fn is_comparing(&self) -> bool {
        match self {
            Machine::Initiator(m) => m.is_comparing(),
            Machine::Joiner(m) => m.is_comparing(),
            Machine::Nearby(m) => m.is_comparing(),
        }
    }

    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        match self {
            Machine::Initiator(m) => m.ask(cx),
            Machine::Joiner(m) => m.ask(cx),
            Machine::Nearby(m) => m.ask(cx),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, cx: &mut Context<'_>) {
        match self {
            Machine::Initiator(m) => m.answer(answer, cx),
            Machine::Joiner(m) => m.answer(answer, cx),
            Machine::Nearby(m) => m.answer(answer, cx),
        }
    }

    pub(super) fn cancel(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Machine::Initiator(m) => m.cancel(cx),
            Machine::Joiner(m) => m.cancel(cx),
            Machine::Nearby(m) => m.cancel(cx),
        }
    }
}
