//! The numbers of a node for Prometheus, over HTTP at `/metrics`. Off unless asked for; there is no access control.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use handfast::node::{Node, NodeStatus};
use handfast::{Cause, Error};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Scrapes at once: there is one Prometheus, or two.
const MAX_SCRAPES: usize = 8;

/// A scrape that has not sent its request by then is let go, and so is one that does not take the answer.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);

/// After the system refuses a connection the next one is tried this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The media type of the text that [`encode`] makes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A socket for metrics.
pub(crate) struct Metrics {
    listener: TcpListener,
}

/// Where the numbers go.
type Ask = oneshot::Sender<Result<NodeStatus, Error>>;

impl Metrics {
    /// Takes the address.
    ///
    /// # Errors
    /// `usage` if it cannot be listened on.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Metrics, Error> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Error::because(Cause::Usage, format!("metrics at {address}: {error}")).with_hint("name another --metrics")
        })?;
        Ok(Metrics { listener })
    }

    /// Answers for `node`, for ever.
    pub(crate) async fn serve(self, node: &Node) {
        let (asks, mut asked) = mpsc::channel(MAX_SCRAPES);
        let router = Router::new().route("/metrics", get(move || scrape(asks.clone())));
        let places = Arc::new(Semaphore::new(MAX_SCRAPES));
        loop {
            tokio::select! {
                Some(ask) = asked.recv() => {
                    let ask: Ask = ask;
                    // A scrape that has gone away does not need the answer.
                    let _ = ask.send(node.status().await);
                }
                accepted = self.listener.accept() => {
                    if accepted.is_err() {
                        // No descriptors, say: the next one may fare better.
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                    if let (Ok((stream, _)), Ok(place)) = (accepted, Arc::clone(&places).try_acquire_owned()) {
                        let service = TowerToHyperService::new(router.clone());
                        tokio::spawn(async move {
                            let connection = http1::Builder::new()
                                .timer(TokioTimer::new())
                                .header_read_timeout(SCRAPE_LIMIT)
                                .keep_alive(false)
                                .serve_connection(TokioIo::new(stream), service);
                            // How it ended is the scraper's business.
                            let _ = tokio::time::timeout(SCRAPE_LIMIT, connection).await;
                            drop(place);
                        });
                    }
                }
            }
        }
    }
}

async fn scrape(asks: mpsc::Sender<Ask>) -> impl IntoResponse {
    let (ask, answer) = oneshot::channel();
    let sent = asks.send(ask).await.is_ok();
    match answer.await {
        Ok(Ok(status)) if sent => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text(&status)),
        Ok(_) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}

/// The numbers as text.
fn text(status: &NodeStatus) -> String {
    let mut registry = Registry::with_prefix("handfast");
    let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    for (name, help, value) in [
        ("connections", "Connections that stand", status.connections),
        ("inbound_connections", "Connections that others opened", status.inbound),
        ("dht_peers", "Nodes of the DHT it is connected to", status.dht_peers),
        ("known_nodes", "Nodes in its routing table", status.known_nodes),
        ("records", "Records it holds", status.records),
        ("records_bytes", "Bytes of the records it holds", status.record_bytes),
        ("relay_reservations", "Peers that can be reached through it", status.relay_reservations),
        ("relay_circuits", "Connections between others that run through it", status.relay_circuits),
    ] {
        registry.register(name, help, gauge(value));
    }
    for (name, help, value) in [
        ("puts_stored", "Records stored", status.stored),
        ("puts_repeated", "Identical records that were put again", status.repeated),
        ("puts_refused", "Records refused, for whatever reason", status.refused),
        ("puts_refused_invalid", "Records refused that were not valid", status.refused_invalid),
        ("puts_refused_old", "Records refused that were older than what is stored", status.refused_old),
        ("puts_refused_conflict", "Records refused whose number other bytes have", status.refused_conflict),
        ("puts_refused_source_full", "Records refused of a source with all it may have", status.refused_source_full),
        ("puts_evicted", "Records evicted for others", status.evicted),
        ("puts_expired", "Records that expired", status.expired),
        ("lookups_served", "Requests for records", status.lookups_served),
        ("lookups_hit", "Requests for records that found one", status.lookups_hit),
        ("received_bytes", "Bytes of records and frames received", status.bytes_in),
        ("sent_bytes", "Bytes of records and frames sent", status.bytes_out),
        ("refused_connections", "Connections refused by a limit", status.refused_connections),
        ("relay_circuits_opened", "Connections between others that have run through it", status.relay_circuits_total),
        ("relay_denied", "Reservations and connections through it that were refused", status.relay_denied),
        ("checks_called", "Calls to others, to find out whether they can be reached", status.checks_called),
        ("checks_denied", "Requests for such calls that were refused", status.checks_denied),
        ("stun_answered", "STUN requests answered", status.stun_answered),
        ("stun_dropped", "Datagrams at the STUN sockets that were not answered", status.stun_dropped),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_node_is_a_metric() {
        let status = NodeStatus { records: 3, record_bytes: 3 * 784, lookups_served: 7, ..NodeStatus::default() };
        let text = text(&status);
        for line in [
            "# TYPE handfast_records gauge",
            "handfast_records 3",
            "handfast_records_bytes 2352",
            "handfast_lookups_served_total 7",
            "handfast_refused_connections_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
        let numbers = serde_json::to_value(&status).expect("json").as_object().map(serde_json::Map::len);
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), numbers.unwrap_or_default());
    }
}
