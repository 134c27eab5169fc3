//! What nobody can check: the one place of this crate with unsafe code.
#![allow(unsafe_code)]

use agentkernel_hyperlight_guest::CODE;
use agentkernel_sys::mapping::Mapping;
use agentkernel_wasm_calls::micro_vm;
use hyperlight_host::mem::memory_region::{MemoryRegion, MemoryRegionFlags, MemoryRegionType};
use hyperlight_host::{Result, Sandbox};
use wasmtime::Config;

use crate::guest;

/// What code for the guest is compiled with.
pub(crate) fn config() -> wasmtime::Result<Config> {
    let mut config = Config::new();
    micro_vm(&mut config)?;
    // The guest's engine is without what it would take for these.
    config.wasm_component_model(false);
    if guest::IS_PLAIN {
        return Ok(config);
    }
    // What comes after these needs an operating system to save more registers than the guest does.
    for (flag, is_there) in [
        ("has_sse3", is_x86_feature_detected!("sse3")),
        ("has_ssse3", is_x86_feature_detected!("ssse3")),
        ("has_sse41", is_x86_feature_detected!("sse4.1")),
        ("has_sse42", is_x86_feature_detected!("sse4.2")),
        ("has_popcnt", is_x86_feature_detected!("popcnt")),
    ] {
        if is_there {
            // SAFETY: the processor that is compiled for is this one, and it has the feature.
            unsafe { config.cranelift_flag_enable(flag) };
        }
    }
    Ok(config)
}

/// Shows `code` to the guest in its physical memory, read-only. It must live for as long as the sandbox, or
/// until that is restored.
pub(crate) fn show(sandbox: &mut Sandbox, code: &Mapping) -> Result<()> {
    const PAGE: usize = 4096;
    let length = code.length().next_multiple_of(PAGE);
    let region = MemoryRegion {
        guest_region: CODE as usize..CODE as usize + length,
        host_region: code.address()..code.address() + length,
        flags: MemoryRegionFlags::READ | MemoryRegionFlags::EXECUTE,
        region_type: MemoryRegionType::MappedFile,
    };
    // SAFETY: both callers keep the mapping for long enough. Its file is one that nothing writes to again,
    // as for every engine that runs code of it.
    unsafe { sandbox.map_region(&region) }
}
