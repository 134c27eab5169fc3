//! What is called of a module, with which words and how much memory: the same wherever wasmtime runs it,
//! in a process or, without the standard library, in a micro-VM.
#![cfg(target_os = "linux")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod budget;
mod config;
mod entry;
mod failure;
mod values;

pub use budget::Budget;
pub use config::micro_vm;
pub use entry::Entry;
pub use failure::Failure;
pub use values::lines;
