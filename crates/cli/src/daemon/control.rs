//! The control socket: who may connect, how many, and for how long before they say what they want.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use handfast::{Cause, Error};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::api::Peer;

/// Clients at once: a person, some scripts, a status bar. More wait to be let in.
const MAX_CLIENTS: usize = 16;

/// A client that has not sent the head of a request by then is let go.
const HEAD_WAIT: Duration = Duration::from_secs(5);

/// Answers that are under way when the device has stopped get this long to leave.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// After the system refuses a connection (no descriptors, say) the next one is tried this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The socket of a device. Its file goes when it is closed.
pub(super) struct Control {
    listener: Option<UnixListener>,
    path: PathBuf,
    clients: JoinSet<()>,
    places: Arc<Semaphore>,
}

impl Control {
    /// Makes the socket. Only the process that holds the lock of the device may call this: a socket that is there has
    /// been left behind by one that was killed.
    pub(super) fn open(path: &Path) -> Result<Control, Error> {
        let listen = || -> io::Result<UnixListener> {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path)?,
                Ok(_) => return Err(io::Error::other("something else is in its place")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = listen().map_err(|error| {
            Error::because(Cause::Storage, format!("the control socket {}: {error}", path.display()))
        })?;
        Ok(Control {
            listener: Some(listener),
            path: path.to_owned(),
            clients: JoinSet::new(),
            places: Arc::new(Semaphore::new(MAX_CLIENTS)),
        })
    }

    /// Lets clients in until `stop` says so.
    pub(super) async fn serve(&mut self, router: &Router, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            let Some(listener) = &self.listener else { return };
            let place = Arc::clone(&self.places).acquire_owned();
            let next = async { (place.await, listener.accept().await) };
            tokio::select! {
                _ = stop.changed() => {}
                Some(_) = self.clients.join_next(), if !self.clients.is_empty() => {}
                (place, accepted) = next => match accepted {
                    Ok((stream, _)) => {
                        if let Some(peer) = admitted(&stream) {
                            let client = client(stream, router.clone().layer(Extension(peer)), stop.clone());
                            self.clients.spawn(async move {
                                client.await;
                                drop(place);
                            });
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the control socket");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
            }
        }
    }

    /// Lets nobody in any more; the file is gone afterwards.
    pub(super) fn close(&mut self) {
        if self.listener.take().is_some() {
            // Somebody who removed it before has done our work.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Lets the last answers leave.
    pub(super) async fn finish(mut self) {
        let all = async { while self.clients.join_next().await.is_some() {} };
        // Who does not read has lost the answer.
        let _ = tokio::time::timeout(LAST_ANSWERS, all).await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close();
    }
}

/// The peer, if it is a process of the same user. The mode of the socket says the same; this does not depend on it.
fn admitted(stream: &UnixStream) -> Option<Peer> {
    let credentials = stream.peer_cred().ok()?;
    if credentials.uid() != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid = credentials.uid(), "another user at the control socket");
        return None;
    }
    Some(Peer(credentials.pid()))
}

async fn client(stream: UnixStream, router: Router, mut stop: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopped = async {
        // The device has gone without a word, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the control socket");
    }
}
