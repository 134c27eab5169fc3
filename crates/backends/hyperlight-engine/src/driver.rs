//! The engine, for the backend.

use std::sync::OnceLock;

use agentkernel_core::BootError;
use agentkernel_guest::Runner;
use agentkernel_wasm::Driver;

use crate::{MachineError, RUNNER, accepts, compile, probe};

/// Compiles and runs what the backend is asked for.
pub struct Hyperlight;

/// The same, for a registry.
pub static DRIVER: Hyperlight = Hyperlight;

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

    /// Tried once, since neither the machine nor the guest changes.
    fn probe(&self) -> Result<(), BootError> {
        static TRIED: OnceLock<Result<(), MachineError>> = OnceLock::new();
        TRIED.get_or_init(probe).as_ref().map_err(|error| error.into()).copied()
    }
}

impl From<&MachineError> for BootError {
    fn from(error: &MachineError) -> Self {
        let fix = match error {
            MachineError::NoGuest(_) => {
                "build it with a stable toolchain of Rust's that has rust-lld"
            }
            _ => {
                "it takes /dev/kvm, which you may read and write, and a processor or a hypervisor below \
                 that runs guests with SSE; else use the wasm backend"
            }
        };
        Self::Unavailable { why: error.to_string(), fix: fix.into() }
    }
}
