//! Measures what a user waits for, next to what the user would otherwise use, and tells of it.
#![forbid(unsafe_code)]

mod compare;
mod control;
mod crowd;
pub mod familiar;
mod lives;
mod machine;
mod measure;
mod plan;
mod process;
mod release;
pub mod report;
pub mod result;
mod run;
mod sections;
mod stats;
mod summary;
mod surroundings;
mod table;
mod tool;
mod turns;
mod world;

pub use lives::{Lives, Subject, lives};
pub use process::Stopwatch;
pub use run::{BenchError, read, run};
pub use surroundings::{Surroundings, Variables};
pub use tool::Tool;
pub use world::{Programs, World};

/// What is run wherever something is run, and all that it prints, which is checked each time.
pub const COMMAND: &[&str] = &["/bin/echo", "hello"];
pub const OUTPUT: &str = "hello\n";
