//! One call to a confirmation listener: connect, TLS to exactly one key, C1 out, C2 in.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use handfast_proto::lan::io::{CallFailure, OutCall};
use handfast_proto::wire::confirm::CONFIRM_LEN;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::neighbours;
use super::tls::{ALPN, Tls};

/// Time to connect (protocol, section 6.4).
const CONNECT: Duration = Duration::from_secs(2);

/// Time from there to a whole C2, TLS included.
const ANSWER: Duration = Duration::from_secs(2);

/// C2, or why there is none.
pub(super) type Outcome = Result<Box<[u8; CONFIRM_LEN]>, CallFailure>;

/// Makes the call. Ends within four seconds whatever the other end does.
pub(super) async fn call(tls: Tls, call: OutCall) -> Outcome {
    let stream = match timeout(CONNECT, connect(call.from, call.to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(connect_failure(&error)),
        // The system gives a silent link three seconds before it says that nobody is there; its table tells sooner.
        Err(_) if neighbours::is_missing(call.to.ip()) => return Err(CallFailure::NoHost),
        Err(_) => return Err(CallFailure::TimedOut),
    };
    match timeout(ANSWER, exchange(&tls, stream, &call)).await {
        Ok(result) => result,
        Err(_) => Err(CallFailure::TimedOut),
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let (socket, local) = match (from, to) {
        (IpAddr::V4(_), SocketAddr::V4(_)) => (TcpSocket::new_v4()?, SocketAddr::new(from, 0)),
        (IpAddr::V6(from), SocketAddr::V6(to)) => {
            let scope = if from.is_unicast_link_local() { to.scope_id() } else { 0 };
            (TcpSocket::new_v6()?, SocketAddrV6::new(from, 0, 0, scope).into())
        }
        (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => {
            return Err(Error::new(ErrorKind::InvalidInput, "from one family to the other"));
        }
    };
    socket.bind(local)?;
    socket.connect(to).await
}

fn connect_failure(error: &Error) -> CallFailure {
    // Every other kind of error is one of our own system.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the list is open")]
    match error.kind() {
        ErrorKind::ConnectionRefused => CallFailure::Refused,
        ErrorKind::HostUnreachable => CallFailure::NoHost,
        ErrorKind::TimedOut => CallFailure::TimedOut,
        _ => CallFailure::Broken,
    }
}

async fn exchange(tls: &Tls, stream: TcpStream, call: &OutCall) -> Outcome {
    let connector = tls.connector(call.spki).map_err(|_| CallFailure::Broken)?;
    // One small message each way must not wait for another.
    stream.set_nodelay(true).map_err(|_| CallFailure::Broken)?;
    let name = ServerName::IpAddress(call.to.ip().into());
    let mut stream = connector.connect(name, stream).await.map_err(|error| handshake_failure(&error))?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(CallFailure::Broken);
    }
    let mut answer = Box::new([0; CONFIRM_LEN]);
    stream.write_all(call.request.as_slice()).await.map_err(|_| CallFailure::Broken)?;
    stream.flush().await.map_err(|_| CallFailure::Broken)?;
    stream.read_exact(answer.as_mut_slice()).await.map_err(|_| CallFailure::Broken)?;
    Ok(answer)
}

fn handshake_failure(error: &Error) -> CallFailure {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) { CallFailure::WrongKey } else { CallFailure::Broken }
}
