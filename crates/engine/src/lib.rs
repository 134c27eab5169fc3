//! All that is true of every backend: select one, boot a place, drive a command, end it.
#![forbid(unsafe_code)]

mod action;

pub use action::{Action, Engine, EngineError, Outcome, Phases, Probed, Reply, Run, Terminal};
