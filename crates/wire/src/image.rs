//! Images of the store, as programs read them.

use serde::Serialize;

use crate::report::VERSION;

/// The images that there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImagesReport {
    pub version: u32,
    /// The newest first.
    pub images: Vec<ImageEntry>,
}

impl From<Vec<ImageEntry>> for ImagesReport {
    fn from(images: Vec<ImageEntry>) -> Self {
        Self { version: VERSION, images }
    }
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageEntry {
    /// In full, with registry and tag.
    pub names: Vec<String>,
    /// The digest of its manifest.
    pub digest: String,
    /// That of its configuration, which Docker shows as its id.
    pub id: String,
    pub platform: String,
    /// Whether it is a WebAssembly module.
    pub module: bool,
    /// When it was made, as it says itself.
    pub created: Option<String>,
    /// When it came into the store.
    pub kept: String,
    /// What its files hold.
    pub bytes: u64,
    /// What would be free without it: what of that no other image has.
    pub own_bytes: u64,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    pub directory: Option<String>,
    pub user: Option<String>,
    /// The digests of its layers' archives, unpacked; the lowest first.
    pub layers: Vec<String>,
}
