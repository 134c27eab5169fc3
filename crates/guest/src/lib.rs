//! The agent: process 1 of every place. It starts commands, awaits every process of the place,
//! and tells the engine over the link what became of them.
//!
//! It is synchronous and never allocates: all that it needs is prepared before the process splits
//! that becomes it. It knows nothing of how its place was made.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod agent;
mod command;

pub use agent::{Agent, Forked};
pub use command::{Prepared, Privileges, ResourceLimit, Streams};
