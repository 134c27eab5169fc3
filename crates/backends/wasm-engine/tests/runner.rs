//! Modules as commands, in the command's own process.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod commands;

use agentkernel_wasm_engine::{RUNNER, compile};
use commands::{Needs, Subject};

fn main() {
    let has = &[Needs::Components, Needs::Files, Needs::Floats];
    commands::main(Subject { runner: RUNNER, compile, has }, || None);
}
