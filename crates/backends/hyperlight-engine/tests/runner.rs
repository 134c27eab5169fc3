//! Modules as commands, in micro-VMs.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../../wasm-engine/tests/commands/mod.rs"]
mod commands;

use agentkernel_hyperlight_engine::{RUNNER, compile, probe};
use commands::{Needs, Subject};

fn main() {
    let has: &[Needs] = if cfg!(feature = "plain-guest") { &[] } else { &[Needs::Floats] };
    let subject = Subject { runner: RUNNER, compile, has };
    commands::main(subject, || probe().err().map(|why| why.to_string()));
}
