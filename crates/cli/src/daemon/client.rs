//! The client of the control API: one connection a request, each wait with an end.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use handfast::{Cause, DeviceEntry, Error, PairOptions, SessionEntry, Status};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::api::STREAM_COMMENT;
use super::path::encode;
use super::process::Process;
use super::sse::Parser;
use super::wire::{
    AnswerBody, CancelBody, CodeReply, CompareBody, ConfirmBody, Done, ErrorReply, GenerateBody, JoinBody, JoinReply,
    NearbyBody, PingBody, PingReply, QrReply, RenameBody, SelectBody, SessionReply,
};
use crate::instance::Instance;

/// A device answers from memory; the longest work before an answer is a write to its disk.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// What the library adds to the wait for a device: the ping itself.
const PING_EXTRA: Duration = Duration::from_secs(15);

/// Two comments may be late before a stream counts as dead.
const SILENCE_MAX: Duration = STREAM_COMMENT.saturating_mul(3);

/// Longest answer: the list of all devices and sessions has some tens of kilobytes.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Talks to the device of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    instance: String,
}

impl Client {
    /// For the device of `instance`, running or not.
    pub(crate) fn of(instance: &Instance) -> Client {
        let name = &instance.name;
        Client { socket: instance.socket(), instance: name.as_str().to_owned() }
    }

    /// How the device is.
    pub(crate) async fn status(&self) -> Result<Status, Error> {
        self.get("/v1/status").await
    }

    /// Its sessions.
    pub(crate) async fn sessions(&self) -> Result<Vec<SessionEntry>, Error> {
        self.get("/v1/pair").await
    }

    /// Its paired devices.
    pub(crate) async fn devices(&self) -> Result<Vec<DeviceEntry>, Error> {
        self.get("/v1/devices").await
    }

    /// One of them.
    pub(crate) async fn device(&self, device: &str) -> Result<DeviceEntry, Error> {
        self.get(&format!("/v1/devices/{}", encode(device))).await
    }

    /// Makes a code.
    pub(crate) async fn generate(&self, options: PairOptions) -> Result<CodeReply, Error> {
        let PairOptions { yes, verify, ttl } = options;
        self.post("/v1/pair/generate", &GenerateBody { yes, verify, ttl: ttl.as_secs() }, ANSWER_WAIT).await
    }

    /// The QR text of a code as it must look now.
    pub(crate) async fn qr(&self, session: &str) -> Result<Zeroizing<String>, Error> {
        let body = SessionReply { session: session.to_owned() };
        let mut reply: QrReply = self.post("/v1/pair/qr", &body, ANSWER_WAIT).await?;
        Ok(Zeroizing::new(std::mem::take(&mut reply.qr)))
    }

    /// Enters a code.
    pub(crate) async fn join(&self, code: &str, options: PairOptions) -> Result<JoinReply, Error> {
        let PairOptions { yes, verify, .. } = options;
        self.post("/v1/pair/join", &JoinBody { code: code.to_owned(), yes, verify }, ANSWER_WAIT).await
    }

    /// Makes the device visible to others nearby, and them to it.
    pub(crate) async fn nearby(&self, options: PairOptions) -> Result<JoinReply, Error> {
        self.post("/v1/pair/nearby", &NearbyBody { yes: options.yes }, ANSWER_WAIT).await
    }

    /// Asks a device nearby to pair; returns the session.
    pub(crate) async fn select(&self, device: &str) -> Result<String, Error> {
        let body = SelectBody { device: device.to_owned() };
        let reply: SessionReply = self.post("/v1/pair/select", &body, ANSWER_WAIT).await?;
        Ok(reply.session)
    }

    /// Confirms the selected device by its QR text; returns the session.
    pub(crate) async fn confirm_by(&self, qr: &str) -> Result<String, Error> {
        let body = ConfirmBody { qr: qr.to_owned() };
        let reply: SessionReply = self.post("/v1/pair/confirm", &body, ANSWER_WAIT).await?;
        Ok(reply.session)
    }

    /// Answers the question of a session; returns the session.
    pub(crate) async fn answer(&self, session: Option<String>, allow: bool) -> Result<String, Error> {
        let reply: SessionReply = self.post("/v1/pair/answer", &AnswerBody { session, allow }, ANSWER_WAIT).await?;
        Ok(reply.session)
    }

    /// Answers the comparison of a session; returns the session.
    pub(crate) async fn compare(&self, session: Option<String>, matches: bool) -> Result<String, Error> {
        let reply: SessionReply = self.post("/v1/pair/compare", &CompareBody { session, matches }, ANSWER_WAIT).await?;
        Ok(reply.session)
    }

    /// Withdraws a session; returns it.
    pub(crate) async fn cancel(&self, session: Option<String>) -> Result<String, Error> {
        let reply: SessionReply = self.post("/v1/pair/cancel", &CancelBody { session }, ANSWER_WAIT).await?;
        Ok(reply.session)
    }

