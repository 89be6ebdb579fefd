//! Acceptance line 6: somebody with another key answers where the QR text leads.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use handfast_proto::code::qr::QrText;

use super::super::super::Options;
use super::Case;
use super::stage::Stage;
use crate::device::Device;
use crate::process::Running;
use crate::scenario::pairing::{Ending, join};

/// How long the joiner may take to notice.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) const CASES: &[Case] =
    &[("11, 30", "another device has taken over the port that a QR text names", port_taken)];

/// Alice ends without a farewell, and another device of her host takes her ports.
fn take_over(stage: &Stage) -> Result<(String, Device)> {
    let mut shown = stage.offer(&["--yes"])?;
    let qr = QrText::parse(&shown.offer.qr).context("a QR text")?;
    let pid = stage.alice.daemon()?.pid();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid is positive")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    shown.offer.process.wait(PATIENCE)?.context("a command without its daemon goes on")?;
    let (tcp, quic) = (qr.port, shown.beacon.ports.quic);
    let mut carol = Device::new(stage.alice.host(), "carol")?.without_port_mapping();
    let listen = [format!("/ip4/0.0.0.0/tcp/{tcp}"), format!("/ip4/0.0.0.0/udp/{quic}/quic-v1")];
    carol.start_daemon_with(&["--listen", &listen[0], "--listen", &listen[1]])?;
    Ok((shown.offer.qr, carol))
}

fn end_of(process: Running) -> Result<Ending> {
    Ok(Ending::of(&process.finish(PATIENCE)?))
}

fn port_taken(stage: &Stage, _: &Options) -> Result<String> {
    let (qr, carol) = take_over(stage)?;
    let ending = end_of(join(&stage.bob, &qr, &["--yes"])?)?;
    let right = ending.exit == Some(7) && ending.cause.as_deref() == Some("wrong_device") && ending.told == 1;
    ensure!(right, "the joiner ended with {ending}");
    ensure!(carol.devices()?.is_empty() && stage.bob.devices()?.is_empty(), "somebody is paired");
    Ok(ending.to_string())
}
