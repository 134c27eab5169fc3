//! Whether micro-VMs can be had.

use std::sync::{Arc, OnceLock};

use agentkernel_hyperlight_guest::Request;
use agentkernel_sys::machine;
use agentkernel_sys::mapping::Mapping;
use agentkernel_wasm_engine::End;

use crate::compile;
use crate::guest::IS_PLAIN;
use crate::machine::{MachineError, Template};
use crate::streams::Own;

/// What a probe's module is: it asks the host for something, and ends with that.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (call $exit (i32.add (i32.const 42) (call $random (i32.const 0) (i32.const 16))))))"#;
const EXPECTED: u8 = 42;
const MEMORY: u64 = 1 << 20;

/// Boots a guest, loads a module and runs it: what says that it has a hypervisor may have one that can't do
/// this. It is done once in a process. The error says what is wrong, and what to do.
pub fn probe() -> Result<(), &'static MachineError> {
    static FOUND: OnceLock<Result<(), MachineError>> = OnceLock::new();
    FOUND.get_or_init(try_once).as_ref().copied()
}

fn try_once() -> Result<(), MachineError> {
    let code = compile(MODULE.as_bytes()).map_err(|why| MachineError::Code(why.to_string()))?;
    let code = Arc::new(
        Mapping::of_bytes(&code).map_err(|why| MachineError::Unavailable(why.to_string()))?,
    );
    let mut machine = Template::boot(MEMORY)?.machine()?;
    machine.load(&code, false)?;
    let ran = machine.run(&Request { memory: MEMORY, ..Request::default() }, Box::new(Own))?;
    match ran.end {
        End::Exited(EXPECTED) => Ok(()),
        end => Err(MachineError::Failed(format!("its first module has ended with {end:?}"))),
    }
}

/// What makes figures of micro-VMs here other than those of the product on hardware.
pub fn notes() -> Vec<String> {
    let mut notes = Vec::new();
    if machine::is_virtual() {
        notes.push(machine::NESTED.into());
    }
    if IS_PLAIN {
        notes.push(
            "the guest is the one for tests, built without SSE, which is never shipped".into(),
        );
    }
    notes
}
