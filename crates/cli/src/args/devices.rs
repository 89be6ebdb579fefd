//! `devices …`.

use clap::{Args, Subcommand};

/// `devices`, which lists them when nothing else is said.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  handfast devices\n  handfast devices show bob\n  handfast devices rename bob \"bob's laptop\""
)]
pub(crate) struct DeviceList {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<DevicesCommand>,
}

/// What to do about devices.
#[derive(Subcommand)]
pub(crate) enum DevicesCommand {
    /// List the paired devices.
    List,
    /// Show one of them.
    Show {
        /// Its name, or its id or the beginning of it.
        device: String,
    },
    /// Give one of them another name on this device.
    Rename {
        /// Its name, or its id or the beginning of it.
        device: String,
        /// The new name; only this device uses it.
        name: String,
    },
}
