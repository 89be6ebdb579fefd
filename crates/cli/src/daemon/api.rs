//! The requests of the control API. Each asks the device and answers with what it said; reading ones are `GET`, and
//! whoever may only look is given nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use handfast::{Cause, DeviceEntry, Error, Handle, PairOptions, SeenDevice, SessionEntry, Status};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use super::body::Body;
use super::wire::{
    AnswerBody, CancelBody, CodeReply, CompareBody, ConfirmBody, Done, ErrorReply, GenerateBody, JoinBody, JoinReply,
    MAX_PING_WAIT_MS, NearbyBody, PingBody, PingReply, QrReply, RenameBody, SelectBody, SessionReply,
};

/// Event streams at once. Fewer than there may be clients, so that a request always finds a place beside them.
const MAX_STREAMS: usize = 12;

/// A comment is sent into a quiet stream this often, so that a reader can tell silence from death.
pub(super) const STREAM_COMMENT: Duration = Duration::from_secs(15);

/// What every request can use.
#[derive(Clone)]
pub(super) struct Api {
    /// The device.
    pub(super) device: Handle,
    /// Set to true to stop it.
    pub(super) stop: watch::Sender<bool>,
    streams: Arc<Semaphore>,
}

/// The process at the other end of a connection, for the log.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) Option<i32>);

/// An error as an answer.
pub(super) struct Refusal(pub(super) Error);

type Answer<T> = Result<Json<T>, Refusal>;

/// The requests for a device.
pub(super) fn router(device: Handle, stop: watch::Sender<bool>) -> Router {
    let api = Api { device, stop, streams: Arc::new(Semaphore::new(MAX_STREAMS)) };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/pair", get(sessions))
        .route("/v1/pair/generate", post(generate))
        .route("/v1/pair/join", post(join))
        .route("/v1/pair/nearby", get(nearby_devices).post(nearby))
        .route("/v1/pair/select", post(select))
        .route("/v1/pair/confirm", post(confirm))
        .route("/v1/pair/answer", post(answer))
        .route("/v1/pair/compare", post(compare))
        .route("/v1/pair/cancel", post(cancel))
        .route("/v1/pair/qr", post(qr))
        .route("/v1/devices", get(devices))
        .route("/v1/devices/{device}", get(one_device))
        .route("/v1/devices/{device}/rename", post(rename))
        .route("/v1/devices/{device}/ping", post(ping))
        .route("/v1/stop", post(stop_device))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(api)
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(error) = self;
        let status = match error.cause {
            Cause::Usage | Cause::CodeMalformed => StatusCode::BAD_REQUEST,
            Cause::Internal | Cause::Storage => StatusCode::INTERNAL_SERVER_ERROR,
            Cause::NotRunning | Cause::AlreadyRunning => StatusCode::SERVICE_UNAVAILABLE,
            Cause::NotFound
            | Cause::NoBootstrap
            | Cause::NoNetwork
            | Cause::MulticastBlocked
            | Cause::CodeExpired
            | Cause::CodeUsed
            | Cause::Rejected
            | Cause::Cancelled
            | Cause::AuthenticationFailed
            | Cause::TooManyAttempts
            | Cause::WrongDevice
            | Cause::Unreachable
            | Cause::InboundFirewall
            | Cause::ApIsolation
            | Cause::DifferentSubnet
            | Cause::VpnDefaultRoute
            | Cause::UdpBlocked
            | Cause::TimedOut
            | Cause::ConnectionLost
            | Cause::VersionMismatch => StatusCode::BAD_GATEWAY,
        };
        (status, Json(ErrorReply::from(&error))).into_response()
    }
}

async fn status(State(api): State<Api>) -> Json<Status> {
    Json(api.device.status())
}

async fn sessions(State(api): State<Api>) -> Answer<Vec<SessionEntry>> {
    Ok(Json(api.device.sessions().await?))
}

async fn devices(State(api): State<Api>) -> Answer<Vec<DeviceEntry>> {
    Ok(Json(api.device.devices().await?))
}

async fn one_device(State(api): State<Api>, Path(device): Path<String>) -> Answer<DeviceEntry> {
    Ok(Json(api.device.device(&device).await?))
}

async fn generate(State(api): State<Api>, Body(body): Body<GenerateBody>) -> Answer<CodeReply> {
    let ttl = Duration::from_secs(body.ttl);
    if !(handfast::MIN_TTL..=handfast::MAX_TTL).contains(&ttl) {
        let (min, max) = (handfast::MIN_TTL.as_secs(), handfast::MAX_TTL.as_secs());
        return Err(Error::because(Cause::Usage, format!("a code lives {min} to {max} seconds")).into());
    }
    let code = api.device.generate(PairOptions { yes: body.yes, verify: body.verify, ttl }).await?;
    Ok(Json(CodeReply {
        session: code.session,
        words: code.words.join(" "),
        qr: String::clone(&code.qr),
        expires_at: code.expires_at,
        ttl: code.ttl.as_secs(),
        seq: code.seq,
    }))
}

