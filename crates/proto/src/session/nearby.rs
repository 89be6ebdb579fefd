//! One session of `pair nearby`: this device is in the lists of others and waits to be selected, or selects one of them
//! itself. No secret exists before both people have compared, so nothing in the list is trusted.
//!
//! It is made of the two machines of a pairing: an initiator whose invitation is to everybody that was met, and, once our
//! person selected a device, a joiner that asks it. What ends either of them ends the session.

use std::net::IpAddr;

use crate::addr::{Address, Transport};
use crate::cause::Cause;
use crate::code::qr::QrText;
use crate::handshake::Mode;
use crate::handshake::initiator::P1;
use crate::id::{JobId, PairingId, SessionId, StreamId, Tid};
use crate::keys::CodeKeys;
use crate::lan::NearbyDevice;
use crate::session::initiator::Initiator;
use crate::session::joiner::{Joiner, Target};
use crate::session::{
    Answer, Asking, Context, Event, Inbound, JobResult, Options, SessionStatus, StreamEnd, Striker, Strikes, earlier,
};
use crate::time::Time;
use crate::wire::beacon::Nid;
use crate::wire::frames::Frame;

/// Places at which devices were seen; the machine of the local network has no more.
const MAX_SEEN: usize = 64;

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
    seen: Vec<NearbyDevice>,
    host: Initiator,
    guest: Option<Guest>,
}

/// The device that our person selected.
struct Guest {
    nid: Nid,
    joiner: Box<Joiner>,
    ips: Vec<IpAddr>,
    /// The comparison whose place a scanned QR takes. It is left open until the code is proven: its end would be taken
    /// for emoji that differ, and over TCP no end of a stream can say otherwise.
    superseded: Option<StreamId>,
}

impl Nearby {
    pub(super) fn new(id: SessionId, options: Options) -> Nearby {
        let host = Initiator::nearby(id.clone(), options);
        Nearby { id, options, nid: None, seen: Vec::new(), host, guest: None }
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
        let same = |d: &NearbyDevice| d.nid == device.nid && d.ip == device.ip;
        let known_as = match self.seen.iter().position(same) {
            Some(index) => Some(std::mem::replace(&mut self.seen[index], device.clone()).name),
            None if self.seen.len() < MAX_SEEN => {
                self.seen.push(device.clone());
                None
            }
            None => return,
        };
        // Its ports are news for whoever asks it alone, and what somebody else says under its id for nobody.
        let is_its_own = self.places(device.nid).any(|d| d.ip == device.ip);
        let addresses = self.tcp_addresses(device.nid);
        if let Some(guest) = self.guest.as_mut().filter(|guest| guest.nid == device.nid) {
            guest.joiner.learned(addresses, cx);
        }
        if is_its_own && known_as.is_none_or(|name| name != device.name) {
            cx.event(Event::DeviceSeen { session: self.id.clone(), device });
        }
    }

    /// A device has left one of its addresses.
    pub(super) fn gone(&mut self, nid: Nid, ip: IpAddr, cx: &mut Context<'_>) {
        let owner = self.places(nid).next().map(|d| d.spki);
        self.seen.retain(|d| (d.nid, d.ip) != (nid, ip));
        if !self.is_live() {
            return;
        }
        let now = self.places(nid).next();
        match now {
            None => cx.event(Event::DeviceGone { session: self.id.clone(), nid }),
            // Somebody else used its id.
            Some(device) if owner != Some(device.spki) => {
                cx.event(Event::DeviceSeen { session: self.id.clone(), device: device.clone() });
            }
            Some(_) => {}
        }
    }

    /// Where the device with this id is. An id can be copied; whoever was met first keeps it, at all places where its
    /// listener has the same key.
    fn places(&self, nid: Nid) -> impl Iterator<Item = &NearbyDevice> {
        let owner = self.seen.iter().find(|d| d.nid == nid).map(|d| d.spki);
        self.seen.iter().filter(move |d| d.nid == nid && Some(d.spki) == owner)
    }

    /// The devices that are near, each once.
    pub(super) fn list(&self) -> Vec<NearbyDevice> {
        let mut list: Vec<NearbyDevice> = Vec::new();
        for device in self.seen.iter().filter(|d| self.places(d.nid).any(|own| own.ip == d.ip)) {
            match list.iter_mut().find(|d| d.nid == device.nid) {
                Some(known) => known.name = known.name.take().or_else(|| device.name.clone()),
                None => list.push(device.clone()),
            }
        }
        list
    }

