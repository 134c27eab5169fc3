//! What a hostile agent says to an engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    agentkernel_fuzz::from_agent(input);
});
