//! One session of `pair nearby`: this device is in the lists of others and waits to be selected, or selects one of them
//! itself. No secret exists before both people have compared, so nothing in the list is trusted.
//!
//! It is made of the two machines of a pairing: an initiator whose invitation is to everybody that was met, and, once our
//! person selected a device, a joiner that asks it. What ends either of them ends the session.

mod list;

use std::net::IpAddr;

use crate::cause::Cause;
use crate::code::qr::QrText;
use crate::handshake::Mode;
use crate::handshake::initiator::P1;
use crate::id::{JobId, PairingId, SessionId, StreamId, Tid};
use crate::keys::CodeKeys;
use crate::lan::NearbyDevice;
use crate::session::initiator::{Initiator, Served};
use crate::session::joiner::{Joiner, Target};
use crate::session::{
    Answer, Asking, Context, Event, Inbound, JobResult, Options, SessionStatus, StreamEnd, Striker, Strikes,
    Whereabouts, earlier,
};
use crate::time::Time;
use crate::wire::beacon::Nid;
use crate::wire::frames::Frame;

use list::{Change, Chosen, List, tcp_addresses};

/// Why a device of the list was not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is no session of `pair nearby`.
    #[error("`pair nearby` is not running on this device")]
    NoSession,
    /// No such device is there (any more).
    #[error("there is no such device nearby")]
    Unknown,
    /// A device is being asked, or asks, already.
    #[error("one device at a time: answer or cancel what is open first")]
    Busy,
    /// Three comparisons with it came to nothing.
    #[error("three comparisons with this device came to nothing: it is refused for ten minutes")]
    Refused,
    /// There is no comparison that a QR text could replace.
    #[error("a QR text is taken while the two devices show their emoji, by the one that selected the other")]
    NothingToConfirm,
}

/// The machine.
pub(super) struct Nearby {
    id: SessionId,
    options: Options,
    /// What this device is called now; what it was called before is good for handshakes that run.
    nid: Option<Nid>,
    list: List,
    host: Initiator,
    guest: Option<Guest>,
    /// Our person has selected a device that asked for the same: it is asked after all if that comes to nothing.
    awaited: Option<Chosen>,
}

/// The device that our person selected.
struct Guest {
    chosen: Chosen,
    joiner: Box<Joiner>,
    /// The comparison whose place a scanned QR takes. It is left open until the code is proven: its end would be taken
    /// for emoji that differ, and over TCP no end of a stream can say otherwise.
    superseded: Option<StreamId>,
}

impl Nearby {
    pub(super) fn new(id: SessionId, options: Options, cx: &Context<'_>) -> Nearby {
        let host = Initiator::nearby(id.clone(), options, cx);
        Nearby { id, options, nid: None, list: List::default(), host, guest: None, awaited: None }
    }

    /// This device has another name in the lists of others.
    pub(super) fn named(&mut self, nid: Nid) {
        self.nid = Some(nid);
    }

    /// A device is near. One that has several addresses is seen at each of them.
    pub(super) fn seen(&mut self, device: NearbyDevice, cx: &mut Context<'_>) {
        if !self.is_live() {
            return;
        }
        let nid = device.nid;
        let change = self.list.seen(device);
        let places = self.welcome_places(nid, cx);
        // The line may be somebody else's by now.
        let is_asked = |guest: &&mut Guest| guest.chosen.nid == nid && self.list.is_still(&guest.chosen);
        if let Some(guest) = self.guest.as_mut().filter(is_asked) {
            guest.joiner.learned(tcp_addresses(&places), cx);
        }
        self.tell(nid, change, cx);
        self.settle(cx);
    }

    /// A device has left one of its addresses.
    pub(super) fn gone(&mut self, nid: Nid, ip: IpAddr, cx: &mut Context<'_>) {
        let change = self.list.gone(nid, ip);
        if self.is_live() {
            self.tell(nid, change, cx);
        }
        self.settle(cx);
    }

    fn tell(&self, nid: Nid, change: Change, cx: &mut Context<'_>) {
        let session = self.id.clone();
        match change {
            Change::Nothing => {}
            Change::Line(device) => cx.event(Event::DeviceSeen { session, device }),
            Change::Gone => cx.event(Event::DeviceGone { session, nid }),
        }
    }

