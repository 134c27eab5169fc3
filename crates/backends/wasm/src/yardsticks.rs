//! What modules are run by otherwise.

use std::fs;
use std::io;
use std::path::Path;

use agentkernel_core::Yardstick;

/// The engine's own command line, which puts no other wall around a module. It keeps compiled code, too.
pub const YARDSTICKS: &[Yardstick] = &[Yardstick {
    name: "wasmtime",
    program: "wasmtime",
    version: &["--version"],
    prepare: hello,
    place: None,
    run: &["run", "-C", "cache=y", "{dir}/hello.wat"],
    life: None,
}];

/// The command is a module that prints what the measured command does.
fn hello(directory: &Path, _command: &[&str]) -> io::Result<()> {
    fs::write(directory.join("hello.wat"), include_str!("../../../../examples/wasm/hello.wat"))
}
