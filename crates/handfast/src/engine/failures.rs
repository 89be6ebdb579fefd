//! What a cause is called as it looks from this device: with what it uses, and what was asked of its person.

use handfast_proto::cause::Cause;
use handfast_proto::id::SessionId;

use crate::Error;
use crate::engine::actor::Actor;
use crate::engine::nearby;

/// Of a device that was told to keep to itself.
const USES_NEITHER: &str = "this device uses neither the local network nor bootstrap nodes";

/// What ends that.
const USE_ONE: &str = "leave --no-lan out, or name a running node with --bootstrap (see `handfast serve`)";

impl Actor {
    /// The end of a session.
    pub(super) fn failure(&self, session: &SessionId, cause: Cause) -> Error {
        let is_nearby = self.table.is_nearby(session);
        let again = if is_nearby { nearby::AGAIN } else { "make a new code" };
        let compared = self.comparisons.failure(session, cause, again);
        compared.unwrap_or_else(|| if is_nearby { nearby::failure(cause) } else { self.searched(cause) })
    }

    /// What is known to be wrong while a session goes on.
    pub(super) fn explained(&self, cause: Cause) -> Error {
        if cause == Cause::NoBootstrap && !self.knows_nodes {
            return Error::because(cause, "no node of the rendezvous network is configured")
                .with_hint("name a running node with --bootstrap (see `handfast serve`)");
        }
        Error::of(cause)
    }

    /// What is known to be wrong with a code from the start: its words lead nobody here.
    pub(super) fn hidden(&self) -> Option<Error> {
        let hint = format!("{USE_ONE}; the QR still leads here, by the addresses in it");
        let error = || Error::because(Cause::NoNetwork, format!("{USES_NEITHER}: nobody can find it by the words"));
        self.keeps_to_itself.then(|| error().with_hint(hint))
    }

    /// The same, of a search that is over.
    fn searched(&self, cause: Cause) -> Error {
        if self.keeps_to_itself && matches!(cause, Cause::NotFound | Cause::NoBootstrap) {
            return Error::because(cause, format!("{USES_NEITHER}: it can find nobody by words")).with_hint(USE_ONE);
        }
        let error = self.explained(cause);
        if cause != Cause::NoBootstrap || !self.uses_lan {
            return error;
        }
        let text = format!("nobody with this code is on this network, and {}", error.text);
        let hint = format!("check the words against the other screen; if it is in another network, {}", error.hint);
        Error { text, hint, ..error }
    }
}

/// Where it should listen it cannot: it is another program's port, or another machine's address.
pub(super) fn not_started(error: &impl std::fmt::Display, option: &str) -> Error {
    Error::because(Cause::NoNetwork, error)
        .with_hint(format!("name an address of this machine and a port that is free with {option}"))
}
