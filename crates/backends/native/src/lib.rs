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
mod layers;
mod limits;
mod outside;
mod plan;
mod pool;
mod probe;
mod remnant;
mod root;
mod sweep;
mod yardsticks;

use std::path::{Path, PathBuf};

use agentkernel_core::{
    About, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError, ImageFacts,
    Launch, Layer, Life, Owners, Place, Pristine, Probe, Process, Remains, Remnant, Spec, Stdio,
    Yardstick,
};

use outside::Given;
use plan::Plan;

/// The backend.
pub struct Native;

/// The backend, for a registry.
pub static NATIVE: Native = Native;

impl Backend for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn about(&self) -> About {
        About {
            class: Class::Process,
            isolation: "Linux namespaces, seccomp, Landlock and control groups; one kernel",
            choose: "The least time and memory, with nothing to install: for commands of agents \
                     whose way out would have to be a hole in the kernel.",
        }
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        yardsticks::YARDSTICKS
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::HostLoopback,
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
            Capability::Live,
            Capability::Changes,
            Capability::RootChanges,
            Capability::Snapshots,
        ];
        Capabilities::new(ALL)
    }

    fn probe(&self) -> Probe {
        probe::probe(self)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        let plan = Plan::for_command(spec, first)?;
        Ok(Box::new(outside::boot(plan, Given::default())?))
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        let plan = Plan::for_life(spec, &life)?;
        if let Some(layers) = &life.layers {
            layers::give(layers, &plan)?;
        }
        let Life { listener, fate, .. } = life;
        Ok(Box::new(outside::boot(plan, Given { listener, fate })?))
    }

    fn check_kept(&self, spec: &Spec) -> Result<(), BootError> {
        limits::refuse_disk(&spec.limits)
    }

    fn process(
        &self,
        spec: &Spec,
        command: &Command,
        _image: &dyn Fn() -> ImageFacts,
    ) -> Result<Process, BootError> {
        let process = plan::process(spec, command)?;
        layers::check_user(spec, &process)?;
        Ok(process)
    }

    fn pool_part(&self, spec: &Spec) -> Option<Spec> {
        Some(pool::part(spec))
    }

    fn needs_attachments(&self, spec: &Spec) -> bool {
        pool::lacks(spec)
    }

    fn attach(&self, spec: &Spec, place: &mut dyn Pristine) -> Result<(), BootError> {
        pool::attach(spec, place)
    }

    fn open_streams(&self, stdio: &Stdio) -> Result<(), BootError> {
        plan::open_streams(stdio, identity::Mapping::for_caller())
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        remnant::clear(remnant)
    }

    fn copy_kept(&self, _from: &str, _to: &str) -> Result<(), BootError> {
        Ok(())
    }

    fn forget(&self, _name: &str) -> Result<(), DestroyError> {
        Ok(())
    }

    fn sweep(&self) -> Vec<PathBuf> {
        sweep::sweep()
    }

    fn oom_kills(&self, groups: &[PathBuf]) -> u64 {
        agentkernel_sys::cgroup::oom_kills(groups.to_vec())
    }

    fn layers(&self, spec: &Spec, directory: &Path) -> Vec<Layer> {
        layers::of(spec, directory)
    }

    fn owners(&self, spec: &Spec, _image: &ImageFacts) -> Result<Owners, BootError> {
        layers::owners(spec)
    }
}
