//! The lab proves itself first, then the real program in it.

mod attacks;
mod lan;
mod lan_programs;
mod moving;
mod programs;
mod selftest;
mod traffic;

use std::time::Duration;

use anyhow::Result;
use handfast_lab::lock::LabLock;
use handfast_lab::report::Report;
use handfast_lab::scenario::Options;
use handfast_lab::{device, skip};

/// Runs `test` alone on this machine, or says why it cannot run here.
fn in_lab(name: &str, test: impl FnOnce()) {
    if skip::skipped(name, skip::reason()) {
        return;
    }
    let _lock = LabLock::acquire().expect("the other labs end");
    test();
}

/// Plays a scenario with this DHT and count, without judging times; what must hold must hold.
fn play(name: &str, nodes: usize, runs: usize, scenario: impl FnOnce(&Options) -> Result<Report>) {
    let missing = device::binary().err().map(|error| format!("{error:#}"));
    if skip::skipped(name, missing) {
        return;
    }
    in_lab(name, || {
        let options = Options { nodes, runs, seed: 1, gap: Duration::from_secs(1), limits: false };
        let report = scenario(&options).expect("the scenario runs to its end");
        let mut text = Vec::new();
        report.write(&mut text).expect("a Vec takes everything");
        eprintln!("{}", String::from_utf8_lossy(&text));
        assert!(report.holds(), "{}", report.failures());
    });
}
