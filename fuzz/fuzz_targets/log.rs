//! What a hostile agent writes to a log that engines read.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    agentkernel_fuzz::log(input);
});
