//! Measures what a user waits for, next to what the user would otherwise use, and tells of it.
#![forbid(unsafe_code)]

pub mod familiar;
mod lives;
pub mod machine;
mod process;
mod release;
pub mod result;
mod summary;
mod tool;
mod world;

pub use lives::{Lives, Subject, lives};
pub use process::{Stopwatch, Timed};
pub use tool::{Step, Tool};
pub use world::{Programs, World};

/// What is run wherever something is run, and all that it prints, which is checked each time.
pub const COMMAND: &[&str] = &["/bin/echo", "hello"];
pub const OUTPUT: &str = "hello\n";
