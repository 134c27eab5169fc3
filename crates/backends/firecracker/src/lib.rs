//! Firecracker's micro-VMs as a backend.
//!
//! Each sandbox is a virtual machine with a kernel of its own. Its process 1 is this program's own
//! file, in the machine's initial root; the image is disks that no machine writes to, and what is
//! written goes to the machine's memory, or to a disk of its own if it is kept. Into a machine leads
//! one stream, a vsock connection, so a machine is a [far](agentkernel_far) place.
//!
//! Here is what takes no word with Firecracker: what the backend is, the words that pass between a
//! machine and its host, and the inside of a [`machine`]. What does is behind [`Driver`], so that a
//! program without it can use the places of one that has it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod machine;
pub mod words;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_containers::{identity_of, owners, process_of, start_first};
use agentkernel_core::{
    About, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError, ImageFacts,
    Launch, Layer, Life, Owners, Pinned, Place, Probe, Process, Provision, Remains, Remnant, Spec,
    Yardstick, undriven,
};

/// What takes a word with Firecracker.
pub trait Driver: Sync {
    fn probe(&self) -> Probe;

    /// See [`Backend::provide`].
    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError>;

    /// Has a place that lives as `life` says.
    fn boot(&self, spec: &Spec, life: Life, origin: Origin) -> Result<Box<dyn Place>, BootError>;

    /// Removes what killed makers have left.
    fn sweep(&self) -> Vec<PathBuf>;
}

/// Where a machine comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It boots.
    Boot,
    /// It is a copy of one that was booted and saved before, if there is one.
    Saved,
    /// The same, and if there is none, one is booted for all of the kind.
    Shared,
}

/// The backend.
pub struct Firecracker {
    driver: Option<&'static dyn Driver>,
}

/// One that can only use what others have booted.
pub static FIRECRACKER: Firecracker = Firecracker { driver: None };

impl Firecracker {
    pub const fn with_driver(driver: &'static dyn Driver) -> Self {
        Self { driver: Some(driver) }
    }

    fn driver(&self) -> Result<&'static dyn Driver, BootError> {
        self.driver.ok_or_else(|| {
            let (why, fix) = undriven("Firecracker");
            BootError::Unavailable { why, fix }
        })
    }
}

/// The folder in that of a sandbox's layers that has its disk.
pub const KEPT: &str = "disk";

/// The directory on the disk that has what was written to the root.
pub const UPPER: &str = "upper";

/// The same for the copy of a folder of the host's, by its number among the spec's mounts.
pub fn upper_of(number: usize) -> String {
    format!("{UPPER}-{number}")
}

/// What is not the image's, and where nothing is kept.
const COVERED: [&str; 5] = ["/dev", "/etc/hostname", "/proc", "/run", "/sys"];

/// How long a machine may take to end.
const END: Duration = Duration::from_secs(10);

impl Backend for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn about(&self) -> About {
        About {
            class: Class::Vm,
            isolation: "a virtual machine for each sandbox, with a Linux kernel of its own, by \
                        Firecracker and KVM",
            choose: "For whole Linux programs where a shared kernel is not wall enough: images as \
                     with containers, and a hole in the guest's kernel leads only into a machine \
                     that is thrown away.",
        }
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        &[]
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::RootReadOnly,
            Capability::ImageReference,
            Capability::ImageBuild,
            Capability::MountReadOnly,
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

    fn can_boot(&self) -> bool {
        self.driver.is_some()
    }

    fn probe(&self) -> Probe {
        match self.driver {
            Some(driver) => driver.probe(),
            None => {
                let (why, fix) = undriven("Firecracker");
                Probe::Unavailable { why, fix }
            }
        }
    }

    fn pin(&self, spec: &mut Spec) -> Result<Pinned, BootError> {
        agentkernel_images::pin(spec, false)
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        self.driver()?.provide(spec, provision)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        let origin = if first.pooled { Origin::Saved } else { Origin::Boot };
        let place = self.driver()?.boot(spec, Life::default(), origin)?;
        let process = self.process(spec, first.command, &|| place.image())?;
        start_first(&*place, process, &first.stdio)?;
        Ok(place)
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        // Who can be reached by its link alone, and keeps nothing, is there for a pool.
        let origin = match (&life.listener, &life.layers) {
            (None, None) => Origin::Shared,
            _ => Origin::Boot,
        };
        self.driver()?.boot(spec, life, origin)
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
        // A copy is to be of what a folder has now.
        spec.mounts.is_empty().then(|| spec.without_command())
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        let Some(bridge) = &remnant.process else { return Ok(Remains::default()) };
        agentkernel_far::end(bridge.as_fd(), END)
            .map(|()| Remains::default())
            .map_err(|source| DestroyError { what: "a micro-VM".into(), source })
    }

    fn copy_kept(&self, _from: &str, _to: &str) -> Result<(), BootError> {
        // All that is kept is in the layers' directory.
        Ok(())
    }

    fn sweep(&self) -> Vec<PathBuf> {
        self.driver.map(Driver::sweep).unwrap_or_default()
    }

    fn layers(&self, _spec: &Spec, directory: &Path) -> Vec<Layer> {
        // A disk, into which nobody looks from here. As a whole it can be copied.
        let upper = directory.join(KEPT);
        vec![Layer { target: "/".into(), lower: vec![], upper, covered: vec![], made: vec![] }]
    }

    fn carried(&self, spec: &Spec, image: &ImageFacts, directory: &Path) -> Option<Vec<Layer>> {
        let home = identity_of(&spec.user, image).map(|user| PathBuf::from(user.home));
        let mut covered: Vec<PathBuf> = COVERED.map(PathBuf::from).into();
        covered.extend(spec.mounts.iter().map(|mount| mount.target.clone()));
        let made: Vec<_> = covered.iter().cloned().chain(["/tmp".into()]).chain(home).collect();
        let root = Layer {
            target: "/".into(),
            lower: vec![],
            upper: directory.join(UPPER),
            covered: covered.clone(),
            made: made.clone(),
        };
        let upper = |number| directory.join(upper_of(number));
        let copies = Layer::of_copies(spec, &covered, &made, upper);
        Some([root].into_iter().chain(copies).collect())
    }

    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError> {
        owners(spec, image, agentkernel_sys::identity::effective())
    }
}
