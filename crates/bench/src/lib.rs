//! Measures what a user waits for, next to what the user would otherwise use, and tells of it.
#![forbid(unsafe_code)]

mod process;
pub mod result;
mod world;

pub use process::{Stopwatch, Timed};
pub use world::{Programs, World};