    /// The devices that are near, each once.
    pub(super) fn list(&self) -> Vec<NearbyDevice> {
        self.list.lines()
    }

    /// The places of a device that have not spoiled too much.
    fn welcome_places(&self, nid: Nid, cx: &Context<'_>) -> Vec<NearbyDevice> {
        let is_welcome = |d: &&NearbyDevice| !cx.strikes.refuses(&Striker { nid, address: d.ip }, cx.now.time);
        self.list.places(nid).filter(is_welcome).cloned().collect()
    }

    /// Our person has chosen a device.
    pub(super) fn select(&mut self, nid: Nid, cx: &mut Context<'_>) -> Result<(), SelectError> {
        if !self.is_live() {
            return Err(SelectError::NoSession);
        }
        let chosen = self.list.chosen(nid).ok_or(SelectError::Unknown)?;
        if self.welcome_places(nid, cx).is_empty() {
            return Err(SelectError::Refused);
        }
        if self.guest.is_some() || self.awaited.is_some() {
            return Err(SelectError::Busy);
        }
        match self.host.serves() {
            // It has asked for the same: its comparison is there or on its way.
            Some(served) if self.is_at_a_place_of(nid, &served) => {
                self.awaited = Some(chosen).filter(|_| !served.shown);
                return Ok(());
            }
            Some(served) if served.shown || !self.host.drop_joiners(cx) => return Err(SelectError::Busy),
            Some(_) | None => {}
        }
        self.begin(chosen, cx)
    }

    /// Somebody else may use its id.
    fn is_at_a_place_of(&self, nid: Nid, served: &Served) -> bool {
        served.who.is_some_and(|who| who.nid == nid && self.list.is_place(who))
    }

    /// Asks the device that was chosen.
    fn begin(&mut self, chosen: Chosen, cx: &mut Context<'_>) -> Result<(), SelectError> {
        if !self.list.is_still(&chosen) {
            return Err(SelectError::Unknown);
        }
        let places = self.welcome_places(chosen.nid, cx);
        let first = places.first().ok_or(SelectError::Refused)?;
        let whom = Striker { nid: chosen.nid, address: first.ip };
        let joiner = Joiner::nearby(self.id.clone(), whom, tcp_addresses(&places), self.options, cx);
        self.guest = Some(Guest { chosen, joiner: Box::new(joiner), superseded: None });
        Ok(())
    }

    /// Our person has scanned the QR of the selected device instead of comparing: it must be the one that we are
    /// connected with, and then the code proves the rest.
    pub(super) fn confirm_by(&mut self, qr: QrText, cx: &mut Context<'_>) -> Result<(), SelectError> {
        let guest = self.guest.as_mut().ok_or(SelectError::NothingToConfirm)?;
        let (hints, stream) = guest.joiner.comparing_at().ok_or(SelectError::NothingToConfirm)?;
        let hints = hints.to_vec();
        if guest.joiner.tid() != Some(qr.tid) {
            guest.joiner.refuse(Cause::WrongDevice, cx);
            return Ok(());
        }
        match stream {
            Some(stream) => guest.superseded = Some(stream),
            None => guest.joiner.retire(cx),
        }
        let target = Target { keys: CodeKeys::derive(&qr.code), mode: Mode::Qr, pin: Some(qr.tid), hints };
        *guest.joiner = Joiner::new(self.id.clone(), target, self.options, cx);
        Ok(())
    }

    /// Whether a P1 without a code means this device now, and comes from a device that was met, to an address at which it
    /// was met (D11), and that has spoiled nothing lately.
    pub(super) fn may_admit(&self, from: &Inbound, p1: &P1, strikes: &Strikes, now: Time) -> bool {
        let is_welcome = |who| !strikes.refuses(&who, now);
        self.is_live() && p1.nid() == self.nid && self.list.caller(from).is_some_and(is_welcome)
    }

    /// Takes such a P1.
    pub(super) fn admit(&mut self, stream: StreamId, from: Inbound, p1: P1, cx: &mut Context<'_>) -> bool {
        let Some(who) = self.list.caller(&from) else { return false };
        self.host.admit_nearby(stream, from, who, p1, cx)
    }

