//! Many sandboxes at once: how many live through it, and how long each takes. See
//! docs/benchmarking.md.

use std::env;
use std::path::Path;

use agentkernel_bench::familiar::Asked;

#[test]
#[ignore = "it measures, which takes the whole machine: --ignored"]
fn stress() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let asked = Asked::stress(&|name| env::var_os(name), agentkernel::BACKENDS, source);
    if let Err(why) = asked.and_then(|asked| asked.measure()) {
        panic!("{why}");
    }
}
