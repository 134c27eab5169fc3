//! All that is true of every backend: select one, boot a place, drive a command, end it.
#![forbid(unsafe_code)]

mod action;
mod command;
mod demand;
mod diary;
mod engine;
mod journal;
mod lease;
mod lines;
mod live;
mod relay;
mod streams;

pub use agentkernel_files as files;

pub use action::{Broken, EngineError, Outcome, Phases, Probed, Route, Run, Terminal};
pub use demand::demand_pool;
pub use engine::Engine;
pub use journal::Journal;
pub use lease::{ask, pool_key};
pub use lines::Lines;
pub use live::{
    Adoptable, Attached, Background, BackgroundState, Client, Dial, DialError, Entry, Exec,
    Leftover, NewSandbox, Pruned, REBOOTED, Reading, Sandboxes, Since,
};
