//! Pods of a Kubernetes cluster as a backend.
//!
//! A sandbox is a pod that passes the "restricted" pod security standard. Its process 1 is the agent,
//! this program's own file, which a container beside it has put there. Its link is one exec that is held
//! open, so a pod is a [far](agentkernel_containers::FarAbout) place: commands, terminals, files and
//! endings go over that stream, and nothing of a command goes through the cluster's API.
//!
//! Here is what takes no word with a cluster. What does is behind [`Driver`], so that a program
//! without its client can use the places of one that has it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_containers::{identity_of, owners, process_of, refuse_unnamed, start_first};
use agentkernel_core::{
    About, Adopt, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError,
    Elsewhere, ImageFacts, Launch, Life, Owners, Place, Probe, Process, Provision, Remains,
    Remnant, Shared, SharedPool, Spec, Yardstick, undriven,
};
use agentkernel_sys::identity;

/// How long what runs in a pod may take to end that is asked to.
const END: Duration = Duration::from_secs(20);

/// What takes a word with a cluster.
pub trait Driver: Sync {
    /// See [`Backend::yardsticks`]: nobody is measured who can't boot.
    fn yardsticks(&self) -> &'static [Yardstick];

    fn probe(&self) -> Probe;

    /// See [`Backend::provide`].
    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError>;

    /// Boots a place that lives as `life` says, in a pod of a shared pool if it may be `pooled`.
    fn boot(&self, spec: &Spec, life: Life, pooled: bool) -> Result<Box<dyn Place>, BootError>;

    /// See [`Backend::forget`].
    fn forget(&self, name: &str, layers: Option<&Path>) -> Result<(), DestroyError>;

    /// See [`Backend::adopt`].
    fn adopt(&self, order: Adopt<'_>) -> Result<Vec<Elsewhere>, BootError>;

    /// See [`Backend::share`].
    fn share(&self, order: Shared<'_>) -> Result<Vec<SharedPool>, BootError>;

    /// Removes what vanished makers have left.
    fn sweep(&self) -> Vec<PathBuf>;
}

/// The backend.
pub struct Kubernetes {
    driver: Option<&'static dyn Driver>,
}

/// One that can only use what others have booted.
pub static KUBERNETES: Kubernetes = Kubernetes { driver: None };

impl Kubernetes {
    pub const fn with_driver(driver: &'static dyn Driver) -> Self {
        Self { driver: Some(driver) }
    }

    fn driver(&self) -> Result<&'static dyn Driver, BootError> {
        self.driver.ok_or_else(|| {
            let (why, fix) = undriven("Kubernetes");
            BootError::Unavailable { why, fix }
        })
    }
}

impl Backend for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn about(&self) -> About {
        About {
            class: Class::Orchestrator,
            isolation: "a pod for each sandbox, on a node of a cluster, by the node's container \
                        runtime or the runtime class that is named",
            choose: "For more than one machine can hold: the cluster that a team has already finds \
                     the place.",
        }
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        self.driver.map(Driver::yardsticks).unwrap_or_default()
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::RootReadOnly,
            Capability::ImageReference,
            Capability::LimitCpus,
            Capability::LimitMemory,
            Capability::Terminal,
            Capability::User,
            Capability::Live,
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
                let (why, fix) = undriven("Kubernetes");
                Probe::Unavailable { why, fix }
            }
        }
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        self.driver()?.provide(spec, provision)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        refuse_unnamed(first.command)?;
        let place = self.driver()?.boot(spec, Life::default(), first.pooled)?;
        let process = self.process(spec, first.command, &|| place.image())?;
        start_first(&*place, process, &first.stdio)?;
        Ok(place)
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        self.driver()?.boot(spec, life, true)
    }

    fn process(
        &self,
        spec: &Spec,
        command: &Command,
        image: &dyn Fn() -> ImageFacts,
    ) -> Result<Process, BootError> {
        refuse_unnamed(command)?;
        let image = image();
        let own = identity_of(&spec.user, &image)?;
        let process = process_of(spec, command, &image)?;
        // The agent has no privileges, so it can't become anybody.
        match (process.uid, process.gid) == (own.uid, own.gid) {
            true => Ok(process),
            false => Err(BootError::Refused {
                why: format!(
                    "a command can't run as {}:{}: this pod is {}:{}, and nobody else can be in it",
                    process.uid, process.gid, own.uid, own.gid
                ),
                fix: "make the sandbox with --user UID:GID, and leave it out here".into(),
            }),
        }
    }

    fn pool_part(&self, spec: &Spec) -> Option<Spec> {
        Some(spec.without_command())
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        let Some(bridge) = &remnant.process else { return Ok(Remains::default()) };
        agentkernel_far::end(bridge.as_fd(), END)
            .map(|()| Remains::default())
            .map_err(|source| DestroyError { what: "a pod's link".into(), source })
    }

    fn forget(&self, name: &str, layers: Option<&Path>) -> Result<(), DestroyError> {
        match self.driver {
            Some(driver) => driver.forget(name, layers),
            None => Ok(()),
        }
    }

    fn adopt(&self, order: Adopt<'_>) -> Result<Vec<Elsewhere>, BootError> {
        self.driver()?.adopt(order)
    }

    fn share(&self, order: Shared<'_>) -> Result<Vec<SharedPool>, BootError> {
        self.driver()?.share(order)
    }

    fn sweep(&self) -> Vec<PathBuf> {
        self.driver.map(Driver::sweep).unwrap_or_default()
    }

    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError> {
        owners(spec, image, identity::effective())
    }
}
