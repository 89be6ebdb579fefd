//! The lab proves itself first, then the real program in it.

mod attacks;
mod lan;
mod lan_programs;
mod moving;
mod programs;
mod selftest;
mod traffic;

use handfast_lab::lock::LabLock;
use handfast_lab::skip;

/// Runs `test` alone on this machine, or says why it cannot run here.
fn in_lab(name: &str, test: impl FnOnce()) {
    if skip::skipped(name, skip::reason()) {
        return;
    }
    let _lock = LabLock::acquire().expect("the other labs end");
    test();
}
