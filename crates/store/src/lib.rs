//! What outlives a process: the records of sandboxes, the audit log, and where they lie.
//!
//! Nothing here happens by itself: paths are computed without looking, a [`Store`] is opened when
//! somebody opens it, and the audit log's file is touched when an entry is appended.
#![forbid(unsafe_code)]

pub mod audit;
mod dirs;
mod name;
mod process;
mod record;
mod store;
pub mod time;

pub use dirs::{Dirs, DirsError};
pub use name::{Id, Name, NameError};
pub use process::ProcessRef;
pub use record::{NewRecord, Pool, Record, Snapshot, State};
pub use store::{SandboxLock, Store, StoreError, Thing};
