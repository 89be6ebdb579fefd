//! The control API: HTTP and JSON over a Unix socket in the folder of the instance. Every command that needs a device
//! speaks it, also to a device that runs in its own process.

mod api;
mod body;
mod client;
mod control;
mod hosted;
mod path;
mod process;
mod sse;
mod wire;

use std::time::Duration;

use handfast::{Builder, Cause, Error, StoredDevices};

pub(crate) use client::{Client, Feed};
pub(crate) use hosted::{End, Hosted};
pub(crate) use wire::{CodeReply, PingReply};

use crate::args::NetworkArgs;
use crate::config;
use crate::instance::Instance;
use crate::log;

/// How long the device of another process may take from its lock to its socket.
const OTHERS_START: Duration = Duration::from_secs(5);

/// How often such a device is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A device to talk to: that of the daemon, or one that this process runs as long as it needs it.
pub(crate) struct Access {
    /// How to talk to it.
    pub(crate) client: Client,
    /// The device, if it runs in this process.
    hosted: Option<Hosted>,
}

impl Access {
    /// The running device of the instance.
    ///
    /// # Errors
    /// `not_running` if there is none.
    pub(crate) async fn running(instance: &Instance) -> Result<Access, Error> {
        let client = Client::of(instance);
        client.status().await?;
        Ok(Access { client, hosted: None })
    }

    /// The running device of the instance, or one that is started here.
    ///
    /// # Errors
    /// Why neither is possible.
    pub(crate) async fn running_or_own(instance: &Instance, network: &NetworkArgs) -> Result<Access, Error> {
        let limit = tokio::time::Instant::now() + OTHERS_START;
        let mut own: Option<Builder> = None;
        loop {
            match Access::running(instance).await {
                Err(error) if error.cause == Cause::NotRunning => {}
                other => return other,
            }
            let builder = match own.take() {
                Some(builder) => builder,
                None => {
                    instance.prepare()?;
                    log::to_file(&instance.log(), false)?;
                    config::builder(instance, None, network)?
                }
            };
            match Hosted::start(instance, builder.clone()).await {
                // Another process has begun to start the same device: its socket will answer soon.
                Err(error) if error.cause == Cause::AlreadyRunning && tokio::time::Instant::now() < limit => {
                    own = Some(builder);
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
                Ok(hosted) => return Ok(Access { client: Client::of(instance), hosted: Some(hosted) }),
            }
        }
    }

    /// Finds out whether [`Access::running_or_own`] can work, as far as that is seen without starting anything.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) async fn check(instance: &Instance, network: &NetworkArgs) -> Result<(), Error> {
        let limit = tokio::time::Instant::now() + OTHERS_START;
        loop {
            match Access::running(instance).await {
                Err(error) if error.cause == Cause::NotRunning => {}
                other => return other.map(drop),
            }
            instance.prepare()?;
            config::builder(instance, None, network)?;
            match StoredDevices::open(&instance.dir()) {
                Err(error) if error.cause == Cause::AlreadyRunning && tokio::time::Instant::now() < limit => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(hosted::named(error, instance)),
                Ok(_) => return instance.check_writable(),
            }
        }
    }

    /// Whether the device runs in this process.
    pub(crate) fn is_own(&self) -> bool {
        self.hosted.is_some()
    }

    /// Done with it: a device of this process is stopped, open codes are withdrawn first.
    pub(crate) async fn end(self) {
        if let Some(hosted) = self.hosted {
            hosted.stop().await;
        }
    }
}
