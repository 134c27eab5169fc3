//! Container engines as backends: Docker and Podman.
//!
//! A container's process 1 is the agent: this program's own file, mounted read-only, under another
//! name. It connects to a socket in a mounted folder, which is its link, and from then on the engine
//! is not needed until the place ends: commands, terminals, files and endings go over links, as they
//! do in every place.
//!
//! Here is what takes no word with an engine. What does is behind [`Driver`], so that a program
//! without an engine's client can use the places of one that has it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod agent;
mod attach;
mod bound;
mod greeting;
mod name;
mod place;
mod port;
mod product;
mod who;
mod yardsticks;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use agentkernel_core::{
    About, Access, Backend, BootError, Capabilities, Capability, Command, DestroyError, ImageFacts,
    Launch, Layer, Life, Owners, Place, Pristine, Probe, Process, Provision, Remains, Remnant,
    Spec, Stdio, Yardstick, undriven,
};
use agentkernel_protocol::{Role, Start, ToAgent};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{cgroup, identity, process as processes, signal, socket};

pub use agent::{
    AGENT, Ahead, BESIDE, BRING, BROUGHT, DONE, FAR, HELD, INSTALL, KEPT, NAMES, POOLED, RELAY,
    WELCOME, is_agent, name_lines, serve, serve_ahead, serve_stream,
};
pub use attach::{AttachError, Attacher, upper};
pub use bound::Bound;
pub use greeting::{
    About as AboutPlace, DOOR, FarAbout, LINK, MountPoint, Resident, Seen, Setting,
};
pub use name::{PREFIX, is_orphans, own_folder, own_name, sweep_folders};
pub use place::{
    ALWAYS, Enforced, LEFT_OUT, NO_LANDLOCK, look, owners, pids_of_ours, refuse_missing, refused,
    walls,
};
pub use port::{Obstacle, process_at, said};
pub use product::{DOCKER, PODMAN, Product};
pub use who::{identity as identity_of, process as process_of, refuse_unnamed};

