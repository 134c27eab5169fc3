//! Linux namespaces as a backend: sandboxes on a bare machine, for root and ordinary users alike,
//! with nothing installed.
//!
//! A boot is planned first and carried out then: [`plan`] turns a spec into everything that must
//! be allocated, looked up or refused, and [`inside`] and [`outside`] are the two sides of the
//! process split, which only execute it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod apart;
mod doors;
mod explain;
mod group;
mod identity;
mod inside;
mod layers;
mod limits;
mod merged;
mod outside;
mod plan;
mod pool;
mod probe;
mod remnant;
mod root;
mod stored;
mod sweep;
mod users;
mod yardsticks;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agentkernel_core::{
    About, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError, Image,
    ImageFacts, Launch, Layer, Life, Module, Owners, Pinned, Place, Pristine, Probe, Process,
    Provision, Remains, Remnant, Spec, Stdio, Yardstick,
};
use agentkernel_guest::Runner;
use agentkernel_images::Porter;

use outside::Given;
use plan::Plan;
use users::Users;

/// A backend whose places are made of namespaces.
pub struct Native {
    kind: &'static Kind,
    modules: Option<&'static dyn Modules>,
    porter: Option<&'static dyn Porter>,
}

/// What it is to its users.
pub struct Kind {
    pub name: &'static str,
    pub about: About,
    pub yardsticks: &'static [Yardstick],
    pub capabilities: Capabilities,
}

/// Where the code of modules comes from, and who runs it, where commands are modules.
pub trait Modules: Sync {
    /// None in a program that can't run any.
    fn runner(&self) -> Option<&'static dyn Runner>;

    /// The code of the module in the file `module`.
    fn code(&self, module: &Path) -> Result<OwnedFd, BootError>;

    /// Whether modules can be run on this machine, found out by running one, with what is to be
    /// [noted](Probe::Ready) of that.
    fn probe(&self) -> Result<Vec<String>, BootError> {
        Ok(Vec::new())
    }
}

/// What an image is built for that is a module, where it could be one of several.
const MODULES_PLATFORM: &str = "wasi/wasm";

/// The backend for programs, for a registry. It starts those images that are there.
pub static NATIVE: Native = Native { kind: &PROGRAMS, modules: None, porter: None };

static PROGRAMS: Kind = Kind {
    name: "native",
    about: About {
        class: Class::Process,
        isolation: "Linux namespaces, seccomp, Landlock and control groups; one kernel",
        choose: "The least time and memory, with nothing to install: for commands of agents \
                 whose way out would have to be a hole in the kernel.",
    },
    yardsticks: yardsticks::YARDSTICKS,
    capabilities: Capabilities::new(&[
        Capability::NetworkNone,
        Capability::NetworkFull,
        Capability::HostLoopback,
        Capability::RootReadOnly,
        Capability::ImageHost,
        Capability::ImageRootfs,
        Capability::ImageReference,
        Capability::ImageBuild,
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
    ]),
};

impl Native {
    /// A backend whose commands are modules, in a program that may be able to bring them in.
    pub const fn for_modules(
        kind: &'static Kind,
        modules: &'static dyn Modules,
        porter: Option<&'static dyn Porter>,
    ) -> Self {
        Self { kind, modules: Some(modules), porter }
    }

    /// The backend for programs, in a program that can bring images in.
    pub const fn with_porter(porter: &'static dyn Porter) -> Self {
        Self { kind: &PROGRAMS, modules: None, porter: Some(porter) }
    }

    /// Who runs the commands of such places, if they are modules. It is ready by then.
    fn runner(&self, spec: &Spec) -> Result<Option<&'static dyn Runner>, BootError> {
        let Some(modules) = self.modules else { return Ok(None) };
        let runner = modules.runner().ok_or_else(|| BootError::Unavailable {
            why: format!("the {} backend is driven by agentkerneld", self.kind.name),
            fix: "install agentkerneld beside agentkernel".into(),
        })?;
        runner.prepare(plan::memory(spec))?;
        Ok(Some(runner))
    }
}

impl Backend for Native {
    fn name(&self) -> &'static str {
        self.kind.name
    }

    fn about(&self) -> About {
        self.kind.about
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        self.kind.yardsticks
    }

    fn capabilities(&self) -> Capabilities {
        self.kind.capabilities
    }

    fn can_boot(&self) -> bool {
        self.modules.is_none_or(|modules| modules.runner().is_some())
    }

    fn can_provide(&self) -> bool {
        self.porter.is_some()
    }

    fn probe(&self) -> Probe {
        probe::probe(self)
    }

    fn pin(&self, spec: &mut Spec) -> Result<Pinned, BootError> {
        agentkernel_images::pin(spec, self.modules.is_some())
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        let platform = self.modules.map(|_| MODULES_PLATFORM);
        agentkernel_images::provide(spec, platform, provision, self.porter)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        let plan = Plan::for_command(spec, first, self.runner(spec)?)?;
        Ok(Box::new(outside::boot(plan, Given::default())?))
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        let plan = Plan::for_life(spec, &life, self.runner(spec)?)?;
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
        let users = Users::find(spec)?;
        let process = plan::process(spec, command, &users)?;
        layers::check_user(spec, &users, &process)?;
        Ok(process)
    }

    fn code(&self, spec: &Spec) -> Result<Option<OwnedFd>, BootError> {
        match (self.modules, &spec.image) {
            (Some(modules), Image::Module(Module::File(file))) => modules.code(file).map(Some),
            (Some(modules), Image::Module(Module::Named(_))) => {
                let image = agentkernel_images::open_for(spec)?;
                image
                    .as_ref()
                    .and_then(|image| image.module())
                    .map(|file| modules.code(file))
                    .transpose()
            }
            _ => Ok(None),
        }
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

    fn forget(&self, _name: &str, _layers: Option<&Path>) -> Result<(), DestroyError> {
        Ok(())
    }

    fn sweep(&self) -> Vec<PathBuf> {
        // What places have left says not of which kind they were.
        if self.modules.is_none() { sweep::sweep() } else { Vec::new() }
    }

    fn oom_kills(&self, groups: &[PathBuf]) -> u64 {
        agentkernel_sys::cgroup::oom_kills(groups.to_vec())
    }

    fn layers(&self, spec: &Spec, directory: &Path) -> Vec<Layer> {
        layers::of(spec, directory)
    }

    fn merge(&self, lower: &[PathBuf]) -> Result<OwnedFd, BootError> {
        merged::merge(lower)
    }

    fn owners(&self, spec: &Spec, _image: &ImageFacts) -> Result<Owners, BootError> {
        layers::owners(spec)
    }
}
