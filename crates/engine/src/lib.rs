//! All that is true of every backend: select one, boot a place, drive a command, end it.
#![forbid(unsafe_code)]

mod action;
mod command;
mod demand;
mod engine;
mod relay;
mod streams;

pub use action::{Broken, EngineError, Outcome, Phases, Probed, Run, Terminal};
pub use engine::Engine;
