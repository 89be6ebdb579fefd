//! The session of `pair nearby` in the table: there is at most one, and it has no code by which it could be found.

use std::net::IpAddr;

use data_encoding::HEXLOWER;

use super::errors::NearbyError;
use super::machine::Machine;
use super::{Session, Table, Window};
use crate::code::qr::QrText;
use crate::handshake::initiator::P1;
use crate::id::{SessionId, StreamId};
use crate::lan::{NearbyDevice, WindowId};
use crate::session::nearby::{Nearby, SelectError};
use crate::session::{Context, Inbound, Options};
use crate::time::Now;
use crate::wire::beacon::Nid;

impl Table {
    /// Makes this device visible on the local network, and the others to us, until it is paired or withdrawn.
    pub fn nearby(&mut self, options: impl Into<Options>, now: Now) -> Result<SessionId, NearbyError> {
        if !self.shared.config.lan {
            return Err(NearbyError::NoLan);
        }
        if let Some(running) = self.sessions.iter().find(|s| matches!(&s.machine, Machine::Nearby(m) if m.is_live())) {
            return Err(NearbyError::Running(running.id.clone()));
        }
        self.check_room().map_err(|_| NearbyError::TooMany)?;
        let random: [u8; 8] = self.shared.rng.bytes();
        let id = self.fresh_id(SessionId(HEXLOWER.encode(&random)));
        let key = self.next_key;
        let nearby = self.with_context(key, now, |cx, _| Nearby::new(id.clone(), options.into(), cx));
        let machine = Machine::Nearby(Box::new(nearby));
        self.insert(Session { key, id: id.clone(), topic: None, machine, window: Window::None });
        self.settle(now);
        Ok(id)
    }

    /// The devices that are ready to pair, each once, in the order in which they were met; empty without `pair nearby`.
    pub fn nearby_devices(&self) -> Vec<NearbyDevice> {
        self.sessions.iter().find_map(|s| s.machine.live_nearby()).map(Nearby::list).unwrap_or_default()
    }

    /// Asks a device of the list of `pair nearby` to pair. Both people then compare.
    ///
    /// # Errors
    /// If there is no such device, if one is being dealt with already, or if this one is refused.
    pub fn select(&mut self, nid: Nid, now: Now) -> Result<SessionId, SelectError> {
        self.on_nearby(now, |m, cx| m.select(nid, cx))
    }

    /// Confirms the device that was selected by its QR text, in place of the comparison that is shown. If the text is
    /// another device's, the session ends with `wrong_device`.
    ///
    /// # Errors
    /// If no comparison with a selected device is open.
    pub fn confirm_by(&mut self, qr: QrText, now: Now) -> Result<SessionId, SelectError> {
        self.on_nearby(now, |m, cx| m.confirm_by(qr, cx))
    }

    /// Whether this is a session of `pair nearby`.
    pub fn is_nearby(&self, session: &SessionId) -> bool {
        self.sessions.iter().any(|s| s.id == *session && matches!(s.machine, Machine::Nearby(_)))
    }

    fn on_nearby(
        &mut self,
        now: Now,
        f: impl FnOnce(&mut Nearby, &mut Context<'_>) -> Result<(), SelectError>,
    ) -> Result<SessionId, SelectError> {
        let index = self.sessions.iter().position(|s| s.machine.live_nearby().is_some());
        let index = index.ok_or(SelectError::NoSession)?;
        let done = self.on_session(index, now, |machine, _, cx| match machine {
            Machine::Nearby(m) => f(m, cx),
            Machine::Initiator(_) | Machine::Joiner(_) => Err(SelectError::NoSession),
        });
        let id = self.sessions[index].id.clone();
        self.settle(now);
        done.map(|()| id)
    }

    /// A window of `pair nearby` is called by this id from now on.
    pub fn handle_named(&mut self, window: WindowId, nid: Nid, now: Now) {
        self.on_window(window, now, |m, _| m.named(nid));
    }

    /// A device is ready to pair nearby, or more is known of it.
    pub fn handle_ready(&mut self, window: WindowId, device: NearbyDevice, now: Now) {
        self.on_window(window, now, |m, cx| m.seen(device, cx));
    }

    /// A device nearby has fallen silent at this address.
    pub fn handle_gone(&mut self, window: WindowId, nid: Nid, ip: IpAddr, now: Now) {
        self.on_window(window, now, |m, cx| m.gone(nid, ip, cx));
    }

    fn on_window(&mut self, window: WindowId, now: Now, f: impl FnOnce(&mut Nearby, &mut Context<'_>)) {
        if let Some(index) = self.sessions.iter().position(|s| s.key == window.0) {
            self.on_session(index, now, |machine, _, cx| {
                if let Machine::Nearby(m) = machine {
                    f(m, cx);
                }
            });
        }
        self.settle(now);
    }

    /// Without a code nothing is proven by P1, so it is heard no more often than any stranger's. Who cannot mean this
    /// device, or was not met, takes nothing from what the others are allowed.
    pub(super) fn admit_nearby(&mut self, stream: StreamId, from: Inbound, p1: P1, now: Now) -> bool {
        let Some(index) = self.sessions.iter().position(|s| s.machine.live_nearby().is_some()) else {
            return false;
        };
        let is_for_us = match &self.sessions[index].machine {
            Machine::Nearby(m) => m.may_admit(&from, &p1, &self.shared.strikes, now.time),
            Machine::Initiator(_) | Machine::Joiner(_) => false,
        };
        if !is_for_us || !self.nearby_strangers.hear(now.time) {
            return false;
        }
        self.on_session(index, now, |machine, _, cx| match machine {
            Machine::Nearby(m) => m.admit(stream, from, p1, cx),
            Machine::Initiator(_) | Machine::Joiner(_) => false,
        })
    }
}
