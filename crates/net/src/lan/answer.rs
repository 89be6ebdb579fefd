//! One connection to our confirmation listener: TLS, C1 in, C2 out, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use handfast_proto::lan::io::{InCall, InCallId, ListenerId};
use handfast_proto::wire::confirm::CONFIRM_LEN;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::ALPN;

/// Time from the first packet to a whole C1 (protocol, section 6.4).
const READ: Duration = Duration::from_secs(2);

/// Time for the owner to answer.
const DECIDE: Duration = Duration::from_secs(2);

/// Time for C2 to leave.
const WRITE: Duration = Duration::from_secs(2);

/// C2, or nothing.
pub(super) type Answer = Option<Box<[u8; CONFIRM_LEN]>>;

/// A whole C1 has come in on a connection.
pub(super) struct Arrived {
    pub(super) id: InCallId,
    pub(super) call: InCall,
    /// Where the answer goes; dropping it closes the connection.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A connection that was let in.
pub(super) struct Accepted {
    pub(super) id: InCallId,
    pub(super) listener: ListenerId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) stream: TcpStream,
}

/// Serves one connection to its end, within six seconds. Any error is the end of it, and of no interest.
pub(super) async fn serve(accepted: Accepted, acceptor: TlsAcceptor, arrived: mpsc::Sender<Arrived>) {
    let Accepted { id, listener, local, remote, stream } = accepted;
    let Ok(Some((mut stream, request))) = timeout(READ, read(stream, acceptor)).await else {
        return;
    };
    let (sender, answer) = oneshot::channel();
    let call = InCall { listener, local, remote, request };
    let decided = timeout(DECIDE, async {
        arrived.send(Arrived { id, call, answer: sender }).await.ok()?;
        answer.await.ok().flatten()
    });
    let Ok(Some(answer)) = decided.await else {
        return;
    };
    let written = timeout(WRITE, async {
        stream.write_all(answer.as_slice()).await?;
        stream.shutdown().await
    });
    if !matches!(written.await, Ok(Ok(()))) {
        tracing::debug!("an answer did not reach its caller");
    }
}

async fn read(stream: TcpStream, acceptor: TlsAcceptor) -> Option<(TlsStream<TcpStream>, Box<[u8; CONFIRM_LEN]>)> {
    stream.set_nodelay(true).ok()?;
    let mut stream = acceptor.accept(stream).await.ok()?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return None;
    }
    let mut request = Box::new([0; CONFIRM_LEN]);
    stream.read_exact(request.as_mut_slice()).await.ok()?;
    Some((stream, request))
}
