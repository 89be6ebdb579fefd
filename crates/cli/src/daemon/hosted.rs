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
    done: JoinHandle<()>,
}

impl Hosted {
    /// Starts both.
    ///
    /// # Errors
    /// `already_running` if another process runs the device, and whatever keeps it from starting.
    pub(crate) async fn start(instance: &Instance, builder: Builder) -> Result<Hosted, Error> {
        let device = builder.start().await.map_err(|error| match error.cause {
            Cause::AlreadyRunning => {
                let text = format!("the instance \"{}\" is running already", instance.name.as_str());
                Error { text, ..error }
            }
            _ => error,
        })?;
        // The device holds the lock: a socket in the place is nobody's.
        let control = match Control::open(&instance.socket()) {
            Ok(control) => control,
            Err(error) => {
                device.stop().await;
                return Err(error);
            }
        };
        let (stop, stopped) = watch::channel(false);
        let done = tokio::spawn(run(device, control, stop.clone(), stopped));
        Ok(Hosted { stop, done })
    }

    /// Waits until the device has ended: by request over the socket, or by itself.
    pub(crate) async fn ended(&mut self) {
        // A panic has been reported, and is an end as well.
        let _ = (&mut self.done).await;
    }

    /// Stops the device and waits until nothing of it is left: no socket, no lock.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.done.await;
    }
}

async fn run(device: Handle, mut control: Control, stop: watch::Sender<bool>, stopped: watch::Receiver<bool>) {
    let router = api::router(device.clone(), stop.clone());
    tokio::select! {
        () = control.serve(&router, stopped) => {}
        () = device.stopped() => tracing::error!("the device has ended by itself"),
    }
    // First nobody finds it any more, then its sessions end and tell their followers, then these get the news.
    control.close();
    stop.send_replace(true);
    device.stop().await;
    drop(device);
    drop(router);
    control.finish().await;
}
