//! What a hostile client says to an agent.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    agentkernel_fuzz::to_agent(input);
});
