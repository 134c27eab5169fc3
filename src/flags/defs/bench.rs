//! The flags of the benchmark.

use std::ffi::OsStr;

use agentkernel_wire::ValueError;

use crate::flags::{Flag, Takes, Words};
use crate::verbs::Verb;

/// More than this is a slip.
const MOST: u64 = 1_000_000;

pub(super) static FLAGS: &[Flag] = &[
    Flag {
        long: "quick",
        short: None,
        aliases: &[],
        takes: Takes::Nothing(|low| low.bench.quick = true),
        verbs: &[Verb::Bench],
        doc: "Measure for less than a minute",
    },
    Flag {
        long: "runs",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "COUNT",
            words: Words::Any,
            read: |low, value| {
                low.bench.runs = Some(number(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Take so many samples of each run (default: 500)",
    },
    Flag {
        long: "max",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "COUNT",
            words: Words::Any,
            read: |low, value| {
                low.bench.most = Some(number(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Run at most so many sandboxes at once (default: 200)",
    },
    Flag {
        long: "results",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "DIR",
            words: Words::Directories,
            read: |low, value| {
                low.bench.results = Some(value.into());
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Keep the result there (default: benchmark-results)",
    },
    Flag {
        long: "fail-above",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "RATIO",
            words: Words::Any,
            read: |low, value| {
                low.bench.fail_above = Some(ratio(&value)?);
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Fail if something got so many times slower (1.10)",
    },
    Flag {
        long: "markdown",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.bench.markdown = Some(value.into());
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Write the report there instead of printing it",
    },
    Flag {
        long: "html",
        short: None,
        aliases: &[],
        takes: Takes::Value {
            name: "FILE",
            words: Words::Files,
            read: |low, value| {
                low.bench.html = Some(value.into());
                Ok(())
            },
        },
        verbs: &[Verb::Bench],
        doc: "Write the report there as a page with charts",
    },
];

fn number(text: &OsStr) -> Result<u64, ValueError> {
    match text.to_str().and_then(|text| text.parse().ok()) {
        Some(number @ 1..=MOST) => Ok(number),
        _ => Err(ValueError::new(format!("{text:?} is not a number from 1 to {MOST}"))),
    }
}

fn ratio(text: &OsStr) -> Result<f64, ValueError> {
    match text.to_str().and_then(|text| text.parse::<f64>().ok()) {
        Some(ratio) if ratio.is_finite() && ratio >= 1.0 => Ok(ratio),
        _ => Err(ValueError::new(format!("{text:?} is not a ratio of 1 or more, such as 1.10"))),
    }
}
