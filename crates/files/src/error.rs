//! What can go wrong with a sandbox's files.

use std::io;
use std::path::{Path, PathBuf};

/// Why a sandbox's files could not be read or carried over. Paths in messages are quoted, since a
/// sandbox picks its own names.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("can't {doing} {path:?}: {source}")]
    Step { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("can't write the result: {0}")]
    Output(#[source] io::Error),
    #[error("{0:?} was moved while it was read")]
    Moved(PathBuf),
    /// The paths alone would take more than 256 MiB.
    #[error("more was changed below {0:?} than can be listed")]
    TooMuch(PathBuf),
    #[error("nothing was changed at {0:?}")]
    NothingAt(PathBuf),
    #[error("{0:?} is not a copy of a folder of the host")]
    NoHost(PathBuf),
}

/// Says what was being done when a system call failed.
pub(crate) trait While<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FilesError>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FilesError> {
        self.map_err(|error| FilesError::Step {
            doing,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
