//! What an initiator listens to: holders of a code, which ends and is advertised, or anybody nearby, as long as its
//! person waits for them.

use crate::addr::{dialable_relays, for_advert};
use crate::handshake::HandshakeError;
use crate::handshake::initiator::{P1, ReceivedH1, SentP2};
use crate::id::{JobId, Tid};
use crate::keys::CodeKeys;
use crate::secret::Rng;
use crate::session::advertiser::Advertiser;
use crate::session::{Context, Whereabouts};
use crate::time::{Time, UnixTime};
use crate::wire::Malformed;
use crate::wire::advert::{Advert, AdvertState, MAX_ADDRESSES, MAX_RELAYS};
use crate::wire::frames::Frame;

/// Whom an initiator listens to.
pub(super) enum Invitation {
    /// Whoever has the code.
    Code(Box<CodeInvitation>),
    /// Whoever selected this device in the list of `pair nearby`. It has no end of its own.
    Nearby,
}

/// A code of ours.
pub(super) struct CodeInvitation {
    pub(super) keys: CodeKeys,
    pub(super) ends: Time,
    pub(super) not_after: UnixTime,
    pub(super) failed_proofs: u8,
    pub(super) advertiser: Advertiser,
}

/// A joiner whose H1 is due.
pub(super) enum Knock {
    /// Its P1 fits our code.
    Code(P1),
    /// Its P1 names this device; P2 is sent.
    Nearby(SentP2),
}

impl Knock {
    /// Takes H1.
    pub(super) fn handle(
        self,
        invitation: &Invitation,
        frame: &Frame,
        rng: &mut Rng,
    ) -> Result<ReceivedH1, HandshakeError> {
        match (self, invitation) {
            (Knock::Code(p1), Invitation::Code(code)) => p1.handle(&code.keys, frame, rng),
            (Knock::Nearby(hs), Invitation::Nearby) => hs.handle(frame, rng),
            (Knock::Code(_), Invitation::Nearby) | (Knock::Nearby(_), Invitation::Code(_)) => {
                Err(HandshakeError::Malformed(Malformed))
            }
        }
    }
}

impl Invitation {
    pub(super) fn code(&self) -> Option<&CodeInvitation> {
        match self {
            Invitation::Code(code) => Some(code),
            Invitation::Nearby => None,
        }
    }

    fn code_mut(&mut self) -> Option<&mut CodeInvitation> {
        match self {
            Invitation::Code(code) => Some(code),
            Invitation::Nearby => None,
        }
    }

    pub(super) fn is_nearby(&self) -> bool {
        matches!(self, Invitation::Nearby)
    }

    /// Whether its life has ended.
    pub(super) fn has_expired(&self, now: Time) -> bool {
        self.code().is_some_and(|code| now >= code.ends)
    }

    /// When its life ends.
    pub(super) fn ends(&self) -> Option<Time> {
        self.code().map(|code| code.ends)
    }

    /// One more proof failed; how many that makes. Without a code there is nothing that could be guessed.
    pub(super) fn count_failed_proof(&mut self) -> u8 {
        self.code_mut().map_or(0, |code| {
            code.failed_proofs = code.failed_proofs.saturating_add(1);
            code.failed_proofs
        })
    }

    /// Whether `id` was ours and brought the record of the code to at least one node.
    pub(super) fn published(&mut self, id: JobId, stored_on: usize, now: Time) -> bool {
        self.code_mut().is_some_and(|code| code.advertiser.published(id, stored_on, now))
    }

    /// Whether no node has taken the record for a while; told once.
    pub(super) fn is_unheard(&mut self, now: Time) -> bool {
        self.code_mut().is_some_and(|code| code.advertiser.is_unheard(now))
    }

    /// What the record of the code says has changed.
    pub(super) fn advertise_anew(&mut self, now: Time) {
        if let Some(code) = self.code_mut() {
            code.advertiser.due(now);
        }
    }

    /// From now on the record of the code says that it is over.
    pub(super) fn bury(&mut self, state: AdvertState, now: Time) {
        if let Some(code) = self.code_mut() {
            code.advertiser.close(state, now);
        }
    }

    /// When the record, or news of it, is due.
    pub(super) fn next_advert(&self) -> Option<Time> {
        self.code().and_then(|code| code.advertiser.deadline())
    }

    /// Publishes the record of the code, or buries it, if that is due.
    pub(super) fn advertise(&mut self, own: &Whereabouts, cx: &mut Context<'_>) {
        let Some(CodeInvitation { keys, ends, not_after, advertiser, .. }) = self.code_mut() else { return };
        let not_after = *not_after;
        let advert = |cx: &Context<'_>| advert(cx.config.tid, not_after, own, cx);
        advertiser.run(keys, ends.since(cx.now.time), advert, cx);
    }
}

fn advert(tid: Tid, not_after: UnixTime, own: &Whereabouts, cx: &Context<'_>) -> Advert {
    Advert {
        state: AdvertState::Open,
        not_after,
        tid,
        addresses: for_advert(&own.addresses, cx.config.loopback, MAX_ADDRESSES),
        relays: dialable_relays(&own.relays, cx.config.loopback, MAX_RELAYS),
    }
}
