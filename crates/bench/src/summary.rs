//! Many samples in a few figures.

use serde::Serialize;

use crate::stats::{Spread, spread};

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub avg: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
}

/// None of no samples, which are in nanoseconds.
pub fn summary(samples: &[u64]) -> Option<Summary> {
    let Spread { mean, p50, p90, p95, p99, .. } = spread(samples)?;
    let [avg, p50, p90, p95, p99] = [mean, p50, p90, p95, p99].map(|value| value / 1e6);
    Some(Summary { avg, p50, p90, p95, p99 })
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn samples_are_put_in_order() {
        let thousand: Vec<u64> = (1..=1000).rev().map(|number| number * 1_000_000).collect();
        let found = summary(&thousand).unwrap();
        assert_eq!(found.avg, 500.5);
        for (value, expected) in [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0)] {
            assert!((value - expected).abs() < 1.0, "{found:?}");
        }
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[2_000_000]).unwrap().p99, 2.0);
    }
}
