//! Nomad's allocations as a backend: what takes a word with Nomad's API.
//!
//! - [`settings`]: where the cluster is, and who the caller is to it.
//! - [`connection`], [`tls`]: a connection to it.
//! - [`client`]: a word with it; [`words`]: what it answers; [`error`]: what its refusals mean.
//! - [`nodes`]: what a job has to know of nodes.
//! - [`job`]: from a spec to a job.
//! - [`watch`]: from a job to an allocation that runs; [`explain`]: why there is none.
//! - [`exec`]: one exec that is held open; [`held`]: those of an allocation.
//! - [`bridge`]: the process that has an allocation; [`pump`]: its stream, taken up when it is cut.
//! - [`boot`]: a place, from all of these.
//! - [`probe`]: whether it can be had.
//! - [`owner`], [`sweep`]: whose a job is, and what killed makers have left.
//! - [`yardsticks`]: what it is measured by.
//!
//! The few requests that are made are this room's own: of the clients that are published none has the
//! exec, without which nothing here would do. What Nomad does with them is in `FACTS.md`.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod boot;
mod bridge;
mod client;
mod connection;
mod error;
mod exec;
mod explain;
mod held;
mod job;
mod nodes;
mod owner;
mod probe;
mod pump;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;
mod tls;
mod watch;
mod words;
mod yardsticks;

use std::path::PathBuf;

use agentkernel_core::{BootError, DestroyError, Life, Place, Probe, Spec, Yardstick};
use agentkernel_nomad::{Driver, Nomad};

pub use bridge::serve as bridge;
pub use settings::VARIABLES;

/// The backend, for a registry.
pub static NOMAD_BACKEND: Nomad = Nomad::with_driver(&Api);

/// The driver.
struct Api;

impl Driver for Api {
    fn yardsticks(&self) -> &'static [Yardstick] {
        yardsticks::YARDSTICKS
    }

    fn probe(&self) -> Probe {
        probe::probe()
    }

    fn boot(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        boot::boot(spec, life)
    }

    fn forget(&self, name: &str) -> Result<(), DestroyError> {
        boot::forget(name)
    }

    fn sweep(&self) -> Vec<PathBuf> {
        sweep::sweep()
    }
}
