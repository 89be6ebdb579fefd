//! What is measured on local networks: each scenario has a lab of [`crate::lan`] for itself, and the real program in it.

pub mod attacks;
pub mod capture;
pub mod listeners;
pub mod nearby;
pub mod times;
pub mod topologies;

use std::time::Duration;

use anyhow::Result;

use super::pairing::Offer;
use crate::device::Device;
use crate::lan::LanLab;

/// How long daemons that have just started are left alone where they are meant to be at rest.
const SETTLE: Duration = Duration::from_millis(200);

/// How a code is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Twelve words, which name no address.
    Words,
    /// The QR text, which names the key and some addresses.
    Qr,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Words, Self::Qr];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Qr => "QR",
        }
    }

    /// What is entered on the other device.
    #[must_use]
    pub fn of(self, offer: &Offer) -> &str {
        match self {
            Self::Words => &offer.words,
            Self::Qr => &offer.qr,
        }
    }
}

/// Two devices whose daemons run: `alice-RUN` and `bob-RUN`, made with `setting`.
fn running_pair(lab: &LanLab, run: usize, setting: fn(Device) -> Device) -> Result<(Device, Device)> {
    let device = |host: &str| Ok::<_, anyhow::Error>(setting(Device::new(&lab.host(host)?, &format!("{host}-{run}"))?));
    let (mut alice, mut bob) = (device("alice")?, device("bob")?);
    alice.start_daemon()?;
    bob.start_daemon()?;
    std::thread::sleep(SETTLE);
    Ok((alice, bob))
}
