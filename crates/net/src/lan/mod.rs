//! The driver of the local network: interfaces, beacon sockets, confirmation listeners and calls, behind the commands
//! and events of [`handfast_proto::lan::io`]. It decides nothing.
//!
//! One task owns every socket; calls, in and out, run in short tasks of their own that end by themselves within
//! seconds. Nothing is opened before a command asks for it: at the start only the interfaces are read.

mod answer;
mod beacons;
mod call;
mod driver;
mod gate;
mod kind;
mod listener;
mod neighbours;
mod outbox;
mod surroundings;
mod tls;

#[cfg(target_os = "linux")]
mod socket;
#[cfg(not(target_os = "linux"))]
#[path = "socket_none.rs"]
mod socket;

use std::future::Future;

use handfast_proto::lan::io::{Command, Event};
use tokio::sync::mpsc;

use crate::api::{NetworkGone, StartError};

/// Commands that wait: one round of a machine with its 255 unicast beacons (protocol, section 6.2) and some more.
const COMMAND_QUEUE: usize = 512;

/// Carries commands for the local network out and tells what happened there: [`Lan`], or a model of it in tests.
pub trait LanTransport: Send {
    /// Hands a command over. Waits while too many are waiting already.
    fn send(&self, command: Command) -> impl Future<Output = Result<(), NetworkGone>> + Send;

    /// The next event; `None` when there will be no more. Safe to drop before it is ready.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;

    /// Ends it and waits until every socket is closed, at most two seconds. Events that were not taken are lost.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// The local network as this machine sees it. Dropping it closes everything.
pub struct Lan {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
}

impl Lan {
    /// Reads the interfaces, which are the first event, and starts the task. Must be called inside a tokio runtime.
    ///
    /// Fails if the system gives no randomness or TLS cannot be set up.
    pub fn start() -> Result<Lan, StartError> {
        let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let (event_sender, events) = mpsc::channel(outbox::EVENT_QUEUE);
        let driver = driver::Driver::new(commands, event_sender)?;
        tokio::spawn(driver.run());
        Ok(Lan { commands: command_sender, events })
    }
}

impl LanTransport for Lan {
    async fn send(&self, command: Command) -> Result<(), NetworkGone> {
        self.commands.send(command).await.map_err(|_| NetworkGone)
    }

    async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    async fn end(self) {
        let Lan { commands, mut events } = self;
        drop(commands);
        while events.recv().await.is_some() {}
    }
}
