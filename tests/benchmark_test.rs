//! How long each step of a sandbox's life takes. See docs/benchmarking.md.

use std::env;
use std::path::Path;

use agentkernel_bench::familiar::Asked;

#[test]
#[ignore = "it measures, which takes the whole machine: --ignored"]
fn benchmark() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let asked = Asked::benchmark(&|name| env::var_os(name), agentkernel::BACKENDS, source);
    if let Err(why) = asked.and_then(|asked| asked.measure()) {
        panic!("{why}");
    }
}