/// Whoever made a code asks what its QR looks like now. (A request with a body, so that no session stands in a log of paths.)
async fn qr(State(api): State<Api>, Body(body): Body<SessionReply>) -> Answer<QrReply> {
    let qr = api.device.qr(&body.session).await?;
    Ok(Json(QrReply { qr: String::clone(&qr) }))
}

async fn join(State(api): State<Api>, Body(body): Body<JoinBody>) -> Answer<JoinReply> {
    let options = PairOptions { yes: body.yes, verify: body.verify, ..PairOptions::default() };
    let joined = api.device.join(&body.code, options).await?;
    Ok(Json(JoinReply { session: joined.session, seq: joined.seq }))
}

async fn nearby(State(api): State<Api>, Body(body): Body<NearbyBody>) -> Answer<JoinReply> {
    let options = PairOptions { yes: body.yes, ..PairOptions::default() };
    let opened = api.device.nearby(options).await?;
    Ok(Json(JoinReply { session: opened.session, seq: opened.seq }))
}

async fn nearby_devices(State(api): State<Api>) -> Answer<Vec<SeenDevice>> {
    Ok(Json(api.device.nearby_devices().await?))
}

async fn select(
    State(api): State<Api>,
    Extension(Peer(pid)): Extension<Peer>,
    Body(body): Body<SelectBody>,
) -> Answer<SessionReply> {
    let session = api.device.select(&body.device).await?;
    tracing::info!(%session, pid, "a device was selected over the control socket");
    Ok(Json(SessionReply { session }))
}

async fn confirm(
    State(api): State<Api>,
    Extension(Peer(pid)): Extension<Peer>,
    Body(body): Body<ConfirmBody>,
) -> Answer<SessionReply> {
    let session = api.device.confirm_by(&body.qr).await?;
    tracing::info!(%session, pid, "a QR was given over the control socket");
    Ok(Json(SessionReply { session }))
}

async fn answer(
    State(api): State<Api>,
    Extension(Peer(pid)): Extension<Peer>,
    Body(body): Body<AnswerBody>,
) -> Answer<SessionReply> {
    let session = api.device.answer(body.session, body.allow).await?;
    tracing::info!(%session, allow = body.allow, pid, "answered over the control socket");
    Ok(Json(SessionReply { session }))
}

async fn compare(
    State(api): State<Api>,
    Extension(Peer(pid)): Extension<Peer>,
    Body(body): Body<CompareBody>,
) -> Answer<SessionReply> {
    let session = api.device.compare(body.session, body.matches).await?;
    tracing::info!(%session, matches = body.matches, pid, "compared over the control socket");
    Ok(Json(SessionReply { session }))
}

async fn cancel(
    State(api): State<Api>,
    Extension(Peer(pid)): Extension<Peer>,
    Body(body): Body<CancelBody>,
) -> Answer<SessionReply> {
    let session = api.device.cancel(body.session).await?;
    tracing::info!(%session, pid, "withdrawn over the control socket");
    Ok(Json(SessionReply { session }))
}

async fn rename(
    State(api): State<Api>,
    Path(device): Path<String>,
    Body(body): Body<RenameBody>,
) -> Answer<DeviceEntry> {
    Ok(Json(api.device.rename(&device, &body.name).await?))
}

async fn ping(State(api): State<Api>, Path(device): Path<String>, Body(body): Body<PingBody>) -> Answer<PingReply> {
    let wait = Duration::from_millis(body.wait_ms.min(MAX_PING_WAIT_MS));
    let trip = api.device.ping(&device, wait).await?;
    let rtt_ms = trip.rtt.as_secs_f64() * 1e3;
    Ok(Json(PingReply { device: trip.device, rtt_ms, path: trip.path, address: trip.address }))
}

async fn stop_device(State(api): State<Api>, Extension(Peer(pid)): Extension<Peer>) -> Json<Done> {
    tracing::info!(pid, "asked to stop over the control socket");
    api.stop.send_replace(true);
    Json(Done {})
}

/// Which events.
#[derive(Deserialize)]
struct Since {
    /// Those after this number; none: those from now on.
    since: Option<u64>,
}

async fn events(
    State(api): State<Api>,
    query: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Since { since }) = query.map_err(|e| Error::because(Cause::Usage, e.body_text()))?;
    let Ok(place) = Arc::clone(&api.streams).try_acquire_owned() else {
        return Err(Error::because(Cause::Usage, format!("{MAX_STREAMS} event streams are open already")).into());
    };
    let events = api.device.events(since.unwrap_or_else(|| api.device.status().seq));
    let stream = futures::stream::unfold((events, place), |(mut events, place)| async move {
        let event = events.next().await?;
        let json = serde_json::to_string(&*event).unwrap_or_default();
        let sse = SseEvent::default().id(event.seq.to_string()).event(event.kind.name()).data(json);
        Some((Ok::<_, Infallible>(sse), (events, place)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(STREAM_COMMENT)).into_response())
}

async fn unknown() -> Refusal {
    Refusal(Error::because(Cause::Usage, "there is no such request").with_hint("see docs/control.md"))
}
