//! What the small program hands on to the daemon's program, which has the benchmark.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A benchmark that somebody asks for, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum BenchRequest {
    Measure(BenchMeasure),
    /// Say what has changed from one result to another.
    Compare {
        before: PathBuf,
        after: PathBuf,
        /// Fail if something takes more than so many times as long.
        fail_above: Option<f64>,
    },
    /// Turn results into pages: a Markdown one on standard output if no file is named.
    Report {
        results: Vec<PathBuf>,
        markdown: Option<PathBuf>,
        html: Option<PathBuf>,
    },
}

/// What to measure, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchMeasure {
    /// The small program, which is what is measured.
    pub program: PathBuf,
    /// By name; every one that is ready if there are none.
    pub backends: Vec<String>,
    /// In less than a minute.
    pub quick: bool,
    /// Print the result instead of keeping it in a file.
    pub json: bool,
    /// How many of each, where the samples count.
    pub runs: Option<u64>,
    /// The most sandboxes at once.
    pub most: Option<u64>,
    /// The directory for the result.
    pub results: PathBuf,
}

impl BenchRequest {
    /// Fails for a path that JSON can't hold, since it is not UTF-8.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}
