//! A sandbox's files, seen from the host.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod apply;
mod content;
mod diff;
mod directory;
mod error;
mod export;
mod facts;
mod layer;
mod patch;
mod walk;

pub use apply::{Applied, Baseline, Reason, Refused, Report, apply};
pub use diff::changes;
pub use error::FilesError;
pub use export::{Ids, LeftOut, Owners, export};
pub use facts::FileKind;
pub use layer::{Change, ChangeKind, Layer};
pub use patch::patch;
