//! Pods of a Kubernetes cluster as a backend: what takes a word with the cluster.
//!
//! - [`settings`]: which cluster it is, and how pods are to be there.
//! - [`client`]: a connection to it, and what its errors mean.
//! - [`pod`]: from a spec to a pod; [`names`]: what it is called.
//! - [`pending`]: whether a pod will ever run; [`arrival`]: waits for that.
//! - [`order`], [`bridge`]: the process that has a pod; [`pump`]: its stream, taken up when it is cut.
//! - [`boot`]: a place, from all of these.
//! - [`shared`]: pools that the cluster keeps for all of its clients; [`claim`]: a pod out of one;
//!   [`sandboxes`]: both by the resources of kubernetes-sigs/agent-sandbox.
//! - [`adopt`]: pods of sandboxes that live, found from elsewhere, and whose they are.
//! - [`probe`]: whether it can be had.
//! - [`sweep`]: what vanished makers have left.
//! - [`yardsticks`]: what it is measured by.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod adopt;
mod arrival;
mod boot;
mod bridge;
mod claim;
mod client;
mod names;
mod order;
mod pending;
mod pod;
mod probe;
mod pump;
mod sandboxes;
mod settings;
mod shared;
mod sweep;
mod way;
mod yardsticks;

use std::path::{Path, PathBuf};

use agentkernel_core::{
    Adopt, BootError, DestroyError, Elsewhere, Life, Place, Probe, Provision, Shared, SharedPool,
    Spec, Yardstick,
};
use agentkernel_kubernetes::{Driver, Kubernetes};

pub use bridge::bridge;
pub use settings::{OWN_VARIABLES, VARIABLES};

/// The backend, for a registry.
pub static KUBERNETES_BACKEND: Kubernetes = Kubernetes::with_driver(&Api);

/// The driver.
struct Api;

impl Driver for Api {
    fn yardsticks(&self) -> &'static [Yardstick] {
        yardsticks::YARDSTICKS
    }

    fn probe(&self) -> Probe {
        probe::probe()
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        boot::provide(spec, provision)
    }

    fn boot(&self, spec: &Spec, life: Life, pooled: bool) -> Result<Box<dyn Place>, BootError> {
        boot::boot(spec, &life, pooled)
    }

    fn forget(&self, name: &str, layers: Option<&Path>) -> Result<(), DestroyError> {
        adopt::forget(name, layers)
    }

    fn adopt(&self, order: Adopt<'_>) -> Result<Vec<Elsewhere>, BootError> {
        adopt::adopt(order)
    }

    fn share(&self, order: Shared<'_>) -> Result<Vec<SharedPool>, BootError> {
        shared::share(order)
    }

    fn sweep(&self) -> Vec<PathBuf> {
        sweep::sweep().unwrap_or_default()
    }
}
