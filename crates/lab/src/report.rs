//! What a scenario found: a table, checks with a verdict, and the same as JSON or Markdown.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::stats::Summary;
use crate::topology::ACCESS_DELAY;

/// A round trip between two hosts of the lab, in which the medians are counted as well.
const ROUND_TRIP: Duration = ACCESS_DELAY.saturating_mul(4);

/// The result of a scenario.
#[derive(Default)]
pub struct Report {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    checks: Vec<Check>,
    data: Map<String, Value>,
    /// What medians are counted in as well, where hosts are far enough from each other for that to mean something.
    round_trip: Option<Duration>,
}

/// Something that must hold.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// Does it?
    pub holds: bool,
    /// What was seen.
    pub seen: String,
}

impl Report {
    /// An empty report with a table of these columns.
    #[must_use]
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Adds a row of the table.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds a line below the table.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds something that must hold, and what was seen.
    pub fn check(&mut self, what: &str, holds: bool, seen: impl Into<String>) {
        self.checks.push(Check { what: what.to_owned(), holds, seen: seen.into() });
    }

    /// Adds a fact to the JSON form.
    pub fn fact(&mut self, name: &str, value: impl Serialize) {
        // Values that have no JSON form are not measured here.
        self.data.insert(name.to_owned(), serde_json::to_value(value).unwrap_or(Value::Null));
    }

    /// Adds measured times: a row, and a fact of the same name.
    pub fn times(&mut self, name: &str, times: Option<Summary>) {
        let columns = self.columns.len().saturating_sub(1);
        let cells = times.map_or_else(
            || vec![String::from("-"); columns],
            |summary| {
                let all = [summary.median_ms, summary.p95_ms, summary.min_ms, summary.max_ms, summary.spread_ms];
                let mut cells = vec![summary.count.to_string()];
                cells.extend(all.iter().map(|ms| format!("{ms:.1}")));
                let in_round_trips = |trip: Duration| format!("{:.1}", summary.median_ms / trip.as_secs_f64() / 1e3);
                cells.extend(self.round_trip.map(in_round_trips));
                cells
            },
        );
        let mut row = vec![name.to_owned()];
        row.extend(cells);
        self.rows.push(row);
        self.fact(name, times);
    }

    /// The columns that [`Report::times`] fills.
    #[must_use]
    pub fn of_times(title: &str) -> Self {
        let mut report = Self::of_local_times(title);
        report.columns.push("round trips".to_owned());
        report.round_trip = Some(ROUND_TRIP);
        report
    }

    /// As [`Report::of_times`], for hosts so near to each other that a round trip is nothing.
    #[must_use]
    pub fn of_local_times(title: &str) -> Self {
        Self::new(title, &["phase", "runs", "median ms", "p95 ms", "min ms", "max ms", "spread ms"])
    }

    /// Do all checks hold?
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// What does not hold, as text for a failing test.
    #[must_use]
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.holds);
        failed.map(|check| format!("{}: {}", check.what, check.seen)).collect::<Vec<_>>().join("\n")
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let cells = self.columns.iter().zip(row).map(|(column, cell)| (column.clone(), json!(cell)));
                Value::Object(cells.collect())
            })
            .collect();
        json!({
            "scenario": self.title, "holds": self.holds(), "rows": rows, "notes": self.notes, "checks": self.checks,
            "facts": self.data,
        })
    }

    /// Writes the report for people: an aligned table, the notes, then the checks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.title)?;
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            writeln!(out, "  {}", cells.join("  ").trim_end())?;
        }
        for note in &self.notes {
            writeln!(out, "  {note}")?;
        }
        for check in &self.checks {
            writeln!(out, "  {} {}: {}", if check.holds { "ok  " } else { "FAIL" }, check.what, check.seen)?;
        }
        Ok(())
    }

    /// Writes the report as it stands in a document: table and notes, and of the checks those that do not hold.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}:\n", self.title)?;
        let rule = vec!["---".to_owned(); self.columns.len()];
        for row in [&self.columns, &rule].into_iter().chain(&self.rows) {
            writeln!(out, "| {} |", row.join(" | "))?;
        }
        let failed = self.checks.iter().filter(|check| !check.holds);
        let failed = failed.map(|check| format!("FAIL {}: {}", check.what, check.seen));
        for line in self.notes.iter().cloned().chain(failed) {
            writeln!(out, "\n{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn columns_are_aligned_and_one_failed_check_fails_the_report() {
        let mut report = Report::new("title", &["a", "long"]);
        report.row(vec!["wide cell".to_owned(), "x".to_owned()]);
        report.check("it works", true, "yes");
        assert!(report.holds());
        report.check("it is fast", false, "9 s");
        let mut text = Vec::new();
        report.write(&mut text).expect("a Vec takes everything");
        let text = String::from_utf8(text).expect("it is text");
        assert_eq!(text, "title\n  a          long\n  wide cell  x\n  ok   it works: yes\n  FAIL it is fast: 9 s\n");
        assert!(!report.holds());
        assert_eq!(report.failures(), "it is fast: 9 s");
        assert_eq!(report.to_json()["rows"][0]["long"], "x");
    }

    #[test]
    fn in_a_document_are_the_table_the_notes_and_what_does_not_hold() {
        let mut report = Report::new("title", &["a", "b"]);
        report.row(vec!["1".to_owned(), String::new()]);
        report.note("all of them");
        report.check("it works", true, "yes");
        report.check("it is fast", false, "9 s");
        let mut text = Vec::new();
        report.write_markdown(&mut text).expect("a Vec takes everything");
        let text = String::from_utf8(text).expect("it is text");
        assert_eq!(text, "title:\n\n| a | b |\n| --- | --- |\n| 1 |  |\n\nall of them\n\nFAIL it is fast: 9 s\n");
    }
}