    /// Renames a device.
    pub(crate) async fn rename(&self, device: &str, name: &str) -> Result<DeviceEntry, Error> {
        let body = RenameBody { name: name.to_owned() };
        self.post(&format!("/v1/devices/{}/rename", encode(device)), &body, ANSWER_WAIT).await
    }

    /// Measures a round trip, looking for the device for at most `wait`.
    pub(crate) async fn ping(&self, device: &str, wait: Duration) -> Result<PingReply, Error> {
        let body = PingBody { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) };
        self.post(&format!("/v1/devices/{}/ping", encode(device)), &body, wait + PING_EXTRA).await
    }

    /// Asks the device to stop; returns the process that runs it, to wait for its end.
    pub(crate) async fn stop(&self) -> Result<Process, Error> {
        let stream = self.connect().await?;
        let process = Process::behind(&stream, self.clone());
        let request = self.request(Method::POST, "/v1/stop", Body::empty())?;
        let _: Done = self.bounded(ANSWER_WAIT, self.exchange(stream, request)).await?;
        Ok(process)
    }

    /// Follows the events after number `since`, or from now on.
    pub(crate) async fn events(&self, since: Option<u64>) -> Result<Feed, Error> {
        let query = since.map(|seq| format!("?since={seq}")).unwrap_or_default();
        let request = self.request(Method::GET, &format!("/v1/events{query}"), Body::empty())?;
        let open = async {
            let response = self.send(self.connect().await?, request).await?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            Err(self.refusal(&self.whole(response).await?))
        };
        let body = self.bounded(ANSWER_WAIT, open).await?;
        Ok(Feed { body, parser: Parser::default() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::GET, path, Body::empty())?;
        self.bounded(ANSWER_WAIT, async { self.exchange(self.connect().await?, request).await }).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize, wait: Duration) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|e| Error::because(Cause::Internal, e))?;
        let request = self.request(Method::POST, path, Body::from(body))?;
        self.bounded(wait, async { self.exchange(self.connect().await?, request).await }).await
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Error> {
        // HTTP/1.1 wants a host; a socket has none.
        let builder = Request::builder().method(method).uri(path).header("host", "localhost");
        builder.header("content-type", "application/json").body(body).map_err(|e| Error::because(Cause::Internal, e))
    }

    async fn bounded<T>(&self, wait: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(wait, work).await {
            Ok(done) => done,
            Err(_) => Err(Error::because(Cause::Internal, "the running device does not answer its control socket")
                .with_hint("stop its process, then start it again")),
        }
    }

    async fn connect(&self) -> Result<UnixStream, Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            // No socket, or one that a killed process has left behind.
            let absent = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
            if absent.contains(&error.kind()) {
                return self.not_running();
            }
            Error::because(Cause::Storage, format!("{}: {error}", self.socket.display()))
        })?;
        // A code goes over this socket: not to a process of somebody else.
        match stream.peer_cred() {
            Ok(credentials) if credentials.uid() == rustix::process::geteuid().as_raw() => Ok(stream),
            Ok(_) | Err(_) => {
                Err(Error::because(Cause::Storage, format!("{} belongs to another user", self.socket.display())))
            }
        }
    }

    async fn send(&self, stream: UnixStream, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| self.lost())?;
        // It ends when the answer has been read.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|_| self.lost())
    }

    async fn exchange<T: DeserializeOwned>(&self, stream: UnixStream, request: Request<Body>) -> Result<T, Error> {
        let response = self.send(stream, request).await?;
        let success = response.status().is_success();
        let bytes = self.whole(response).await?;
        if !success {
            return Err(self.refusal(&bytes));
        }
        serde_json::from_slice(&bytes).map_err(|_| self.strange())
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|_| self.lost())?;
        Ok(body.to_bytes())
    }

    fn refusal(&self, bytes: &[u8]) -> Error {
        serde_json::from_slice::<ErrorReply>(bytes).map_or_else(|_| self.strange(), Error::from)
    }

    fn not_running(&self) -> Error {
        let name = &self.instance;
        Error::because(Cause::NotRunning, format!("the instance \"{name}\" is not running"))
    }

    fn lost(&self) -> Error {
        Error::because(Cause::NotRunning, format!("the instance \"{}\" has stopped before it answered", self.instance))
    }

    fn strange(&self) -> Error {
        Error::because(Cause::VersionMismatch, "the running device is of another version than this command")
            .with_hint("stop it and start it again")
    }
}

/// The events of a device as they happen.
pub(crate) struct Feed {
    body: Incoming,
    parser: Parser,
}

impl Feed {
    /// The JSON of the next event; `None` when the device has stopped.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(event);
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await.ok()??.ok()?;
            if let Ok(piece) = frame.into_data() {
                self.parser.push(&piece).ok()?;
            }
        }
    }
}
