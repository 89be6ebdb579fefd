//! `devices`: the paired devices, asked of the running device, or read from the store of one that does not run.

use handfast::{Cause, DeviceEntry, Error, StoredDevices};

use super::Context;
use crate::args::{DeviceList, DevicesCommand};
use crate::daemon::Client;
use crate::instance::Instance;
use crate::render::{clean, lists};

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
            let renamed = source.rename(&device, &name).await?;
            context.out.show(&renamed, lists::device);
            tell_of_name(context, &name, &renamed.name);
        }
    }
    Ok(0)
}

/// Says on stderr that a name was not kept as it was typed, unless a program reads both.
pub(super) fn tell_of_name(context: &Context, typed: &str, kept: &str) {
    if !context.out.is_json()
        && let Some(note) = not_as_typed(typed, kept)
    {
        context.out.talk(&note);
    }
}

/// What is said about a name that was not kept as it was typed, white space apart.
fn not_as_typed(typed: &str, kept: &str) -> Option<String> {
    let is_kept = typed.split_whitespace().eq(kept.split_whitespace());
    let rule = "a name has at most 32 characters, or 64 bytes, and none that cannot be seen";
    (!is_kept).then(|| format!("note: the name is now \"{}\": {rule}", clean(kept)))
}

/// Who knows the devices.
enum Source {
    Running(Client),
    Stored(Box<StoredDevices>),
    /// Nobody has ever run the instance, so it has no devices.
    Nobody,
}

impl Source {
    async fn of(instance: &Instance) -> Result<Source, Error> {
        let client = Client::of(instance);
        match client.status().await {
            Ok(_) => return Ok(Source::Running(client)),
            Err(error) if error.cause == Cause::NotRunning => {}
            Err(error) => return Err(error),
        }
        instance.check_folders()?;
        match StoredDevices::open(&instance.dir()) {
            Ok(Some(stored)) => Ok(Source::Stored(Box::new(stored))),
            Ok(None) => Ok(Source::Nobody),
            // It has begun to run meanwhile.
            Err(error) if error.cause == Cause::AlreadyRunning => Ok(Source::Running(client)),
            Err(error) => Err(error),
        }
    }

    async fn list(&self) -> Result<Vec<DeviceEntry>, Error> {
        match self {
            Source::Running(client) => client.devices().await,
            Source::Stored(stored) => Ok(stored.list()),
            Source::Nobody => Ok(Vec::new()),
        }
    }

    async fn show(&self, device: &str) -> Result<DeviceEntry, Error> {
        match self {
            Source::Running(client) => client.device(device).await,
            Source::Stored(stored) => stored.device(device),
            Source::Nobody => Err(none_paired()),
        }
    }

    async fn rename(&mut self, device: &str, name: &str) -> Result<DeviceEntry, Error> {
        match self {
            Source::Running(client) => client.rename(device, name).await,
            Source::Stored(stored) => stored.rename(device, name),
            Source::Nobody => Err(none_paired()),
        }
    }
}

fn none_paired() -> Error {
    Error::because(Cause::Usage, "no device is paired with this one yet")
}

#[cfg(test)]
mod tests {
    use super::not_as_typed;

    #[test]
    fn a_name_that_was_cut_is_told_and_white_space_is_not() {
        let long = "the blue telephones on the shelf in the hall";
        let note = not_as_typed(long, &long[..32]).expect("a note");
        assert!(note.starts_with("note: the name is now \"the blue telephones on the shelf\": "), "{note}");
        assert!(not_as_typed("bob\u{200b}", "bob").is_some());
        assert_eq!(not_as_typed(" my  phone\n", "my phone"), None);
    }
}
