//! The engine, for the backend.

use agentkernel_core::BootError;
use agentkernel_guest::Runner;
use agentkernel_wasm::Driver;

use crate::probe::notes;
use crate::{MachineError, RUNNER, accepts, compile, probe};

/// Compiles and runs what the backend is asked for.
pub struct Hyperlight;

/// The same, for a registry.
pub static HYPERLIGHT: Hyperlight = Hyperlight;

impl Driver for Hyperlight {
    fn runner(&self) -> &'static dyn Runner {
        RUNNER
    }

    fn compile(&self, module: &[u8]) -> Result<Vec<u8>, BootError> {
        Ok(compile(module)?)
    }

    fn accepts(&self, code: &[u8]) -> bool {
        accepts(code)
    }

    fn probe(&self) -> Result<Vec<String>, BootError> {
        probe()?;
        Ok(notes())
    }
}

impl From<&MachineError> for BootError {
    fn from(error: &MachineError) -> Self {
        Self::Unavailable { why: error.to_string(), fix: error.hint().into() }
    }
}
