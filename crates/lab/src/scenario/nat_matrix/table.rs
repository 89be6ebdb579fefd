//! The matrix as it is printed: each cell, what it must come to, why not more, and the times.

use std::time::Duration;

use super::best::{Best, REASONS, best};
use super::{End, Pair, Paired, RELAY_LIMIT};
use crate::nat::Nat;
use crate::report::Report;
use crate::scenario::Options;
use crate::stats::Summary;

/// How a pair went, as far as the medians tell it apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Direct,
    Upgraded,
    Relayed,
}

impl Class {
    const ALL: [(Class, &str); 3] = [
        (Class::Direct, "direct at once"),
        (Class::Upgraded, "relay, then direct"),
        (Class::Relayed, "relay to the end"),
    ];
}

impl Paired {
    fn ends_on(&self, path: &str) -> bool {
        self.last.as_deref() == Ok(path)
    }

    fn class(&self) -> Class {
        match (self.first.as_str(), self.ends_on("direct")) {
            ("direct", _) => Class::Direct,
            (_, true) => Class::Upgraded,
            (_, false) => Class::Relayed,
        }
    }

    /// Is this what the pair must come to? A path that changed was told of, and times count if `limits` says so.
    fn is(&self, best: Best, limits: bool) -> bool {
        let is_told = self.first == "direct" || self.direct.is_some() == self.ends_on("direct");
        let is_known = self.ends_on("direct") || self.ends_on("relay");
        let in_time = !limits || self.first == "direct" || self.took <= RELAY_LIMIT;
        let is_good = match best {
            Best::Direct => self.ends_on("direct"),
            Best::Relay(_) => self.first == "relay" || self.ends_on("direct"),
        };
        is_told && is_known && in_time && is_good
    }
}

impl std::fmt::Display for Paired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ms", self.first, self.took.as_millis())?;
        if let Some(direct) = self.direct {
            write!(f, ", direct +{} ms", direct.as_millis())?;
        }
        match &self.last {
            Ok(last) if *last == self.first || self.direct.is_some() => Ok(()),
            Ok(last) => write!(f, ", at last {last}"),
            Err(error) => write!(f, ", ping: {error}"),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.result {
            Ok(paired) => paired.fmt(f),
            Err(why) => f.write_str(why),
        }
    }
}

impl End {
    fn is(&self, limits: bool) -> bool {
        self.result.as_ref().is_ok_and(|paired| paired.is(best(self.pair), limits))
    }

    /// As it stands in a message: who showed the code to whom, and what came of it.
    fn told(&self) -> String {
        format!("{}: {self}", names(self.pair))
    }
}

/// The runs of one pair.
struct Cell<'a> {
    of: Pair,
    ends: Vec<&'a End>,
}