    /// Whether this is the device that we are asking ourselves.
    fn is_rival(&self, from: &Inbound) -> bool {
        self.guest.as_ref().is_some_and(|guest| {
            let same = match guest.joiner.tid() {
                Some(tid) => tid == from.tid,
                // Somebody else may have the same address, or the same id.
                None => self.list.caller(from).is_some_and(|who| {
                    who.nid == guest.chosen.nid && self.list.is_still(&guest.chosen) && self.list.is_place(who)
                }),
            };
            guest.joiner.is_asking() && same
        })
    }

    /// Hears the joiner on this stream. If it is the device that we are asking ourselves, both people have selected each
    /// other, and one of the two has to stop asking: we do once its attempt stands, and begin again should it come to
    /// nothing.
    fn host_hears(&mut self, stream: StreamId, frame: Frame, cx: &mut Context<'_>) {
        let newcomer = self.host.half_open(stream);
        let gives_way = newcomer.as_ref().is_some_and(|from| self.is_rival(from) && self.yields_to(from, cx));
        // Whoever else comes while we ask somebody is told that we are busy.
        cx.others_compare |= self.guest.is_some() && !gives_way;
        self.host.handle_frame(stream, frame, cx);
        let stands = self.host.serves().is_some() && self.host.owns_stream(stream);
        if gives_way
            && stands
            && let Some(mut guest) = self.guest.take()
        {
            guest.joiner.retire(cx);
            self.awaited = Some(guest.chosen);
        }
    }

    /// Of two that ask each other, the one with the smaller transport key goes on; but if only one of them gets through
    /// to the other, that one. (Who hears an H1 while it has no connection of its own cannot have sent one.)
    fn yields_to(&self, from: &Inbound, cx: &Context<'_>) -> bool {
        from.tid < cx.config.tid || self.guest.as_ref().is_some_and(|guest| guest.joiner.tid().is_none())
    }

    /// A device that our person has selected asked us as well, and has not gone on: now we ask it.
    fn pursue(&mut self, cx: &mut Context<'_>) {
        let served = self.host.serves();
        if served.as_ref().is_some_and(|served| !served.shown) {
            return;
        }
        let Some(chosen) = self.awaited.take() else { return };
        let is_free = served.is_none() && self.guest.is_none() && self.is_live();
        if is_free && self.begin(chosen, cx).is_err() {
            cx.event(Event::RequestRejected { session: self.id.clone() });
        }
    }