    /// Where a device is dialled. Only a connection over TCP says at which address it came in, which the other side wants
    /// to know.
    fn tcp_addresses(&self, nid: Nid) -> Vec<Address> {
        let all = self.places(nid).flat_map(|d| d.addresses.iter());
        all.filter(|a| a.transport == Transport::Tcp).copied().collect()
    }

    /// Our person has chosen a device.
    pub(super) fn select(&mut self, nid: Nid, cx: &mut Context<'_>) -> Result<(), SelectError> {
        if !self.is_live() {
            return Err(SelectError::NoSession);
        }
        let places: Vec<&NearbyDevice> = self.places(nid).collect();
        let first = places.first().ok_or(SelectError::Unknown)?;
        let whom = Striker { nid, address: first.ip };
        let ips: Vec<IpAddr> = places.iter().map(|d| d.ip).collect();
        if ips.iter().any(|ip| cx.strikes.refuses(&Striker { nid, address: *ip }, cx.now.time)) {
            return Err(SelectError::Refused);
        }
        let addresses = self.tcp_addresses(nid);
        if self.guest.is_some() {
            return Err(SelectError::Busy);
        }
        match self.host.serves() {
            // It has asked for the same: its comparison is there or on its way.
            Some(served) if served.who.is_some_and(|who| who.nid == nid) => return Ok(()),
            Some(served) if served.shown || !self.host.drop_joiners(cx) => return Err(SelectError::Busy),
            Some(_) | None => {}
        }
        let joiner = Joiner::nearby(self.id.clone(), whom, addresses, self.options, cx);
        self.guest = Some(Guest { nid, joiner: Box::new(joiner), ips, superseded: None });
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
        self.is_live() && p1.nid() == self.nid && self.met(from).is_some_and(is_welcome)
    }

    /// Takes such a P1.
    pub(super) fn admit(&mut self, stream: StreamId, from: Inbound, p1: P1, cx: &mut Context<'_>) -> bool {
        let Some(who) = self.met(&from) else { return false };
        if !self.gives_way(&from, cx) && self.is_rival(&from) {
            return false;
        }
        self.host.admit_nearby(stream, from, who, p1, cx)
    }

    /// The device of the list that this is. Several may have one address; their ports tell them apart, as long as they
    /// dial from where they listen.
    fn met(&self, from: &Inbound) -> Option<Striker> {
        let local = from.local.filter(|_| from.address.transport == Transport::Tcp)?;
        let here = |d: &&NearbyDevice| d.ip == from.address.ip && d.own.contains(&local);
        let exact = self.seen.iter().filter(here).find(|d| d.addresses.contains(&from.address));
        let device = exact.or_else(|| self.seen.iter().find(here))?;
        Some(Striker { nid: device.nid, address: device.ip })
    }

    /// Whether this is the device that we are asking ourselves.
    fn is_rival(&self, from: &Inbound) -> bool {
        self.guest.as_ref().is_some_and(|guest| {
            let same = match guest.joiner.tid() {
                Some(tid) => tid == from.tid,
                None => guest.ips.contains(&from.address.ip),
            };
            guest.joiner.is_asking() && same
        })
    }

    /// Both have selected each other: the smaller transport key stays the joiner.
    fn gives_way(&mut self, from: &Inbound, cx: &mut Context<'_>) -> bool {
        let gives_way = self.is_rival(from) && from.tid < cx.config.tid;
        if gives_way && let Some(mut guest) = self.guest.take() {
            guest.joiner.retire(cx);
        }
        gives_way
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
            if let Some(from) = self.host.half_open(stream) {
                self.gives_way(&from, cx);
            }
            // Whoever comes while we ask somebody is told that we are busy.
            cx.others_compare |= self.guest.is_some();
            self.host.handle_frame(stream, frame, cx);
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

    pub(super) fn handle_job(&mut self, id: JobId, result: JobResult, own: &[Address], cx: &mut Context<'_>) {
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

    pub(super) fn handle_timeout(&mut self, own: &[Address], cx: &mut Context<'_>) {
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
        if !self.is_live() {
            self.seen.clear();
        }
    }
}
