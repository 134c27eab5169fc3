//! WebAssembly modules as commands, but for the engine that compiles and runs them.
//!
//! A place is one of Linux namespaces, as for programs, with a root that has none. A command's process
//! runs the module in itself: so there are two walls around it, and all that holds for programs (limits,
//! mounts, terminals, signals, pools) holds for modules.
//!
//! The code of a module is compiled once and kept ([`cache`]). Whoever starts a command hands the code
//! over as a descriptor, so that a program without an engine can start what another has compiled. What
//! takes an engine is behind [`Driver`].
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod cache;
mod micro_vm;
mod yardsticks;

use std::os::fd::OwnedFd;
use std::path::Path;

use agentkernel_core::{About, BootError, Capabilities, Capability, Class};
use agentkernel_guest::Runner;
use agentkernel_images::Porter;
use agentkernel_native::{Kind, Modules, Native};

pub use micro_vm::{HYPERLIGHT, HYPERLIGHT_CODE, PLAIN_CODE};

/// An engine.
pub trait Driver: Sync {
    fn runner(&self) -> &'static dyn Runner;

    /// The code of a module, in text or binary form, or why it can't be run.
    fn compile(&self, module: &[u8]) -> Result<Vec<u8>, BootError>;

    /// Whether it can run this code, which it may have compiled long ago.
    fn accepts(&self, code: &[u8]) -> bool;

    /// Whether it can run anything on this machine, found out by doing so, with what is to be noted of
    /// that.
    fn probe(&self) -> Result<Vec<String>, BootError> {
        Ok(Vec::new())
    }
}

/// The backend for a program without an engine.
pub static WASM: Native = Native::for_modules(&KIND, &Code { form: WASM_CODE, driver: None }, None);

/// The code of modules for [`WASM`].
pub const WASM_CODE: Form = Form { folder: "wasm", is: "wasmtime 48.0.8, 1" };

static KIND: Kind = Kind {
    name: "wasm",
    about: About {
        class: Class::Wasm,
        isolation: "WebAssembly by wasmtime, in a process behind Linux namespaces, seccomp, Landlock \
                    and control groups; one kernel",
        choose: "For modules: what they can do is what they were given, and a hole in the engine leads \
                 into a sandbox.",
    },
    yardsticks: yardsticks::YARDSTICKS,
    capabilities: Capabilities::new(&[
        Capability::NetworkNone,
        Capability::NetworkFull,
        Capability::HostLoopback,
        Capability::RootReadOnly,
        Capability::ImageModule,
        Capability::ImageComponent,
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

/// A form of compiled code.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// In the cache.
    folder: &'static str,
    /// The engine's version, and a number that is another one whenever how the engine is told to compile
    /// has changed.
    pub is: &'static str,
}

/// Where code comes from.
pub struct Code {
    form: Form,
    driver: Option<&'static dyn Driver>,
}

impl Code {
    /// By an engine for [`WASM`].
    pub const fn for_wasm(driver: &'static dyn Driver) -> Self {
        Self { form: WASM_CODE, driver: Some(driver) }
    }

    /// [`WASM`] for a program that has an engine, and brings modules in.
    pub const fn wasm(&'static self, porter: &'static dyn Porter) -> Native {
        Native::for_modules(&KIND, self, Some(porter))
    }

    /// By an engine for [`HYPERLIGHT`], and of the form that its guest takes.
    pub const fn for_hyperlight(form: Form, driver: &'static dyn Driver) -> Self {
        Self { form, driver: Some(driver) }
    }

    /// [`HYPERLIGHT`] for the same.
    pub const fn hyperlight(&'static self, porter: &'static dyn Porter) -> Native {
        Native::for_modules(&micro_vm::KIND, self, Some(porter))
    }
}

impl Modules for Code {
    fn runner(&self) -> Option<&'static dyn Runner> {
        self.driver.map(Driver::runner)
    }

    fn code(&self, module: &Path) -> Result<OwnedFd, BootError> {
        cache::code(module, self.form, self.driver)
    }

    fn probe(&self) -> Result<Vec<String>, BootError> {
        self.driver.map_or(Ok(Vec::new()), Driver::probe)
    }
}
