//! Apple's containers as a backend, by the `container` command line of macOS 26.
//!
//! Each container is alone in a small virtual machine with a Linux kernel. The agent is process 1 in
//! it: this program's file for Linux, in a folder that is shown inside read-only. Its link is one
//! `container exec` that is held open; from then on the tool is not needed until the place ends.
//!
//! Written by the documents and sources of apple/container 1.2.2 (with containerization 0.40.1), and
//! tested with a fake that refuses what those refuse. **It has not yet been run on macOS.**
//!
//! - [`tool`]: the program, run with a bound on its time and its words.
//! - [`words`]: what it answers.
//! - [`config`]: from a spec to a container.
//! - [`mounts`], [`ports`]: folders and ports of the host's.
//! - [`image`]: images, looked up and fetched.
//! - [`program`]: the agent's program.
//! - [`boot`]: a place, from all of these.
//! - [`probe`]: whether it can be had here.
//! - [`sweep`]: what killed makers have left.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod boot;
mod config;
mod image;
mod mounts;
mod ports;
mod probe;
mod program;
mod sweep;
mod tool;
mod words;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use agentkernel_containers::{owners, process_of};
use agentkernel_core::{
    About, Backend, BootError, Capabilities, Capability, Class, Command, DestroyError, ImageFacts,
    Launch, Life, Owners, Place, Probe, Process, Provision, Remains, Remnant, Spec, Yardstick,
};
use agentkernel_sys::descriptor::{self, Interest};
use agentkernel_sys::{process as processes, signal};

pub use boot::bridge;

/// What the tool has no option for, in a word.
const NO_PIDS: &str = "Apple's container command has no such option";

/// The backend. One that does not drive can only use what others have booted, and is a type of its own,
/// so that a small program has nothing of the rest.
pub struct Apple<const DRIVES: bool>;

/// For the small program's registry, and for the daemon's.
pub static APPLE: Apple<false> = Apple;
pub static APPLE_BACKEND: Apple<true> = Apple;

impl<const DRIVES: bool> Apple<DRIVES> {
    fn check_driver() -> Result<(), BootError> {
        match DRIVES {
            true => Ok(()),
            false => {
                let (why, fix) = undriven();
                Err(BootError::Unavailable { why, fix })
            }
        }
    }
}

fn undriven() -> (String, String) {
    let why = "Apple's containers are driven by agentkerneld, which is not installed";
    (why.into(), "install agentkerneld beside agentkernel".into())
}

impl<const DRIVES: bool> Backend for Apple<DRIVES> {
    fn name(&self) -> &'static str {
        "apple"
    }

    fn about(&self) -> About {
        About {
            class: Class::Vm,
            isolation: "a virtual machine for each sandbox, with a Linux kernel of its own, by \
                        Apple's container command; not yet run on macOS",
            choose: "For macOS 26 on Apple silicon, where there is no Linux kernel to share.",
        }
    }

    fn yardsticks(&self) -> &'static [Yardstick] {
        &[]
    }

    fn capabilities(&self) -> Capabilities {
        const ALL: &[Capability] = &[
            Capability::NetworkNone,
            Capability::NetworkFull,
            Capability::Ports,
            Capability::RootReadOnly,
            Capability::ImageReference,
            Capability::MountReadOnly,
            Capability::MountReadWrite,
            Capability::LimitCpus,
            Capability::LimitMemory,
            Capability::Terminal,
            Capability::User,
            Capability::Live,
        ];
        Capabilities::new(ALL)
    }

    fn can_boot(&self) -> bool {
        DRIVES
    }

    fn probe(&self) -> Probe {
        match DRIVES {
            true => probe::probe(),
            false => {
                let (why, fix) = undriven();
                Probe::Unavailable { why, fix }
            }
        }
    }

    fn provide(&self, spec: &Spec, provision: &Provision) -> Result<(), BootError> {
        Self::check_driver()?;
        image::provide(spec, provision)
    }

    fn boot(&self, spec: &Spec, first: Launch<'_>) -> Result<Box<dyn Place>, BootError> {
        Self::check_driver()?;
        boot::boot_for(spec, first)
    }

    fn boot_live(&self, spec: &Spec, life: Life) -> Result<Box<dyn Place>, BootError> {
        Self::check_driver()?;
        boot::boot(spec, life)
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
        Some(spec.without_command())
    }

    fn clear(&self, remnant: Remnant) -> Result<Remains, DestroyError> {
        let Some(host) = &remnant.process else { return Ok(Remains::default()) };
        // The container ends with its link, which that process holds.
        let _ = processes::signal_process(host.as_fd(), signal::SIGKILL);
        descriptor::poll(&mut [Interest::readable(host.as_fd())], None)
            .map_err(|source| DestroyError { what: "a container's link".into(), source })?;
        Ok(Remains::default())
    }

    fn forget(&self, name: &str, _layers: Option<&Path>) -> Result<(), DestroyError> {
        if !DRIVES {
            return Ok(());
        }
        let name = boot::kept(name);
        let left = |error: tool::ToolError| DestroyError {
            what: format!("the container {name}"),
            source: io::Error::other(error.to_string()),
        };
        match sweep::find(&name) {
            // Where the tool is not there any more, nor is what it has kept.
            Err(tool::ToolError::Absent) => Ok(()),
            Err(error) => Err(left(error)),
            Ok(None) => Ok(()),
            Ok(Some(found)) => sweep::remove(&found.id).map_err(left),
        }
    }

    fn sweep(&self) -> Vec<PathBuf> {
        if DRIVES { sweep::sweep() } else { Vec::new() }
    }

    fn owners(&self, spec: &Spec, image: &ImageFacts) -> Result<Owners, BootError> {
        owners(spec, image, agentkernel_sys::identity::effective())
    }
}
