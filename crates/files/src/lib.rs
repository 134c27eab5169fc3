//! A sandbox's files, seen from the host.
//!
//! All that lies in a sandbox was made by somebody hostile: nothing here follows a link out of it, opens what
//! blocks, or holds more descriptors or memory than a fixed number, however deep or wide a tree is.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod apply;
mod contents;
mod copy;
mod descent;
mod diff;
mod directory;
mod error;
mod export;
mod facts;
mod layer;
mod patch;
mod remove;
mod transfer;
mod walk;

pub use apply::{Applied, Baseline, NotApplied, Reason, Report, apply};
pub use copy::{Copied, CopyError, copy_tree};
pub use diff::changes;
pub use error::FilesError;
pub use export::{Ids, LeftOut, Owners, export};
pub use facts::FileKind;
pub use layer::{Change, ChangeKind, Layer, Lower};
pub use patch::patch;
pub use remove::remove_tree;
pub use transfer::{
    Agent, Errand, Inside, Located, Refusal, Refused, Streams, TransferError, TransferOptions,
    Transferred, Way, Where, copy_in, copy_out, fetch_layer, receive_folder, send_folder, serve,
    tar_in, tar_out,
};
