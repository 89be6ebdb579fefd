//! x
use super::super::Options;
use crate::report::Report;
/// x
pub fn run(_o: &Options) -> anyhow::Result<Report> {
    anyhow::bail!("x")
}
