//! x
use crate::report::Report;
use super::super::Options;
/// x
pub fn run(_o: &Options) -> anyhow::Result<Report> { anyhow::bail!("x") }
