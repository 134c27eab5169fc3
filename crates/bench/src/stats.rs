//! What is said of samples: where their middle is, how far they spread, and how sure a ratio is.
//!
//! Times are skewed and have outliers, so nothing here assumes a distribution. Fewer than
//! [`LEAST`] samples have no interval: no two of them enclose the median with 95 % certainty.

use fastrand::Rng;
use statrs::distribution::{Binomial, DiscreteCDF};
use statrs::statistics::{Data, OrderStatistics};

/// The fewest samples that have an interval: of five, all lie on one side of the median once in
/// sixteen times.
pub const LEAST: usize = 6;

/// What of the time the median lies below an interval, and as often above.
const TAIL: f64 = 0.025;

/// How often samples are drawn again. The ends of an interval would move by about a fiftieth of its
/// width from seed to seed.
const RESAMPLES: usize = 2000;

/// Two documents compared twice say the same twice.
const SEED: u64 = 0x61_67_65_6e_74;

/// Where samples lie. In the samples' own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub count: usize,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    pub mean: f64,
}

/// A ratio of medians or the median of ratios, and where the true one lies with 95 % certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    /// Its lower and upper end; none of too few samples.
    pub interval: Option<(f64, f64)>,
    /// Of how many pairs, or of how many samples on the side that has fewer.
    pub count: usize,
}

impl Ratio {
    /// Whether it is above 1 beyond doubt.
    pub fn surely_above_one(&self) -> bool {
        self.interval.is_some_and(|(low, _)| low > 1.0)
    }
}

fn data(samples: &[u64]) -> Vec<f64> {
    samples.iter().map(|&sample| sample as f64).collect()
}

/// The median; none of no samples.
pub fn median(samples: &[u64]) -> Option<f64> {
    (!samples.is_empty()).then(|| Data::new(data(samples)).median())
}

/// The value that `percent` per cent of the samples lie below, interpolated between neighbours and
/// never beyond the samples. None of no samples, or if `percent` is not within 0 and 100.
pub fn percentile(samples: &[u64], percent: f64) -> Option<f64> {
    let value = Data::new(data(samples)).quantile(percent / 100.0);
    (!value.is_nan()).then_some(value)
}

/// None of no samples.
pub fn spread(samples: &[u64]) -> Option<Spread> {
    let mut sorted = data(samples);
    sorted.sort_by(f64::total_cmp);
    let (&min, &max) = (sorted.first()?, sorted.last()?);
    let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
    let mut data = Data::new(sorted);
    Some(Spread {
        count: samples.len(),
        min,
        p50: data.median(),
        p90: data.quantile(0.90),
        p95: data.quantile(0.95),
        p99: data.quantile(0.99),
        max,
        mean,
    })
}

