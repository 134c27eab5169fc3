//! What charts show, before it is drawn.

use super::evidence::{Evidence, Found};
use super::figures::per_second;
use super::phases::PhaseTimes;
use crate::result::Section;
use crate::stats::{self, Spread};

pub struct Chart {
    pub title: &'static str,
    pub caption: &'static str,
    pub picture: Picture,
}

pub enum Picture {
    Whiskers(Vec<Whisker>),
    /// Times that add up, as shares of their sum.
    Stacked(Bars),
    /// Sizes beside each other.
    Beside(Bars),
    Lines(Vec<Line>),
}

/// A row of a chart of latencies, in nanoseconds.
pub struct Whisker {
    pub label: String,
    pub kind: Kind,
    pub min: f64,
    pub median: f64,
    pub p95: f64,
}

/// Who took the time, which has a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bare,
    Ours,
    Beside,
}

pub struct Bars {
    /// What the parts of each bar are.
    pub parts: Vec<&'static str>,
    pub rows: Vec<(String, Vec<f64>)>,
}

pub struct Line {
    pub label: String,
    /// How many at once, and how many a second.
    pub points: Vec<(u64, f64)>,
}

impl Chart {
    /// Latencies; none if nothing was measured.
    pub fn latency(evidence: &Evidence<'_>) -> Option<Self> {
        let rows: Vec<_> = evidence.all(Section::Once).filter_map(whisker).collect();
        (!rows.is_empty()).then_some(Self {
            title: "Latency of one command",
            caption: "From the start of the process to its end, on a logarithmic scale: the thin \
                      line goes from the fastest run to the 95th percentile, the mark is the \
                      median.",
            picture: Picture::Whiskers(rows),
        })
    }

    pub fn phases(rows: &[(Found<'_>, PhaseTimes)]) -> Option<Self> {
        let bars = rows.iter().map(|(found, times)| (found.name(), times.parts.to_vec()));
        (!rows.is_empty()).then(|| Self {
            title: "Where the time of a run goes",
            caption: "The shares of a whole run, whose time stands beside its name: means of the \
                      middle half of the runs.",
            picture: Picture::Stacked(Bars {
                parts: PhaseTimes::NAMES.to_vec(),
                rows: bars.collect(),
            }),
        })
    }

    pub fn throughput(evidence: &Evidence<'_>) -> Option<Self> {
        let mut lines: Vec<Line> = Vec::new();
        // Cases come in the order of their name and then of how many there were at once.
        for found in evidence.all(Section::Scale) {
            let Some(rate) = per_second(found.case) else { continue };
            let (label, point) = (found.name(), (found.case.at_once, rate));
            match lines.iter_mut().find(|line| line.label == label) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { label, points: vec![point] }),
            }
        }
        (!lines.is_empty()).then_some(Self {
            title: "Throughput against concurrency",
            caption: "Runs a second that succeeded, by how many were started at once.",
            picture: Picture::Lines(lines),
        })
    }

    pub fn memory(evidence: &Evidence<'_>) -> Option<Self> {
        let rows: Vec<_> = evidence
            .all(Section::Memory)
            .filter_map(|found| {
                let sizes = [found.value("pss-bytes"), found.value("available-bytes")];
                sizes
                    .iter()
                    .any(Option::is_some)
                    .then(|| (found.name(), sizes.map(|size| size.unwrap_or(0.0)).to_vec()))
            })
            .collect();
        (!rows.is_empty()).then_some(Self {
            title: "Memory of a sandbox that waits",
            caption: "Each of one sandbox: what its processes hold, shared pages shared out, and \
                      by how much the machine's available memory shrank.",
            picture: Picture::Beside(Bars { parts: vec!["processes", "machine"], rows }),
        })
    }
}

fn whisker(found: Found<'_>) -> Option<Whisker> {
    let spread = stats::spread(&found.case.samples("total"))?;
    let kind = match (found.is_bare(), found.is_ours()) {
        (true, _) => Kind::Bare,
        (_, true) => Kind::Ours,
        _ => Kind::Beside,
    };
    let Spread { min, p50: median, p95, .. } = spread;
    Some(Whisker { label: found.name(), kind, min, median, p95 })
}
