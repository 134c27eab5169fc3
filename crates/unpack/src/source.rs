//! Where the parts of an image come from.

use std::error::Error;
use std::fs::File;

use agentkernel_images::{Digest, Filling};

/// A part of an image, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its media type, such as `application/vnd.oci.image.layer.v1.tar+gzip`.
    pub kind: String,
    pub digest: Digest,
    /// In bytes, packed.
    pub size: u64,
}

/// Something that has an image. It may be asked from several threads at once.
pub trait Source: Sync {
    type Error: Error + Send + Sync + 'static;

    /// The manifest or the index with which the image begins, and its media type where the source
    /// says one. If it was asked for by a digest, that was made sure of.
    fn top(&self) -> Result<(Vec<u8>, Option<String>), Self::Error>;

    /// A manifest or a configuration. Its size was looked at; whoever asks makes sure of its digest.
    fn small(&self, part: &Part) -> Result<Vec<u8>, Self::Error>;

    /// A file that stands at a packed layer's start, with its digest made sure of; none if it
    /// `is_needless` by the time that it could be had. No more than the layer's size is read of it. It
    /// is told how many bytes more have come.
    fn layer(
        &self,
        filling: &Filling,
        part: &Part,
        is_needless: &dyn Fn() -> bool,
        came: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<File>, Self::Error>;
}
