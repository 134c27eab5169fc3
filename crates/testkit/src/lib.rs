//! What every backend must do, as tests over the `agentkernel` program as its users meet it:
//! nothing here links the product, except for the names of its capabilities.
//!
//! A suite is a table of [`Behaviour`]s, run over [`Subject`]s: one for each backend and each
//! kind of caller. It looks at the host through `/proc`, so it is for Linux only.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod captured;
pub mod conformance;
mod draw;
pub mod escape;
mod far;
pub mod host;
mod lent;
mod route;
mod running;
mod scratch;
mod stored;
mod subject;
mod suite;
mod tally;
mod terminal;
mod verdict;

pub use captured::Captured;
pub use draw::Cover;
pub use route::Route;
pub use running::Running;
pub use scratch::Scratch;
pub use stored::Stored;
pub use subject::{Caller, LimitInForce, NO_FLAGS, Program, Subject};
pub use suite::{Behaviour, Commands, Matter, bad_names, bad_promises, run_suite};
pub use terminal::{Modes, TerminalSession};
pub use verdict::{NotPassed, Verdict, known_limit};
