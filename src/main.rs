//! The small program: its arguments in, its exit status out.
#![cfg_attr(target_os = "linux", no_main)]

use std::env;

#[cfg(target_os = "linux")]
agentkernel_sys::main!(run);

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    run().into()
}

fn run() -> u8 {
    agentkernel::run(env::args_os().skip(1), agentkernel::BACKENDS)
}
