//! Runs WebAssembly in micro-VMs, by hyperlight: no module is nearer to the host than a virtual machine of
//! its own, in which there is nothing but an engine for it. Only agentkerneld links this.
//!
//! - [`compile`] makes code of a module for the engine that is in there, or says why it can't be run;
//! - [`RUNNER`] runs code as a command: in a micro-VM of the command's own process, behind a place's
//!   walls, with the process's streams;
//! - [`Pool`] has micro-VMs ready in this process, with a module loaded, and hands them out;
//! - [`probe`] says whether any of this can be had, by doing it once.
//!
//! WASI is preview 1 without files.
#![cfg(target_os = "linux")]
#![cfg(target_arch = "x86_64")]
#![deny(unsafe_code)]

mod clock;
mod code;
mod driver;
mod errno;
mod guest;
mod hypervisor;
mod machine;
pub mod measure;
mod pool;
mod probe;
mod runner;
mod streams;
mod trusted;

pub use code::{accepts, compile};
pub use driver::{HYPERLIGHT, Hyperlight};
pub use machine::MachineError;
pub use pool::{Lease, Pool};
pub use probe::probe;
pub use runner::RUNNER;
