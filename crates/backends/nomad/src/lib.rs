//! Nomad's allocations as a backend.
//!
//! Each sandbox is a batch job of one task, which Nomad places where it likes. The agent is the task's
//! process 1, and into it leads one stream, an exec that is held open: so an allocation is a
//! [far](agentkernel_far) place.
//!
//! Here is what takes no word with Nomad. What does is behind [`Driver`], so that a program without it
//! can use the places of one that has it.
//!
//! [agentkernel_far]: https://docs.rs/agentkernel_far
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentkernel_containers::{owners, process_of, refuse_unnamed, start_first};
use agentkernel_core::{
    About, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError, ImageFacts,
    Launch, Life, Owners, Place, Probe, Process, Provision, Pull, Remains, Remnant, Spec,
    Yardstick, undriven,
};

/// What takes a word with Nomad.
pub trait Driver: Sync {
    /// See [`Backend::yardsticks`]: nobody is measured who can't boot.
    fn yardsticks(&self) -> &'static [Yardstick];

    fn probe(&self) -> Probe;

    /// Boots a place that lives as `life` says.
    fn boot(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError>;

    /// Removes what is kept under this name, if there is anything.
    fn forget(&self, name: &str) -> Result<(), DestroyError>;

    /// Removes what killed makers have left.
    fn sweep(&self) -> Vec<PathBuf>;
}

/// The backend.
pub struct Nomad {
    driver: Option<&'static dyn Driver>,
}

/// One that can only use what others have booted.
pub static NOMAD: Nomad = Nomad { driver: None };

impl Nomad {
    pub const fn with_driver(driver: &'static dyn Driver) -> Self {
        Self { driver: Some(driver) }
    }

    fn driver(&self) -> Result<&'static dyn Driver, BootError> {
        self.driver.ok_or_else(|| {
            let (why, fix) = undriven("Nomad");
            BootError::Unavailable { why, fix }
        })
    }
}

/// How long an allocation may take to end, and its job to be removed.
const END: Duration = Duration::from_secs(30);

impl Backend for Nomad {
    fn name(&self) -> &'static str {
        "nomad"
    }

    fn about(&self) -> About {
        About {
            class: Class::Orchestrator,
            isolation: "containers that Nomad places on a cluster: namespaces, control groups, and \
                        our system call filter; one kernel for each node",
            choose: "For more than one machine can hold, on a Nomad cluster that is there already.",
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
            Capability::LimitPids,
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
                let (why, fix) = undriven("Nomad");
                Probe::Unavailable { why, fix }
            }
        }
    }

    fn provide(&self, _spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        match provision.pull {
            Pull::Missing => Ok(()),
            Pull::Always | Pull::Never => Err(BootError::Refused {
                why: "which images there are is up to each node of Nomad's, so that --pull can be \
                      missing alone"
                    .into(),
                fix: "leave out --pull; an image named latest is looked up each time".into(),
            }),
        }
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        refuse_unnamed(first.command)?;
        let place = self.driver()?.boot(spec, Life::default())?;
        let process = self.process(spec, first.command, &|| place.image())?;
        start_first(&*place, process, &first.stdio)?;
        Ok(place)
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        self.driver()?.boot(spec, life)
    }

    fn process(
        &self,
        spec: &Spec,
        command: &Command,
        image: &dyn Fn() -> ImageFacts,
    ) -> Result<Process, BootError> {
        refuse_unnamed(command)?;
        process_of(spec, command, &image())
    }

    fn pool_part(&self, spec: &Spec) -> Option<Spec> {
        Some(spec.without_command())
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        let Some(bridge) = &remnant.process else { return Ok(Remains::default()) };
        agentkernel_far::end(bridge.as_fd(), END)
            .map(|()| Remains::default())
            .map_err(|source| DestroyError { what: "a Nomad allocation".into(), source })
    }

    fn forget(&self, name: &str, _layers: Option<&Path>) -> Result<(), DestroyError> {
        self.driver.map_or(Ok(()), |driver| driver.forget(name))
    }

    fn sweep(&self) -> Vec<PathBuf> {
        self.driver.map(Driver::sweep).unwrap_or_default()
    }

    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError> {
        owners(spec, image, agentkernel_sys::identity::effective())
    }
}
