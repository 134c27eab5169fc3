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
    #[cfg(target_os = "linux")]
    if agentkernel_containers::is_agent() {
        if agentkernel_firecracker::machine::is_meant() {
            agentkernel_firecracker::machine::run();
        }
        return agentkernel_containers::serve();
    }
    let hands = agentkernel::Hands { backends: agentkernel::BACKENDS, porter: None };
    agentkernel::run(env::args_os().skip(1), hands)
}