impl Cell<'_> {
    /// One run says everything; of several the paths are told apart, with how many took each, and medians.
    fn text(&self, limits: bool) -> String {
        let runs = self.ends.len();
        if let [end] = self.ends.as_slice() {
            return end.to_string();
        }
        let good: Vec<&Paired> =
            self.ends.iter().filter(|end| end.is(limits)).filter_map(|end| end.result.as_ref().ok()).collect();
        let mut parts = Vec::new();
        for (class, _) in Class::ALL {
            let of_class: Vec<&Paired> = good.iter().copied().filter(|paired| paired.class() == class).collect();
            let took = median(of_class.iter().map(|paired| paired.took));
            let Some((first, took)) = of_class.first().map(|paired| &paired.first).zip(took) else { continue };
            let count = if of_class.len() == good.len() { String::new() } else { format!("{} × ", of_class.len()) };
            let direct = median(of_class.iter().filter_map(|paired| paired.direct));
            let direct = direct.map(|ms| format!(", direct +{ms:.0} ms")).unwrap_or_default();
            parts.push(format!("{count}{first} {took:.0} ms{direct}"));
        }
        parts.extend(self.ends.iter().filter(|end| !end.is(limits)).map(|end| end.told()));
        format!("{} of {runs}: {}", good.len(), parts.join("; "))
    }

    fn check(&self, limits: bool, report: &mut Report) {
        let names = names(self.of);
        let wanted = if best(self.of) == Best::Direct { "direct" } else { "by the relay at once" };
        report.check(&format!("{names}: {wanted}"), self.ends.iter().all(|end| end.is(limits)), self.text(limits));
        let mut seen: Vec<String> = Vec::new();
        for end in &self.ends {
            let text = match &end.published {
                Ok(published) => published.to_string(),
                Err(wrong) => wrong.clone(),
            };
            if !seen.contains(&text) {
                seen.push(text);
            }
        }
        let is_sound = self.ends.iter().all(|end| end.published.is_ok());
        let what = format!("{names}: record and QR name only what may be right for their readers");
        report.check(&what, is_sound, seen.join("; "));
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Option<f64> {
    Summary::of(&times.collect::<Vec<_>>()).map(|summary| summary.median_ms)
}

fn names((one, other): Pair) -> String {
    format!("{} and {}", one.name(), other.name())
}

/// The matrix, what each pair must come to, why not more, and the medians.
pub(super) fn report(options: &Options, by_turns: bool, ends: &[End]) -> Report {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for end in ends {
        match cells.iter_mut().find(|cell| cell.of == end.cell) {
            Some(cell) => cell.ends.push(end),
            None => cells.push(Cell { of: end.cell, ends: vec![end] }),
        }
    }
    cells.sort_by_key(|cell| cell.of);
    let has = |which: fn(&Cell<'_>) -> Nat| {
        let nats = Nat::ALL.into_iter().filter(|nat| cells.iter().any(|cell| which(cell) == *nat));
        nats.collect::<Vec<Nat>>()
    };
    let (rows, columns) = (has(|cell| cell.of.0), has(|cell| cell.of.1));
    let (title, corner) = if by_turns {
        ("pairings by words, by what is in front of the two, who show the code by turns, 25 ms one way", "behind")
    } else {
        (
            "pairings by words, by what is in front of who shows the code ↓ and who types it →, 25 ms one way",
            "code shown behind ↓, typed behind →",
        )
    };
    let names: Vec<&str> = [corner].into_iter().chain(columns.iter().map(|nat| nat.name())).collect();
    let mut report = Report::new(title, &names);
    for row in rows {
        let cell = |column: &Nat| cells.iter().find(|cell| cell.of == (row, *column));
        let text = |column| cell(column).map(|cell| cell.text(options.limits)).unwrap_or_default();
        report.row([row.name().to_owned()].into_iter().chain(columns.iter().map(text)).collect());
    }
    for cell in &cells {
        cell.check(options.limits, &mut report);
    }
    note_count(&mut report, options.limits, &cells);
    note_reasons(&mut report, &cells);
    note_medians(&mut report, ends);
    report
}

fn note_count(report: &mut Report, limits: bool, cells: &[Cell<'_>]) {
    let is_good = |cell: &&Cell<'_>| cell.ends.iter().all(|end| end.is(limits));
    let runs: usize = cells.iter().map(|cell| cell.ends.len()).sum();
    let good: usize = cells.iter().flat_map(|cell| &cell.ends).filter(|end| end.is(limits)).count();
    let good_cells = cells.iter().filter(is_good).count();
    report.note(format!("as they must be: {good} of {runs} pairings, {good_cells} of {} cells", cells.len()));
}

/// Where the relay is enough, and why.
fn note_reasons(report: &mut Report, cells: &[Cell<'_>]) {
    for why in REASONS {
        let of_reason: Vec<&Cell<'_>> = cells.iter().filter(|cell| best(cell.of) == Best::Relay(why)).collect();
        if of_reason.is_empty() {
            continue;
        }
        let ends = || of_reason.iter().flat_map(|cell| &cell.ends);
        let direct = ends().filter(|end| end.result.as_ref().is_ok_and(|paired| paired.ends_on("direct"))).count();
        let all = ends().count();
        let names: Vec<String> = of_reason.iter().map(|cell| names(cell.of)).collect();
        report.note(format!("relay is enough, {direct} of {all} direct all the same: {why}: {}", names.join(", ")));
    }
}

/// The times of each class of paths.
fn note_medians(report: &mut Report, ends: &[End]) {
    let paired: Vec<&Paired> = ends.iter().filter_map(|end| end.result.as_ref().ok()).collect();
    let mut note = |name: &str, times: &[Duration]| {
        let Some(summary) = Summary::of(times) else { return };
        let Summary { count, min_ms: min, median_ms: median, p95_ms: p95, max_ms: max, .. } = summary;
        report.note(format!("{name}: {count}, median {median:.0} ms, p95 {p95:.0} ms ({min:.0} to {max:.0} ms)"));
        report.fact(name, summary);
    };
    for (class, name) in Class::ALL {
        let of_class: Vec<Duration> = paired.iter().filter(|p| p.class() == class).map(|p| p.took).collect();
        note(&format!("paired, {name}"), &of_class);
    }
    let direct: Vec<Duration> = paired.iter().filter_map(|paired| paired.direct).collect();
    note("from paired to direct", &direct);
}
