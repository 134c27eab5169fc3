//! A hostile image's layer, unpacked.
#![no_main]

#[path = "../src/layer.rs"]
mod layer;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // A folder in memory, if there is one.
    let shared = std::path::Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.into() } else { std::env::temp_dir() };
    let scratch = parent.join(format!("agentkernel-fuzz-{}", std::process::id()));
    std::fs::create_dir(&scratch).expect("a folder of its own");
    layer::layer(&scratch, input);
    std::fs::remove_dir_all(&scratch).expect("only what it made");
});
