//! Compiled code, taken as it is: the one place of this crate with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;

use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled, Result};

/// Code that can be linked.
pub(crate) enum Code {
    Module(Module),
    Component(Component),
}

/// Loads what [`compile`](crate::compile) has returned. Other versions of wasmtime and other processors
/// are found out; changed bytes are not.
pub(crate) fn load(engine: &Engine, code: &[u8]) -> Result<Code> {
    // SAFETY: whoever has it got it from `compile`, or from a file that agentkerneld has written into
    // its caller's own cache, and that was checked against its digest.
    unsafe {
        match Engine::detect_precompiled(code) {
            Some(Precompiled::Module) => Module::deserialize(engine, code).map(Code::Module),
            Some(Precompiled::Component) => {
                Component::deserialize(engine, code).map(Code::Component)
            }
            None => Err(wasmtime::format_err!("this is no compiled code")),
        }
    }
}

/// Loads a file of such code, of which only the pages that are needed are read. `head` is its beginning.
pub(crate) fn load_file(engine: &Engine, file: File, head: &[u8]) -> Result<Option<Code>> {
    match Engine::detect_precompiled(head) {
        // SAFETY: the descriptor is only ever of a file that agentkerneld has written into its caller's
        // own cache, under a name that nothing writes to again, and that was checked against its digest.
        Some(Precompiled::Module) => unsafe {
            Module::deserialize_open_file(engine, file).map(|module| Some(Code::Module(module)))
        },
        _ => Ok(None),
    }
}
