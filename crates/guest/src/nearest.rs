//! Limits where no control group can be had.

use std::io;

use agentkernel_sys::cgroup::{Controller, Limit};
use agentkernel_sys::rlimit::{self, Resource};
use serde::{Deserialize, Serialize};

/// A wall that is weaker than a group's limit: it holds each process by itself, or roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nearest {
    /// So many bytes of private memory. Open files take the kernel's, which nothing accounts for
    /// then, so they are fewer.
    Memory(u64),
    /// So many processes and threads of the sandbox's user.
    Processes(u64),
    /// The first so many processors.
    Processors(u32),
}

impl Nearest {
    pub fn of(limit: Limit) -> Self {
        match limit.controller {
            Controller::Memory => Self::Memory(limit.value),
            Controller::Pids => Self::Processes(limit.value),
            Controller::Cpu => {
                Self::Processors(u32::try_from(limit.value.div_ceil(1000)).unwrap_or(u32::MAX))
            }
        }
    }

    /// By what means it holds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory(_) | Self::Processes(_) => "rlimit",
            Self::Processors(_) => "affinity",
        }
    }

    /// Puts the calling process under it. Child-safe.
    pub fn apply(&self) -> io::Result<()> {
        const FEW_FILES: u64 = 4096;
        match *self {
            Self::Memory(bytes) => {
                rlimit::limit(Resource::Data, bytes, bytes)?;
                rlimit::limit(Resource::Descriptors, FEW_FILES, FEW_FILES)
            }
            Self::Processes(count) => rlimit::limit(Resource::Processes, count, count),
            Self::Processors(count) => rlimit::use_processors(count),
        }
    }
}
