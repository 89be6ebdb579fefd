//! `devices`: the paired devices, asked of the running device, or read from the store of one that does not run.

use handfast::{Cause, DeviceEntry, Error, StoredDevices};

use super::Context;
use crate::args::{DeviceList, DevicesCommand};
use crate::daemon::Client;
use crate::instance::Instance;
use crate::render::lists;

/// Runs the command.
pub(super) async fn run(context: &Context, list: DeviceList) -> Result<u8, Error> {
    let mut source = Source::of(&context.instance).await?;
    match list.command.unwrap_or(DevicesCommand::List) {
        DevicesCommand::List => {
            let devices = source.list().await?;
            context.out.show(&devices, |devices| context.instance.in_commands(&lists::devices(devices)));
        }
        DevicesCommand::Show { device } => context.out.show(&source.show(&device).await?, lists::device),
        DevicesCommand::Rename { device, name } => {
            context.out.show(&source.rename(&device, &name).await?, lists::device);
        }
    }
    Ok(0)
}

/// Who knows the devices.
enum Source {
    Running(Client),
    Stored(Box<StoredDevices>),
}

impl Source {
    async fn of(instance: &Instance) -> Result<Source, Error> {
        let client = Client::of(instance);
        let absent = match client.status().await {
            Ok(_) => return Ok(Source::Running(client)),
            Err(error) if error.cause == Cause::NotRunning => error,
            Err(error) => return Err(error),
        };
        match StoredDevices::open(&instance.dir()) {
            Ok(Some(stored)) => Ok(Source::Stored(Box::new(stored))),
            // Nobody has ever run it.
            Ok(None) => Err(absent),
            // It has begun to run meanwhile.
            Err(error) if error.cause == Cause::AlreadyRunning => Ok(Source::Running(client)),
            Err(error) => Err(error),
        }
    }

    async fn list(&self) -> Result<Vec<DeviceEntry>, Error> {
        match self {
            Source::Running(client) => client.devices().await,
            Source::Stored(stored) => Ok(stored.list()),
        }
    }

    async fn show(&self, device: &str) -> Result<DeviceEntry, Error> {
        match self {
            Source::Running(client) => client.device(device).await,
            Source::Stored(stored) => stored.device(device),
        }
    }

    async fn rename(&mut self, device: &str, name: &str) -> Result<DeviceEntry, Error> {
        match self {
            Source::Running(client) => client.rename(device, name).await,
            Source::Stored(stored) => stored.rename(device, name),
        }
    }
}
