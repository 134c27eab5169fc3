//! What the command line says, before anything is made of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use agentkernel_engine::Terminal;
use agentkernel_store::Name;
use agentkernel_store::audit::Kind;
use agentkernel_wire::{Filter, Signal, SpecRequest};

/// The flags as they were given. Where one was repeated, the last is what counts.
#[derive(Debug, Default)]
pub(crate) struct LowArgs {
    pub spec: SpecRequest,
    /// Read before `spec.env`, which goes over them.
    pub env_files: Vec<PathBuf>,
    pub terminal: Option<Terminal>,
    pub no_stdin: bool,
    pub no_config: bool,
    pub trust: bool,
    pub report: Option<PathBuf>,
    pub json: bool,
    pub verbose: bool,
    pub no_pool: bool,
    /// What of a module is to be called.
    pub function: Option<String>,
    pub entrypoint: Option<OsString>,
    /// How long a sandbox may wait in a pool.
    pub max_age: Option<Duration>,
    /// It is about pools that the engine keeps for all of its clients.
    pub shared: bool,
    pub background: bool,
    pub labels: BTreeMap<String, String>,
    pub ttl: Option<Duration>,
    pub idle: Option<Duration>,
    pub name: Option<Name>,
    /// Start it as well.
    pub start: bool,
    /// Leave it to run in the background.
    pub detach: bool,
    /// How long to wait before everything is killed.
    pub grace: Option<Duration>,
    pub signal: Option<Signal>,
    pub force: bool,
    pub platform: Option<String>,
    /// The kernel for micro-VMs.
    pub kernel: Option<PathBuf>,
    /// The snapshot to begin with.
    pub from: Option<Name>,
    /// Keep the sandbox of a run.
    pub keep: bool,
    /// How many.
    pub count: Option<u32>,
    pub patch: bool,
    pub output: Option<PathBuf>,
    pub follow_links: bool,
    pub all: bool,
    pub quiet: bool,
    /// All of them must fit.
    pub filters: Vec<Filter>,
    pub follow: bool,
    pub since: Option<SystemTime>,
    pub kinds: Vec<Kind>,
    /// The sandbox that entries are about.
    pub sandbox: Option<String>,
    pub bench: LowBench,
    /// The command and its arguments, or a verb's own words.
    pub words: Vec<OsString>,
}

/// The benchmark's flags.
#[derive(Debug, Default)]
pub(crate) struct LowBench {
    pub quick: bool,
    pub runs: Option<u64>,
    pub most: Option<u64>,
    pub results: Option<PathBuf>,
    pub fail_above: Option<f64>,
    pub markdown: Option<PathBuf>,
    pub html: Option<PathBuf>,
}
