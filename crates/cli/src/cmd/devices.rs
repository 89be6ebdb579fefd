//! `devices`: the paired devices.

use handfast::Error;

use super::Context;
use crate::args::{DeviceList, DevicesCommand};
use crate::daemon::Client;
use crate::render::lists;

/// Runs the command.
pub(super) async fn run(context: &Context, list: DeviceList) -> Result<u8, Error> {
    let client = Client::of(&context.instance);
    match list.command.unwrap_or(DevicesCommand::List) {
        DevicesCommand::List => context.out.show(&client.devices().await?, |devices| lists::devices(devices)),
        DevicesCommand::Show { device } => context.out.show(&client.device(&device).await?, lists::device),
        DevicesCommand::Rename { device, name } => {
            context.out.show(&client.rename(&device, &name).await?, lists::device);
        }
    }
    Ok(0)
}
