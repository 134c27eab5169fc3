//! The engine, for the backend.

use agentkernel_core::BootError;
use agentkernel_guest::Runner;
use agentkernel_wasm::Driver;

use crate::compile;
use crate::runner::{self, RUNNER};

/// Compiles and runs what the backend is asked for.
pub struct Wasmtime;

/// The same, for a registry.
pub static WASMTIME: Wasmtime = Wasmtime;

impl Driver for Wasmtime {
    fn runner(&self) -> &'static dyn Runner {
        RUNNER
    }

    fn compile(&self, module: &[u8]) -> Result<Vec<u8>, BootError> {
        Ok(compile(module)?)
    }

    fn accepts(&self, code: &[u8]) -> bool {
        runner::accepts(code)
    }
}
