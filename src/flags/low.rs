//! What the command line says, before anything is made of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use agentkernel_engine::Terminal;
use agentkernel_wire::SpecRequest;

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
    /// How long a sandbox may wait in a pool.
    pub max_age: Option<Duration>,
    pub background: bool,
    /// The command and its arguments, or a verb's own words.
    pub words: Vec<OsString>,
}
