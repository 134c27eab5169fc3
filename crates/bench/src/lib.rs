//! Measures what a user waits for, next to what the user would otherwise use, and tells of it.
#![forbid(unsafe_code)]

pub mod compare;
mod process;
pub mod report;
pub mod result;
pub mod stats;
mod world;

pub use process::{Stopwatch, Timed};
pub use world::{Programs, World};