/// What takes a word with an engine.
pub trait Driver: Sync {
    fn probe(&self, product: &'static Product) -> Probe;

    /// Sees to it that the spec's image is there; see [`Backend::provide`].
    fn provide(
        &self,
        product: &'static Product,
        spec: &Spec,
        provision: &Provision,
    ) -> Result<(), BootError>;

    /// Boots a place that lives as `life` says.
    fn boot(
        &self,
        product: &'static Product,
        spec: &Spec,
        life: Life,
    ) -> Result<Box<dyn Place>, BootError>;

    /// Keeps a copy of what is kept as `from`, if there is anything, as `to`.
    fn copy(&self, product: &'static Product, from: &str, to: &str) -> Result<(), BootError>;

    /// Kills what runs in the container of what is kept under this name.
    fn kill(&self, product: &'static Product, name: &str) -> Result<(), DestroyError>;

    /// Removes what is kept under this name, if there is anything.
    fn forget(&self, product: &'static Product, name: &str) -> Result<(), DestroyError>;

    /// Removes containers that killed makers have left.
    fn sweep(&self, product: &'static Product) -> Vec<PathBuf>;
}

/// Has the agent of a place that was just booted start its only command.
pub fn start_first(place: &dyn Place, process: Process, stdio: &Stdio) -> Result<(), BootError> {
    let (terminal, streams) = match stdio {
        Stdio::Terminal { rows, columns } => (Some((*rows, *columns)), Vec::new()),
        Stdio::Streams(streams) => (None, streams.iter().map(AsFd::as_fd).collect()),
    };
    let start = Box::new(Start { process, terminal, role: Role::Only });
    let order =
        ToAgent::Start { command: 0, start }.encode().map_err(|error| BootError::Refused {
            why: format!("the command is too long: {error}"),
            fix: "pass less on its command line and in its environment".into(),
        })?;
    socket::send(place.link(), &order, &streams).map_err(|source| BootError::Failed {
        what: "can't reach the sandbox's agent".into(),
        source,
    })
}

/// A backend for one product.
pub struct Containers {
    product: &'static Product,
    driver: Option<&'static dyn Driver>,
}

impl Containers {
    /// One that can only use what others have booted.
    pub const fn without_driver(product: &'static Product) -> Self {
        Self { product, driver: None }
    }

    pub const fn with_driver(product: &'static Product, driver: &'static dyn Driver) -> Self {
        Self { product, driver: Some(driver) }
    }

    fn driver(&self) -> Result<&'static dyn Driver, BootError> {
        self.driver.ok_or_else(|| {
            let (why, fix) = undriven(self.product.title);
            BootError::Unavailable { why, fix }
        })
    }
}

impl Backend for Containers {
    fn name(&self) -> &'static str {
        self.product.name
    }

    fn about(&self) -> About {
        self.product.about
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        self.product.yardsticks
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::Ports,
            Capability::RootReadOnly,
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
            Capability::Snapshots,
        ];
        Capabilities::new(ALL)
    }

    fn can_boot(&self) -> bool {
        self.driver.is_some()
    }

    fn probe(&self) -> Probe {
        match self.driver {
            Some(driver) => driver.probe(self.product),
            None => {
                let (why, fix) = undriven(self.product.title);
                Probe::Unavailable { why, fix }
            }
        }
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        self.driver()?.provide(self.product, spec, provision)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        let place = self.boot_live(spec, Life::default())?;
        let process = self.process(spec, first.command, &|| place.image())?;
        self.open_streams(&first.stdio)?;
        start_first(&*place, process, &first.stdio)?;
        Ok(place)
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        self.driver()?.boot(self.product, spec, life)
    }

    fn process(
        &self,
        spec: &Spec,
        command: &Command,
        image: &dyn Fn() -> ImageFacts,
    ) -> Result<Process, BootError> {
        process_of(spec, command, &image())
    }

    fn pool_part(&self, spec: &Spec) -> Option<Spec> {
        // Only one place at a time can have a port of the host's that is named.
        if spec.ports.iter().any(|port| port.outside.is_some()) {
            return None;
        }
        // To an ordinary user's nobody can add any, but where that user is shown as whom commands run.
        let can_add = self.product.keeps_users || identity::effective().0 == 0;
        if !spec.mounts.is_empty() && !can_add {
            return None;
        }
        Some(Spec { mounts: Vec::new(), ..spec.without_command() })
    }

    fn needs_attachments(&self, spec: &Spec) -> bool {
        !spec.mounts.is_empty()
    }

    fn attach(&self, spec: &Spec, place: &mut dyn Pristine) -> Result<(), BootError> {
        let user = identity_of(&spec.user, &place.image())?;
        Attacher::new(place.pid(), spec, (user.uid, user.gid), None)?.attach()
    }

    fn open_streams(&self, stdio: &Stdio) -> Result<(), BootError> {
        place::open_streams(stdio)
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        let Some(init) = &remnant.process else { return Ok(Remains::default()) };
        let oom_kills = self.oom_kills(&remnant.groups);
        // The engine, which has made it, clears the rest away. One of root's has to kill it, too.
        match (processes::signal_process(init.as_fd(), signal::SIGKILL), self.driver) {
            (Err(error), Some(driver)) if error.kind() == io::ErrorKind::PermissionDenied => {
                driver.kill(self.product, &remnant.name)?;
            }
            _ => {}
        }
        descriptor::poll(&mut [Interest::readable(init.as_fd())], None)
            .map_err(|source| DestroyError { what: "a container's process".into(), source })?;
        Ok(Remains { oom_kills, ..Remains::default() })
    }

    fn copy_kept(&self, from: &str, to: &str) -> Result<(), BootError> {
        self.driver()?.copy(self.product, from, to)
    }

    fn forget(&self, name: &str, _layers: Option<&Path>) -> Result<(), DestroyError> {
        match self.driver {
            Some(driver) => driver.forget(self.product, name),
            None => Ok(()),
        }
    }

    fn sweep(&self) -> Vec<PathBuf> {
        self.driver.map(|driver| driver.sweep(self.product)).unwrap_or_default()
    }

    fn oom_kills(&self, groups: &[PathBuf]) -> u64 {
        cgroup::oom_kills(groups.to_vec())
    }

    fn layers(&self, spec: &Spec, directory: &Path) -> Vec<Layer> {
        let covered: Vec<PathBuf> = spec.mounts.iter().map(|mount| mount.target.clone()).collect();
        let copies = spec.mounts.iter().enumerate();
        let copies = copies.filter(|(_, mount)| mount.access == Access::CopyOnWrite);
        copies
            .map(|(number, mount)| Layer {
                target: mount.target.clone(),
                lower: vec![mount.source.clone()],
                upper: directory.join(upper(number)),
                covered: covered.iter().filter(|path| **path != mount.target).cloned().collect(),
                made: covered.clone(),
            })
            .collect()
    }

    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError> {
        place::owners(spec, image, identity::effective())
    }
}
