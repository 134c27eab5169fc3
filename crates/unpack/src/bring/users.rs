//! An image's files that say who its users are.

use std::io::Read;
use std::path::PathBuf;

use super::BringError;
use crate::tree::Stacked;

/// How long such a file may be, in bytes.
const LONGEST: u64 = 1 << 20;

/// A file of an image whose layers are these trees, the lowest first; empty if it has none. Links
/// are followed within the image.
pub(super) fn read(trees: &[PathBuf], path: &'static str) -> Result<String, BringError> {
    let failed = |why: String| BringError::Users { path, why };
    let found = Stacked::open(trees).and_then(|trees| trees.open_file(path.as_bytes()));
    let Some(file) = found.map_err(|error| failed(error.to_string()))? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    match bytes.len() as u64 > LONGEST {
        true => Err(failed("it is longer than 1 MiB".into())),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}
