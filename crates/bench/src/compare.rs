//! Two documents set beside each other, for a change and for CI.

use crate::report::figures::{NONE, duration, three};
use crate::report::section_name;
use crate::result::{Case, Document, Machine, OURS};
use crate::stats::{Ratio, median, ratio_of_medians};

/// What two documents, `a` and `b`, say of the same cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// In the order of `a`.
    pub cases: Vec<Compared>,
    /// The names of cases that only one of them has.
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// What of the machines differs, so that times may differ for that reason.
    pub machines: Vec<String>,
}

/// A case that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub name: String,
    /// Whether it is agentkernel's, and not that of a tool beside it.
    pub is_ours: bool,
    /// Medians of the series `total`, in nanoseconds; none where every attempt failed.
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// How many times as long it takes in `b`.
    pub ratio: Option<Ratio>,
    pub failed_a: u64,
    pub failed_b: u64,
}

/// Compares the cases that have a series `total`.
///
/// The documents were not measured in turn: an interval says how sure the medians are, and nothing
/// of what else went on on the machine.
pub fn compare(a: &Document, b: &Document) -> Comparison {
    let mut cases: Vec<Compared> = Vec::new();
    let mut only_a = Vec::new();
    for case in timed(a) {
        match counterpart(b, case) {
            Some(other) => cases.push(compared(case, other)),
            None => only_a.push(name(case)),
        }
    }
    let only_b = timed(b).filter(|case| counterpart(a, case).is_none()).map(name).collect();
    Comparison { cases, only_a, only_b, machines: differences(&a.machine, &b.machine) }
}

fn timed(document: &Document) -> impl Iterator<Item = &Case> {
    document.cases.iter().filter(|case| case.series.contains_key("total"))
}

/// The case of the same kind, of the same group if that can be had.
fn counterpart<'a>(document: &'a Document, case: &Case) -> Option<&'a Case> {
    let kind = |case: &Case| {
        (case.section, case.backend.clone(), case.tool.clone(), case.route.clone(), case.at_once)
    };
    let of_kind = timed(document).filter(|other| kind(other) == kind(case));
    of_kind.min_by_key(|other| other.group != case.group)
}

fn compared(a: &Case, b: &Case) -> Compared {
    let (before, after) = (a.samples("total"), b.samples("total"));
    Compared {
        name: name(a),
        is_ours: a.tool == OURS,
        a: median(&before),
        b: median(&after),
        ratio: ratio_of_medians(&before, &after),
        failed_a: a.failed(),
        failed_b: b.failed(),
    }
}

fn name(case: &Case) -> String {
    let section = section_name(case.section);
    let mut words = vec![section.as_str(), &case.backend, &case.tool, &case.route];
    words.retain(|word| !word.is_empty());
    let mut name = words.join(" ");
    if case.at_once > 1 {
        name.push_str(&format!(" ×{}", case.at_once));
    }
    name
}

fn differences(a: &Machine, b: &Machine) -> Vec<String> {
    let facts = |machine: &Machine| {
        [
            ("processor", machine.cpu.clone()),
            ("processors", machine.cpus.to_string()),
            ("memory", machine.memory_bytes.to_string()),
            ("hypervisor", machine.hypervisor.clone()),
            ("kernel", machine.kernel.clone()),
            ("control groups", machine.cgroup.clone()),
            ("user", machine.uid.to_string()),
        ]
    };
    let pairs = facts(a).into_iter().zip(facts(b));
    pairs
        .filter(|((_, a), (_, b))| a != b)
        .map(|((what, a), (_, b))| format!("{what}: {a} and {b}"))
        .collect()
}

impl Comparison {
    /// The cases of agentkernel's that fail now and did not, and those that got slower beyond doubt,
    /// and by more than is allowed: whose ratio is above the limit, and whose interval lies wholly
    /// above 1. Too few samples have no interval and are never slower.
    pub fn fails_above(&self, limit: f64) -> Vec<&Compared> {
        let slower = |ratio: Ratio| ratio.ratio > limit && ratio.surely_above_one();
        let worse = |case: &&Compared| {
            case.ratio.is_some_and(slower) || (case.failed_a == 0 && case.failed_b > 0)
        };
        self.cases.iter().filter(|case| case.is_ours).filter(worse).collect()
    }

    /// A table for a terminal, and below it what it doesn't show.
    pub fn text(&self) -> String {
        let mut rows =
            vec![["case", "A", "B", "B to A", "95 % interval", "failed"].map(String::from)];
        rows.extend(self.cases.iter().map(Compared::cells));
        let widths: [usize; 6] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        let mut text = String::new();
        for row in &rows {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let lists = [
            ("only in A", &self.only_a),
            ("only in B", &self.only_b),
            ("not the same machine", &self.machines),
        ];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            text.push_str(&format!("{what}: {}\n", names.join("; ")));
        }
        text
    }
}

