//! The guest of a micro-VM: it runs one WebAssembly module, by code that was compiled for it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod machine;
mod run;
mod wasi;
