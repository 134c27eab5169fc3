//! The one configuration that code is compiled and run with.

use wasmtime::Config;

/// What every engine here is made from. Code that was compiled in one process runs in another only
/// if both say the same, so whoever needs more adds only what code does not depend on.
///
/// - Loops can be interrupted (epochs), wherever the code is going to run.
/// - A memory is an address range of its full size, of which only what is used counts: an access
///   needs no check, and a fresh instance starts with the pages of the code's file.
/// - Nothing is made for a debugger or for unwinding by others.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_init_cow(true)
        .native_unwind_info(false)
        .concurrency_support(false);
    config
}