    /// A device that proved one of our codes needs no comparison any more: its person has scanned instead.
    pub(super) fn proved_otherwise(&mut self, tid: Tid, cx: &mut Context<'_>) {
        if self.host.serves().is_some_and(|served| served.tid == tid) {
            self.host.drop_joiners(cx);
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.guest.as_ref().map_or_else(|| self.host.is_live(), |guest| guest.joiner.is_live())
    }

    pub(super) fn wiped_at(&self) -> Option<Time> {
        self.guest.as_ref().map_or_else(|| self.host.wiped_at(), |guest| guest.joiner.wiped_at())
    }

    pub(super) fn status(&self) -> SessionStatus {
        self.guest.as_ref().map_or_else(|| self.host.status(), |guest| guest.joiner.status())
    }

    pub(super) fn wants_to_ask(&self) -> bool {
        self.guest.as_ref().map_or_else(|| self.host.wants_to_ask(), |guest| guest.joiner.wants_to_ask())
    }

    pub(super) fn asking(&self) -> Option<Asking> {
        self.guest.as_ref().map_or_else(|| self.host.asking(), |guest| guest.joiner.asking())
    }

    pub(super) fn is_comparing(&self) -> bool {
        self.host.is_comparing() || self.guest.as_ref().is_some_and(|guest| guest.joiner.is_comparing())
    }

    pub(super) fn ask(&mut self, cx: &mut Context<'_>) {
        match &mut self.guest {
            Some(guest) => guest.joiner.ask(cx),
            None => self.host.ask(cx),
        }
    }

    pub(super) fn answer(&mut self, answer: Answer, cx: &mut Context<'_>) {
        match &mut self.guest {
            Some(guest) => guest.joiner.answer(answer, cx),
            None => self.host.answer(answer, cx),
        }
        self.settle(cx);
    }

    pub(super) fn compared(&mut self, matches: bool, cx: &mut Context<'_>) {
        match &mut self.guest {
            Some(guest) => guest.joiner.compared(matches, cx),
            None => self.host.compared(matches, cx),
        }
        self.settle(cx);
    }

    pub(super) fn cancel(&mut self, cx: &mut Context<'_>) -> bool {
        let done = match &mut self.guest {
            Some(guest) => guest.joiner.cancel(cx),
            None => self.host.cancel(cx),
        };
        self.settle(cx);
        done
    }

    pub(super) fn owns_stream(&self, stream: StreamId) -> bool {
        let guests = |guest: &Guest| guest.joiner.owns_stream(stream) || guest.superseded == Some(stream);
        self.host.owns_stream(stream) || self.guest.as_ref().is_some_and(guests)
    }

    pub(super) fn handle_frame(&mut self, stream: StreamId, frame: Frame, cx: &mut Context<'_>) {
        if self.host.owns_stream(stream) {
            self.host_hears(stream, frame, cx);
        } else if let Some(guest) = self.guest.as_mut().filter(|guest| guest.superseded != Some(stream)) {
            guest.joiner.handle_frame(stream, frame, cx);
        }
        self.settle(cx);
    }

    pub(super) fn handle_stream_end(&mut self, stream: StreamId, end: StreamEnd, cx: &mut Context<'_>) {
        if self.host.owns_stream(stream) {
            self.host.handle_stream_end(stream, end, cx);
        } else if let Some(guest) = &mut self.guest {
            if guest.superseded == Some(stream) {
                guest.superseded = None;
            } else {
                guest.joiner.handle_stream_end(stream, end, cx);
            }
        }
        self.settle(cx);
    }

    pub(super) fn resume(&mut self, token: &[u8; 32], stream: StreamId, from: Inbound, cx: &mut Context<'_>) -> bool {
        self.host.resume(token, stream, from, cx)
    }

    pub(super) fn handle_job(&mut self, id: JobId, result: JobResult, own: &Whereabouts, cx: &mut Context<'_>) {
        match &mut self.guest {
            Some(guest) => guest.joiner.handle_job(id, result, cx),
            None => match result {
                // Of a device that we gave way to.
                JobResult::StreamOpened(stream) => cx.finish(stream),
                result @ (JobResult::Published { .. }
                | JobResult::Found(_)
                | JobResult::LookedUp { .. }
                | JobResult::Dialled(_)
                | JobResult::DialFailed(_)
                | JobResult::StreamFailed
                | JobResult::Stored
                | JobResult::StoreFailed) => self.host.handle_job(id, result, own, cx),
            },
        }
        self.settle(cx);
    }

    pub(super) fn completed(&mut self, pairing_id: PairingId, cx: &mut Context<'_>) -> bool {
        let completed = match &mut self.guest {
            Some(guest) => guest.joiner.completed(pairing_id, cx),
            None => self.host.completed(pairing_id, cx),
        };
        self.settle(cx);
        completed
    }

    pub(super) fn handle_timeout(&mut self, own: &Whereabouts, cx: &mut Context<'_>) {
        self.host.handle_timeout(own, cx);
        if let Some(guest) = &mut self.guest {
            guest.joiner.handle_timeout(cx);
        }
        self.settle(cx);
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        earlier(self.host.poll_timeout(), self.guest.as_ref().and_then(|guest| guest.joiner.poll_timeout()))
    }

    /// Nobody is listened to any more once the session has ended, nor to a comparison that a proven code has replaced.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if let Some(guest) = self.guest.as_mut().filter(|guest| !guest.joiner.is_searching())
            && let Some(stream) = guest.superseded.take()
        {
            cx.finish(stream);
        }
        if self.guest.as_ref().is_some_and(|guest| !guest.joiner.is_live()) {
            self.host.drop_joiners(cx);
        }
        self.pursue(cx);
        if !self.is_live() {
            self.list.clear();
        }
    }
}
