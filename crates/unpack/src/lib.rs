//! From what an image is packed in to the store's layers.
//!
//! Where its parts come from is behind [`Source`]: a registry, a folder, an archive. What is done with
//! them is the same for all, and is here.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod archive;
mod bounds;
mod bring;
mod entries;
mod error;
mod import;
mod layer;
mod manifest;
mod packed;
mod platform;
mod source;
mod tree;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub use bounds::Bounds;
pub use bring::{BringError, bring};
pub use entries::{Bytes, Entry, Kind, read_entries};
pub use error::UnpackError;
pub use import::{ImportError, ImportSource, import, import_stream};
pub use layer::unpack_layer;
pub use platform::Platform;
pub use source::{Part, Source};

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}
