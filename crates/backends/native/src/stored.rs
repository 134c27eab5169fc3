//! Images of the store, as the roots of places.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use agentkernel_core::{Image, Spec};
use agentkernel_images::open_for;

/// Directories that an overlay shows as one, the lowest first, each in the form of an upper one of
/// the others.
pub struct Trees<'a>(pub &'a [PathBuf]);

impl Trees<'_> {
    /// The mode that a directory of all of them together has; that of one which is made if it is not
    /// there, and none if it is something else.
    pub fn mode(&self, name: &str) -> Option<u32> {
        for tree in self.0.iter().rev() {
            let Ok(found) = tree.join(name).symlink_metadata() else { continue };
            let is_whiteout = found.file_type().is_char_device() && found.rdev() == 0;
            return match found.is_dir() {
                true => Some(found.mode() & 0o7777),
                false => is_whiteout.then_some(NEW),
            };
        }
        Some(NEW)
    }
}

/// The mode of directories that are made.
const NEW: u32 = 0o755;

/// The directories of a spec's image, the lowest first.
pub fn trees(spec: &Spec) -> Vec<PathBuf> {
    match &spec.image {
        Image::Rootfs(root) => vec![root.clone()],
        // One that is gone has no layers any more.
        Image::Reference(_) => {
            open_for(spec).ok().flatten().map_or(Vec::new(), |image| image.layers().into())
        }
        Image::Host | Image::Module(_) => Vec::new(),
    }
}