impl Compared {
    fn cells(&self) -> [String; 6] {
        let time = |median: Option<f64>| median.map_or_else(|| NONE.to_owned(), duration);
        let ratio = self.ratio.map_or_else(|| NONE.to_owned(), |ratio| three(ratio.ratio));
        let interval = match self.ratio.map(|ratio| ratio.interval) {
            Some(Some((low, high))) => format!("{}–{}", three(low), three(high)),
            Some(None) => "too few samples".to_owned(),
            None => NONE.to_owned(),
        };
        let failed = match (self.failed_a, self.failed_b) {
            (0, 0) => String::new(),
            (a, b) => format!("{a} and {b}"),
        };
        [self.name.clone(), time(self.a), time(self.b), ratio, interval, failed]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{Failure, SCHEMA, Section, Settings};

    fn case(tool: &str, route: &str, total: impl IntoIterator<Item = u64>) -> Case {
        let total = total.into_iter().map(Some).collect();
        Case {
            section: Section::Once,
            backend: "one".into(),
            tool: tool.into(),
            route: route.into(),
            series: BTreeMap::from([("total".to_owned(), total)]),
            ..Case::default()
        }
    }

    fn document(cases: Vec<Case>) -> Document {
        Document {
            schema: SCHEMA,
            kind: "bench".into(),
            date: "2026-01-01T00:00:00Z".into(),
            interrupted: false,
            settings: Settings::default(),
            machine: Machine::default(),
            backends: Vec::new(),
            tools: Vec::new(),
            cases,
        }
    }

    #[test]
    fn only_what_is_slower_beyond_doubt_and_by_enough_fails() {
        let a = document(vec![
            case(OURS, "same", 1000..1100),
            case(OURS, "slower", 1000..1100),
            case(OURS, "a little slower", 1000..1100),
            case(OURS, "few", [1000; 3]),
            case("neighbour", "", 1000..1100),
            case(OURS, "wild", (0..20).map(|n| 100 + n % 2 * 10_000)),
        ]);
        let b = document(vec![
            case(OURS, "same", 1001..1101),
            case(OURS, "slower", 2000..2200),
            case(OURS, "a little slower", 1080..1180),
            case(OURS, "few", [9000; 3]),
            case("neighbour", "", 2000..2200),
            case(OURS, "wild", (0..20).map(|n| 100 + (n + 7) % 3 * 10_000)),
        ]);
        let comparison = compare(&a, &b);
        let names = |limit| {
            let failed = comparison.fails_above(limit);
            failed.iter().map(|case| case.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(1.10), ["once one agentkernel slower"]);
        assert_eq!(
            names(1.05),
            ["once one agentkernel slower", "once one agentkernel a little slower"]
        );
        assert!(comparison.cases[5].ratio.unwrap().ratio > 1.10, "it would, if it were sure");
        assert!(names(2.5).is_empty());
        assert!(compare(&b, &a).fails_above(1.0).is_empty(), "what got faster never fails");
    }

    #[test]
    fn cases_are_matched_by_what_they_measure() {
        let a = document(vec![case("t", "cold", 1000..1010), case("t", "pool", 100..110)]);
        let mut b = document(vec![
            Case { group: "other".into(), ..case("t", "pool", 300..310) },
            case("t", "pool", 200..210),
            Case { at_once: 8, ..case("t", "cold", 1000..1010) },
        ]);
        b.machine.kernel = "other".into();
        let comparison = compare(&a, &b);
        assert_eq!(comparison.cases.len(), 1);
        assert_eq!(comparison.cases[0].name, "once one t pool");
        assert_eq!(comparison.cases[0].b, Some(204.5), "the one of the same group");
        assert_eq!(comparison.only_a, ["once one t cold"]);
        assert_eq!(comparison.only_b, ["once one t cold ×8"]);
        let text = comparison.text();
        assert!(text.contains("not the same machine: kernel:  and other"), "{text}");
    }

    #[test]
    fn failures_are_told() {
        let failures = vec![Failure { error: "no".into(), count: 3 }];
        let b = Case { failures, ..case("t", "", []) };
        let comparison = compare(&document(vec![case("t", "", 1000..1010)]), &document(vec![b]));
        let text = comparison.text();
        assert!(text.contains("once one t  1.00 µs  –       –              –  0 and 3"), "{text}");
        assert!(comparison.fails_above(1.0).is_empty(), "a neighbour may fail");
        let failures = vec![Failure { error: "no".into(), count: 1 }];
        let fails = Case { failures, ..case(OURS, "", 1000..1009) };
        let (fine, fails) = (document(vec![case(OURS, "", 1000..1010)]), document(vec![fails]));
        assert_eq!(compare(&fine, &fails).fails_above(9.0).len(), 1, "what failed never before");
        assert!(compare(&fails, &fails).fails_above(9.0).is_empty(), "what always did");
    }
}
