//! The thread that writes: commits wait for the disk, and the device does not wait with them.

use std::sync::mpsc::{self as std_mpsc, TrySendError};

use handfast_proto::cause::Cause;
use handfast_proto::id::{JobId, PairingId};
use handfast_proto::link::Tombstone;
use handfast_proto::portmap::Mapping;
use tokio::sync::mpsc;

use crate::Error;
use crate::engine::command::Reply;
use crate::status::DeviceEntry;
use crate::store::{Contact, PeerRow, Ports, Store, StoreError};

/// Changes waiting for the disk; a device has a handful of sessions, each with one change under way.
const QUEUE: usize = 256;

/// Who asked for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The session table.
    Table(JobId),
    /// The links.
    Links(JobId),
    /// Nobody waits.
    Nobody,
}

/// A change to make durable.
pub(crate) enum Change {
    /// Store a new pairing.
    Add(Box<PeerRow>),
    /// Remember where a peer was met.
    Contact(PairingId, Contact),
    /// Give a peer a name; whoever asked hears of it when it is done.
    Label(PairingId, String, Reply<DeviceEntry>),
    /// pending -> paired.
    Paired(PairingId),
    /// Delete a pairing, perhaps leaving a tombstone.
    Delete(PairingId, Option<Box<Tombstone>>),
    /// Delete a tombstone.
    Acknowledged(PairingId),
    /// Remember the ports.
    Ports(Ports),
    /// Remember what routers map for us.
    Mappings(Vec<Mapping>),
}

impl Change {
    /// It was not made durable: whoever waits for a reply gets this one.
    pub(crate) fn failed(self, error: &Error) {
        if let Change::Label(_, _, reply) = self {
            // Whoever asked may have gone away.
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// What came of a change.
pub(crate) struct Done {
    pub(crate) asker: Asker,
    pub(crate) change: Change,
    /// The pairings that a new one replaced.
    pub(crate) result: Result<Vec<PairingId>, StoreError>,
}

/// Hands changes to the thread, in order.
pub(crate) struct Worker {
    changes: std_mpsc::SyncSender<(Asker, Change)>,
    pub(crate) done: mpsc::Receiver<Done>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    /// Starts the thread; it ends, and the store is closed, when the worker is dropped.
    pub(crate) fn start(mut store: Store) -> std::io::Result<Worker> {
        let (changes, queue) = std_mpsc::sync_channel::<(Asker, Change)>(QUEUE);
        let (report, done) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            while let Ok((asker, change)) = queue.recv() {
                let result = apply(&mut store, &change);
                if report.blocking_send(Done { asker, change, result }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Worker { changes, done, thread })
    }

    /// Queues a change. False if the queue is full, or the thread is gone: then nothing will be stored.
    pub(crate) fn submit(&self, asker: Asker, change: Change) -> bool {
        let Err(TrySendError::Full((_, change)) | TrySendError::Disconnected((_, change))) =
            self.changes.try_send((asker, change))
        else {
            return true;
        };
        change.failed(&Error::of(Cause::Storage));
        false
    }
}

impl Worker {
    /// Lets the thread finish what is queued and close the store.
    pub(crate) async fn close(self) {
        let Worker { changes, mut done, thread } = self;
        drop(changes);
        while done.recv().await.is_some() {}
        // The thread has reported its last change; what is left is closing a file.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn apply(store: &mut Store, change: &Change) -> Result<Vec<PairingId>, StoreError> {
    match change {
        Change::Add(peer) => store.add_peer(peer).map(|()| Vec::new()),
        Change::Contact(id, contact) => store.set_contact(*id, contact).map(|()| Vec::new()),
        Change::Label(id, label, _) => store.set_label(*id, label).map(|()| Vec::new()),
        Change::Paired(id) => store.set_paired(*id),
        Change::Delete(id, tombstone) => store.delete_peer(*id, tombstone.as_deref()).map(|()| Vec::new()),
        Change::Acknowledged(id) => store.delete_tombstone(*id).map(|()| Vec::new()),
        Change::Ports(ports) => store.put_ports(*ports).map(|()| Vec::new()),
        Change::Mappings(mappings) => store.put_mappings(mappings).map(|()| Vec::new()),
    }
}
