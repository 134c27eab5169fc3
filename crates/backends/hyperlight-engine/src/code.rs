//! Code for the engine in a micro-VM.

use std::sync::OnceLock;

use agentkernel_wasm_engine::{Compiler, Kinds, ModuleError};

use crate::trusted;

/// Compiles a module, binary or text, after a look at whether it could be run. The code is for
/// [`RUNNER`](crate::RUNNER) and [`Pool`](crate::Pool), of this version on this machine.
pub fn compile(bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    compiler()?.compile(bytes)
}

/// Whether this is code that can be run here.
pub fn accepts(code: &[u8]) -> bool {
    compiler().is_ok_and(|compiler| compiler.accepts(code))
}

fn compiler() -> Result<&'static Compiler, ModuleError> {
    static OWN: OnceLock<Compiler> = OnceLock::new();
    Compiler::kept(&OWN, || {
        let config = trusted::config().map_err(|why| ModuleError::Engine(format!("{why:#}")))?;
        Compiler::new(&config, Kinds::Modules)
    })
}
