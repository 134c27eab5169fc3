//! Numbers as people read them: three significant digits, and a unit.

use crate::result::Case;
use crate::stats::Ratio;

/// What stands where there is no figure.
pub const NONE: &str = "–";

/// Three significant digits, and no fewer before the point.
pub fn three(value: f64) -> String {
    // A value may gain a digit when it is rounded: 9.996 is 10.0.
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let decimals = match rounded.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{rounded:.decimals$}")
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let unit = units.iter().rev().find(|(size, _)| rounded >= *size).or(units.first());
    unit.map_or_else(|| three(value), |(size, name)| format!("{} {name}", three(value / size)))
}

/// A time in nanoseconds.
pub fn duration(nanoseconds: f64) -> String {
    scaled(nanoseconds, &[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")])
}

pub fn bytes(bytes: f64) -> String {
    let kib = 1024.0;
    scaled(bytes, &[(1.0, "B"), (kib, "KiB"), (kib * kib, "MiB"), (kib * kib * kib, "GiB")])
}

pub fn rate(per_second: f64) -> String {
    format!("{}/s", three(per_second))
}

/// `3.23 (3.10–3.36)`.
pub fn ratio(ratio: &Ratio) -> String {
    match ratio.interval {
        Some((low, high)) => format!("{} ({}–{})", three(ratio.ratio), three(low), three(high)),
        None => format!("{} (too few rounds)", three(ratio.ratio)),
    }
}

/// A share that is 100 % only if nothing is missing, and 0 % only if nothing is there.
pub fn share(part: u64, whole: u64) -> String {
    match (part, whole) {
        (_, 0) => NONE.to_owned(),
        (part, whole) if part >= whole => "100 %".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, whole) => {
            let tenths = (u128::from(part) * 1000 / u128::from(whole)).max(1);
            format!("{}.{} %", tenths / 10, tenths % 10)
        }
    }
}

pub fn or_none<T>(value: Option<T>, said: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), said)
}

/// How many of a case came to their end in a second. One after the other, that is by what each
/// took, because others may have had their turn in between; several at once, by what all took
/// together.
pub fn per_second(case: &Case) -> Option<f64> {
    let samples = case.samples("total");
    let done = samples.len() as f64;
    let nanoseconds =
        if case.at_once > 1 { case.wall_ns as f64 } else { samples.iter().sum::<u64>() as f64 };
    (done > 0.0 && nanoseconds > 0.0).then(|| done / (nanoseconds / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_the_unit_that_fits() {
        for (nanoseconds, said) in [
            (50.0, "50.0 ns"),
            (999.0, "999 ns"),
            (999.9, "1.00 µs"),
            (1_800.0, "1.80 µs"),
            (999_600.0, "1.00 ms"),
            (12_345_678.0, "12.3 ms"),
            (1_234_000_000.0, "1.23 s"),
            (123_400_000_000.0, "123 s"),
            (0.0, "0 ns"),
        ] {
            assert_eq!(duration(nanoseconds), said);
        }
    }

    #[test]
    fn sizes_and_rates_do_too() {
        assert_eq!(bytes(533_504.0), "521 KiB");
        assert_eq!(bytes(1_048_576.0), "1.00 MiB");
        assert_eq!(rate(1234.5), "1230/s");
        assert_eq!(three(9.996), "10.0");
        assert_eq!(three(0.4567), "0.457");
    }

    #[test]
    fn a_share_is_never_rounded_to_a_whole() {
        assert_eq!(share(99_999, 100_000), "99.9 %");
        assert_eq!(share(1, 100_000), "0.1 %");
        assert_eq!(share(100, 100), "100 %");
        assert_eq!(share(0, 100), "0 %");
        assert_eq!(share(0, 0), NONE);
    }

    #[test]
    fn throughput_counts_what_came_to_its_end() {
        let mut case = Case::default();
        case.series.insert("total".into(), vec![Some(500_000_000), None, Some(500_000_000)]);
        assert_eq!(per_second(&case), Some(2.0));
        case.wall_ns = 500_000_000;
        assert_eq!(per_second(&case), Some(2.0), "others had their turn in that time");
        case.at_once = 2;
        assert_eq!(per_second(&case), Some(4.0));
        assert_eq!(per_second(&Case::default()), None);
    }
}
