//! The front of a running device: cloneable, one method per command, usable from any task.

use std::time::Duration;

use handfast_proto::cause::Cause;
use handfast_proto::code::CodeInput;
use handfast_proto::session::{Consent, Options};
use tokio::sync::{mpsc, oneshot, watch};
use zeroize::Zeroizing;

use crate::engine::command::{Command, Reply};
use crate::event::{EventStream, Feed, SeenDevice};
use crate::status::{DeviceEntry, SessionEntry, Status};
use crate::{DEFAULT_TTL, Error};

/// Commands waiting for the device; more wait at the caller, whose patience is its own.
pub(crate) const INBOX: usize = 64;

/// A running device. Dropping the last handle stops it; [`Handle::stop`] stops it and waits.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Command>,
    feed: Feed,
    status: watch::Receiver<Status>,
}

/// A code that was made, for the one who asked: show it, then forget it.
pub struct NewCode {
    /// The session that waits for the other device.
    pub session: String,
    /// The twelve words.
    pub words: Zeroizing<Vec<String>>,
    /// The QR text.
    pub qr: Zeroizing<String>,
    /// When its life ends, RFC 3339.
    pub expires_at: String,
    /// Its life.
    pub ttl: Duration,
    /// Number of the event before this session's first one: what to follow [`Handle::events`] from.
    pub seq: u64,
}

/// A session that was opened by entering a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Which.
    pub session: String,
    /// Number of the event before this session's first one.
    pub seq: u64,
}

/// How to open a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairOptions {
    /// Answer this session's question with yes. Never the default: a person should see who asks.
    ///
    /// It does not answer a comparison: nothing but [`Handle::compare`] does.
    pub yes: bool,
    /// Both people compare seven emoji before either device shows its identity. The other side may ask for that as well,
    /// so an [`crate::EventKind::ComparisonNeeded`] can come in any session.
    pub verify: bool,
    /// Life of a code, 5 s to 3600 s; meaningless for a joiner.
    pub ttl: Duration,
}

impl Default for PairOptions {
    fn default() -> Self {
        PairOptions { yes: false, verify: false, ttl: DEFAULT_TTL }
    }
}

impl PairOptions {
    pub(crate) fn wishes(self) -> Options {
        Options { consent: if self.yes { Consent::Given } else { Consent::Ask }, verify: self.verify }
    }
}

/// A round trip to a paired device.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundTrip {
    /// The device.
    pub device: crate::event::DeviceName,
    /// The time it took.
    pub rtt: Duration,
    /// `lan`, `direct` or `relay`.
    pub path: String,
    /// Multiaddress.
    pub address: String,
}

impl Handle {
    pub(crate) fn new(inbox: mpsc::Sender<Command>, feed: Feed, status: watch::Receiver<Status>) -> Handle {
        Handle { inbox, feed, status }
    }

    /// Makes a code and opens a session that waits for the other device.
    ///
    /// # Errors
    /// `usage` if too many sessions are open, `not_running` after the device has stopped.
    pub async fn generate(&self, options: PairOptions) -> Result<NewCode, Error> {
        self.ask(|reply| Command::Generate { options, reply }).await
    }

    /// Enters a code: twelve words or a QR text.
    ///
    /// # Errors
    /// `code_malformed` or `version_mismatch` for a text that cannot be a code, before anything is sent; `usage` for this
    /// device's own code or one that is being joined already.
    pub async fn join(&self, code: &str, options: PairOptions) -> Result<Joined, Error> {
        let code: CodeInput = code.parse()?;
        self.ask(|reply| Command::Join { code: Box::new(code), options, reply }).await
    }

    /// Answers the open question "Allow NAME?": of the named session, or of the only one that asks. Returns the session.
    /// A comparison is not answered by `allow`; without it, it is turned down.
    ///
    /// # Errors
    /// `usage` if no question is open, or if it is a comparison and `allow` is given.
    pub async fn answer(&self, session: Option<String>, allow: bool) -> Result<String, Error> {
        self.ask(|reply| Command::Answer { session, allow, reply }).await
    }

    /// Answers the open comparison: whether both devices show the same, of the named session or of the only one that asks.
    /// Returns the session. After a match nothing more is asked; a difference ends the session on both devices.
    ///
    /// # Errors
    /// `usage` if no comparison is open.
    pub async fn compare(&self, session: Option<String>, matches: bool) -> Result<String, Error> {
        self.ask(|reply| Command::Compare { session, matches, reply }).await
    }

    /// Makes this device visible on the local network to others that do the same, and them to us, until it is paired or
    /// [withdrawn](Handle::cancel). Each device is told by [`crate::EventKind::DeviceSeen`]; who is selected by another
    /// gets a [`crate::EventKind::ComparisonNeeded`]. `yes` answers the question that follows a scanned QR, and no
    /// comparison; `verify` and `ttl` mean nothing here.
    ///
    /// # Errors
    /// `usage` if it runs already, if too many sessions are open, or if this device does not use the local network.
    pub async fn nearby(&self, options: PairOptions) -> Result<Joined, Error> {
        self.ask(|reply| Command::Nearby { options, reply }).await
    }

