//! From what an image is packed in to the store's layers.
//!
//! Where its parts come from is behind [`Source`]: a registry, a folder, an archive. What is done with
//! them is the same for all, and is here.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod source;

pub use source::{Part, Source};
