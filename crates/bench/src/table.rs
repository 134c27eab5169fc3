//! A result as a table for a terminal.

use std::fmt::Write;

use crate::report::section_name;
use crate::result::{Case, Document, OURS, Section};
use crate::stats::{paired_ratio, spread};

/// What is shown of each section, if it has it.
const SERIES: &[&str] = &[
    "process",
    "boot",
    "ready",
    "create",
    "start",
    "exec",
    "stop",
    "remove",
    "shutdown",
    "acquire",
    "first-output",
    "total",
];

/// Every case with its median and spread, what agentkernel takes of the time of those that it was
/// measured in turn with, and what failed.
pub fn table(document: &Document) -> String {
    let mut text = String::new();
    let mut before = None;
    for case in &document.cases {
        let of = if case.group.is_empty() { &case.backend } else { &case.group };
        let heading = (case.section, of);
        if before != Some(heading) {
            let _ = writeln!(text, "{} {of}", section_name(case.section));
            before = Some(heading);
        }
        lines(&mut text, case);
        if case.tool == OURS {
            ratios(&mut text, case, &document.cases);
        }
        for failure in &case.failures {
            let _ =
                writeln!(text, "  {:12} FAILED {}: {}", case.tool, failure.count, failure.error);
        }
    }
    if document.interrupted {
        text += "interrupted: what is missing was not measured\n";
    }
    text
}

fn lines(text: &mut String, case: &Case) {
    for series in SERIES {
        let Some(spread) = spread(&case.samples(series)) else { continue };
        let many = match case.at_once {
            0 | 1 => String::new(),
            at_once => format!("  {at_once} at once"),
        };
        let _ = writeln!(
            text,
            "  {:12} {series:12} {:>9}  p95 {:>9}  p99 {:>9}  {} samples{many}",
            case.tool,
            time(spread.p50),
            time(spread.p95),
            time(spread.p99),
            spread.count,
        );
    }
    if case.wall_ns > 0 {
        let good = case.attempts - case.failed();
        let rate = good as f64 / (case.wall_ns as f64 / 1e9);
        let _ =
            writeln!(text, "  {:12} {good} of {}, {rate:.0} a second", case.tool, case.attempts);
    }
    for (name, value) in &case.values {
        let shown = match name.as_str() {
            "pss-bytes" | "available-bytes" => format!("{:.0} KiB", value / 1024.0),
            "refill" | "clock" => time(*value),
            _ => format!("{value:.1}"),
        };
        let _ = writeln!(text, "  {:12} {name:15} {shown:>9}", case.tool);
    }
}

/// What it takes of the others' time.
fn ratios(text: &mut String, case: &Case, all: &[Case]) {
    if !matches!(case.section, Section::Once | Section::Exec | Section::Lifecycle) {
        return;
    }
    let beside = |other: &&Case| {
        (other.section, &other.group) == (case.section, &case.group) && other.tool != case.tool
    };
    let total = |case: &Case| case.series.get("total").cloned().unwrap_or_default();
    for other in all.iter().filter(beside) {
        let Some(ratio) = paired_ratio(&total(case), &total(other)) else { continue };
        let interval = ratio.interval.map(|(low, high)| format!(" ({low:.2} to {high:.2})"));
        let interval = interval.unwrap_or_default();
        let _ =
            writeln!(text, "  {:12} {:.2} times {}{interval}", case.tool, ratio.ratio, other.tool);
    }
}

/// Nanoseconds for people.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        ..1e6 => format!("{:.1} us", nanoseconds / 1e3),
        ..1e9 => format!("{:.2} ms", nanoseconds / 1e6),
        _ => format!("{:.2} s", nanoseconds / 1e9),
    }
}
