//! A peer that keeps no rules: it proves a key as everybody does, and then writes what it likes on streams of its own,
//! byte by byte.
//!
//! The transport is that of the network stack. What comes after it (how a stream gets its protocol, frames) is made by
//! hand, so that it can be made wrong.

mod frames;
pub(crate) mod hop;
pub(crate) mod kad;
mod negotiation;
mod outgoing;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport as _};
use libp2p::identity::Keypair;
use libp2p::{tls, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) use frames::{read_frame, varint};
use negotiation::{agree, propose};
use outgoing::{Outgoing, multiaddr};

/// Whoever does not answer these is taken for gone.
const PING: &str = "/ipfs/ping/1.0.0";
const PING_LEN: usize = 32;

/// Streams that wait at either end of a connection: more than anybody opens at once here.
const STREAMS: usize = 256;

/// A stream, raw.
pub(crate) type Stream = SubstreamBox;

/// Whoever waits for a stream of ours.
type Opening = oneshot::Sender<Stream>;

/// A connection under a key of its own. Dropping it cuts it.
pub(crate) struct Connection {
    id: Vec<u8>,
    openings: mpsc::Sender<Opening>,
    inbound: mpsc::Receiver<Stream>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to a TCP address with a fresh key. Of the streams that the other side opens, those of `protocol` are kept
    /// for [`Connection::accept`].
    pub(crate) async fn dial(address: SocketAddr, protocol: &'static str) -> io::Result<Connection> {
        Self::dial_from(None, address, protocol).await
    }

    /// As [`Connection::dial`], from this address of the host.
    pub(crate) async fn dial_from(
        source: Option<IpAddr>,
        address: SocketAddr,
        protocol: &'static str,
    ) -> io::Result<Connection> {
        let key = Keypair::generate_ed25519();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let mut transport = Outgoing(source)
            .upgrade(Version::V1)
            .authenticate(tls::Config::new(&key).map_err(Error::other)?)
            .multiplex(yamux::Config::default())
            .boxed();
        let (_, muxer) = transport.dial(multiaddr(address), options).map_err(Error::other)?.await?;
        let (openings, opened) = mpsc::channel(STREAMS);
        let (kept, inbound) = mpsc::channel(STREAMS);
        let driver = tokio::spawn(drive(muxer, opened, protocol, kept));
        Ok(Connection { id: key.public().to_peer_id().to_bytes(), openings, inbound, driver })
    }

    /// The name of its key.
    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    /// Opens a stream that has no protocol yet.
    pub(crate) async fn open_bare(&self) -> io::Result<Stream> {
        let (opening, opened) = oneshot::channel();
        let gone = || Error::from(ErrorKind::ConnectionAborted);
        self.openings.send(opening).await.map_err(|_| gone())?;
        opened.await.map_err(|_| gone())
    }

    /// Opens a stream.
    pub(crate) async fn open(&self, protocol: &str) -> io::Result<Stream> {
        let mut stream = self.open_bare().await?;
        propose(&mut stream, protocol).await?;
        Ok(stream)
    }

    /// The next stream that the other side opened; `None` when the connection has ended.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.inbound.recv().await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Runs a connection until it or its owner is gone.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut openings: mpsc::Receiver<Opening>,
    protocol: &'static str,
    kept: mpsc::Sender<Stream>,
) {
    let mut waiting: VecDeque<Opening> = VecDeque::new();
    poll_fn(|context| {
        while let Poll::Ready(opening) = openings.poll_recv(context) {
            let Some(opening) = opening else { return Poll::Ready(()) };
            waiting.push_back(opening);
        }
        while !waiting.is_empty()
            && let Poll::Ready(opened) = muxer.poll_outbound_unpin(context)
        {
            let Ok(stream) = opened else { return Poll::Ready(()) };
            if let Some(opening) = waiting.pop_front() {
                // Whoever does not wait any more has no use for it.
                let _ = opening.send(stream);
            }
        }
        while let Poll::Ready(inbound) = muxer.poll_inbound_unpin(context) {
            let Ok(stream) = inbound else { return Poll::Ready(()) };
            tokio::spawn(keep(stream, protocol, kept.clone()));
        }
        while let Poll::Ready(event) = muxer.poll_unpin(context) {
            if event.is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// Keeps a stream that the other side opened, if it is of this protocol; answers pings.
async fn keep(mut stream: Stream, protocol: &'static str, kept: mpsc::Sender<Stream>) {
    match agree(&mut stream, &[PING, protocol]).await {
        Ok(PING) => {
            // Until the other side ends it.
            let _ = answer_pings(stream).await;
        }
        Ok(_) => {
            // With as many waiting as there may be, or nobody to wait for it, it is cut.
            let _ = kept.try_send(stream);
        }
        // It is for somebody who keeps the rules.
        Err(_) => {}
    }
}

async fn answer_pings(mut stream: Stream) -> io::Result<()> {
    let mut ping = [0; PING_LEN];
    loop {
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        stream.flush().await?;
    }
}
