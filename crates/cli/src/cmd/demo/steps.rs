//! The steps of the demo as they happen, with the time since its start.

use std::time::Instant;

use serde::Serialize;

use crate::output::Output;
use crate::render::clean;

/// Shows steps.
pub(super) struct Steps<'a> {
    out: &'a Output,
    started: Instant,
}

/// One step.
#[derive(Serialize)]
struct Step<'a> {
    v: u32,
    event: &'static str,
    who: &'a str,
    text: &'a str,
    elapsed_ms: u128,
}

impl<'a> Steps<'a> {
    /// Time runs from here.
    pub(super) fn new(out: &'a Output) -> Steps<'a> {
        Steps { out, started: Instant::now() }
    }

    /// Shows what `who` has done.
    pub(super) fn say(&self, who: &str, text: &str) {
        let elapsed_ms = self.started.elapsed().as_millis();
        let step = Step { v: handfast::EVENT_VERSION, event: "step_done", who, text, elapsed_ms };
        self.out.show(&step, |step| {
            format!("{:>7.3} s  {:<6} {}", step.elapsed_ms as f64 / 1e3, step.who, clean(step.text))
        });
    }
}
