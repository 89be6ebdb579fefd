//! Median, 95th percentile and spread of measured times.

use std::time::Duration;

use serde::Serialize;

/// What a list of times comes to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: usize,
    /// The shortest.
    pub min_ms: f64,
    /// The middle one (mean of the two middle ones for an even count).
    pub median_ms: f64,
    /// The smallest that 95 % do not exceed (nearest rank).
    pub p95_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Standard deviation.
    pub spread_ms: f64,
}

impl Summary {
    /// Sums up `times`; `None` when there are none.
    #[must_use]
    pub fn of(times: &[Duration]) -> Option<Self> {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let count = ms.len();
        let (min_ms, max_ms) = (*ms.first()?, *ms.last()?);
        let middle = count / 2;
        let median_ms = if count % 2 == 1 { ms[middle] } else { f64::midpoint(ms[middle - 1], ms[middle]) };
        let p95_ms = ms[(count * 95).div_ceil(100) - 1];
        let mean = ms.iter().sum::<f64>() / count as f64;
        let variance = ms.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        Some(Self { count, min_ms, median_ms, p95_ms, max_ms, spread_ms: variance.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Summary};

    #[test]
    fn the_median_and_the_95th_percentile_are_those_of_the_definition() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        let summary = Summary::of(&times).expect("there are times");
        assert_eq!((summary.count, summary.min_ms, summary.max_ms), (20, 1.0, 20.0));
        assert!((summary.median_ms - 10.5).abs() < 1e-9);
        assert!((summary.p95_ms - 19.0).abs() < 1e-9);
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[Duration::from_millis(5)]).expect("there is one");
        assert!((one.median_ms - 5.0).abs() < 1e-9 && (one.p95_ms - 5.0).abs() < 1e-9 && one.spread_ms < 1e-9);
    }
}
