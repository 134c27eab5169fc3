//! Linux namespaces as a backend: sandboxes on a bare machine, for root and ordinary users alike,
//! with nothing installed.
//!
//! A boot is planned first and carried out then: [`plan`] turns a spec into everything that must
//! be allocated, looked up or refused, and [`inside`] and [`outside`] are the two sides of the
//! process split, which only execute it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod doors;
mod explain;
mod group;
mod identity;
mod inside;
mod limits;
mod outside;
mod plan;
mod probe;
mod root;

use agentkernel_core::{Backend, BootError, Capabilities, Capability, Launch, Place, Probe, Spec};

/// The backend.
pub struct Native;

/// The backend, for a registry.
pub static NATIVE: Native = Native;

impl Backend for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::RootReadOnly,
            Capability::ImageHost,
            Capability::ImageRootfs,
            Capability::MountReadOnly,
            Capability::MountReadWrite,
            Capability::MountCopyOnWrite,
            Capability::LimitCpus,
            Capability::LimitMemory,
            Capability::LimitPids,
            Capability::LimitDisk,
            Capability::Terminal,
            Capability::User,
        ];
        Capabilities::new(ALL)
    }

    fn probe(&self) -> Probe {
        probe::probe(self)
    }

    fn boot(&self, spec: &Spec, first: Option<Launch<'_>>) -> Result<Box<dyn Place>, BootError> {
        let plan = plan::Plan::new(spec, first)?;
        Ok(Box::new(outside::boot(plan)?))
    }
}
