//! Writes the page of made-up documents, for `scripts/lanes/page.sh` to look at:
//!
//!     cargo run -p agentkernel-bench --example page -- PAGE.html [RESULT.json...]
//!
//! With results, it is the page of those.

use std::error::Error;
use std::{env, fs};

use agentkernel_bench::report;

#[path = "../tests/documents/mod.rs"]
mod documents;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let page = arguments.next().ok_or("the path of the page to write is missing")?;
    let mut results = Vec::new();
    for path in arguments {
        results.push((path.clone(), serde_json::from_slice(&fs::read(&path)?)?));
    }
    if results.is_empty() {
        results = documents::all();
    }
    Ok(fs::write(page, report::html(&results))?)
}
