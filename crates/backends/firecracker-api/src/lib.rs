//! Firecracker's micro-VMs as a backend: what takes a word with Firecracker.
//!
//! - [`parts`]: what has to be on this machine.
//! - [`initrd`], [`disks`]: what machines boot from.
//! - [`plan`]: what one is made of; [`arguments`]: and its kernel's arguments.
//! - [`api`]: a word with one Firecracker; [`vmm`]: its process, in a [`jail`]; [`console`]: what it says.
//! - [`golden`]: machines that others are copies of, so that none of these has to boot.
//! - [`bridge`]: the process that has a machine.
//! - [`boot`]: a place, from all of these.
//! - [`probe`]: whether it can be had here.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod api;
mod arguments;
mod boot;
mod bridge;
mod console;
mod disks;
mod error;
mod golden;
mod initrd;
mod jail;
mod parts;
mod plan;
mod probe;
#[cfg(test)]
mod scene;
mod stamp;
mod vmm;

use std::path::PathBuf;

use agentkernel_core::{BootError, Life, Place, Probe, Provision, Spec};
use agentkernel_firecracker::{Driver, Origin};
use agentkernel_images::Porter;

pub use parts::{Check, VARIABLES, checks, folder};

/// Firecracker, driven by this program.
pub struct Firecracker {
    porter: &'static dyn Porter,
}

impl Firecracker {
    /// With images that `porter` brings in.
    pub const fn new(porter: &'static dyn Porter) -> Self {
        Self { porter }
    }
}

impl Driver for Firecracker {
    fn probe(&self) -> Probe {
        probe::probe()
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        agentkernel_images::provide(spec, None, provision, Some(self.porter))
    }

    fn boot(&self, spec: &Spec, life: Life, origin: Origin) -> Result<Box<dyn Place>, BootError> {
        boot::boot(spec, life, origin)
    }

    fn sweep(&self) -> Vec<PathBuf> {
        let golden = parts::folder().map(|folder| golden::sweep(&folder)).unwrap_or_default();
        [agentkernel_containers::sweep_folders(), golden].concat()
    }
}
