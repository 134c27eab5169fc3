//! The small program: its arguments in, its exit status out.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    agentkernel::run(env::args_os().skip(1), agentkernel::BACKENDS).into()
}
