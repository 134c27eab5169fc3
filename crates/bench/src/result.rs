//! The form of a result, as it is stored in `benchmark-results/`. Documented in
//! `docs/benchmarks-method.md`.
//!
//! All times are in nanoseconds, all sizes in bytes.

use std::collections::BTreeMap;

use agentkernel_core::Backend;
use serde::{Deserialize, Serialize};

use crate::{COMMAND, OUTPUT};

/// The version of this form. It grows when a field changes its meaning or goes away, not when one
/// is added.
pub const SCHEMA: u32 = 1;

/// The tool of a case that is agentkernel's own.
pub const OURS: &str = "agentkernel";

/// The backend of a case that is the same for all of them.
pub const ALL: &str = "all";

/// The routes: of a sandbox that is booted for the command, of one out of a pool, and of one that
/// lives.
pub const COLD: &str = "cold";
pub const POOL: &str = "pool";
pub const LIVE: &str = "live";

/// One run of the benchmark: where, what, and every sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub schema: u32,
    /// What made it: `bench`, `benchmark` or `stress`.
    pub kind: String,
    /// When it began, as RFC 3339 has it, in UTC.
    pub date: String,
    /// Whether it was interrupted, so that something may be missing.
    pub interrupted: bool,
    pub settings: Settings,
    pub machine: Machine,
    pub backends: Vec<BackendFacts>,
    pub tools: Vec<ToolFacts>,
    pub cases: Vec<Case>,
}

/// How it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub quick: bool,
    /// The command that is run, and all of its output, which was checked each time.
    pub command: Vec<String>,
    pub output: String,
    /// Runs that come before the samples, of each kind and uncounted.
    pub warm_up: u64,
}

/// What a figure depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: u64,
    pub memory_bytes: u64,
    /// The hypervisor's vendor if the processor tells of one, else empty.
    pub hypervisor: String,
    pub architecture: String,
    pub system: String,
    pub kernel: String,
    /// `v1`, `v2`, `hybrid`, or `none`.
    pub cgroup: String,
    pub uid: u32,
    /// Of agentkernel, and of the source that it was built from, if it was run in a checkout.
    pub version: String,
    pub commit: Option<String>,
    /// Whether the checkout had changes that were not committed.
    pub changed: Option<bool>,
    /// Over 1, 5 and 15 minutes.
    pub load_before: [f64; 3],
    pub load_after: [f64; 3],
}

/// A backend of this build, ready or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendFacts {
    pub name: String,
    /// [`agentkernel_core::Class::name`].
    pub class: String,
    pub isolation: String,
    pub choose: String,
    /// The image of its sandboxes, if it takes one.
    #[serde(default)]
    pub image: Option<String>,
    /// What it [notes](Probe::Ready) of this machine, as sentences without their full stop.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Why it was not measured, if it was not.
    pub unmeasured: Option<String>,
}

/// A tool beside which it was measured, or would have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolFacts {
    /// The program's name, or what one way of using it is called.
    pub name: String,
    /// The backend whose figures it is compared with.
    pub backend: String,
    pub version: String,
    pub unmeasured: Option<String>,
}

/// What was measured in one way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub section: Section,
    /// The backend, or the one beside which a tool was measured; `process` for the bare process,
    /// whose group names the backend.
    pub backend: String,
    /// `agentkernel`, or the name of the tool that did the same.
    pub tool: String,
    /// By which way a command came to its sandbox: `cold`, `pool`, `live`; or empty.
    pub route: String,
    /// In which group it was measured in turn with others: cases of the same section and group are
    /// paired, their samples of the same index belong to the same round. Empty if it had the machine
    /// to itself.
    pub group: String,
    /// How many went on at the same time.
    pub at_once: u64,
    pub attempts: u64,
    /// From the first start to the last end, where several went on at once.
    pub wall_ns: u64,
    /// Samples by what was measured, in the order of the attempts; none for one that failed.
    pub series: BTreeMap<String, Vec<Option<u64>>>,
    /// Figures that are not samples, by name.
    pub values: BTreeMap<String, f64>,
    pub failures: Vec<Failure>,
}

/// The parts of a benchmark.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// A command in a sandbox of its own, as a whole process. Series: `first-output`, `total`.
    #[default]
    Once,
    /// Where its time goes. Series: `process` (all outside of the run itself), `boot`, `ready`,
    /// `exec`, `shutdown`, and `total`, their sum.
    Phases,
    /// A sandbox that lives, each step a whole process. Series: `create`, `start`, `exec`, `stop`,
    /// `remove`, and `total`, their sum. Values: `execs`, how many commands ran in each, so that
    /// many samples of `exec` in a row are of one sandbox. A step that a tool lacks has no series.
    Lifecycle,
    /// Commands in one sandbox that lives, one after the other, each a whole process. Series:
    /// `first-output`, `total`.
    Exec,
    /// A number of requests, so many at a time. Series: `first-output`, `total`.
    Requests,
    /// As many at once as there are. Series: `first-output`, `total`.
    Scale,
    /// Requests without a pause for longer than the pool lasts. Series: `first-output`, `total`.
    /// Values: `from-pool`.
    Sustained,
    /// What a sandbox costs that waits. Values: `sandboxes`, `pss-bytes`, `available-bytes` and
    /// `processes`, each of one.
    Memory,
    /// A lease taken out of a pool in process: the hand-out alone, nothing of a run. Series:
    /// `acquire`. Values: `clock` (what reading the clock costs, which is in the samples).
    HandOut,
    /// How long a pool takes to make one sandbox ready. Values: `refill`.
    Refill,
    /// The lives of many sandboxes at once. Series and values as in `lifecycle`.
    Stress,
}

/// What went wrong, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    pub count: u64,
}

impl BackendFacts {
    /// What a backend says of itself, and why it was not measured, if it was not.
    pub fn of(backend: &dyn Backend, unmeasured: Option<String>) -> Self {
        let about = backend.about();
        Self {
            name: backend.name().to_owned(),
            class: about.class.name().to_owned(),
            isolation: about.isolation.to_owned(),
            choose: about.choose.to_owned(),
            image: None,
            notes: Vec::new(),
            unmeasured,
        }
    }
}

impl Settings {
    /// Of what this build runs.
    pub fn new(quick: bool, warm_up: u64) -> Self {
        let command = COMMAND.iter().map(|word| (*word).to_owned()).collect();
        Self { quick, command, output: OUTPUT.to_owned(), warm_up }
    }
}

impl Case {
    /// One of agentkernel's, with nothing in it.
    pub fn ours(section: Section, backend: &str, route: &str) -> Self {
        Self {
            section,
            backend: backend.to_owned(),
            tool: OURS.to_owned(),
            route: route.to_owned(),
            at_once: 1,
            ..Self::default()
        }
    }

    /// The samples of a series that are there.
    pub fn samples(&self, series: &str) -> Vec<u64> {
        self.series.get(series).into_iter().flatten().copied().flatten().collect()
    }

    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|failure| failure.count).sum()
    }
}
