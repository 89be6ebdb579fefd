//! What a [`crate::Handle`] can ask, and the function that carries each request out.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::CodeInput;
use handfast_proto::code::qr::QrText;
use handfast_proto::code::words::to_words;
use handfast_proto::id::SessionId;
use handfast_proto::limits;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::engine::actor::Actor;
use crate::engine::nearby;
use crate::engine::peers::{label, pending_entry};
use crate::event::{EventKind, SeenDevice};
use crate::handle::{Joined, NewCode, PairOptions, RoundTrip};
use crate::status::{DeviceEntry, SessionEntry, rfc3339};
use crate::store::worker::{Asker, Change};
use crate::{Error, WORD_COUNT};

/// Where an answer goes. The asker may have gone away meanwhile; that is its business.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A request.
pub(crate) enum Command {
    Generate { options: PairOptions, reply: Reply<NewCode> },
    Join { code: Box<CodeInput>, options: PairOptions, reply: Reply<Joined> },
    Answer { session: Option<String>, allow: bool, reply: Reply<String> },
    Compare { session: Option<String>, matches: bool, reply: Reply<String> },
    Cancel { session: Option<String>, reply: Reply<String> },
    Nearby { options: PairOptions, reply: Reply<Joined> },
    NearbyDevices { reply: Reply<Vec<SeenDevice>> },
    Select { device: String, reply: Reply<String> },
    ConfirmBy { qr: Box<QrText>, reply: Reply<String> },
    Qr { session: String, reply: Reply<Zeroizing<String>> },
    Sessions { reply: Reply<Vec<SessionEntry>> },
    Devices { reply: Reply<Vec<DeviceEntry>> },
    Device { device: String, reply: Reply<DeviceEntry> },
    Rename { device: String, name: String, reply: Reply<DeviceEntry> },
    Ping { device: String, wait: Duration, reply: Reply<RoundTrip> },
    Stop { reply: oneshot::Sender<()> },
}

impl Actor {
    /// Carries a request out.
    pub(super) fn command(&mut self, command: Command) {
        // An answer that nobody takes any more is dropped.
        match command {
            Command::Generate { .. }
                if self.early.len() < limits::MAX_SESSIONS && !self.shown.is_settled(self.now().time) =>
            {
                self.early.push(command);
            }
            Command::Generate { options, reply } => drop(reply.send(self.generate(options))),
            Command::Join { code, options, reply } => drop(reply.send(self.join(*code, options))),
            Command::Answer { session, allow, reply } => {
                let now = self.now();
                let id = session.map(SessionId);
                let answered = self.table.answer(id.as_ref(), allow, now);
                drop(reply.send(answered.map(|s| s.0).map_err(Error::from)));
            }
            Command::Compare { session, matches, reply } => {
                let now = self.now();
                let id = session.map(SessionId);
                let compared = self.table.compare(id.as_ref(), matches, now);
                if let Ok(session) = &compared {
                    self.comparisons.answered(session, matches);
                }
                drop(reply.send(compared.map(|s| s.0).map_err(Error::from)));
            }
            Command::Cancel { session, reply } => {
                let now = self.now();
                let id = session.map(SessionId);
                let cancelled = self.table.cancel(id.as_ref(), now);
                drop(reply.send(cancelled.map(|s| s.0).map_err(Error::from)));
            }
            Command::Nearby { options, reply } => drop(reply.send(self.nearby(options))),
            Command::NearbyDevices { reply } => {
                let list = self.table.nearby_devices();
                drop(reply.send(Ok(list.iter().map(SeenDevice::from).collect())));
            }
            Command::Select { device, reply } => drop(reply.send(self.select(&device))),
            Command::ConfirmBy { qr, reply } => {
                let now = self.now();
                drop(reply.send(self.table.confirm_by(*qr, now).map(|s| s.0).map_err(Error::from)));
            }
            Command::Qr { session, reply } => {
                let none = || Error::because(Cause::Usage, "this session shows no code");
                drop(reply.send(self.shown.qr(&session).ok_or_else(none)));
            }
            Command::Sessions { reply } => {
                drop(reply.send(Ok(self.session_entries())));
            }
            Command::Devices { reply } => drop(reply.send(Ok(self.device_entries()))),
            Command::Device { device, reply } => {
                let entry = self.peers.find(&device).map(|id| self.device_entry(id));
                drop(reply.send(entry));
            }
            Command::Rename { device, name, reply } => self.rename(&device, &name, reply),
            Command::Ping { device, wait, reply } => self.ping(&device, wait, reply),
            Command::Stop { reply } => self.stop(Some(reply)),
        }
    }