    /// The devices that are ready to pair, in the order in which they were met; none without [`Handle::nearby`]. Nothing of
    /// them is proven.
    ///
    /// # Errors
    /// `not_running` after the device has stopped.
    pub async fn nearby_devices(&self) -> Result<Vec<SeenDevice>, Error> {
        self.ask(|reply| Command::NearbyDevices { reply }).await
    }

    /// Asks a device of that list to pair, by its id or by a name that only one of them has. Both people then compare
    /// ([`Handle::compare`]); ours may scan the other device's QR instead ([`Handle::confirm_by`]). Returns the session.
    ///
    /// # Errors
    /// `usage` if none or several fit, if a device is being dealt with already, or if this one is refused after three
    /// comparisons that came to nothing.
    pub async fn select(&self, device: &str) -> Result<String, Error> {
        let device = device.to_owned();
        self.ask(|reply| Command::Select { device, reply }).await
    }

    /// Confirms the selected device by the QR text that it shows, in place of the open comparison. A text of another device
    /// ends the session with `wrong_device`. Returns the session.
    ///
    /// # Errors
    /// `code_malformed` or `version_mismatch` for a text that is none, `usage` if no comparison with a selected device is
    /// open.
    pub async fn confirm_by(&self, qr: &str) -> Result<String, Error> {
        let CodeInput::Qr(qr) = qr.parse::<CodeInput>()? else {
            return Err(Error::because(Cause::CodeMalformed, "only a QR text names the device that shows it")
                .with_hint("scan or paste the QR text, which begins with HANDFAST:"));
        };
        self.ask(|reply| Command::ConfirmBy { qr, reply }).await
    }

    /// Withdraws a session: the named one, or the only open one. Returns the session.
    ///
    /// # Errors
    /// `usage` if there is none, or if both sides have agreed already.
    pub async fn cancel(&self, session: Option<String>) -> Result<String, Error> {
        self.ask(|reply| Command::Cancel { session, reply }).await
    }

    /// The QR text of a session that shows a code, as it must look now: the port and addresses in it may have changed since
    /// it was made (event `code_redrawn`). The code in it is the same.
    ///
    /// # Errors
    /// `usage` if the session shows no code, or none any more.
    pub async fn qr(&self, session: &str) -> Result<Zeroizing<String>, Error> {
        let session = session.to_owned();
        self.ask(|reply| Command::Qr { session, reply }).await
    }

    /// All sessions of this run that are remembered, oldest first.
    ///
    /// # Errors
    /// `not_running` after the device has stopped.
    pub async fn sessions(&self) -> Result<Vec<SessionEntry>, Error> {
        self.ask(|reply| Command::Sessions { reply }).await
    }

    /// The paired devices.
    ///
    /// # Errors
    /// `not_running` after the device has stopped.
    pub async fn devices(&self) -> Result<Vec<DeviceEntry>, Error> {
        self.ask(|reply| Command::Devices { reply }).await
    }

    /// One paired device, by name, id (or a unique beginning of at least 4 characters) or fingerprint.
    ///
    /// # Errors
    /// `usage` if none or several fit.
    pub async fn device(&self, device: &str) -> Result<DeviceEntry, Error> {
        let device = device.to_owned();
        self.ask(|reply| Command::Device { device, reply }).await
    }

    /// Gives a paired device another name on this device.
    ///
    /// # Errors
    /// `usage` if none or several fit, `storage` if the store failed.
    pub async fn rename(&self, device: &str, name: &str) -> Result<DeviceEntry, Error> {
        let (device, name) = (device.to_owned(), name.to_owned());
        self.ask(|reply| Command::Rename { device, name, reply }).await
    }

    /// Measures a round trip to a paired device, looking for it first if it is not connected, for at most `wait`.
    ///
    /// # Errors
    /// `usage` for an unknown device, `not_found` if it was not reached in time, `timed_out` if it did not answer.
    pub async fn ping(&self, device: &str, wait: Duration) -> Result<RoundTrip, Error> {
        let device = device.to_owned();
        self.ask(|reply| Command::Ping { device, wait, reply }).await
    }

    /// How things are now.
    pub fn status(&self) -> Status {
        Status { seq: self.feed.last_seq(), ..self.status.borrow().clone() }
    }

    /// Every event after number `since` that is still kept, then every new one. Any number of readers may follow.
    pub fn events(&self, since: u64) -> EventStream {
        self.feed.subscribe(since)
    }

    /// Stops the device: open codes are withdrawn, for at most 2 s, then everything is closed; the store is free for
    /// another process when this returns.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.inbox.send(Command::Stop { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Waits until the device has stopped, for whatever reason.
    pub async fn stopped(&self) {
        self.inbox.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::of(Cause::NotRunning);
        self.inbox.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
