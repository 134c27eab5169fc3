//! What the code of a micro-VM is compiled for, and run with.

use wasmtime::Config;

/// A memory's range of addresses: all that a module can reach with 32 bits. It is nothing but addresses.
const RESERVED: u64 = 4 << 30;
/// What a module's calls may take of the guest's stack, in bytes.
const STACK: usize = 512 << 10;

/// Tells both who compiles code for a micro-VM and the guest that runs it: code is only run where the same
/// was said.
///
/// - There is no operating system that would tell of a fault: code checks by itself what it accesses.
/// - Memories never move, and begin as nothing: pages are made when they are touched.
/// - Loops need no look at a clock, since the whole processor is interrupted.
pub fn micro_vm(config: &mut Config) -> wasmtime::Result<()> {
    config
        .target("x86_64-unknown-linux-gnu")?
        .signals_based_traps(false)
        .memory_reservation(RESERVED)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .memory_init_cow(false)
        .epoch_interruption(false)
        .native_unwind_info(false)
        .max_wasm_stack(STACK)
        .concurrency_support(false);
    Ok(())
}