/// How many times as long `ours` took as `theirs`: the median of the ratios of each round. Rounds
/// in which either failed are left out; none if no round is left.
///
/// The interval is exact whatever the distribution is: its ends are two of the ratios themselves,
/// as many places from the ends of their order as a fair coin tells.
pub fn paired_ratio(ours: &[Option<u64>], theirs: &[Option<u64>]) -> Option<Ratio> {
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .filter_map(|(ours, theirs)| Some(((*ours)? as f64, (*theirs)? as f64)))
        .filter(|&(_, theirs)| theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let count = ratios.len();
    let interval = places(count).and_then(|below| {
        let (low, high) = (ratios.get(below)?, ratios.get(count - 1 - below)?);
        Some((*low, *high))
    });
    (count > 0).then(|| Ratio { ratio: Data::new(ratios).median(), interval, count })
}

/// How many of `count` sorted samples lie outside of the interval of their median, on each side.
fn places(count: usize) -> Option<usize> {
    let coin = Binomial::new(0.5, count as u64).ok()?;
    // The first number of heads at which the tail is no longer smaller than it may be.
    let heads = coin.inverse_cdf(TAIL);
    usize::try_from(heads.checked_sub(1)?).ok()
}

/// How many times as long the median of `after` is as that of `before`, where the two were not
/// measured in turn. None if either has no samples or the median before is zero.
///
/// The interval is that of a percentile bootstrap with a fixed seed. It knows nothing of what
/// changed on the machine between the two.
pub fn ratio_of_medians(before: &[u64], after: &[u64]) -> Option<Ratio> {
    let (below, above) = (median(before)?, median(after)?);
    if below == 0.0 {
        return None;
    }
    let count = before.len().min(after.len());
    let interval = (count >= LEAST).then(|| {
        let mut rng = Rng::with_seed(SEED);
        let mut ratios = Data::new(
            (0..RESAMPLES)
                .map(|_| (resampled(before, &mut rng), resampled(after, &mut rng)))
                .map(|(below, above)| above / below)
                .filter(|ratio| ratio.is_finite())
                .collect::<Vec<_>>(),
        );
        (ratios.quantile(TAIL), ratios.quantile(1.0 - TAIL))
    });
    Some(Ratio { ratio: above / below, interval, count })
}

/// The median of as many samples, drawn from them with replacement.
fn resampled(samples: &[u64], rng: &mut Rng) -> f64 {
    let drawn: Vec<f64> =
        (0..samples.len()).map(|_| samples[rng.usize(..samples.len())] as f64).collect();
    Data::new(drawn).median()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(samples: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
        samples.into_iter().map(Some).collect()
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(spread(&[]), None);
        assert_eq!(paired_ratio(&[None, Some(1)], &[Some(1), None]), None);
        assert_eq!(ratio_of_medians(&[], &[1]), None);
        assert_eq!(ratio_of_medians(&[0, 0], &[1, 2]), None);
        assert_eq!(percentile(&[1], 101.0), None);
    }

    #[test]
    fn percentiles_are_where_they_belong() {
        let samples: Vec<u64> = (1..=1000).rev().collect();
        let spread = spread(&samples).unwrap();
        assert_eq!(spread.p50, 500.5);
        assert_eq!(median(&samples), Some(500.5));
        for (value, about) in [(spread.p90, 900.0), (spread.p95, 950.0), (spread.p99, 990.0)] {
            assert!((value - about).abs() < 1.0, "{value} {about}");
        }
        assert_eq!((spread.min, spread.max, spread.mean), (1.0, 1000.0, 500.5));
        assert_eq!(percentile(&samples, 95.0), Some(spread.p95));
    }

    #[test]
    fn no_percentile_is_beyond_the_samples() {
        assert_eq!(percentile(&[3, 1], 99.0), Some(3.0));
        assert_eq!(percentile(&[7], 1.0), Some(7.0));
    }

    /// From tables of the sign test: the ranks of the ends of the 95 % interval of a median.
    #[test]
    fn the_interval_of_a_median_is_that_of_the_tables() {
        for (count, rank) in [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (30, 10), (100, 40)] {
            assert_eq!(places(count), Some(rank - 1), "{count}");
        }
        for count in 0..LEAST {
            assert_eq!(places(count), None, "{count}");
        }
        let ratio = paired_ratio(&some(101..=120), &some([100; 20])).unwrap();
        assert_eq!(ratio, Ratio { ratio: 1.105, interval: Some((1.06, 1.15)), count: 20 });
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        // The machine gets slower by the round, which the medians alone would take for noise.
        let theirs = some((1..=20).map(|round| round * 1000));
        let ours = some((1..=20).map(|round| round * 2000));
        let ratio = paired_ratio(&ours, &theirs).unwrap();
        assert_eq!(ratio, Ratio { ratio: 2.0, interval: Some((2.0, 2.0)), count: 20 });
    }

    #[test]
    fn a_failed_round_takes_no_other_with_it() {
        let ours = [Some(20), None, Some(60), Some(80)];
        let theirs = [Some(10), Some(10), None, Some(20)];
        let ratio = paired_ratio(&ours, &theirs).unwrap();
        assert_eq!(ratio, Ratio { ratio: 3.0, interval: None, count: 2 });
    }

    #[test]
    fn a_ratio_of_medians_finds_what_is_there_and_nothing_else() {
        let mut rng = Rng::with_seed(7);
        let mut around = |middle: u64| -> Vec<u64> {
            (0..200).map(|_| rng.u64(middle * 8 / 10..middle * 12 / 10)).collect()
        };
        let (before, same, slower) = (around(10_000), around(10_000), around(12_000));
        let ratio = ratio_of_medians(&before, &same).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(low < 1.0 && high > 1.0 && high - low < 0.1, "{ratio:?}");
        let ratio = ratio_of_medians(&before, &slower).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(ratio.surely_above_one() && low < 1.2 && high > 1.2, "{ratio:?}");
        assert_eq!(ratio_of_medians(&before, &slower), Some(ratio), "it is the same each time");
    }

    #[test]
    fn few_samples_are_sure_of_nothing() {
        let ratio = ratio_of_medians(&[10; 5], &[90; 50]).unwrap();
        assert_eq!((ratio.ratio, ratio.interval, ratio.count), (9.0, None, 5));
        assert!(!ratio.surely_above_one());
    }
}
