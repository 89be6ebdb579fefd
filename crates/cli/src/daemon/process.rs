//! Waiting for the end of the process that runs a device.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::Client;

/// How often the socket is tried where the system does not tell the process behind it.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The process at the other end of a control socket.
pub(crate) struct Process {
    client: Client,
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process behind `stream`. To be called before it is asked to end: the handle then names it for ever.
    pub(super) fn behind(stream: &UnixStream, client: Client) -> Process {
        // A process of another pid namespace has the number 0 here.
        let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid()).and_then(Pid::from_raw);
        Process { client, handle: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) }
    }

    /// Waits until it is gone, and says whether it is after `limit`.
    pub(crate) async fn ends_within(self, limit: Duration) -> bool {
        let Process { client, handle } = self;
        match handle {
            Some(handle) => tokio::task::spawn_blocking(move || has_ended(&handle, limit)).await.unwrap_or(false),
            None => {
                let silent = async {
                    while client.status().await.is_ok() {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                };
                tokio::time::timeout(limit, silent).await.is_ok()
            }
        }
    }
}

/// A process handle becomes readable at the end of the process (pidfd_open(2)).
fn has_ended(handle: &OwnedFd, limit: Duration) -> bool {
    let timeout = Timespec::try_from(limit).ok();
    let mut handles = [PollFd::new(handle, PollFlags::IN)];
    matches!(poll(&mut handles, timeout.as_ref()), Ok(ready) if ready > 0)
}
