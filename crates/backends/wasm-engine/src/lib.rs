//! Compiles WebAssembly and runs it, by wasmtime. Only agentkerneld links this.
//!
//! Three things are to be had here, and all code is the same for them ([`config`]):
//!
//! - [`compile`] makes code of a module or a component, or says why it can't be run;
//! - [`RUNNER`] runs code as a command: in a process of its own, behind a place's walls, with the
//!   process's streams, root and directory;
//! - [`Host`] runs code in this process, many calls at once, each in an instance of its own that has
//!   no files and no network, and only the memory and the time that it is given.
//!
//! WASI is preview 1 for modules and preview 2 for components. Sockets are a command's only, and only of
//! the network that its process is in.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod compile;
mod driver;
mod end;
mod engine;
mod host;
mod program;
mod runner;
mod streams;
mod ticker;
mod trusted;

pub use compile::{Compiler, Kinds, ModuleError, compile};
pub use driver::{WASMTIME, Wasmtime};
pub use end::{End, beyond};
pub use engine::config;
pub use host::{Call, Called, Host, HostError, Loaded, Output};
pub use runner::{RUNNER, texts};
pub use streams::{Input, Kept, Sink};
