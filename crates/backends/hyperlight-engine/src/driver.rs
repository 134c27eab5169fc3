//! The engine, for the backend.

use agentkernel_core::BootError;
use agentkernel_guest::Runner;
use agentkernel_wasm::Driver;

use crate::{RUNNER, accepts, compile};

/// Compiles and runs what the backend is asked for.
pub struct Hyperlight;

/// The same, for a registry.
pub static HYPERLIGHT: Hyperlight = Hyperlight;

impl Driver for Hyperlight {
    fn runner(&self) -> &'static dyn Runner {
        RUNNER
    }

    fn compile(&self, module: &[u8]) -> Result<Vec<u8>, BootError> {
        compile(module).map_err(|error| BootError::Refused {
            fix: error.hint().into(),
            why: error.to_string(),
        })
    }

    fn accepts(&self, code: &[u8]) -> bool {
        accepts(code)
    }
}
