//! A device in this process with its control socket: what the daemon is, and what a command without a daemon runs.

use handfast::{Builder, Cause, Error, Handle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::api;
use super::control::Control;
use crate::instance::Instance;

/// A device and its socket.
pub(crate) struct Hosted {
    stop: watch::Sender<bool>,
    done: JoinHandle<End>,
}

/// How a device has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked for it.
    Asked,
    /// By itself, which it should not.
    Alone,
}

impl Hosted {
    /// Starts both.
    ///
    /// # Errors
    /// `already_running` if another process runs the device, and whatever keeps it from starting.
    pub(crate) async fn start(instance: &Instance, builder: Builder) -> Result<Hosted, Error> {
        let device = builder.start().await.map_err(|error| named(error, instance))?;
        // The device holds the lock: a socket in the place is nobody's.
        let control = match Control::open(&instance.socket()) {
            Ok(control) => control,
            Err(error) => {
                device.stop().await;
                return Err(error);
            }
        };
        tracing::info!(instance = instance.name.as_str(), version = env!("CARGO_PKG_VERSION"), "the device runs");
        let (stop, stopped) = watch::channel(false);
        let done = tokio::spawn(run(device, control, stop.clone(), stopped));
        Ok(Hosted { stop, done })
    }

    /// Waits until the device has ended.
    pub(crate) async fn ended(&mut self) -> End {
        (&mut self.done).await.unwrap_or(End::Alone)
    }

    /// Stops the device and waits until nothing of it is left: no socket, no lock.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if !self.done.is_finished() {
            // Its panic, if that is how it ended, has been reported.
            let _ = self.done.await;
        }
    }
}

/// An error of the library, which does not know what the instance is called.
pub(super) fn named(error: Error, instance: &Instance) -> Error {
    if error.cause == Cause::AlreadyRunning {
        let text = format!("the instance \"{}\" is running already", instance.name.as_str());
        return Error { text, ..error };
    }
    error
}

async fn run(device: Handle, mut control: Control, stop: watch::Sender<bool>, stopped: watch::Receiver<bool>) -> End {
    let router = api::router(device.clone(), stop.clone());
    let end = tokio::select! {
        () = control.serve(&router, stopped) => End::Asked,
        () = device.stopped() => {
            tracing::error!("the device has ended by itself");
            End::Alone
        }
    };
    // First nobody finds it any more, then its sessions end and tell their followers, then these get the news.
    control.close();
    stop.send_replace(true);
    device.stop().await;
    drop(device);
    drop(router);
    control.finish().await;
    tracing::info!("the device has stopped");
    end
}
