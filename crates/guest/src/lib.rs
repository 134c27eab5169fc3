//! The agent: process 1 of every place. It starts commands, awaits every process of the place,
//! and tells the engine over the link what became of them.
//!
//! It is synchronous. The agent of a single command never allocates: all that it needs is prepared
//! before the process splits that becomes it. It knows nothing of how its place was made.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod agent;
mod command;
mod live;
mod module;
mod nearest;

pub use agent::{Agent, Forked};
pub use command::{Filters, Prepared, ResourceLimit, Rules, Streams, open_pipes};
pub use live::{Attach, Beside, Carrier, LiveAgent, ReadyAgent, Term};
pub use module::{Module, Modules, Runner};
pub use nearest::Nearest;
