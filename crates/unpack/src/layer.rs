//! A packed layer becomes a tree.

use std::io::Read;
use std::path::{Path, PathBuf};

use agentkernel_images::Digest;

use crate::archive::Archive;
use crate::bounds::Bounds;
use crate::packed::read_unpacked;
use crate::{UnpackError, tree};

/// Unpacks a layer's archive, which may be packed itself, into the empty folder `root`, and writes
/// the list `entries` of what it has. `below` are the trees that it stands on, the topmost last. Says
/// what its files hold, in bytes.
///
/// The unpacked archive must have the digest `diff`. After an error, what is in the folder is of no use.
pub fn unpack_layer(
    packed: impl Read + Send,
    diff: &Digest,
    (root, entries): (&Path, &Path),
    below: &[PathBuf],
    bounds: &mut Bounds,
) -> Result<u64, UnpackError> {
    let mut left = bounds.bytes;
    let mut holes = bounds.clone();
    let unpacked = read_unpacked(packed, &mut left, |pieces| {
        tree::unpack(&mut Archive::new(pieces), root, entries, below, &mut holes)
    });
    let used = bounds.bytes - left;
    bounds.entries = holes.entries;
    // Both were counted from the same start.
    let (bytes, found) = unpacked?;
    bounds.bytes = holes.bytes.checked_sub(used).ok_or(UnpackError::TooManyBytes)?;
    match found == *diff {
        true => Ok(bytes),
        false => Err(UnpackError::Diff { expected: diff.clone(), found }),
    }
}