    /// The sessions of this run, and the pending pairings of earlier ones.
    fn session_entries(&self) -> Vec<SessionEntry> {
        let mut entries: Vec<SessionEntry> = self.table.statuses().iter().map(SessionEntry::from).collect();
        for row in self.peers.pending() {
            let id = row.key.id().0;
            let is_shown = |e: &SessionEntry| e.cause.is_none() && e.device.as_ref().is_some_and(|d| d.id == id);
            if !entries.iter().any(is_shown) {
                entries.push(pending_entry(row));
            }
        }
        entries
    }

    fn generate(&mut self, options: PairOptions) -> Result<NewCode, Error> {
        self.check_room()?;
        let seq = self.hub.last_seq();
        let now = self.now();
        let ttl = options.ttl.clamp(limits::MIN_TTL, limits::MAX_TTL);
        let (session, code) = self.table.generate(options.wishes(), ttl, now)?;
        let words: [&str; WORD_COUNT] = to_words(&code);
        let qr = self.shown.add(&session.0, code);
        let expires_at = rfc3339(now.unix.0.saturating_add(ttl.as_secs()));
        self.hub.publish(EventKind::CodeCreated {
            session: session.0.clone(),
            words: None,
            qr: None,
            expires_at: expires_at.clone(),
        });
        if let Some(error) = self.hidden() {
            self.hub.publish(EventKind::trouble(session.0.clone(), &error));
        }
        Ok(NewCode {
            session: session.0,
            words: Zeroizing::new(words.iter().map(|w| (*w).to_owned()).collect()),
            qr,
            expires_at,
            ttl,
            seq,
        })
    }

    fn join(&mut self, code: CodeInput, options: PairOptions) -> Result<Joined, Error> {
        self.check_room()?;
        let seq = self.hub.last_seq();
        let now = self.now();
        let session = self.table.join(code, options.wishes(), now)?;
        self.hub.publish(EventKind::CodeEntered { session: session.0.clone() });
        Ok(Joined { session: session.0, seq })
    }

    fn nearby(&mut self, options: PairOptions) -> Result<Joined, Error> {
        self.check_room()?;
        let seq = self.hub.last_seq();
        let now = self.now();
        let session = self.table.nearby(options.wishes(), now)?;
        Ok(Joined { session: session.0, seq })
    }

    fn select(&mut self, wanted: &str) -> Result<String, Error> {
        let list = self.table.nearby_devices();
        let device = nearby::find(&list, wanted)?;
        let now = self.now();
        let session = self.table.select(device.nid, now)?;
        self.hub.publish(EventKind::DeviceSelected { session: session.0.clone(), id: device.nid.shown() });
        Ok(session.0)
    }

    fn check_room(&self) -> Result<(), Error> {
        if self.peers.is_full() {
            let text = format!("a device has at most {} pairings", limits::MAX_PAIRINGS);
            return Err(Error::because(Cause::Usage, text).with_hint("remove a device that is no longer needed"));
        }
        Ok(())
    }

    /// Answered when the disk has it.
    fn rename(&mut self, device: &str, name: &str, reply: Reply<DeviceEntry>) {
        match self.peers.find(device).and_then(|id| Ok((id, label(name)?))) {
            // A full queue drops the reply, and with it the request ends.
            Ok((id, label)) => drop(self.worker.submit(Asker::Nobody, Change::Label(id, label, reply))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn ping(&mut self, device: &str, wait: Duration, reply: Reply<RoundTrip>) {
        let id = match self.peers.find(device) {
            Ok(id) => id,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let now = self.now();
        let token = self.pings.add(id, reply);
        if !self.links.ping(id, token, wait, now)
            && let Some((_, reply)) = self.pings.take(token)
        {
            let text = format!("{} pings are waiting already", limits::MAX_PINGS);
            drop(reply.send(Err(Error::because(Cause::Usage, text))));
        }
    }
}
